"""What changed between two versions as a page: images side by side, and nothing else needed."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from pathlib import Path
from string import Template
from typing import Any

from .. import report
from ..counts import how_many
from ..report.thumbnails import data_uri, thumbnails
from .difference import SCORES, CaptionChange, Difference, MovedImage, ScoreChange
from .setting_changes import GROUPS
from .version_list import Version

SHOWN = 400
"""The most images that a part of the page shows, and the most rows that a table has."""

_HERE = Path(report.__file__).parent
_NOTHING = '<p class="quiet">None.</p>'


def page(difference: Difference) -> str:
    """Return the page as HTML, without any reference to something outside.

    Args:
        difference: What changed.
    """
    before, after = difference.before, difference.after
    parts = (
        _warnings(difference),
        _settings(difference),
        _sides(difference),
        _redrawn(difference),
        _captions(difference),
        _scores(difference),
        _same(difference),
    )
    return Template((_HERE / "difference.html").read_text(encoding="utf-8")).substitute(
        title=escape(after.place.name),
        between=escape(f"{name_of(before)} and {name_of(after)}"),
        style=(_HERE / "style.css").read_text(encoding="utf-8"),
        lead=_lead(difference),
        cards=_cards(difference),
        sections="\n".join(filter(None, parts)),
    )


def name_of(version: Version) -> str:
    """Return what a version is called: ``version 3``."""
    return f"version {version.number}"


def _lead(difference: Difference) -> str:
    told = [
        f"<strong>{escape(name_of(one))}</strong> of {escape(one.time[:16].replace('T', ' '))}"
        for one in (difference.before, difference.after)
    ]
    if difference.before.place != difference.after.place:
        told[0] += f" of {escape(difference.before.place.name)}"
    equal = ": equal, file by file" if difference.is_equal else ""
    return f"From {told[0]} to {told[1]}{equal}"


def _cards(difference: Difference) -> str:
    counts = tuple(len(one.images) for one in (difference.before, difference.after))
    means = tuple(_mean(one) for one in (difference.before, difference.after))
    cards = [
        (f"{counts[0]} <small>→</small> {counts[1]}", "images"),
        (f"+{len(difference.entered)}", "in"),
        (f"−{len(difference.left)}", "out"),
        (str(len(difference.redrawn)), "redrawn"),
        (str(len(difference.captions)), "captions changed"),
        (str(len({change.image.after for change in difference.scores})), "scored otherwise"),
    ]
    if None not in means:
        cards.append((f"{means[0]:.3f} <small>→</small> {means[1]:.3f}", "mean quality"))
    return "".join(
        f'<div class="card{" wide" if "." in value else ""}"><b>{value}</b>'
        f"<span>{escape(label)}</span></div>"
        for value, label in cards
    )


def _mean(version: Version) -> float | None:
    rows = version.metadata().values()
    scores = [r["quality_score"] for r in rows if isinstance(r.get("quality_score"), int | float)]
    return sum(scores) / len(scores) if scores else None


def _warnings(difference: Difference) -> str:
    items = [
        f"<li>{how_many(len(names), 'file')} of {escape(name_of(one))} gone "
        f"or changed since its export: {escape(', '.join(names[:10]))}"
        f"{', …' if len(names) > 10 else ''}.</li>"
        for one, names in zip(
            (difference.before, difference.after), difference.damaged, strict=True
        )
        if names
    ]
    if not items:
        return ""
    return f'<section><h2>Damage</h2><ul class="facts warning">{"".join(items)}</ul></section>'


def _settings(difference: Difference) -> str:
    parts = []
    for group in GROUPS:
        changes = [change for change in difference.settings if change.group == group]
        rows = "".join(
            f"<tr><td><code>{escape(change.key)}</code></td>"
            f"<td>{_value(change.before)}</td>"
            f"<td>{_value(change.after)}</td></tr>"
            for change in changes[:SHOWN]
        )
        if rows:
            head = _heads(group.capitalize(), difference)
            parts.append(
                f'<table class="settings"><thead><tr>{head}</tr></thead>'
                f"<tbody>{rows}</tbody></table>{_rest(len(changes))}"
            )
    names = escape(", ".join(difference.files))
    files = f'<p class="quiet">Other files that differ: {names}.</p>' if names else ""
    return f"<section><h2>Settings</h2>{'<h3></h3>'.join(parts) or _NOTHING}{files}</section>"


def _heads(title: str, difference: Difference) -> str:
    names = (title, name_of(difference.before), name_of(difference.after))
    return "".join(f"<th>{escape(name[0].upper() + name[1:])}</th>" for name in names)


def _value(text: str) -> str:
    return escape(text) if text else '<span class="quiet">not said</span>'


def _sides(difference: Difference) -> str:
    sides = (
        ("Out: only in", difference.before, difference.left),
        ("In: only in", difference.after, difference.entered),
    )
    columns = "".join(
        f'<div><h3>{escape(f"{title} {name_of(version)}")} <span class="quiet">{len(images)}</span>'
        f"</h3>{_moved(version, images)}</div>"
        for title, version, images in sides
    )
    told = "Below each image: its quality, and why the other version does not hold it."
    return (
        f'<section><h2>In and out</h2><p class="quiet">{told}</p>'
        f'<div class="sides">{columns}</div></section>'
    )


def _moved(version: Version, images: Sequence[MovedImage]) -> str:
    shown = images[:SHOWN]
    pictures = _pictures(version, [image.name for image in shown])
    tiles = "".join(
        f"<figure>{picture}<figcaption>{_score(image)}{escape(image.why or image.name)}"
        "</figcaption></figure>"
        for image, picture in zip(shown, pictures, strict=True)
    )
    return f'<div class="tiles">{tiles}</div>{_rest(len(images))}' if tiles else _NOTHING


def _score(image: MovedImage) -> str:
    return "" if image.quality is None else f"{image.quality:.2f} · "


def _redrawn(difference: Difference) -> str:
    if not difference.redrawn:
        return ""
    shown = difference.redrawn[:SHOWN]
    before = _pictures(difference.before, [image.before for image in shown])
    after = _pictures(difference.after, [image.after for image in shown])
    pairs = "".join(
        f'<figure class="pair">{one}{other}<figcaption>{escape(image.after)}</figcaption></figure>'
        for image, one, other in zip(shown, before, after, strict=True)
    )
    title = f"{name_of(difference.before)} left, {name_of(difference.after)} right"
    return (
        f'<section><h2>Redrawn</h2><p class="quiet">One name, other bytes: {escape(title)}.</p>'
        f'<div class="pairs">{pairs}</div>{_rest(len(difference.redrawn))}</section>'
    )


def _captions(difference: Difference) -> str:
    if not difference.captions:
        return ""
    shown = difference.captions[:SHOWN]
    pictures = _pictures(difference.after, [change.image.after for change in shown])
    rows = "".join(
        f'<div class="words">{picture}<p>{before}</p><p>{after}</p>'
        f"<small>{escape(change.image.after)}</small></div>"
        for change, picture in zip(shown, pictures, strict=True)
        for before, after in [_marked(change)]
    )
    return f"<section><h2>Captions</h2>{rows}{_rest(len(difference.captions))}</section>"


def _marked(change: CaptionChange) -> tuple[str, str]:
    """Return both captions with the words marked that only one of them has."""
    before, after = (re.findall(r"\s+|\w+|[^\w\s]", text) for text in (change.before, change.after))
    matcher = difflib.SequenceMatcher(None, before, after, autojunk=False)
    one, other = [], []
    for kind, start, end, begin, stop in matcher.get_opcodes():
        old, new = escape("".join(before[start:end])), escape("".join(after[begin:stop]))
        one.append(f"<del>{old}</del>" if kind != "equal" and old else old)
        other.append(f"<ins>{new}</ins>" if kind != "equal" and new else new)
    none = '<span class="quiet">none</span>'
    return "".join(one) or none, "".join(other) or none


def _scores(difference: Difference) -> str:
    if not difference.scores:
        return ""
    rows = "".join(map(_score_row, difference.scores[:SHOWN]))
    names = ("Image", "Score", name_of(difference.before), name_of(difference.after), "Step")
    head = "".join(
        f"<th{' class=number' if n > 1 else ''}>{escape(name[0].upper() + name[1:])}</th>"
        for n, name in enumerate(names)
    )
    return (
        '<section><h2>Scores</h2><p class="quiet">Of images of both, the largest steps first.</p>'
        f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>'
        f"</div>{_rest(len(difference.scores))}</section>"
    )


def _score_row(change: ScoreChange) -> str:
    step = ""
    if change.before is not None and change.after is not None:
        amount = change.after - change.before
        kind = "more" if amount > 0 else "less"
        step = f'<span class="{kind}">{amount:+.4f}</span>'.replace("-", "−")
    numbers = "".join(
        f'<td class="number">{"none" if value is None else f"{value:.4f}"}</td>'
        for value in (change.before, change.after)
    )
    return (
        f'<tr><td class="path">{escape(change.image.after)}</td>'
        f"<td>{escape(SCORES[change.score])}</td>{numbers}"
        f'<td class="number">{step}</td></tr>'
    )


def _same(difference: Difference) -> str:
    shown = difference.same[:SHOWN]
    if not shown:
        return ""
    known: Mapping[str, Mapping[str, Any]] = difference.after.metadata()
    pictures = _pictures(difference.after, [image.after for image in shown])
    tiles = "".join(
        f"<figure>{picture}<figcaption>{_quality(known.get(image.after, {}))}</figcaption></figure>"
        for image, picture in zip(shown, pictures, strict=True)
    )
    return (
        f"<section><details><summary><h2>In both <span class='quiet'>{len(difference.same)}</span>"
        f'</h2></summary><div class="tiles">{tiles}</div>{_rest(len(difference.same))}'
        "</details></section>"
    )


def _quality(row: Mapping[str, Any]) -> str:
    score = row.get("quality_score")
    return f"{score:.2f}" if isinstance(score, int | float) else ""


def _pictures(version: Version, names: Sequence[str]) -> Iterator[str]:
    """Yield each image as an element of the page; a field with words where it can't be shown."""
    for name, small in zip(names, thumbnails([version.file(name) for name in names]), strict=True):
        if small is None:
            yield f'<div class="blank" title="{escape(name)}">not there</div>'
        else:
            yield f'<img src="{data_uri(small)}" alt="{escape(name)}" title="{escape(name)}">'


def _rest(count: int) -> str:
    return f'<p class="quiet">{count - SHOWN:,} more.</p>' if count > SHOWN else ""
