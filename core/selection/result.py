"""What a selection is, how well each quota was met, and how to say so."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from enum import Enum
from typing import Any

import polars as pl

from ..counts import how_many
from ..imageset import ImageSet
from .conflicts import IntArray
from .decisions import Followed
from .optimum import Solution
from .quotas import Quota
from .reduction import FloatArray
from .resolve import ResolvedQuota


class Cause(str, Enum):
    """What kind of reason there is for a number that could not be met."""

    FEW = "few candidates"
    ALIKE = "near-duplicates"
    TOTAL = "the total"
    OTHERS = "other quotas"


@dataclass(frozen=True)
class Relaxation:
    """A quota, or the total, that could not be met.

    Attributes:
        column: The column of the quota; ``total`` for the number of images.
        value: The value whose number is missed; None for the total.
        minimum: The fewest images wanted.
        maximum: The most images wanted.
        selected: How many there are.
        amount: By how many images the number is missed.
        available: How many candidates there are for it; of near-duplicates one, where they are
            the cause.
        cause: The kind of the reason.
        reason: Why, for people.
        advice: What to do about it, a sentence; the same for all values of one quota.
    """

    column: str
    value: object
    minimum: int
    maximum: int
    selected: int
    amount: int
    available: int
    cause: Cause
    reason: str
    advice: str

    def __str__(self) -> str:
        if self.selected < self.minimum:
            wanted = f"at least {self.minimum}" if self.minimum != self.maximum else self.minimum
        else:
            wanted = f"at most {self.maximum}" if self.minimum != self.maximum else self.maximum
        subject = "" if self.value is None else f"{self.value} "
        return f"{subject}got {self.selected} instead of {wanted}"


@dataclass(frozen=True)
class QuotaCount:
    """One value of one quota: what was wanted and what was selected.

    Attributes:
        column: The column of the quota.
        value: The value.
        minimum: The fewest images wanted.
        maximum: The most images wanted (the total, when nothing was said).
        candidates: How many accepted images have the value.
        selected: How many selected images have it.
    """

    column: str
    value: object
    minimum: int
    maximum: int
    candidates: int
    selected: int

    @property
    def met(self) -> bool:
        """Whether the number selected is within what was wanted."""
        return self.minimum <= self.selected <= self.maximum


@dataclass(frozen=True, eq=False)
class Problem:
    """What was solved, so that more can be asked of it.

    Attributes:
        place: The row of each candidate in the table; candidates are in the order of their paths.
        values: What each candidate is worth.
        resolved: The quotas over the candidates.
        pairs: Near-duplicates among the candidates, shape ``(m, 2)``.
        keep: The candidates that decisions keep, ascending.
        solution: The selection that was found.
    """

    place: IntArray
    values: FloatArray
    resolved: tuple[ResolvedQuota, ...]
    pairs: IntArray
    keep: IntArray
    solution: Solution


@dataclass(frozen=True)
class Selection:
    """The best images under the quotas, with the proof that there are no better ones.

    Attributes:
        images: Every image. ``selected`` says which were taken, ``selection_rank`` counts them
            from 1, the most valuable first; accepted images that were not taken are rejected as
            ``duplicate`` (of a selected one) or ``quota``, with what stood in their way.
        value: The column whose sum was maximised.
        total: How many images were wanted.
        candidates: How many accepted images there were.
        duplicates: How many of them were rejected as near-duplicates of selected ones.
        considered: How many candidates the integer program saw; the others are not needed.
        objective: The sum of the values selected.
        bound: No selection under the same quotas is worth more.
        gap: ``(bound - objective) / max(1, |objective|)``; 0 for a proven optimum.
        optimal: Whether the proof was finished; only a time limit prevents it.
        nodes: Nodes of the branch-and-bound tree.
        stated: The quotas, as asked.
        quotas: The count of every value of every quota.
        relaxations: What could not be met; empty when everything was.
        followed: What came of decisions; None when there were none.
        problem: What was solved, for further questions; None in a selection made otherwise.
    """

    images: ImageSet
    value: str
    total: int
    candidates: int
    duplicates: int
    considered: int
    objective: float
    bound: float
    gap: float
    optimal: bool
    nodes: int
    stated: tuple[Quota, ...]
    quotas: tuple[QuotaCount, ...]
    relaxations: tuple[Relaxation, ...]
    followed: Followed | None = None
    problem: Problem | None = field(default=None, repr=False, compare=False)

    @staticmethod
    def nothing(images: ImageSet, total: int, quotas: Sequence[Quota] = ()) -> Selection:
        """Return the selection from images of which none is accepted.

        For who goes on all the same, as images in waves do: :func:`.balance.select` refuses it.

        Args:
            images: The images.
            total: How many are wanted.
            quotas: How many of which values are wanted.
        """
        marked = images.with_columns(
            pl.lit(False).alias("selected"),
            pl.lit(None, dtype=pl.Int32).alias("selection_rank"),
        )
        missed = Relaxation(
            "total", None, total, total, 0, total, 0, Cause.FEW, "0 candidates",
            "Loosen the thresholds of the stages before, or add images.",
        )  # fmt: skip
        return Selection(
            marked, "quality", total, 0, 0, 0, 0.0, 0.0, 0.0, True, 0, tuple(quotas), (), (missed,)
        )

    def __len__(self) -> int:
        """How many images are selected."""
        return int(self.images.table["selected"].sum())

    @property
    def selected(self) -> ImageSet:
        """The selected images, in the order of the table."""
        return self.images.filter(pl.col("selected"))

    @property
    def met(self) -> bool:
        """Whether the total and every quota were met."""
        return not self.relaxations

    def counts(self) -> pl.DataFrame:
        """Return the quota counts as a table, for reports; values as text."""
        schema = {
            "column": pl.String,
            "value": pl.String,
            "minimum": pl.Int64,
            "maximum": pl.Int64,
            "candidates": pl.Int64,
            "selected": pl.Int64,
            "met": pl.Boolean,
        }
        rows = [{**asdict(q), "value": str(q.value), "met": q.met} for q in self.quotas]
        return pl.DataFrame(rows, schema=schema)

    def proof(self) -> dict[str, Any]:
        """Return everything but the images, ready for JSON."""
        found = {
            "value": self.value,
            "total": self.total,
            "selected": len(self),
            "candidates": self.candidates,
            "duplicates": self.duplicates,
            "considered": self.considered,
            "objective": self.objective,
            "bound": self.bound,
            "gap": self.gap,
            "optimal": self.optimal,
            "nodes": self.nodes,
            "quotas": [{**asdict(q), "value": str(q.value), "met": q.met} for q in self.quotas],
            "relaxations": [
                {
                    **asdict(r),
                    "value": None if r.value is None else str(r.value),
                    "cause": r.cause.value,
                }
                for r in self.relaxations
            ],
        }
        if self.followed is not None:
            counts = ("kept", "vetoed", "idle", "unknown")
            found["decisions"] = {name: getattr(self.followed, name) for name in counts}
        return found

    def sentences(self) -> list[str]:
        """Return the outcome for people: a sentence for each quota, advice for each not met."""
        count = len(self)
        proven = (
            f"proven optimal (gap {self.gap:g}, {how_many(self.nodes, 'node')})"
            if self.optimal and self.gap == 0
            else f"at most {self.gap:.2%} below the optimum (stopped by the time limit)"
        )
        lines = [
            f"Selected {count:,} of {how_many(self.candidates, 'candidate')}: {self.value} "
            f"{self.objective:.4f} in total, {self.objective / max(1, count):.4f} on average; "
            f"{proven}."
        ]
        if self.followed is not None:
            lines.append(self.followed.sentence())
        for relaxation in self.relaxations:
            if relaxation.value is None:
                lines.append(
                    f"total: {self.total} - not reached: {relaxation} ({relaxation.reason})."
                )
                lines.append(relaxation.advice)
        for quota in self.stated:
            lines.append(self._quota_sentence(quota))
            lines += dict.fromkeys(missed.advice for missed in self._missed(quota))
        if count < self.candidates:
            lines.append(
                f"Left out: {how_many(self.duplicates, 'near-duplicate')} of selected images, "
                f"{self.candidates - count - self.duplicates:,} for which there was no place."
            )
        return lines

    def _missed(self, quota: Quota) -> list[Relaxation]:
        return [r for r in self.relaxations if r.column == quota.column and r.value is not None]

    def _quota_sentence(self, quota: Quota) -> str:
        rows = [row for row in self.quotas if row.column == quota.column]
        text = str(quota)
        if quota.named() == [None]:
            text += f" of {how_many(len(rows), 'value')}"
        missed = self._missed(quota)
        if missed:
            by = sum(relaxation.amount for relaxation in missed)
            reasons = dict.fromkeys(relaxation.reason for relaxation in missed)
            parts = [
                ", ".join(str(r) for r in missed if r.reason == reason) + f" ({reason})"
                for reason in reasons
            ]
            return f"{quota.column}: {text} - relaxed by {by}: {'; '.join(parts)}."
        got = ""
        if quota.exact is None or quota.shares:
            got = " (" + ", ".join(f"{row.value}: {row.selected}" for row in rows) + ")"
        return f"{quota.column}: {text} - met{got}."
