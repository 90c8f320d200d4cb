"""Taggers in ONNX: probabilities of tags, of which captions are made.

The layout is that of the public WD taggers: ``model.onnx`` takes squares of pixels and gives a
probability a tag, and ``selected_tags.csv`` (columns ``name`` and ``category``) has a row a tag.
Images are put on white squares and scaled bicubically to the model's size, in BGR from 0 to 255, as
these models were trained.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..counts import how_many
from ..hashing import json_hash
from ..json_text import parse
from ..plain_files import plain
from ..reading.opening import MAX_PIXELS
from .captioners import TAGS_FILE, CaptionerError, files_fingerprint
from .phrases import joined, phrases_of, same, spoken
from .settings import CaptionSettings

if TYPE_CHECKING:
    from ..analysis.decoding import Pixels

CATEGORIES = {
    0: "general", 1: "artist", 3: "copyright", 4: "character", 5: "meta", 9: "rating",
}  # fmt: skip
"""Names of the numbers in the column ``category``, which are those of Danbooru; 9 is WD's own."""

_KEPT = 0.05
"""The least probability that is kept, so that thresholds move without asking the model again."""
_SIDE = 448
_SPINNING = "session.intra_op.allow_spinning"


@dataclass(frozen=True)
class Tag:
    """What a tagger may say.

    Attributes:
        name: As the model has it, with underscores.
        category: Of :data:`CATEGORIES`; empty for a number that is not there.
    """

    name: str
    category: str


class Tagger:
    """A tagger; see :class:`.captioners.Captioner`.

    Args:
        place: Its folder, or its ``.onnx`` file.
        settings: Thresholds, categories, order.
        name: What people call it.

    Attributes:
        tags: What it may say, in the order of its output.

    Raises:
        CaptionerError: Files are missing or damaged, or a category is unknown.
    """

    def __init__(self, place: Path, settings: CaptionSettings, *, name: str = "") -> None:
        self.name = name or place.name
        self.settings = settings
        self._file, self._list = _files(place)
        wanted = {part.casefold() for part in phrases_of(settings.categories)}
        if unknown := sorted(wanted - set(CATEGORIES.values())):
            raise CaptionerError(
                f"There is no category of tags called {', '.join(unknown)}. Choose from: "
                f"{', '.join(CATEGORIES.values())}."
            )
        self._categories = wanted
        self.tags = read_tags(self._list)

    @property
    def batch(self) -> int:
        """How many images it takes at once."""
        return self.settings.batch

    @property
    def stops(self) -> tuple[type[BaseException], ...]:
        """Errors that end the work."""
        return (CaptionerError,)

    @cached_property
    def fingerprint(self) -> str:
        """What decides its probabilities: the model and its list of tags."""
        return json_hash(["tags/1", files_fingerprint([self._file, self._list])])

    @cached_property
    def _session(self) -> Any:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        # Threads that spin while they wait take the processors from whatever else runs.
        options.add_session_config_entry(_SPINNING, "0")
        known = ("CUDAExecutionProvider", "CPUExecutionProvider")
        there = onnxruntime.get_available_providers()
        providers = [one for one in known if one in there]
        try:
            session = onnxruntime.InferenceSession(self._file, options, providers=providers)
        except Exception as error:  # onnxruntime raises many kinds for a damaged file
            raise CaptionerError(
                f"The tagger {self._file} cannot be loaded: {error}. Download it again."
            ) from error
        shape = session.get_outputs()[0].shape
        if isinstance(shape[-1], int) and shape[-1] != len(self.tags):
            raise CaptionerError(
                f"{self._list} names {how_many(len(self.tags), 'tag')}, and {self._file.name} "
                f"gives {how_many(shape[-1], 'probability')}. Take the list that belongs to the "
                "model."
            )
        return session

    def find(self, images: Sequence[Pixels]) -> list[bytes]:
        """Return the probabilities of each image's tags, as JSON."""
        session = self._session
        entry = session.get_inputs()[0]
        channels_first = entry.shape[1] == 3
        side = next((n for n in entry.shape[1:] if isinstance(n, int) and n > 4), _SIDE)
        squares = np.stack([square(image, side) for image in images])
        pixels = squares.transpose(0, 3, 1, 2) if channels_first else squares
        single = entry.shape[0] == 1
        parts = [part[None] for part in pixels] if single else [pixels]
        output = session.get_outputs()[0].name
        rows = np.concatenate([session.run([output], {entry.name: part})[0] for part in parts])
        return [_packed(_probabilities(row)) for row in rows]

    def caption(self, found: bytes) -> str:
        """Return the tags above their thresholds."""
        chosen = self.settings
        pairs: list[tuple[int, float]] = [(n, share) for n, share in parse(found)]
        rows = [(number, share) for number, share in pairs if self._is_wanted(number, share)]
        ratings = [row for row in pairs if self.tags[row[0]].category == "rating"]
        if "rating" in self._categories and ratings:
            rows.append(max(ratings, key=lambda row: row[1]))  # an image has one
        if chosen.order == "probability":
            rows.sort(key=lambda row: -row[1])
        elif chosen.order == "alphabet":
            rows.sort(key=lambda row: same(self.tags[row[0]].name))
        else:
            rows.sort()
        gone = {same(tag) for tag in phrases_of(chosen.exclude)}
        names = [self.tags[number].name for number, _ in rows]
        names = [name for name in names if same(name) not in gone]
        names = names[: chosen.most or None]
        return joined(names if chosen.underscores else map(spoken, names))

    def remark(self, found: bytes) -> str:
        """Return nothing: what a tagger finds is whole."""
        return ""

    def _is_wanted(self, number: int, share: float) -> bool:
        category = self.tags[number].category
        if category == "rating" or category not in self._categories:
            return False
        least = self.settings.threshold
        return share >= (self.settings.character_threshold if category == "character" else least)


