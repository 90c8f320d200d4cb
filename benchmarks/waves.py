"""Images in waves against a fixed plan: sampling steps per chosen image, and the quality chosen.

Run: python benchmarks/waves.py [--portfolios demo ben cleo] [--repeats 3] [--steps 20]
                                [--without cluster] [--pools FOLDER] [--also FOLDER ...]
                                [--json FILE]

Three portfolios of the embedded models: the demo (540 images, 70 chosen), and two subjects of the
avatars (200 images, 26 chosen: as many for each). Of each there is a pool that is as many times as
deep as there are repeats. A repeat has images of its own: its fixed plan is one part of the pool
(the same seeds and scenarios, other takes, so other noise), and its waves draw from the whole pool,
that part first. As an image is a function of its request, one from the pool is the one that would
have been made; nothing is told of the pool beyond that. Both are measured, clustered and selected
from by the same stages.

A step is one denoising step of one row of a batch; rows that only fill a batch count. Waves are
followed up to as many images as the fixed plan has, and told at three points: with a third of its
steps, where they first lack nothing and are as good, and where they would end by themselves.

Making the pools takes long (about 0.5 s an image on two quiet cores, 1,620 and twice 600 images);
they are kept in ``--pools``, and a run that was killed goes on. Images that lie in a folder given
with ``--also`` are taken where they are what would be made.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from verdicts import Verdict, conclude

from character_curator import pipeline
from character_curator import project as projects
from character_curator.features import FeatureStore
from character_curator.generation import png
from character_curator.generation.backend import request_fingerprint
from character_curator.generation.run import batches
from character_curator.growth.waves import Goal, Grown, grow, wave_of
from character_curator.imageset import SCHEMA, ImageSet
from character_curator.plan import Plan, Request
from character_curator.portfolio.parts import part_of
from character_curator.progress import silent
from character_curator.project import Project
from character_curator.project_measuring import measured_of
from character_curator.project_parts import (
    STORE_FILE,
    backend_of,
    plan_of,
    quotas_of,
    with_output,
)
from character_curator.project_sections import WavesSection
from character_curator.selection import Selection, select

CORE = Path(__file__).parents[1] / "core"
TOTAL = 26
"""Chosen of a subject of the avatars, of 200 images: as many for each as the demo's."""
THIRD = 1 / 3


@dataclass(frozen=True)
class Figures:
    """What a set of images costs and gives."""

    images: int
    steps: int
    per_chosen: float
    met: bool
    quality: float
    scenarios: int
    distance: float


def project_of(name: str, steps: int, without: Sequence[str] = ()) -> Project:
    """Return the project of a portfolio, which trains nothing, without the quotas on columns."""
    if name == "demo":
        found = projects.read(CORE / "demo.toml")
    else:
        whole = projects.read(CORE / "avatars.toml")
        subject = next(one for one in whole.subjects if one.name == name)
        found = part_of(whole, subject)
        selection = found.selection.model_copy(update={"total": TOTAL})
        found = found.model_copy(update={"selection": selection})
    quotas = tuple(q for q in found.selection.quotas if q.split("=")[0] not in without)
    found = found.model_copy(
        update={"selection": found.selection.model_copy(update={"quotas": quotas})}
    )
    model = found.model.model_copy(update={"steps": steps})
    return found.model_copy(update={"model": model, "training": None})


def deeper(project: Project, times: int) -> Project:
    """Return the project with so many times as many takes."""
    assert project.plan is not None
    plan = project.plan.model_copy(update={"takes": project.plan.takes * times})
    scenes = {
        kind: tuple(
            one if one.takes is None else one.model_copy(update={"takes": one.takes * times})
            for one in getattr(project, kind)
        )
        for kind in ("originals", "scenarios")
    }
    return project.model_copy(update={"plan": plan, **scenes})


def link_known(plan: Plan, settings: Mapping[str, Any], raw: Path, others: Sequence[Path]) -> None:
    """Take what lies elsewhere and is what would be made."""
    raw.mkdir(parents=True, exist_ok=True)
    for request in plan.requests():
        for folder in others:
            path = folder / request.file_name
            if (raw / request.file_name).exists() or not path.is_file():
                continue
            record = png.read_record(path.read_bytes()) or {}
            if record.get("request") == request_fingerprint(request, settings):
                (raw / request.file_name).write_bytes(path.read_bytes())


