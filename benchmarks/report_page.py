"""The report at its size: how large the page gets, and how fast a browser opens it.

Run: python benchmarks/report_page.py [--counts 1500 5000] [--keep FOLDER]

The images are synthetic: noise with the spectrum of photographs (1/f), in several shapes, so that
their thumbnails compress as photographs do. A headless Chromium opens the page from the disk, fresh
each time; open is when everything has been parsed, laid out and painted once.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from verdicts import Verdict, conclude

from character_curator.imageset import ImageSet, vector_column
from character_curator.report import render
from character_curator.selection import Quota, select

LIMITS = {1500: (25.0, 3.0), 5000: (None, 6.0)}
"""By number of images: MB at most, and seconds to open at most."""

SHAPES = ((512, 512), (512, 768), (768, 512), (640, 360))
QUOTAS = (
    Quota("seed", exact=7),
    Quota("kind", exact={"original": 18, "scenario": 52}),
    Quota("cluster", minimum=8, maximum=10),
)


def natural(rng: np.random.Generator, size: int = 1536) -> np.ndarray:
    """Return noise whose spectrum falls as that of photographs does; uint8, RGB."""
    frequency = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None, :])
    frequency[0, 0] = 1
    layers = []
    for _ in range(3):
        phase = np.exp(2j * np.pi * rng.random(frequency.shape))
        layer = np.fft.irfft2(phase / frequency, s=(size, size))
        layers.append(layer / layer.std())
    common = layers[0]
    pixels = np.stack([common + 0.3 * layer for layer in layers], axis=-1)
    return (pixels * 48 + 128).clip(0, 255).astype(np.uint8)


def candidates(folder: Path, count: int) -> tuple[ImageSet, np.ndarray]:
    """Write images and return their table, and near-duplicate pairs."""
    rng = np.random.default_rng(0)
    ground = natural(rng)
    rows, vectors = [], []
    centres = rng.normal(size=(8, 512))
    for i in range(count):
        width, height = SHAPES[i % len(SHAPES)]
        x, y = rng.integers(0, len(ground) - width), rng.integers(0, len(ground) - height)
        name = f"char_{i:05}.jpg"
        Image.fromarray(ground[y : y + height, x : x + width]).save(folder / name, quality=90)
        cluster, bad = int(rng.integers(8)), i % 4 == 3
        quality = float(rng.beta(6, 3))
        rows.append(
            {
                "path": name, "hash": f"{i:064x}", "width": width, "height": height,
                "seed": 966983 + int(rng.integers(10)), "scenario": i % 50,
                "scenario_name": f"scene {i % 50}", "quality": quality,
                "kind": "original" if rng.random() < 0.26 else "scenario",
                "cluster": None if bad else cluster, "cluster_name": None if bad else f"c{cluster}",
                "prompt": f"portrait of a freckled woman, red hair, scene {i % 50}, soft daylight",
                "face_confidence": 0.9, "identity_similarity": 0.6, "sharpness_score": quality,
                "rejection": "low_quality" if bad else None,
                "rejection_detail": f"quality {quality:.2f} below 0.74" if bad else None,
                "duplicate_group": i // 40 if not bad and i % 40 < 2 else None,
            }
        )  # fmt: skip
        vectors.append(None if bad else centres[cluster] + rng.normal(size=512))
    images = ImageSet.from_rows(rows, folder).with_columns(vector_column("embedding", vectors))
    pairs = np.array([(i, i + 1) for i in range(0, count - 1, 40)])
    return images, pairs


def opened(page: Path, browser: Any) -> dict[str, Any]:
    """Open a page in a fresh window; return seconds, and what the console said."""
    said: list[str] = []
    window = browser.new_page(viewport={"width": 1280, "height": 900})
    window.on("console", lambda message: said.append(message.text))
    window.on("pageerror", lambda error: said.append(str(error)))
    painted = "() => new Promise(d => requestAnimationFrame(() => setTimeout(d)))"
    start = time.monotonic()
    window.goto(page.as_uri())
    window.evaluate(painted)
    seconds = time.monotonic() - start
    start = time.monotonic()
    window.select_option("#order", "1")
    window.evaluate(painted)
    ordering = time.monotonic() - start
    window.close()
    return {"open": seconds, "order": ordering, "console": said}


def measure(count: int, folder: Path, repeats: int) -> dict[str, Any]:
    """Return the figures of a page of so many images."""
    from playwright.sync_api import sync_playwright

    images, pairs = candidates(folder, count)
    chosen = select(images, 70, QUOTAS, conflicts=pairs)
    start = time.monotonic()
    text = render(chosen.images, name="synthetic", selection=chosen)
    rendered = time.monotonic() - start
    page = folder / "report.html"
    page.write_text(text, encoding="utf-8")
    path = os.environ.get("CHROMIUM_PATH") or shutil.which("chromium") or shutil.which("chrome")
    with sync_playwright() as driver:
        browser = driver.chromium.launch(
            executable_path=path, args=["--no-sandbox", "--disable-gpu"]
        )
        found = [opened(page, browser) for _ in range(repeats)]
        browser.close()
    return {
        "images": count,
        "megabytes": page.stat().st_size / 1e6,
        "render": rendered,
        "open": sorted(one["open"] for one in found)[repeats // 2],
        "order": sorted(one["order"] for one in found)[repeats // 2],
        "console": found[0]["console"],
    }


def main() -> int:
    """Measure, print, conclude."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--counts", type=int, nargs="+", default=list(LIMITS))
    parser.add_argument(
        "--repeats", type=int, default=3, help="how often it is opened (%(default)s)"
    )
    parser.add_argument("--keep", type=Path, help="keep images and pages in this folder")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    options = parser.parse_args()
    figures, verdicts = [], []
    for count in options.counts:
        with tempfile.TemporaryDirectory() as temporary:
            folder = (options.keep or Path(temporary)) / str(count)
            folder.mkdir(parents=True, exist_ok=True)
            found = measure(count, folder, options.repeats)
        figures.append(found)
        print(
            f"{count:,} images: {found['megabytes']:.1f} MB, written in {found['render']:.1f} s, "
            f"opened in {found['open']:.2f} s, put in order in {found['order']:.2f} s"
        )
        size, seconds = LIMITS.get(count, (None, None))
        if size:
            verdicts.append(Verdict(f"MB of {count:,} images", found["megabytes"], size))
        if seconds:
            verdicts.append(Verdict(f"seconds to open {count:,} images", found["open"], seconds))
        verdicts.append(Verdict("messages in the console", len(found["console"]), 0))
        print(*found["console"], sep="\n", end="\n" if found["console"] else "")
    return conclude({"figures": figures}, verdicts, options.json)


if __name__ == "__main__":
    sys.exit(main())
