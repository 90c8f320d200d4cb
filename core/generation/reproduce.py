"""Make an image again from nothing but what it says of itself, and compare."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from ..errors import CuratorError
from ..hashing import content_hash
from ..json_text import parse
from ..plain_files import plain_bytes
from ..plan import Request
from ..reading.color import on_background
from ..reading.crops import CropRecord, crop_record, cut, cut_file
from ..reading.disturbances import DisturbanceRecord, disturbance_record, disturbed, rgb_pixels
from ..reading.folders import list_sources
from ..reading.opening import decoding_errors, opened, upright
from . import conditions, png
from .backend import Backend


class NoRecordError(CuratorError):
    """An image does not say how it was made."""


class OriginalNotFoundError(CuratorError):
    """The original of a crop, or of a disturbed copy, is not here."""

    def __init__(self, path: Path, made: CropRecord | DisturbanceRecord, why: str) -> None:
        what = "a crop" if isinstance(made, CropRecord) else "a disturbed copy"
        super().__init__(
            f"{path} is {what} of '{made.source}' (SHA-256 {made.source_hash[:16]}...), and {why}. "
            "Name that image, or a folder that holds it: --source."
        )


@dataclass(frozen=True)
class Reproduction:
    """An image made again.

    Attributes:
        path: The image that was given.
        request: What it shows; ``None`` for a crop, or a disturbed copy, of an image that
            nobody has generated.
        image: The new image: uint8 RGB array of shape ``(height, width, 3)``.
        identical: Whether every pixel is the same.
        psnr: Peak signal-to-noise ratio in dB; infinite when identical, NaN when the sizes differ.
        differences: What is not as it was: model, settings, versions, device; a line each.
    """

    path: Path
    request: Request | None
    image: np.ndarray
    identical: bool
    psnr: float
    differences: tuple[str, ...]


def reproduce(
    image: Path | str,
    backend: Backend | None = None,
    *,
    model: str | Path | None = None,
    source: str | Path | None = None,
) -> Reproduction:
    """Make a generated image, a crop or a disturbed copy again and compare it pixel by pixel.

    Only the image's own record is read. A crop is cut again from its original, and a disturbed copy
    disturbed again, which is made again where this tool has generated it, and else found by its
    content in ``source``. The pixels are
    identical on the same kind of machine and the same versions; elsewhere ``differences`` says
    what has changed and ``psnr`` how much it matters.

    Args:
        image: A PNG that this tool has generated, cropped or disturbed.
        backend: The back end, to spare loading the model again for image after image; by
            default made from the record.
        model: Where the model lies now, if not where the record says.
        source: Of a crop or disturbed copy of somebody's image: that image, or a folder or zip file
            that holds it.

    Raises:
        NoRecordError: The image has no record, or was made by a back end that is not here.
        OriginalNotFoundError: The original of a crop or disturbed copy is not here, or not as it
            was.
        DisturbanceError: The record of a disturbance has been altered.
        ModelNotFoundError: Its model is not here.
        LoraError: Its LoRA is not here.
    """
    path = Path(image).expanduser()
    crop, disturbance = crop_record(path), disturbance_record(path)
    if disturbance is not None and disturbance.generation is None:
        return disturb_again(path, disturbance, source)
    if disturbance is None and crop is not None and crop.generation is None:
        return cut_again(path, crop, source)
    record, data = read(path)
    original = _pixels(path, data)
    recorded, settings = record["conditions"], record["settings"]
    if backend is None:
        backend = backend_of(path, settings, recorded, model)
    request = Request.from_row(record)
    size, row = record["batch"]["size"], record["batch"]["row"]
    # The neighbours of then are not needed: a row depends on the batch's size, not on them.
    pixels = backend.sample([request] * size)[row]
    pixels = changed_again(pixels, crop, disturbance)
    differences = [
        *settings_differences(record, backend),
        *conditions.differences(recorded, backend.conditions),
    ]
    if original.shape != pixels.shape:
        now = "x".join(map(str, original.shape[1::-1]))
        made = "x".join(map(str, pixels.shape[1::-1]))
        differences.append(f"size of the file: it is {now} now and was made as {made}")
    return Reproduction(
        path=path,
        request=request,
        image=pixels,
        identical=np.array_equal(original, pixels),
        psnr=psnr(original, pixels),
        differences=tuple(differences),
    )


def read(path: Path | str) -> tuple[dict[str, Any], bytes]:
    """Return an image's record and the bytes of its file.

    Raises:
        NoRecordError: There is no such file, it is damaged, or it has no record.
    """
    path = Path(path)
    try:
        data = plain_bytes(path)
        record = png.read_record(data)
        if record is None:
            record = generation_of(path)
    except OSError as error:
        raise NoRecordError(f"{path} can't be read: {error.strerror}. Check the name.") from error
    except png.DamagedPngError as error:
        raise NoRecordError(
            f"{path} is not a whole PNG file ({error}). Name an image that this tool has "
            "generated; other formats and copies made by image editors have lost the record."
        ) from error
    needed = ("settings", "batch", "conditions", "noise_seed", "prompt")
    if record is None or any(key not in record for key in needed):
        raise NoRecordError(
            f"{path} has no generation record (PNG text chunk '{png.PARAMETERS_KEY}'). Name a "
            "image that this tool has generated; image editors and many sites remove the record."
        )
    fault = record_fault(record)
    if fault:
        raise NoRecordError(
            f"The generation record of {path} is malformed ({fault}), so that it can't be made "
            "again. Name an image that this tool has generated and nothing has changed since."
        )
    return record, data


def generation_of(path: Path) -> dict[str, Any] | None:
    """Return how the original of a crop or of a disturbed copy was made; ``None`` if unknown."""
    for made in (disturbance_record(path), crop_record(path)):
        if made is not None and made.generation:
            return dict(made.generation)
    return None


def changed_again(
    pixels: np.ndarray, crop: CropRecord | None, disturbance: DisturbanceRecord | None
) -> np.ndarray:
    """Cut a generated image's pixels and disturb them, as its file says was done."""
    if crop is not None:
        pixels = pixels_of_crop(pixels, crop)
    return pixels if disturbance is None else disturbed(pixels, disturbance.disturbance)


