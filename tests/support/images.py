"""Small image sets of drawn images, with every column that the stages would have added."""

from __future__ import annotations

import hashlib
import io
import json
from pathlib import Path

import numpy as np
import polars as pl
from PIL import Image, PngImagePlugin

from character_curator.imageset import ImageSet, vector_column
from character_curator.rejection_reasons import Rejection

CLUSTERS = ("frontal, warm light", "three-quarter view", "profile", "full body")
CATEGORIES = ("casual", "professional", "lighting", "pose", "style")
FIRST_SEED = 966983


def drawing(number: int, size: int = 48) -> Image.Image:
    """Draw a disc on a gradient; every number another one."""
    rng = np.random.default_rng(number)
    y, x = np.mgrid[0:size, 0:size] / size
    ground, ink = rng.integers(40, 230, (2, 3))
    pixels = ground * (0.5 + 0.5 * y[..., None]) + np.zeros(3)
    centre = rng.uniform(0.35, 0.65, 2)
    disc = (x - centre[0]) ** 2 + (y - centre[1]) ** 2 < rng.uniform(0.04, 0.12)
    pixels[disc] = ink
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def png_bytes(image: Image.Image, **text: str) -> bytes:
    """Encode as PNG with text chunks."""
    info = PngImagePlugin.PngInfo()
    for key, value in text.items():
        info.add_text(key, value)
    buffer = io.BytesIO()
    image.save(buffer, "PNG", pnginfo=info)
    return buffer.getvalue()


def make_images(
    root: Path, count: int = 24, *, selected: int | None = 12, seeds: int = 4, size: int = 48
) -> ImageSet:
    """Write ``count`` images below ``root``; every sixth row is rejected for some reason.

    Args:
        root: Where the images go.
        count: How many.
        selected: How many of the accepted are marked as selected, the best first; the other
            accepted ones are rejected by the quota. ``None`` leaves the set before selection.
        seeds: How many seeds.
        size: Side of an image in pixels.
    """
    root.mkdir(parents=True, exist_ok=True)
    rows = []
    reasons = [reason for reason in Rejection if reason is not Rejection.OTHER_SUBJECT][:7]
    for i in range(count):
        seed, scenario = FIRST_SEED + i % seeds, i // seeds + 1
        kind = "original" if i % 4 == 0 else "scenario"
        name = f"char_char1_seed_{seed}_{kind}_{scenario:02d}_01.png"
        parameters = json.dumps({"steps": 20, "cfg": 7.5, "sampler": "ddim", "index": i})
        data = png_bytes(drawing(i, size), character_curator=parameters)
        (root / name).write_bytes(data)
        reason = reasons[i // 6 % len(reasons)] if i % 6 == 5 else None
        measured = reason is None or reason is Rejection.LOW_QUALITY
        quality = round(0.74 + 0.23 * ((i * 37) % 101) / 100, 4)
        if reason is Rejection.LOW_QUALITY:
            quality = round(quality - 0.5, 4)
        rows.append(
            {
                "path": name,
                "hash": hashlib.sha256(data).hexdigest(),
                "width": size,
                "height": size,
                "subject": "char1",
                "seed": seed,
                "scenario": scenario,
                "take": 1,
                "kind": kind,
                "category": None if kind == "original" else CATEGORIES[i % len(CATEGORIES)],
                "scenario_name": "reference" if kind == "original" else f"scene {scenario}",
                "prompt": f"portrait of a freckled person, red hoodie, garden {i}",
                "negative_prompt": "blurry",
                "caption": f"char1 person, red hoodie, garden {i}",
                "noise_seed": 1_000_003 * i,
                "request": f"{i:064x}",
                "generation": parameters,
                "rejection": reason.value if reason else None,
                "rejection_detail": f"{reason.value} of image {i}" if reason else None,
                "face_count": 1 if measured else 0,
                "face_confidence": 0.97 if measured else None,
                "face_box": [10.0, 8.0, 40.0, 42.0] if measured else None,
                "face_share": 0.4 if measured else None,
                "framing": ("close-up", "bust")[i % 2] if measured else None,
                "pose": ("frontal", "three-quarter", "profile")[i % 3] if measured else None,
                "yaw": (i % 3) * 0.3 if measured else None,
                "identity_similarity": 0.8 if measured else None,
                "raw_sharpness": 410.0 if measured else None,
                "raw_contrast": 71.0 if measured else None,
                "sharpness_score": 0.82 if measured else None,
                "contrast_score": 0.65 if measured else None,
                "confidence_score": 0.9 if measured else None,
                "quality": quality if measured else None,
                "cluster": i % len(CLUSTERS) if reason is None else None,
                "cluster_name": CLUSTERS[i % len(CLUSTERS)] if reason is None else None,
            }
        )
    images = ImageSet.from_rows(rows, root)
    rng = np.random.default_rng(0)
    vectors = [rng.normal(size=16) if row["rejection"] is None else None for row in rows]
    images = images.with_columns(
        vector_column("embedding", vectors), pl.col("cluster").cast(pl.Int32)
    )
    if selected is None:
        return images
    order = images.table.with_row_index().filter(pl.col("rejection").is_null())
    order = order.sort("quality", descending=True, maintain_order=True)["index"].to_list()
    rank = {row: position + 1 for position, row in enumerate(order[:selected])}
    images = images.with_columns(
        pl.Series("selected", [i in rank for i in range(count)]),
        pl.Series("selection_rank", [rank.get(i) for i in range(count)], dtype=pl.Int32),
    )
    left = np.array([i in order[selected:] for i in range(count)])
    return images.reject(left, Rejection.QUOTA, "its seed has its share already")
