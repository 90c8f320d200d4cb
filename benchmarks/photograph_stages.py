"""What each stage costs an image: JPEGs of 12 megapixels as cameras write them, PNGs of 1.

Run: python benchmarks/photograph_stages.py [--photographs FOLDER] [--faces PACK] [--count 12]
[--workers 2] [--turns 1] [--json FILE]

Photographs of one's own are scaled to those sizes; without any, drawn portraits with noise are.
Each stage is timed alone on one thread, in milliseconds of the processor; then all of the analysis
from an empty store by the clock: on one processor, on two with threads alone, and on two with so
many worker processes, each way in a process of its own. They take turns, and the best of each
counts. Workers are started, with their models, before the clock starts; how long that took is told
beside it. The whole must not cost more than 1.3 times its stages, a second processor must save
something, and with workers as much as is promised.
"""

from __future__ import annotations

import argparse
import inspect
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import cv2
import drawings
import numpy as np
import torch
from verdicts import Verdict, conclude

from character_curator.analysis import decoding
from character_curator.analysis.embeddings import Embedder
from character_curator.analysis.face_analyser import FaceAnalyser
from character_curator.analysis.face_looks import face_looks
from character_curator.analysis.face_validation import validate_faces
from character_curator.analysis.measure import measure
from character_curator.analysis.pixels import PixelMeasurement
from character_curator.analysis.quality import score_quality
from character_curator.analysis.small_images import Small
from character_curator.features import FeatureStore
from character_curator.imageset import ImageSet

KINDS = {"JPEG, 12 megapixels": (12e6, ".jpg"), "PNG, 1 megapixel": (1e6, ".png")}
OVERHEAD, SECOND_PROCESSOR, WITH_WORKERS = 1.3, 1.25, 1.8
STAGED = 12
"""Of so many images at most each stage is timed alone."""


def sources(folder: Path | None, count: int) -> Iterator[np.ndarray]:
    """Yield so many images, BGR: of a folder, or drawn."""
    found = 0
    for path in sorted(folder.iterdir()) if folder else ():
        try:
            image = decoding.read_image(path)
        except decoding.UnreadableImageError:
            continue
        if min(image.shape[:2]) >= 400 and found < count:
            found += 1
            yield image
    with tempfile.TemporaryDirectory() as drawn:
        if found < count:
            drawings.write(Path(drawn), count - found)
            for path in sorted(Path(drawn).rglob("*.png"))[: count - found]:
                yield decoding.read_image(path)


def write(images: list[np.ndarray], folder: Path, area: float, suffix: str) -> list[Path]:
    """Write images at a size; with noise, because sensors have it and files grow by it."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    paths = []
    for index, image in enumerate(images):
        scale = (area / (image.shape[0] * image.shape[1])) ** 0.5
        scaled = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
        noisy = scaled + rng.normal(0, 3, scaled.shape)
        paths.append(folder / f"{index:03}{suffix}")
        cv2.imwrite(str(paths[-1]), np.clip(noisy, 0, 255).astype(np.uint8))
    return paths


def stages(paths: list[Path], analyser: FaceAnalyser, embedder: Embedder) -> dict[str, float]:
    """Return each stage's milliseconds of the processor an image, one thread."""
    spent: dict[str, float] = {}

    def timed(name: str, function: Callable[[], Any]) -> Any:
        before = time.process_time()
        result = function()
        spent[name] = spent.get(name, 0.0) + (time.process_time() - before) / len(paths) * 1000
        return result

    for path in paths:
        image = timed("read and decode", lambda: decoding.read_image(path))  # noqa: B023
        timed("sharpness and contrast", lambda: PixelMeasurement.of(image))  # noqa: B023
        faces = timed("faces", lambda: analyser.detect(image))  # noqa: B023
        timed("looks of the faces", lambda: face_looks(image, faces.boxes))  # noqa: B023
        if len(faces) and analyser.backend.has_recogniser:
            crop = timed("identity", lambda: analyser.crop(image, faces.landmarks[0]))  # noqa: B023
            timed("identity", lambda: analyser.identify([crop]))  # noqa: B023
        prepared = timed("embedding", lambda: embedder.preprocess(image))  # noqa: B023
        timed("embedding", lambda: embedder.embed([prepared]))  # noqa: B023
        timed("small copy, for duplicates", lambda: Small.of(image))  # noqa: B023
    return spent


