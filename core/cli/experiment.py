"""The commands that try what curation and augmentation do: the same with and without."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import CuratorError
from ..json_text import parse
from ..plain_files import plain_text
from .curation import _shard
from .output import EXIT_DONE, escape, progress_on

if TYPE_CHECKING:
    from rich.console import Console

    from ..experiment.plan import ExperimentPlan
    from ..project import Project


AUGMENTATION = "augmentation"
_OF_BEFORE_AFTER: dict[str, Any] = {
    "steps": 600, "ablation": 1, "pictures": 100, "validation": 16, "validate_steps": 50,
    "preset": None, "options": [], "weights": "best", "identity_threshold": None,
    "no_leakage": False,
}  # fmt: skip
_OF_AUGMENTATION: dict[str, Any] = {
    "loras": None,
    "real": 70,
    "unseen": 60,
    "synthetic": None,
    "test_strength": None,
}
"""Options that one of the experiments has alone, and their defaults."""


class OneOutputError(CuratorError):
    """One folder is named for the experiments of several projects."""

    def __init__(self) -> None:
        super().__init__("--output is for one project; leave it out with several.")


class DocumentError(CuratorError):
    """A table cannot be put into a document."""

    def __init__(self, document: Path, error: Exception) -> None:
        super().__init__(
            f"{document} is left as it was: {error}. Mend that, or name another document."
        )


def add_commands(command: Callable[..., argparse.ArgumentParser]) -> None:
    """Add the command and its arguments."""
    sub = command(
        "experiment",
        _experiment,
        "Measure what curating does for the trained LoRA, or augmenting for a recogniser.",
    )
    sub.set_defaults(analyses=True)
    sub.add_argument("name", choices=("before-after", "augmentation"), help="which experiment")
    sub.add_argument(
        "projects", type=Path, nargs="+", metavar="PROJECT.toml|FOLDER",
        help="a project file, or the folder of a run that holds project.toml",
    )  # fmt: skip
    sub.add_argument(
        "--output", type=Path, help="folder (default: named as the experiment, in the project's)"
    )
    sub.add_argument(
        "--shard", type=_shard, default=(0, 1), metavar="I/N",
        help="this process's part of the runs, as 1/2; all use one folder",
    )  # fmt: skip
    sub.add_argument("--steps", type=int, default=600, help="optimizer steps a run (%(default)s)")
    sub.add_argument(
        "--repeats", type=int, default=3, help="runs of the two main arms (%(default)s)"
    )
    sub.add_argument(
        "--ablation", type=int, default=1, help="runs of the arms between (%(default)s; 0: none)"
    )
    sub.add_argument(
        "--pictures", type=int, default=100, help="evaluated images a run (%(default)s)"
    )
    sub.add_argument(
        "--validation", type=int, default=16, help="images held out for all arms (%(default)s)"
    )
    sub.add_argument(
        "--validate-steps", type=int, default=50,
        help="optimizer steps between validations (%(default)s)",
    )  # fmt: skip
    sub.add_argument("--preset", help="training settings (default: the project's)")
    sub.add_argument(
        "--set", action="append", default=[], metavar="OPTION=VALUE", type=_option, dest="options",
        help="a training option, such as learning_rate=1e-3 (repeat)",
    )  # fmt: skip
    sub.add_argument("--weights", choices=("best", "last"), default="best", help="(%(default)s)")
    sub.add_argument("--identity-threshold", type=float, metavar="COSINE")
    sub.add_argument("--no-leakage", action="store_true", help="leave out the class word")
    sub.add_argument(
        "--loras", type=int,
        help="augmentation: how many of the repeats have a LoRA and variations of their own "
        "(default: all of them)",
    )  # fmt: skip
    sub.add_argument(
        "--real", type=int, default=70,
        help="augmentation: real images of each subject (%(default)s)",
    )  # fmt: skip
    sub.add_argument(
        "--unseen", type=int, default=60,
        help="augmentation: images of each subject to recognise (%(default)s)",
    )  # fmt: skip
    sub.add_argument(
        "--synthetic", type=int, help="augmentation: synthetic images (default: the project's)"
    )
    sub.add_argument(
        "--test-strength", type=float,
        help="augmentation: how much unseen images are disturbed (default: the project's)",
    )  # fmt: skip
    sub.add_argument(
        "--document", type=Path, help="also put the table into this Markdown file, at its marks"
    )


def _experiment(options: argparse.Namespace, console: Console) -> tuple[int, Any]:
    from ..experiment import tables
    from ..experiment.before_after import before_after

    _refuse_others(options)
    if options.name == AUGMENTATION:
        return _augmentation(options, console)
    if options.output is not None and len(options.projects) > 1:
        raise OneOutputError
    reports: dict[str, Any] = {}
    for name in options.projects:
        project, base = read_project(name)
        plan = plan_of(options, project)
        output = options.output or base / project.project.output / "before-after"
        started = time.monotonic()

        def told(
            arm: str, seed: int, done: int, total: int, result: Mapping[str, Any],
            started: float = started,
        ) -> None:  # fmt: skip
            figures = result["series"]["trigger"]
            left = (time.monotonic() - started) / done * (total - done)
            console.print(
                f"Run {done} of {total}, {arm} (seed {seed}): consistency "
                f"{figures['consistency']['share']:.0%}, artefacts "
                f"{figures['artefacts']['share']:.0%}, validation loss {result['best']:.4f}; "
                f"about {left / 60:.0f} min left"
            )

        with progress_on(console) as progress:
            report = before_after(
                project,
                plan,
                output,
                base=base,
                shard=options.shard,
                progress=progress,
                on_run=told,
            )
        table = tables.markdown(report)
        console.print(escape(table), soft_wrap=True)
        console.print(f"Report: [bold]{escape(str(output))}[/]")
        if options.document is not None:
            _put(options.document, table)
        reports[str(name)] = {"output": str(output), **report}
    return EXIT_DONE, reports


def _refuse_others(options: argparse.Namespace) -> None:
    """Refuse options that are another experiment's: they would change nothing."""
    from ..experiment.plan import ExperimentError

    others = _OF_BEFORE_AFTER if options.name == AUGMENTATION else _OF_AUGMENTATION
    given = [
        "--" + name.replace("_", "-")
        for name, default in others.items()
        if getattr(options, name) != default
    ]
    if given:
        raise ExperimentError(
            f"The experiment {options.name} has no {', '.join(given)}: take that out."
        )


