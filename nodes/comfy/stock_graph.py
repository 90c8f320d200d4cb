"""The graph of one image: stock nodes and the loaders in front of them, in both of its forms.

Dropped onto ComfyUI's canvas, a generated PNG opens this graph; queued, it makes the image again.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from .identity import Prompt, is_link

Link = list[Any]
Definition = Callable[[str], tuple[Mapping[str, Any], list[str], list[str]]]
"""Returns a node class's INPUT_TYPES, output types and output names."""

_WIDGETS = ("INT", "FLOAT", "STRING", "BOOLEAN", "COMBO")


@dataclass(frozen=True)
class Wires:
    """Where the models of an image come from, as links of the queued graph.

    ``clip``, ``positive`` and ``negative`` are None where something else takes their part.
    """

    model: Link
    vae: Link
    clip: Link | None
    positive: Link | None
    negative: Link | None


@dataclass(frozen=True)
class Sampling:
    """The widgets of a KSampler, and the size of the image."""

    sampler: str
    scheduler: str
    steps: int
    cfg: float
    width: int
    height: int


def image_graph(
    prompt: Prompt,
    wires: Wires,
    sampling: Sampling,
    *,
    noise_seed: int,
    positive: str,
    negative: str,
    name: str,
) -> dict[str, Any]:
    """Return the API graph that makes one image.

    Args:
        prompt: The graph that was queued; what leads to ``wires`` is copied from it.
        wires: Where the models come from.
        sampling: How the image was sampled.
        noise_seed: Its noise seed.
        positive: Its prompt, unless a conditioning is wired.
        negative: Its negative prompt, unless a conditioning is wired.
        name: What SaveImage calls it.
    """
    links = [wires.model, wires.vae, wires.clip, wires.positive, wires.negative]
    order: list[str] = []
    for link in links:
        if link is not None:
            _collect(prompt, link[0], order)
    numbers = {old: str(new) for new, old in enumerate(order, 1)}

    def moved(value: Any) -> Any:
        return [numbers[value[0]], value[1]] if is_link(value) else value

    graph: dict[str, Any] = {}
    for old in order:
        node = prompt[old]
        inputs = {key: moved(value) for key, value in node["inputs"].items()}
        graph[numbers[old]] = {"class_type": node["class_type"], "inputs": inputs}

    def add(class_type: str, **inputs: Any) -> Link:
        number = str(len(graph) + 1)
        graph[number] = {"class_type": class_type, "inputs": inputs}
        return [number, 0]

    def text(given: Link | None, words: str) -> Link:
        if given is not None:
            return moved(given)
        return add("CLIPTextEncode", text=words, clip=moved(wires.clip))

    ends = text(wires.positive, positive), text(wires.negative, negative)
    empty = add("EmptyLatentImage", width=sampling.width, height=sampling.height, batch_size=1)
    latent = add(
        "KSampler",
        model=moved(wires.model), seed=noise_seed, steps=sampling.steps, cfg=sampling.cfg,
        sampler_name=sampling.sampler, scheduler=sampling.scheduler,
        positive=ends[0], negative=ends[1], latent_image=empty, denoise=1.0,
    )  # fmt: skip
    pixels = add("VAEDecode", samples=latent, vae=moved(wires.vae))
    add("SaveImage", images=pixels, filename_prefix=name)
    return graph