def takes_of(plan: Plan) -> dict[tuple[str, int], int]:
    """Return how many takes a plan has of each scenario."""
    return {
        (kind, scene.number): plan.takes if scene.takes is None else scene.takes
        for kind, scene in plan.kinds()
    }


class Pool:
    """The images of a portfolio, as each repeat sees them: with takes of its own in front."""

    def __init__(self, project: Project, repeats: int, folder: Path, also: Sequence[Path]) -> None:
        self.project = project
        deep = deeper(with_output(project, folder), repeats)
        self.settings = backend_of(project).settings
        link_known(plan_of(deep), self.settings, folder / "raw", also)
        self.images = pipeline.generate(deep)
        self.folder = folder
        self.plan = plan_of(project)
        self.depth, self.deep = takes_of(self.plan), takes_of(plan_of(deep))
        self.row_of = {path: row for row, path in enumerate(self.images.table["path"])}

    def of(self, requests: Sequence[Request], repeat: int) -> ImageSet:
        """Return the images of requests in one repeat, under the requests' names."""
        root = self.folder / f"repeat{repeat}"
        root.mkdir(exist_ok=True)
        rows, takes = [], []
        for request in requests:
            scene = request.kind, request.scenario
            take = (request.take - 1 + repeat * self.depth[scene]) % self.deep[scene] + 1
            name = replace(request, take=take).file_name
            rows.append(self.row_of[name])
            takes.append(request.take)
            if not (root / request.file_name).exists():
                os.link(self.images.root / name, root / request.file_name)
        table = self.images.table[rows].select(list(SCHEMA))
        names = pl.Series("path", [request.file_name for request in requests])
        takes_of = pl.Series("take", takes, dtype=pl.Int32)
        return ImageSet(table.with_columns(names, takes_of), root)

    def look(self, images: ImageSet) -> tuple[ImageSet, np.ndarray]:
        """Measure; what is known of the pixels is not measured again."""
        with FeatureStore(self.folder / STORE_FILE) as store:
            found = measured_of(images, self.project, store, self.folder, ".", None, silent)
        return found.images, found.pairs

    def select(self, images: ImageSet) -> Selection:
        """Choose from images."""
        looked, pairs = self.look(images)
        total = self.project.selection.total
        return select(looked, total, quotas_of(self.project), conflicts=pairs)

    def figures(self, images: ImageSet, waves: Sequence[Sequence[Request]]) -> Figures:
        """Return what images cost, that were made in so many parts, and give."""
        size, steps = self.project.model.batch_size, self.project.model.steps
        rows = sum(size for wave in waves for _ in batches(wave, size))
        chosen = self.select(images)
        vectors = chosen.selected.embeddings().astype(np.float64)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        count = len(vectors)
        alike = (float((vectors @ vectors.T).sum()) - count) / (count * (count - 1))
        return Figures(
            len(images),
            rows * steps,
            rows * steps / count,
            chosen.met,
            chosen.objective / count,
            chosen.selected.table.select("kind", "scenario").n_unique(),
            1 - alike,
        )


def in_waves(pool: Pool, repeat: int, section: WavesSection) -> Grown:
    """Follow the waves of a repeat up to as many images as the fixed plan has."""
    goal = Goal(
        total=pool.project.selection.total,
        quotas=quotas_of(pool.project),
        wave=section.size or wave_of(pool.project.selection.total, quotas_of(pool.project)),
        gain=0.0,
        budget=len(pool.plan.requests()),
        most=min(pool.deep.values()),
    )
    with tempfile.TemporaryDirectory() as folder:
        return grow(
            pool.plan,
            goal,
            lambda requests, note: pool.of(requests, repeat),
            pool.look,
            Path(folder) / "waves.json",
            settings=pool.settings,
            folder=Path(folder),
        )


