"""The command of the embedded models: where they are, and, in the repository, train and measure."""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from ..errors import CuratorError
from .output import EXIT_DONE, Command, escape, progress_on

if TYPE_CHECKING:
    from rich.console import Console

_RECIPE = Path(__file__).parents[2] / "miniature"


class RecipeNotHereError(CuratorError):
    """The embedded models' recipe is part of the repository, not of the installed package."""

    def __init__(self) -> None:
        super().__init__(
            "The recipe of the embedded models is part of the repository, and the installed "
            "package does without it. Clone the repository, and run this command from there: "
            "python quickstart.py installs it."
        )


_WEIGHTS = Path("miniature-weights")


def add_commands(command: Command) -> None:
    """Add the command and its arguments."""
    sub = command("miniature", _miniature, "The embedded models: where they are, train, measure.")
    sub.add_argument("action", choices=("where", "train", "measure"), nargs="?", default="where")
    sub.add_argument("--output", type=Path, help=f"folder of weights (default: {_WEIGHTS})")
    sub.add_argument("--hours", type=float, default=3.0, help="time budget of 'train' in all")
    sub.add_argument("--seed", type=int, default=0)


def _miniature(options: argparse.Namespace, console: Console) -> tuple[int, Any]:
    from .. import miniature

    output = options.output or _WEIGHTS
    if options.action == "train":
        recipe = _project("recipe.family")
        with progress_on(console) as progress:
            weights = recipe.train_family(
                output,
                budget_seconds=options.hours * 3600,
                seed=options.seed,
                progress=progress,
            )
        console.print(
            f"Trained. Measure with: character-curator miniature measure --output {escape(weights)}"
        )
        return EXIT_DONE, {"weights": str(weights)}
    if options.action == "measure":
        measure = _project("measure")
        root = output if output.is_dir() else miniature.WEIGHTS
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
        console.print(f"{name}: {escape(place)}")
    return EXIT_DONE, places


def _project(name: str) -> ModuleType:
    """Import a module of the recipe's project, which lies beside core in the repository.

    Raises:
        RecipeNotHereError: It does not.
    """
    if "miniature" not in sys.modules:
        if not (_RECIPE / "recipe").is_dir():
            raise RecipeNotHereError
        spec = importlib.util.spec_from_file_location("miniature", _RECIPE / "__init__.py")
        assert spec is not None  # noqa: S101  # the file is there
        assert spec.loader is not None  # noqa: S101
        module = importlib.util.module_from_spec(spec)
        sys.modules["miniature"] = module
        spec.loader.exec_module(module)
    return importlib.import_module(f"miniature.{name}")
