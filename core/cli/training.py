"""The command that trains a LoRA."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..counts import how_many
from ..defaults import SAMPLE_GUIDANCE, SAMPLE_STEPS
from ..options import Option, options
from ..training.presets import FAMILY_PRESETS, Chosen, choose, preset_names
from ..training.settings import SettingsError, TrainingSettings
from .output import EXIT_DIFFERENT, EXIT_DONE, Command, escape
from .places import file_path, input_path, text_or_input

if TYPE_CHECKING:
    from rich.console import Console

    from ..evaluation.setup import Setup
    from ..lora.families import Guess
    from ..progress import Progress
    from ..training.job import LoraJob, LoraResult, PriorImages, Score

_SHORT = {
    "learning_rate": ("--lr",),
    "batch_size": ("--batch",),
    "ema_decay": ("--ema",),
}
_NOTHING = "none"


def add_commands(command: Command) -> None:
    """Add the command and its arguments."""
    sub = command("train", _train, "Train a LoRA on a dataset or any folder with captions.")
    sub.add_argument("dataset", type=input_path, metavar="DATASET")
    sub.add_argument(
        "--base", required=True, metavar="MODEL",
        help="base model: miniature, a diffusers folder, a .safetensors file, or an id of the "
        "Hugging Face hub",
    )  # fmt: skip
    sub.add_argument(
        "--model-config", metavar="FOLDER",
        help="of a single file: the diffusers folder, or the hub's id, that its configurations and "
        "tokenizers come from (default: what diffusers takes for the file, from the hub)",
    )  # fmt: skip
    sub.add_argument("--output", type=file_path, required=True, metavar="FILE.safetensors")
    sub.add_argument(
        "--preset", choices=preset_names(), metavar="NAME",
        help="settings to start from; options go over them. auto (default): what suits the "
        "model's family; default: none of them; seed-document; or a family: "
        f"{', '.join(FAMILY_PRESETS)}",
    )  # fmt: skip
    sub.add_argument("--trigger", help="trigger word (default: the dataset's own)")
    sub.add_argument("--caption", help="caption of images that have none")
    sub.add_argument("--validation", type=input_path, metavar="FOLDER", help="validate with these")
    sub.add_argument("--prior", type=input_path, metavar="FOLDER", help="prior-preservation images")
    sub.add_argument("--prior-caption", help="caption of those that have none: the class prompt")
    sub.add_argument(
        "--prior-pictures", type=int, default=0, metavar="N",
        help="make so many with the base model, of anybody in the dataset's scenes",
    )  # fmt: skip
    sub.add_argument(
        "--control-images", type=input_path, metavar="FOLDER",
        help="control images of an edit model, under the images' names or as NAME_control.png",
    )  # fmt: skip
    sub.add_argument(
        "--masks", type=text_or_input, metavar="FOLDER",
        help="masks that weigh the loss, under the images' names; or 'beside', for those that lie "
        "beside the images (NAME-masklabel.png, masks/NAME.png) and for transparent images",
    )  # fmt: skip
    sub.add_argument("--start", type=input_path, metavar="FILE", help="LoRA to train further")
    sub.add_argument(
        "--prompt", action="append", default=[], metavar="TEXT",
        help="sample this while training (repeat; default: captions of the dataset)",
    )  # fmt: skip
    sub.add_argument("--no-samples", action="store_true", help="make no sample images")
    sub.add_argument("--sample-steps", type=int, help=f"(the preset's; {SAMPLE_STEPS} without one)")
    sub.add_argument(
        "--sample-guidance", type=float, help=f"(the preset's; {SAMPLE_GUIDANCE} without one)"
    )
    sub.add_argument("--work", type=Path, metavar="FOLDER", help="state and caches (NAME.work)")
    sub.add_argument("--restart", action="store_true", help="do not go on with a killed run")
    sub.add_argument("--device", default="auto", help="auto, cpu, cuda, mps (%(default)s)")
    sub.add_argument(
        "--dtype", default="auto", help="of the frozen weights: auto, float32, float16, bfloat16"
    )
    sub.add_argument(
        "--base-precision", choices=("as_is", "nf4", "int8"), default="as_is",
        help="hold the frozen weights of its blocks so, by bitsandbytes (%(default)s)",
    )  # fmt: skip
    sub.add_argument("--variant", help="variant of the base model's files, such as fp16")
    sub.add_argument("--allow-pickle", action="store_true", help="load weights that are pickles")
    sub.add_argument(
        "--dora-file", choices=("dora_scale", "folded"), default="dora_scale",
        help="with --dora: a small file that ComfyUI reads exactly, or a large one that every "
        "program does (%(default)s)",
    )  # fmt: skip
    sub.add_argument(
        "--evaluate", type=int, default=0, metavar="N",
        help="evaluate every kept checkpoint on N new prompts in the dataset's words",
    )  # fmt: skip
    sub.add_argument(
        "--prefer", choices=("validation", "evaluation"), default="validation",
        help="what chooses the checkpoint that the file holds (%(default)s)",
    )  # fmt: skip
    sub.add_argument("--tensorboard", type=Path, metavar="FOLDER", help="write event files here")
    group = sub.add_argument_group("settings", f"Of every number that may be absent: '{_NOTHING}'.")
    for option in options(TrainingSettings):
        _add_option(group, option)


def settings_of(given: argparse.Namespace) -> TrainingSettings:
    """Return the settings of a command line, as they are where the model's family is not known.

    Raises:
        SettingsError: A value makes no sense.
    """
    return chosen_of(given).settings


def chosen_of(given: argparse.Namespace, guess: Guess | None = None) -> Chosen:
    """Return the settings that options of the command line describe, over those of the preset.

    Args:
        given: The command line.
        guess: Which family the model is of.

    Raises:
        SettingsError: A value makes no sense.
    """
    values = {name: getattr(given, name) for name in TrainingSettings.model_fields}
    stated = {name: value for name, value in values.items() if value is not None}
    plain = {name: None if value == _NOTHING else value for name, value in stated.items()}
    return choose(plain, given.preset, guess)


def _add_option(group: Any, option: Option) -> None:
    names = (f"--{option.name.replace('_', '-')}", *_SHORT.get(option.name, ()))
    given: dict[str, Any] = {"dest": option.name, "default": None}
    if option.kind == "flag":
        given |= {"action": argparse.BooleanOptionalAction}
    elif option.kind == "choice":
        given |= {"choices": option.choices}
    elif option.kind == "texts":
        given |= {"type": _targets, "metavar": "PRESET|LAYER,LAYER"}
    elif option.kind == "numbers":
        given |= {"type": float, "nargs": 2, "metavar": ("B1", "B2")}
    elif option.kind == "wholes":
        given |= {"type": int, "nargs": "+", "metavar": "N"}
    elif option.kind == "text":
        given |= {"type": str, "metavar": "TEXT"}
    else:
        number = int if option.kind == "whole" else float
        given |= {"type": _or_nothing(number) if option.optional else number}
        given |= {"metavar": "N" if number is int else "X"}
    default = option.default
    shown = str(default).lower() if default is None or option.kind == "flag" else default
    group.add_argument(*names, **given, help=f"{option.text} (default {shown})".replace("%", "%%"))


def _targets(text: str) -> str | tuple[str, ...]:
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    is_own = any(sign in text for sign in ",.*?[") or text.startswith("to_")
    return names if is_own else text


def _or_nothing(number: Callable[[str], float]) -> Callable[[str], Any]:
    def read(text: str) -> Any:
        return _NOTHING if text == _NOTHING else number(text)

    read.__name__ = number.__name__  # type: ignore[attr-defined]
    return read


def _train(options: argparse.Namespace, console: Console) -> tuple[int, Any]:
    from ..training import LoraJob, SampleSettings, joined
    from ..training.denoisers.recognise import recognise, said_by
    from ..training.finished import train_once
    from ..training.loop.processes import Processes
    from .memory import kept_while_training
    from .training_view import TrainingView

    settings_of(options)  # what makes no sense is told before a model is looked for
    if options.prefer == "evaluation" and not options.evaluate:
        raise SettingsError("--prefer evaluation needs --evaluate N, the number of prompts.")
    chosen = chosen_of(
        options, recognise(options.base, options.model_config, options.variant)
    ).with_samples(options.sample_guidance, options.sample_steps)
    settings = chosen.settings
    console.print(escape(str(chosen)))
    job = LoraJob(
        dataset=options.dataset,
        output=options.output.expanduser(),
        base=options.base,
        work=options.work,
        caption=options.caption,
        trigger=options.trigger,
        validation=options.validation,
        prior=options.prior,
        prior_caption=options.prior_caption,
        start=options.start,
        samples=None
        if options.no_samples
        else SampleSettings(
            tuple(options.prompt),
            seed=settings.seed,
            steps=chosen.steps,
            guidance=chosen.guidance,
        ),
        device=options.device,
        dtype=options.dtype,
        variant=options.variant,
        magnitudes=options.dora_file,
        allow_pickle=options.allow_pickle,
        control_images=options.control_images,
        masks=options.masks,
        base_precision=options.base_precision,
        base_config=options.model_config,
        base_says=said_by(options.base),
    )
    if not Processes.current().is_first:
        console.quiet, options.json = True, False
    board = None
    if options.tensorboard is not None:
        from ..training.outputs.tensorboard import tensorboard

        board = tensorboard(options.tensorboard)
    with TrainingView(console) as view, kept_while_training() as memory:
        if options.prior_pictures and job.prior is None:
            made = _make_prior(job, options.prior_pictures, settings.seed, view)
            job = replace(job, prior=made)
        result = train_once(
            job,
            settings,
            further=[options.evaluate],
            score=_score(job, options.evaluate, view),
            prefer=options.prefer,
            callbacks=joined(view.callbacks(), board, memory),
            progress=view,
            resume=not options.restart,
        ).with_choice(chosen)
    show_result(result, console)
    if result.known:
        console.print("Train it anew with --restart.")
    stopped_well = result.training.stopped != "diverged"
    return EXIT_DONE if stopped_well else EXIT_DIFFERENT, result.to_mapping()


def _setup(job: LoraJob, count: int) -> Setup:
    """Return how images are made like those of the dataset, on ``count`` new prompts."""
    from ..evaluation.setup import Setup

    return Setup.of_dataset(
        job.dataset,
        trigger=job.trigger,
        model=job.base,
        count=count,
        sampling={"device": job.device, "dtype": job.dtype, "config": job.base_config},
    )


def _score(job: LoraJob, count: int, progress: Progress) -> Score | None:
    """Return what gives a kept checkpoint its score on ``count`` new prompts; ``None`` for none."""
    from ..evaluation.scoring import scorer

    if not count:
        return None
    return scorer(job.dataset, _setup(job, count), job.beside(".evaluation"), progress=progress)


def _make_prior(job: LoraJob, count: int, seed: int, progress: Progress) -> PriorImages:
    """Make prior-preservation images as the dataset's own were made."""
    from ..dataset.sidecars import read_captions
    from ..training.data.prior import make_prior

    setup = _setup(job, 1)
    return make_prior(
        read_captions(job.dataset),
        setup.character.as_anybody,
        setup.backend(),
        job.folder / "prior",
        count,
        seed=seed,
        batch_size=setup.batch_size,
        progress=progress,
    )


