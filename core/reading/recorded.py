"""What other programs have written into an image of how they made it: prompt and seed.

AUTOMATIC1111's web UI and its relatives write one text, ``parameters`` (in a JPEG or WebP the
EXIF comment); ComfyUI writes the graph as JSON under ``prompt``. Both are other people's data: no
more is taken than the texts and the seed, and whatever is malformed gives nothing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..json_text import parse
from .opening import decoding_errors

PARAMETERS_KEY = "character_curator"
"""The PNG text chunk in which a generated image describes itself (JSON)."""

A1111, COMFYUI = "A1111", "ComfyUI"

_SETTINGS = re.compile(r"^Steps: \d+, .*$", re.M)
_SEED = re.compile(r"(?:^|, )Seed: (\d{1,40})(?!\d)")
_NEGATIVE = "Negative prompt:"
_NETWORK = re.compile(r"<(?:lora|lyco|hypernet)[^<>]*>", re.I)
_WEIGHT = re.compile(r"(?<!\\)[(\[]([^()\[\]]*?)(?::\s*-?[\d.]+)?(?<!\\)[)\]]")
_EXIF_IFD, _USER_COMMENT = 0x8769, 0x9286
_LARGEST = 2**63 - 1
_DEPTH = 40
"""So many brackets within each other are taken away."""
_MOST = 400
"""So many nodes are asked for a text or a number, one behind the other."""


@dataclass(frozen=True)
class Recorded:
    """How an image was made, as far as its file says.

    Attributes:
        program: Whose form it is in.
        prompt: What was asked for; empty if that is not said.
        negative_prompt: What was not to be seen.
        seed: ``None`` if it is not said.
    """

    program: str
    prompt: str = ""
    negative_prompt: str = ""
    seed: int | None = None

    @property
    def caption(self) -> str:
        """The prompt as words alone: without weights, brackets and names of networks."""
        return without_syntax(self.prompt)


def recorded(info: Mapping[str, Any], exif: Any = None) -> Recorded | None:
    """Read what an opened image says of how it was made.

    Args:
        info: Pillow's ``image.info``.
        exif: Pillow's ``image.getexif()``.
    """
    parameters = info.get("parameters")
    if isinstance(parameters, str) and parameters.strip():
        return of_parameters(parameters)
    graph = info.get("prompt")
    if isinstance(graph, str):
        found = of_graph(graph)
        if found is not None:
            return found
    comment = _user_comment(exif)
    return of_parameters(comment) if comment and _SETTINGS.search(comment) else None


def of_parameters(text: str) -> Recorded:
    """Read AUTOMATIC1111's text: prompt, negative prompt, then a line of settings."""
    lines = list(_SETTINGS.finditer(text))
    settings = lines[-1] if lines else None  # a prompt may have such a line of its own
    body = text[: settings.start()] if settings else text
    seed = _SEED.search(settings.group()) if settings else None
    prompt, _, negative = body.partition(_NEGATIVE)
    number = int(seed[1]) if seed else None
    return Recorded(A1111, prompt.strip(), negative.strip(), _kept(number))


def of_graph(text: str) -> Recorded | None:
    """Read ComfyUI's graph: the first sampler's seed, and the texts that its conditions are of."""
    try:
        graph = parse(text)
    except ValueError:
        return None
    if not isinstance(graph, dict):
        return None
    nodes = {str(key): node for key, node in graph.items() if isinstance(node, dict)}
    for key in sorted(nodes, key=lambda key: (len(key), key)):
        inputs = _inputs(nodes, key)
        if "positive" not in inputs and "guider" not in inputs:
            continue
        given = inputs.get("seed", inputs.get("noise_seed", inputs.get("noise")))
        seed = _number(nodes, given, set())
        source = inputs.get("positive", inputs.get("guider"))
        prompt = _text(nodes, source, "positive", set())
        negative = _text(nodes, inputs.get("negative"), "negative", set())
        if prompt or seed is not None:
            return Recorded(COMFYUI, prompt, negative, _kept(seed))
    return None


def without_syntax(prompt: str) -> str:
    """Return a prompt as words: no ``(weights:1.2)``, ``<lora:name:1>`` or ``BREAK``."""
    text = _NETWORK.sub("", prompt)
    for _ in range(_DEPTH):
        before, text = text, _WEIGHT.sub(r"\1", text)
        if before == text:
            break
    text = re.sub(r"\bBREAK\b", ",", text).replace("\\(", "(").replace("\\)", ")")
    parts = [" ".join(part.split()) for part in text.replace("\n", ",").split(",")]
    return ", ".join(part for part in parts if part)


def _kept(seed: int | None) -> int | None:
    # A column of whole numbers holds 63 bits; a larger seed is not cut to another one.
    return seed if seed is not None and 0 <= seed <= _LARGEST else None


def _inputs(nodes: Mapping[str, Any], key: str) -> dict[str, Any]:
    inputs = nodes.get(key, {}).get("inputs")
    return inputs if isinstance(inputs, dict) else {}


def _link(value: Any) -> str | None:
    is_link = isinstance(value, list) and len(value) == 2 and isinstance(value[1], int)
    return str(value[0]) if is_link else None


def _number(nodes: Mapping[str, Any], value: Any, seen: set[str]) -> int | None:
    """Return a whole number that is given, or that a linked node holds."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    key = _link(value)
    if key is None or key in seen or len(seen) > _MOST:
        return None
    seen.add(key)
    inputs = _inputs(nodes, key)
    for name in ("seed", "noise_seed", "value", "int"):
        found = _number(nodes, inputs.get(name), seen)
        if found is not None:
            return found
    return None


def _text(nodes: Mapping[str, Any], value: Any, side: str, seen: set[str]) -> str:
    """Return the text that a condition comes from, following links upwards.

    Args:
        nodes: Of the graph.
        value: A text, or a link to a node.
        side: Of which input it is: ``positive`` or ``negative``.
        seen: Nodes that have been asked: each is asked once, however many ways lead to it.
    """
    if isinstance(value, str):
        return value.strip()
    key = _link(value)
    if key is None or key in seen or len(seen) > _MOST:
        return ""
    seen.add(key)
    inputs = _inputs(nodes, key)
    names = ["text", "text_g", "t5xxl", "clip_l", "prompt", "string", "value", side, "conditioning",
             "conditioning_1", "conditioning_to", "conditioning1", "guider"]  # fmt: skip
    for name in names:
        found = _text(nodes, inputs.get(name), side, seen)
        if found:
            return found
    return ""


def _user_comment(exif: Any) -> str:
    """Return the EXIF comment, which begins with eight bytes that name its encoding."""
    if not exif:
        return ""
    try:
        value = exif.get_ifd(_EXIF_IFD).get(_USER_COMMENT, b"")
    except decoding_errors():
        return ""
    if isinstance(value, str):
        return value
    kind, body = bytes(value[:8]), bytes(value[8:])
    if kind.startswith(b"UNICODE"):
        codec = "utf-16-le" if body[1:2] == b"\0" else "utf-16-be"
        return body.decode(codec, "replace").strip("\0 ")
    return body.decode("utf-8", "replace").strip("\0 ")
