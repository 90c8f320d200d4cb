"""Bring an earlier version of a dataset back: a new version, equal to the old file by file."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..counts import worded
from ..damages import note_damage
from ..errors import CuratorError
from ..imageset import content_hash
from ..naming import first_of
from ..progress import Progress, silent
from .checksums import write_list
from .images import SUFFIXES, link_or_copy
from .publish import next_version, publish, staging, version_of
from .shared_images import share_images
from .verdict import ADDED_TO, exported_bytes
from .version_list import NoSuchVersionError, Version, find_version, kept_versions, place_of
from .version_record import new_record, write_record


class VersionDamagedError(CuratorError):
    """Files of a version are gone or changed, and no other version has them."""

    def __init__(self, version: Version, lost: Sequence[str]) -> None:
        listed = first_of(lost, 10)
        super().__init__(
            f"Version {version.number} of {version.place} is not whole: {len(lost):,} of its files "
            f"{worded(len(lost), 'is', 'are')} gone or changed, and no other version has "
            f"{worded(len(lost), 'it', 'them')} ({listed}). Nothing was changed. "
            "Put the files back, or make the version again from its recipe: character-curator "
            f"reproduce {version.folder} --output FOLDER"
        )


@dataclass(frozen=True)
class Restored:
    """A version that was brought back.

    Attributes:
        folder: The dataset.
        version: The number of the new version; where nothing had to be done, the newest's.
        source: The number of the version that it equals.
        previous: Where the version before is kept now; ``None`` if nothing had to be done.
        fingerprint: Of the whole content: the same as the old one's.
        unchanged: The newest version was equal already, and was left as it is.
        damaged: Files of the version before that were gone or changed since its export.
        elsewhere: Files that were damaged in the old version and were taken from another one.
    """

    folder: Path
    version: int
    source: int
    previous: Path | None
    fingerprint: str
    unchanged: bool
    damaged: tuple[str, ...] = ()
    elsewhere: tuple[str, ...] = ()

    def as_mapping(self) -> dict[str, Any]:
        """Return it as JSON knows it."""
        values = asdict(self) | {"folder": str(self.folder)}
        return values | {"previous": None if self.previous is None else str(self.previous)}


def restore(
    dataset: Path | str, version: str | int | Path, *, progress: Progress = silent
) -> Restored:
    """Make a new version of a dataset that is equal to an old one; nothing is overwritten.

    Every file is compared with the old version's list of checksums on the way. What is damaged
    there is taken from another version that has the same content, if one does. Verdicts and
    sign-offs stay with the old version.

    Args:
        dataset: Its folder, which may be gone while older versions are kept beside it.
        version: The old version's number, ``latest``, or its folder.
        progress: Watches.

    Raises:
        NotADatasetError: There is no version.
        NoSuchVersionError: The version is not kept, or is one of another dataset.
        VersionDamagedError: Its content is not to be had any more.
        OutputError: The place cannot be used.
        DiskFullError: The disk is full; nothing is left behind.
    """
    place = place_of(dataset)
    kept_versions(place)
    with staging(place) as folder:
        old = find_version(version, place)
        if old.place != place:
            raise NoSuchVersionError(
                f"{version} is no version of {place}. 'character-curator versions {place}' lists "
                "those that are kept."
            )
        elsewhere = _fill(folder, old, progress)
        number, parent = next_version(place)
        models = None if old.record is None else old.record.models
        edits = None if old.record is None else old.record.edits
        write_record(
            folder,
            new_record(
                number, old.digests, parent=parent, restored=old.number, edits=edits, models=models
            ),
        )
        write_list(folder, old.digests)
        published = publish(folder, place)
        share_images(place)
    return Restored(
        folder=place,
        version=version_of(place),
        source=old.number,
        previous=published.previous,
        fingerprint=old.fingerprint,
        unchanged=published.unchanged,
        damaged=published.damaged,
        elsewhere=elsewhere,
    )


def _fill(folder: Path, old: Version, progress: Progress) -> tuple[str, ...]:
    """Write the files of a version into an empty folder; return those that another one gave."""
    if not old.digests:
        raise VersionDamagedError(old, ["SHA256SUMS"])
    holders: dict[str, list[Path]] = {}
    for version in kept_versions(old.place):
        for name, digest in version.digests.items():
            holders.setdefault(digest, []).append(version.file(name))
    elsewhere, lost = [], []
    progress.start("Restoring", len(old.digests))
    for name, digest in old.digests.items():
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        own = old.file(name)
        places = [own, *(path for path in holders[digest] if path != own)]
        found = next((path for path in places if _bring(path, target, digest)), None)
        if found is None:
            lost.append(name)
        elif found != own:
            elsewhere.append(name)
        progress.advance(1, name)
    progress.finish()
    if lost:
        raise VersionDamagedError(old, lost)
    note_damage(
        f"files of version {old.number}", old.folder, "taken from another version", len(elsewhere)
    )
    return tuple(elsewhere)


def _bring(source: Path, target: Path, digest: str) -> bool:
    """Put a file at ``target`` if it is what the list says."""
    if not source.is_file():
        return False
    if target.name in ADDED_TO:
        target.write_bytes(exported_bytes(source))
    elif target.name.endswith(SUFFIXES):
        link_or_copy(source, target)
    else:
        shutil.copyfile(source, target)
    if content_hash(target) == digest:
        return True
    target.unlink()
    return False