def show_result(result: LoraResult, console: Console) -> None:
    """Say what came of a training, as a person would want to be told."""
    training = result.training
    if result.known:
        console.print(
            f"{escape(result.file.name)} is finished already, with the same images and settings: "
            "nothing was trained."
        )
    for warning in result.warnings:
        console.print(f"[yellow]Note[/]: {escape(warning)}")
    if result.skipped:
        console.print(f"{how_many(len(result.skipped), 'image was', 'images were')} left out:")
        for skipped in result.skipped[:10]:
            console.print(f"  {escape(f'{skipped.path.name}: {skipped.reason}')}")
    color = "bold red" if training.stopped == "diverged" else "bold"
    console.print(f"[{color}]{escape(training.message)}[/]")
    best = result.by_validation
    if best.validation_loss is None:
        console.print(f"Kept: epoch {best.epoch}, the last; nothing was held out to validate with.")
    else:
        console.print(
            f"Best by validation: epoch {best.epoch}, loss {best.validation_loss:.4f} "
            f"({how_many(len(training.held_out), 'image')} held out)."
        )
    if result.by_evaluation is not None:
        score = result.by_evaluation
        console.print(f"Best by evaluation: epoch {score.epoch}, score {score.score:.4f}.")
        console.print(f"The file holds epoch {result.kept.epoch}.")
    course = training.convergence
    if course is None and best.validation_loss is not None:
        console.print("The validation loss never fell below what it was before training.")
    elif course is not None:
        settled = "" if course.settled else "; it was still falling when the run ended"
        console.print(
            f"Converged at epoch {course.epoch}: {course.start:.4f} to {course.plateau:.4f}"
            f"{settled}."
        )
    console.print(f"LoRA:    [bold]{escape(str(result.file))}[/]")
    if result.facts.trigger:
        console.print(f"Trigger: [bold]{escape(result.facts.trigger)}[/]")
    if result.base:
        console.print(escape(result.base))
    for said in filter(None, (result.resolutions, result.memory)):
        console.print(escape(said))
    console.print(f"Losses:  {escape(str(result.plot.with_suffix('.png')))}")
    if result.samples is not None:
        console.print(f"Samples: {escape(str(result.samples))}")
