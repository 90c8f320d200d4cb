"""Make an image again from nothing but what it says of itself, and compare."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import CuratorError
from ..plan import Request
from . import conditions, png
from .backend import Backend


class NoRecordError(CuratorError):
    """An image does not say how it was made."""


@dataclass(frozen=True)
class Reproduction:
    """An image made again.

    Attributes:
        path: The image that was given.
        request: What it shows.
        image: The new image: uint8 RGB array of shape ``(height, width, 3)``.
        identical: Whether every pixel is the same.
        psnr: Peak signal-to-noise ratio in dB; infinite when identical, NaN when the sizes differ.
        differences: What is not as it was: model, settings, versions, device; a line each.
    """

    path: Path
    request: Request
    image: np.ndarray
    identical: bool
    psnr: float
    differences: tuple[str, ...]


def reproduce(
    image: Path | str, backend: Backend | None = None, *, model: str | Path | None = None
) -> Reproduction:
    """Make a generated image again and compare it pixel by pixel.

    Only the image's own record is read. The pixels are identical on the same kind of machine
    and the same versions; elsewhere ``differences`` says what has changed and ``psnr`` how much
    it matters.

    Args:
        image: A PNG that this tool has generated.
        backend: The back end, to spare loading the model again for image after image; by
            default made from the record.
        model: Where the model lies now, if not where the record says.

    Raises:
        NoRecordError: The image has no record, or was made by a back end that is not here.
        ModelNotFoundError: Its model is not here.
        LoraError: Its LoRA is not here.
    """
    path = Path(image).expanduser()
    record, data = read(path)
    recorded, settings = record["conditions"], record["settings"]
    if backend is None:
        backend = backend_of(path, settings, recorded, model)
    request = Request.from_row(record)
    size, row = record["batch"]["size"], record["batch"]["row"]
    # The neighbours of then are not needed: a row depends on the batch's size, not on them.
    pixels = backend.sample([request] * size)[row]
    original = _pixels(data)
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
        data = path.read_bytes()
        record = png.read_record(data)
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
    return record, data


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

    device = str(recorded["device"]["kind"])
    return DiffusersBackend.from_settings(
        settings,
        model=model,
        device=device if is_available(device) else "auto",
        threads=recorded.get("threads"),
    )


def settings_differences(record: Mapping[str, Any], backend: Backend) -> list[str]:
    """Say in which settings a back end differs from the one of a record, a line each."""
    return conditions.differences(_comparable(record["settings"]), _comparable(backend.settings))


def _comparable(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Drop where things lie, and name LoRAs by their content."""
    loras = [f"{lora['sha256'][:12]} x {lora['weight']}" for lora in settings.get("loras", [])]
    rest = {k: v for k, v in settings.items() if k not in ("model", "config", "loras")}
    return {**rest, "loras": ", ".join(loras)}


def _pixels(data: bytes) -> np.ndarray:
    from PIL import Image

    with Image.open(BytesIO(data), formats=("PNG",)) as image:
        return np.asarray(image.convert("RGB"))
