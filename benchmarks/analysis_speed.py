"""Images a second of the analysis, beside the seed-document way and the bare forward passes.

Run: python benchmarks/analysis_speed.py [--count 200] [--cache FOLDER] [--json FILE]

Models have buffalo_l's and ViT-B/32's architectures and random weights (``architectures.py``). Of
the 768 x 768 PNGs 15 % have no face and 60 % are too blurred, as in the seed-document recipe
(``drawings.py``). The seed-document way runs its own code (``seed_document_way.py``) in the same
process, on the same files and sessions of the same library. Loading is not counted for either.
Seconds of the processor are shown beside seconds on the clock: on a shared machine they are the
ones to compare.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import architectures
import drawings
import numpy as np
import open_clip
import seed_document_way
import torch
from verdicts import Verdict, conclude

from character_curator.analysis import clusters, duplicates
from character_curator.analysis.decoding import decode_ahead, read_image
from character_curator.analysis.embed import embed
from character_curator.analysis.embeddings import Embedder
from character_curator.analysis.face_validation import FaceAnalyser, validate_faces
from character_curator.analysis.measure import measure
from character_curator.analysis.pixels import PixelMeasurement
from character_curator.analysis.quality import score_quality
from character_curator.features import FeatureStore
from character_curator.imageset import ImageSet

Seconds = tuple[float, float]
FASTER, OVERHEAD = 3.0, 1.3


def timed(function: Callable[[], Any]) -> tuple[Any, Seconds]:
    """Run once; seconds on the clock and of the processor."""
    clock, work = time.perf_counter(), time.process_time()
    result = function()
    return result, (time.perf_counter() - clock, time.process_time() - work)


def ours(images: ImageSet, analyser: FaceAnalyser, embedder: Embedder) -> tuple[ImageSet, dict]:
    """The whole analysis up to embeddings, from an empty store."""
    with FeatureStore() as store:
        images = measure(images, analyser, embedder, store)
        images = validate_faces(images, analyser, store)
        images = score_quality(images, store)
        images = embed(images, embedder, store)
        return images, dict(store.computed)


def bare_passes(
    analyser: FaceAnalyser, embedder: Embedder, computed: dict[str, int]
) -> dict[str, Seconds]:
    """Time nothing but the forward passes that were needed, on constant inputs."""
    detector, recogniser = (
        analyser.backend.analysis.models[n] for n in ("detection", "recognition")
    )
    session = detector.session
    if hasattr(detector, "_session_for_input_size"):
        session = detector._session_for_input_size((640, 640))
    blob = np.zeros((1, 3, 640, 640), np.float32)
    faces = np.zeros((analyser.batch_size, 3, 112, 112), np.float32)
    batch = torch.zeros(embedder.batch_size, 3, 224, 224, device=embedder.device)
    model = embedder._loaded[0]

    def detect() -> None:
        for _ in range(computed.get("faces", 0)):
            session.run(detector.output_names, {detector.input_name: blob})

    def identify() -> None:
        for part in parts(computed.get("identity", 0), len(faces)):
            recogniser.session.run(recogniser.output_names, {recogniser.input_name: faces[:part]})

    def embed_all() -> None:
        with torch.inference_mode():
            for part in parts(computed.get("embedding", 0), len(batch)):
                model.encode_image(batch[:part]).cpu()

    session.run(detector.output_names, {detector.input_name: blob})
    return {
        "detection": timed(detect)[1],
        "recognition": timed(identify)[1],
        "embedding": timed(embed_all)[1],
    }


def parts(count: int, size: int) -> list[int]:
    """Split a count into batches."""
    return [min(size, count - start) for start in range(0, count, size)]


def stages(
    images: ImageSet, accepted: ImageSet, analyser: FaceAnalyser, embedder: Embedder
) -> dict[str, tuple[int, Seconds]]:
    """Time each stage by itself: images and seconds."""
    paths = images.paths()
    found = {}
    found["decode, sharpness, contrast"] = (
        len(paths),
        timed(lambda: [None for _ in decode_ahead(paths, PixelMeasurement.of)])[1],
    )
    decoded = [read_image(path) for path in accepted.paths()[:8]] or [read_image(paths[0])]
    found["detection"] = len(decoded), timed(lambda: [analyser.detect(x) for x in decoded])[1]
    crops = [analyser.crop(x, analyser.detect(x).landmarks[0]) for x in decoded[:8]]
    found["recognition"] = len(crops), timed(lambda: analyser.identify(crops))[1]
    found["embedding"] = len(decoded), timed(lambda: embedder.embed_images(decoded))[1]
    vectors = np.random.default_rng(0).normal(size=(1500, 512)).astype(np.float32)
    found["clustering of 1,500"] = 1500, timed(lambda: clusters.kmeans_labels(vectors))[1]
    found["near-duplicates of 1,500"] = 1500, timed(lambda: duplicates.similar_pairs(vectors))[1]
    return found


def main() -> int:
    """Measure, print a table and the verdicts, and write JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=200, help="images (%(default)s)")
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "curator-bench")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    options = parser.parse_args()
    pack = architectures.face_pack(options.cache)
    clip = architectures.clip_model(options.cache)
    folder = drawings.write(options.cache / f"pictures-{options.count}", options.count)
    images = ImageSet.from_folder(folder)
    analyser, embedder = FaceAnalyser(pack, 640), Embedder(clip)
    provider = "CUDAExecutionProvider" if torch.cuda.is_available() else "CPUExecutionProvider"
    assessment = seed_document_way.SeedDocumentQualityAssessment(pack, provider)
    model, _, transform = open_clip.create_model_and_transforms(f"local-dir:{clip}")
    loaded = (model.eval().to(embedder.device), transform, embedder.device)
    _ = analyser.detection_fingerprint, embedder.fingerprint  # hashes the weights
    for path in images.paths()[:3]:  # sessions, kernels and caches
        assessment.score_quality(str(path))
        analyser.identify([analyser.crop(read_image(path), np.eye(5, 2, dtype=np.float32) * 90)])
        embedder.embed_images([read_image(path)])
        analyser.detect(read_image(path))
    (result, computed), our_time = timed(lambda: ours(images, analyser, embedder))
    theirs, their_time = timed(
        lambda: seed_document_way.analyse(images.paths(), assessment, loaded)
    )
    bare = bare_passes(analyser, embedder, computed)
    needed = tuple(sum(seconds[i] for seconds in bare.values()) for i in (0, 1))
    report = {
        "pictures": len(images),
        "rejected": result.rejections(),
        "kept": {"ours": len(result.accepted), "seed-document way": theirs["kept"]},
        "computed": computed,
        "seconds (clock, processor)": {
            "whole analysis": our_time,
            "seed-document way": their_time,
            "bare forward passes needed": needed,
            **{f"bare {name}": seconds for name, seconds in bare.items()},
        },
        "times the seed-document way's speed": [
            t / o for t, o in zip(their_time, our_time, strict=True)
        ],
        "times the bare passes": [o / n for o, n in zip(our_time, needed, strict=True)],
        "stages, images a second (clock)": {
            name: round(count / seconds[0], 1)
            for name, (count, seconds) in stages(
                images, result.accepted, analyser, embedder
            ).items()
        },
    }
    for name, value in report.items():
        print(name, flush=True)
        for key, part in value.items() if isinstance(value, dict) else [("", value)]:
            shown = [f"{x:.2f}" for x in part] if isinstance(part, tuple | list) else part
            print(f"  {key:32} {'  '.join(shown) if isinstance(shown, list) else shown}")
    faster, overhead = (
        report["times the seed-document way's speed"],
        report["times the bare passes"],
    )
    verdicts = [
        Verdict(
            "times the seed-document way's speed, on the clock", faster[0], FASTER, at_least=True
        ),
        Verdict("times the seed-document way's speed, processor", faster[1], FASTER, at_least=True),
        Verdict("times the bare forward passes, on the clock", overhead[0], OVERHEAD),
        Verdict("times the bare forward passes, processor", overhead[1], OVERHEAD),
    ]
    return conclude(report, verdicts, options.json)


if __name__ == "__main__":
    sys.exit(main())
