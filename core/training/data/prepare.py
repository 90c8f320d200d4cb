"""A dataset made ready for the loop: crops chosen, images held out, everything encoded."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from ...analysis.decoding import Pixels
from ...counts import how_many, worded
from ...progress import Progress, silent
from ..denoisers.protocol import Denoiser, TextEmbeddings
from ..settings import SettingsError, TrainingSettings
from .cache import EncodedFeatures, Item
from .examples import Example, Skipped, TooFewImagesError
from .masks import MaskWeights
from .order import Batch, epoch_batches, hold_out, steps_in

NO_CAPTION = ""
"""What a dropped caption is replaced by: the caption of unconditional guidance."""


@dataclass(frozen=True)
class TrainingData:
    """What the loop sees.

    Attributes:
        items: Images to train on, prior-preservation ones included, with their crops.
        validation: Held-out images.
        skipped: What could not be read.
        latents: Gives the latents of items of one size.
        text: Gives the embeddings of captions, each with its item's control images; with gradients
            where text encoders are trained.
        masks: Gives the share of each latent cell that counts, for items of one size.
    """

    items: tuple[Item, ...]
    validation: tuple[Item, ...]
    skipped: tuple[Skipped, ...]
    latents: Callable[[Sequence[Item]], Tensor]
    text: Callable[[Sequence[str], Sequence[Item]], TextEmbeddings]
    masks: Callable[[Sequence[Item], tuple[int, int]], Tensor | None] = field(
        default_factory=MaskWeights
    )

    def steps(self, epoch: int, settings: TrainingSettings) -> list[list[Batch]]:
        """Return the batches of every optimizer step of an epoch (from 1)."""
        batches = epoch_batches(
            [_place(item, settings) for item in self.items],
            [crop.size for _, crop in self.items],
            [example.prior for example, _ in self.items],
            seed=settings.seed,
            epoch=epoch,
            batch_size=settings.batch_size,
            repeats=[settings.repeats * example.repeats for example, _ in self.items],
        )
        return steps_in(batches, settings.accumulation)

    def resolutions(self, settings: TrainingSettings) -> str:
        """Say how many images are trained at each of several resolutions; nothing for one."""
        if not settings.resolutions:
            return ""
        images = list(dict.fromkeys(example for example, _ in self.items))
        sides = settings.sides
        counts = dict.fromkeys(sides, 0)
        for example in images:
            own = {example.crop_at(side, settings): side for side in reversed(sides)}
            for side in own.values():
                counts[side] += 1
        said = ", ".join(f"{count} at {side}" for side, count in counts.items())
        small = sum(len(example.crops(settings)) < len(sides) for example in images)
        end = (
            f" {small:,} {worded(small, 'is', 'are')} too small for all of them and "
            f"{worded(small, 'was', 'were')} not enlarged."
            if small
            else ""
        )
        return f"Resolutions: of {how_many(len(images), 'image')}, {said}.{end}"


def _place(item: Item, settings: TrainingSettings) -> str:
    """Return what an item's place in an epoch is drawn by: its content, and of several its size."""
    example, crop = item
    return f"{example.hash} {crop.size}" if settings.resolutions else example.hash


def prepare(
    denoiser: Denoiser,
    examples: Sequence[Example],
    settings: TrainingSettings,
    features: EncodedFeatures,
    *,
    validation: Sequence[Example] | None = None,
    decoded: Mapping[str, Pixels] | None = None,
    progress: Progress = silent,
) -> TrainingData:
    """Split and encode examples.

    Args:
        denoiser: The model.
        examples: Images of the subject and prior-preservation images.
        settings: Buckets, crops and the share that is held out.
        features: Where encoded values are.
        validation: Images to validate with instead of a share of the examples; what has the
            bytes of one of them is not trained on.
        decoded: Pixels of examples, by their hash, where they have been decoded already.
        progress: Told of every image.

    Raises:
        SettingsError: The model cannot take images of the buckets' sizes; or text encoders are to
            be trained with control images.
        TooFewImagesError: Too little is left to train on or to validate with.
    """
    if settings.bucket_step % denoiser.pixel_step:
        raise SettingsError(
            f"bucket_step is {settings.bucket_step}: this model needs a multiple of "
            f"{denoiser.pixel_step}."
        )
    items = _items(examples, settings)
    others = _items(validation or (), settings)
    skipped = list(dict.fromkeys(features.add_images([*items, *others], progress, decoded)))
    unreadable = {s.path for s in skipped}
    usable = [item for item in items if item[0].path not in unreadable]
    if validation is None:
        subject = [item for item in usable if not item[0].prior]
        chosen = hold_out([item[0].hash for item in subject], settings.validation_share)
        held_out = [subject[i] for i in sorted(chosen)]
    else:
        held_out = [item for item in others if item[0].path not in unreadable]
    digests = {example.hash for example, _ in held_out}
    trained = [item for item in usable if item[0].hash not in digests]
    wants_validation = settings.validation_share > 0 or validation is not None
    subjects = len({example.path for example, _ in trained if not example.prior})
    if not subjects or (wants_validation and not held_out):
        count = subjects
        if validation is None:
            count += len({example.path for example, _ in held_out})
        raise TooFewImagesError(count, 2 if wants_validation else 1, skipped)
    text = _encoded_text(features, trained, held_out, settings, progress)
    if settings.train_text_encoder:
        text = _text_with_gradients(denoiser, [*trained, *held_out])
    return TrainingData(tuple(trained), tuple(held_out), tuple(skipped), features.latents, text)


def _items(examples: Sequence[Example], settings: TrainingSettings) -> list[Item]:
    return [(example, crop) for example in examples for crop in example.crops(settings)]


def _encoded_text(
    features: EncodedFeatures,
    trained: Sequence[Item],
    held_out: Sequence[Item],
    settings: TrainingSettings,
    progress: Progress,
) -> Callable[[Sequence[str], Sequence[Item]], TextEmbeddings]:
    """Encode every caption that a step may ask for."""
    if settings.train_text_encoder:
        return features.text
    items = [*trained, *held_out]
    captions = {example.caption for example, _ in items if not example.controls}
    edits = [(item[0].caption, item) for item in items if item[0].controls]
    if settings.caption_dropout:
        captions.add(NO_CAPTION)
        edits += [(NO_CAPTION, item) for item in trained if item[0].controls]
    features.add_captions(sorted(captions), progress)
    features.add_edits(edits, progress)
    return features.text


def _text_with_gradients(
    denoiser: Denoiser, items: Sequence[Item]
) -> Callable[[Sequence[str], Sequence[Item]], TextEmbeddings]:
    """Return what encodes captions in every step.

    Raises:
        SettingsError: There are control images, which are encoded once, with their captions.
    """
    if any(example.controls for example, _ in items):
        raise SettingsError(
            "train_text_encoder does not go with control images: the captions of an edit model are "
            "encoded once, with their images. Switch train_text_encoder off."
        )
    return lambda captions, _: denoiser.encode_text(captions)