def whole(folder: Path, pack: str, workers: int) -> dict[str, float]:
    """Return the seconds of all stages from an empty store: on the clock, of this process.

    Args:
        folder: The images.
        pack: The face pack.
        workers: How many processes measure; 0 takes threads of this one alone.
    """
    analyser, embedder = FaceAnalyser(pack), Embedder("miniature")
    began = time.perf_counter()
    with ExitStack() as stack:
        more: dict[str, Any] = {}
        if workers:
            from character_curator.engines.processes import Processes

            more["engine"] = stack.enter_context(closing(Processes(workers)))
        warm = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        shown = [decoding.read_image(path) for path in sorted(folder.iterdir())[:8]]
        for number in range(max(4, 32 * workers)):  # so many that each worker opens its models
            small = cv2.resize(shown[number % len(shown)], (480, 480))
            small[0, 0] = number
            cv2.imwrite(str(warm / f"{number}.png"), small)
        with FeatureStore() as store:
            images = ImageSet.from_folder(warm)
            measure(images, analyser, embedder, store, **more)
        embedder.embed([embedder.preprocess(shown[0])])
        started = time.perf_counter() - began
        clock, work = time.perf_counter(), time.process_time()
        with FeatureStore() as store:
            images = ImageSet.from_folder(folder)
            images = measure(images, analyser, embedder, store, **more)
            images = validate_faces(images, analyser, store)
            score_quality(images, store)
        ended = time.perf_counter() - clock
    return {"clock": ended, "work": time.process_time() - work, "start": started}


def on_processors(folder: Path, pack: str, count: int, workers: int = 0) -> dict[str, float]:
    """Run :func:`whole` in a process that may use so many processors."""
    some = sorted(os.sched_getaffinity(0))[:count]
    threads = str(1 if workers else count)
    environment = {**os.environ, "OMP_NUM_THREADS": threads, "GOMP_SPINCOUNT": "3000"}
    command = [
        sys.executable, __file__, "--whole", str(folder), "--faces", pack,
        "--workers", str(workers),
    ]  # fmt: skip
    done = subprocess.run(
        ["taskset", "-c", ",".join(map(str, some)), *command],
        env=environment, check=True, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    return dict(json.loads(done.stdout.splitlines()[-1]))


def ways(folder: Path, pack: str, workers: int, turns: int) -> dict[str, dict[str, float]]:
    """Return the best of some turns of each way to run the whole."""
    kinds = {"one processor": (1, 0), "two, threads": (2, 0)}
    if workers and "engine" in inspect.signature(measure).parameters:
        kinds[f"two, {workers} workers"] = (2, workers)
    best: dict[str, dict[str, float]] = {}
    for _ in range(turns):
        for name, (count, processes) in kinds.items():
            found = on_processors(folder, pack, count, processes)
            if name not in best or found["clock"] < best[name]["clock"]:
                best[name] = found
    return best


def main() -> int:
    """Measure and print; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--photographs", type=Path, help="a folder of photographs of people")
    parser.add_argument("--faces", default="miniature", help="the face pack (%(default)s)")
    parser.add_argument("--count", type=int, default=12, help="images of each kind (%(default)s)")
    parser.add_argument(
        "--workers", type=int, default=2,
        help="processes that measure in the last way; 0 leaves it out (%(default)s)",
    )  # fmt: skip
    parser.add_argument("--turns", type=int, default=1, help="turns of each way (%(default)s)")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--whole", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.whole:
        print(json.dumps(whole(options.whole, options.faces, options.workers)))
        return 0
    images = list(sources(options.photographs, options.count))
    report: dict[str, Any] = {"faces": options.faces, "images": len(images)}
    verdicts = []
    with tempfile.TemporaryDirectory() as folder:
        for kind, (area, suffix) in KINDS.items():
            paths = write(images, Path(folder) / suffix[1:], area, suffix)
            torch.set_num_threads(1)
            cv2.setNumThreads(1)
            took = ways(paths[0].parent, options.faces, options.workers, options.turns)
            one = took["one processor"]
            analyser, embedder = FaceAnalyser(options.faces), Embedder("miniature")
            stages(paths[:1], analyser, embedder)  # models load
            cost = stages(paths[:STAGED], analyser, embedder)
            print(f"\n{kind}, {len(paths)} images with {options.faces}")
            for name, milliseconds in cost.items():
                print(f"{name:28} {milliseconds:8.1f} ms")
            print(f"{'all stages':28} {sum(cost.values()):8.1f} ms")
            print(f"{'whole, one processor':28} {one['work'] / len(paths) * 1000:8.1f} ms")
            for name, found in took.items():
                speed = len(paths) / found["clock"]
                print(
                    f"{name:28} {found['clock']:8.2f} s by the clock, {speed:.2f} images/s; "
                    f"models and processes there after {found['start']:.1f} s"
                )
            report[kind] = {"stages": cost, "ways": took}
            needed = sum(cost.values()) * len(paths) / 1000
            verdicts.append(
                Verdict(f"{kind}: the whole over its stages", one["work"] / needed, OVERHEAD)
            )
            for name, found in list(took.items())[1:]:
                promised = WITH_WORKERS if "workers" in name else SECOND_PROCESSOR
                verdicts.append(
                    Verdict(f"{kind}: {name} over one", one["clock"] / found["clock"], promised,
                            at_least=True)
                )  # fmt: skip
    return conclude(report, verdicts, options.json)


if __name__ == "__main__":
    raise SystemExit(main())
