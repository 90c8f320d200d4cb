"""``README.md``: the dataset card, for people and for the Hugging Face Hub."""

from __future__ import annotations

import html
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

import polars as pl

from ..counts import how_many
from ..report.composition import COLUMNS, value_counts
from .composition import composition_table
from .portfolio_text import composition_text, diversity_text, samples_text, seeds_text
from .records import Record, column_types, flat_rows
from .sidecars import METADATA_FILE

if TYPE_CHECKING:
    from ..selection import Selection

_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))


def card(
    records: Sequence[Record],
    table: pl.DataFrame,
    selected: pl.Series,
    *,
    name: str,
    trigger: str,
    size_bytes: int,
    license: str = "other",
    selection: Selection | None = None,
    metadata_file: str = METADATA_FILE,
    tones: Mapping[str, str] | None = None,
    thresholds: tuple[float | None, float | None] = (None, None),
) -> str:
    """Write the card of a dataset.

    Args:
        records: The exported images.
        table: Every candidate.
        selected: A boolean a row of ``table``.
        name: The dataset's name.
        trigger: The trigger word, or words.
        size_bytes: Size of the images together.
        license: Identifier of a licence as the Hub knows it.
        selection: How the images were selected.
        metadata_file: The name of the file that :class:`CuratedDataset` reads.
        tones: What the light of each image was measured to be, by its name in the dataset.
        thresholds: Least quality, and the similarity of two images that count as one, where they
            are known.
    """
    least, same = thresholds
    parts = [
        _head(records, table, name, license, size_bytes),
        f"# {_plain(name)}\n",
        _portfolio(records, table, trigger, size_bytes),
        composition_text(records, least),
    ]
    if part := composition_table(records):
        parts.append(part)
    for column, title in COLUMNS.items():
        if part := _table(table, selected, column, title):
            parts.append(part)
    said = (
        seeds_text(records),
        diversity_text(records, table.filter(selected), tones or {}, same),
        samples_text(records, trigger, tones or {}),
    )
    parts += [part for part in said if part]
    if selection is not None:
        lines = "\n".join(f"- {_plain(sentence)}" for sentence in selection.sentences())
        parts.append(f"## Selection\n\n{lines}\n")
    parts.append(_READING.format(metadata_file=metadata_file))
    return "\n".join(parts)


def _head(
    records: Sequence[Record], table: pl.DataFrame, name: str, license: str, size_bytes: int
) -> str:
    import yaml

    kinds = set(table["kind"].drop_nulls()) if "kind" in table.columns else set()
    tags = ["character", "lora", "curated"] + (["synthetic"] if kinds - {"real"} else [])
    count = len(records)
    types = column_types(flat_rows(list(records)))
    features: list[dict[str, str]] = [{"name": "image", "dtype": "image"}]
    features += [{"name": k, "dtype": v} for k, v in types.items() if k != "file_name"]
    head = {
        "license": license,
        "pretty_name": name,
        "task_categories": ["text-to-image"],
        "tags": tags,
        "size_categories": [next((text for limit, text in _SIZES if count < limit), "n>1M")],
        "configs": [
            {
                "config_name": "default",
                # Named, because captions beside the images could pass for a text dataset.
                "data_files": [{"split": "train", "path": _patterns(records)}],
            }
        ],
        "dataset_info": {
            "features": features,
            "splits": [{"name": "train", "num_examples": count, "num_bytes": size_bytes}],
            "dataset_size": size_bytes,
            "download_size": size_bytes,
        },
    }
    return f"---\n{yaml.safe_dump(head, sort_keys=False, allow_unicode=True)}---\n"


def _patterns(records: Sequence[Record]) -> list[str]:
    """Return what names the images and their metadata for Hugging Face's datasets."""
    found = {
        ("*/" if "/" in r.file_name else "") + "*" + PurePosixPath(r.file_name).suffix
        for r in records
    }
    return [*sorted(found), "metadata.jsonl"]


