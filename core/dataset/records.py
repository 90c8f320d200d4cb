"""What a dataset says of each image: one record, from which every format is written."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..json_text import parse
from .images import Placed

Row = Mapping[str, Any]

# Key in the record: column of the table. The first four are those of the seed-document recipe.
_COLUMNS = {
    "quality_score": "quality",
    "cluster": "cluster",
    "seed": "seed",
    "type": "kind",
    "subject": "subject",
    "scenario": "scenario",
    "scenario_name": "scenario_name",
    "category": "category",
    "take": "take",
    "cluster_name": "cluster_name",
    "framing": "framing",
    "pose": "pose",
    "yaw": "yaw",
    "face_confidence": "face_confidence",
    "face_share": "face_share",
    "face_box": "face_box",
    "identity_similarity": "identity_similarity",
    "sharpness": "sharpness_score",
    "contrast": "contrast_score",
    "confidence": "confidence_score",
    "raw_sharpness": "raw_sharpness",
    "raw_contrast": "raw_contrast",
    "selection_rank": "selection_rank",
    "prompt": "prompt",
    "negative_prompt": "negative_prompt",
    "noise_seed": "noise_seed",
    "request": "request",
    "generation": "generation",
    "repeats": "repeats",
    "class_word": "class_word",
    "crop_box": "crop_box",
    "crop_source_hash": "crop_source_hash",
    "crop_scale": "crop_scale",
    "angle": "angle",
    "light": "light",
    "expression": "expression",
    "background": "background",
    "disturbance": "disturbance_record",
}


@dataclass(frozen=True)
class Record:
    """One exported image.

    Attributes:
        file_name: Its name in the dataset.
        caption: Its training caption.
        values: What is known of it; a key without a value is absent.
    """

    file_name: str
    caption: str
    values: dict[str, Any]


def record(row: Row, file_name: str, caption: str, placed: Placed, mask: str = "") -> Record:
    """Make the record of an exported image from its row of the table, and the name of its mask."""
    values = {
        key: value
        for key, column in _COLUMNS.items()
        if (value := _plain(row.get(column))) is not None
    }
    for key in ("generation", "disturbance"):
        if key in values:
            values[key] = _parsed(values[key])
    values["caption"] = caption
    values |= {"width": placed.width, "height": placed.height, "hash": placed.hash}
    values["source"] = row.get("source") or row["path"]
    # A converted image has other bytes than the one that was measured: keep both identities.
    if placed.how not in ("linked", "copied") and row.get("hash"):
        values["source_hash"] = row["hash"]
    if placed.way:
        values["conversion"] = placed.way
    if placed.scale != 1.0:
        values["scale"] = placed.scale
        if "face_box" in values:
            values["face_box"] = [edge * placed.scale for edge in values["face_box"]]
    if mask:
        values["mask"] = mask
    return Record(file_name, caption, values)


def metadata_json(records: list[Record]) -> str:
    """Return ``metadata.json``: an object keyed by file name, in ASCII.

    The seed document's loader opens it in the encoding of the platform, which on Windows is not
    UTF-8.
    """
    values = {r.file_name: r.values for r in records}
    return json.dumps(values, indent=1, allow_nan=False) + "\n"


def metadata_lines(records: list[Record]) -> str:
    """Return ``metadata.jsonl``, as Hugging Face's imagefolder reads it.

    Every line has the same keys; a key that no image has is left out. Nested values are JSON in
    a string, so that every column has one type.
    """
    rows = flat_rows(records)
    return "".join(_dumps(row) + "\n" for row in rows)


def flat_rows(records: list[Record]) -> list[dict[str, Any]]:
    """Return a row of plain values an image, all with the same keys, ``file_name`` first."""
    present = {key for r in records for key in r.values}
    keys = [*_COLUMNS, "width", "height", "hash", "source", "source_hash", "conversion", "scale",
            "mask"]  # fmt: skip
    rows = []
    for r in records:
        row: dict[str, Any] = {"file_name": r.file_name, "text": r.caption}
        row |= {key: _flat(r.values.get(key)) for key in keys if key in present}
        rows.append(row)
    return rows


def column_types(rows: list[dict[str, Any]]) -> dict[str, str]:
    """Return the type of each column of :func:`flat_rows` in Hugging Face's names."""
    names = {str: "string", bool: "bool", int: "int64", float: "float64"}
    types: dict[str, str] = {}
    for row in rows:
        for key, value in row.items():
            kind = names.get(type(value))
            if kind and types.get(key) != "float64":
                types[key] = kind
    return types


def _plain(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _flat(value: Any) -> Any:
    return _dumps(value) if isinstance(value, dict | list) else value


def _parsed(text: Any) -> Any:
    try:
        return parse(text)
    except (TypeError, ValueError):
        return text


def _dumps(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)