def pixels_of_crop(pixels: np.ndarray, crop: CropRecord) -> np.ndarray:
    """Cut a crop out of a generated image's pixels."""
    from PIL import Image

    return np.asarray(cut(Image.fromarray(pixels), crop))


def cut_again(path: Path, crop: CropRecord, source: str | Path | None) -> Reproduction:
    """Cut a crop again from somebody's image.

    Args:
        path: The crop.
        crop: What it says of itself.
        source: The original, or a folder or zip file that holds it.

    Raises:
        OriginalNotFoundError: It is not there, or not as it was.
    """
    from PIL import Image

    original = _original(path, crop, source)
    try:
        again = on_background(cut_file(original, crop))
        with opened(path) as image:
            kept = on_background(upright(image))
    except decoding_errors() as error:
        raise OriginalNotFoundError(path, crop, f"{original} can't be used: {error}") from error
    differences = []
    if kept.size != again.size:
        differences.append(
            f"size of the file: {kept.width}x{kept.height} now, and {again.width}x{again.height} "
            "when it was cut; it was scaled at the export, and is compared at that size"
        )
        again = again.resize(kept.size, Image.Resampling.LANCZOS)
    one, other = (np.asarray(side.convert("RGB")) for side in (kept, again))
    same = np.array_equal(one, other)
    return Reproduction(path, None, other, same, psnr(one, other), tuple(differences))


def disturb_again(path: Path, record: DisturbanceRecord, source: str | Path | None) -> Reproduction:
    """Disturb somebody's image again.

    Args:
        path: The disturbed copy.
        record: What it says of itself.
        source: The undisturbed image, or a folder or zip file that holds it.

    Raises:
        OriginalNotFoundError: It is not there, or not as it was.
        DisturbanceError: The record has been altered.
    """
    original = _original(path, record, source)
    try:
        again, kept = rgb_pixels(original), rgb_pixels(path)
    except (OSError, ValueError, SyntaxError, MemoryError) as error:
        raise OriginalNotFoundError(path, record, f"{original} can't be used: {error}") from error
    again = disturbed(again, record.disturbance)
    same = np.array_equal(kept, again)
    return Reproduction(path, None, again, same, psnr(kept, again), ())


def _original(path: Path, crop: CropRecord | DisturbanceRecord, source: str | Path | None) -> Path:
    """Find an image's original by its content, those of its name first."""
    if source is None:
        raise OriginalNotFoundError(path, crop, "it was not said where the original lies")
    place = Path(source).expanduser()
    if not place.exists():
        raise OriginalNotFoundError(path, crop, f"there is no {place}")
    listing = list_sources([place])
    names = sorted(listing.names, key=lambda name: PurePosixPath(name).name != crop.source)
    for name in names:
        found = listing.root / name
        if found.is_file() and content_hash(found) == crop.source_hash:
            return found
    raise OriginalNotFoundError(path, crop, f"no image of {place} is the original, byte for byte")


