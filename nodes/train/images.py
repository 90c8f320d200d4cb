"""The images of a training: of the character, and of others of its class."""

from __future__ import annotations

import dataclasses
import hashlib
from typing import TYPE_CHECKING, Any

from ...core.counts import how_many, worded
from ...core.errors import CuratorError

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from ...core.training.data.controls import Control
    from ...core.training.data.images import TrainingImages
    from ...core.training.job import LoraJob


class PriorNamesCharacterError(CuratorError):
    """Captions of others of the class have the character's trigger word."""

    def __init__(self, count: int, total: int, trigger: str) -> None:
        super().__init__(
            f"'prior' shall show others, but {count:,} of its {how_many(total, 'caption')} "
            f"{worded(count, 'has', 'have')} the trigger word '{trigger}'. Wire another dataset "
            "than the character's own; empty 'trigger' in the Character Plan that makes it, and "
            "let its captions name the class word alone."
        )


class ReferenceCountError(CuratorError):
    """There are neither as many reference images as training images, nor a single one."""

    def __init__(self, count: int, total: int) -> None:
        super().__init__(
            f"'reference_images' has {how_many(count, 'image')}, and the dataset {total:,} that "
            "can be used: wire one for all, or one for each in the order of the file names; or "
            "name a folder in 'control_images', where they are found by their names."
        )


def with_references(images: TrainingImages, references: Tensor, folder: Path) -> TrainingImages:
    """Give training images their reference images, which are written down as PNG files.

    Args:
        images: What is trained with; others of the class have none.
        references: IMAGE, ``(n, height, width, channels)``: one for all, or one for each in the
            order of the file names.
        folder: Where the files go, each under the hash of its bytes.

    Raises:
        ReferenceCountError: Their number is neither.
    """
    count = len(references)
    if count not in (1, len(images.examples)):
        raise ReferenceCountError(count, len(images.examples))
    controls = [_written(image, folder) for image in references]
    own = controls * len(images.examples) if count == 1 else controls
    examples = tuple(
        dataclasses.replace(example, controls=(control,))
        for example, control in zip(images.examples, own, strict=True)
    )
    return dataclasses.replace(images, examples=examples)


class MaskCountError(CuratorError):
    """There are neither as many masks as training images, nor a single one."""

    def __init__(self, count: int, total: int) -> None:
        super().__init__(
            f"'masks' has {how_many(count, 'mask')}, and the dataset {how_many(total, 'image')} "
            "that can be used: wire one for all, or one for each in the order of the file names; "
            "or say 'beside' in 'mask_files', which takes those that lie beside the images."
        )


def with_masks(images: TrainingImages, masks: Tensor, folder: Path) -> TrainingImages:
    """Give training images their masks, which are written down as PNG files.

    Args:
        images: What is trained with; others of the class have none.
        masks: MASK, ``(n, height, width)``: one for all or one for each in the order of the file
            names. One of another shape than its image is taken for that of the image's middle, as
            batches of images of several shapes show it.
        folder: Where the files go, each under the hash of its pixels.

    Raises:
        MaskCountError: Their number is neither.
        BlackMaskError: One of them is black all over.
    """
    from PIL import Image

    from ...core.hashing import content_hash
    from ...core.reading.masks import of_another_shape, uncovered
    from ...core.training.data.masks import Mask

    count, examples = len(masks), images.examples
    if count not in (1, len(examples)):
        raise MaskCountError(count, len(examples))
    found = []
    for number, example in enumerate(examples):
        values = (255 * masks[number if count > 1 else 0].cpu()).round().clamp(0, 255)
        mask = Image.fromarray(values.byte().numpy(), "L")
        size = (example.size.width, example.size.height)
        if of_another_shape(mask.size, size):
            mask = uncovered(mask, size)
        if mask.getextrema()[1] == 0:
            raise BlackMaskError(example.path.name)
        path = _kept(mask, folder)
        found.append(dataclasses.replace(example, mask=Mask(path, content_hash(path))))
    word = "One mask weighs" if count == 1 else "Masks weigh"
    note = f"{word} the loss of {how_many(len(found), 'image')}."
    return dataclasses.replace(images, examples=tuple(found), notes=(*images.notes, note))


class BlackMaskError(CuratorError):
    """A mask leaves nothing of its image to learn from."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"The mask of {name} is black all over: nothing of that image would count. Mend it, or "
            "leave the image out of the dataset."
        )


def _kept(image: Any, folder: Path) -> Path:
    """Write a PIL image unless it is there; named by its pixels."""
    from ...core import atomic

    digest = hashlib.sha256(f"{image.size}".encode() + image.tobytes()).hexdigest()
    path = folder / f"{digest[:32]}.png"
    if not path.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        with atomic.replacing(path) as temporary:
            image.save(temporary, format="PNG")
    return path


def _written(image: Tensor, folder: Path) -> Control:
    """Write an image unless it is there; named by its pixels."""
    import numpy as np
    from PIL import Image

    from ...core import atomic
    from ...core.training.data.buckets import Size
    from ...core.training.data.controls import Control

    values = (255 * image[..., :3].cpu()).round().clamp(0, 255).numpy().astype(np.uint8)
    digest = hashlib.sha256(f"{values.shape}".encode() + values.tobytes()).hexdigest()
    path = folder / f"{digest[:32]}.png"
    if not path.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        with atomic.replacing(path) as temporary:
            Image.fromarray(values).save(temporary, format="PNG")
    return Control(path, digest, Size(values.shape[1], values.shape[0]))


def checked_images(job: LoraJob) -> TrainingImages:
    """Read what is trained with, and check that others of the class are others.

    Args:
        job: Its dataset, and its prior-preservation images if it has any.

    Raises:
        PriorNamesCharacterError: Captions of the others have the trigger word.
        CuratorError: As ``core.training.read_examples``.
    """
    from ...core.dataset.trigger_words import is_named
    from ...core.training.data.images import read_images

    images = read_images(job)
    trigger = images.facts.trigger
    named = sum(is_named(example.caption, trigger) for example in images.prior)
    if named:
        raise PriorNamesCharacterError(named, len(images.prior), trigger)
    return images
