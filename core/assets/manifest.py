"""What a pack says of itself: of each asset where it comes from, and with what it was made.

Nothing in it depends on where the pack, the model or the LoRA lies on a disk, nor on when it was
made: the same project gives the same text.
"""

from __future__ import annotations

import json
import platform
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path, PureWindowsPath
from typing import Any

from ..analysis.builds import OPENCV, installed_versions
from ..imageset import ImageSet
from ..json_text import parse
from ..reading.own import PROGRAM
from .sprites import Sprite

FORMAT = 1
"""Version of the manifest."""
MANIFEST_FILE = "manifest.json"

_LIBRARIES = ("pillow", "numpy", "scipy", "rectpack", "rembg", "open-clip-torch")
_SEED_RECORD = (
    "subject", "scenario_name", "prompt", "negative_prompt", "seed", "take", "noise_seed",
    "request", "kind", "tag",
)  # fmt: skip
_MEASURED = ("quality", "identity_similarity")
_DIGITS = 3


def asset_entry(
    row: Mapping[str, Any], file: str, digest: str, pixels: str, sprite: Sprite
) -> dict[str, Any]:
    """Return what the manifest says of an asset.

    Args:
        row: Of its image.
        file: Its name in the pack.
        digest: SHA-256 of that file.
        pixels: SHA-256 of the image's pixels.
        sprite: What was made of it.
    """
    entry: dict[str, Any] = {
        "file": file,
        "sha256": digest,
        "width": sprite.image.width,
        "height": sprite.image.height,
    }
    entry |= {name: row[name] for name in _SEED_RECORD if row.get(name) is not None}
    for name in _MEASURED:
        if row.get(name) is not None:
            entry[name] = round(float(row[name]), _DIGITS)
    entry["source"] = {
        "file": Path(row["path"]).name,
        "pixels": pixels,
        "width": sprite.source[0],
        "height": sprite.source[1],
        "box": list(sprite.box),
        "scale": round(sprite.scale, 6),
    }
    return entry


def described(images: ImageSet) -> dict[str, Any]:
    """Return what the manifest says of all assets together: tools, and how they were generated."""
    found: dict[str, Any] = {"tools": tools(), "generation": []}
    seen = set()
    for text in images.table["generation"].drop_nulls():
        made = _generation(text)
        key = json.dumps(made, sort_keys=True)
        if made and key not in seen:
            seen.add(key)
            found["generation"].append(made)
    return found


def tools() -> dict[str, str]:
    """Return the versions of what cuts, packs and writes."""
    # The package is loaded, or this module would not be; importing its names from below it would
    # be a circle.
    package = sys.modules[__name__.rsplit(".", 2)[0]]
    return {
        PROGRAM: str(vars(package)["__version__"]),
        "python": platform.python_version(),
        **installed_versions((*OPENCV, *_LIBRARIES)),
    }


def left_out(images: ImageSet) -> list[dict[str, Any]]:
    """Return the images that are not in the pack, each with its reason."""
    columns = ("path", "scenario_name", "seed", "take", "rejection", "rejection_detail")
    return [
        {("source" if name == "path" else name): value for name, value in row.items()}
        for row in images.rejected.table.select(columns).to_dicts()
    ]


def without_places(value: Any) -> Any:
    """Return settings with the names of files instead of where they lie."""
    if isinstance(value, Mapping):
        return {key: without_places(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [without_places(entry) for entry in value]
    if isinstance(value, str) and (Path(value).is_absolute() or _is_windows_path(value)):
        return PureWindowsPath(value).name
    return value


def _is_windows_path(value: str) -> bool:
    return PureWindowsPath(value).is_absolute()


def _generation(text: str) -> dict[str, Any]:
    """Return how an image was generated, as far as others were generated so too."""
    try:
        record = parse(text)
    except ValueError:
        return {}
    if not isinstance(record, dict):
        return {}
    kept: Iterable[str] = ("settings", "conditions")
    found = {name: without_places(record[name]) for name in kept if name in record}
    batch = record.get("batch")
    return found | ({"batch_size": batch.get("size")} if isinstance(batch, dict) else {})
