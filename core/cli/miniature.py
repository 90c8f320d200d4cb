"""The command of the embedded models: where they are, train, measure."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .output import EXIT_DONE, Command, escape, progress_on

if TYPE_CHECKING:
    from rich.console import Console


def add_commands(command: Command) -> None:
    """Add the command and its arguments."""
    sub = command("miniature", _miniature, "The embedded models: where they are, train, measure.")
    sub.add_argument("action", choices=("where", "train", "measure"), nargs="?", default="where")
    sub.add_argument("--output", type=Path, default=Path("miniature-weights"))
    sub.add_argument("--hours", type=float, default=3.0, help="time budget of 'train' in all")
    sub.add_argument("--seed", type=int, default=0)


def _miniature(options: argparse.Namespace, console: Console) -> tuple[int, Any]:
    from .. import miniature

    if options.action == "train":
        from ..miniature.recipe.family import train_family

        with progress_on(console) as progress:
            weights = train_family(
                options.output,
                budget_seconds=options.hours * 3600,
                seed=options.seed,
                progress=progress,
            )
        console.print(
            f"Trained. Measure with: character-curator miniature measure --output {weights}"
        )
        return EXIT_DONE, {"weights": str(weights)}
    if options.action == "measure":
        from ..miniature import measure

        root = options.output if options.output.is_dir() else miniature.WEIGHTS
        with progress_on(console) as progress:
            table = measure.measure_all(root, progress=progress)
        console.print(escape(measure.markdown_table(table)))
        return EXIT_DONE, table
    places = {
        "text-to-image": str(miniature.DIFFUSION_PATH),
        "faces": str(miniature.FACE_PACK_PATH),
        "clip": str(miniature.CLIP_PATH),
    }
    for name, place in places.items():
        console.print(f"{name}: {place}")
    return EXIT_DONE, places
