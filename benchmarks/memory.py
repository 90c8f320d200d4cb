"""Peak memory of the analysis for growing numbers of images.

Run: python benchmarks/memory.py [--counts 1000 10000] [--side 768] [--cache FOLDER] [--json FILE]

Every image is accepted, identified and embedded. The models are light, so that ten thousand
images take minutes: how memory grows with the number of images does not depend on the models.
The files hold eight different images of coloured squares under a repeated grain, which compress
well, each file with a text chunk of its own, so that all differ. Each count is a new process.
"""

from __future__ import annotations

import argparse
import json
import resource
import struct
import subprocess
import sys
import tempfile
import time
import zlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from verdicts import Verdict, conclude

FLAT = 1.2
"""Memory is called flat when the largest count needs at most this many times the smallest's."""


def draw(number: int, side: int) -> np.ndarray:
    """Draw one square image with a face (a patch of pure red), BGR uint8."""
    rng = np.random.default_rng(number)
    squares = cv2.resize(
        rng.normal(128, 70, (12, 12, 3)), (side, side), interpolation=cv2.INTER_NEAREST
    )
    grain = np.tile(rng.normal(0, 9, (4, side)), (-(-side // 4), 1))[:side]
    image = (squares + grain[..., None]).clip(0, 255).astype(np.uint8)
    image[..., 2] = np.minimum(image[..., 2], image[..., 1])  # nothing else is red
    first, last = side // 2 - 50, side // 2 + 50
    image[first:last, first:last] = (0, 0, 255)
    return image


def write(folder: Path, count: int, side: int) -> Path:
    """Write ``count`` PNGs that differ in a text chunk; returns the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    small = [cv2.IMWRITE_PNG_COMPRESSION, 6,
             cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_DEFAULT]  # fmt: skip
    drawn = [cv2.imencode(".png", draw(number, side), small)[1].tobytes() for number in range(8)]
    for number in range(count):
        path = folder / f"{number:06}.png"
        if path.exists():
            continue
        data = drawn[number % len(drawn)]
        text = b"tEXt" + b"number\0%d" % number
        chunk = struct.pack(">I", len(text) - 4) + text + struct.pack(">I", zlib.crc32(text))
        path.write_bytes(data[:-12] + chunk + data[-12:])
    return folder


def peak() -> float:
    """Return the most memory that this process has held so far, in MB."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        # Unlike ru_maxrss it does not count what the parent held when it started this process.
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024
    except (OSError, StopIteration):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def analyse(folder: Path, cache: Path) -> dict[str, Any]:
    """Run the analysis up to embeddings; return what was computed and the peaks in MB."""
    import architectures

    from character_curator.analysis.embed import embed
    from character_curator.analysis.embeddings import Embedder
    from character_curator.analysis.face_validation import FaceAnalyser, validate_faces
    from character_curator.analysis.measure import measure
    from character_curator.analysis.quality import score_quality
    from character_curator.features import FeatureStore
    from character_curator.imageset import ImageSet

    analyser = FaceAnalyser(architectures.light_face_pack(cache))
    embedder = Embedder(architectures.light_clip_model(cache))
    clock, work = time.perf_counter(), time.process_time()
    with (
        tempfile.TemporaryDirectory() as temporary,
        FeatureStore(Path(temporary) / "features.sqlite") as store,
    ):
        images = ImageSet.from_folder(folder)
        images = measure(images, analyser, embedder, store)
        after_pass = peak()
        images = validate_faces(images, analyser, store)
        images = score_quality(images, store)
        images = embed(images, embedder, store)
        computed = dict(store.computed)
    return {
        "accepted": len(images.accepted),
        **computed,
        "peak MB of the pass": round(after_pass),
        "peak MB": round(peak()),
        "seconds (clock, processor)": [
            round(time.perf_counter() - clock, 1),
            round(time.process_time() - work, 1),
        ],
    }


def prepare(cache: Path) -> None:
    """Build the light models; in a process of its own, for building them needs memory."""
    code = "import sys, pathlib, architectures as a; c = pathlib.Path(sys.argv[1]); "
    code += "a.light_face_pack(c); a.light_clip_model(c)"
    subprocess.run([sys.executable, "-c", code, str(cache)], check=True, cwd=Path(__file__).parent)


def main() -> int:
    """Measure each count in a new process, print and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--counts", type=int, nargs="+", default=[1000, 10_000])
    parser.add_argument("--side", type=int, default=768, help="edge in pixels (%(default)s)")
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "curator-bench")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    cache = options.cache.resolve()
    if options.child:
        print(json.dumps(analyse(options.child, cache)))
        return 0
    prepare(cache)
    report: dict[str, Any] = {"side": options.side, "counts": {}}
    for count in sorted(options.counts):
        folder = write(cache / f"memory-{options.side}-{count}", count, options.side)
        done = subprocess.run(
            [sys.executable, __file__, "--cache", str(cache), "--child", str(folder)],
            check=True, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        report["counts"][count] = json.loads(done.stdout.splitlines()[-1])
        print(f"{count:,} images of {options.side} x {options.side}:")
        for name, value in report["counts"][count].items():
            print(f"  {name:28} {value}", flush=True)
    (least, few), *_, (most, many) = [*report["counts"].items(), *report["counts"].items()]
    ratio = many["peak MB"] / few["peak MB"]
    verdicts = [Verdict(f"peak memory at {most:,} / at {least:,} images", ratio, FLAT)]
    for count, found in report["counts"].items():
        share = found["accepted"] / count
        verdicts.append(Verdict(f"share accepted of {count:,}", share, 1, at_least=True))
    return conclude(report, verdicts, options.json)


if __name__ == "__main__":
    sys.exit(main())
