"""Which LoRA files were trained on a dataset, as their own headers say."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..reading.texts import UnreadCaptionError
from .facts import fingerprint_of_captioned
from .images import image_names
from .sidecars import read_caption, read_metadata

SUFFIX = ".safetensors"


@dataclass(frozen=True)
class TrainedLora:
    """A LoRA file that says what it was trained on.

    Attributes:
        file: The file.
        said: The number of the version, as its header says it; ``None`` in older files.
        version_fingerprint: Of that version's whole content; empty in older files.
        dataset_fingerprint: Of the images and captions.
        altered: How many images and captions of the version were not as it was exported.
    """

    file: Path
    said: int | None
    version_fingerprint: str
    dataset_fingerprint: str
    altered: int = 0


def find_loras(
    place: Path, more: Sequence[Path] = ()
) -> tuple[tuple[TrainedLora, ...], tuple[Path, ...]]:
    """Find LoRA files beside a dataset, in the folders there, in the current one, and below others.

    Args:
        place: The dataset.
        more: Folders to search with all below them.

    Returns:
        The files that say what they were trained on, by name; and the folders that were searched.
    """
    paths = {path.resolve() for path in _near(place.parent)}
    paths |= {path.resolve() for path in _files(Path.cwd(), "*")}
    for folder in more:
        paths |= {path.resolve() for path in _files(folder, "**/*")}
    found = [lora for path in sorted(paths) if (lora := _read(path)) is not None]
    searched = dict.fromkeys(folder.resolve() for folder in (place.parent, Path.cwd(), *more))
    return tuple(found), tuple(searched)


def training_fingerprint(folder: Path, digests: Mapping[str, str]) -> str:
    """Return what a LoRA's header would call the images and captions of a whole version.

    It is :func:`.facts.fingerprint`, of what the version's list of checksums says.

    Args:
        folder: The version's.
        digests: SHA-256 of each file, by name.
    """
    known, pairs = read_metadata(folder), []
    for name in image_names(digests):
        try:
            caption = read_caption(folder / name, known.get(name, {}))
        except UnreadCaptionError:
            continue  # it is left out of a training
        if caption:
            pairs.append((digests[name], caption))
    return fingerprint_of_captioned(pairs)


def _near(folder: Path) -> Iterator[Path]:
    yield from _files(folder, "*")
    yield from _files(folder, "*/*")


def _files(folder: Path, pattern: str) -> Iterator[Path]:
    for path in folder.glob(f"{pattern}{SUFFIX}"):
        if not path.name.startswith(".") and path.is_file():
            yield path


def _read(path: Path) -> TrainedLora | None:
    from ..lora.header import metadata_in_file, read_origin

    origin = read_origin(metadata_in_file(path))
    if not origin.dataset_fingerprint:
        return None
    return TrainedLora(
        path, origin.version, origin.version_fingerprint, origin.dataset_fingerprint, origin.altered
    )
