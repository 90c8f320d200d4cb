"""A training step against the way of diffusers' example: time and memory, side by side.

Run: python benchmarks/training_speed.py [--layout sd15|miniature] [--batch 1] [--json FILE]

Both ways load the same model from its folder and train the same adapters on the same images, with
the same batch, number type and optimizer, each in a process of its own (``training_ways.py``). They
take turns, a step each (and the other first the next time), so that whatever else the machine is
busy with hinders both alike; the one that waits sleeps. Memory has to hold both: where it does not,
``--apart`` runs one after the other. A step of ours is one of ``character_curator.training.train``:
all that happens from the end of one step to the end of the next counts, the state that is saved
after an epoch included. A step of the other way is one of ``diffusers_way.py``. Peak memory is the
whole process's, from its start. What our caching costs before the first step is told too, and after
how many steps it is paid.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import cv2
import torch
from drawings import draw
from layouts import folder_of
from verdicts import Verdict, conclude

SHARE = 0.6
"""Promised: at most this share of the other way's step time."""
MEMORY = 1.0
"""Promised: no more than the other way's peak."""
DATASET = 70
"""Images of a curated set: what caching costs is told for so many."""
DEFAULTS = {
    "sd15": {"size": 512, "source": 768, "batch": 1, "steps": 8, "warm": 1, "pictures": 8},
    "miniature": {"size": 128, "source": 128, "batch": 8, "steps": 24, "warm": 2, "pictures": 16},
}
"""By layout: pixels a side that is trained, and of the files; images a step; steps that are
timed, steps before those, and files."""

Answer = Mapping[str, Any]


def write_images(folder: Path, count: int, side: int, first: int = 0) -> Path:
    """Write images with captions beside them, from number ``first`` on; returns the folder."""
    folder.mkdir(parents=True)
    for number in range(first, first + count):
        cv2.imwrite(str(folder / f"{number:03}.png"), draw(number, "good", side))
        text = f"portrait of char1 woman, casual blue hoodie, park background, scene {number}"
        (folder / f"{number:03}.txt").write_text(text)
    return folder


class Way:
    """A process that trains a step whenever it is told to.

    Args:
        command: Starts it.
    """

    def __init__(self, command: Sequence[str]) -> None:
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.first = self._answer()

    def step(self) -> Answer:
        """Let it take a step; return what that took."""
        self._ask()
        return self._answer()

    def finish(self) -> None:
        """Let it take its last step and write what it has trained."""
        self._ask()
        if self._process.wait():
            raise SystemExit("A way to train could not finish; what it wrote is above.")

    def end(self) -> None:
        """End it, whatever it is doing."""
        self._process.kill()
        self._process.wait()

    def __enter__(self) -> Way:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def _ask(self) -> None:
        assert self._process.stdin is not None  # it is a pipe
        self._process.stdin.write("step\n")
        self._process.stdin.flush()

    def _answer(self) -> Answer:
        assert self._process.stdout is not None  # it is a pipe
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit("A way to train ended early; what it wrote is above.")
        return json.loads(line)


def measure(options: argparse.Namespace, root: Path) -> tuple[dict[str, list[Answer]], Answer]:
    """Take steps of both ways in turns.

    Returns:
        What each timed step took, by way; and our way's seconds a thing that is cached.
    """
    images = write_images(root / "pictures", options.pictures, options.source)
    given = {
        "model": folder_of(options.layout, root), "pictures": images, "size": options.size,
        "batch": options.batch, "rank": options.rank, "steps": options.warm + options.steps,
        "bucket-step": 64 if options.layout == "sd15" else 32,
        "precision": options.precision, "device": options.device,
    }  # fmt: skip
    arguments = [part for name, value in given.items() for part in (f"--{name}", str(value))]
    script = Path(__file__).with_name("training_ways.py")
    names = ("ours", "diffusers")
    taken: dict[str, list[Answer]] = {name: [] for name in names}
    once: dict[str, float] = {}
    for group in [names[:1], names[1:]] if options.apart else [names]:
        with ExitStack() as stack:
            ways = {
                name: stack.enter_context(
                    Way([sys.executable, str(script), name, *arguments, "--work", str(root / name)])
                )
                for name in group
            }
            for way in ways.values():
                once |= way.first.get("once", {})
            for step in range(options.warm + options.steps):
                for name in group if step % 2 == 0 else group[::-1]:
                    taken[name].append(ways[name].step())
                    print(f"step {step + 1}, {name}: {taken[name][-1]['clock']:.2f} s", flush=True)
    return {name: steps[options.warm :] for name, steps in taken.items()}, once


def conclusions(
    options: argparse.Namespace, taken: Mapping[str, Sequence[Answer]], once: Mapping[str, float]
) -> tuple[dict[str, Any], list[Verdict]]:
    """Return the figures, and what is promised of them."""
    medians = {
        kind: {name: statistics.median(a[kind] for a in answers) for name, answers in taken.items()}
        for kind in ("clock", "processor")
    }
    peaks = {name: max(a["peak"] for a in answers) for name, answers in taken.items()}
    cached = DATASET * sum(once.values())
    saved = medians["clock"]["diffusers"] - medians["clock"]["ours"]
    report = {
        "layout": options.layout,
        "pixels, batch, precision": [options.size, options.batch, options.precision],
        "device, threads": [options.device, torch.get_num_threads()],
        "steps of each way": len(taken["ours"]),
        **{
            f"{name}, s a step (clock, processor)": [
                round(medians[kind][name], 3) for kind in ("clock", "processor")
            ]
            for name in taken
        },
        f"caching once for {DATASET} images, s": round(cached, 1),
        "paid after steps": round(cached / saved) if saved > 0 else None,
        "peak MB": {name: round(value) for name, value in peaks.items()},
    }
    verdicts = [
        Verdict(f"step / diffusers' step, {kind}", of["ours"] / of["diffusers"], SHARE)
        for kind, of in medians.items()
    ]
    verdicts.append(Verdict("peak memory / its", peaks["ours"] / peaks["diffusers"], MEMORY))
    return report, verdicts


def main() -> int:
    """Measure, print and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--layout", choices=tuple(DEFAULTS), default="sd15")
    parser.add_argument("--size", type=int, help="side in pixels (512; miniature: 128)")
    parser.add_argument("--source", type=int, help="side of the files (768; miniature: 128)")
    parser.add_argument("--batch", type=int, help="images a step (1; miniature: 8)")
    parser.add_argument("--steps", type=int, help="timed (8; miniature: 24)")
    parser.add_argument("--apart", action="store_true", help="one way after the other")
    parser.add_argument("--warm", type=int, help="steps before those (1; miniature: 2)")
    parser.add_argument("--rank", type=int, default=16, help="(%(default)s)")
    parser.add_argument("--pictures", type=int, help="files (8; miniature: 16)")
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    options = parser.parse_args()
    for name, value in DEFAULTS[options.layout].items():
        if getattr(options, name) is None:
            setattr(options, name, value)
    with tempfile.TemporaryDirectory() as temporary:
        taken, once = measure(options, Path(temporary))
    report, verdicts = conclusions(options, taken, once)
    for name, figure in report.items():
        print(f"  {name:46} {figure}", flush=True)
    return conclude(report, verdicts, options.json)


if __name__ == "__main__":
    sys.exit(main())
