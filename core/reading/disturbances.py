"""Disturbances of images: drawn from a seed, recorded as numbers, made again to the byte.

A disturbance is drawn once, for an image of some size. What was drawn (where the patch lies, how
long the smear is, which seed the grain has) is its record, and the record alone decides what
becomes of the pixels. The record stands in a text chunk of the PNG file and names the image that
was disturbed by its content.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ..errors import CuratorError
from ..json_text import number, parse
from .color import on_background
from .opening import MAX_PIXELS, opened, upright

DISTURBANCE_KEY = "character_curator_disturbance"
"""Keyword of the PNG text chunk that holds a disturbance's record."""

DISTURBED = "disturbed"
"""The kind of an image that is a disturbed copy of another."""

OCCLUSION, BLUR, NOISE, COMPRESSION = "occlusion", "blur", "noise", "compression"
KINDS: Final = (OCCLUSION, BLUR, NOISE, COMPRESSION)
"""What images can be disturbed by."""

ALBUMENTATIONS = "albumentations:"
"""In front of the name of one of albumentations' own transforms, such as
``albumentations:RandomFog``."""

MOST_SEED = 2**32
"""Seeds stay below this."""

Pixels = NDArray[np.uint8]
Box = Sequence[float]

_COVERED: Final = (0.08, 0.5)
"""Share of the face that a patch covers, at strengths 0 and 1."""
_FACE_LIKE: Final = (0.3, 0.2, 0.7, 0.7)
"""Where a face is taken to be, as shares of the image, if it is not known."""
_GAUSSIAN: Final = (0.004, 0.02)
"""Deviation of a blur as a share of the shorter side, at strengths 0 and 1."""
_SMEAR: Final = (0.02, 0.1)
"""Length of a smear of motion as a share of the shorter side."""
_GRAIN: Final = (6.0, 40.0)
"""Deviation of noise in grey values (0 to 255)."""
_QUALITY: Final = (60.0, 8.0)
"""JPEG quality."""


class DisturbanceError(CuratorError):
    """A disturbance that there is not, or that cannot be made."""


@dataclass(frozen=True)
class Disturbance:
    """What is done to an image, in numbers: the same pixels in, the same pixels out.

    Attributes:
        kind: One of :data:`KINDS`, or :data:`ALBUMENTATIONS` and the name of a transform.
        strength: How much, from 0 (just visible) to 1 (hardly to be recognised).
        seed: What the numbers were drawn from.
        values: The numbers.
    """

    kind: str
    strength: float
    seed: int
    values: Mapping[str, Any]

    def as_mapping(self) -> dict[str, Any]:
        """Return the disturbance as JSON knows it."""
        return {
            "kind": self.kind,
            "strength": self.strength,
            "seed": self.seed,
            "values": dict(self.values),
        }


@dataclass(frozen=True)
class DisturbanceRecord:
    """What a disturbed image says of itself.

    Attributes:
        disturbance: What was done.
        source: The undisturbed image's name, without the folders above it.
        source_hash: SHA-256 of its bytes.
        size: Width and height in pixels.
        pixels: SHA-256 of the disturbed pixels: 8-bit RGB, row by row.
        generation: How this program has made the undisturbed image, if it has.
    """

    disturbance: Disturbance
    source: str
    source_hash: str
    size: tuple[int, int]
    pixels: str
    generation: Mapping[str, Any] | None = None

    def to_text(self) -> str:
        """Return the record as JSON in ASCII, the same for the same image."""
        values: dict[str, Any] = {
            **self.disturbance.as_mapping(),
            "source": self.source,
            "source_hash": self.source_hash,
            "size": list(self.size),
            "pixels": self.pixels,
        }
        if self.generation is not None:
            values["generation"] = dict(self.generation)
        return json.dumps(values, ensure_ascii=True, separators=(",", ":"))

    def columns(self) -> dict[str, str]:
        """Return what an image set says of a disturbed image: by what, of which image, and all."""
        values = parse(replace(self, generation=None).to_text())
        return {
            "disturbance": self.disturbance.kind,
            "disturbance_source": self.source_hash,
            "disturbance_record": json.dumps(values, ensure_ascii=True, separators=(",", ":")),
        }

    @staticmethod
    def from_text(text: object) -> DisturbanceRecord | None:
        """Read what :meth:`to_text` wrote; ``None`` if it is something else."""
        if not isinstance(text, str):
            return None
        try:
            values = parse(text, strict=True)
            wide, high = (int(side) for side in values["size"])
            generation = values.get("generation")
            if min(wide, high) < 1 or wide * high > MAX_PIXELS:
                return None
            return DisturbanceRecord(
                Disturbance(
                    str(values["kind"]),
                    number(values["strength"]),
                    int(values["seed"]),
                    dict(values["values"]),
                ),
                str(values["source"]),
                str(values["source_hash"]),
                (wide, high),
                str(values["pixels"]),
                generation if isinstance(generation, dict) else None,
            )
        except (ValueError, KeyError, TypeError, ArithmeticError):
            return None


