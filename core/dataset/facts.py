"""What a dataset says of itself: ``facts.json``, which an export writes, and its one reader.

A folder without the file is an export of before there was one, or any folder of images. Of the
former ``recipe.toml`` is read, for what it holds; of the latter little is known. Nothing is taken
from the texts for people or from other programs' files.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from ..errors import CuratorError
from ..hashing import content_hash
from ..json_text import parse
from ..plain_files import plain_text
from ..reading.concepts import concept_above
from ..reading.own import is_dataset
from ..reading.texts import caption_file
from ..toml_lines import read_tables
from .checksums import NotADatasetError, exported_checksums
from .images import image_names
from .publish import version_of
from .sidecars import RECIPE_FILE as RECIPE_FILE
from .sidecars import read_metadata
from .trigger_words import is_named, words_of
from .version_record import fingerprint_of

FACTS_FILE = "facts.json"
FORMAT = 1
"""Version of ``facts.json``; a reader refuses a higher one."""

# Key in a LoRA's header: key in metadata.json.
_CHAIN = {
    "subject": "subject",
    "seed": "seed",
    "kind": "type",
    "scenario": "scenario",
    "take": "take",
    "noise_seed": "noise_seed",
    "request": "request",
    "quality": "quality_score",
}


class FactsError(CuratorError):
    """The ``facts.json`` of a folder cannot be used."""

    def __init__(self, path: Path, reason: object) -> None:
        super().__init__(
            f"{path} cannot be used: {reason}. Export the dataset again with this version; or take "
            "the file away, and what it says will not be known."
        )


class CaptionedImage(Protocol):
    """An image of a training set."""

    @property
    def path(self) -> Path:
        """Its file."""

    @property
    def hash(self) -> str:
        """SHA-256 of the file's bytes."""

    @property
    def caption(self) -> str:
        """What it shows."""

    @property
    def prior(self) -> bool:
        """Whether it shows others than the subject."""


@dataclass(frozen=True)
class SubjectFacts:
    """Whom images show.

    Attributes:
        name: As ``metadata.json`` calls it.
        trigger: The word that captions call it by.
        class_word: What it is, such as "woman".
        description: How it looks, for a model that does not know the trigger word.
        images: How many images show it; ``None`` where that was not noted.
    """

    name: str = ""
    trigger: str = ""
    class_word: str = "person"
    description: str = ""
    images: int | None = None


@dataclass(frozen=True)
class VersionFacts:
    """Which version of a dataset images were read from.

    Attributes:
        number: Its number.
        fingerprint: Of its whole content, as it was exported.
        altered: How many of its images and captions were gone, changed, or not of the export.
    """

    number: int
    fingerprint: str
    altered: int = 0


@dataclass(frozen=True)
class DatasetFacts:
    """What is known of a dataset besides its images. Empty, or ``None``, is what is not known.

    Attributes:
        name: What it is called; the folder's name unless it says another.
        folder: The folder's name.
        trigger: The word that calls whom the images show; several are joined by commas.
        license: Identifier of the licence.
        subjects: Whom it is about, the first first.
        caption: The captions' form, with a plan's placeholders.
        scenes: What the scenarios ask for.
        model: The base model and its sampling: ``path, scheduler, steps, guidance, width, …``.
        faces: insightface pack.
        clip: open_clip model and weights.
        minimum_quality: Least quality of an image.
        minimum_confidence: Least confidence of a face.
        duplicates: Cosine from which on two images count as one.
        fingerprint: Of the images that were read; see :func:`fingerprint`.
        generation: A row an image, in their order: its file's name and content hash, and where it
            was generated, subject, seed, scenario, take, noise seed, the request's fingerprint,
            and the fingerprint of the model that made it.
        captions: How often each caption occurs.
        composition: How many images are real, synthetic and disturbed, with their shares, where
            there are such and such.
        version: Which version of an exported dataset was read; ``None`` for any other folder.
    """

    name: str = ""
    folder: str = ""
    trigger: str = ""
    license: str = ""
    subjects: tuple[SubjectFacts, ...] = ()
    caption: str = ""
    scenes: tuple[str, ...] = ()
    model: Mapping[str, Any] = field(default_factory=dict)
    faces: str = ""
    clip: tuple[str, str] | None = None
    minimum_quality: float | None = None
    minimum_confidence: float | None = None
    duplicates: float | None = None
    fingerprint: str = ""
    generation: tuple[Mapping[str, Any], ...] = ()
    captions: Mapping[str, int] | None = None
    composition: Mapping[str, Any] = field(default_factory=dict)
    version: VersionFacts | None = None


