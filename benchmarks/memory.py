"""Peak memory of the analysis for growing numbers of pictures.

Run: python benchmarks/memory.py [--counts 1000 10000] [--side 768] [--cache FOLDER] [--json FILE]

Every picture is accepted, identified and embedded. The models are light, so that ten thousand
pictures take minutes: how memory grows with the number of pictures does not depend on the models.
The files hold eight different pictures, each file with a text chunk of its own, so that all differ.
"""

from __future__ import annotations

import argparse
import json
import resource
import struct
import subprocess
import sys
import tempfile
import zlib
from pathlib import Path

import architectures
import cv2
import pictures


def write(folder: Path, count: int, side: int) -> Path:
    """Write ``count`` PNGs that differ in a text chunk; returns the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    drawn = []
    for number in range(8):
        image = pictures.draw(number, "good", side)
        drawn.append(cv2.imencode(".png", image)[1].tobytes())
    for number in range(count):
        path = folder / f"{number:06}.png"
        if path.exists():
            continue
        data = drawn[number % len(drawn)]
        text = b"tEXt" + b"number\0%d" % number
        chunk = struct.pack(">I", len(text) - 4) + text + struct.pack(">I", zlib.crc32(text))
        path.write_bytes(data[:-12] + chunk + data[-12:])
    return folder


def analyse(folder: Path, cache: Path) -> dict[str, float]:
    """Run the analysis up to near-duplicates; return what was computed and the peak in MB."""
    from character_curator.analysis.embeddings import Embedder, embed
    from character_curator.analysis.faces import FaceAnalyser, validate_faces
    from character_curator.analysis.measure import measure
    from character_curator.analysis.quality import score_quality
    from character_curator.features import FeatureStore
    from character_curator.imageset import ImageSet

    analyser = FaceAnalyser(architectures.light_face_pack(cache))
    embedder = Embedder(architectures.light_clip_model(cache))
    with (
        tempfile.TemporaryDirectory() as temporary,
        FeatureStore(Path(temporary) / "features.sqlite") as store,
    ):
        images = ImageSet.from_folder(folder)
        images = measure(images, analyser, embedder, store)
        images = validate_faces(images, analyser, store)
        images = score_quality(images, store)
        images = embed(images, embedder, store)
        computed = dict(store.computed)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"accepted": len(images.accepted), **computed, "peak MB": round(peak)}


def main() -> None:
    """Measure each count in a new process, print and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--counts", type=int, nargs="+", default=[1000, 10_000])
    parser.add_argument("--side", type=int, default=768, help="edge in pixels (%(default)s)")
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "curator-bench")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    architectures.light_face_pack(options.cache)
    architectures.light_clip_model(options.cache)
    if options.child:
        print(json.dumps(analyse(options.child, options.cache)))
        return
    report = {}
    for count in options.counts:
        folder = write(options.cache / f"memory-{options.side}-{count}", count, options.side)
        done = subprocess.run(
            [sys.executable, __file__, "--cache", str(options.cache), "--child", str(folder)],
            check=True, capture_output=True, text=True,
        )  # fmt: skip
        report[count] = json.loads(done.stdout.splitlines()[-1])
        print(count, report[count], flush=True)
    if options.json:
        options.json.write_text(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