def _formats(records: Sequence[Record]) -> str:
    """Say what files the images are."""
    ends = Counter(PurePosixPath(r.file_name).suffix for r in records)
    if set(ends) == {".png"}:
        return "PNG (lossless)"
    names = {".png": "PNG", ".jpg": "JPEG", ".webp": "WebP"}
    return ", ".join(f"{names.get(end, end)} {count}" for end, count in ends.most_common())


def _portfolio(
    records: Sequence[Record], table: pl.DataFrame, trigger: str, size_bytes: int
) -> str:
    count = len(records)
    resolutions: dict[str, int] = {}
    for r in records:
        text = f"{r.values['width']} × {r.values['height']}"
        resolutions[text] = resolutions.get(text, 0) + 1
    common = max(resolutions, key=lambda text: resolutions[text])
    if len(resolutions) > 1:
        common += f" most often ({how_many(len(resolutions), 'size')})"
    scores = [r.values["quality_score"] for r in records if "quality_score" in r.values]
    rows = [
        ("Trigger word", f"`{trigger}`" if trigger else "none"),
        ("Training data", how_many(count, "curated image")),
        ("Candidates", f"{table.height:,} (curation ratio {count / max(table.height, 1):.1%})"),
        ("Image resolution", f"{common} pixels"),
        ("Format", _formats(records)),
        ("Total size", readable_size(size_bytes)),
    ]
    if scores:
        mean = sum(scores) / len(scores)
        rows.append(("Quality", f"{min(scores):.2f} to {max(scores):.2f}, mean {mean:.2f}"))
    lines = ["| | |", "|---|---|", *(f"| {label} | {_cell(value)} |" for label, value in rows)]
    return "\n".join(lines) + "\n\n## Composition\n"


def _table(table: pl.DataFrame, selected: pl.Series, column: str, title: str) -> str:
    counted = value_counts(table, selected, column)
    total = sum(s.selected for s in counted)
    listed = [s for s in counted if s.selected]
    if not total or (column == "subject" and len(counted) < 2):
        return ""
    lines = [f"| {title} | Images | Share | Candidates |", "|---|---:|---:|---:|"]
    lines += [
        f"| {_cell(s.value)} | {s.selected} | {s.selected / total:.0%} | {s.candidates} |"
        for s in listed
    ]
    return "\n".join(lines) + "\n"


def readable_size(size: float) -> str:
    """Write a number of bytes as people do: ``450.0 MB``."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


def _cell(text: str) -> str:
    """Return a text as it stands in a table: no markup of HTML's, no link, no end of the cell."""
    # Code would show the backslash.
    is_code = text.count("`") == 2 and text.startswith("`") and text.endswith("`")
    return (_plain(text) if is_code else _plain(text).replace("[", "\\[")).replace("|", "\\|")


def _plain(text: str) -> str:
    return html.escape(" ".join(text.split()), quote=False)


_READING = """\
## Reading it

```python
from character_curator import CuratedDataset
dataset = CuratedDataset(".")                        # len(dataset), image, metadata = dataset[0]

from datasets import load_dataset
dataset = load_dataset("imagefolder", data_dir=".", split="train")   # columns image, text, …
```

| File | What it is |
|---|---|
| `*.png`, `*.txt` | the images, and the caption of each |
| `facts.json` | what is known of the dataset: trigger word, class word, licence, scenes, models |
| `{metadata_file}` | what is known of each image, by file name |
| `metadata.jsonl` | the same in lines, for Hugging Face `datasets` |
| `dataset.toml` | for kohya sd-scripts; start the trainer in this folder |
| `provenance.parquet` | every candidate, the rejected too, with the reason |
| `recipe.toml` | what makes this dataset again |
| `report.html` | all of it to look at |
| `SHA256SUMS` | `sha256sum -c SHA256SUMS` checks every file |
| `version.json` | number, time and fingerprint of this version, its parent and tools |
"""
