"""The command that makes a portfolio: several subjects, a dataset of each and one of all."""

from __future__ import annotations

import argparse
import time
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import project
from .output import EXIT_DIFFERENT, EXIT_DONE, Command, escape, progress_on, say

if TYPE_CHECKING:
    from rich.console import Console

    from ..portfolio.records import Portfolio


def add_commands(command: Command) -> None:
    """Add the command and its arguments."""
    sub = command(
        "portfolio",
        _portfolio,
        "Make the datasets of several subjects, a combined one, and the cross-subject table.",
    )
    sub.set_defaults(analyses=True)
    sub.add_argument("project", type=Path, metavar="PROJECT.toml")
    sub.add_argument(
        "--again", action="append", default=[], metavar="SUBJECT",
        help="curate this subject again although nothing of it has changed, beside all that are "
        "there now (repeat for more)",
    )  # fmt: skip


def _portfolio(options: argparse.Namespace, console: Console) -> tuple[int, Any]:
    return made(project.read(options.project), options.project.parent, console, options.again)


def made(
    parsed: project.Project, base: Path, console: Console, again: Collection[str] = ()
) -> tuple[int, Any]:
    """Make a portfolio and show what came of it."""
    from ..portfolio.making import make_portfolio

    if parsed.portfolio is None:
        raise project.ProjectFileError(
            "The project has no section [portfolio]. Add one, empty or with the margin and the "
            "price an hour; without it 'character-curator run' makes one dataset of all subjects."
        )
    started = time.monotonic()
    with progress_on(console) as progress:
        found = make_portfolio(
            parsed, base, again=again, on_notes=lambda notes: say(console, notes),
            progress=progress,
        )  # fmt: skip
    _show(found, console)
    console.print(f"\nDone in {time.monotonic() - started:.0f} s.")
    console.print(f"Portfolio: [bold]{escape(str(found.folder))}[/], version {found.version}")
    code = EXIT_DONE if found.is_complete else EXIT_DIFFERENT
    return code, {"folder": str(found.folder), **found.as_mapping()}


def _show(found: Portfolio, console: Console) -> None:
    from rich.table import Table

    from ..portfolio.records import readable_time

    table = Table(title="Datasets", title_justify="left")
    for title in ("subject", "candidates", "images", "asked for", "generation", "curation", ""):
        table.add_column(title, justify="left" if title in ("subject", "") else "right")
    for entry in (*found.entries, found.combined):
        one = entry.figures
        table.add_row(
            escape(entry.name), str(one.candidates), str(one.images), str(entry.wanted),
            readable_time(one.generation_seconds) if entry.subject else "",
            readable_time(one.curation_seconds) if entry.subject else "",
            "as it was" if entry.kept else f"version {entry.version}",
        )  # fmt: skip
    console.print(table)
    compared = Table(title="Mean similarity in the datasets", title_justify="left")
    for title in ("images of", *found.chosen.subjects, "turned away", "least margin"):
        compared.add_column(escape(title), justify="left" if title == "images of" else "right")
    turned = found.candidates.nearer.sum(axis=1)
    for row, name in enumerate(found.chosen.subjects):
        near = [f"{value:.3f}" for value in found.chosen.similarity[row]]
        compared.add_row(
            escape(name), *near, str(int(turned[row])), f"{found.chosen.least[row]:.3f}"
        )
    console.print(compared)
    for sentence in found.sentences():
        console.print(f"[yellow]{escape(sentence)}[/]")