def read_facts(
    folder: Path | str, images: Sequence[CaptionedImage] = (), *, trigger: str | None = None
) -> DatasetFacts:
    """Read what a folder of images says of itself.

    Args:
        folder: An exported dataset, or any folder of images, of which little is known.
        images: What was read from it, where their origin is wanted.
        trigger: The trigger word, if it is known better than the dataset knows it.

    Raises:
        FactsError: There is a ``facts.json`` that cannot be read.
    """
    root = Path(folder).expanduser()
    facts = replace(_of_folder(root), folder=root.resolve().name)
    if images:
        facts = replace(
            facts,
            fingerprint=fingerprint(images),
            generation=_generation(images, read_metadata(root), root),
            captions=dict(Counter(image.caption for image in images)),
            version=_version(images, root),
        )
    return facts if trigger is None else replace(facts, trigger=trigger)


def with_concepts(facts: DatasetFacts, paths: Sequence[Path]) -> DatasetFacts:
    """Add whom folders such as ``10_char1 woman`` are of, where nothing else says it.

    Args:
        facts: Of a folder that does not know its trigger word.
        paths: The images', below the folder.
    """
    found = [concept_above(path, facts.folder) for path in paths]
    counted = Counter((c.trigger, c.class_word) for c in found if c is not None)
    subjects = tuple(
        SubjectFacts(trigger, trigger, class_word or "person", images=count)
        for (trigger, class_word), count in sorted(counted.items())
    )
    return replace(facts, subjects=subjects or facts.subjects, trigger=trigger_of(subjects))


def facts_of(recipe: Mapping[str, Any], name: str) -> DatasetFacts:
    """Take what is known of a dataset from its recipe.

    Args:
        recipe: A project as nested tables, or a graph's, which holds its plan, subjects included,
            as one table; may be empty.
        name: What the dataset is called.
    """
    tables = {**_table(recipe, "plan"), **recipe}
    subjects = tuple(
        SubjectFacts(
            str(one.get("name") or ""),
            str(one.get("trigger") or one.get("name") or ""),
            str(one.get("class_word") or "person"),
            str(one.get("description") or ""),
        )
        for one in _list(tables, "subjects")
    )
    entries = [*_list(tables, "scenarios"), *_list(tables, "originals")]
    faces, clip = _table(tables, "faces"), _table(tables, "clip")
    return DatasetFacts(
        name,
        trigger=trigger_of(subjects),
        license=str(_table(tables, "dataset").get("license") or ""),
        subjects=subjects,
        caption=str(_table(tables, "plan").get("caption") or ""),
        # A scenario with placeholders is a whole prompt, and names the person itself.
        scenes=tuple(str(e["prompt"]) for e in entries if "{" not in str(e.get("prompt", "{"))),
        model={key: v for key, v in _table(tables, "model").items() if v is not None},
        faces=str(faces.get("pack") or ""),
        clip=_clip(clip),
        minimum_quality=_number(_table(tables, "quality"), "minimum"),
        minimum_confidence=_number(faces, "minimum_confidence"),
        duplicates=_number(_table(tables, "duplicates"), "threshold"),
    )


def trigger_of(subjects: Iterable[SubjectFacts]) -> str:
    """Return the words that call those whom images show, in alphabetical order."""
    return ", ".join(sorted({s.trigger for s in subjects if s.trigger and s.images != 0}))


