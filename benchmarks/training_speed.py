"""A training step against the way of diffusers' example: time and memory, side by side.

Run: python benchmarks/training_speed.py [--layout sd15|miniature] [--size 512] [--json FILE]

Both ways train the same adapters on the same frozen weights (each on its own copy of the model, in
the layout that it gives it) with the same pictures, batch, number type and optimizer, in one
process and in turns: one step of `character_curator.training.train`
(all that happens from the end of one step to the end of the next counts, the state that is saved
after an epoch included), then one step of `diffusers_way.py`. Peak memory is that of a process for
each. What our caching costs before the first step is told too, and after how many steps it is paid.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import torch
from diffusers_way import DiffusersWay
from layouts import LAYOUTS
from memory import peak
from pictures import draw
from verdicts import Verdict, conclude

SHARE = 0.6
"""Promised: at most this share of the other way's step time."""
MEMORY = 1.01
"""Promised: no more than the other way's peak, to the 1 % that runs differ by."""
DATASET = 70
"""Pictures of a curated set: what caching costs is told for so many."""
DEFAULTS = {
    "sd15": {"size": 512, "source": 768, "batch": 1, "steps": 4, "warm": 1, "pictures": 4},
    "miniature": {"size": 128, "source": 128, "batch": 8, "steps": 8, "warm": 2, "pictures": 16},
}
"""By layout: pixels a side that is trained, and of the files; pictures a step; steps that are
timed, steps before those, and files."""

Moment = tuple[float, float]