def told(pool: Pool, repeat: int, section: WavesSection) -> dict[str, Any]:
    """Measure one repeat: the fixed plan, and the waves at three points."""
    requests = pool.plan.requests()
    fixed = pool.figures(pool.of(requests, repeat), [requests])
    grown = in_waves(pool, repeat, section)
    table = grown.images.table
    by_name = {row["path"]: Request.from_row(row) for row in table.iter_rows(named=True)}
    waves = [
        [by_name[path] for path in table.filter(pl.col("wave") == number)["path"]]
        for number in range(1, grown.waves + 1)
    ]

    def at(number: int) -> Figures:
        images = grown.images.filter(pl.col("wave") <= number)
        return pool.figures(images, waves[:number])

    points = [at(step.wave) for step in grown.steps]
    within = [point for point in points if point.steps <= fixed.steps * THIRD]
    equal = [point for point in points if point.met and point.quality >= fixed.quality]
    ended = [
        points[place]
        for place, step in enumerate(grown.steps)
        if step.met and step.promised < section.gain
    ]
    return {
        "fixed": fixed,
        "a third": within[-1] if within else points[0],
        "as good": equal[0] if equal else None,
        "by itself": ended[0] if ended else points[-1],
        "course": [
            (point.images, point.steps, point.met, round(point.quality, 4), step.promised)
            for point, step in zip(points, grown.steps, strict=True)
        ],
    }


def line(name: str, figures: Figures | None, fixed: Figures) -> str:
    """Return a line of the table."""
    if figures is None:
        return f"    {name:10} never, with as many images as the fixed plan"
    lacking = "nothing" if figures.met else "some"
    return (
        f"    {name:10} {figures.images:4} images, {figures.per_chosen:6.1f} steps a chosen image "
        f"({figures.steps / fixed.steps:4.0%}), quality {figures.quality:.4f} "
        f"({figures.quality - fixed.quality:+.4f}), {lacking} lacking, "
        f"{figures.scenarios} scenarios, mean distance {figures.distance:.3f}"
    )


def spread(values: Sequence[float]) -> str:
    """Return mean and standard deviation."""
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{statistics.fmean(values):.4f} (sd {deviation:.4f}, n {len(values)})"


def main() -> int:
    """Measure all portfolios and repeats, print the table; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--portfolios", nargs="+", default=["demo", "ben", "cleo"])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--steps", type=int, default=20, help="of each image (%(default)s)")
    parser.add_argument("--without", nargs="+", default=[], metavar="COLUMN",
                        help="leave the quotas on these columns out, such as cluster")  # fmt: skip
    parser.add_argument("--pools", type=Path, default=Path(tempfile.gettempdir()) / "wave-pools")
    parser.add_argument("--also", type=Path, nargs="+", default=[], metavar="FOLDER")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    section = WavesSection()
    report: dict[str, Any] = {}
    third: list[float] = []
    loss: list[float] = []
    equal: list[float] = []
    ended: list[tuple[float, float]] = []
    for name in options.portfolios:
        project = project_of(name, options.steps, options.without)
        folder = options.pools / f"{name}-{options.steps}"
        pool = Pool(project, options.repeats, folder, options.also)
        for repeat in range(options.repeats):
            found = told(pool, repeat, section)
            fixed = found["fixed"]
            print(f"{name}, repeat {repeat + 1}")
            for key in ("fixed", "a third", "as good", "by itself"):
                print(line(key, found[key], fixed), flush=True)
            third.append(found["a third"].steps / fixed.steps)
            loss.append(found["a third"].quality - fixed.quality)
            equal.append(found["as good"].steps / fixed.steps if found["as good"] else 1.0)
            own = found["by itself"]
            ended.append((own.steps / fixed.steps, own.quality - fixed.quality))
            report[f"{name} {repeat + 1}"] = {
                key: asdict(value) if isinstance(value, Figures) else value
                for key, value in found.items()
            }
    print(f"with a third of the steps: quality {spread(loss)} against the fixed plan's")
    print(f"as good as the fixed plan: with {spread(equal)} of its steps")
    print(f"where it ends by itself: {spread([one for one, _ in ended])} of the steps, quality "
          f"{spread([one for _, one in ended])}")  # fmt: skip
    verdicts = [
        Verdict("steps a chosen image, as good as the fixed plan, over its",
                statistics.fmean(equal), THIRD),
        Verdict("quality with a third of the steps, against the fixed plan's",
                statistics.fmean(loss), 0.0, at_least=True),
    ]  # fmt: skip
    return conclude(report, verdicts, options.json)


if __name__ == "__main__":
    raise SystemExit(main())
