"""How LoRA files may call the layers of a MODEL, and which of the spellings the most programs read.

ComfyUI reads its own names of all models, with kohya's and with dotted beginnings; diffusers' names
it reads of the families for which ``comfy.utils`` has a table, or whose names are the same.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import comfy.utils

from .model_kinds import layer_names

if TYPE_CHECKING:
    from ...core.lora.spelling import FileKey, FileNames, Piece, Spelling

Pieces = Mapping[str, "tuple[Piece, ...]"]

_AUTO: tuple[tuple[str, Spelling], ...] = (
    # diffusers turns kohya's names of these into its own, and takes no other names of theirs.
    (r"flux-1|chroma$", "kohya"),
    # diffusers takes its own names alone, and ComfyUI knows them.
    (r"stable-diffusion-3|auraflow|kandinsky-5|longcat", "diffusers"),
)
"""Spellings that most programs read, by the architecture's beginning; ai-toolkit's of others."""

_TABLES: tuple[tuple[str, str, str], ...] = (
    (r"stable-diffusion-3", "mmdit_to_diffusers", ""),
    # Two classes of diffusers have one table; what the other one has is not looked at.
    (r"flux-2", "flux_to_diffusers", r"\.ff(_context)?\.net\.|single.*(\.to_[qkv]$|\.proj_)"),
    (
        r"flux-1|chroma|longcat", "flux_to_diffusers",
        r"\.linear_(in|out)$|single.*\.to_(qkv|out)",
    ),
    (r"auraflow", "auraflow_to_diffusers", ""),
    (r"pixart", "pixart_to_diffusers", ""),
    (r"z-image", "z_image_to_diffusers", ""),
    (r"krea-2", "krea2_to_diffusers", r"\.to_out$"),
)  # fmt: skip
"""ComfyUI's tables of diffusers' names, by architecture, and what in them does not count."""

_SAME = r"qwen-image|hidream|ernie-image|kandinsky-5"
"""Architectures whose layers diffusers calls as ComfyUI does."""

_COSMOS = (
    (r"^blocks\.", "transformer_blocks."), (r"\.self_attn\.", ".attn1."),
    (r"\.cross_attn\.", ".attn2."), (r"\.([qkv])_proj$", r".to_\1"),
    (r"\.output_proj$", ".to_out.0"), (r"\.mlp\.layer1$", ".ff.net.0.proj"),
    (r"\.mlp\.layer2$", ".ff.net.2"),
)  # fmt: skip
_RENAMED: Mapping[str, Sequence[tuple[str, str]]] = {
    "cosmos-predict2": _COSMOS,
    "anima": _COSMOS,
    "lumina-2": (
        (r"\.attention\.qkv$", ".attn.to_q|to_k|to_v"), (r"\.attention\.out$", ".attn.to_out.0"),
        (r"\.feed_forward\.w([123])$", r".feed_forward.linear_\1"),
    ),
}  # fmt: skip
"""What diffusers calls the blocks' layers of families for which ComfyUI has no table."""


def file_names(model: Any, architecture: str, text_encoders: int) -> FileNames:
    """Return how files may call a model's layers.

    Args:
        model: A ``BaseModel``.
        architecture: As from :func:`.model_kinds.architecture_of`.
        text_encoders: How many text encoders of CLIP's kind go with it.
    """
    from ...core.lora import names
    from ...core.lora.spelling import FileNames, Piece

    unet = layer_names(model)
    if unet:

        def of_unet(part: str, path: str) -> str:
            return names.kohya(part, unet.get(path, path), text_encoders=text_encoders)

        return FileNames("kohya", {"kohya": of_unet})

    def of_kohya(part: str, path: str) -> str:
        return names.kohya(part, path, text_encoders=2)

    def dotted(begin: str, pieces: Pieces) -> FileKey:
        def find(part: str, path: str) -> Sequence[Piece]:
            if part == "denoiser" and path in pieces:
                whole = names.generic(part, path)
                return [Piece(f"{begin}.{p.name}", p.start, p.rows, whole) for p in pieces[path]]
            # Layers that diffusers' class does not have are at least ComfyUI's to read.
            if part == "denoiser" or begin != "transformer":
                return [Piece(names.generic(part, path))]
            return [Piece(names.diffusers(part, path))]

        return find

    of_diffusers = diffusers_pieces(model, architecture)
    spellings: dict[Spelling, FileKey] = {"kohya": of_kohya}
    if of_diffusers:
        spellings["diffusers"] = dotted("transformer", of_diffusers)
    if re.match(r"flux-1|stable-diffusion-3", architecture) and of_diffusers:
        spellings["ai-toolkit"] = spellings["diffusers"]  # which writes these as diffusers does
    else:
        splits = of_diffusers if architecture == "z-image" else {}
        spellings["ai-toolkit"] = dotted("diffusion_model", splits)
    auto = next((s for begin, s in _AUTO if re.match(begin, architecture)), "ai-toolkit")
    return FileNames(auto if auto in spellings else "ai-toolkit", spellings)


