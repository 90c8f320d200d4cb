"""The small files of a dataset: ``dataset.toml`` and ``provenance.parquet``."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import polars as pl

from ..imageset import ImageSet
from ..parquet import parquet_bytes
from ..reading.concepts import concept_of
from .records import Record

_TRAINER_HEAD = """\
# Settings of the dataset for kohya sd-scripts (--dataset_config=dataset.toml).
# image_dir "." is this folder: start the trainer from here, or write the folder's full path there.
# The caption of IMAGE.png is IMAGE.txt, as OneTrainer and ai-toolkit expect it too.
"""
_MASKED = """\
# With masks: start the trainer with --masked_loss, which the key conditioning_data_dir needs.
"""


def trainer_toml(
    records: Sequence[Record],
    trigger: str,
    resolution: int | None = None,
    repeats: int = 1,
    alpha_mask: bool = False,
    masks: str | None = None,
) -> str:
    """Return ``dataset.toml`` in the schema of kohya sd-scripts.

    Args:
        records: The exported images.
        trigger: The class token, for trainers that find no caption.
        resolution: Side of a square of the training area in pixels; ``None`` takes the median of
            the images' own (the square root of their area), down to a multiple of 64, 1024 at
            most.
        repeats: How often an image is seen in an epoch; 1 takes what the folders say that the
            images have come from.
        alpha_mask: Whether transparency masks the loss.
        masks: Folder of masks below each folder of images, for ``--masked_loss``.
    """
    import tomlkit

    side = resolution or training_resolution(records)
    largest = max([side, *(max(r.values["width"], r.values["height"]) for r in records)])
    document = {
        "general": {
            "caption_extension": ".txt",
            "enable_bucket": True,
            "bucket_no_upscale": True,
            "bucket_reso_steps": 64,
            "min_bucket_reso": max(64, side // 2 // 64 * 64),
            "max_bucket_reso": math.ceil(largest / 64) * 64,
            "shuffle_caption": False,
            "keep_tokens": 1,
        },
        "datasets": [
            {
                "resolution": side,
                "batch_size": 1,
                "subsets": _subsets(records, trigger, repeats, alpha_mask, masks),
            }
        ],
    }
    return _TRAINER_HEAD + (_MASKED if masks else "") + tomlkit.dumps(document)


def _subsets(
    records: Sequence[Record],
    trigger: str,
    repeats: int,
    alpha_mask: bool,
    masks: str | None,
) -> list[dict[str, Any]]:
    """Return a subset a folder of images."""
    folders: dict[str, list[Record]] = {}
    for one in records:
        folders.setdefault(one.file_name.rpartition("/")[0] or ".", []).append(one)
    subsets = []
    for name, members in sorted(folders.items()):
        concept = concept_of(name)
        own = concept.repeats if concept else repeats
        if repeats == 1 and concept is None:
            said = {one.values.get("repeats", 1) for one in members}
            own = said.pop() if len(said) == 1 else 1
        subset: dict[str, Any] = {
            "image_dir": name,
            "class_tokens": concept.phrase if concept else trigger,
            "num_repeats": own,
        }
        if masks:
            # The schema of such subsets has neither class_tokens nor alpha_mask.
            del subset["class_tokens"]
            subset["conditioning_data_dir"] = masks if name == "." else f"{name}/{masks}"
        elif alpha_mask:
            subset["alpha_mask"] = True
        subsets.append(subset)
    return subsets


def training_resolution(records: Sequence[Record]) -> int:
    """Return the side, a multiple of 64 from 64 to 1024, of the median image area."""
    sides = [math.sqrt(r.values["width"] * r.values["height"]) for r in records]
    return min(1024, max(64, int(median(sides) + 1e-6) // 64 * 64))


def write_provenance(images: ImageSet, names: Mapping[str, str], path: Path) -> None:
    """Write every candidate, the rejected too, as Parquet.

    Columns are those of the image set, with ``file_name`` (its name in the dataset, or null) and
    ``outcome`` (``selected``, ``rejected: REASON`` or ``not selected``) before them. Vectors are
    left out: they are large, and a face embedding identifies a person. The folder that the paths
    are relative to is left out too.
    """
    table = images.table
    if "source" in table.columns:  # of several folders: without what lies above them
        table = table.with_columns(pl.coalesce("source", "path").alias("path")).drop("source")
    if "mask_file" in table.columns:  # where it lay is nobody's business
        table = table.drop("mask_file")
    binary = [name for name, kind in table.schema.items() if kind == pl.Binary]
    known = [names.get(path) for path in images.table["path"]]
    file_names = pl.Series("file_name", known, dtype=pl.String)
    outcome = (
        pl.when(file_names.is_not_null())
        .then(pl.lit("selected"))
        .when(pl.col("rejection").is_not_null())
        .then(pl.concat_str(pl.lit("rejected: "), pl.col("rejection")))
        .otherwise(pl.lit("not selected"))
        .alias("outcome")
    )
    path.write_bytes(parquet_bytes(table.drop(binary).select(file_names, outcome, pl.all())))
