"""Commands over the versions of a dataset: list them, compare two, bring one back."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..counts import how_many, worded
from .output import EXIT_DIFFERENT, EXIT_DONE, Command, escape, progress_on

if TYPE_CHECKING:
    from rich.console import Console

    from ..dataset.difference import Difference

_SHOWN = 10
"""How many changes of a kind are printed."""
_NAME = "a version: its number, 'latest', or its folder"


def add_commands(command: Command) -> None:
    """Add the commands and their arguments."""
    sub = command("versions", _versions, "List the versions of a dataset that are kept.")
    sub.add_argument("dataset", type=Path, metavar="DATASET")
    sub.add_argument(
        "--loras", type=Path, action="append", default=[], metavar="FOLDER",
        help="also look here, and below, for LoRA files that were trained on them (repeat for "
        "more)",
    )  # fmt: skip

    sub = command("diff", _diff, "Say what changed from one version of a dataset to another.")
    sub.add_argument("before", metavar="A", help=_NAME)
    sub.add_argument("after", metavar="B", help="another version")
    sub.add_argument(
        "--dataset", type=Path, metavar="DATASET",
        help="the dataset that numbers are of (default: that of the other version, where that is "
        "a folder)",
    )  # fmt: skip
    sub.add_argument(
        "--html", type=Path, metavar="FILE", help="also write a page with the images side by side"
    )

    sub = command(
        "restore", _restore, "Make a new version of a dataset that is equal to an old one."
    )
    sub.add_argument("dataset", type=Path, metavar="DATASET")
    sub.add_argument("version", metavar="VERSION", help=_NAME)


def _versions(options: argparse.Namespace, console: Console) -> tuple[int, Any]:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    from ..dataset.card import readable_size
    from ..dataset.version_list import versions

    found = versions(options.dataset, options.loras)
    table = Table(
        title=f"Versions of {escape(str(found.place))}", title_justify="left", box=SIMPLE_HEAD,
        pad_edge=False,
    )  # fmt: skip
    for name in ("version", "date (UTC)"):
        table.add_column(name)
    for name in ("images", "quality", "size", "its own", "LoRAs"):
        table.add_column(name, justify="right")
    for line in found.lines:
        version = line.version
        newest = " (latest)" if version.is_newest else ""
        table.add_row(
            f"{version.number}{newest}",
            escape(version.time[:16].replace("T", " ")) + ("" if version.record else " ~"),
            str(len(version.images)),
            "unknown" if line.quality is None else f"{line.quality:.3f}",
            readable_size(line.size_bytes),
            readable_size(line.own_bytes),
            str(len(line.loras)),
        )
    console.print(table)
    for line in found.lines:
        for lora in line.loras:
            as_found = (
                f", {how_many(lora.altered, 'image or caption', 'images or captions')} of which "
                f"{worded(lora.altered, 'was', 'were')} not as exported"
                if lora.altered
                else ""
            )
            console.print(
                f"Trained on version {line.version.number}{as_found}: {escape(str(lora.file))}",
                soft_wrap=True,
            )
    console.print(
        f"{readable_size(found.size_bytes)} on disk together; 'its own' is what no other version "
        "shares."
    )
    if not all(line.version.record for line in found.lines):
        console.print("~ has no record of its version, or an edited one: the date is its file's.")
    places = escape(", ".join(map(str, found.looked_in)))
    console.print(
        f"LoRA files were looked for in {places} (--loras FOLDER looks further).", soft_wrap=True
    )
    return EXIT_DONE, found.as_mapping()


def _diff(options: argparse.Namespace, console: Console) -> tuple[int, Any]:
    from .. import atomic
    from ..dataset.difference import diff
    from ..dataset.difference_page import page

    found = diff(options.before, options.after, options.dataset)
    _show(found, console)
    result = found.as_mapping()
    if options.html is not None:
        atomic.write_text(options.html, page(found))
        console.print(f"Look at: [bold]{escape(str(options.html))}[/]")
        result["html"] = str(options.html)
    return EXIT_DONE, result


def _show(found: Difference, console: Console) -> None:
    from ..dataset.difference import SCORES

    before, after = found.before, found.after
    console.print(
        f"[bold]From version {before.number} to version {after.number}[/]: "
        f"{how_many(len(before.images), 'image')}, then {len(after.images):,}; "
        f"{len(found.same):,} the same, {len(found.left):,} out, {len(found.entered):,} in, "
        f"{len(found.redrawn):,} redrawn"
    )
    if found.is_equal:
        console.print("They are equal, file by file, as they were exported.")
    for version, names in zip((before, after), found.damaged, strict=True):
        if names:
            console.print(
                f"[yellow]Note[/]: of version {version.number}, "
                f"{how_many(len(names), 'file is', 'files are')} gone or changed since its export: "
                f"{escape(', '.join(names[:5]))}"
            )
    for title, images in (("Out", found.left), ("In", found.entered)):
        _list(console, title, [f"{one.name}: {one.why}" if one.why else one.name for one in images])
    _list(console, "Redrawn", [image.after for image in found.redrawn])
    _list(
        console,
        "Captions",
        [f"{c.image.after}: '{c.before}' -> '{c.after}'" for c in found.captions],
    )
    _list(
        console,
        "Scores, the largest steps first",
        [
            f"{c.image.after}: {SCORES[c.score]} {_number(c.before)} -> {_number(c.after)}"
            for c in found.scores
        ],
    )
    if found.files:
        console.print(f"\nOther files that differ: {escape(', '.join(found.files))}")
    for group in dict.fromkeys(change.group for change in found.settings):
        _list(
            console,
            group.capitalize(),
            [
                f"{c.key}: {c.before or 'not said'} -> {c.after or 'not said'}"
                for c in found.settings
                if c.group == group
            ],
        )


def _list(console: Console, title: str, lines: list[str]) -> None:
    if not lines:
        return
    console.print(f"\n[bold]{title}[/] ({len(lines)})")
    for line in lines[:_SHOWN]:
        console.print(f"  {escape(line)}", soft_wrap=True)
    if len(lines) > _SHOWN:
        console.print(f"  … and {len(lines) - _SHOWN} more (--html and --json have all of them)")


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:.4f}"


def _restore(options: argparse.Namespace, console: Console) -> tuple[int, Any]:
    from ..dataset.restoring import restore

    with progress_on(console) as progress:
        done = restore(options.dataset, options.version, progress=progress)
    if done.unchanged:
        console.print(
            f"Version {done.version} is equal to version {done.source} already: nothing was done."
        )
        return EXIT_DONE, done.as_mapping()
    kept = "" if done.previous is None else f"; the one before is kept in {done.previous}"
    console.print(
        f"[bold]Version {done.version}[/] of {escape(str(done.folder))} is equal to version "
        f"{done.source}, file by file{escape(kept)}."
    )
    if done.damaged:
        console.print(
            f"[yellow]Note[/]: {how_many(len(done.damaged), 'file')} of the version before "
            f"{worded(len(done.damaged), 'was', 'were')} gone or changed since its export: "
            f"{escape(', '.join(done.damaged[:5]))}"
        )
    if done.elsewhere:
        console.print(
            f"[yellow]Note[/]: {how_many(len(done.elsewhere), 'file was', 'files were')} damaged "
            f"in version {done.source} and {worded(len(done.elsewhere), 'was', 'were')} taken from "
            f"another: {escape(', '.join(done.elsewhere[:5]))}"
        )
    return EXIT_DONE, done.as_mapping()


def reproduce_version(options: argparse.Namespace, console: Console) -> tuple[int, Any]:
    """Make a version of a dataset again from its recipe, and say how it compares."""
    from ..dataset.version_list import find_version, is_version_folder
    from ..verification.remaking import RecipeError, remake

    if options.output is None:
        raise RecipeError(
            "A dataset is made again in a folder of its own: name one with --output FOLDER."
        )
    named = options.image if is_version_folder(options.image) else options.version
    version = find_version(named, options.image)
    with progress_on(console) as progress:
        made = remake(
            version, options.output, base=options.base, source=options.source, progress=progress
        )
    where = f"version {version.number} in {escape(made.folder)}"
    if made.identical:
        console.print(
            f"[bold green]Identical[/]: {worded(made.same, 'the', 'all')} "
            f"{how_many(made.same, 'file')} of {where} came again byte for byte."
        )
        return EXIT_DONE, made.as_mapping()
    console.print(
        f"[bold yellow]Different[/]: {how_many(made.same, 'file')} of {where} came again, "
        f"{len(made.changed)} otherwise, {len(made.missing)} not, and "
        f"{how_many(len(made.more), 'other')}. What differs from when "
        f"it was made: {escape('; '.join(made.tools)) or 'nothing that is recorded'}."
    )
    for name in (*made.changed, *made.missing, *made.more)[:10]:
        console.print(f"  {escape(name)}")
    console.print("'character-curator diff' with both folders says what changed.")
    return EXIT_DIFFERENT, made.as_mapping()
