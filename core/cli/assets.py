"""The command that makes a character's images for a game: an atlas, a folder, an archive."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import project
from ..counts import how_many
from ..naming import first_of
from .output import EXIT_DIFFERENT, EXIT_DONE, Command, escape, progress_on

if TYPE_CHECKING:
    from rich.console import Console

    from ..assets.making import Made


def add_commands(command: Command) -> None:
    """Add the command and its arguments."""
    sub = command(
        "assets",
        _assets,
        "Make images for a game with a project's LoRA: cut out, packed into an atlas, archived.",
    )
    sub.set_defaults(analyses=True)
    sub.add_argument("project", type=Path, metavar="PROJECT.toml")
    sub.add_argument(
        "--verify", action="store_true",
        help="make all of it again from nothing, elsewhere, and compare the archives to the byte",
    )  # fmt: skip


def _assets(options: argparse.Namespace, console: Console) -> tuple[int, Any]:
    parsed, base = project.read(options.project), options.project.parent
    return _verified(parsed, base, console) if options.verify else made(parsed, base, console)


def made(parsed: project.Project, base: Path, console: Console) -> tuple[int, Any]:
    """Make a project's assets and show what came of them."""
    from ..assets.making import make_assets

    started = time.monotonic()
    with progress_on(console) as progress:
        found = make_assets(parsed, base, progress=progress)
    _show(found, console)
    console.print(f"\nDone in {time.monotonic() - started:.0f} s.")
    console.print(f"Assets: [bold]{escape(found.pack.folder)}[/]")
    console.print(f"Archive: {escape(found.pack.archive)}, SHA-256 {found.pack.digest}")
    console.print(f"All at a glance: {escape(found.sheet)}")
    pack = found.pack
    return EXIT_DONE, {
        "folder": str(pack.folder),
        **found.as_mapping(),
        "written": {"made": len(pack.made), "mended": list(pack.mended),
                    "removed": list(pack.removed)},
    }  # fmt: skip


def _verified(parsed: project.Project, base: Path, console: Console) -> tuple[int, Any]:
    from ..assets.making import verify_archive

    with progress_on(console) as progress:
        found = verify_archive(parsed, base, progress=progress)
    if found.identical:
        console.print("The archive was made again from nothing: the same to the byte.")
    else:
        console.print("[red]The archive made again is not the one that is there.[/]")
        for text, names in (
            ("no longer made", found.missing),
            ("made now only", found.added),
            ("different", found.changed),
        ):
            if names:
                listed = first_of(names, 5)
                console.print(f"{text}: {len(names)} ({escape(listed)})")
        if not (found.missing or found.added or found.changed):
            console.print("Its files are the same; somebody has packed them otherwise.")
        console.print(
            "If neither the project, the model nor the LoRA has changed, compare 'tools' and "
            "'generation' in manifest.json: other versions or another device draw other last bits."
        )
    return EXIT_DONE if found.identical else EXIT_DIFFERENT, {
        "identical": found.identical,
        "missing": list(found.missing),
        "added": list(found.added),
        "changed": list(found.changed),
    }


def _show(found: Made, console: Console) -> None:
    from rich.table import Table

    from ..rejection_reasons import in_words

    table = Table(title="Assets", title_justify="left")
    for title in ("folder", "assets", "identity", "least"):
        table.add_column(title, justify="left" if title == "folder" else "right")
    for name, count in found.folders.items():
        one = found.consistency.folders.get(name)
        table.add_row(
            escape(name), str(count), *(("", "") if one is None else (f"{v:.3f}" for v in one))
        )
    console.print(table)
    whole = found.consistency
    if whole.mean is not None:
        console.print(
            f"Identity against the {whole.against}: mean {whole.mean:.3f}, least {whole.least:.3f}"
        )
    if whole.same is not None:
        low, high = whole.same.interval
        console.print(
            f"The same character: {whole.same.count} of {whole.same.total} "
            f"({low:.0%} to {high:.0%} at 95 %), as like as all but 5 % of the dataset's own"
        )
    if whole.clip is not None and whole.vendi is not None:
        console.print(
            f"Similarity of any two by CLIP: {whole.clip:.3f}; {whole.vendi:.1f} different images "
            "in effect"
        )
    for why, count in found.images.rejections().items():
        console.print(f"Left out: {in_words(why)} {count}")
    if found.pack.empty:
        console.print(f"[yellow]Left out, because nothing was cut out: {len(found.pack.empty)}[/]")
    sizes = ", ".join(f"{w} x {h}" for w, h in found.pack.atlas.pages) if found.pack.atlas else ""
    if sizes:
        console.print(f"Atlas: {how_many(len(found.pack.pages), 'page')}, {sizes} pixels")
