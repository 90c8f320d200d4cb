"""What a portfolio took and what came of it: by subject and in all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ..dataset.exporting import selected_mask
from ..imageset import ImageSet
from .times import Times


@dataclass(frozen=True)
class Figures:
    """The figures of one dataset.

    Attributes:
        candidates: Images that it was selected from.
        images: Images that it has.
        rejected: How many each reason has taken.
        quality: Least and mean quality of its images; None where none is known.
        identity: Least and mean similarity of its images to their subject; None without faces.
        reference: What that is measured against: ``references`` or ``set``; empty without faces.
        generation_seconds: What the candidates took to generate, as far as it is known.
        untimed: Candidates of which that is not known: those made elsewhere, or before.
        curation_seconds: What the curation took that made the dataset.
    """

    candidates: int
    images: int
    rejected: dict[str, int]
    quality: tuple[float, float] | None
    identity: tuple[float, float] | None
    reference: str
    generation_seconds: float
    untimed: int
    curation_seconds: float

    @property
    def hours(self) -> float:
        """Hours of the machine."""
        return (self.generation_seconds + self.curation_seconds) / 3600

    def as_mapping(self, price_per_hour: float | None) -> dict[str, Any]:
        """Return the figures as JSON knows them, with the cost where there is a price."""
        values = {key: value for key, value in asdict(self).items() if value is not None}
        values["generation_seconds"] = round(self.generation_seconds, 1)
        values["curation_seconds"] = round(self.curation_seconds, 1)
        values["manual_effort_seconds"] = 0
        if price_per_hour is not None:
            values["cost"] = round(self.hours * price_per_hour, 4)
        return values


def figures_of(
    images: ImageSet, times: Times | None, curation_seconds: float, *, generated: bool
) -> Figures:
    """Count and measure one subject's set.

    Args:
        images: Every candidate, after selection.
        times: What its images took; None of a set that none were generated for.
        curation_seconds: What curating it took.
        generated: Whether its images were generated; collected ones took no time.
    """
    table = images.table.filter(selected_mask(images))
    seconds, untimed = 0.0, 0
    if generated and times is not None:
        seconds, untimed = times.of(images.table["path"])
    against = table["identity_reference"].drop_nulls().unique().sort().to_list()
    return Figures(
        candidates=len(images),
        images=table.height,
        rejected=images.rejections(),
        quality=_least_and_mean(table["quality"].drop_nulls().to_list()),
        identity=_least_and_mean(table["identity_similarity"].drop_nulls().to_list()),
        reference=", ".join(against),
        generation_seconds=seconds,
        untimed=untimed,
        curation_seconds=curation_seconds,
    )


def overall(parts: Sequence[Figures]) -> Figures:
    """Return the figures of all subjects together."""
    rejected: dict[str, int] = {}
    for part in parts:
        for reason, count in part.rejected.items():
            rejected[reason] = rejected.get(reason, 0) + count
    return Figures(
        candidates=sum(p.candidates for p in parts),
        images=sum(p.images for p in parts),
        rejected=rejected,
        quality=_together([(p.quality, p.images) for p in parts]),
        identity=_together([(p.identity, p.images) for p in parts]),
        reference=", ".join(sorted({p.reference for p in parts if p.reference})),
        generation_seconds=sum(p.generation_seconds for p in parts),
        untimed=sum(p.untimed for p in parts),
        curation_seconds=sum(p.curation_seconds for p in parts),
    )


def _least_and_mean(values: Sequence[float]) -> tuple[float, float] | None:
    if not values:
        return None
    return round(min(values), 6), round(sum(values) / len(values), 6)


def _together(
    parts: Sequence[tuple[tuple[float, float] | None, int]],
) -> tuple[float, float] | None:
    known = [(values, count) for values, count in parts if values is not None and count]
    if not known:
        return None
    count = sum(n for _, n in known)
    mean = sum(values[1] * n for values, n in known) / count
    return min(values[0] for values, _ in known), round(mean, 6)
