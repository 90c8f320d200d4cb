"""Quality of the open_clip model, measured on renders it has not seen, through open_clip itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..data.faces import draw_people
from ..data.prompts import PHRASES
from .faces import UNSEEN_SEED

NAMED = ("hair", "outfit", "background", "pose", "light")
"""The attributes whose mean accuracy is the model's figure."""


@dataclass(frozen=True)
class ClipModel:
    """A loaded open_clip model with what belongs to it."""

    model: Any
    preprocess: Any
    tokenizer: Any

    def embed_images(
        self, images: Sequence[NDArray[np.uint8]], batch_size: int = 64
    ) -> NDArray[np.float32]:
        """Embed RGB images: (n, d), each row of length one."""
        import torch
        from PIL import Image

        rows = []
        for start in range(0, len(images), batch_size):
            batch = torch.stack(
                [
                    self.preprocess(Image.fromarray(image))
                    for image in images[start : start + batch_size]
                ]
            )
            with torch.inference_mode():
                rows.append(self.model.encode_image(batch, normalize=True).float().numpy())
        return np.concatenate(rows)

    def embed_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embed texts: (n, d), each row of length one."""
        import torch

        with torch.inference_mode():
            tokens = self.tokenizer(list(texts))
            return self.model.encode_text(tokens, normalize=True).float().numpy()


def load_clip(folder: Path) -> ClipModel:
    """Load a model folder as any local open_clip model is loaded.

    Args:
        folder: With configuration, weights and tokenizer.

    Returns:
        The model in evaluation mode on the CPU.
    """
    import open_clip

    name = f"local-dir:{folder}"
    model, _, preprocess = open_clip.create_model_and_transforms(name)
    return ClipModel(model.eval(), preprocess, open_clip.get_tokenizer(name))


def classify(
    clip: ClipModel, embeddings: NDArray[np.float32], attribute: str, template: str = "{}"
) -> list[str]:
    """Say which value of an attribute each image shows, judged by short prompts alone.

    Args:
        clip: The model.
        embeddings: (n, d) of the images.
        attribute: One of the attributes that captions tell.
        template: How to ask.

    Returns:
        For each image the value whose phrases, averaged, lie nearest.
    """
    values = PHRASES[attribute]
    centres = np.stack(
        [
            clip.embed_texts([template.format(phrase) for phrase in phrases]).mean(0)
            for phrases in values.values()
        ]
    )
    centres /= np.linalg.norm(centres, axis=1, keepdims=True)
    names = list(values)
    return [names[k] for k in (embeddings @ centres.T).argmax(1)]


def zero_shot_accuracy(
    folder: Path, *, count: int = 400, template: str = "{}", seed: int = UNSEEN_SEED + 2
) -> dict[str, float]:
    """Measure how often the model names an attribute of an unseen render rightly.

    Args:
        folder: Of the model.
        count: How many renders, all of different people.
        template: How to ask.
        seed: Of the renders.

    Returns:
        Accuracy by attribute, and under "mean" that over ``NAMED``.
    """
    clip = load_clip(folder)
    drawn = draw_people(seed, 0, count, scenes=1)
    embeddings = clip.embed_images(list(drawn.images))
    accuracy = {}
    for attribute in PHRASES:
        guesses = classify(clip, embeddings, attribute, template)
        truth = [shown[attribute] for shown in drawn.attributes]
        accuracy[attribute] = float(np.mean([g == t for g, t in zip(guesses, truth, strict=True)]))
    accuracy["mean"] = float(np.mean([accuracy[attribute] for attribute in NAMED]))
    return accuracy
