"""What a dataset holds, read and measured anew: every check looks at this, and at nothing stored.

Files are read, hashed and decoded; records are read from the images themselves; faces, quality and
embeddings are measured from pixels into a store that is thrown away.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from ..dataset.checksums import Verification, exported_checksums, verify
from ..dataset.facts import RECIPE_FILE, DatasetFacts, read_facts
from ..dataset.sidecars import metadata_path, read_caption
from ..dataset.version_record import fingerprint_of
from ..defaults import (
    FACE_PACK,
    MINIMUM_CONFIDENCE,
    MINIMUM_FACE_SHARE,
    MINIMUM_FACE_SIDE,
    MINIMUM_QUALITY,
    SEED_DOCUMENT,
)
from ..errors import CuratorError
from ..features import FeatureStore
from ..imageset import ImageSet
from ..json_text import parse
from ..plain_files import plain_bytes, plain_text
from ..progress import Progress, silent
from ..reading.disturbances import DISTURBED
from ..reading.masks import without_masks
from ..reading.own import drawn_in
from ..toml_lines import read_tables

if TYPE_CHECKING:
    from ..analysis.face_validation import FaceThresholds

REAL = "real"
LINES_FILE, PROVENANCE_FILE = "metadata.jsonl", "provenance.parquet"


@dataclass(frozen=True)
class ImageFile:
    """An image of the dataset, as its file is now.

    Attributes:
        name: Its name in the dataset.
        hash: SHA-256 of the file's bytes; empty if it can't be read.
        width: Of the decoded image, in pixels.
        height: Of the decoded image, in pixels.
        problem: Why it can't be decoded; empty if it can.
        caption: What stands beside it; empty if nothing does.
        record: How it was generated, as the image itself says; ``None`` if it doesn't.
    """

    name: str
    hash: str
    width: int
    height: int
    problem: str
    caption: str
    record: Mapping[str, Any] | None

    @property
    def is_generated(self) -> bool:
        """Whether a model has made it, as far as the image itself says."""
        return self.record is not None


@dataclass(frozen=True)
class Evidence:
    """What a dataset holds.

    Attributes:
        folder: The dataset.
        facts: What it says of itself.
        recipe: What makes it again, as nested tables; empty if it says nothing.
        recipe_problem: Why the recipe can't be read; empty if it can.
        metadata: ``metadata.json``.
        lines: ``metadata.jsonl``, by file name.
        metadata_problems: What can't be read of the two, by file name.
        files: Every image file that is there, in the order of their names.
        expected: Names of images that metadata or the list of checksums name.
        checksums: Every file compared with the list.
        fingerprint: Of the list as it was exported.
        measured: What models see in the images now, a row a readable image with the columns of the
            analysis; ``None`` where the models are not here.
        measured_note: What was done otherwise than in the curation; empty if nothing was.
        measuring_problem: Why nothing could be measured; empty if it could.
    """

    folder: Path
    facts: DatasetFacts
    recipe: Mapping[str, Any]
    recipe_problem: str
    metadata: Mapping[str, Mapping[str, Any]]
    lines: Mapping[str, Mapping[str, Any]]
    metadata_problems: Mapping[str, str]
    files: tuple[ImageFile, ...]
    expected: frozenset[str]
    checksums: Verification
    fingerprint: str
    measured: pl.DataFrame | None = None
    measured_note: str = ""
    measuring_problem: str = ""

    @property
    def generated(self) -> tuple[ImageFile, ...]:
        """The images that a model has made, by themselves or by their row of the metadata.

        Disturbed copies are among them where what was disturbed is.
        """
        return tuple(
            f
            for f in self.files
            if f.is_generated or self.kind_of(f.name) not in (None, REAL, DISTURBED)
        )

    def kind_of(self, name: str) -> str | None:
        """Return what the metadata call the kind of an image."""
        kind = self.metadata.get(name, {}).get("type")
        return kind if isinstance(kind, str) else None

    @property
    def metadata_name(self) -> str:
        """What the file of metadata is called here."""
        return metadata_path(self.folder).name

    @property
    def minimum_quality(self) -> float:
        """The dataset's own quality threshold, else the seed document's."""
        known = self.facts.minimum_quality
        return MINIMUM_QUALITY if known is None else known

    @property
    def minimum_confidence(self) -> float:
        """The dataset's own threshold of the detector, else the seed document's."""
        known = self.facts.minimum_confidence
        return MINIMUM_CONFIDENCE if known is None else known

    def section(self, name: str) -> Mapping[str, Any]:
        """Return a table of the recipe; empty if it has none of that name."""
        value = self.recipe.get(name)
        return value if isinstance(value, dict) else {}


def read_evidence(folder: Path, progress: Progress = silent) -> Evidence:
    """Read every file of a dataset; nothing is measured yet.

    Raises:
        NotADatasetError: It has no list of checksums.
        FactsError: Its ``facts.json`` can't be read.
    """
    checksums = verify(folder)
    recipe, recipe_problem = _recipe(folder)
    problems: dict[str, str] = {}
    metadata = _metadata(folder, problems)
    lines = _lines(folder, problems)
    listed = exported_checksums(folder)
    named = {name for name in listed if name.endswith(".png")}
    images = {name for name in without_masks(named) if "/" not in name}
    return Evidence(
        folder=folder,
        facts=read_facts(folder),
        recipe=recipe,
        recipe_problem=recipe_problem,
        metadata=metadata,
        lines=lines,
        metadata_problems=problems,
        files=_image_files(folder, metadata, progress),
        expected=frozenset(images | set(metadata)),
        checksums=checksums,
        fingerprint=fingerprint_of(listed),
    )


def measure(
    evidence: Evidence,
    store: FeatureStore,
    *,
    faces: str | None = None,
    progress: Progress = silent,
) -> Evidence:
    """Look for faces in every readable image and score it, as the dataset's recipe says.

    Args:
        evidence: What was read.
        store: Empty; filled.
        faces: Face pack, in place of the dataset's own.
        progress: Watches.

    Returns:
        The evidence with its measurements, or with what stood in their way.
    """
    from ..analysis.face_analyser import FaceAnalyser
    from ..analysis.face_validation import validate_faces
    from ..analysis.quality import score_quality

    rows = [
        {
            "path": file.name, "hash": file.hash, "width": file.width, "height": file.height,
            "kind": evidence.kind_of(file.name), "subject": _subject(evidence, file.name),
        }
        for file in evidence.files
        if not file.problem
    ]  # fmt: skip
    if not rows:
        return replace(evidence, measuring_problem="there is no readable image")
    section, quality = evidence.section("faces"), evidence.section("quality")
    references = [Path(str(path)).expanduser() for path in section.get("references", ())]
    lost = [path for path in references if not path.is_file()]
    thresholds = _thresholds(evidence, largest=bool(lost))
    note = ""
    if lost:
        references = []
        note = "the reference images are not here, so of several faces the largest counts"
    try:
        pack = faces or evidence.facts.faces or FACE_PACK
        analyser = FaceAnalyser(pack, section.get("detection_size"))
        images = ImageSet.from_rows(rows, evidence.folder)
        found = validate_faces(images, analyser, store, thresholds, references, progress)
        found = score_quality(
            found, store, minimum=evidence.minimum_quality, formula=quality.get("formula")
        )
    except CuratorError as error:
        return replace(evidence, measuring_problem=str(error))
    return replace(evidence, measured=found.table, measured_note=note)


def _thresholds(evidence: Evidence, *, largest: bool) -> FaceThresholds:
    """Return what a valid face is in a dataset's recipe."""
    from ..analysis.face_choice import LARGEST
    from ..analysis.face_validation import FaceThresholds

    section = evidence.section("faces")
    return FaceThresholds(
        confidence=evidence.minimum_confidence,
        share=float(section.get("minimum_share", MINIMUM_FACE_SHARE)),
        side=float(section.get("minimum_side", MINIMUM_FACE_SIDE)),
        identity=-1.0,  # whom a face shows is no matter of finding it
        choice=section.get("choice") or (LARGEST if largest else None),
        raw=evidence.section("quality").get("formula") == SEED_DOCUMENT,
    )


