"""The before/after table: what the seed document states, and what was measured."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import mean, stdev
from typing import Any

from ..counts import how_many
from .arms import ARMS
from .plan import MAIN
from .runs import steps_to_level

Result = Mapping[str, Any]
BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"


@dataclass(frozen=True)
class Spread:
    """A figure over repeats.

    Attributes:
        values: One a repeat, ``None`` where it could not be said.
    """

    values: tuple[float | None, ...]

    @property
    def known(self) -> list[float]:
        """The values that could be said."""
        return [v for v in self.values if v is not None and math.isfinite(v)]

    @property
    def mean(self) -> float | None:
        """Their mean."""
        return mean(self.known) if self.known else None

    @property
    def deviation(self) -> float | None:
        """Their sample standard deviation (n - 1); ``None`` of fewer than two."""
        return stdev(self.known) if len(self.known) > 1 else None

    def as_mapping(self) -> dict[str, Any]:
        """Return values, mean and deviation as JSON knows them."""
        return {
            "values": list(self.values),
            "mean": self.mean,
            "standard_deviation": self.deviation,
            "runs": len(self.values),
        }


def _share(name: str, series: str = "trigger") -> Callable[[Result], float | None]:
    return lambda result: (result["series"].get(series) or {}).get(name, {}).get("share")


def _number(name: str) -> Callable[[Result], float | None]:
    return lambda result: result["series"]["trigger"].get(name)


@dataclass(frozen=True)
class Figure:
    """A line of the table.

    Attributes:
        key: Its name in JSON.
        label: What it is called.
        kind: ``count``, ``number`` or ``share``.
        stated: What the seed document states before and after.
        of: Takes it from a run's result.
    """

    key: str
    label: str
    kind: str
    stated: tuple[str, str]
    of: Callable[[Result], float | None]


FIGURES: tuple[Figure, ...] = (
    Figure("pictures", "training images", "count", ("1,500", "70"), lambda r: r["pictures"]),
    Figure(
        "converged_epoch", "epochs to convergence", "count", ("150+", "80"),
        lambda r: r["converged_epoch"],
    ),
    Figure(
        "converged_step", "optimizer steps to convergence", "count", ("", ""),
        lambda r: r["converged_step"],
    ),
    Figure(
        "plateau", "plateau of the validation loss", "number", ("0.25", "0.09"),
        lambda r: r["plateau"],
    ),
    Figure(
        "consistency", "character consistency", "share", ("78 %", "95 %"), _share("consistency"),
    ),
    Figure("artefacts", "artefacts", "share", ("28 %", "8 %"), _share("artefacts")),
    Figure(
        "leakage", "leakage (class word alone)", "share", ("", ""),
        lambda r: (r.get("leakage") or {}).get("share"),
    ),
    Figure("identity", "mean identity similarity", "number", ("", ""), _number("identity")),
    Figure("adherence", "adherence (CLIP)", "number", ("", ""), _number("adherence")),
    Figure("quality", "mean quality", "number", ("", ""), _number("quality")),
    Figure("diversity", "diversity (Vendi score)", "number", ("", ""), _number("diversity")),
    Figure("memorised", "memorised", "share", ("", ""), _share("memorised")),
    Figure(
        "grid_rating", "mean rating of the 3 x 3 grid", "number", ("", ""),
        lambda r: (r["series"].get("grid") or {}).get("rating"),
    ),
)  # fmt: skip


def figures_of(results: Sequence[Result]) -> dict[str, Spread]:
    """Return every figure of an arm over its repeats."""
    return {f.key: Spread(tuple(f.of(result) for result in results)) for f in FIGURES}


def _flag(value: bool | None) -> float | None:
    return None if value is None else float(value)


def report_of(results: Mapping[str, Sequence[Result]]) -> dict[str, Any]:
    """Return the figures of all arms, as JSON knows them.

    Args:
        results: By arm, a result a repeat.
    """
    level = figures_of(results.get(MAIN[0], ()))["plateau"].mean
    arms: dict[str, Any] = {}
    for arm, runs in results.items():
        figures = figures_of(runs)
        figures["settled"] = Spread(tuple(_flag(run.get("settled")) for run in runs))
        if level is not None:
            figures["steps_to_raw_plateau"] = Spread(tuple(steps_to_level(runs, level)))
        arms[arm] = {name: spread.as_mapping() for name, spread in figures.items()}
    stated = {f.key: list(f.stated) for f in FIGURES if any(f.stated)}
    return {"stated": stated, "arms": arms}


def markdown(report: Mapping[str, Any]) -> str:
    """Write the tables of a report: the two main arms beside what is stated, then every arm."""
    arms = report["arms"]
    lines = [
        "| | stated before | stated after | raw, measured | curated, measured |",
        "|--|--:|--:|--:|--:|",
    ]
    raw, curated = (arms.get(name) for name in MAIN)
    for figure in FIGURES:
        cells = [_cell(arm, figure.key, figure.kind) for arm in (raw, curated)]
        if any(cells):
            lines.append(f"| {figure.label} | {' | '.join([*figure.stated, *cells])} |")
    key = "steps_to_raw_plateau"
    cells = [_cell(arm, key, "count") for arm in (raw, curated)]
    if any(cells):
        lines.append(f"| optimizer steps to the raw arm's plateau | | | {' | '.join(cells)} |")
    lines += ["", *_notes(report)]
    if set(arms) - set(MAIN):
        lines += ["", *_ablation(arms)]
    return "\n".join(lines) + "\n"


def _notes(report: Mapping[str, Any]) -> list[str]:
    """Say what the base model does by itself, and which runs ended before their loss settled."""
    notes = []
    base = (report.get("base") or {}).get("base")
    if base:
        shares = (f"{base[name]['share'] * 100:.1f} %" for name in ("consistency", "artefacts"))
        notes.append(
            "The base model by itself, with the plain description: consistency {}, artefacts {}, "
            "adherence {:.4f}.".format(*shares, base["adherence"])
        )
    settled = [s for arm in report["arms"].values() for s in arm["settled"]["values"]]
    if open_ends := settled.count(0.0):
        notes.append(
            f"In {open_ends} of {how_many(len(settled), 'run')} the loss was still falling near "
            "the end: for those, convergence and plateau are what a run of this length shows."
        )
    return notes


def _ablation(arms: Mapping[str, Any]) -> list[str]:
    shown = [f for f in FIGURES if f.key in (
        "pictures", "converged_step", "plateau", "consistency", "artefacts", "leakage", "memorised",
    )]  # fmt: skip
    head = ["arm", *(f.label for f in shown), "runs"]
    lines = ["| " + " | ".join(head) + " |", "|--" * len(head) + "|"]
    for name, description in ARMS.items():
        if name in arms:
            cells = [_cell(arms[name], f.key, f.kind) for f in shown]
            runs = arms[name]["pictures"]["runs"]
            lines.append("| " + " | ".join([description, *cells, str(runs)]) + " |")
    return lines


def _cell(arm: Mapping[str, Any] | None, key: str, kind: str) -> str:
    """Write mean and deviation, as ``0.812 ± 0.03``; how many runs had none is said."""
    spread = (arm or {}).get(key)
    if not spread or spread["mean"] is None:
        return "never" if spread and key.startswith("steps") and spread["values"] else ""
    factor, digits = {"share": (100.0, 1), "count": (1.0, 0), "number": (1.0, 4)}[kind]
    text = f"{spread['mean'] * factor:.{digits}f}"
    if spread["standard_deviation"] and round(spread["standard_deviation"] * factor, digits):
        text += f" ± {spread['standard_deviation'] * factor:.{digits}f}"
    text += " %" if kind == "share" else ""
    missing = sum(value is None for value in spread["values"])
    return text + (f" ({missing} of {len(spread['values'])} never)" if missing else "")


def replaced(document: str, table: str) -> str:
    """Return a document whose measured part, between two marks, is the table.

    Raises:
        ValueError: The marks are not there.
    """
    if BEGIN not in document or END not in document:
        raise ValueError(f"the document has no part between {BEGIN} and {END}")
    head, rest = document.split(BEGIN, 1)
    return f"{head}{BEGIN}\n\n{table.strip()}\n\n{END}{rest.split(END, 1)[1]}"