def _augmentation(options: argparse.Namespace, console: Console) -> tuple[int, Any]:
    from ..augmentation_section import AugmentationSection
    from ..experiment import augmentation_tables
    from ..experiment.augmentation import AugmentationPlan, try_augmentation
    from ..experiment.plan import ExperimentError

    if len(options.projects) > 1:
        raise ExperimentError("This experiment is of one project with several [[subjects]].")
    project, base = read_project(options.projects[0])
    section = project.augmentation or AugmentationSection()
    strength = options.test_strength
    plan = AugmentationPlan(
        repeats=options.repeats,
        loras=options.repeats if options.loras is None else options.loras,
        real=options.real,
        unseen=options.unseen,
        synthetic=section.total if options.synthetic is None else options.synthetic,
        disturbed=section.disturbed,
        strength=section.strength,
        test_strength=section.strength if strength is None else strength,
    )
    output = options.output or base / project.project.output / AUGMENTATION
    started = time.monotonic()

    def told(repeat: int, name: str, done: int, total: int) -> None:
        left = (time.monotonic() - started) / done * (total - done)
        console.print(
            f"Run {done} of {total}: {escape(name)} in repeat {repeat}; about "
            f"{left / 60:.0f} min left"
        )

    with progress_on(console) as progress:
        report = try_augmentation(
            project, plan, output, base=base, shard=options.shard, progress=progress, on_run=told
        )
    table = augmentation_tables.markdown(report)
    console.print(escape(table), soft_wrap=True)
    console.print(f"Report: [bold]{escape(str(output))}[/]")
    if options.document is not None:
        _put(options.document, table)
    return EXIT_DONE, {"output": str(output), **report}


def plan_of(options: argparse.Namespace, project: Project) -> ExperimentPlan:
    """Return the plan that the arguments ask for.

    Training options are those of the project's [training], unless a preset is named; those that
    are set by themselves go over them.

    Raises:
        SettingsError: A training option is unknown or makes no sense.
    """
    from ..experiment.plan import ExperimentPlan
    from ..training.denoisers.recognise import recognise
    from ..training.presets import AUTO, choose

    section = project.training
    values = dict(section.options) if section and options.preset is None else {}
    preset = options.preset or (section.preset if section else None)
    guess = None
    if preset in (None, AUTO):
        base = section.base if section else ""
        config = section.base_config if section and base else project.model.config
        guess = recognise(base or project.model.path, config)
    return ExperimentPlan(
        steps=options.steps,
        repeats=options.repeats,
        ablation=options.ablation,
        settings=choose({**values, **dict(options.options)}, preset, guess).settings,
        validation=options.validation,
        validate_steps=options.validate_steps,
        pictures=options.pictures,
        leakage=not options.no_leakage,
        weights=options.weights,
        identity_threshold=options.identity_threshold,
    )


def read_project(path: Path) -> tuple[Project, Path]:
    """Read a project file, or that of the folder of a run.

    Returns:
        The project, and the folder that its relative paths start from.
    """
    from .. import project
    from ..project_parts import with_output

    if path.is_dir():
        return with_output(project.read(path / "project.toml"), path.resolve()), path
    return project.read(path), path.parent


def _put(document: Path, table: str) -> None:
    from .. import atomic
    from ..experiment.tables import replaced

    try:
        text = replaced(plain_text(document), table)
    except (OSError, ValueError) as error:
        raise DocumentError(document, error) from error
    atomic.write_text(document, text)


def _option(text: str) -> tuple[str, Any]:
    name, sign, value = text.partition("=")
    if not sign:
        raise argparse.ArgumentTypeError(f"{text} is not OPTION=VALUE, as in learning_rate=1e-3")
    try:
        return name, parse(value)
    except ValueError:
        return name, value
