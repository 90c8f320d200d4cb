"""Faults in datasets that their makers cover up: hashes, rows and checksums follow."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np

from character_curator.dataset.checksums import write_checksums
from character_curator.generation import png
from character_curator.imageset import content_hash


def metadata_of(dataset: Path) -> dict[str, dict]:
    """Return what ``metadata.json`` says."""
    return json.loads((dataset / "metadata.json").read_text())


def write_metadata(dataset: Path, rows: dict[str, dict]) -> None:
    """Write ``metadata.json`` and ``metadata.jsonl`` anew, and the list of checksums."""
    (dataset / "metadata.json").write_text(json.dumps(rows, indent=1) + "\n")
    lines = [
        {
            "file_name": name,
            **{
                "text" if key == "caption" else key: json.dumps(value)
                if isinstance(value, dict | list)
                else value
                for key, value in row.items()
            },
        }
        for name, row in rows.items()
    ]
    (dataset / "metadata.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    write_checksums(dataset)


def replace_pixels(path: Path, pixels: np.ndarray) -> None:
    """Write other pixels (RGB) under an image's name and record; every hash follows."""
    data = png.encode(pixels, png.read_record(path.read_bytes()))
    path.unlink()
    path.write_bytes(data)
    rows = metadata_of(path.parent)
    rows[path.name]["hash"] = content_hash(path)
    write_metadata(path.parent, rows)


def pixels_of(path: Path) -> np.ndarray:
    """Return an image's pixels, RGB."""
    return cv2.imread(str(path))[..., ::-1].copy()


def replace_record(path: Path, **settings: object) -> None:
    """Let an image say that it was made with other settings; every hash and row follows."""
    record = png.read_record(path.read_bytes())
    record["settings"] |= settings
    data = png.encode(pixels_of(path), record)
    path.unlink()
    path.write_bytes(data)
    rows = metadata_of(path.parent)
    rows[path.name] |= {"hash": content_hash(path), "generation": record}
    write_metadata(path.parent, rows)
