"""``version.json``: what a version of a dataset says of itself, written once and never again.

The list of checksums does not name the file, for the record holds the fingerprint of that list.
Its seal is the hash of the record, so that an edit shows; it is a checksum, not a signature.
"""

from __future__ import annotations

import json
import logging
import platform
import sys
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from ..analysis.builds import OPENCV, installed_versions
from ..damages import note_damage
from ..hashing import json_hash
from ..json_text import parse
from ..plain_files import plain_text
from ..reading.own import PROGRAM, RECORD_FILE
from .checksums import exported_checksums
from .sidecars import RECIPE_FILE

log = logging.getLogger(__name__)

_MOST = 10**9
"""The highest number of a version that is believed."""
FORMAT = 1
"""Version of ``version.json``; of a higher one nothing is read."""

_LIBRARIES = (
    "torch", "diffusers", "transformers", "numpy", "polars", "pillow", "open_clip_torch",
    "insightface", "onnxruntime", "onnxruntime-gpu", *OPENCV, "dlib-bin",
)  # fmt: skip


@dataclass(frozen=True)
class Parent:
    """The version that another one took the place of.

    Attributes:
        number: Its number.
        fingerprint: Of its whole content.
    """

    number: int
    fingerprint: str


@dataclass(frozen=True)
class VersionRecord:
    """What a version says of itself.

    Attributes:
        number: 1 for the first export to its place.
        time: When it was made, in UTC, as ISO 8601.
        fingerprint: Of the whole content: SHA-256 of the list of every file's SHA-256.
        recipe: SHA-256 of ``recipe.toml``, which makes the version again.
        parent: The version before it; ``None`` for a first one.
        restored: Number of the version that it was restored from, if it was.
        tools: Versions of this program, of Python and of the libraries that were installed.
        models: Fingerprints of the models: ``generation`` (of each that made images), ``faces`` and
            ``clip``, where they are known.
        edits: How many edits of captions lie between its export and it; ``None`` for none.
    """

    number: int
    time: str
    fingerprint: str
    recipe: str = ""
    parent: Parent | None = None
    restored: int | None = None
    tools: Mapping[str, str] = field(default_factory=dict)
    models: Mapping[str, Any] = field(default_factory=dict)
    edits: int | None = None

    def as_mapping(self) -> dict[str, Any]:
        """Return the record as JSON knows it, without what is not known."""
        values = {"program": PROGRAM, "format": FORMAT, **asdict(self)}
        return {key: value for key, value in values.items() if value not in (None, "", {})}


def fingerprint_of(digests: Mapping[str, str]) -> str:
    """Return the fingerprint of a whole dataset.

    Args:
        digests: SHA-256 of each file by its name, as :func:`.checksums.exported_checksums`.
    """
    return json_hash(dict(digests))


def fingerprint_in(folder: Path) -> str:
    """Return the fingerprint of a dataset as it was exported.

    Raises:
        NotADatasetError: It has no list of checksums.
    """
    return fingerprint_of(exported_checksums(folder))


def new_record(
    number: int,
    digests: Mapping[str, str],
    *,
    parent: Parent | None = None,
    restored: int | None = None,
    edits: int | None = None,
    models: Mapping[str, Any] | None = None,
    time: str | None = None,
) -> VersionRecord:
    """Make the record of a version that has just been written.

    Args:
        number: Its number.
        digests: SHA-256 of each of its files, by name.
        parent: The version that it takes the place of.
        restored: Number of the version that it repeats.
        edits: How many edits of captions it has, if any.
        models: Fingerprints of models.
        time: In UTC, as ISO 8601; now unless given.
    """
    return VersionRecord(
        number,
        time or datetime.now(timezone.utc).isoformat(timespec="seconds"),
        fingerprint_of(digests),
        recipe=digests.get(RECIPE_FILE, ""),
        parent=parent,
        restored=restored,
        edits=edits or None,
        tools=_tools(),
        models={key: value for key, value in (models or {}).items() if value},
    )


def write_record(folder: Path, record: VersionRecord) -> None:
    """Write the record into its version, before the list of checksums makes it whole."""
    values = record.as_mapping()
    values["seal"] = json_hash(values)
    text = json.dumps(values, indent=1, ensure_ascii=False, allow_nan=False)
    (folder / RECORD_FILE).write_text(text + "\n", encoding="utf-8", newline="\n")


def read_record(folder: Path) -> VersionRecord | None:
    """Return a version's record; ``None`` if it has none, or one that is not as it was written."""
    path = folder / RECORD_FILE
    try:
        values = parse(plain_text(path), strict=True)
        if values.pop("seal") != json_hash(values):
            raise ValueError("its seal is another")
        if values["format"] > FORMAT:
            return None
        parent = values.get("parent")
        numbers = [values["number"]] + ([] if parent is None else [parent["number"]])
        numbers += [values[name] for name in ("restored", "edits") if values.get(name) is not None]
        # The seal tells what was damaged; whoever wants to can make one.
        if not all(type(one) is int and 0 < one <= _MOST for one in numbers):
            raise ValueError("a number in it is none")
        if not all(isinstance(values.get(name, {}), dict) for name in ("tools", "models")):
            raise ValueError("a table in it is none")
        return VersionRecord(
            values["number"],
            str(values["time"]),
            str(values["fingerprint"]),
            recipe=str(values.get("recipe", "")),
            parent=parent and Parent(parent["number"], str(parent["fingerprint"])),
            restored=values.get("restored"),
            edits=values.get("edits"),
            tools=values.get("tools", {}),
            models=values.get("models", {}),
        )
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, ArithmeticError) as error:
        note_damage("records of versions", path, "taken for absent", once=True)
        log.warning("%s is not as it was written (%s), and counts as if it were not there.", path,
                    error)  # fmt: skip
        return None


def generation_models(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the fingerprints of the models that have made images, each once, sorted.

    Args:
        rows: What is known of each image, as in ``metadata.json``.
    """
    found = set()
    for row in rows:
        generation = row.get("generation")
        settings = generation.get("settings") if isinstance(generation, dict) else None
        mark = settings.get("model_fingerprint") if isinstance(settings, dict) else None
        found |= {str(mark)} if mark else set()
    return sorted(found)


def _tools() -> dict[str, str]:
    # The package is loaded, or this module would not be; importing its names from below it would
    # be a circle.
    package = sys.modules[__name__.rsplit(".", 2)[0]]
    return {
        PROGRAM: str(vars(package)["__version__"]),
        "python": platform.python_version(),
        **installed_versions(_LIBRARIES),
    }
