"""What a node is given, looked at before it runs, and what it says when it fails.

A wire may carry anything: ComfyUI compares the names of types alone, and a switch, a muted node or
a checkpoint without a text encoder sends nothing at all. What a node cannot use is refused by a
named error that says what came and what to connect instead.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from ...core.errors import CuratorError, WriteError
from ...core.naming import table_name
from .paths import dataset_path
from .widget_values import widget_value

if TYPE_CHECKING:
    from comfy_api.latest import io

Execute = Callable[..., Any]

_CHANNELS = (1, 3, 4)
_MISFIT = re.compile(
    r"shapes cannot be multiplied|must match the size of tensor|to have \d+ channels, but got"
)
"""What torch says of tensors of several families."""
_LONGEST = 4000
"""Letters of an error's message, at most: what somebody pasted into a widget may be megabytes."""


class WireError(CuratorError):
    """A wire carries nothing, or something that the node cannot use."""

    def __init__(self, name: str, what: str, mend: str) -> None:
        super().__init__(f"'{name}' {what}. {mend}")


class HalfCharacterError(CuratorError):
    """A text has halves of characters in it, which no file, tokenizer or terminal takes."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"'{name}' has half of a character in it, as a damaged copy leaves them (a surrogate). "
            "Type the text anew."
        )


class InputsError(CuratorError):
    """Inputs of a node exclude each other, or one of several is missing."""


class MisfitError(CuratorError):
    """Models that are connected to one node are of several families."""

    def __init__(self, error: Exception) -> None:
        super().__init__(
            f"What is connected does not fit together ({_sound(str(error))}). MODEL, CLIP and VAE, "
            "a conditioning and a LoRA must be of one family of models: connect those of one "
            "loader."
        )


class NodeError(CuratorError):
    """An error whose own message is too long, or no text that a terminal takes.

    ComfyUI writes what a node raises to its terminal; where that fails, it runs no graph any more.
    """

    def __init__(self, error: Exception) -> None:
        super().__init__(f"{type(error).__name__}: {_sound(str(error))}")


class _Kind(NamedTuple):
    """What a type of wire carries.

    Attributes:
        carries: What it is called.
        known: Whether a value is one.
        connect: What to do where it is none.
    """

    carries: str
    known: Callable[[Any], bool]
    connect: str


def _has(*names: str) -> Callable[[Any], bool]:
    return lambda value: all(hasattr(value, name) for name in names)


def _is_conditioning(value: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(part, (list, tuple)) and len(part) == 2 and isinstance(part[1], Mapping)
        for part in value
    )


def _is_our(module: str, name: str) -> Callable[[Any], bool]:
    """Return a test for one of core's or the nodes' own classes, by its name: none is imported."""

    def known(value: Any) -> bool:
        return any(
            one.__name__ == name and one.__module__.endswith(module) for one in type(value).__mro__
        )

    return known


_DATASET = "CURATOR_DATASET"
_SET = "Connect the output of a node that gives image sets, such as Load Image Set."
_KINDS: Mapping[str, _Kind] = {
    "MODEL": _Kind("a model", _has("model", "load_device"), "Connect the MODEL of a loader."),
    "CLIP": _Kind(
        "a text encoder", _has("tokenize", "patcher"),
        "Some checkpoints hold none: connect Load CLIP, or the loader of its family.",
    ),
    "VAE": _Kind("a VAE", _has("decode"), "Some checkpoints hold none: connect Load VAE."),
    "CONDITIONING": _Kind(
        "a conditioning", _is_conditioning, "Connect a node such as CLIP Text Encode."
    ),
    "CURATOR_PLAN": _Kind("a plan", _is_our(".plan", "Plan"), "Connect Character Plan."),
    "CURATOR_IMAGE_SET": _Kind("an image set", _is_our(".imageset", "ImageSet"), _SET),
    "CURATOR_SELECTION": _Kind(
        "a selection", _is_our(".selection.result", "Selection"), "Connect BalancedSelect."
    ),
    "CURATOR_WAVES": _Kind(
        # SeedBatchGenerate itself sends nothing where it makes no waves; GenerateUntil says so.
        "waves", lambda value: value is None or _is_our(".in_waves", "Waves")(value),
        "Connect SeedBatchGenerate.",
    ),
    _DATASET: _Kind(
        "a dataset", lambda value: isinstance(value, (str, Path)),
        "Connect DatasetExport or Load Dataset.",
    ),
}  # fmt: skip


def checks_inputs(execute: Execute) -> Execute:
    """Return ``execute`` of a node as one that first looks at what it is given.

    An image of one channel becomes one of three, a mask without or with more sides one of three.
    A dataset lies in a folder that graphs may use; an optional widget to which nothing comes has
    its default. What the node raises is a message that ComfyUI can write down; an error of the
    operating system says what it means and what to do.

    Raises:
        WireError: A wire carries something else than its type says.
        WidgetError: A widget's value is of another kind, or outside of its limits.
        LongTextError: A text is longer than anything that its widget is meant for.
        HalfCharacterError: A text is none.
        PathNotAllowedError: A dataset lies elsewhere.
        NodeError: In the place of an error with a message beyond measure.
    """

    @wraps(execute)
    def run(cls: Any, *given: Any, **named: Any) -> io.NodeOutput:
        # Described anew each time: choices follow the files in ComfyUI's folders.
        inputs = {one.id: one for one in cls.define_schema().inputs}
        kinds = {name: one.get_io_type() for name, one in inputs.items()}
        told = {}
        for name, value in named.items():
            if name not in inputs:
                told[name] = checked(name, "", value)
            elif value is not None or not inputs[name].optional:
                value = checked(name, kinds[name], widget_value(inputs[name], value))
                told[name] = dataset_path(value) if kinds[name] == _DATASET else value
        try:
            return execute(cls, *given, **told)
        except Exception as raised:
            models = {"MODEL", "CLIP", "VAE"} & {*kinds.values()}
            error = _in_words(raised, bool(models))
            if str(error) != _sound(str(error)):
                raise NodeError(error) from None  # ComfyUI would write the first one's text too
            if error is raised:
                raise
            raise error from raised

    run.checks_inputs = True  # type: ignore[attr-defined]
    return run


def _in_words(error: Exception, models: bool) -> Exception:
    """Return errors of the operating system, and of models that do not fit, as ours.

    Args:
        error: What the node has raised.
        models: Whether models are connected to it.
    """
    if models and type(error) is RuntimeError and _MISFIT.search(str(error)):
        return MisfitError(error)
    if not isinstance(error, OSError) or error.errno is None or isinstance(error, CuratorError):
        return error
    return WriteError(table_name(str(error.filename or "A file")), error)


def _sound(text: str) -> str:
    """Return a message as every terminal takes it, and not beyond measure."""
    text = table_name(text)
    return f"{text[: _LONGEST // 2]} … {text[-_LONGEST // 4 :]}" if len(text) > _LONGEST else text


def checked(name: str, kind: str, value: Any) -> Any:
    """Return what a wire carries, in the shape that nodes expect.

    Args:
        name: The input's.
        kind: Its type, as ComfyUI names it; values of types that are not known here pass.
        value: What came.

    Raises:
        WireError: It is something else.
        HalfCharacterError: It is a text with halves of characters.
    """
    if isinstance(value, str) and table_name(value) != value:
        raise HalfCharacterError(name)
    if kind == "IMAGE":
        return _images(name, value)
    if kind == "MASK":
        return _masks(name, value)
    known = _KINDS.get(kind)
    if known is None:
        return value
    if not known.known(value):
        raise WireError(name, f"needs {known.carries}, and {_told(value)} came", known.connect)
    if kind == "VAE" and getattr(value, "first_stage_model", value) is None:
        raise WireError(name, "needs a VAE, and an empty one came", known.connect)
    return value


def _images(name: str, value: Any) -> torch.Tensor:
    images = _tensor(name, "images", value)
    if images.ndim != 4 or images.shape[-1] not in _CHANNELS or 0 in images.shape:
        raise WireError(
            name,
            f"needs images (number, height, width, and 1, 3 or 4 channels), and {_told(value)} "
            "came",
            "Connect a node whose output is IMAGE, such as Load Image or VAE Decode.",
        )
    _check_numbers(name, "images", images)
    return images.expand(*images.shape[:-1], 3) if images.shape[-1] == 1 else images


def _masks(name: str, value: Any) -> torch.Tensor:
    masks = _tensor(name, "masks", value)
    if masks.ndim == 2:
        masks = masks[None]
    elif masks.ndim == 4 and 1 in (masks.shape[1], masks.shape[-1]):
        masks = masks.squeeze(1) if masks.shape[1] == 1 else masks.squeeze(-1)
    if masks.ndim != 3 or 0 in masks.shape:
        raise WireError(
            name,
            f"needs masks (number, height, width), and {_told(value)} came",
            "Connect a node whose output is MASK, such as Load Image or Convert Image to Mask.",
        )
    _check_numbers(name, "masks", masks)
    return masks


def _tensor(name: str, what: str, value: Any) -> torch.Tensor:
    if isinstance(value, torch.Tensor) and value.dtype == torch.bool and what == "masks":
        return value.float()
    if not isinstance(value, torch.Tensor) or not value.is_floating_point():
        kind = "IMAGE" if what == "images" else "MASK"
        raise WireError(
            name,
            f"needs {what} as numbers from 0 to 1, and {_told(value)} came",
            f"Connect a node whose output is {kind}.",
        )
    return value.float() if value.dtype == torch.bfloat16 else value  # numpy knows none of these


def _check_numbers(name: str, what: str, values: torch.Tensor) -> None:
    """Refuse what would silently be black."""
    broken = sum(not bool(torch.isfinite(one).all()) for one in values)
    if broken:
        raise WireError(
            name,
            f"has {broken:,} of {len(values):,} {what} that hold no numbers (NaN or "
            "infinite), which would be black",
            "A model or VAE has overflowed in half precision: start ComfyUI with --fp32-vae, or "
            "take another VAE, sampler or seed.",
        )


def _told(value: Any) -> str:
    """Say what came, in a few words."""
    if value is None:
        return "nothing"
    if isinstance(value, torch.Tensor):
        kind = str(value.dtype).removeprefix("torch.")
        return f"a tensor of {' x '.join(map(str, value.shape)) or 'no sides'} ({kind})"
    if isinstance(value, (list, tuple, dict, str)) and not value:
        return f"an empty {type(value).__name__}"
    return f"something else ({type(value).__name__})"
