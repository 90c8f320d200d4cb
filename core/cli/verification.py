"""Commands that say whether a dataset and its LoRA are ready, and what is wrong if not."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ..counts import how_many
from ..defaults import REGENERATED_IMAGES, TEST_PROMPTS
from .output import EXIT_DIFFERENT, EXIT_DONE, Command, clip_of, escape, progress_on
from .places import input_path

if TYPE_CHECKING:
    from rich.console import Console

    from ..verification.checklist import Readiness

_SHOWN = 5
"""How many faults of a line are printed; the rest is in ``verification.json``."""


def add_commands(command: Command) -> None:
    """Add the commands and their arguments."""
    sub = command(
        "verify",
        _verify,
        "Go through the deployment checklist of a dataset and its LoRA, doing what each line says.",
    )
    sub.add_argument("dataset", type=input_path, metavar="DATASET")
    sub.add_argument(
        "--lora", type=input_path, metavar="FILE", help="the LoRA that was trained on it"
    )
    sub.add_argument(
        "--regenerate", type=_count, default=REGENERATED_IMAGES, metavar="N|all",
        help="make so many images again and compare them byte for byte (%(default)s)",
    )  # fmt: skip
    sub.add_argument(
        "--samples", type=int, default=TEST_PROMPTS, metavar="N",
        help="try the LoRA with so many new prompts (%(default)s)",
    )  # fmt: skip
    sub.add_argument(
        "--work", type=Path, metavar="FOLDER",
        help="notes of the training (default: NAME.work beside the LoRA file)",
    )  # fmt: skip
    _add_models(sub)

    sub = command(
        "sign-off", _sign_off, "Record that you have looked at a dataset, and approve of it."
    )
    sub.add_argument("dataset", type=Path, metavar="DATASET")
    sub.add_argument("--name", required=True, help="who approves")
    sub.add_argument(
        "--lora", type=Path, metavar="FILE", help="approve of this LoRA's test images too"
    )

    sub = command(
        "diagnose",
        _diagnose,
        "Say what is wrong with a LoRA, which cause was measured, what to do.",
    )
    sub.add_argument("lora", type=input_path, metavar="LORA.safetensors")
    sub.add_argument("--dataset", type=input_path, required=True, help="what it was trained on")
    sub.add_argument(
        "--samples", type=int, default=TEST_PROMPTS, metavar="N",
        help="make images of so many new prompts (%(default)s)",
    )  # fmt: skip
    sub.add_argument(
        "--work", type=Path, metavar="FOLDER",
        help="notes of the training (default: NAME.work beside the LoRA file)",
    )  # fmt: skip
    sub.add_argument(
        "--output", type=Path, metavar="FOLDER",
        help="where the images go (default: NAME.verification beside the LoRA file)",
    )  # fmt: skip
    _add_models(sub)


def _add_models(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--base", metavar="MODEL", help="where the base model lies now, if elsewhere")
    sub.add_argument("--faces", metavar="PACK", help="face pack (default: the dataset's)")
    sub.add_argument(
        "--clip", metavar="MODEL[:WEIGHTS]", help="open_clip model (default: the dataset's)"
    )


def _verify(options: argparse.Namespace, console: Console) -> tuple[int, Any]:
    from ..verification.readiness import check_readiness, write_readiness

    with progress_on(console) as progress:
        readiness = check_readiness(
            options.dataset,
            options.lora,
            regenerate=options.regenerate,
            base=options.base,
            faces=options.faces,
            clip=clip_of(options.clip),
            work=options.work,
            samples=options.samples,
            progress=progress,
        )
    written = write_readiness(options.dataset, readiness)
    _show(readiness, console)
    page = written.with_suffix(".html")
    console.print(f"Look at: [bold]{escape(str(page))}[/]")
    return EXIT_DONE if readiness.is_ready else EXIT_DIFFERENT, readiness.as_mapping()


def _show(readiness: Readiness, console: Console) -> None:
    """Show every line by its group, and of each that does not hold what to do."""
    from ..verification.checklist import NOT_READY, READY, Status

    marks = {
        Status.HOLDS: "[green]✓[/]", Status.FAILS: "[red]✗[/]",
        Status.UNCHECKED: "[yellow]?[/]", Status.NOT_APPLICABLE: "[dim]-[/]",
    }  # fmt: skip
    group = advice = ""
    for line in readiness.lines:
        if line.group != group:
            group = line.group
            console.print(f"\n[bold]{group}[/]")
        said = line.found if line.status in (Status.HOLDS, Status.FAILS) else (
            f"{line.status.value}: {line.found}"
        )  # fmt: skip
        console.print(f"  {marks[line.status]} {line.title}: {escape(said)}", soft_wrap=True)
        if line.status is Status.UNCHECKED and line.faults[0].advice != advice:
            advice = line.faults[0].advice
            console.print(f"      {escape(advice)}", soft_wrap=True)
        for fault in line.faults[:_SHOWN] if line.status is Status.FAILS else ():
            console.print(f"      {escape(str(fault))}", soft_wrap=True)
        if line.status is Status.FAILS and len(line.faults) > _SHOWN:
            more = len(line.faults) - _SHOWN
            console.print(f"      … and {more} more, all of them in verification.json")
    color = "green" if readiness.is_ready else "red"
    word, _, rest = readiness.verdict.partition(":")
    assert word in (READY, NOT_READY)  # noqa: S101  # the verdict begins with it
    console.print(f"\n[bold {color}]{word}[/]:{escape(rest)}.")


_FIGURES: tuple[tuple[str, str, str, str], ...] = (
    ("training_set", "images", "training images", "d"),
    ("training_set", "quality", "their mean quality (wanted: 0.80)", ".3f"),
    ("training_set", "low", "of them below 0.75", "d"),
    ("training_set", "strangers", "of their faces below the identity threshold", ".0%"),
    ("training_set", "vendi", "their diversity (Vendi score)", ".1f"),
    ("training_set", "alike", "of them with a near-duplicate", ".0%"),
    ("training_set", "captions", "different captions", "d"),
    ("lora", "images", "images of the LoRA", "d"),
    ("lora", "consistency", "of them the character", ".0%"),
    ("lora", "identity", "mean identity with the training images", ".3f"),
    ("lora", "quality", "their mean quality", ".3f"),
    ("lora", "artefacts", "of them with artefacts", ".0%"),
    ("lora", "vendi", "their diversity (Vendi score)", ".1f"),
    ("lora", "base_vendi", "the base model's diversity", ".1f"),
    ("lora", "seeds", "similarity between seeds of one prompt", ".3f"),
    ("lora", "memorised", "of them repeat a training image", ".0%"),
    ("making", "rank", "rank", "d"),
    ("making", "learning_rate", "learning rate", "g"),
    ("making", "steps", "training steps", "d"),
    ("making", "passes", "passes over the images", ".0f"),
    ("making", "sampling_steps", "sampling steps", "d"),
    ("making", "guidance", "guidance scale", "g"),
)


def _diagnose(options: argparse.Namespace, console: Console) -> tuple[int, Any]:
    from rich.table import Table

    from ..verification.troubleshooting import troubleshoot

    with progress_on(console) as progress:
        found = troubleshoot(
            options.lora,
            options.dataset,
            base=options.base,
            faces=options.faces,
            clip=clip_of(options.clip),
            work=options.work,
            count=options.samples,
            output=options.output,
            progress=progress,
        )
    figures = found.symptoms.as_mapping()
    table = Table(title="What was measured", title_justify="left", show_header=False)
    table.add_column("")
    table.add_column("", justify="right")
    for part, key, label, form in _FIGURES:
        value = figures[part][key]
        table.add_row(label, "unknown" if value is None else format(value, form))
    console.print(table)
    for sentence in found.sentences():
        console.print(f"[yellow]{escape(sentence)}[/]", soft_wrap=True)
    if found.is_healthy:
        console.print(
            "[bold green]Healthy[/]: it looks like the subject, has not collapsed, and its images "
            "are as good as the training images."
        )
    console.print(f"Look at: [bold]{escape(str(found.evaluation.folder / 'sheet.png'))}[/]")
    return EXIT_DONE if found.is_healthy else EXIT_DIFFERENT, found.as_mapping()


def _sign_off(options: argparse.Namespace, console: Console) -> tuple[int, Any]:
    from ..verification.samples import samples_folder
    from ..verification.sign_off import shown_files, sign

    folder = None if options.lora is None else samples_folder(options.lora)
    shown = shown_files(options.dataset, options.lora, folder)
    record = sign(options.dataset, options.name, shown, lora=options.lora)
    console.print(
        f"[bold]{escape(record['name'])}[/] approves of {how_many(len(shown), 'file')} of "
        f"{escape(str(options.dataset))}, {record['time']}."
    )
    console.print(
        f"Fingerprint of what was shown: {record['fingerprint']}. It holds until one of them "
        "changes; 'character-curator verify' looks."
    )
    return EXIT_DONE, record


def _count(text: str) -> int | Literal["all"]:
    if text == "all":
        return "all"
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text} is neither a number of images nor 'all'")
    return int(text)
