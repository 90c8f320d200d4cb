"""What is trained on: images with captions, read from a dataset or any folder."""

from __future__ import annotations

from collections.abc import Collection, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from ...counts import how_many, worded
from ...dataset.sidecars import read_metadata
from ...errors import CuratorError
from ...reading.concepts import Concept, concept_above
from ...reading.folders import Listing, list_sources, packed_in
from ...reading.own import own_in_words
from ...reading.rows import caption_notes, concept_notes
from ...reading.texts import (
    UTF_8,
    Caption,
    UnreadCaptionError,
    beside,
    caption_file,
    leads_elsewhere,
)
from ..settings import TrainingSettings
from .buckets import Box, Crop, Size, choose_bucket, crop_to
from .controls import Control, ControlImagesError, control_crop, control_paths, read_controls
from .masks import Mask, find_masks

if TYPE_CHECKING:
    from ...analysis.decoding import Pixels

Decoded: TypeAlias = "MutableMapping[str, Pixels]"
"""Pixels of examples, as of ``read_image``, by the hash of their file."""

DECODED_BYTES = 1 << 29
_FAR = 1e6
"""How many bytes of pixels are kept until they are encoded; the rest is decoded again."""


class TrainingFolderError(CuratorError):
    """The folder to train on is absent, or cannot be read."""

    def __init__(self, folder: Path, error: OSError) -> None:
        super().__init__(
            f"The dataset {folder} cannot be read: {error.strerror or error}. Name its folder."
        )


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
            f"{how_many(count, 'usable image')}, and {needed} {worded(needed, 'is', 'are')} needed "
            "at least: some to train on, and unless validation_share is 0, one to validate with. "
            "Add images." + (f" Left out were:{reasons}" if reasons else "")
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
        repeats: How often an epoch shows it, times what the settings say: its folder's
            (``10_char1 woman``).
        controls: Control images, which an edit model is shown with the caption.
        mask: What of it the loss counts, where not all of it.
    """

    path: Path
    hash: str
    caption: str
    size: Size
    face: Box | None = None
    prior: bool = False
    repeats: int = 1
    controls: tuple[Control, ...] = ()
    mask: Mask | None = None

    def crop(self, settings: TrainingSettings) -> Crop:
        """Return the part of the image that a run with these settings sees, at its largest."""
        return self.crops(settings)[-1]

    def crops(self, settings: TrainingSettings) -> tuple[Crop, ...]:
        """Return that at every resolution, ascending; one that is too small has fewer sizes."""
        return tuple(dict.fromkeys(self.crop_at(side, settings) for side in settings.sides))

    def crop_at(self, side: int, settings: TrainingSettings) -> Crop:
        """Return that at one resolution, whatever the settings' own."""
        bucket = choose_bucket(self.size, side, settings.bucket_step, upscale=settings.upscale)
        crop = crop_to(self.size, bucket, self.face if settings.crop == "face" else None)
        step = settings.bucket_step
        shown = tuple(control_crop(one, self.size, crop, step) for one in self.controls)
        return replace(crop, controls=shown) if shown else crop


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
    notes: list[str] | None = None,
    controls: Path | None = None,
    only: Collection[str] | None = None,
    masks: Path | str | None = None,
) -> tuple[list[Example], list[Skipped]]:
    """Read the images of a folder, in the order of their names.

    The caption of ``IMAGE.png`` is ``IMAGE.txt`` or ``IMAGE.caption``, else what ``metadata.json``
    says, else ``caption``, else what its folder is called (``10_char1 woman``: ten repeats of
    "char1 woman"). Boxes of faces come from ``metadata.json``. Every file is read and decoded once,
    so a damaged one is known here; it is left out, as is one without a caption.

    Args:
        folder: An exported dataset, or any folder of images; subfolders are read too.
        caption: For images that have none; the class prompt of prior-preservation images.
        prior: What :attr:`Example.prior` shall be.
        decoded: Takes the examples' pixels (as of ``read_image``) by their hash, for whoever
            encodes them next; those beyond :data:`DECODED_BYTES` are not kept.
        notes: Takes what is to be said of how the folder was read, a sentence each.
        controls: Folder of control images, see :func:`.controls.control_paths`; may be the folder
            itself, whose control images are then no images of their own. What has none is left out.
        only: Names of the images to read; all unless given.
        masks: ``beside`` takes the masks that lie beside the images, or their transparency; or a
            folder that holds them under the images' names. Masks beside images are never images of
            their own.

    Returns:
        The examples, and what was left out with its reason.

    Raises:
        NoCaptionsError: There are images, and none of them has a caption.
        TooFewImagesError: There is no readable image.
        ControlImagesError: Control images are asked for, and no image has one.
        MasksError: Masks are asked for, and no image has one.
    """
    from ...analysis.decoding import decode_ahead

    root = Path(folder).expanduser()
    known = read_metadata(root)
    listing = _of_these(_listed(root), only)
    root = listing.root  # of a folder of shards: where they are unpacked
    paths = [root / name for name in listing.names]
    found = {} if controls is None else control_paths(paths, root, controls.expanduser())
    shown = {path for several in found.values() for path in several}
    names = [name for name in listing.names if root / name not in shown]
    paths = [root / name for name in names]
    told = [known.get(name) or known.get(Path(name).name, {}) for name in names]
    concepts = [concept_above(name, root.resolve().name) for name in names]
    written = [_written(path) for path in paths]
    captions = [_caption_of(*each, caption) for each in zip(written, told, concepts, strict=True)]
    if paths and not any(captions):
        raise NoCaptionsError(root)
    if notes is not None:
        notes += _notes(listing, written, concepts)
    examples: list[Example] = []
    skipped: list[Skipped] = []
    free = 0 if decoded is None else DECODED_BYTES - sum(p.nbytes for p in decoded.values())
    files = decode_ahead(paths, lambda pixels: Size(pixels.shape[1], pixels.shape[0]), hashed=True)
    for path, words, file, entry, concept in zip(
        paths, captions, files, told, concepts, strict=True
    ):
        if file.image is None or file.found is None:
            skipped.append(Skipped(path, file.reason))
        elif not words:
            skipped.append(Skipped(path, _no_caption(path)))
        else:
            repeats = _repeats(entry, concept)
            examples.append(
                Example(path, file.digest, words, file.found, _face(entry), prior, repeats)
            )
            if decoded is not None and file.image.nbytes <= free and file.digest not in decoded:
                decoded[file.digest] = file.image
                free -= file.image.nbytes
    if not examples:
        raise TooFewImagesError(0, 1, skipped)
    if controls is not None:
        examples, without = _with_controls(examples, found, controls)
        skipped += without
    if masks is not None:
        own, faults, said = find_masks(examples, masks, root, listing.masks)
        skipped += [Skipped(path, reason) for path, reason in faults.items()]
        examples = [
            example if mask is None else replace(example, mask=mask)
            for example, mask in zip(examples, own, strict=True)
            if example.path not in faults
        ]
        if not examples:
            raise TooFewImagesError(0, 1, skipped)
        if notes is not None:
            notes.append(said)
    elif listing.masks and notes is not None:
        notes.append(
            f"{how_many(len(listing.masks), 'mask lies', 'masks lie')} beside the images and "
            f"{worded(len(listing.masks), 'does', 'do')} not weigh the loss; masks = "
            f"'beside' (--masks beside) makes {worded(len(listing.masks), 'it', 'them')}."
        )
    return examples, skipped