def canvas_graph(graph: Prompt, definition: Definition) -> dict[str, Any]:
    """Return an API graph in the form of the canvas, laid out from left to right."""
    columns: dict[int, int] = {}
    depths: dict[str, int] = {}
    nodes: list[dict[str, Any]] = []
    links: list[Link] = []
    slots: dict[tuple[str, int], list[int]] = {}
    for number, node in graph.items():
        sources = [value[0] for value in node["inputs"].values() if is_link(value)]
        depth = depths[number] = 1 + max((depths[source] for source in sources), default=-1)
        row = columns[depth] = columns.get(depth, -1) + 1
        types, outputs, names = definition(node["class_type"])
        inputs: list[dict[str, Any]] = []
        values: list[Any] = []
        for name, kind, options in _inputs(types):
            value = node["inputs"].get(name, options.get("default"))
            widget = _is_widget(kind, options)
            if is_link(value):
                links.append(
                    [len(links) + 1, int(value[0]), value[1], int(number), len(inputs), kind]
                )
                slots.setdefault((value[0], value[1]), []).append(len(links))
                inputs.append(
                    {"name": name, "type": kind, "link": len(links)}
                    | ({"widget": {"name": name}} if widget else {})
                )
                value = options.get("default")
            elif not widget:
                inputs.append({"name": name, "type": kind, "link": None})
            if widget:
                values += _values(name, kind, options, value)
        nodes.append(
            {
                "id": int(number),
                "type": node["class_type"],
                "pos": [40 + 360 * depth, 40 + 300 * row],
                "size": [320, 240],
                "flags": {},
                "order": int(number) - 1,
                "mode": 0,
                "inputs": inputs,
                "outputs": [
                    {"name": name, "type": kind, "links": None, "slot_index": slot}
                    for slot, (kind, name) in enumerate(zip(outputs, names, strict=True))
                ],
                "properties": {"Node name for S&R": node["class_type"]},
                "widgets_values": values,
            }
        )
    for node in nodes:
        for output in node["outputs"]:
            output["links"] = slots.get((str(node["id"]), output["slot_index"]))
    return {
        "last_node_id": len(nodes),
        "last_link_id": len(links),
        "nodes": nodes,
        "links": links,
        "groups": [],
        "config": {},
        "extra": {},
        "version": 0.4,
    }


def text_chunks(graph: Prompt, definition: Definition) -> dict[str, str]:
    """Return the PNG text chunks that ComfyUI's canvas opens."""
    return {
        "prompt": json.dumps(graph),
        "workflow": json.dumps(canvas_graph(graph, definition)),
    }


def installed(class_type: str) -> tuple[Mapping[str, Any], list[str], list[str]]:
    """Look a node class up in the running ComfyUI."""
    # ComfyUI's own module, which has the name of this package.
    from nodes import NODE_CLASS_MAPPINGS  # type: ignore[attr-defined]

    kind = NODE_CLASS_MAPPINGS[class_type]
    outputs = [str(output) for output in kind.RETURN_TYPES]
    return kind.INPUT_TYPES(), outputs, list(getattr(kind, "RETURN_NAMES", None) or outputs)


def _collect(prompt: Prompt, number: str, order: list[str]) -> None:
    """Append a node to ``order``, after everything that leads to it."""
    if number in order:
        return
    for value in prompt[number]["inputs"].values():
        if is_link(value):
            _collect(prompt, value[0], order)
    order.append(number)


def _inputs(types: Mapping[str, Any]) -> list[tuple[str, str, Mapping[str, Any]]]:
    found = []
    for group in ("required", "optional"):
        for name, entry in types.get(group, {}).items():
            options = entry[1] if len(entry) > 1 and isinstance(entry[1], Mapping) else {}
            combo = isinstance(entry[0], list | tuple)
            if combo and "default" not in options and entry[0]:
                options = {**options, "default": entry[0][0]}
            found.append((name, "COMBO" if combo else str(entry[0]), options))
    return found


def _is_widget(kind: str, options: Mapping[str, Any]) -> bool:
    return kind in _WIDGETS and not options.get("forceInput")


def _values(name: str, kind: str, options: Mapping[str, Any], value: Any) -> list[Any]:
    """Return a widget's value and those of the widgets that the canvas adds after it."""
    seed = kind == "INT" and (
        name in ("seed", "noise_seed") or options.get("control_after_generate")
    )
    if seed:
        return [value, "fixed"]
    return [value, "image"] if options.get("image_upload") else [value]