def disturbance_record(path: Path) -> DisturbanceRecord | None:
    """Return what an image says of itself as a disturbed one; ``None`` if it is none."""
    from PIL import Image

    try:
        with opened(path) as image:
            return DisturbanceRecord.from_text(image.info.get(DISTURBANCE_KEY))
    except (OSError, ValueError, SyntaxError, MemoryError, Image.DecompressionBombError):
        return None


def rgb_pixels(path: Path) -> Pixels:
    """Return what an image file shows: 8-bit sRGB, upright, on white, shape ``(h, w, 3)``.

    Raises:
        OSError, ValueError, SyntaxError, MemoryError: The file can't be read.
    """
    with opened(path) as image:
        return np.asarray(on_background(upright(image, MAX_PIXELS)).convert("RGB"))


def digest(pixels: Pixels) -> str:
    """Return the SHA-256 of pixels: the identity of what an image shows."""
    return hashlib.sha256(np.ascontiguousarray(pixels).tobytes()).hexdigest()


def check_kind(kind: str) -> None:
    """Raise :class:`DisturbanceError` for a disturbance that there is not, or that needs more."""
    if kind.startswith(ALBUMENTATIONS):
        _transform(kind, {})
    elif kind not in KINDS:
        raise DisturbanceError(
            f"There is no disturbance '{kind}'. There are: {', '.join(KINDS)}, and any transform "
            f"of albumentations by its name, such as '{ALBUMENTATIONS}RandomFog'."
        )


def draw(
    kind: str, strength: float, seed: int, size: tuple[int, int], face: Box | None = None
) -> Disturbance:
    """Draw a disturbance for an image of some size.

    Args:
        kind: Which.
        strength: From 0 (just visible) to 1 (hardly to be recognised).
        seed: From 0 to 2**32 - 1; the same seed draws the same for the same size and face.
        size: Width and height in pixels.
        face: Left, top, right, bottom of the face in pixels: what a patch covers part of. The
            middle of the image unless known.

    Raises:
        DisturbanceError: There is no such disturbance, or a number is out of its range.
    """
    check_kind(kind)
    if not 0 <= strength <= 1:
        raise DisturbanceError(f"The strength is {strength:g}: it must be from 0 to 1.")
    if not 0 <= seed < MOST_SEED:
        raise DisturbanceError(f"The seed is {seed}: it must be from 0 to {MOST_SEED - 1}.")
    # Python's own generator: what random() returns is the same in every version.
    chance = random.Random(seed)  # noqa: S311 - no secrets
    if kind == OCCLUSION:
        values = _patch(chance, strength, size, face)
    elif kind == BLUR:
        values = _smear(chance, strength, size)
    elif kind == NOISE:
        values = {
            "deviation": round(_between(_GRAIN, strength) * _spread(chance), 3),
            "colored": chance.random() < 0.5,
            "seed": int(chance.random() * MOST_SEED),
        }
    elif kind == COMPRESSION:
        values = {"quality": max(1, min(95, round(_between(_QUALITY, strength) * _spread(chance))))}
    else:
        values = {"seed": seed, "transform": _described(kind), "version": _version()}
    return Disturbance(kind, float(strength), int(seed), values)


