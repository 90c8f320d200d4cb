"""Sample images while it trains: the same prompts and noise every time, on one strip."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ... import atomic
from ...defaults import SAMPLE_GUIDANCE, SAMPLE_STEPS
from ..data.buckets import Size
from ..data.examples import Example
from ..data.order import draw

FOLDER = "samples"
_NAME = re.compile(r"epoch-(\d+)-(\d+)\.png")


@dataclass(frozen=True)
class SampleSettings:
    """What sample images are made of.

    Attributes:
        prompts: What they show; without any, captions of the training set.
        negative: Negative prompt of all of them.
        seed: Of the first prompt's noise; every further prompt has the next number.
        steps: Denoising steps.
        guidance: Classifier-free guidance scale (for Flux: the distilled guidance).
    """

    prompts: tuple[str, ...] = ()
    negative: str = ""
    seed: int = 0
    steps: int = SAMPLE_STEPS
    guidance: float = SAMPLE_GUIDANCE


def default_prompts(examples: Sequence[Example], count: int = 4) -> tuple[str, ...]:
    """Choose captions to sample with: different ones, the same whatever the order of the files."""
    captions = {example.caption for example in examples if not example.prior}
    return tuple(sorted(captions, key=lambda caption: draw("sample", caption))[:count])


def sample(pipeline: Any, settings: SampleSettings, size: Size) -> np.ndarray:
    """Make the sample images with a pipeline of diffusers as it is, adapters and all.

    Args:
        pipeline: Its weights are not changed, and its random state is its own.
        settings: Prompts and noise.
        size: Of the images.

    Returns:
        uint8 RGB array of shape ``(prompts, height, width, 3)``.
    """
    import torch

    from ...generation.conditions import exact
    from ...generation.diffusers_backend import quantise
    from ...generation.prompts import PromptArguments, guidance_arguments

    pipeline.set_progress_bar_config(disable=True)
    arguments = PromptArguments(pipeline, guided=settings.guidance > 1)
    images = []
    # One at a time: a sample then depends on its own prompt and noise alone.
    with exact(), torch.no_grad():
        for number, prompt in enumerate(settings.prompts):
            result = pipeline(
                **arguments([(prompt, settings.negative)]),
                generator=torch.Generator().manual_seed(settings.seed + number),
                num_inference_steps=settings.steps,
                **guidance_arguments(pipeline, settings.guidance),
                width=size.width,
                height=size.height,
                output_type="pt",
            ).images
            values = torch.as_tensor(result).float().cpu().numpy()
            images.append(quantise(values.transpose(0, 2, 3, 1))[0])
    return np.stack(images)


def write_samples(folder: Path, epoch: int, images: np.ndarray) -> list[Path]:
    """Write the samples of an epoch as PNGs; return their paths."""
    from PIL import Image

    paths = []
    for number, image in enumerate(images):
        path = folder / FOLDER / f"epoch-{epoch:04d}-{number:02d}.png"
        with atomic.replacing(path) as temporary:
            Image.fromarray(image).save(temporary, format="PNG")
        paths.append(path)
    return paths


def write_strip(
    folder: Path,
    path: Path,
    prompts: Sequence[str],
    *,
    title: str = "",
    until: int | None = None,
    side: int = 160,
) -> bool:
    """Put the samples of all epochs on one sheet, a line an epoch and a column a prompt.

    Args:
        folder: Where :func:`write_samples` wrote them.
        path: Of the sheet, a PNG.
        prompts: What is said under the images.
        title: A line on top.
        until: The last epoch to show; files of a longer run that was given up may be there.
        side: Of an image on the sheet, in pixels.

    Returns:
        Whether there was anything to draw.
    """
    from ...report.contact_sheet import contact_sheet

    epochs: dict[int, list[tuple[Path, str]]] = {}
    for file in sorted((folder / FOLDER).glob("epoch-*.png")):
        if found := _NAME.fullmatch(file.name):
            epoch, number = int(found.group(1)), int(found.group(2))
            if number < len(prompts) and (until is None or epoch <= until):
                epochs.setdefault(epoch, []).append((file, prompts[number]))
    if not epochs:
        return False
    groups = [
        (f"Epoch {epoch}" if epoch else "Before training", items)
        for epoch, items in sorted(epochs.items())
    ]
    sheet = contact_sheet(groups, title=title, columns=max(3, len(prompts)), side=side)
    with atomic.replacing(path) as temporary:
        sheet.save(temporary, format="PNG")
    return True
