"""How long a second curation with moved thresholds takes, as a share of the first.

Run: python benchmarks/second_run.py [--count 1500] [--cache FOLDER] [--json FILE]

Each run is a new process that lists the folder, measures, validates faces, scores, embeds, clusters
and names, and finds near-duplicates. The second has a higher minimum quality and confidence. Models
have buffalo_l's and ViT-B/32's architectures and random weights (`architectures.py`).
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import architectures
import pictures


def curate(folder: Path, pack: Path, clip: Path, store_path: Path, minimum: float,
           confidence: float) -> dict[str, int]:  # fmt: skip
    """Run every stage of the analysis; return what was computed anew."""
    from character_curator.analysis import clusters, duplicates
    from character_curator.analysis.embeddings import Embedder, embed
    from character_curator.analysis.faces import FaceAnalyser, FaceThresholds, validate_faces
    from character_curator.analysis.measure import measure
    from character_curator.analysis.quality import score_quality
    from character_curator.features import FeatureStore
    from character_curator.imageset import ImageSet

    analyser, embedder = FaceAnalyser(pack), Embedder(clip)
    limits = FaceThresholds(confidence=confidence)
    with FeatureStore(store_path) as store:
        images = ImageSet.from_folder(folder)
        images = measure(
            images, analyser, embedder, store, thresholds=limits, minimum_quality=minimum
        )
        images = validate_faces(images, analyser, store, limits)
        images = score_quality(images, store, minimum=minimum)
        images = embed(images, embedder, store)
        images = clusters.cluster(images, embedder=embedder, store=store)
        images = duplicates.find_duplicates(images)
        return {"accepted": len(images.accepted), **store.computed}


def main() -> None:
    """Run twice in new processes, print and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=1500, help="pictures (%(default)s)")
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "curator-bench")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    pack = architectures.face_pack(options.cache)
    clip = architectures.clip_model(options.cache)
    folder = options.cache / f"pictures-{options.count}"
    if options.child:
        store, minimum, confidence = options.child
        clock, work = time.perf_counter(), time.process_time()
        computed = curate(folder, pack, clip, Path(store), float(minimum), float(confidence))
        seconds = [time.perf_counter() - clock, time.process_time() - work]
        print(json.dumps({"seconds (clock, processor)": seconds, "computed": computed}))
        return
    pictures.write(folder, options.count)
    report = {"pictures": options.count}
    with tempfile.TemporaryDirectory() as temporary:
        store = f"{temporary}/features.sqlite"
        for name, limits in {"first": ["0.74", "0.85"], "second": ["0.78", "0.9"]}.items():
            done = subprocess.run(
                [sys.executable, __file__, "--count", str(options.count), "--cache",
                 str(options.cache), "--child", store, *limits],
                check=True, capture_output=True, text=True,
            )  # fmt: skip
            report[name] = json.loads(done.stdout.splitlines()[-1])
    times = [report[name]["seconds (clock, processor)"] for name in ("first", "second")]
    report["second / first (clock, processor)"] = [b / a for a, b in zip(*times, strict=True)]
    print(json.dumps(report, indent=2))
    if options.json:
        options.json.write_text(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
