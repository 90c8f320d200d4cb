"""How long a second run with moved thresholds takes, as a share of the first.

Run: python benchmarks/second_run.py [--count 1500] [--cache FOLDER] [--json FILE]

Each run is the whole of ``character-curator run`` on a folder, in a new process: start the
interpreter, list and hash the images, measure, validate faces, score, embed, cluster and name,
find near-duplicates, select 70 with a quota on the clusters, export with report and provenance. The
second has a higher minimum quality and confidence. Models have buffalo_l's and ViT-B/32's
architectures and random weights (``architectures.py``); images are 768 x 768 PNGs
(``drawings.py``).
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import architectures
import drawings
from verdicts import Verdict, conclude

SHARE = 0.03
LIMITS = {"first": (0.74, 0.85), "second": (0.78, 0.9)}
PROJECT = """\
source = {folder}

[project]
name = "second run"
output = {output}

[faces]
pack = {pack}
minimum_confidence = {confidence}

[quality]
minimum = {quality}

[clip]
model = {clip}
pretrained = ""

[clusters]
count = 8

[duplicates]
threshold = 1.0  # random weights find everything alike

[selection]
total = {total}
quotas = ["cluster=1.."]
"""


def run(project: Path) -> tuple[dict[str, Any], tuple[float, float]]:
    """Run a project in a new process; return its result, and seconds (clock, processor)."""
    before, clock = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "character_curator", "run", str(project), "--json", "--quiet"],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    elapsed, after = time.perf_counter() - clock, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        sys.exit(f"The run failed: {done.stdout}")
    work = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return json.loads(done.stdout), (elapsed, work)


def main() -> int:
    """Run twice in new processes, print and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=1500, help="images (%(default)s)")
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "curator-bench")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    options = parser.parse_args()
    cache = options.cache.resolve()
    pack, clip = architectures.face_pack(cache), architectures.clip_model(cache)
    folder = drawings.write(cache / f"pictures-{options.count}", options.count)
    report: dict[str, Any] = {"pictures": options.count}
    with tempfile.TemporaryDirectory() as temporary:
        for name, (quality, confidence) in LIMITS.items():
            project = Path(temporary) / f"{name}.toml"
            paths = {"folder": folder, "output": Path(temporary) / "out", "pack": pack,
                     "clip": clip}  # fmt: skip
            project.write_text(
                PROJECT.format(
                    **{key: json.dumps(str(path)) for key, path in paths.items()},
                    quality=quality,
                    confidence=confidence,
                    total=min(70, options.count // 10 + 1),
                )
            )
            result, seconds = run(project)
            report[name] = {
                "seconds (clock, processor)": [round(s, 2) for s in seconds],
                "computed": result["computed"],
                "chosen": result["chosen"],
                "rejections": result["rejections"],
            }
            print(f"{name} run of {options.count:,} images:")
            for key, value in report[name].items():
                print(f"  {key:28} {value}", flush=True)
    times = [report[name]["seconds (clock, processor)"] for name in LIMITS]
    clock, work = (second / first for first, second in zip(*times, strict=True))
    report["second / first (clock, processor)"] = [clock, work]
    anew = sum(report["second"]["computed"].values())
    verdicts = [
        Verdict("second run / first, on the clock", clock, SHARE),
        Verdict("second run / first, processor", work, SHARE),
        Verdict("measurements made anew by the second run", anew, 0),
    ]
    return conclude(report, verdicts, options.json)


if __name__ == "__main__":
    sys.exit(main())
