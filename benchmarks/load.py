"""Seconds and peak memory of a whole curation for growing numbers of images, and the slope.

Run: python benchmarks/load.py [--counts 1000 10000] [--side 64] [--cache FOLDER] [--json FILE]

The images are drawn, each another person in another scene, by what the embedded models learned
from, and measured by these models, so that all that a folder of photographs goes through is gone
through: reading, faces, quality, embeddings, clusters, near-duplicates and copies, the selection of
70, report, sheets and export. Limits are 0, so that few images fall out early. Each count is a new
process. Drawing is not measured; what is drawn stays in the cache and is used again.

The slope is that of the seconds over the number of images, both in logarithms: 1 is linear. On a
machine that does something else as well, only the processor's seconds say anything.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from memory import peak
from verdicts import Verdict, conclude

PER_IMAGE = 8.0
"""Memory is called flat when each image more needs at most these KB: for its row and its embedding.
"""
BOUNDED = 10_000
"""With so many images all is full that is bounded: the page's 5,000 candidates with their
thumbnails, what is kept of images while copies are looked for. Memory is judged from there on."""
LINEAR = 1.1
"""The slope that is still called linear."""
TOTAL = 70


def draw(folder: Path, first: int, last: int, side: int) -> None:
    """Draw the images of a range of numbers that are not there yet."""
    import cv2
    import numpy as np

    from miniature.identity import sample_identity
    from miniature.portrait import render
    from miniature.scene import sample_scene

    for number in range(first, last):
        path = folder / f"{number // 1000:03}" / f"{number:06}.png"
        if path.exists():
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        person = sample_identity(np.random.default_rng([2, number]))
        scene = sample_scene(np.random.default_rng([1, number]))
        pixels = render(person, scene, side, 1).image
        partial = path.with_name(f".{number:06}.png")
        cv2.imwrite(str(partial), pixels[..., ::-1])
        partial.replace(path)


class Watch:
    """Notes when each stage begins, and the peak of memory until then."""

    def __init__(self) -> None:
        self.stages: list[tuple[str, float, float, float]] = []

    def start(self, stage: str, total: int) -> None:
        """Note that a stage begins."""
        self.stages.append((stage, time.perf_counter(), time.process_time(), peak()))

    def advance(self, n: int = 1, note: str = "") -> None:
        """Take no notice."""

    def finish(self) -> None:
        """Note that what comes has no name."""
        self.start("", 0)

    def table(self) -> dict[str, list[float]]:
        """Return seconds, those of the processor, and the peak afterwards in MB of each stage.

        What has no name is called by the stage before it.
        """
        told: dict[str, list[float]] = {}
        named = "the start"
        for (stage, *begun, _), (_, *ended, most) in itertools.pairwise(self.stages):
            named = stage or (named if named.startswith("after ") else f"after {named}")
            before = told.get(named, [0.0, 0.0, 0.0])
            took = (round(b + e - s, 1) for b, s, e in zip(before[:2], begun, ended, strict=True))
            told[named] = [*took, round(most)]
        return told


def curate(folder: Path, output: Path) -> dict[str, Any]:
    """Curate a folder as the command line does; return what it took."""
    from character_curator import pipeline, project

    parsed = project.from_mapping(
        {
            "source": str(folder),
            "project": {"name": "load", "output": str(output)},
            "faces": {"pack": "miniature", "minimum_confidence": 0.0, "minimum_share": 0.0,
                      "minimum_side": 0},
            "quality": {"minimum": 0.0},
            "clip": {"model": "miniature", "pretrained": ""},
            "clusters": {"count": 8},
            "selection": {"total": TOTAL, "quotas": ["cluster=8..10"]},
        },
        "the benchmark",
    )  # fmt: skip
    start, clock, work = peak(), time.perf_counter(), time.process_time()
    watch = Watch()
    watch.finish()
    images = pipeline.source_images(parsed, progress=watch)
    outcome = pipeline.curate(images, parsed, output, dataset=output / "dataset", progress=watch)
    watch.finish()
    return {
        "chosen": sum(outcome.images.table["selected"].to_list()),
        "seconds": round(time.perf_counter() - clock, 1),
        "processor seconds": round(time.process_time() - work, 1),
        "MB before": round(start),
        "peak MB": round(peak()),
        "MB of the report": round((output / "dataset/report.html").stat().st_size / 2**20, 1),
        "MB of the work folder": round(size_of(output) / 2**20, 1),
        "stages (seconds, processor, peak MB)": watch.table(),
    }


def size_of(folder: Path) -> int:
    """Return the bytes of all files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def slope(few: tuple[int, float], many: tuple[int, float]) -> float:
    """Return the exponent with which seconds grow from one count of images to another."""
    return math.log(many[1] / few[1]) / math.log(many[0] / few[0])


def main() -> int:
    """Measure each count in a new process, print and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--counts", type=int, nargs="+", default=[1000, 10_000])
    parser.add_argument("--side", type=int, default=64, help="edge in pixels (%(default)s)")
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "curator-bench")
    parser.add_argument("--draw-only", action="store_true", help="draw what is not there, and end")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    parser.add_argument("--child", type=Path, nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(curate(*options.child)))
        return 0
    cache = options.cache.resolve()
    report: dict[str, Any] = {"side": options.side, "counts": {}}
    sys.path.insert(0, str(Path(__file__).parents[1]))
    for count in sorted(options.counts):
        folder = cache / f"load-{options.side}-{count}"
        draw(folder, 0, count, options.side)
        if options.draw_only:
            continue
        output = Path(tempfile.mkdtemp(prefix="load-", dir=cache))
        try:
            done = subprocess.run(
                [sys.executable, __file__, "--child", str(folder), str(output)],
                check=True, stdout=subprocess.PIPE, text=True,
            )  # fmt: skip
        finally:
            shutil.rmtree(output, ignore_errors=True)
        found = report["counts"][count] = json.loads(done.stdout.splitlines()[-1])
        print(f"{count:,} images of {options.side} x {options.side}:")
        for name, value in found.items():
            lines = value.items() if isinstance(value, dict) else [(name, value)]
            for key, shown in lines:
                print(f"  {key:34} {shown}", flush=True)
    return 0 if options.draw_only else judge(report, options.json)


def judge(report: dict[str, Any], file: Path | None) -> int:
    """Compare each count with the one before it."""
    verdicts = []
    counts = list(report["counts"].items())
    for (few, one), (many, other) in itertools.pairwise(counts):
        more = (other["peak MB"] - one["peak MB"]) * 1024 / (many - few)
        for name in ("seconds", "processor seconds"):
            grown = slope((few, one[name]), (many, other[name]))
            promise = f"slope of the {name} from {few:,} to {many:,} images"
            verdicts.append(Verdict(promise, grown, LINEAR))
        if few >= BOUNDED:
            promise = f"KB of memory for each image from {few:,} to {many:,}"
            verdicts.append(Verdict(promise, more, PER_IMAGE))
        else:
            print(f"{more:.1f} KB of memory for each image from {few:,} to {many:,}")
    for count, found in counts:
        verdicts.append(Verdict(f"images chosen of {count:,}", found["chosen"], TOTAL, True))
    return conclude(report, verdicts, file)


if __name__ == "__main__":
    sys.exit(main())
