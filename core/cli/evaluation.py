"""The command that evaluates LoRA files: images, figures, and what to do next."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..counts import how_many
from ..errors import CuratorError
from .output import EXIT_DONE, clip_of, escape, progress_on
from .places import input_path

if TYPE_CHECKING:
    from rich.console import Console

    from ..evaluation.result import Evaluation
    from ..evaluation.setup import Setup

_SAMPLING = ("scheduler", "steps", "guidance", "width", "height", "dtype", "device")
_ROWS: tuple[tuple[str, str, str], ...] = (
    ("consistency", "character consistency", "share"),
    ("artefacts", "artefacts", "share"),
    ("leakage", "leakage (class word alone)", "share"),
    ("adherence", "adherence (CLIP)", "number"),
    ("adherence_loss", "adherence below the base's", "number"),
    ("identity", "mean identity similarity", "number"),
    ("quality", "mean quality", "number"),
    ("one_face", "exactly one face", "share"),
    ("rating", "mean rating, 1 to 5", "number"),
    ("grid_rating", "mean rating of the 3 x 3 grid", "number"),
    ("diversity", "diversity (Vendi score)", "number"),
    ("memorised", "memorised", "share"),
    ("score", "score", "number"),
    ("validation_loss", "validation loss", "number"),
)


class NothingToEvaluateError(CuratorError):
    """No LoRA file is named."""

    def __init__(self) -> None:
        super().__init__("Nothing to evaluate: name a LoRA file (.safetensors), or several.")


def add_commands(command: Callable[..., argparse.ArgumentParser]) -> None:
    """Add the command and its arguments."""
    sub = command("evaluate", _evaluate, "Measure what LoRA files are worth, beside their base.")
    sub.set_defaults(analyses=True)
    sub.add_argument("files", type=input_path, nargs="*", metavar="FILE.safetensors")
    sub.add_argument(
        "--checkpoints",
        type=input_path,
        nargs="+",
        default=[],
        metavar="FILE",
        help="more LoRA files",
    )
    sub.add_argument("--dataset", type=input_path, required=True, help="what they were trained on")
    sub.add_argument("--base", metavar="MODEL", help="base model (default: the dataset's own)")
    sub.add_argument(
        "--model-config", metavar="FOLDER", help="configurations and tokenizers of a single file"
    )
    sub.add_argument("--output", type=Path, help="folder (default: FILE.evaluation)")
    sub.add_argument("--prompts", type=Path, metavar="FILE", help="a prompt a line, with {who}")
    sub.add_argument("--count", type=int, default=100, help="images a series (%(default)s)")
    sub.add_argument(
        "--seeds", type=_seeds, metavar="S,S,S", help="make every prompt with each of these seeds"
    )
    sub.add_argument("--trigger", help="trigger word (default: the file's, else the dataset's)")
    sub.add_argument("--strength", type=float, default=1.0, help="of the LoRA (%(default)s)")
    sub.add_argument("--batch-size", type=int, help="images sampled together")
    sub.add_argument("--steps", type=int, help="denoising steps (default: as in the dataset)")
    sub.add_argument("--guidance", type=float, help="guidance scale (default: as in the dataset)")
    sub.add_argument("--scheduler", help="sampler (default: as in the dataset)")
    sub.add_argument("--width", type=int)
    sub.add_argument("--height", type=int)
    sub.add_argument("--dtype", help="float32, float16, bfloat16 or auto")
    sub.add_argument("--device", help="cpu, cuda, mps or auto")
    sub.add_argument("--faces", metavar="PACK", help="insightface pack (default: the dataset's)")
    sub.add_argument("--clip", metavar="MODEL[:WEIGHTS]", help="open_clip model")
    sub.add_argument(
        "--reference", type=input_path, action="append", default=[], metavar="IMAGE",
        help="an image of the person (repeat; default: the centre of the dataset's faces)",
    )  # fmt: skip
    sub.add_argument(
        "--identity-threshold", type=float, metavar="COSINE",
        help="least identity similarity (default: what 1 %% of other people reach)",
    )  # fmt: skip
    sub.add_argument(
        "--false-accepts", type=float, default=0.01,
        help="share of other people that may pass the derived threshold (%(default)s)",
    )  # fmt: skip
    sub.add_argument("--min-quality", type=float, help="least quality (default: the dataset's)")
    sub.add_argument(
        "--no-leakage", action="store_true", help="leave out the images of the class word"
    )


def _evaluate(options: argparse.Namespace, console: Console) -> tuple[int, Any]:
    from ..evaluation.compare import figures_table
    from ..evaluation.lora_files import evaluate

    files = [*options.files, *options.checkpoints]
    if not files:
        raise NothingToEvaluateError
    first = files[0]
    output = options.output or first.with_name(f"{first.stem}.evaluation")
    setup = _setup(options, files)
    with progress_on(console) as progress:
        evaluations = evaluate(
            files,
            options.dataset,
            setup,
            output,
            references=options.reference,
            progress=progress,
        )
    _report(evaluations, console)
    return EXIT_DONE, {
        "output": str(output),
        "identity_threshold": evaluations[0].threshold.as_mapping(),
        "checkpoints": figures_table(evaluations).to_dicts(),
        "best_by_evaluation": _best(evaluations)[0],
        "best_by_validation_loss": _best(evaluations)[1],
        "evaluations": [
            {
                "file": str(e.file),
                **e.summary.as_mapping(),
                "findings": [str(f) for f in e.findings],
                "sheet": str(e.folder / "sheet.png"),
                "table": str(e.folder / "pictures.parquet"),
            }
            for e in evaluations
        ],
    }


def _setup(options: argparse.Namespace, files: Sequence[Path]) -> Setup:
    from ..dataset.facts import read_facts
    from ..dataset.trigger_words import without_class_word
    from ..evaluation.character import Character
    from ..evaluation.prompts import read_prompts
    from ..evaluation.setup import Setup
    from ..evaluation.threshold import ThresholdRule
    from ..lora import file as lora_file
    from ..lora.header import read_header

    header = read_header(lora_file.read(files[0]).metadata)
    trigger = options.trigger or header.trigger_phrase or None
    character = Character.of(read_facts(options.dataset), trigger)
    if trigger:
        trigger = without_class_word(trigger, character.class_word)
    prompts = None
    if options.prompts:
        prompts = read_prompts(options.prompts, trigger or character.trigger, character.class_word)
    clip = clip_of(options.clip)
    count = options.count if not options.seeds else -(-options.count // len(options.seeds))
    setup = Setup.of_dataset(
        options.dataset,
        model=options.base,
        trigger=trigger,
        prompts=prompts,
        count=count,
        sampling={name: getattr(options, name) for name in _SAMPLING}
        | {"config": options.model_config},
        batch_size=options.batch_size,
        strength=options.strength,
        faces=options.faces,
        clip=clip,
        rule=ThresholdRule(options.identity_threshold, options.false_accepts),
        minimum_quality=options.min_quality,
        with_class=not options.no_leakage,
    )
    if options.seeds:
        given = tuple(replace(prompt, seeds=options.seeds) for prompt in setup.prompts)
        setup = replace(setup, prompts=given)
    return setup


def _report(evaluations: Sequence[Evaluation], console: Console) -> None:
    """Show the figures of every file beside the base model's, and what to do next."""
    from rich.table import Table

    from ..evaluation.compare import figures_table

    found = figures_table(evaluations)
    table = Table(
        title=f"{how_many(evaluations[0].summary.trigger.images, 'image')} a series",
        title_justify="left",
    )
    table.add_column("")
    for name in found["name"]:
        table.add_column(escape(name), justify="right")
    for key, label, kind in _ROWS:
        if key in found.columns and found[key].null_count() < found.height:
            table.add_row(label, *(_shown(value, kind) for value in found[key]))
    console.print(table)
    threshold = evaluations[0].threshold
    console.print(
        f"Identity threshold {threshold.value:.3f} ({threshold.source}): "
        f"{escape(threshold.explanation)}."
    )
    best, lowest = _best(evaluations)
    if len(evaluations) > 1:
        also = f"; by validation loss: [bold]{escape(lowest)}[/]" if lowest else (
            "; the files say no validation loss"
        )  # fmt: skip
        console.print(f"Best by evaluation: [bold]{escape(best)}[/]{also}.")
    for evaluation in evaluations:
        where = f"{evaluation.name}: " if len(evaluations) > 1 else ""
        for finding in evaluation.findings:
            console.print(f"[yellow]{escape(where)}[/]{escape(str(finding))}")
        if not evaluation.findings:
            console.print(f"[green]{escape(where)}every figure is as it should be.[/]")
        console.print(f"Look at: [bold]{escape(str(evaluation.folder / 'sheet.png'))}[/]")


def _best(evaluations: Sequence[Evaluation]) -> tuple[str, str | None]:
    from ..evaluation.compare import best_by_evaluation, best_by_validation

    lowest = best_by_validation(evaluations)
    return best_by_evaluation(evaluations).name, lowest.name if lowest else None


def _shown(value: float | None, kind: str) -> str:
    if value is None:
        return ""
    return f"{value:.1%}" if kind == "share" else f"{value:.3f}"


def _seeds(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text} is no list of numbers such as 1,2,3") from error