def now() -> Moment:
    """Return seconds by the clock and of the processor."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter(), time.process_time()


def since(start: Moment) -> Moment:
    """Return how much time has gone by, by both."""
    clock, work = now()
    return clock - start[0], work - start[1]


class Watch:
    """Times the stages of a training before its first step; keeps the protocol of a Progress."""

    def __init__(self) -> None:
        self.stages: dict[str, tuple[int, float]] = {}
        self._stage, self._total, self._start = "", 0, 0.0

    def start(self, stage: str, total: int) -> None:
        """A stage begins."""
        self._stage, self._total, self._start = stage, total, time.perf_counter()

    def advance(self, n: int = 1, note: str = "") -> None:
        """Nothing to note."""

    def finish(self) -> None:
        """A stage is over."""
        self.stages[self._stage] = (self._total, time.perf_counter() - self._start)


def write_pictures(folder: Path, count: int, side: int) -> Path:
    """Write pictures with captions beside them; returns the folder."""
    folder.mkdir(parents=True)
    for number in range(count):
        cv2.imwrite(str(folder / f"{number:03}.png"), draw(number, "good", side))
        text = f"portrait of char1 woman, casual blue hoodie, park background, scene {number}"
        (folder / f"{number:03}.txt").write_text(text)
    return folder


class Bench:
    """Both ways to train a model's adapters, each on a copy of the model.

    Args:
        options: Of the command line.
        root: Folder to work in.
        ways: Which of them are wanted: ``ours``, ``diffusers``.
    """

    def __init__(self, options: argparse.Namespace, root: Path, ways: Sequence[str]) -> None:
        # All of the package that either way needs, so that peaks differ by what training holds.
        from character_curator.analysis import decoding  # noqa: F401
        from character_curator.training import TrainingSettings, loop  # noqa: F401
        from character_curator.training.adapters import inject
        from character_curator.training.diffusers_denoiser import of_pipeline

        self.options, self.root = options, root
        self.settings = TrainingSettings(
            rank=options.rank, alpha=options.rank, targets="attention", learning_rate=1e-4,
            batch_size=options.batch, steps=options.warm + options.steps,
            resolution=options.size, bucket_step=64 if options.layout == "sd15" else 32,
            crop="centre", validation_share=0.0, precision=options.precision,
        )  # fmt: skip
        self.folder = write_pictures(root / "pictures", options.pictures, options.source)
        self.watch = Watch()
        half = options.precision == "bf16"
        for way in ways:
            pipeline = LAYOUTS[options.layout]()
            pipeline.to(options.device, torch.bfloat16 if half else torch.float32)
            if way == "ours":
                # The identity is only a key of the cache here, which is new.
                self.denoiser = of_pipeline(pipeline, f"{options.layout} {options.precision}")
                module = self.denoiser.module()
            else:
                module = pipeline.unet
                for part in (module, pipeline.vae, pipeline.text_encoder):
                    part.requires_grad_(False)
                    part.eval()
                module.train()
            adapters = inject({"denoiser": module}, self.settings.adapters(), seed=0)
            if way == "ours":
                self.adapters = adapters
            else:
                self.other = DiffusersWay(
                    pipeline, adapters.parameters(), self.folder, resolution=options.size,
                    batch_size=options.batch, learning_rate=1e-4, autocast=half,
                )  # fmt: skip

    def ours(self, on_step: Any, on_epoch: Any = None) -> None:
        """Train with the package, as far as the settings say."""
        from character_curator.training import Callbacks, read_examples, train

        examples, _ = read_examples(self.folder)
        train(
            self.denoiser,
            self.adapters.named_parameters(),
            examples,
            self.settings,
            self.root / "run",
            callbacks=Callbacks(on_step=on_step, on_epoch=on_epoch),
            progress=self.watch,
        )

    def in_turns(self) -> tuple[list[Moment], list[Moment]]:
        """Take steps of both ways in turns; return what each step took, ours first."""
        own: list[Moment] = []
        other: list[Moment] = []
        mark = now()

        def begin(report: Any) -> None:
            nonlocal mark
            if report.epoch == 0:
                mark = now()

        def both(_: Any) -> None:
            nonlocal mark
            own.append(since(mark))
            start = now()
            self.other.step()
            other.append(since(start))
            mark = now()

        self.ours(both, begin)
        return own[self.options.warm :], other[self.options.warm :]

    def peak_of(self, way: str) -> float:
        """Return the peak memory in MB of training one way, in a process that does nothing else."""
        if way == "ours":
            self.ours(None)
        else:
            for _ in range(self.settings.steps or 0):
                self.other.step()
        if torch.cuda.is_available() and self.options.device.startswith("cuda"):
            return torch.cuda.max_memory_allocated() / 1e6
        return peak()


def median(times: Sequence[Moment]) -> list[float]:
    """Return the medians of seconds by the clock and of the processor."""
    return [statistics.median(column) for column in zip(*times, strict=True)]


def child(way: str) -> float:
    """Return the peak memory in MB of a way, measured in a process of its own."""
    done = subprocess.run(
        [sys.executable, __file__, *sys.argv[1:], "--way", way],
        check=True, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    return float(json.loads(done.stdout.splitlines()[-1]))


def main() -> int:
    """Measure, print and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--layout", choices=tuple(LAYOUTS), default="sd15")
    parser.add_argument("--size", type=int, help="side in pixels (512; miniature: 128)")
    parser.add_argument("--source", type=int, help="side of the files (768; miniature: 128)")
    parser.add_argument("--batch", type=int, help="pictures a step (1; miniature: 8)")
    parser.add_argument("--steps", type=int, help="timed, of each way (4; miniature: 8)")
    parser.add_argument("--warm", type=int, help="steps before those (1; miniature: 2)")
    parser.add_argument("--rank", type=int, default=16, help="(%(default)s)")
    parser.add_argument("--pictures", type=int, help="files (4; miniature: 16)")
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--no-memory", action="store_true", help="measure time alone")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    parser.add_argument("--way", choices=("ours", "diffusers"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    for name, value in DEFAULTS[options.layout].items():
        if getattr(options, name) is None:
            setattr(options, name, value)
    if options.way:
        options.steps, options.warm = 2, 0
    ways = (options.way,) if options.way else ("ours", "diffusers")
    with tempfile.TemporaryDirectory() as temporary:
        bench = Bench(options, Path(temporary), ways)
        if options.way:
            print(bench.peak_of(options.way))
            return 0
        own, other = bench.in_turns()
    report, verdicts = figures(options, bench, own, other)
    del bench  # the measured processes need the memory
    if not options.no_memory:
        peaks = {way: child(way) for way in ("ours", "diffusers")}
        report["peak MB"] = {way: round(value) for way, value in peaks.items()}
        verdicts.append(Verdict("peak memory / its", peaks["ours"] / peaks["diffusers"], MEMORY))
    for name, value in report.items():
        print(f"  {name:46} {value}", flush=True)
    return conclude(report, verdicts, options.json)


def figures(
    options: argparse.Namespace, bench: Bench, own: Sequence[Moment], other: Sequence[Moment]
) -> tuple[dict[str, Any], list[Verdict]]:
    """Return the figures about time, and what is promised of them."""
    ours, theirs = median(own), median(other)
    pictures, seconds = bench.watch.stages["Encoding pictures"]
    captions, more = bench.watch.stages["Encoding captions"]
    once = DATASET * (seconds / pictures + more / captions)
    saved = theirs[0] - ours[0]
    report = {
        "layout": options.layout,
        "pixels, batch, precision": [options.size, options.batch, options.precision],
        "device, threads": [options.device, torch.get_num_threads()],
        "steps of each way": len(own),
        "ours, s a step (clock, processor)": [round(s, 3) for s in ours],
        "diffusers' way, s a step (clock, processor)": [round(s, 3) for s in theirs],
        f"caching once for {DATASET} pictures, s": round(once, 1),
        "paid after steps": round(once / saved) if saved > 0 else None,
    }
    verdicts = [
        Verdict("step / diffusers' step, on the clock", ours[0] / theirs[0], SHARE),
        Verdict("step / diffusers' step, processor", ours[1] / theirs[1], SHARE),
    ]
    return report, verdicts


if __name__ == "__main__":
    sys.exit(main())
