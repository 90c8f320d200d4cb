"""The command that augments: real images, and synthetic variations of them, in one dataset."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import project
from .output import EXIT_DIFFERENT, EXIT_DONE, Command, escape, say

if TYPE_CHECKING:
    from rich.console import Console

    from ..augmentation.records import Augmentation


def add_commands(command: Command) -> None:
    """Add the command and its arguments."""
    sub = command(
        "augment",
        _augment,
        "Make a dataset of real images and of synthetic variations of whom they show.",
    )
    sub.set_defaults(analyses=True)
    sub.add_argument("project", type=Path, metavar="PROJECT.toml")


def _augment(options: argparse.Namespace, console: Console) -> tuple[int, Any]:
    return made(project.read(options.project), options.project.parent, console)


def made(parsed: project.Project, base: Path, console: Console) -> tuple[int, Any]:
    """Augment, and show what came of it."""
    from ..augmentation.making import make_augmentation
    from ..training.result import joined
    from .memory import kept_while_training
    from .training_view import TrainingView

    started = time.monotonic()
    with TrainingView(console) as view, kept_while_training() as memory:
        found = make_augmentation(
            parsed,
            base,
            callbacks=joined(view.callbacks(), memory),
            on_notes=lambda notes: say(console, notes),
            progress=view,
        )
    _show(found, console)
    console.print(f"\nDone in {time.monotonic() - started:.0f} s.")
    console.print(
        f"Dataset: [bold]{escape(str(found.combined.folder))}[/] (version {found.combined.version})"
    )
    console.print(f"LoRA:    [bold]{escape(str(found.lora))}[/]")
    code = EXIT_DONE if found.is_complete else EXIT_DIFFERENT
    return code, {"folder": str(found.folder), "lora": str(found.lora), **found.as_mapping()}


def _show(found: Augmentation, console: Console) -> None:
    from rich.table import Table

    record = found.as_mapping()
    table = Table(title="The combined dataset")
    for name in ("", "images", "share"):
        table.add_column(name, justify="left" if not name else "right")
    composition = record["composition"]
    for part in ("kinds", "disturbances"):
        for name, counted in composition.get(part, {}).items():
            label = name if part == "kinds" else f"  by {name}"
            table.add_row(escape(label), str(counted["images"]), f"{counted['share']:.1%}")
    console.print(table)
    for note in found.notes:
        console.print(escape(note))