def read_tags(path: Path) -> tuple[Tag, ...]:
    """Read a tagger's list of tags.

    Raises:
        CaptionerError: It is no such list.
    """
    try:
        with open(path, encoding="utf-8", newline="", opener=plain) as file:
            rows = list(csv.DictReader(file))
        return tuple(Tag(row["name"], CATEGORIES.get(int(row["category"]), "")) for row in rows)
    except (OSError, KeyError, ValueError, TypeError, csv.Error) as error:
        raise CaptionerError(
            f"{path} is no list of tags with the columns name and category: "
            f"{type(error).__name__} {error}. Download it again."
        ) from error


def square(image: Pixels, side: int) -> NDArray[np.float32]:
    """Return an image in the middle of a white square, scaled; BGR from 0 to 255."""
    from PIL import Image

    height, width = image.shape[:2]
    if max(height, width) ** 2 > MAX_PIXELS:  # the square around a line of pixels would be
        import cv2

        scale = math.sqrt(MAX_PIXELS) / max(height, width)
        width, height = max(1, int(width * scale)), max(1, int(height * scale))
        resized = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
        image = np.asarray(resized, dtype=np.uint8)
    longest = max(height, width)
    padded = np.full((longest, longest, 3), 255, np.uint8)
    top, left = (longest - height) // 2, (longest - width) // 2
    padded[top : top + height, left : left + width] = image
    if longest != side:
        scaled = Image.fromarray(padded).resize((side, side), Image.Resampling.BICUBIC)
        padded = np.asarray(scaled)
    return padded.astype(np.float32)


def _files(place: Path) -> tuple[Path, Path]:
    """Return a tagger's model and its list: in a folder, or a file with its list beside it."""
    model = place
    if place.is_dir():
        models = sorted(place.glob("*.onnx"))
        named = [path for path in models if path.name == "model.onnx"]
        if not models or (len(models) > 1 and not named):
            raise CaptionerError(
                f"{place} holds {len(models)} .onnx files. Name the one that is the tagger."
            )
        model = (named or models)[0]
    if model.suffix != ".onnx":
        raise CaptionerError(f"{model} is no tagger: its name does not end with .onnx.")
    for path in (model.with_suffix(".csv"), model.with_name(TAGS_FILE)):
        if path.is_file():
            return model, path
    raise CaptionerError(
        f"Beside {model} there is no list of its tags, {TAGS_FILE} or "
        f"{model.with_suffix('.csv').name}. Put it there; it comes with the model."
    )


def _probabilities(row: NDArray[Any]) -> NDArray[Any]:
    """Return an output as probabilities: some models leave the last step to who reads it."""
    values = row.astype(np.float64)
    if values.min() < 0 or values.max() > 1:
        values = 1 / (1 + np.exp(-values.clip(-60, 60)))
    return values


def _packed(values: NDArray[Any]) -> bytes:
    kept = np.flatnonzero(values >= _KEPT)
    pairs = [[int(number), round(float(values[number]), 5)] for number in kept]
    return json.dumps(pairs).encode()