def _subject(evidence: Evidence, name: str) -> str | None:
    subject = evidence.metadata.get(name, {}).get("subject")
    return subject if isinstance(subject, str) else None


def _image_files(
    folder: Path, metadata: Mapping[str, Mapping[str, Any]], progress: Progress
) -> tuple[ImageFile, ...]:
    from ..analysis.decoding import decode_ahead

    names = {path.name for path in folder.glob("*.png")} - drawn_in(folder)
    paths = sorted(folder / name for name in without_masks(names))
    progress.start("Reading the images", len(paths))
    found = []
    decoded = decode_ahead(paths, lambda pixels: pixels.shape[:2], hashed=True)
    for path, image in zip(paths, decoded, strict=True):
        height, width = image.found or (0, 0)
        found.append(
            ImageFile(
                path.name,
                image.digest,
                int(width),
                int(height),
                "" if image.found is not None else image.reason,
                read_caption(path, {}),
                _record(path),
            )
        )
        progress.advance(1, path.name)
    progress.finish()
    return tuple(found)


def _record(path: Path) -> dict[str, Any] | None:
    from ..generation.png import DamagedPngError, read_record
    from ..generation.reproduce import generation_of

    try:
        record = read_record(plain_bytes(path))
    except (OSError, DamagedPngError):
        return None
    return generation_of(path) if record is None else record


def _recipe(folder: Path) -> tuple[dict[str, Any], str]:
    try:
        return read_tables(folder / RECIPE_FILE), ""
    except (OSError, ValueError) as error:
        return {}, str(error)


def _metadata(folder: Path, problems: dict[str, str]) -> dict[str, dict[str, Any]]:
    path = metadata_path(folder)
    try:
        values = parse(plain_text(path))
        if not isinstance(values, dict) or not all(isinstance(v, dict) for v in values.values()):
            raise ValueError("it is no table of tables")
    except (OSError, ValueError) as error:
        problems[path.name] = str(error)
        return {}
    return values


def _lines(folder: Path, problems: dict[str, str]) -> dict[str, dict[str, Any]]:
    try:
        text = plain_text(folder / LINES_FILE)
        rows = [parse(line) for line in text.splitlines() if line]
        return {row["file_name"]: row for row in rows}
    except (OSError, ValueError, KeyError, TypeError) as error:
        problems[LINES_FILE] = f"{type(error).__name__} {error}"
        return {}
