"""Which layers of a model carry adapters.

In UNets they are known by their names, in transformers, whose authors agree on no names, by where
they stand.

A transformer repeats its blocks, and of a block's linear layers those inside attention and inside
the feed-forward part carry adapters. What modulates, normalises and embeds does not.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Literal

import torch

from ..counts import how_many
from ..defaults import SEED_DOCUMENT

_ATTENTION = (
    "to_q", "to_k", "to_v", "to_out.0",
    "add_q_proj", "add_k_proj", "add_v_proj", "to_add_out",  # Flux, the text's side
    "img_attn.qkv", "img_attn.proj", "txt_attn.qkv", "txt_attn.proj",  # Flux in ComfyUI
    "linear1", "linear2",
)  # fmt: skip
_PROJECTIONS = (
    "proj_in", "proj_out", "ff.net.0.proj", "ff.net.2",
    "ff_context.net.0.proj", "ff_context.net.2", "proj_mlp",
    "img_mlp.0", "img_mlp.2", "txt_mlp.0", "txt_mlp.2",
)  # fmt: skip
_CONVOLUTIONS = (
    "conv1", "conv2", "conv_shortcut", "time_emb_proj", "downsamplers.0.conv", "upsamplers.0.conv",
    "in_layers.2", "out_layers.3", "skip_connection", "emb_layers.1", "op", "conv",  # in ComfyUI
)  # fmt: skip
_RESIDUAL = (".conv1", ".in_layers.2")
"""Ends of the names of convolutions that UNets alone have."""

LAYER_PRESETS: Mapping[str, tuple[str, ...]] = {
    SEED_DOCUMENT: ("to_q", "to_v"),
    "attention": _ATTENTION,
    "full": (*_ATTENTION, *_PROJECTIONS, *_CONVOLUTIONS),
}
"""Ends of the names of a UNet's layers that carry adapters. Names that it lacks do no harm."""

Role = Literal["attention", "feed-forward"]

_BLOCKS = re.compile(r"^.*\w*(block|layer|attention|resnet|refiner)s?\w*(\.\d+)+\.")
"""What stands before a layer's name in its block."""

_OUTSIDE = re.compile(r"(^|_)(mod|modulation|adaln|norm\d*|emb|embed|embedder)([cx]*)(_|$)")
"""Parts of a block that modulate, normalise or embed, whatever they are about."""
_INSIDE: tuple[tuple[Role, re.Pattern[str]], ...] = (
    ("attention", re.compile(r"(^|_)(attn|attention)\d*(_|$)")),
    ("feed-forward", re.compile(r"(^|_)(mlp[cx]?|ff|ffn|feed_forward|experts)\d*(_|$)")),
)
_JOINT: Mapping[str, Role] = {
    "linear1": "attention", "linear2": "attention", "proj_out": "feed-forward",
}  # fmt: skip
"""Layers of blocks whose attention and feed-forward part share their projections."""
_GENERAL = ("net", "block", "processor")
"""Names of parts that say nothing."""
_LAST = "proj_out"
"""The last layer of a transformer as diffusers spells it: the preset ``full`` has it."""
_QUERY_VALUE = re.compile(r"((img|instruct)_)*(to_|w\d?)?(q|v|query|value)(_proj|_linear)?")
_FUSED = re.compile(r"(\w+_)?(qkv|kv)(_proj|_linear)?|linear1")


@dataclass(frozen=True)
class Placement:
    """Where adapters go in a module.

    Attributes:
        paths: Of the layers that carry them.
        linear: How many linear layers the module has.
        adapted: How many of them carry adapters.
        without: Kinds of parts none of whose linear layers does.
        fused: Kinds of layers that stand for ``to_q`` and ``to_v`` and hold more than these.
    """

    paths: tuple[str, ...]
    linear: int
    adapted: int
    without: tuple[str, ...]
    fused: tuple[str, ...] = ()

    @property
    def kinds(self) -> tuple[str, ...]:
        """Ends of the names of the layers that carry adapters, each once, in their order."""
        return tuple(dict.fromkeys(_BLOCKS.sub("", path) for path in self.paths))

    def __str__(self) -> str:
        text = f"Adapters on {self.adapted:,} of {how_many(self.linear, 'linear layer')}"
        if len(self.paths) > self.adapted:
            text += f" and {how_many(len(self.paths) - self.adapted, 'convolution')}"
        if self.without:
            text += f"; none in: {', '.join(self.without)}"
        if self.fused:
            text += (
                f". This model keeps to_q and to_v together with others in: "
                f"{', '.join(self.fused)}; the whole layers are adapted"
            )
        return f"{text}."


