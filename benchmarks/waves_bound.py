"""How few images waves could need at best: with estimates, and knowing what scenarios give.

Run: python benchmarks/waves_bound.py [--portfolios demo ben cleo] [--repeats 3] [--draws 6]
                                      [--steps 20] [--pools FOLDER] [--also FOLDER ...]
                                      [--json FILE]

The pools are those of ``waves.py``. Of each scenario they say how many of its images pass and how
good these are. An image is then drawn from those of its scenario, as often as one likes: no pool
ends, nothing is a near-duplicate, no batch is filled up, and no quota counts clusters. What is left
is how images are divided among scenarios. Three ways are compared, each ``--draws`` times:

- the fixed plan;
- waves as they are, which have to find out what each scenario gives;
- waves that are told what each scenario gives, on the average of its pool: no way of dividing
  images that can't know each one in advance has more to go by.

Told is with how many images, over those of the fixed plan, the selection first lacks nothing and is
as good as the fixed plan's of the same draw.
"""

from __future__ import annotations

import argparse
import hashlib
import statistics
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from verdicts import Verdict, conclude
from waves import Pool, project_of, spread

from character_curator.growth.dealing import cells_of
from character_curator.growth.waves import Goal, grow, wave_of
from character_curator.growth.yields import Yield
from character_curator.imageset import ImageSet
from character_curator.plan import Request
from character_curator.project_parts import quotas_of
from character_curator.selection import select

THIRD = 1 / 3


class Draws:
    """Gives each request an image of its scenario, by chance, the same every time."""

    def __init__(self, looked: pl.DataFrame, draw: int) -> None:
        self.draw = draw
        self.known: dict[tuple[str, int], list[tuple[str | None, float]]] = {}
        columns = looked.select("kind", "scenario", "rejection", "quality").iter_rows()
        for kind, scenario, rejection, quality in columns:
            self.known.setdefault((kind, scenario), []).append((rejection, quality or 0.0))

    def make(self, requests: Sequence[Request], note: object = None) -> ImageSet:
        """Return the images of requests, measured."""
        rows = []
        for request in requests:
            name = f"{self.draw} {request.file_name}".encode()
            number = int.from_bytes(hashlib.sha256(name).digest()[:8], "big")
            there = self.known[request.kind, request.scenario]
            rejection, quality = there[number % len(there)]
            rows.append(
                {**request.as_row(), "path": request.file_name, "rejection": rejection,
                 "quality": quality}
            )  # fmt: skip
        return ImageSet.from_rows(rows, ".")

    def yields(self, cells: Sequence[tuple[str, str, int]]) -> list[Yield]:
        """Return what each scenario gives."""
        found = []
        for _, kind, number in cells:
            there = self.known[kind, number]
            good = [quality for rejection, quality in there if rejection is None]
            mean = float(np.mean(good)) if good else 0.0
            deviation = float(np.std(good)) if good else 0.0
            found.append(
                Yield(len(there), len(good) / len(there), mean, deviation, (((), 1.0),))
            )  # fmt: skip
        return found


def told(pool: Pool, looked: pl.DataFrame, draw: int) -> dict[str, float]:
    """Return the share of the fixed plan's images that each way needs, in one draw."""
    draws, plan = Draws(looked, draw), pool.plan
    total, quotas = pool.project.selection.total, quotas_of(pool.project)
    requests = plan.requests()
    fixed = select(draws.make(requests), total, quotas)
    goal = Goal(total, quotas, wave_of(total, quotas), 0.0, len(requests))
    found = {"fixed quality": fixed.objective / len(fixed)}
    for name, known in (("estimated", None), ("known", draws.yields(cells_of(plan)))):
        with tempfile.TemporaryDirectory() as folder:
            grown = grow(
                plan, replace(goal, known=known), draws.make,
                lambda images: (images, np.zeros((0, 2), dtype=np.int64)),
                Path(folder) / "waves.json", settings={}, folder=Path(folder),
            )  # fmt: skip
        good = [
            step.images
            for step in grown.steps
            if step.met and step.quality >= found["fixed quality"]
        ]
        found[name] = (good[0] if good else len(requests)) / len(requests)
    return found


def main() -> int:
    """Measure all portfolios, print the table; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--portfolios", nargs="+", default=["demo", "ben", "cleo"])
    parser.add_argument("--repeats", type=int, default=3, help="of the pools (%(default)s)")
    parser.add_argument("--draws", type=int, default=6)
    parser.add_argument("--steps", type=int, default=20, help="of each image (%(default)s)")
    parser.add_argument("--pools", type=Path, default=Path(tempfile.gettempdir()) / "wave-pools")
    parser.add_argument("--also", type=Path, nargs="+", default=[], metavar="FOLDER")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    report: dict[str, Any] = {}
    every: list[Mapping[str, float]] = []
    for name in options.portfolios:
        project = project_of(name, options.steps, ["cluster"])
        folder = options.pools / f"{name}-{options.steps}"
        pool = Pool(project, options.repeats, folder, options.also)
        looked, _ = pool.look(pool.images)
        found = [told(pool, looked.table, draw) for draw in range(options.draws)]
        for key in ("estimated", "known"):
            print(f"{name:8} {key:10} {spread([one[key] for one in found])}", flush=True)
        report[name] = found
        every += found
    verdicts = [
        Verdict(f"images over the fixed plan's, where scenarios are {key}",
                statistics.fmean(one[key] for one in every), THIRD)
        for key in ("estimated", "known")
    ]  # fmt: skip
    return conclude(report, verdicts, options.json)


if __name__ == "__main__":
    raise SystemExit(main())
