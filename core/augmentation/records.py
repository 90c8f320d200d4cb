"""``augmentation.json``: what a combined dataset holds of what, how it came about, what it took."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import atomic
from ..augmentation_section import AugmentationSection
from ..damages import note_damage
from ..dataset.exported import Exported
from ..dataset.exporting import selected_mask
from ..dataset.facts import RECIPE_FILE, read_facts
from ..errors import CuratorError
from ..hashing import content_hash
from ..imageset import ImageSet
from ..json_text import number, parse
from ..plain_files import plain_text
from ..project import Project

log = logging.getLogger(__name__)

RECORD_FILE = "augmentation.json"
FORMAT = 1
"""Version of ``augmentation.json``."""


class AugmentationRecordError(CuratorError):
    """The record of an augmentation cannot be used."""

    def __init__(self, path: Path, error: Exception) -> None:
        super().__init__(
            f"{path} cannot be used: {error}. Make the augmentation again: it goes on where it was."
        )


@dataclass(frozen=True)
class Parts:
    """What an augmentation is made of.

    Attributes:
        real: Every real image that was given, after selection.
        synthetic: Every synthetic candidate, after selection.
        real_dataset: The dataset of the real images, of which the LoRA was made.
        combined: The dataset of both.
    """

    real: ImageSet
    synthetic: ImageSet
    real_dataset: Exported
    combined: Exported


@dataclass(frozen=True)
class Augmentation:
    """An augmentation on disk.

    Attributes:
        folder: The folder.
        combined: The combined dataset.
        lora: The LoRA file that the variations were made with.
        images: Every candidate, real and synthetic, in their own sets.
        wanted: How many synthetic images were asked for.
        real: Real images in the combined dataset.
        synthetic: Synthetic images in it.
        disturbed: How many of those are disturbed copies.
        notes: What is to be said.
    """

    folder: Path
    combined: Exported
    lora: Path
    images: Parts
    wanted: int
    real: int
    synthetic: int
    disturbed: int
    notes: tuple[str, ...]

    @property
    def is_complete(self) -> bool:
        """Whether there are as many synthetic images as were asked for."""
        return self.synthetic == self.wanted

    def as_mapping(self) -> dict[str, Any]:
        """Return the augmentation as ``augmentation.json`` says it.

        Raises:
            AugmentationRecordError: The file cannot be read.
        """
        path = self.folder / RECORD_FILE
        try:
            return dict(parse(plain_text(path)))
        except (OSError, ValueError, TypeError) as error:
            raise AugmentationRecordError(path, error) from error


def write_augmentation(
    folder: Path,
    project: Project,
    parts: Parts,
    lora: tuple[Path, float],
    seconds: Mapping[str, float],
    notes: tuple[str, ...],
) -> Augmentation:
    """Write what an augmentation holds; times stay those of the run that made the dataset.

    Args:
        folder: Where to.
        project: As it was made.
        parts: The sets and datasets.
        lora: The file and its weight.
        seconds: What this run took, by step.
        notes: What is to be said.
    """
    section = project.augmentation or AugmentationSection()
    synthetic = parts.synthetic.table.filter(selected_mask(parts.synthetic))
    disturbed = 0
    if "disturbance" in synthetic.columns:
        disturbed = synthetic["disturbance"].drop_nulls().len()
    path = folder / RECORD_FILE
    spent = _seconds(path, parts.combined.fingerprint, seconds)
    real = int(selected_mask(parts.real).sum())
    record: dict[str, Any] = {
        "format": FORMAT,
        "name": project.project.name,
        "combined": {
            "folder": parts.combined.folder.name,
            "version": parts.combined.version,
            "fingerprint": parts.combined.fingerprint,
            "images": parts.combined.images,
            "recipe": f"{parts.combined.folder.name}/{RECIPE_FILE}",
        },
        "composition": dict(read_facts(parts.combined.folder).composition),
        "real": {
            "folder": parts.real_dataset.folder.name,
            "fingerprint": parts.real_dataset.fingerprint,
            "given": len(parts.real),
            "images": real,
            "rejected": parts.real.rejections(),
        },
        "synthetic": {
            "wanted": section.total,
            "candidates": len(parts.synthetic),
            "images": synthetic.height,
            "disturbed": disturbed,
            "rejected": parts.synthetic.rejections(),
        },
        "lora": {
            "file": lora[0].name,
            "sha256": content_hash(lora[0]),
            "weight": lora[1],
            "trained_here": section.lora is None,
        },
        "disturbances": {
            "kinds": list(section.disturbances) if section.disturbed else [],
            "strength": section.strength,
            "seed": section.seed,
        },
        "seconds": spent,
        "manual_effort_seconds": 0,
    }
    if section.price_per_hour is not None:
        hours = sum(spent.values()) / 3600
        record["cost"] = round(hours * section.price_per_hour, 4)
        record["currency"] = section.currency
    text = json.dumps(record, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    atomic.write_text(path, text)
    return Augmentation(
        folder,
        parts.combined,
        lora[0],
        parts,
        section.total,
        real,
        synthetic.height,
        disturbed,
        notes,
    )


def _seconds(path: Path, fingerprint: str, seconds: Mapping[str, float]) -> dict[str, float]:
    """Return what the run took that made the dataset: this one, or an earlier one."""
    try:
        known = parse(plain_text(path), strict=True)
        if known["combined"]["fingerprint"] == fingerprint:
            return {key: number(value) for key, value in known["seconds"].items()}
    except FileNotFoundError:
        pass
    except (OSError, ValueError, KeyError, TypeError, AttributeError, ArithmeticError) as error:
        note_damage("records of augmentations", path, "written again, with the times of this run")
        log.warning("%s cannot be read (%s): it is written again, with the times of this run.",
                    path, error)  # fmt: skip
    return {key: round(value, 1) for key, value in seconds.items()}