def diffusers_pieces(model: Any, architecture: str) -> dict[str, tuple[Piece, ...]]:
    """Return diffusers' names of a transformer's linear layers, by ComfyUI's; empty if unknown.

    A layer all of whose rows have no place in diffusers' class is left out.
    """
    network = model.diffusion_model
    rows = {
        path: int(layer.out_features)
        for path, layer in network.named_modules()
        if hasattr(layer, "out_features")
    }
    config = model.model_config.unet_config
    if re.match(_SAME, architecture):
        found = {path: [(path, 0, rows[path])] for path in rows}
    elif architecture in _RENAMED:
        found = _renamed(rows, _RENAMED[architecture], _shares(config))
    else:
        found = _tabled(rows, config, architecture)
    return {path: _whole(places, rows[path]) for path, places in found.items()
            if sum(count for *_, count in places) == rows[path]}  # fmt: skip


def _whole(places: Sequence[tuple[str, int, int]], rows: int) -> tuple[Piece, ...]:
    from ...core.lora.spelling import Piece

    return tuple(
        Piece(name, start, None if count == rows else count)
        for name, start, count in sorted(places, key=lambda place: place[1])
    )


def _tabled(
    rows: Mapping[str, int], config: Mapping[str, Any], architecture: str
) -> dict[str, list[tuple[str, int, int]]]:
    """Read one of ComfyUI's tables the other way round."""
    name, without = next((row[1:] for row in _TABLES if re.match(row[0], architecture)), ("", ""))
    table: Callable[..., Mapping[str, Any]] | None = getattr(comfy.utils, name, None)
    if table is None:
        return {}
    found: dict[str, list[tuple[str, int, int]]] = {}
    for theirs, ours in table(config).items():
        place = theirs.removesuffix(".weight")
        if not theirs.endswith(".weight") or (without and re.search(without, place)):
            continue
        whole, *more = (ours,) if isinstance(ours, str) else ours
        path = whole.removesuffix(".weight")
        if path not in rows or len(more) > 1:  # the second turns the weight round
            continue
        _, start, count = more[0] if more else (0, 0, rows[path])
        found.setdefault(path, []).append((place, start, count))
    return found


def _shares(config: Mapping[str, Any]) -> tuple[int, ...]:
    """Return in which shares a fused layer's rows are queries, keys and values."""
    heads = config.get("n_heads", 1)
    few = config.get("n_kv_heads") or heads
    return heads, few, few


def _renamed(
    rows: Mapping[str, int], pairs: Sequence[tuple[str, str]], shares: Sequence[int]
) -> dict[str, list[tuple[str, int, int]]]:
    found: dict[str, list[tuple[str, int, int]]] = {}
    for path, count in rows.items():
        place = path
        for ours, theirs in pairs:
            place = re.sub(ours, theirs, place)
        if place == path:
            continue
        parent, _, ends = place.rpartition(".")
        several = ends.split("|")
        if len(several) == 1:
            found[path] = [(place, 0, count)]
            continue
        start = 0
        for end, share in zip(several, shares, strict=True):
            size = count * share // sum(shares)
            found.setdefault(path, []).append((f"{parent}.{end}", start, size))
            start += size
    return found
