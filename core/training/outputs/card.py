"""The card of a finished training: everything that its LoRA file says of itself."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from ...dataset.facts import DatasetFacts
from ...lora.families import recognised
from ...lora.header import LoraCard
from ..data.examples import Example
from ..denoisers.protocol import Denoiser
from ..result import TrainingResult
from ..settings import TrainingSettings

THUMBNAIL = 256


def lora_card(
    denoiser: Denoiser,
    settings: TrainingSettings,
    examples: Sequence[Example],
    facts: DatasetFacts,
    result: TrainingResult,
    *,
    title: str,
    base_model: str = "",
    thumbnail: bytes = b"",
    epoch: int | None = None,
    targets: tuple[str, ...] = (),
    says: Mapping[str, str] | None = None,
    continued_from: Mapping[str, str] | None = None,
) -> LoraCard:
    """Put together what a LoRA file says of itself.

    Args:
        denoiser: What was trained.
        settings: How.
        examples: What it was trained with, held-out images included.
        facts: What the dataset says of itself.
        result: What came of it.
        title: Name of the LoRA.
        base_model: Name of the frozen model.
        thumbnail: A small image, its file's bytes.
        epoch: Of the weights; the best one's unless given.
        targets: Ends of the names of the layers that carry adapters.
        says: What the base model is called, by where, as for :func:`.families.recognised`.
        continued_from: The file that the training went on from, ``file`` and ``sha256``.
    """
    family = recognised(denoiser.architecture, says).family
    held_out = set(result.held_out)
    trained = [example for example in examples if example.hash not in held_out]
    buckets = Counter(crop.size for example in trained for crop in example.crops(settings))
    largest = max(buckets, key=lambda size: (buckets[size], str(size)))
    kept = result.best_epoch if epoch is None else epoch
    row = result.history.filter(result.history["epoch"] == kept).to_dicts()[0]
    return LoraCard(
        title=title,
        architecture=family.architecture if family is not None else denoiser.architecture,
        version=settings.base_model_version or (family.version if family is not None else ""),
        targets=targets,
        prediction=denoiser.prediction,
        resolution=(largest.width, largest.height),
        trigger_phrase=facts.trigger,
        usage_hint=f"Use the word '{facts.trigger}' in the prompt." if facts.trigger else "",
        license=facts.license,
        tags=("character",),
        thumbnail=thumbnail,
        base_model=base_model,
        base_model_fingerprint=denoiser.identity,
        dataset=facts.folder,
        dataset_fingerprint=facts.fingerprint,
        dataset_version=_version(facts),
        images=len(trained),
        tag_frequency=facts.captions or {},
        generation=[
            {**entry, "held_out": True} if entry["hash"] in held_out else entry
            for entry in facts.generation
        ],
        buckets={(size.width, size.height): count for size, count in buckets.items()},
        steps=row["step"],
        epochs=kept,
        seed=settings.seed,
        settings=settings.recorded(),
        validation_loss=row["validation_loss"],
        comment=_comment(result, row),
        continued_from=continued_from or {},
    )


def _version(facts: DatasetFacts) -> dict[str, Any]:
    """Return which version of its dataset a LoRA was trained on; nothing of any other folder."""
    if facts.version is None:
        return {}
    values = asdict(facts.version)
    return values if facts.version.altered else {k: v for k, v in values.items() if k != "altered"}


def jpeg_thumbnail(pixels: Any, side: int = THUMBNAIL) -> bytes:
    """Return an image (uint8 RGB array) as a small JPEG, its longer side ``side`` at most."""
    from PIL import Image

    image = Image.fromarray(pixels)
    image.thumbnail((side, side), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, format="JPEG", quality=85)
    return buffer.getvalue()


def _comment(result: TrainingResult, row: Mapping[str, Any]) -> str:
    loss = row["validation_loss"]
    parts = [f"epoch {row['epoch']} of {result.history['epoch'].to_list()[-1]}"]
    if loss is not None:
        parts.append(f"validation loss {loss:.4f}")
    if result.convergence_epoch is not None:
        parts.append(f"converged at epoch {result.convergence_epoch}")
    return ", ".join(parts)
