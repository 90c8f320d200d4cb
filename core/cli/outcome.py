"""What came of a run, shown: what became of every image, what was chosen, where it lies."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from .output import EXIT_DIFFERENT, EXIT_DONE, escape, say

if TYPE_CHECKING:
    from rich.console import Console

    from ..analysis.threshold_costs import Naming
    from ..imageset import ImageSet
    from ..pipeline import Outcome


def show_outcome(
    outcome: Outcome, console: Console, seconds: float, named: Naming = "keys"
) -> tuple[int, Any]:
    """Show what came of a run, as a person would want to be told.

    Args:
        outcome: What came of it.
        console: Where it is shown.
        seconds: How long it took.
        named: What thresholds are called where they were set.

    Returns:
        The exit code, and what ``--json`` prints.
    """
    from rich.table import Table

    from ..rejection_reasons import in_words

    images, total = outcome.images, len(outcome.images)
    chosen = images.filter(images.table["selected"])
    say(console, outcome.crops)
    funnel = Table(title="What became of every image", title_justify="left")
    funnel.add_column("")
    funnel.add_column("images", justify="right")
    funnel.add_row("candidates", str(total))
    for reason, count in images.rejections().items():
        funnel.add_row(f"  {in_words(reason)}", f"-{count}")
    funnel.add_row("[bold]chosen[/]", f"[bold]{len(chosen)}[/]")
    console.print(funnel)
    if len(chosen):
        scores = chosen.table["quality"].to_numpy()
        console.print(
            f"Quality of the chosen: {scores.min():.2f} to {scores.max():.2f}, "
            f"mean {scores.mean():.2f}"
        )
    if line := _said_of_identity(chosen, outcome.identity):
        console.print(line)
    for sentence in outcome.selection.sentences():
        console.print(escape(sentence))
    if outcome.costs is not None:
        console.print("[bold]Fewer pass than were wanted.[/] What the thresholds cost:")
        for sentence in outcome.costs.sentences(named):
            console.print(f"  {escape(sentence)}")
        if outcome.costs.best:
            console.print("The best of the rejected are in rejected.jpg, beside the measurements.")
    if line := outcome.exported.masks_in_words:
        console.print(line)
    exported = outcome.exported
    folder = exported.folder
    say(console, exported.notes)
    console.print(f"\nDone in {seconds:.0f} s.")
    state = ", unchanged" if exported.unchanged else ""
    console.print(f"Dataset: [bold]{escape(folder)}[/] (version {exported.version}{state})")
    console.print(f"Look at:  [bold]{escape(folder / 'report.html')}[/]")
    if outcome.lora is not None:
        from .training import show_result

        if outcome.lora.chosen is not None:
            console.print(escape(str(outcome.lora.chosen)))
        show_result(outcome.lora, console)
        for image in outcome.samples:
            console.print(f"Image: [bold]{escape(str(image))}[/]")
    diverged = outcome.lora is not None and outcome.lora.training.stopped == "diverged"
    return EXIT_DIFFERENT if diverged else EXIT_DONE, {
        "dataset": str(folder),
        "version": exported.version,
        "fingerprint": exported.fingerprint,
        "damaged": list(exported.damaged),
        "candidates": total,
        "chosen": len(chosen),
        "notes": [*images.notes, *exported.notes],
        "rejections": images.rejections(),
        "selection": outcome.selection.proof(),
        "computed": outcome.computed,
        "minimum_identity": outcome.identity,
        "threshold_costs": outcome.costs and asdict(outcome.costs),
        "lora": outcome.lora and outcome.lora.to_mapping(),
        "pictures": [str(image) for image in outcome.samples],
        "seconds": round(seconds, 1),
    }


def _said_of_identity(chosen: ImageSet, least: float | None) -> str:
    """Say how the chosen resemble the references, and whether others were turned away."""
    table = chosen.table
    if not len(chosen) or "references" not in set(table["identity_reference"]):
        return ""
    similar = table["identity_similarity"].drop_nulls().to_numpy()
    asked = (
        "others were not turned away (--min-identity does)"
        if least is None
        else f"at least {least:g} was asked for"
    )
    return (
        f"Similarity of the chosen to the references: {similar.min():.2f} to {similar.max():.2f}; "
        f"{asked}."
    )
