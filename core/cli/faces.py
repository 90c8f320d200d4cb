"""What finds and identifies faces: which packs there are, and how good one is on your images."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from ..counts import how_many
from ..errors import CuratorError
from .output import EXIT_DONE, Command, escape, progress_on
from .places import input_path

if TYPE_CHECKING:
    from rich.console import Console

    from ..analysis.self_test import SelfTest


class NoPhotographsError(CuratorError):
    """A face pack is to be tried on no folder."""

    def __init__(self, pack: object) -> None:
        super().__init__(
            f"On which images shall {pack} be tried? Name a folder: character-curator faces {pack} "
            "FOLDER"
        )


class NoPackFolderError(CuratorError):
    """A calibration is to be kept in a pack that has no folder of its own."""

    def __init__(self, pack: object) -> None:
        super().__init__(
            f"{pack} has no folder of its own to keep a calibration in; its own is part of this "
            "package. Give the measured figures as thresholds instead."
        )


def add_commands(command: Command) -> None:
    """Add the command and its arguments."""
    sub = command("faces", _faces, "List face packs, or try one on a folder of photographs.")
    sub.add_argument(
        "pack", nargs="?", default=None, help="the pack to try; without one all are listed"
    )
    sub.add_argument(
        "folder", nargs="?", type=input_path, default=None,
        help="photographs of one person each; folders in it stand for people, whose images tell "
        "from which similarity on two faces are one person's",
    )  # fmt: skip
    sub.add_argument(
        "--limit", type=int, default=200, help="most images that are looked at (%(default)s)"
    )
    sub.add_argument(
        "--write",
        action="store_true",
        help="keep what was measured as calibration.json in the pack's folder, where thresholds "
        "are read from then on",
    )


def _faces(options: argparse.Namespace, console: Console) -> tuple[int, Any]:
    if options.pack is None:
        return _list(console)
    from ..analysis.face_analyser import FaceAnalyser

    if options.folder is None:
        raise NoPhotographsError(options.pack)
    from ..analysis.self_test import self_test

    analyser = FaceAnalyser(options.pack)
    with progress_on(console) as progress:
        result = self_test(analyser, options.folder, limit=options.limit, progress=progress)
    _show(result, console)
    written = None
    if options.write:
        if not any(analyser.folder.glob("**/*.onnx")) or str(options.pack) == "miniature":
            raise NoPackFolderError(options.pack)
        written = result.calibration(analyser.backend.threshold).write(analyser.folder)
        console.print(f"Written: [bold]{escape(str(written))}[/]")
    return EXIT_DONE, {**result.to_mapping(), "written": written and str(written)}


def _list(console: Console) -> tuple[int, Any]:
    from rich.table import Table

    from ..analysis.face_backends import BACKENDS, installed

    table = Table(title="Face packs", title_justify="left")
    for heading in ("pack", "what it is", "licence of the weights", "size", "from", "here"):
        table.add_column(heading)
    rows = []
    for info in BACKENDS:
        here = installed(info.pack)
        shown = "" if here is None else "yes" if here else "no"
        table.add_row(info.pack, info.models, info.licence, info.size, escape(info.source), shown)
        rows.append({"pack": info.pack, "models": info.models, "licence": info.licence,
                     "size": info.size, "source": info.source, "installed": here})  # fmt: skip
    console.print(table)
    console.print("Try one: character-curator faces PACK FOLDER")
    return EXIT_DONE, rows


def _show(result: SelfTest, console: Console) -> None:
    from rich.table import Table

    from ..analysis.self_test import SET

    faces = result.faces
    console.print(
        f"{how_many(result.images, 'image')}: one face in {faces['one']}, several in "
        f"{faces['several']}, none in {faces['none']}; {result.seconds * 1000:.0f} ms an image."
    )
    console.print(
        f"The defaults accept {result.accepted:.0%} of the images of one face, and "
        f"{result.accepted_sharp:.0%} of those whose face is sharp and well exposed."
    )
    table = Table(title="Copies of accepted images", title_justify="left")
    table.add_column("what was done")
    table.add_column("turned away", justify="right")
    for name, share in result.spoilt.items():
        table.add_row(name, f"{share:.0%}")
    for name, share in result.harmless.items():
        table.add_row(f"{name} (harmless)", f"{1 - share:.0%}")
    console.print(table)
    if not result.same:
        console.print("Identity was not tried: there are no folders with several images each.")
        return
    console.print(
        f"{how_many(result.people, 'person')}: {how_many(len(result.same), 'pair')} of one person, "
        f"{len(result.different):,} of two."
    )
    table = Table(title="Who passes as the person of references", title_justify="left")
    for heading in ("similarity", "references", "of the same person", "of others"):
        table.add_column(heading, justify="left" if heading == "similarity" else "right")
    measured, from_pack = result.threshold(), result.pack_threshold
    rows = [(from_pack, "the pack's"), (measured, "from these images")]
    for least, whose in rows:
        if least is None:
            continue
        for sets in (False, True):
            own, others = result.rates(least, sets=sets)
            if own == own:  # nobody may have images enough for a set
                count = str(SET if sets else 1)
                table.add_row(f"{least:g} ({whose})", count, f"{own:.1%}", f"{others:.2%}")
    if table.rows:
        console.print(table)
    if measured is None:
        console.print("They are too few to tell a threshold from.")
