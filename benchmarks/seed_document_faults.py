"""A raw set as unclean as the seed document's, of a run's own images.

Run: python benchmarks/seed_document_faults.py RUN OUTPUT [--seed 0]

The seed-document recipe says of its 1,500 raw images that 30 % were blurred (focus), 15 % badly lit
(overexposed, shadows), and that no face was found in 15 % (wrong angle). The embedded model draws
hardly any such images. This takes the raw images of RUN, the folder of a run such as the
demo's, gives those shares of them these faults, each image one at most, and writes them to
OUTPUT/raw with their descriptions, and OUTPUT/project.toml, the run's project with these images
as its source:

    character-curator experiment before-after OUTPUT --steps 300 --repeats 3 --pictures 60

Which image gets which fault, and how strong, depends on its name and ``--seed`` alone.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping
from pathlib import Path

import cv2
import numpy as np

FAULTS: Mapping[str, float] = {"blurred": 0.30, "badly lit": 0.15, "no face": 0.15}
"""Shares of all images, as published."""


def blurred(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Put an image out of focus: a Gaussian of 1 to 3 % of its side."""
    return cv2.GaussianBlur(image, (0, 0), rng.uniform(0.01, 0.03) * image.shape[1])


def badly_lit(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Overexpose an image by one to two stops, or lay a shadow over one of its sides."""
    light = image.astype(np.float32)
    if rng.random() < 0.5:
        return (light * 2 ** rng.uniform(1.0, 2.0)).clip(0, 255).astype(np.uint8)
    edge = np.linspace(-1, 1, image.shape[1], dtype=np.float32) * rng.choice([-1.0, 1.0])
    shade = 1 / (1 + np.exp(-12 * (edge - rng.uniform(-0.2, 0.2))))
    return (light * (0.1 + 0.9 * shade[None, :, None])).astype(np.uint8)


def no_face(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Frame an image too low: what is below the face, as large as the whole."""
    height, width = image.shape[:2]
    rest = round(height * rng.uniform(0.3, 0.4))
    left = (width - rest) // 2
    below = image[height - rest :, left : left + rest]
    return cv2.resize(below, (width, height), interpolation=cv2.INTER_CUBIC)


CHANGES: Mapping[str, Callable[[np.ndarray, np.random.Generator], np.ndarray]] = {
    "blurred": blurred,
    "badly lit": badly_lit,
    "no face": no_face,
}


def fault_of(rng: np.random.Generator) -> str | None:
    """Draw an image's fault, if it gets one."""
    drawn = rng.random()
    for fault, share in FAULTS.items():
        if drawn < share:
            return fault
        drawn -= share
    return None


def main() -> None:
    """Write the images and the project."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="folder of a run, with project.toml and raw/")
    parser.add_argument("output", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()

    from character_curator import project
    from character_curator.generation import png
    from character_curator.toml_lines import recipe_toml

    raw = options.output / "raw"
    raw.mkdir(parents=True, exist_ok=True)
    faults: dict[str, str] = {}
    for path in sorted((options.run / "raw").glob("*.png")):
        record = png.read_record(path.read_bytes())
        if record is None:
            raise SystemExit(f"{path} does not say how it was made: give the folder of a run.")
        rng = np.random.default_rng([options.seed, *path.name.encode()])
        fault = fault_of(rng)
        image = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
        if fault is not None:
            image, faults[path.name] = CHANGES[fault](image, rng), fault
            record["fault"] = fault  # it can't be made again from its description alone
        png.write(raw / path.name, image, record)
    values = project.read(options.run / "project.toml").model_dump(mode="json", exclude_none=True)
    del values["plan"]
    values["source"] = str(raw.resolve())
    values["project"]["output"] = str(options.output.resolve())
    (options.output / "project.toml").write_text(recipe_toml(values), encoding="utf-8")
    (options.output / "faults.json").write_text(json.dumps(faults, indent=1) + "\n")
    counts = {fault: list(faults.values()).count(fault) for fault in FAULTS}
    print(f"{len(list(raw.glob('*.png')))} images in {raw}, of them {counts}.")


if __name__ == "__main__":
    main()
