"""What is trained on: images with captions, read from a dataset or any folder."""

from __future__ import annotations

from collections.abc import MutableMapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from ...dataset.sidecars import read_caption, read_metadata
from ...errors import CuratorError
from ...imageset import IMAGE_SUFFIXES
from ..settings import TrainingSettings
from .buckets import Box, Crop, Size, choose_bucket, crop_to

if TYPE_CHECKING:
    from ...analysis.decoding import Pixels

Decoded: TypeAlias = "MutableMapping[str, Pixels]"
"""Pixels of examples, as of ``read_image``, by the hash of their file."""

DECODED_BYTES = 1 << 29
"""How many bytes of pixels are kept until they are encoded; the rest is decoded again."""


class NoCaptionsError(CuratorError):
    """Not one image of a dataset has a caption."""

    def __init__(self, folder: Path) -> None:
        super().__init__(
            f"No image in {folder} has a caption. Write one into a text file beside each image "
            "(IMAGE.txt for IMAGE.png), export the dataset again, or give one caption for all."
        )


class TooFewImagesError(CuratorError):
    """There are fewer images than a training run needs."""

    def __init__(self, count: int, needed: int, skipped: Sequence[Skipped] = ()) -> None:
        reasons = "".join(f"\n  {s.path.name}: {s.reason}" for s in skipped)
        super().__init__(
            f"{count} usable image{'' if count == 1 else 's'}, and {needed} are needed at least: "
            "some to train on, and unless validation_share is 0, one to validate with. Add "
            "images." + (f" Left out were:{reasons}" if reasons else "")
        )


@dataclass(frozen=True)
class Example:
    """One image to train on or to validate with.

    Attributes:
        path: Its file.
        hash: SHA-256 of the file's bytes.
        caption: What it shows.
        size: In pixels.
        face: Box of the face, if known.
        prior: Whether it preserves what the model knows of the class, and is not the subject.
    """

    path: Path
    hash: str
    caption: str
    size: Size
    face: Box | None = None
    prior: bool = False

    def crop(self, settings: TrainingSettings) -> Crop:
        """Return the part of the image that a run with these settings sees."""
        bucket = choose_bucket(
            self.size, settings.resolution, settings.bucket_step, upscale=settings.upscale
        )
        return crop_to(self.size, bucket, self.face if settings.crop == "face" else None)


@dataclass(frozen=True)
class Skipped:
    """A file that is not trained on, and why."""

    path: Path
    reason: str


def read_examples(
    folder: Path | str,
    *,
    caption: str | None = None,
    prior: bool = False,
    decoded: Decoded | None = None,
) -> tuple[list[Example], list[Skipped]]:
    """Read the images of a folder, in the order of their names.

    The caption of ``IMAGE.png`` is ``IMAGE.txt``, else what ``metadata.json`` says, else
    ``caption``. Boxes of faces come from ``metadata.json``. Every file is read and decoded once, so
    a damaged one is known here; it is left out, as is one without a caption.

    Args:
        folder: An exported dataset, or any folder of images.
        caption: For images that have none; the class prompt of prior-preservation images.
        prior: What :attr:`Example.prior` shall be.
        decoded: Takes the examples' pixels (as of ``read_image``) by their hash, for whoever
            encodes them next; those beyond :data:`DECODED_BYTES` are not kept.

    Returns:
        The examples, and what was left out with its reason.

    Raises:
        NoCaptionsError: There are images, and none of them has a caption.
        TooFewImagesError: There is no readable image.
    """
    from ...analysis.decoding import decode_ahead

    root = Path(folder).expanduser()
    known = read_metadata(root)
    paths = _images(root)
    captions = [
        read_caption(path, known.get(path.name, {})) or (caption or "").strip() for path in paths
    ]
    if paths and not any(captions):
        raise NoCaptionsError(root)
    examples: list[Example] = []
    skipped: list[Skipped] = []
    free = 0 if decoded is None else DECODED_BYTES - sum(p.nbytes for p in decoded.values())
    files = decode_ahead(paths, lambda pixels: Size(pixels.shape[1], pixels.shape[0]), hashed=True)
    for path, words, file in zip(paths, captions, files, strict=True):
        if file.image is None or file.found is None:
            skipped.append(Skipped(path, file.reason))
        elif not words:
            skipped.append(Skipped(path, "no caption"))
        else:
            face = _face(known.get(path.name, {}))
            examples.append(Example(path, file.digest, words, file.found, face, prior))
            if decoded is not None and file.image.nbytes <= free and file.digest not in decoded:
                decoded[file.digest] = file.image
                free -= file.image.nbytes
    if not examples:
        raise TooFewImagesError(0, 1, skipped)
    return examples, skipped


def as_prior(examples: Sequence[Example]) -> list[Example]:
    """Mark examples as prior-preservation images."""
    return [replace(example, prior=True) for example in examples]


def _images(root: Path) -> list[Path]:
    try:
        found = [
            path
            for path in root.iterdir()
            if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")
        ]
    except OSError as error:
        raise CuratorError(
            f"The dataset {root} cannot be read: {error.strerror or error}. Name its folder."
        ) from error
    return sorted(found, key=lambda path: path.name)


def _face(known: dict[str, Any]) -> Box | None:
    box = known.get("face_box")
    if not isinstance(box, list) or len(box) != 4:
        return None
    left, top, right, bottom = (float(edge) for edge in box)
    return (left, top, right, bottom) if right > left and bottom > top else None
