"""Masks as weights of the loss: where a mask is white all counts, where it is black little or none.

A mask is cut and scaled as its image is, and then averaged over the area of each latent cell, as
kohya's sd-scripts do (``interpolate(mode="area")``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from ...counts import how_many, worded
from ...errors import CuratorError
from ...hashing import content_hash
from ...reading.masks import mask_in, of_another_shape, read_alpha, read_mask
from ...reading.opening import decoding_errors
from .buckets import Crop, Size

if TYPE_CHECKING:
    from torch import Tensor


BESIDE = "beside"
"""Masks lie beside the images, where any of the trainers' layouts has them, or are their alpha."""


class LostMaskError(CuratorError):
    """A mask cannot be read any more while a training runs."""

    def __init__(self, path: Path, error: Exception) -> None:
        super().__init__(
            f"The mask {path} can't be read any more: {error}. Put it back, and start again."
        )


class MasksError(CuratorError):
    """Masks are asked for, and no image has one."""


@dataclass(frozen=True)
class Mask:
    """The mask of a training image.

    Attributes:
        path: Its file; the image's own where its transparency is the mask.
        hash: SHA-256 of the file's bytes.
        alpha: Whether it is the file's transparency.
    """

    path: Path
    hash: str
    alpha: bool = False

    def read(self) -> Any:
        """Return it as a PIL image in mode L.

        Raises:
            Exception: One of :func:`.decoding_errors`: it can't be read.
        """
        if not self.alpha:
            return read_mask(self.path)
        found = read_alpha(self.path)
        if found is None:
            raise ValueError("it is no longer transparent")
        return found


def find_masks(
    images: Sequence[Masked],
    source: Path | str,
    root: Path,
    known: Mapping[str, str],
) -> tuple[list[Mask | None], dict[Path, str], str]:
    """Find the mask of each image.

    Args:
        images: What is trained on.
        source: :data:`BESIDE`, or a folder that holds masks under the images' names.
        root: The folder that the names start from.
        known: The mask that lies beside an image, both as names from there.

    Returns:
        The masks; of images whose mask can't be used, the reasons by path; and in words how many
        have which.

    Raises:
        MasksError: None has a mask, or the folder is not there.
    """
    folder = None if source == BESIDE else Path(source).expanduser()
    if folder is not None and not folder.is_dir():
        raise MasksError(
            f"There is no folder of masks {folder}. Name the one that holds them under the images' "
            "names, or say 'beside'."
        )
    found: list[Mask | None] = []
    faults: dict[Path, str] = {}
    for image in images:
        mask, fault = _found(image, folder, root, known)
        found.append(mask)
        if fault:
            faults[image.path] = fault
    own = [mask for mask in found if mask is not None]
    if not own:
        where = f"in {folder}" if folder else "beside it (NAME-masklabel.png, masks/NAME.png)"
        reasons = "; ".join(f"{p.name}: {reason}" for p, reason in list(faults.items())[:5])
        raise MasksError(
            f"No image of {root} has a mask that can be used {where}, nor transparent pixels. "
            f"Export the dataset with masks, or train without.{f' ({reasons})' if reasons else ''}"
        )
    count = len(images) - len(faults)
    alphas = sum(mask.alpha for mask in own)
    said = f"Masks weigh the loss of {len(own):,} of {how_many(count, 'image')}"
    if alphas:
        said += f", in {alphas:,} of them {worded(alphas, 'its', 'their')} transparency"
    rest = count - len(own)
    if rest:
        said += (
            f"; {rest:,} {worded(rest, 'has none and counts', 'have none and count')} as a whole"
        )
    return found, faults, f"{said}."


def _found(
    example: Masked, folder: Path | None, root: Path, known: Mapping[str, str]
) -> tuple[Mask | None, str]:
    """Return an image's mask, or why it can't be used."""
    if folder is not None:
        path = mask_in(folder, example.path.name)
    else:
        name = known.get(_name(example.path, root))
        path = root / name if name else None
    try:
        if path is None:
            if folder is not None or read_alpha(example.path) is None:
                return None, ""
            mask = Mask(example.path, example.hash, True)
        else:
            mask = Mask(path, content_hash(path))
        read = mask.read()
    except decoding_errors() as error:
        return None, f"its mask {path.name if path else ''} can't be read ({error})"
    if of_another_shape(read.size, (example.size.width, example.size.height)):
        return None, (
            f"its mask has {read.width} x {read.height} pixels, the image {example.size}: "
            "another shape"
        )
    if read.getextrema()[1] == 0:
        return None, "its mask is black all over"
    return mask, ""


def _name(path: Path, root: Path) -> str:
    try:
        return path.relative_to(root).as_posix()
    except ValueError:
        return path.name


class Masked(Protocol):
    """A training image, as far as masks are concerned."""

    @property
    def path(self) -> Path:
        """Its file."""

    @property
    def hash(self) -> str:
        """SHA-256 of the file's bytes."""

    @property
    def size(self) -> Size:
        """In pixels."""

    @property
    def mask(self) -> Mask | None:
        """What of it counts."""


class MaskWeights:
    """Weights of the loss for items, by latent size; each is made once and kept."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str, tuple[int, int]], Tensor] = {}

    def __call__(
        self, items: Sequence[tuple[Masked, Crop]], latent: tuple[int, int]
    ) -> Tensor | None:
        """Return the share of each latent cell that the masks of items cover.

        Args:
            items: Images with their crops, of one size.
            latent: Height and width of the latents.

        Returns:
            ``(n, 1, height, width)`` from 0 to 1, ones for items without a mask; ``None`` where no
            item has one.

        Raises:
            LostMaskError: A mask can't be read any more.
        """
        import torch

        if not any(example.mask for example, _ in items):
            return None
        rows = []
        for example, crop in items:
            if example.mask is None:
                rows.append(torch.ones(latent))
                continue
            key = (example.mask.hash, crop.key, latent)
            if key not in self._known:
                self._known[key] = _weights(example.mask, example.size, crop, latent)
            rows.append(self._known[key])
        return torch.stack(rows)[:, None]


def _weights(mask: Mask, image: Size, crop: Crop, latent: tuple[int, int]) -> Tensor:
    import torch
    from PIL import Image

    try:
        whole = mask.read()
    except decoding_errors() as error:
        raise LostMaskError(mask.path, error) from error
    if whole.size != (image.width, image.height):
        whole = whole.resize((image.width, image.height), Image.Resampling.BILINEAR)
    size = (crop.size.width, crop.size.height)
    part = whole.resize(size, Image.Resampling.BILINEAR, box=crop.box)
    values = torch.from_numpy(np.array(part, dtype=np.float32) / 255)
    return torch.nn.functional.interpolate(values[None, None], size=latent, mode="area")[0, 0]
