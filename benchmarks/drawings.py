"""Images of 768 x 768 with known outcomes, for measuring speed.

A sharp image is coarse coloured clouds with grain; a blurred one has no grain and fails the
sharpness component whatever its face. Where there is a face, a patch is painted pure red, which the
probe of ``architectures.py`` reports.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np

SIDE = 768
NO_FACE, LOW_QUALITY = 0.15, 0.60
"""The seed-document recipe's shares of 1,500 raw images."""


def kinds(count: int) -> list[str]:
    """Return what each image is, mixed evenly: ``no face``, ``blurred`` or ``good``."""
    shares = np.array([NO_FACE, LOW_QUALITY, 1 - NO_FACE - LOW_QUALITY])
    made = np.zeros(3)
    names = []
    for number in range(1, count + 1):
        index = int(np.argmax(shares * number - made))
        made[index] += 1
        names.append(("no face", "blurred", "good")[index])
    return names


def draw(number: int, kind: str, side: int = SIDE) -> np.ndarray:
    """Draw one square image, BGR uint8; every number another one."""
    rng = np.random.default_rng(number)
    coarse = 128 + 70 * rng.standard_normal((12, 12, 3), dtype=np.float32)
    image = cv2.resize(coarse, (side, side), interpolation=cv2.INTER_CUBIC)
    if kind != "blurred":
        image += 9 * rng.standard_normal((side, side, 1), dtype=np.float32)
    image = image.clip(0, 255).astype(np.uint8)
    image[..., 2] = np.minimum(image[..., 2], image[..., 1])  # nothing else is red
    if kind != "no face":
        first, last = side // 2 - 50, side // 2 + 50
        image[first:last, first:last] = (0, 0, 255)
    return image


def write(folder: Path, count: int) -> Path:
    """Write the images that are not there yet as PNG; returns the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    names = [f"{number:05} {kind}.png" for number, kind in enumerate(kinds(count))]

    def make(number: int) -> None:
        path = folder / names[number]
        if not path.exists():
            partial = folder / f".{path.name}.partial.png"
            cv2.imwrite(str(partial), draw(number, names[number][6:-4]))
            partial.replace(path)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for _ in pool.map(make, range(count)):
            pass
    for path in set(folder.glob("*.png")) - {folder / name for name in names}:
        path.unlink()
    return folder
