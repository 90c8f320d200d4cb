"""Every version of a dataset that is kept: which there are, what they hold, and how to name one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from functools import cached_property
from pathlib import Path
from typing import Any

from ..counts import worded
from ..errors import CuratorError
from ..reading.own import VERSIONS_SUFFIX, is_dataset, is_version_name
from .checksums import NotADatasetError, exported_checksums
from .images import image_names
from .publish import version_of
from .publish import versions as kept_folders
from .shared_images import stored_image
from .sidecars import RECIPE_FILE, read_metadata
from .trained_loras import TrainedLora, find_loras, training_fingerprint
from .version_record import VersionRecord, fingerprint_of, read_record

LATEST = "latest"
"""Names the newest version."""


class NoSuchVersionError(CuratorError):
    """A version is named that is not kept."""


@dataclass(frozen=True)
class Version:
    """A version of a dataset that is kept.

    Attributes:
        number: Its number.
        folder: Where it lies.
        place: Where the newest version lies.
        record: What it says of itself; ``None`` of a version that was exported before there were
            records, or whose record was edited.
        digests: SHA-256 of each file as it was exported, by name; empty without its list.
    """

    number: int
    folder: Path
    place: Path
    record: VersionRecord | None = None
    digests: Mapping[str, str] = field(default_factory=dict)

    @property
    def fingerprint(self) -> str:
        """Of the whole content; empty without its list of checksums."""
        return fingerprint_of(self.digests) if self.digests else ""

    @property
    def is_newest(self) -> bool:
        """Whether it is in the dataset's own place."""
        return self.folder == self.place

    @property
    def time(self) -> str:
        """When it was exported, in UTC, as ISO 8601: of an older version, when its recipe was."""
        if self.record is not None:
            return self.record.time
        for path in (self.folder / RECIPE_FILE, self.folder):
            if path.exists():
                moment = datetime.fromtimestamp(path.stat().st_mtime, timezone.utc)
                return moment.isoformat(timespec="seconds")
        return ""

    @property
    def images(self) -> tuple[str, ...]:
        """The names of its images."""
        return image_names(self.digests)

    @cached_property
    def training_fingerprint(self) -> str:
        """Of its images and captions alone, as a LoRA's header names them."""
        return training_fingerprint(self.folder, self.digests)

    def file(self, name: str) -> Path:
        """Return where a file of it lies: its own, or the one that several versions share."""
        path = self.folder / name
        stored = stored_image(self.place, self.digests.get(name, ""), name)
        return stored if not path.is_file() and stored.is_file() else path

    def metadata(self) -> dict[str, dict[str, Any]]:
        """Return what is known of each image, by file name."""
        return read_metadata(self.folder)


@dataclass(frozen=True)
class VersionSummary:
    """A line of the list of versions.

    Attributes:
        version: The version.
        quality: Mean quality of its images, between 0 and 1; ``None`` if they have none.
        size_bytes: Size of all its files.
        own_bytes: Size of those files that no other kept version has.
        loras: LoRA files that were trained on it, of those that were found.
    """

    version: Version
    quality: float | None
    size_bytes: int
    own_bytes: int
    loras: tuple[TrainedLora, ...] = ()

    def as_mapping(self) -> dict[str, Any]:
        """Return the line as JSON knows it."""
        record = self.version.record
        return {
            "number": self.version.number,
            "newest": self.version.is_newest,
            "folder": str(self.version.folder),
            "time": self.version.time,
            "fingerprint": self.version.fingerprint,
            "recorded": record is not None,
            "record": None if record is None else record.as_mapping(),
            "images": len(self.version.images),
            "quality": self.quality,
            "size_bytes": self.size_bytes,
            "own_bytes": self.own_bytes,
            "loras": [
                {"file": str(lora.file), "said": lora.said, "altered": lora.altered}
                for lora in self.loras
            ],
        }


@dataclass(frozen=True)
class VersionList:
    """The versions of a dataset, the oldest first.

    Attributes:
        place: Where the newest one lies.
        lines: A line a version.
        size_bytes: Size of all of them on disk; what several share counts once.
        looked_in: Folders that were searched for LoRA files.
    """

    place: Path
    lines: tuple[VersionSummary, ...]
    size_bytes: int
    looked_in: tuple[Path, ...]

    def as_mapping(self) -> dict[str, Any]:
        """Return the list as JSON knows it."""
        return {
            "dataset": str(self.place),
            "size_bytes": self.size_bytes,
            "looked_in": [str(folder) for folder in self.looked_in],
            "versions": [line.as_mapping() for line in self.lines],
        }


def place_of(folder: Path | str) -> Path:
    """Return where the newest version of a dataset lies.

    Args:
        folder: The dataset, or one of its kept versions.
    """
    place = Path(folder).expanduser().resolve()
    if is_version_folder(place):
        return place.parent.with_name(place.parent.name.removesuffix(VERSIONS_SUFFIX))
    return place


def is_version_folder(folder: Path) -> bool:
    """Whether a folder lies where earlier versions are kept: ``NAME.versions/v0001``."""
    place = folder.expanduser().resolve()
    return place.parent.name.endswith(VERSIONS_SUFFIX) and is_version_name(place.name)


