"""The verdict as a page beside the report: self-contained, and readable without scripts."""

from __future__ import annotations

from html import escape
from pathlib import Path
from string import Template

from .. import report
from ..dataset.verdict import VERIFICATION_PAGE
from .checklist import Line, Readiness, Status

_HERE = Path(report.__file__).parent
_CLASSES = {Status.HOLDS: "holds", Status.FAILS: "fails"}
_SHOWN = 50
"""Faults of a line that are shown; ``verification.json`` has all of them."""


def page(readiness: Readiness) -> str:
    """Return the page of a verification, as HTML."""
    groups = dict.fromkeys(line.group for line in readiness.lines)
    verdict, _, summary = readiness.verdict.partition(":")
    lora = f", LoRA {readiness.lora}" if readiness.lora else ""
    where = f":{summary}. Version {readiness.version}{lora}, {readiness.time}."
    return Template((_HERE / "checklist.html").read_text(encoding="utf-8")).substitute(
        title=escape(readiness.dataset),
        style=(_HERE / "style.css").read_text(encoding="utf-8"),
        verdict=escape(verdict),
        summary=escape(where),
        groups="\n".join(
            _group(name, [line for line in readiness.lines if line.group == name])
            for name in groups
        ),
    )


def report_parts(readiness: Readiness) -> dict[str, str]:
    """Return what the report gains: the verdict, and what was found of the LoRA, as HTML by place.

    The other lines are in the page beside it. Without a LoRA there is the verdict alone.
    """
    verdict, _, summary = readiness.verdict.partition(":")
    parts = {
        "verdict": f'<p class="lead"><strong class="{"met" if readiness.is_ready else "missed"}">'
        f"{escape(verdict)}</strong>:{escape(summary)}, {escape(readiness.time)}. "
        f'<a href="{VERIFICATION_PAGE}">Every line</a></p>',
        "verification": "",
    }
    if readiness.lora:
        titles = {"LoRA training": "Training", "Quality validation": "Evaluation"}
        parts["verification"] = "".join(
            _group(
                f"{title}: {readiness.lora}", [one for one in readiness.lines if one.group == group]
            )
            for group, title in titles.items()
        )
    return parts


def _group(name: str, lines: list[Line]) -> str:
    return (
        f'<section><h2>{escape(name)}</h2><ul class="lines">'
        f"{''.join(map(_line, lines))}</ul></section>"
    )


def _line(line: Line) -> str:
    status = line.status.value
    faults = line.faults[:_SHOWN]
    told = "".join(
        f"<li>{escape(fault.advice)}</li>"
        if line.status is Status.UNCHECKED
        else f"<li><code>{escape(fault.where)}</code>: {escape(fault.what)}. "
        f"{escape(fault.advice)}</li>"
        for fault in faults
    )
    if len(line.faults) > _SHOWN:
        told += f"<li>and {len(line.faults) - _SHOWN} more in verification.json</li>"
    return (
        f'<li><span class="{_CLASSES.get(line.status, "open")}">{escape(status)}</span>'
        f'<b>{escape(line.title)}</b>: <span class="quiet">{escape(line.found)}</span>'
        + (f"<ul>{told}</ul>" if told else "")
        + "</li>"
    )