def _with_controls(
    examples: Sequence[Example], found: Mapping[Path, Sequence[Path]], folder: Path
) -> tuple[list[Example], list[Skipped]]:
    """Give each example its control images, and leave out those that have none."""
    wanted = [path for example in examples for path in found.get(example.path, ())]
    read, faults = read_controls(wanted)
    whole: list[Example] = []
    skipped: list[Skipped] = []
    for example in examples:
        own = found.get(example.path, ())
        broken = [path for path in own if path in faults]
        if broken:
            reason = f"its control image {broken[0].name}: {faults[broken[0]]}"
            skipped.append(Skipped(example.path, reason))
        elif not own:
            skipped.append(Skipped(example.path, "no control image"))
        else:
            whole.append(replace(example, controls=tuple(read[path] for path in own)))
    if not whole:
        raise ControlImagesError(
            f"No image of {examples[0].path.parent} has a readable control image in {folder}. Name "
            f"those of NAME.png NAME.png in a folder of their own, or NAME_control.png beside it. "
            f"Left out: {'; '.join(f'{s.path.name}: {s.reason}' for s in skipped[:5])}."
        )
    return whole, skipped


def as_prior(examples: Sequence[Example]) -> list[Example]:
    """Mark examples as prior-preservation images."""
    return [replace(example, prior=True) for example in examples]