def disturbed(pixels: Pixels, disturbance: Disturbance) -> Pixels:
    """Disturb pixels: the same ones in, the same ones out.

    Occlusion, blur and noise are made of whole numbers, so that no library's way of rounding shows.
    What a JPEG of a quality looks like is up to libjpeg, which Pillow brings.

    Args:
        pixels: RGB, uint8, shape ``(height, width, 3)``.
        disturbance: As it was drawn for an image of this size.

    Returns:
        New pixels of the same shape.

    Raises:
        DisturbanceError: The record's numbers are not such as :func:`draw` draws.
    """
    ways = {OCCLUSION: _occluded, BLUR: _blurred, NOISE: _grainy, COMPRESSION: _compressed}
    try:
        made = ways.get(disturbance.kind, _transformed)(pixels, disturbance)
    except (KeyError, TypeError, ValueError, ArithmeticError, AttributeError) as error:
        raise DisturbanceError(
            f"A disturbance '{disturbance.kind[:80]}' can't be made from "
            f"{str(dict(disturbance.values))[:200]} in an image of {pixels.shape[1]} x "
            f"{pixels.shape[0]} pixels: {type(error).__name__}: {str(error)[:200]}. Disturb its "
            "original again."
        ) from error
    return np.ascontiguousarray(made, dtype=np.uint8)


def _between(ends: tuple[float, float], strength: float) -> float:
    return ends[0] + (ends[1] - ends[0]) * strength


def _spread(chance: random.Random) -> float:
    """Return a factor around 1, so that a strength is not one number for all images."""
    return 0.8 + 0.4 * chance.random()


def _patch(
    chance: random.Random, strength: float, size: tuple[int, int], face: Box | None
) -> dict[str, Any]:
    """Place a patch over a part of the face, of one color."""
    width, height = size
    shares = _FACE_LIKE
    box = [edge * side for edge, side in zip(shares, (width, height) * 2, strict=True)]
    left, top, right, bottom = face if face is not None else box
    across, down = max(right - left, 2.0), max(bottom - top, 2.0)
    covered = _between(_COVERED, strength) * _spread(chance)
    aspect = 0.5 + 1.5 * chance.random()
    wide = min(across, (covered * across * down * aspect) ** 0.5)
    high = min(down, covered * across * down / wide)
    x = left + (across - wide) * chance.random()
    y = top + (down - high) * chance.random()
    # A face may reach beyond the image, or be wider than one that is a line of pixels.
    start, above = min(max(0, round(x)), width - 1), min(max(0, round(y)), height - 1)
    return {
        "shape": "ellipse" if chance.random() < 0.5 else "rectangle",
        "box": [
            start,
            above,
            max(start + 1, min(width, round(x + wide) + 1)),
            max(above + 1, min(height, round(y + high) + 1)),
        ],
        "color": [int(chance.random() * 256) for _ in range(3)],
    }


def _smear(chance: random.Random, strength: float, size: tuple[int, int]) -> dict[str, Any]:
    """Choose between a camera that is out of focus and one that has moved."""
    side = min(size)
    if chance.random() < 0.5:
        deviation = _between(_GAUSSIAN, strength) * _spread(chance) * side
        return {"way": "focus", "deviation": round(max(deviation, 0.5), 3)}
    length = _between(_SMEAR, strength) * _spread(chance) * side
    return {
        "way": "motion",
        "length": min(max(3, round(length)), max(size)),
        "angle": round(180 * chance.random(), 1),
    }


def _occluded(pixels: Pixels, disturbance: Disturbance) -> Pixels:
    from PIL import Image, ImageDraw

    values = disturbance.values
    image = Image.fromarray(pixels)
    left, top, right, bottom = (int(edge) for edge in values["box"])
    brush = ImageDraw.Draw(image)
    shape = {"ellipse": brush.ellipse, "rectangle": brush.rectangle}[values["shape"]]
    red, green, blue = (_within(value, 255) for value in values["color"])
    _within(right, pixels.shape[1]), _within(bottom, pixels.shape[0])
    _within(left, right), _within(top, bottom)
    shape((left, top, max(left, right - 1), max(top, bottom - 1)), fill=(red, green, blue))
    return np.asarray(image)


def _within(value: Any, most: float) -> Any:
    """Return a number of a record, unless it is none that is drawn."""
    if not 0 <= value <= most:
        raise ValueError(f"{value!r:.40} is not from 0 to {most}")
    return value