def record_fault(record: Mapping[str, Any]) -> str:
    """Say what in a record is of another form than this tool writes.

    Args:
        record: Of an image.

    Returns:
        Empty if an image can be made again from it.
    """
    try:
        parse(json.dumps(record), strict=True)
        Request.from_row(record)
    except (KeyError, ValueError) as error:
        return f"{type(error).__name__}: {error}"
    for name, kind in _KINDS.items():
        value: Any = record
        for key in name.split("."):
            value = value.get(key) if isinstance(value, Mapping) else None
        if not isinstance(value, kind) or isinstance(value, bool):
            return f"{name} is {str(value)[:40]!r}"
    size, row = record["batch"]["size"], record["batch"]["row"]
    if not (1 <= size <= _MOST_IN_A_BATCH and 0 <= row < size):
        return f"row {row} of a batch of {size}"
    return "" if record["noise_seed"] >= 0 else "noise_seed is below 0"


_KINDS: Mapping[str, type | tuple[type, ...]] = {
    "subject": str, "seed": int, "kind": str, "scenario": int, "take": int, "prompt": str,
    "negative_prompt": str, "noise_seed": int, "settings": Mapping, "settings.backend": str,
    "batch.size": int, "batch.row": int, "conditions.device.kind": str,
}  # fmt: skip
_OF_DIFFUSERS: Mapping[str, type | tuple[type, ...]] = {
    "model": str, "scheduler": Mapping, "steps": int, "guidance": (int, float), "width": int,
    "height": int, "dtype": str, "loras": list,
}  # fmt: skip
_MOST_IN_A_BATCH = 4096


def psnr(one: np.ndarray, other: np.ndarray) -> float:
    """Return the peak signal-to-noise ratio of two uint8 images in dB.

    Infinite when they are equal, NaN when their shapes differ.
    """
    if one.shape != other.shape:
        return float("nan")
    error = np.mean((one.astype(np.float64) - other.astype(np.float64)) ** 2)
    return float("inf") if error == 0 else float(10 * np.log10(255.0**2 / error))


def backend_of(
    path: Path,
    settings: Mapping[str, Any],
    recorded: Mapping[str, Any],
    model: str | Path | None = None,
) -> Backend:
    """Return the back end that has made an image.

    Args:
        path: The image, for messages.
        settings: Of its record.
        recorded: Conditions of its record.
        model: Where the model lies now, if not where the record says.

    Raises:
        NoRecordError: It was made by a back end that is not here.
        ModelNotFoundError: Its model is not here.
        LoraError: Its LoRA is not here.
    """
    if settings.get("backend") != "diffusers":
        raise NoRecordError(
            f"{path} was made by the back end '{settings.get('backend')}', which can't be started "
            "from here. If ComfyUI made it, drop it onto ComfyUI's canvas and queue the graph."
        )
    from .diffusers_backend import DiffusersBackend
    from .pipelines import is_available

    for name, kind in _OF_DIFFUSERS.items():
        if not isinstance(settings.get(name), kind):
            raise NoRecordError(
                f"The generation record of {path} is malformed ({name} is "
                f"{str(settings.get(name))[:40]!r}), so that it can't be made again."
            )
    device = str(recorded["device"]["kind"])
    try:
        return DiffusersBackend.from_settings(
            settings,
            model=model,
            device=device if is_available(device) else "auto",
            threads=recorded.get("threads"),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise NoRecordError(
            f"The generation record of {path} is malformed ({type(error).__name__}: {error}), so "
            "that it can't be made again."
        ) from error


def settings_differences(record: Mapping[str, Any], backend: Backend) -> list[str]:
    """Say in which settings a back end differs from the one of a record, a line each."""
    return conditions.differences(_comparable(record["settings"]), _comparable(backend.settings))


def _comparable(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Drop where things lie, and name LoRAs by their content."""
    loras = [f"{lora['sha256'][:12]} x {lora['weight']}" for lora in settings.get("loras", [])]
    rest = {k: v for k, v in settings.items() if k not in ("model", "config", "loras")}
    return {**rest, "loras": ", ".join(loras)}


def _pixels(path: Path, data: bytes) -> np.ndarray:
    from PIL import Image

    try:
        with Image.open(BytesIO(data), formats=("PNG",)) as image:
            return np.asarray(image.convert("RGB"))
    except decoding_errors() as error:
        raise NoRecordError(
            f"The pixels of {path} can't be decoded ({error}), so that there is nothing to compare "
            "with. Name a whole image."
        ) from error
