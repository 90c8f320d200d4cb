"""The table of all cores: one core, two, two beside another program; generation and analysis.

Run: python benchmarks/shared_processors.py [--turns 2] [--ways here,processes,ray] [--work ...]
                                            [--scale 1.0] [--json FILE]

Three kinds of work, by the project's own stages:

- generation: batches of 8 by the embedded model (128 px, 20 steps), written as PNG files;
- decode-bound: JPEGs of 12 megapixels, measured with the embedded models;
- model-bound: PNGs of 768 px, measured with buffalo_l's and ViT-B/32's architectures and random
  weights (``architectures.py``).

Each way is a process of its own on the first one or two processors: one core; two cores with the
threads of the libraries in one process; two cores with an engine's two workers, of one thread
each. What works is started, and its models are loaded, before the clock starts; how long that took
is told beside it. ``spin`` among the ways is as ``here`` with GNU's default of how long a waiting
thread spins; in all others it spins as briefly as the command line's. The program beside is a loop
that keeps one processor busy. The ways take turns, so that a drift of the machine hits them all,
and the best turn of each counts.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import architectures
import cv2
import drawings
import numpy as np
from verdicts import Verdict, conclude

GENERATION, DECODING, MODELS = "generation", "decode-bound", "model-bound"
WORK = {GENERATION: 96, DECODING: 96, MODELS: 96}
"""Images of each kind of work in a turn."""
BATCH, WARM = 8, 32
"""Images of a batch; images before the clock starts: so many that each worker opens its models."""
TWO_OVER_ONE, BESIDE, SHORT_OF = 1.8, 1.1, 0.95
"""Promised of two workers: over one core, alone; beside another program that takes two thirds of a
core; and over the threads of one process, alone."""
ONE, THREADS, WORKERS, RAY = "one core", "two, threads", "two, 2 workers", "two, Ray's 2 workers"
SPIN = "two, threads that spin long"
WAYS = {ONE: (1, "one"), THREADS: (2, "here"), SPIN: (2, "spin"), WORKERS: (2, "processes"),
        RAY: (2, "ray")}  # fmt: skip
"""Processors, and the engine by its name."""


def engine_named(name: str) -> Any:
    """Return an engine with two workers, or the one that works in this process."""
    if name == "processes":
        from character_curator.engines.processes import Processes

        return Processes(2)
    if name == "ray":
        from character_curator.engines.ray_engine import RayEngine

        return RayEngine(2)
    from character_curator.engines.here import Here

    return Here()


def generation(folder: Path, engine: Any, shared: bool) -> Callable[[int], None]:
    """Return what makes so many images."""
    from character_curator.generation.diffusers_backend import DiffusersBackend
    from character_curator.generation.run import generate
    from character_curator.plan import Request

    backend = DiffusersBackend(
        "miniature", width=128, height=128, guidance=2.5, threads=1 if shared else None
    )
    made = iter(range(10**6))

    def make(count: int) -> None:
        prompt = "portrait of a woman"
        requests = [
            Request("char1", 1, "scenario", 1, take, "", "", prompt, "", "", take)
            for take in (next(made) for _ in range(count))
        ]
        generate(requests, backend, folder / "made", batch_size=BATCH, engine=engine)

    return make


def analysis(folder: Path, engine: Any, pack: Any, clip: Any) -> Callable[[int], None]:
    """Return what measures so many images, from an empty store, with copies of the folder's."""
    from character_curator.analysis.embeddings import Embedder
    from character_curator.analysis.face_analyser import FaceAnalyser
    from character_curator.analysis.sweep import sweep
    from character_curator.features import FeatureStore
    from character_curator.imageset import ImageSet

    images = ImageSet.from_folder(folder)
    analyser, embedder = FaceAnalyser(pack), Embedder(clip)
    _ = analyser.detection_fingerprint, embedder.fingerprint  # hashes the weights

    def measure(count: int) -> None:
        with FeatureStore() as store:
            part = images.filter(np.arange(len(images)) < count)
            sweep(part, store, analyser=analyser, embedder=embedder, engine=engine)

    return measure


def measured(work: str, way: str, place: Path, count: int) -> dict[str, float]:
    """Do one kind of work in one way, in this process; return its seconds."""
    began = time.perf_counter()
    with ExitStack() as stack:
        engine = stack.enter_context(closing(engine_named(way)))
        own = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        if work == GENERATION:
            run = generation(own, engine, way in ("processes", "ray"))
        elif work == DECODING:
            run = analysis(place / "jpeg", engine, "miniature", "miniature")
        else:
            run = analysis(place / "png", engine, place / "pack", place / "clip")
        run(WARM)
        started = time.perf_counter() - began
        clock = time.perf_counter()
        run(count)
        return {"seconds": time.perf_counter() - clock, "start": started}