def _blurred(pixels: Pixels, disturbance: Disturbance) -> Pixels:
    """Blur with whole weights: in doubles their sums are exact, in whatever order they are made."""
    import cv2

    values = disturbance.values
    most = max(pixels.shape[:2])
    if not 0 < float(values.get("deviation", 1)) <= most or not 0 < values.get("length", 1) <= most:
        raise ValueError("it reaches beyond the image")
    if values["way"] == "focus":
        deviation = float(values["deviation"])
        steps = np.arange(-round(3 * deviation + 1), round(3 * deviation + 1) + 1)
        line = np.rint(np.exp(-(steps**2) / (2 * deviation**2)) * 1024)
        sums = cv2.sepFilter2D(pixels, cv2.CV_64F, line, line, borderType=cv2.BORDER_REPLICATE)
        total = float(line.sum()) ** 2
    else:
        length, angle = int(values["length"]), np.deg2rad(float(values["angle"]))
        middle = length // 2
        kernel = np.zeros((2 * middle + 1, 2 * middle + 1), np.uint8)
        x, y = round(float(np.cos(angle)) * middle), round(float(np.sin(angle)) * middle)
        cv2.line(kernel, (middle - x, middle - y), (middle + x, middle + y), 1)
        weights = kernel.astype(np.float64)
        sums = cv2.filter2D(pixels, cv2.CV_64F, weights, borderType=cv2.BORDER_REPLICATE)
        total = float(weights.sum())
    # Of a large kernel OpenCV may go through a Fourier transform: back to whole sums.
    return np.asarray(np.floor((np.rint(sums) + total // 2) / total)).astype(np.uint8)


def _grainy(pixels: Pixels, disturbance: Disturbance) -> Pixels:
    values = disturbance.values
    # The stream of RandomState is frozen for good; a sum of four bytes is nearly normal.
    source = np.random.RandomState(int(values["seed"]) % MOST_SEED)
    height, width, channels = pixels.shape
    depth = channels if values["colored"] else 1
    drawn = source.randint(0, 256, (4, height, width, depth), np.int32).sum(axis=0) - 510
    # Four uniform bytes together have a deviation of 147.8; in thousandths, all whole numbers.
    scale = round(_within(float(values["deviation"]), 255) * 1000)
    grain = (drawn.astype(np.int64) * scale + 73_900) // 147_800
    return np.clip(pixels + grain, 0, 255).astype(np.uint8)


def _compressed(pixels: Pixels, disturbance: Disturbance) -> Pixels:
    from io import BytesIO

    from PIL import Image

    buffer = BytesIO()
    quality = int(disturbance.values["quality"])
    Image.fromarray(pixels).save(buffer, "JPEG", quality=quality, subsampling=2)
    with Image.open(buffer, formats=("JPEG",)) as image:
        return np.asarray(image.convert("RGB"))


def _albumentations() -> Any:
    import os

    # It would ask the network for a newer version of itself.
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
    try:
        import albumentations
    except ImportError as error:
        raise DisturbanceError(
            f"Disturbances '{ALBUMENTATIONS}NAME' need albumentations: pip install "
            f"albumentations ({error}). Without it there are: {', '.join(KINDS)}."
        ) from error
    return albumentations


def _version() -> str:
    return str(_albumentations().__version__)


def _transform(kind: str, options: Mapping[str, Any]) -> Any:
    library = _albumentations()
    name = kind.removeprefix(ALBUMENTATIONS)
    made = getattr(library, name, None)
    if not (isinstance(made, type) and issubclass(made, library.ImageOnlyTransform)):
        raise DisturbanceError(
            f"albumentations {library.__version__} has no transform '{name}' that changes "
            "pixels and nothing else (an ImageOnlyTransform). Its documentation lists them."
        )
    return made(**{**options, "p": 1.0})


def _described(kind: str) -> dict[str, Any]:
    library = _albumentations()
    return dict(library.to_dict(_transform(kind, {})))


def _transformed(pixels: Pixels, disturbance: Disturbance) -> Pixels:
    check_kind(disturbance.kind)
    library = _albumentations()
    values = disturbance.values
    try:
        transform = library.from_dict(dict(values["transform"]))
        if type(transform).__name__ != disturbance.kind.removeprefix(ALBUMENTATIONS):
            raise ValueError(f"it makes a {type(transform).__name__}")
        done = library.Compose([transform], seed=int(values["seed"]))(image=pixels)["image"]
    except Exception as error:  # whatever a transform raises that somebody has described
        raise ValueError(f"{type(error).__name__}: {error}") from error
    if done.shape != pixels.shape:
        raise DisturbanceError(f"{disturbance.kind} changes an image's size: take another.")
    return np.asarray(done)