def _listed(root: Path) -> Listing:
    try:
        if not root.is_dir():
            raise NotADirectoryError("there is no such folder")
        return list_sources(packed_in(root))
    except OSError as error:
        raise TrainingFolderError(root, error) from error


def _of_these(listing: Listing, names: Collection[str] | None) -> Listing:
    if names is None:
        return listing
    return replace(listing, names=tuple(name for name in listing.names if name in set(names)))


def _written(path: Path) -> Caption | CuratorError | None:
    """Return the caption beside an image, or why it cannot be read."""
    try:
        return beside(path)
    except UnreadCaptionError as error:
        return error
    except OSError:
        return None


def _caption_of(
    written: Caption | CuratorError | None,
    told: dict[str, Any],
    concept: Concept | None,
    given: str | None,
) -> str:
    """Return an image's caption; none where somebody's own is there and cannot be read."""
    if isinstance(written, CuratorError):
        return ""
    if written is not None:
        return written.text or (given or "").strip()
    known = " ".join(str(told.get("caption") or "").split())
    return known or (given or "").strip() or (concept.phrase if concept else "")


def _no_caption(path: Path) -> str:
    file = caption_file(path)
    if file and leads_elsewhere(file, path):
        return f"its caption {file.name} is a link out of its folder"
    return f"its caption {file.name} is empty or in an unknown encoding" if file else "no caption"


def _notes(
    listing: Listing,
    written: Sequence[Caption | CuratorError | None],
    concepts: Sequence[Concept | None],
) -> list[str]:
    """Say what of a folder is read in a way that may surprise, and what is not."""
    captions = [one for one in written if isinstance(one, Caption)]
    faults = [str(one) for one in written if isinstance(one, CuratorError)]
    odd = faults or any(one.encoding != UTF_8 or one.file.suffix != ".txt" for one in captions)
    notes = caption_notes([one.encoding for one in captions], faults) if odd else []
    notes += concept_notes(concepts)
    notes += listing.notes
    if own := own_in_words(listing.own):
        notes.append(own)
    below = sum("/" in name for name in listing.names)
    if below and not any(concepts):
        notes.append(
            f"{below:,} of {how_many(len(listing.names), 'image')} {worded(below, 'lies', 'lie')} "
            f"in subfolders; {worded(below, 'it is', 'they are')} trained on too."
        )
    return notes


def _repeats(told: dict[str, Any], concept: Concept | None) -> int:
    said = told.get("repeats")
    if isinstance(said, int) and not isinstance(said, bool) and said > 0:
        return said
    return concept.repeats if concept else 1


def _face(known: dict[str, Any]) -> Box | None:
    box = known.get("face_box")
    if not isinstance(box, list) or len(box) != 4:
        return None
    if not all(isinstance(edge, int | float) and -_FAR < edge < _FAR for edge in box):
        return None
    left, top, right, bottom = (float(edge) for edge in box)
    return (left, top, right, bottom) if right > left and bottom > top else None