def in_a_process(work: str, way: str, place: Path, count: int, others: int) -> dict[str, float]:
    """Run :func:`measured` in a new process, with so many busy programs beside it."""
    processors, name = WAYS[way]
    two = sorted(os.sched_getaffinity(0))[:2]
    pinned = ["taskset", "-c", ",".join(map(str, two[:processors])), sys.executable]
    beside = ["taskset", "-c", ",".join(map(str, two)), sys.executable, "-c", "while True: pass"]
    threads = str(processors if name in ("here", "spin") else 1)
    environment = {key: value for key, value in os.environ.items() if key != "OMP_WAIT_POLICY"}
    environment |= {"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads,
                    "GOMP_SPINCOUNT": "300000" if name == "spin" else "3000"}  # fmt: skip
    busy = [subprocess.Popen(beside) for _ in range(others)]
    command = [__file__, "--one", work, "--as", name, "--place", str(place), "--count", str(count)]
    try:
        done = subprocess.run(
            [*pinned, *command], env=environment, stdout=subprocess.PIPE, text=True, check=True
        )
    finally:
        for process in busy:
            process.kill()
            process.wait()
    return dict(json.loads(done.stdout.splitlines()[-1]))


def prepare(place: Path, work: list[str], most: int) -> None:
    """Write the images, and the models with random weights."""
    if DECODING in work:
        (place / "jpeg").mkdir()
        encoded = []
        for path in sorted(Path(drawings.write(place / "drawn", 8)).rglob("*.png")):
            image = cv2.imread(str(path))
            scale = (12e6 / (image.shape[0] * image.shape[1])) ** 0.5
            large = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
            noise = np.empty(large.shape, np.int16)
            cv2.randn(noise, 0, 3)  # sensors have it, and files grow by it
            noisy = np.clip(large + noise, 0, 255).astype(np.uint8)
            encoded.append(cv2.imencode(".jpg", noisy)[1].tobytes())
        for number in range(most):  # what stands behind its end makes each another file
            data = encoded[number % len(encoded)] + number.to_bytes(4, "big")
            (place / "jpeg" / f"{number:04}.jpg").write_bytes(data)
    if MODELS in work:
        drawings.write(place / "png", most)
        for name, path in (("pack", architectures.face_pack), ("clip", architectures.clip_model)):
            (place / name).symlink_to(path(Path(tempfile.gettempdir()) / "curator-bench"))


def table(best: dict[tuple[str, str, int], dict[str, float]], counts: dict[str, int]) -> None:
    """Print seconds and ratios: a row a way, a column a kind of work."""
    work = list(dict.fromkeys(key[0] for key in best))
    print(f"\n{'':34}" + "".join(f"{name + f' ({counts[name]})':>30}" for name in work))
    for others in (0, 1):
        for way in WAYS:
            if (work[0], way, others) not in best:
                continue
            row = f"{way + (', beside a program' if others else ''):34}"
            for name in work:
                one, found = best[name, ONE, 0]["seconds"], best[name, way, others]
                row += f"{found['seconds']:9.1f} s {one / found['seconds']:6.2f} x "
                row += f"(+{found['start']:4.0f} s)"
            print(row)
    print("x: over one core alone; (+ s): imports, processes, models and a first part, not counted")


def main() -> int:
    """Measure all ways, print the table; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--turns", type=int, default=1, help="of each way (%(default)s)")
    parser.add_argument("--work", default=",".join(WORK), help="kinds (%(default)s)")
    parser.add_argument(
        "--ways", default="one,here,processes,ray", help="by the engine's name (%(default)s)"
    )
    parser.add_argument("--scale", type=float, default=1.0, help="times the images (%(default)s)")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--as", dest="way", help=argparse.SUPPRESS)
    parser.add_argument("--place", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--count", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measured(options.one, options.way, options.place, options.count)))
        return 0
    work = options.work.split(",")
    ways = [way for way, (_, name) in WAYS.items() if name in ("one", *options.ways.split(","))]
    counts = {name: max(BATCH, round(WORK[name] * options.scale / BATCH) * BATCH) for name in work}
    best: dict[tuple[str, str, int], dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        prepare(place, work, max(WARM, *counts.values()))
        cases = [(way, 0) for way in ways] + [(way, 1) for way in ways if way != ONE]
        for _ in range(options.turns):
            for name in work:
                for way, others in cases:
                    found = in_a_process(name, way, place, counts[name], others)
                    known = best.get((name, way, others))
                    if known is None or found["seconds"] < known["seconds"]:
                        best[name, way, others] = found
                    print(f"{name}, {way}, {others} beside: {found['seconds']:.1f} s", flush=True)
    table(best, counts)
    verdicts = []
    for name in work:
        one = best[name, ONE, 0]["seconds"]
        threads = best.get((name, THREADS, 0), {}).get("seconds")
        for way in (WORKERS, RAY):
            if (name, way, 0) not in best:
                continue
            alone, beside = (best[name, way, others]["seconds"] for others in (0, 1))
            verdicts += [
                Verdict(f"{name}: {way} over one core", one / alone, TWO_OVER_ONE, at_least=True),
                Verdict(f"{name}: {way}, beside a program, over one core alone", one / beside,
                        BESIDE, at_least=True),
            ]  # fmt: skip
            if threads is not None:
                verdicts.append(
                    Verdict(f"{name}: {way} over threads", threads / alone, SHORT_OF, at_least=True)
                )
    told = {", ".join(map(str, key)): value for key, value in best.items()}
    return conclude({"images": counts, "ways": told}, verdicts, options.json)


if __name__ == "__main__":
    raise SystemExit(main())