def facts_json(facts: DatasetFacts) -> str:
    """Return ``facts.json``: all that is known and that the images do not say themselves."""
    clip = facts.clip and {"model": facts.clip[0], "pretrained": facts.clip[1]}
    thresholds = {
        "quality": facts.minimum_quality,
        "confidence": facts.minimum_confidence,
        "duplicates": facts.duplicates,
    }
    values = {
        "format": FORMAT,
        "name": facts.name,
        "license": facts.license,
        "subjects": [asdict(subject) for subject in facts.subjects],
        "caption": facts.caption,
        "scenes": list(facts.scenes),
        "model": dict(facts.model),
        "faces": facts.faces,
        "clip": clip,
        "thresholds": {key: value for key, value in thresholds.items() if value is not None},
        "composition": dict(facts.composition),
    }
    known = {key: value for key, value in values.items() if value not in (None, "", [], {})}
    return json.dumps(known, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def fingerprint(images: Sequence[CaptionedImage]) -> str:
    """Return the identity of a training set: SHA-256 of its sorted content hashes and captions."""
    return fingerprint_of_captioned((image.hash, image.caption) for image in images)


def fingerprint_of_captioned(images: Iterable[tuple[str, str]]) -> str:
    """Return :func:`fingerprint` of pairs of content hash and caption."""
    lines = sorted(f"{digest} {caption}" for digest, caption in images)
    return hashlib.sha256("\n".join(lines).encode("utf-8", "surrogatepass")).hexdigest()


def without_trigger(images: Sequence[CaptionedImage], trigger: str) -> int:
    """Count the captions that a trigger word (or one of several, after commas) is not in."""
    if not words_of(trigger):
        return 0
    return sum(not is_named(image.caption, trigger) for image in images if not image.prior)


def _of_folder(root: Path) -> DatasetFacts:
    path, name = root / FACTS_FILE, root.resolve().name
    try:
        text = plain_text(path)
    except (FileNotFoundError, NotADirectoryError):
        return facts_of(_recipe(root), name)
    except (OSError, UnicodeDecodeError) as error:
        raise FactsError(path, error) from error
    try:
        values = parse(text)
        if values["format"] > FORMAT:
            reason = f"its format {values['format']} is newer than this version's, {FORMAT}"
            raise FactsError(path, reason)
        return _of_values(values, name)
    except KeyError as error:
        raise FactsError(path, f"it has no {error}") from error
    except (ValueError, TypeError, AttributeError) as error:
        raise FactsError(path, error) from error


def _of_values(values: Mapping[str, Any], name: str) -> DatasetFacts:
    subjects = tuple(SubjectFacts(**subject) for subject in values.get("subjects", ()))
    thresholds = values.get("thresholds", {})
    return DatasetFacts(
        str(values.get("name") or name),
        trigger=trigger_of(subjects),
        license=str(values.get("license", "")),
        subjects=subjects,
        caption=str(values.get("caption", "")),
        scenes=tuple(map(str, values.get("scenes", ()))),
        model=dict(values.get("model", {})),
        faces=str(values.get("faces", "")),
        clip=_clip(values.get("clip", {})),
        minimum_quality=_number(thresholds, "quality"),
        minimum_confidence=_number(thresholds, "confidence"),
        duplicates=_number(thresholds, "duplicates"),
        composition=dict(values.get("composition", {})),
    )


def _recipe(root: Path) -> dict[str, Any]:
    try:
        return read_tables(root / RECIPE_FILE)
    except (OSError, ValueError):
        return {}


def _generation(
    images: Sequence[CaptionedImage], known: Mapping[str, Mapping[str, Any]], root: Path
) -> tuple[Mapping[str, Any], ...]:
    rows = []
    for image in images:
        name = _name_in(root, image.path)
        values = known.get(name) or known.get(image.path.name, {})
        row: dict[str, Any] = {"file": image.path.name, "hash": image.hash}
        row |= {key: values[name] for key, name in _CHAIN.items() if values.get(name) is not None}
        if model := _table(_table(values, "generation"), "settings").get("model_fingerprint"):
            row["model"] = model
        rows.append(row)
    return tuple(rows)


def _name_in(root: Path, path: Path) -> str:
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else path.name


def _version(images: Sequence[CaptionedImage], root: Path) -> VersionFacts | None:
    if not is_dataset(root):
        return None
    try:
        listed = exported_checksums(root)
    except NotADatasetError:
        return None
    altered, read = 0, set()
    for image in images:
        name = _name_in(root, image.path)
        caption = caption_file(image.path)
        as_listed = listed.get(name) == image.hash and (
            caption is None or listed.get(_name_in(root, caption)) == content_hash(caption)
        )
        altered += not as_listed
        read.add(name)
    altered += sum(name not in read for name in image_names(listed))
    return VersionFacts(version_of(root), fingerprint_of(listed), altered)


def _clip(values: Mapping[str, Any]) -> tuple[str, str] | None:
    model = values.get("model")
    return (str(model), str(values.get("pretrained") or "")) if model else None


def _number(values: Mapping[str, Any], name: str) -> float | None:
    value = values.get(name)
    return None if value is None else float(value)


def _table(values: Mapping[str, Any], name: str) -> dict[str, Any]:
    value = values.get(name)
    return value if isinstance(value, dict) else {}


def _list(values: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    value = values.get(name)
    return [v for v in value if isinstance(v, dict)] if isinstance(value, list | tuple) else []
