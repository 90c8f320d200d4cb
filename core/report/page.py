"""The report: one HTML page that needs nothing beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Any

import polars as pl

from ..counts import how_many, worded
from ..imageset import ImageSet
from ..rejection_reasons import Rejection, in_words
from ..toml_lines import recipe_toml
from .candidates import data, listed
from .charts import funnel, histogram
from .composition import COLUMNS, ValueCount, value_counts
from .likeness import map_section
from .thumbnails import embedded, readable_path
from .tiles import Tiles, candidates_table, duplicate_groups

if TYPE_CHECKING:
    from ..selection import Selection
    from ..selection.result import QuotaCount

_HERE = Path(__file__).parent

_STEPS: tuple[tuple[str, tuple[Rejection, ...]], ...] = (
    ("Readable", (Rejection.UNREADABLE,)),
    (
        "One valid face",
        (
            Rejection.NO_FACE,
            Rejection.SEVERAL_FACES,
            Rejection.LOW_CONFIDENCE,
            Rejection.FACE_TOO_SMALL,
            Rejection.NO_CROP,
        ),
    ),
    ("Right identity", (Rejection.IDENTITY_MISMATCH, Rejection.OTHER_SUBJECT)),
    (
        "Good quality",
        (Rejection.LOW_QUALITY, Rejection.BARS, Rejection.SEVERAL_IMAGES, Rejection.TEXT),
    ),
    ("Without duplicates", (Rejection.DUPLICATE,)),
    ("Without vetoes", (Rejection.VETO,)),
)


def render(
    images: ImageSet,
    *,
    name: str,
    trigger: str = "",
    names: Mapping[str, str] | None = None,
    selection: Selection | None = None,
    recipe: Mapping[str, Any] | None = None,
    minimum_quality: float | None = None,
    minimums: Mapping[str, float] | None = None,
) -> str:
    """Write the report of a curated set.

    Args:
        images: Every candidate, after whatever stages.
        name: The dataset's name.
        trigger: The trigger word.
        names: Path of an image to its file name in the folder that the page will lie in: such
            images are selected, and link to the file. Without it, those that the set marks.
        selection: How the images were selected: its sentences, and its quotas in the tables.
        recipe: What made the set, shown as TOML.
        minimum_quality: Quality threshold to mark in the histogram; ``None`` looks for
            ``minimum_quality`` or ``quality.minimum`` in the recipe.
        minimums: By column, the least score that passed, where the recipe does not say it.

    Returns:
        HTML without any reference to something outside, apart from links to the images beside
        it, readable without scripts. Its size is bounded: at most 5,000 images are listed, all
        that are selected among them, and their thumbnails take 20 MB at most.
    """
    table, selected = images.table, _selected(images, names)
    threshold = minimum_quality if minimum_quality is not None else _minimum(recipe or {})
    chosen = table.filter(selected)
    candidates = listed(images, selected, selection, recipe, threshold, minimums)
    shown = candidates.images.table
    paths = [readable_path(row, images.root) for row in candidates.rows]
    tiles = Tiles(candidates, embedded(paths), names or {})
    clusters = shown["cluster"].to_list() if "cluster" in shown.columns else [None] * len(shown)
    template = Template(_HERE.joinpath("template.html").read_text("utf-8"))
    return template.substitute(
        title=escape(name),
        style=_HERE.joinpath("style.css").read_text("utf-8"),
        lead=_lead(chosen, table, trigger),
        cards=_cards(chosen, table),
        funnel=funnel(_funnel(images, selected)),
        histogram=_histogram(table, selected, threshold),
        selection=_sentences(selection),
        composition=_composition(table, selected, selection),
        selected=tiles.selected(),
        rejected=tiles.rejected(),
        map=map_section(
            candidates.like, candidates.selected, clusters, shown["path"].to_list(), len(table)
        ),
        duplicates=duplicate_groups(candidates),
        candidates=candidates_table(candidates),
        recipe=_recipe(recipe),
        data=data(
            candidates,
            name=name,
            decisions=_decisions(selection),
            fingerprint=images.fingerprint(),
        ),
        script=_HERE.joinpath("page.js").read_text("utf-8"),
    )


def _decisions(selection: Selection | None) -> list[dict[str, str]]:
    """Return the decisions that were followed, so that further ones are added to them."""
    if selection is None or selection.followed is None:
        return []
    made = selection.followed.decisions
    return [
        {"hash": key, "decision": word, "name": made.names.get(key, "")}
        for word, side in (("keep", made.keep), ("veto", made.veto))
        for key in sorted(side)
    ]


def _selected(images: ImageSet, names: Mapping[str, str] | None) -> pl.Series:
    if names is not None:
        return pl.Series("selected", [path in names for path in images.table["path"]])
    mask = images.table["rejection"].is_null()
    if "selected" in images.table.columns:
        mask = mask & images.table["selected"].fill_null(False)
    return mask.alias("selected")


def _minimum(recipe: Mapping[str, Any]) -> float | None:
    nested = recipe.get("quality")
    found = recipe.get("minimum_quality")
    if found is None and isinstance(nested, Mapping):
        found = nested.get("minimum")
    return float(found) if isinstance(found, int | float) else None


def _lead(chosen: pl.DataFrame, table: pl.DataFrame, trigger: str) -> str:
    text = f"<strong>{chosen.height:,}</strong> of {how_many(table.height, 'image')}"
    word = f" · trigger word <code>{escape(trigger)}</code>" if trigger else ""
    return text + word


def _cards(chosen: pl.DataFrame, table: pl.DataFrame) -> str:
    cards = [
        (f"{chosen.height:,}", "selected"),
        (f"{chosen.height / max(1, table.height):.1%}", "of the candidates"),
    ]
    if "quality" in chosen.columns and chosen["quality"].drop_nulls().len():
        scores = chosen["quality"].drop_nulls().to_numpy()
        cards.append((f"{scores.mean():.2f}", "mean quality"))
        cards.append((f"{scores.min():.2f}", "lowest quality"))
    for column in ("seed", "cluster"):
        if column in chosen.columns and (count := chosen[column].drop_nulls().n_unique()):
            cards.append((f"{count:,}", worded(count, column)))
    return "".join(
        f'<div class="card"><b>{escape(value)}</b><span>{escape(label)}</span></div>'
        for value, label in cards
    )


def _funnel(images: ImageSet, selected: pl.Series) -> list[tuple[str, int, str]]:
    counts = images.rejections()
    left = len(images)
    steps = [("Candidates", left, "")]
    for label, reasons in _STEPS:
        lost = [(counts[r.value], in_words(r)) for r in reasons if r.value in counts]
        if lost:
            left -= sum(count for count, _ in lost)
            steps.append((label, left, ", ".join(f"− {count:,} {why}" for count, why in lost)))
    final = int(selected.sum())
    lost_last = f"− {left - final:,} without a place in the optimum" if left > final else ""
    return [*steps, ("Selected", final, lost_last)]


def _histogram(table: pl.DataFrame, selected: pl.Series, minimum: float | None) -> str:
    if "quality" not in table.columns:
        return histogram([], [], minimum)
    values = table.select("quality", selected).drop_nulls("quality")
    return histogram(
        values.filter(pl.col("selected"))["quality"].to_list(),
        values.filter(~pl.col("selected"))["quality"].to_list(),
        minimum,
    )


def _sentences(selection: Selection | None) -> str:
    if selection is None:
        return ""
    items = "".join(f"<li>{escape(sentence)}</li>" for sentence in selection.sentences())
    return f'<ul class="facts">{items}</ul>'


def _composition(table: pl.DataFrame, selected: pl.Series, selection: Selection | None) -> str:
    quotas = selection.quotas if selection else ()
    total = selection.total if selection else 0
    titles = COLUMNS | {
        q.column: q.column.replace("_", " ").capitalize() for q in quotas if q.column not in COLUMNS
    }
    parts = []
    for column, title in titles.items():
        counted = value_counts(table, selected, column)
        limits = {str(q.value): _limits(q, total) for q in quotas if q.column == column}
        if len(counted) > 1 or (counted and limits):
            parts.append(_composition_table(title, counted, limits))
    return "".join(parts)


def _composition_table(title: str, counted: Sequence[ValueCount], limits: Mapping[str, str]) -> str:
    """Draw the counts of one column; ``limits`` is empty when it has no quota."""
    most = max(1, *(share.selected for share in counted))
    header = f"<th>{escape(title)}</th><th></th>" + "".join(
        f'<th class="number">{text}</th>'
        for text in ("Selected", *(["Quota"] if limits else []), "Candidates")
    )
    rows = []
    for share in counted:
        quota = f'<td class="number">{limits.get(share.key, "")}</td>' if limits else ""
        rows.append(
            f"<tr><td>{escape(share.value)}</td>"
            f'<td class="meter"><span style="width:{share.selected / most:.1%}"></span></td>'
            f'<td class="number">{share.selected}</td>{quota}'
            f'<td class="number quiet">{share.candidates:,}</td></tr>'
        )
    return f"<table><thead><tr>{header}</tr></thead><tbody>{''.join(rows)}</tbody></table>"


def _limits(quota: QuotaCount, total: int) -> str:
    if not quota.minimum and quota.maximum >= total:
        return ""
    if quota.minimum == quota.maximum:
        text = f"{quota.minimum}"
    elif quota.maximum >= total:
        text = f"≥ {quota.minimum}"
    elif quota.minimum:
        text = f"{quota.minimum}–{quota.maximum}"
    else:
        text = f"≤ {quota.maximum}"
    kind, sign = ("met", "✓") if quota.met else ("missed", "✗")
    return f'{text} <span class="{kind}">{sign}</span>'


def _recipe(recipe: Mapping[str, Any] | None) -> str:
    if not recipe:
        return ""
    return (
        "<section><details><summary><h2>Recipe</h2></summary>"
        f"<pre>{escape(recipe_toml(recipe))}</pre></details></section>"
    )
