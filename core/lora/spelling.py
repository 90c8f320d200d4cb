"""How LoRA files spell the names of a transformer's layers.

Three spellings are in use. kohya's, ``lora_unet_double_blocks_0_img_attn_qkv.lora_down.weight``
with ``.alpha``: sd-scripts and musubi-tuner. ai-toolkit's, ``diffusion_model.`` and the path in the
authors' own code, with ``lora_A`` and ``lora_B``. diffusers' own, ``transformer.`` and the path in
its class, which keeps apart what the authors fused: there a layer is written in pieces, each with
its rows of the up weight and the whole of the down weight. Readers of the last two multiply by
nothing: alpha goes into the weights.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from ..errors import CuratorError
from . import names as layer_names

Spelling = Literal["kohya", "ai-toolkit", "diffusers"]

DOWN, UP, ALPHA, DORA = "down", "up", ".alpha", ".dora_scale"
ENDS: Mapping[bool, tuple[str, str]] = {
    True: (".lora_down.weight", ".lora_up.weight"),
    False: (".lora_A.weight", ".lora_B.weight"),
}
"""Ends of the keys of the down and the up weights, by whether the layer's name is kohya's."""


class SpellingError(CuratorError):
    """A model's layers have no names in the spelling that a file shall have."""


@dataclass(frozen=True)
class Piece:
    """A layer in a file: a whole one of the model, or some of its rows.

    Attributes:
        name: What the file calls it.
        start: The first row of the model's layer that it holds.
        rows: How many rows; None is all of them.
        whole: What a file calls the model's layer where what it holds can't be cut into rows.
    """

    name: str
    start: int = 0
    rows: int | None = None
    whole: str = ""


FileKey = Callable[[str, str], "str | Sequence[Piece]"]
"""``(part, path)`` to the name of a layer in the file, or to its pieces there."""


def pieces(file_key: FileKey, part: str, path: str) -> tuple[Piece, ...]:
    """Return the pieces of a layer in a file, one for most."""
    found = file_key(part, path)
    return (Piece(found),) if isinstance(found, str) else tuple(found)


def written(piece: Piece, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a piece's tensors by their keys in the file.

    Args:
        piece: Where they go.
        tensors: Of the whole layer: :data:`DOWN`, :data:`UP`, :data:`ALPHA`, and perhaps
            :data:`DORA`; or others with the ends of their keys, of a layer that is one piece.
    """
    is_kohya = layer_names.is_kohya(piece.name)
    found = dict(tensors)
    if DOWN not in found:
        return {f"{piece.name}{end}": tensor for end, tensor in found.items()}
    rows = slice(piece.start, None if piece.rows is None else piece.start + piece.rows)
    down, up = found.pop(DOWN), found.pop(UP)[rows]
    if DORA in found:
        found[DORA] = found[DORA][rows]
    if not is_kohya:
        up = up * (float(found.pop(ALPHA)) / down.shape[0])
    down_end, up_end = ENDS[is_kohya]
    found |= {down_end: down, up_end: up}
    return {f"{piece.name}{end}": tensor for end, tensor in found.items()}


@dataclass(frozen=True)
class FileNames:
    """What the files of a model may call its layers.

    Attributes:
        auto: The spelling that the most programs read, ComfyUI and diffusers before all.
        spellings: Names of the layers by spelling.
    """

    auto: Spelling
    spellings: Mapping[Spelling, FileKey]

    def __call__(self, spelling: str = "auto") -> FileKey:
        """Return the names in a spelling.

        Raises:
            SpellingError: The model's layers have none in it.
        """
        chosen = self.auto if spelling == "auto" else spelling
        if chosen not in self.spellings:
            raise SpellingError(
                f"file_spelling is '{spelling}': this model's layers have no names in it. Choose "
                f"one of: auto, {', '.join(self.spellings)}."
            )
        return self.spellings[chosen]  # type: ignore[index]

    def unbroken(self, layers: Iterable[tuple[str, str]], spelling: str = "auto") -> FileKey:
        """Return the names in a spelling that leaves layers whole, as LoKr and LoHa need it.

        Args:
            layers: Part and path of each.
            spelling: ``auto`` takes another one where the best would part a layer.

        Raises:
            SpellingError: It would part a layer, or the model's layers have no names in it.
        """
        named = list(layers)
        best = self(spelling)
        others = self.spellings.values() if spelling == "auto" else ()
        for found in (best, *others):
            if all(len(pieces(found, part, path)) == 1 for part, path in named):
                return found
        raise SpellingError(
            f"file_spelling '{spelling}' writes layers of this model in pieces, which only LoRA "
            "can be divided into. Leave it at auto, or train a LoRA."
        )


def joined(layers: Sequence[tuple[Piece, Tensor, Tensor]]) -> tuple[Tensor, Tensor] | None:
    """Put pieces together again.

    Args:
        layers: Piece, down weight, and up weight with its scale, of every piece.

    Returns:
        Down and up weight of the whole layer; None if the pieces were trained apart, so that no
        layer of their rank is the same.
    """
    ordered = sorted(layers, key=lambda layer: layer[0].start)
    down = ordered[0][1]
    if any(not torch.equal(down, other) for _, other, _ in ordered[1:]):
        return None
    return down, torch.cat([up for _, _, up in ordered])
