"""Commands run as a user runs them, and a folder of drawn people that they curate in seconds."""

from __future__ import annotations

import io
import json
import logging
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path

import cv2

from character_curator.cli import main
from character_curator.imageset import ImageSet
from tests.support.tiny_analysis import empty_place, portrait


def command(*arguments, check=0):
    """Run a command in this process; return what it wrote to stdout and to stderr."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = main([*map(str, arguments)])
    assert code == check, out.getvalue() + err.getvalue()
    return out.getvalue(), err.getvalue()


@contextmanager
def own_logging():
    """Let commands set logging up as in a process of their own: nobody has done it before."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    root.handlers[:] = []
    try:
        yield
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)


def draw_people(folder: Path, count: int = 8) -> Path:
    """Draw portraits of one person, and one image of nobody."""
    folder.mkdir(parents=True)
    for number in range(count):
        cv2.imwrite(str(folder / f"p{number}.png"), portrait(number, framing="bust"))
    cv2.imwrite(str(folder / "nobody.png"), empty_place(1))
    return folder


CURATE = (
    "--total", 3, "--clusters", 2, "--min-quality", 0, "--min-confidence", 0, "--min-share", 0,
    "--min-side", 0,
)  # fmt: skip
"""Options with which some images are left out and most are not."""


def curate(folder, output, *more, work=None, check=0):
    """Curate a folder; return the result, what was said, and the table of all candidates."""
    work = work or output.with_name(output.name + ".work")
    out, err = command(
        "curate", folder, "--output", output, "--work", work, *CURATE, *more, "--json", check=check
    )
    return json.loads(out), err, None if check else ImageSet.read(work / "images.parquet").table