def place(module: torch.nn.Module, targets: str | Iterable[str]) -> Placement:
    """Choose the layers of a module that carry adapters.

    Args:
        module: A UNet, a transformer, or a text encoder.
        targets: A name of :data:`LAYER_PRESETS`; or ends of the names of layers, or patterns with
            ``*`` for whole names, such as ``layers.*.attention.*``.
    """
    layers = dict(module.named_modules())
    linear = [path for path, layer in layers.items() if is_linear(layer)]
    if isinstance(targets, str) and not _is_unet(layers):
        paths, fused = _of_transformer(layers, linear, targets)
    else:
        names = LAYER_PRESETS[targets] if isinstance(targets, str) else tuple(targets)
        found = (path for path, layer in layers.items() if can_carry(layer))
        paths, fused = [path for path in found if _is_named(path, names)], []
    return _placement(layers, linear, paths, fused)


def place_at(module: torch.nn.Module, paths: Iterable[str]) -> Placement:
    """Let the layers of given paths carry adapters.

    Args:
        module: As for :func:`place`.
        paths: Of some of its layers.
    """
    layers = dict(module.named_modules())
    linear = [path for path, layer in layers.items() if is_linear(layer)]
    return _placement(layers, linear, list(paths), [])


def _placement(
    layers: Mapping[str, Any], linear: list[str], paths: list[str], fused: list[str]
) -> Placement:
    chosen = set(paths)
    bare = {_part(layers, path) for path in linear if path not in chosen}
    adapted = [path for path in linear if path in chosen]
    touched = {_part(layers, path) for path in adapted}
    return Placement(
        tuple(paths), len(linear), len(adapted), tuple(sorted(bare - touched)), tuple(fused)
    )


def is_linear(layer: Any) -> bool:
    """Whether a layer is linear: torch's, or one of its kind whose weights are quantised."""
    if isinstance(layer, torch.nn.Linear):
        return True
    if not isinstance(layer, torch.nn.Module) or hasattr(layer, "base_layer"):
        return False
    has = all(hasattr(layer, name) for name in ("in_features", "out_features", "weight"))
    return has and isinstance(layer.weight, torch.Tensor) and layer.weight.dim() == 2


def can_carry(layer: Any) -> bool:
    """Whether a layer can carry adapters: a linear one, or a convolution."""
    return is_linear(layer) or isinstance(layer, torch.nn.Conv2d)


def _is_named(path: str, names: tuple[str, ...]) -> bool:
    ends = tuple(f".{name}" for name in names if not _is_pattern(name))
    return f".{path}".endswith(ends) or any(
        fnmatchcase(path, name) for name in names if _is_pattern(name)
    )


def _is_pattern(name: str) -> bool:
    return any(sign in name for sign in "*?[")


def _is_unet(layers: Mapping[str, Any]) -> bool:
    return any(
        isinstance(layer, torch.nn.Conv2d) and f".{path}".endswith(_RESIDUAL)
        for path, layer in layers.items()
    )


def _of_transformer(
    layers: Mapping[str, Any], linear: Iterable[str], preset: str
) -> tuple[list[str], list[str]]:
    """Return the layers that a preset stands for, and the kinds of fused ones among them."""
    roles = {path: _role(layers, path) for path in linear}
    attention = [path for path, role in roles.items() if role == "attention"]
    if preset == "attention":
        return attention, []
    if preset == "full":
        return [path for path, role in roles.items() if role or path == _LAST], []
    found, fused = [], set()
    for path in attention:
        name = path.rpartition(".")[2]
        if _QUERY_VALUE.fullmatch(name):
            found.append(path)
        elif _FUSED.fullmatch(name):
            found.append(path)
            fused.add(name)
    return found, sorted(fused)


def _role(layers: Mapping[str, Any], path: str) -> Role | None:
    """Return what part of a repeated block a linear layer is in; None outside of them."""
    above = path.split(".")
    first = next((at for at in range(1, len(above)) if _is_block(layers, above[:at])), None)
    if first is None:
        return None
    *parts, name = above[first:]
    if any(_OUTSIDE.search(part.lower()) for part in parts) or _OUTSIDE.search(name.lower()):
        return None
    for role, pattern in _INSIDE:
        if any(pattern.search(part.lower()) for part in (*parts, name)):
            return role
    return _JOINT.get(name)


def _is_block(layers: Mapping[str, Any], above: list[str]) -> bool:
    """Whether a path leads to one of a list of modules."""
    parent = layers.get(".".join(above[:-1]))
    return above[-1].isdigit() and isinstance(parent, torch.nn.ModuleList)


def _part(layers: Mapping[str, Any], path: str) -> str:
    """Return what the authors call the part of a model, or of a block, that a layer is in."""
    above = path.split(".")
    if not any(_is_block(layers, above[:at]) for at in range(1, len(above))):
        return above[0]
    own = above if above[-2].isdigit() and not above[-1].isdigit() else above[:-1]
    return [part for part in own if not part.isdigit() and part not in _GENERAL][-1]