def kept_versions(dataset: Path | str) -> tuple[Version, ...]:
    """Return the versions of a dataset that are kept, the oldest first.

    Args:
        dataset: Its folder, or that of one of its versions.

    Raises:
        NotADatasetError: There is none.
    """
    place = place_of(dataset)
    folders = [folder for folder in kept_folders(place) if is_dataset(folder)]
    if is_dataset(place):
        folders.append(place)
    if not folders:
        raise NotADatasetError(place, "list of checksums, and no version is kept beside it")
    return tuple(_read(folder, place) for folder in folders)


def find_version(name: str | int | Path, dataset: Path | str | None = None) -> Version:
    """Return a version by what people call it.

    Args:
        name: Its number, ``latest``, or its folder.
        dataset: The dataset that a number is of.

    Raises:
        NoSuchVersionError: It is not kept, or a number is of no dataset.
        NotADatasetError: The dataset is none.
    """
    text = str(name)
    if text != LATEST and not (text.isdecimal() and len(text) < 20):
        place = Path(text).expanduser().resolve()
        if not is_dataset(place):
            raise NoSuchVersionError(
                f"{name} is no version: neither a number, nor '{LATEST}', nor the folder of a "
                "dataset. 'character-curator versions DATASET' lists those that are kept."
            )
        return _read(place, place_of(place))
    if dataset is None:
        raise NoSuchVersionError(
            f"'{name}' is a version of which dataset? Name the dataset: --dataset FOLDER."
        )
    found = kept_versions(dataset)
    if text == LATEST:
        return found[-1]
    for version in found:
        if version.number == int(text):
            return version
    listed = ", ".join(str(version.number) for version in found)
    raise NoSuchVersionError(
        f"Version {text} of {place_of(dataset)} is not kept; {listed} "
        f"{worded(len(found), 'is', 'are')}. 'character-curator versions' lists them."
    )


def versions(dataset: Path | str, loras: Sequence[Path | str] = ()) -> VersionList:
    """List the versions of a dataset, with what they hold, take on disk, and served to train.

    Args:
        dataset: Its folder, or that of one of its versions.
        loras: Folders to search for LoRA files, with all below them; beside the dataset, in the
            folders there and in the current folder it is looked anyway.

    Raises:
        NotADatasetError: It is none.
    """
    found = kept_versions(dataset)
    place = found[0].place
    files, looked_in = find_loras(place, [Path(folder).expanduser() for folder in loras])
    sizes = [_sizes(version) for version in found]
    lines = []
    for number, version in enumerate(found):
        others = {key for n, size in enumerate(sizes) if n != number for key in size}
        scores = [
            float(row["quality_score"])
            for row in version.metadata().values()
            if isinstance(row.get("quality_score"), int | float)
        ]
        lines.append(
            VersionSummary(
                version,
                quality=sum(scores) / len(scores) if scores else None,
                size_bytes=sum(sizes[number].values()),
                own_bytes=sum(b for key, b in sizes[number].items() if key not in others),
            )
        )
    if files:
        lines = _with_loras(lines, files)
    whole = {key: size for one in sizes for key, size in one.items()}
    return VersionList(place, tuple(lines), sum(whole.values()), looked_in)


def trained_version(
    found: Sequence[Version], number: int | None, version_fingerprint: str, dataset_fingerprint: str
) -> Version | None:
    """Return the kept version that a LoRA was trained on, as its header says; ``None`` if unknown.

    Of several that are equal it is the one with the number that the header says, else the oldest.

    Args:
        found: The versions that are kept.
        number: Of the version; ``None`` in older files.
        version_fingerprint: Of the version's whole content; empty in older files.
        dataset_fingerprint: Of the images and captions.
    """
    equal = [one for one in found if version_fingerprint and one.fingerprint == version_fingerprint]
    if not equal and dataset_fingerprint:
        equal = [one for one in found if one.training_fingerprint == dataset_fingerprint]
    return next((one for one in equal if one.number == number), equal[0] if equal else None)


def _with_loras(
    lines: Sequence[VersionSummary], files: Sequence[TrainedLora]
) -> list[VersionSummary]:
    """Give each version the files that were trained on it."""
    kept = [line.version for line in lines]
    trained: dict[int, list[TrainedLora]] = {}
    for file in files:
        on = trained_version(kept, file.said, file.version_fingerprint, file.dataset_fingerprint)
        if on is not None:
            trained.setdefault(on.number, []).append(file)
    return [replace(one, loras=tuple(trained.get(one.version.number, ()))) for one in lines]


def _read(folder: Path, place: Path) -> Version:
    try:
        digests = exported_checksums(folder)
    except NotADatasetError:
        digests = {}
    return Version(version_of(folder), folder, place, read_record(folder), digests)


def _sizes(version: Version) -> dict[tuple[int, int], int]:
    """Return the size of each file of a version, by what identifies it on disk."""
    found = {}
    files = [path for path in version.folder.rglob("*") if path.is_file()]
    files += [path for name in version.digests if (path := version.file(name)).is_file()]
    for path in files:
        status = path.stat()
        found[status.st_dev, status.st_ino] = status.st_size
    return found
