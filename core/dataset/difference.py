"""What changed from one version of a dataset to another: images, captions, scores, settings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import polars as pl

from ..damages import note_damage
from ..parquet import ParquetError, read_parquet
from ..reading.texts import UnreadCaptionError
from ..rejection_reasons import in_words
from .publish import damage
from .setting_changes import SettingChange, setting_changes
from .sidecars import read_caption
from .version_list import LATEST, Version, find_version, place_of

PROVENANCE_FILE = "provenance.parquet"
SCORES: Mapping[str, str] = {
    "quality_score": "quality",
    "sharpness": "sharpness",
    "contrast": "contrast",
    "confidence": "confidence",
    "face_confidence": "confidence of the face",
    "identity_similarity": "similarity to the character",
}
"""Scores that are compared, and what people call them."""

NOT_A_CANDIDATE = "not among the candidates"


@dataclass(frozen=True)
class MovedImage:
    """An image that only one of two versions holds.

    Attributes:
        name: Its file.
        why: Why the other version does not hold it, as far as its table of candidates says.
        quality: Its quality score; ``None`` without one.
    """

    name: str
    why: str
    quality: float | None


@dataclass(frozen=True)
class PairedImage:
    """An image of both versions.

    Attributes:
        before: Its file in the first version.
        after: Its file in the second.
    """

    before: str
    after: str


@dataclass(frozen=True)
class CaptionChange:
    """A caption that was changed.

    Attributes:
        image: The pair of files.
        before: The caption in the first version.
        after: The caption in the second.
    """

    image: PairedImage
    before: str
    after: str


@dataclass(frozen=True)
class ScoreChange:
    """A score that came out otherwise.

    Attributes:
        image: The pair of files.
        score: A key of :data:`SCORES`.
        before: Its value in the first version; ``None`` where it has none.
        after: Its value in the second.
    """

    image: PairedImage
    score: str
    before: float | None
    after: float | None

    @property
    def step(self) -> float:
        """How much it changed; infinite where one of the versions has no value."""
        if self.before is None or self.after is None:
            return float("inf")
        return abs(self.after - self.before)


@dataclass(frozen=True)
class Difference:
    """What changed from one version to another.

    Attributes:
        before: The first version.
        after: The second.
        entered: Images that only the second holds.
        left: Images that only the first holds.
        same: Images that both hold, byte for byte.
        redrawn: Images of one name with other bytes.
        captions: Captions that were changed, of images of both.
        scores: Scores that came out otherwise, of images of both, the largest steps first.
        settings: Thresholds, models and other settings that were changed.
        damaged: Files of each that are gone or changed since its export.
    """

    before: Version
    after: Version
    entered: tuple[MovedImage, ...]
    left: tuple[MovedImage, ...]
    same: tuple[PairedImage, ...]
    redrawn: tuple[PairedImage, ...]
    captions: tuple[CaptionChange, ...]
    scores: tuple[ScoreChange, ...]
    settings: tuple[SettingChange, ...]
    damaged: tuple[tuple[str, ...], tuple[str, ...]] = ((), ())

    @property
    def is_equal(self) -> bool:
        """Whether both versions are the same, file by file, as they were exported."""
        return self.before.fingerprint == self.after.fingerprint

    @property
    def files(self) -> tuple[str, ...]:
        """Files with other bytes, or of only one version, beside images and their captions."""
        one, other = self.before.digests, self.after.digests
        images = {*self.before.images, *self.after.images}
        captions = {str(PurePosixPath(name).with_suffix(".txt")) for name in images}
        names = {*one, *other} - images - captions
        return tuple(sorted(name for name in names if one.get(name) != other.get(name)))

    def as_mapping(self) -> dict[str, Any]:
        """Return everything as JSON knows it."""
        return {
            "before": _told(self.before, self.damaged[0]),
            "after": _told(self.after, self.damaged[1]),
            "equal": self.is_equal,
            "same": len(self.same),
            "files": list(self.files),
            **{
                key: [asdict(one) for one in getattr(self, key)]
                for key in ("entered", "left", "redrawn", "captions", "scores", "settings")
            },
        }


def diff(
    before: str | int | Path, after: str | int | Path, dataset: Path | str | None = None
) -> Difference:
    """Say what changed from one version of a dataset to another.

    Images are compared by their bytes: one with another name is the same image. Versions of two
    datasets can be compared too.

    Args:
        before: A version: its number, ``latest``, or its folder.
        after: Another one.
        dataset: The dataset that numbers are of; unless given, that of the other version, where
            that is named by its folder.

    Raises:
        NoSuchVersionError: One of them is not kept, or it is not said of which dataset.
        NotADatasetError: The dataset is none.
    """
    one = find_version(before, dataset if dataset is not None else _place(after))
    other = find_version(after, dataset if dataset is not None else _place(before))
    same, redrawn, left, entered = _paired(one, other)
    known, told = one.metadata(), other.metadata()
    pairs = (*same, *redrawn)
    return Difference(
        before=one,
        after=other,
        entered=_moved(entered, told, one),
        left=_moved(left, known, other),
        same=same,
        redrawn=redrawn,
        captions=tuple(_captions(pairs, one, other, known, told)),
        scores=tuple(sorted(_scores(pairs, known, told), key=lambda c: (-c.step, c.image.after))),
        settings=setting_changes(one, other),
        damaged=(_damaged(one), _damaged(other)),
    )


def _place(name: str | int | Path) -> Path | None:
    text = str(name)
    return None if text == LATEST or text.isdecimal() else place_of(text)


def _paired(
    one: Version, other: Version
) -> tuple[tuple[PairedImage, ...], tuple[PairedImage, ...], list[str], list[str]]:
    """Pair images by their bytes, then by their names; return what is left of both as well."""
    left = {name: one.digests[name] for name in one.images}
    entered = {name: other.digests[name] for name in other.images}
    same: list[PairedImage] = []

    def pair(before: str, after: str, found: list[PairedImage]) -> None:
        found.append(PairedImage(before, after))
        del left[before], entered[after]

    for name in [name for name, digest in entered.items() if left.get(name) == digest]:
        pair(name, name, same)
    by_digest: dict[str, list[str]] = {}
    for name, digest in left.items():
        by_digest.setdefault(digest, []).append(name)
    for name, digest in list(entered.items()):
        if by_digest.get(digest):
            pair(by_digest[digest].pop(0), name, same)
    redrawn: list[PairedImage] = []
    for name in [name for name in entered if name in left]:
        pair(name, name, redrawn)
    same.sort(key=lambda image: image.after)
    return tuple(same), tuple(redrawn), sorted(left), sorted(entered)


def _moved(
    names: list[str], known: Mapping[str, Mapping[str, Any]], other: Version
) -> tuple[MovedImage, ...]:
    """Say of images why the other version does not hold them."""
    outcomes = _outcomes(other) if names else None
    moved = []
    for name in names:
        row = known.get(name, {})
        why = ""
        if outcomes is not None:
            keys = (row.get("source_hash") or row.get("hash"), row.get("source"))
            why = next((outcomes[key] for key in keys if key in outcomes), NOT_A_CANDIDATE)
        moved.append(MovedImage(name, why, _number(row.get("quality_score"))))
    return tuple(moved)


def _outcomes(version: Version) -> dict[Any, str] | None:
    """Return what became of each candidate of a version, by its hash and by its path."""
    try:
        table = read_parquet(version.folder / PROVENANCE_FILE)
        rows = table.select("path", "hash", "outcome", "rejection", "rejection_detail").rows()
    except (OSError, ParquetError, pl.exceptions.PolarsError):
        return None
    found: dict[Any, str] = {}
    for path, digest, outcome, rejection, detail in rows:
        text = str(outcome) if rejection is None else in_words(rejection)
        if rejection is not None and detail:
            text += f" ({detail})"
        for key in (path, digest):
            if key is not None:
                found.setdefault(key, text)
    return found


def _captions(
    pairs: tuple[PairedImage, ...],
    one: Version,
    other: Version,
    known: Mapping[str, Mapping[str, Any]],
    told: Mapping[str, Mapping[str, Any]],
) -> Iterator[CaptionChange]:
    for image in pairs:
        before = _caption(one, image.before, known.get(image.before, {}))
        after = _caption(other, image.after, told.get(image.after, {}))
        if before != after:
            yield CaptionChange(image, before, after)


def _caption(version: Version, name: str, known: Mapping[str, Any]) -> str:
    try:
        return read_caption(version.folder / name, known)
    except UnreadCaptionError:
        return "(in an encoding that is not recognised)"


def _scores(
    pairs: tuple[PairedImage, ...],
    known: Mapping[str, Mapping[str, Any]],
    told: Mapping[str, Mapping[str, Any]],
) -> Iterator[ScoreChange]:
    for image in pairs:
        row, now = known.get(image.before, {}), told.get(image.after, {})
        for score in SCORES:
            before, after = _number(row.get(score)), _number(now.get(score))
            if before != after:
                yield ScoreChange(image, score, before, after)


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _damaged(version: Version) -> tuple[str, ...]:
    """Return what of a version is gone or changed; an image that versions share is not gone."""
    found = tuple(
        name
        for name in damage(version.folder)
        if (version.folder / name).is_file() or not version.file(name).is_file()
    )
    note_damage(
        f"files of version {version.number}", version.folder, "left as they are", len(found)
    )
    return found


def _told(version: Version, damaged: tuple[str, ...]) -> dict[str, Any]:
    return {
        "number": version.number,
        "folder": str(version.folder),
        "time": version.time,
        "fingerprint": version.fingerprint,
        "images": len(version.images),
        "damaged": list(damaged),
    }
