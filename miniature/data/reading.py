"""Teach the text model to read captions before the U-Net sees an image.

Trained through the U-Net alone, the text model learns within thousands of steps which words occur,
but hardly which colour belongs to which noun, and the images ignore it. Reading every attribute
back from the hidden states, through one attention as the U-Net's cross-attention uses them, teaches
that in a minute.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from character_curator.progress import Progress, silent

from ..captions import attributes, caption
from ..recipe.diffusion import tokens
from ..recipe.muon import Muon
from ..recipe.session import Budget, Session, flushing_denormals
from .prompts import PHRASES
from .renders import draw_parameters, shuffled_caption

if TYPE_CHECKING:
    from transformers import CLIPTextModel, CLIPTokenizer

logger = logging.getLogger(__name__)

VALUES = {attribute: tuple(phrases) for attribute, phrases in PHRASES.items()}
"""Possible values of every attribute, in the order in which they are numbered."""


class Reader(nn.Module):
    """One attention over hidden states, with a learnt question for every attribute."""

    def __init__(self, width: int) -> None:
        """Build the questions and the heads that answer.

        Args:
            width: Of the hidden states.
        """
        super().__init__()
        self.questions = nn.Parameter(torch.randn(len(VALUES), width) * 0.1)
        self.key, self.value = nn.Linear(width, width), nn.Linear(width, width)
        self.heads = nn.ModuleList(nn.Linear(width, len(values)) for values in VALUES.values())

    def forward(self, hidden: Tensor) -> list[Tensor]:
        """Map hidden states (n, length, width) to one (n, values) of logits an attribute."""
        scores = torch.einsum("aw,nlw->nal", self.questions, self.key(hidden))
        seen = torch.softmax(scores * 4 / hidden.shape[-1] ** 0.5, -1) @ self.value(hidden)
        return [head(seen[:, k]) for k, head in enumerate(self.heads)]


def caption_batch(seed: int, start: int, count: int) -> tuple[list[str], Tensor]:
    """Write captions of random portraits, without drawing them.

    Args:
        seed: Of the whole set.
        start: Number of the first portrait.
        count: How many.

    Returns:
        The captions, phrases shuffled, and the numbers of their attributes (count, attributes).
    """
    texts, numbers = [], []
    for index in range(start, start + count):
        identity, scene, rng = draw_parameters(seed, index)
        texts.append(shuffled_caption([caption(identity, scene, rng)], rng, drop=0.05))
        shown = attributes(identity, scene)
        numbers.append([values.index(shown[name]) for name, values in VALUES.items()])
    return texts, torch.from_numpy(np.array(numbers))


@flushing_denormals()
def teach_reading(
    text_encoder: CLIPTextModel,
    tokenizer: CLIPTokenizer,
    checkpoint: Path,
    *,
    budget: Budget,
    seed: int = 0,
    batch: int = 32,
    resume: bool = True,
    progress: Progress = silent,
) -> dict[str, float]:
    """Train a text model until its hidden states say what a caption says.

    Args:
        text_encoder: Changed in place; ends in training mode.
        tokenizer: Of its vocabulary.
        checkpoint: File of the run's state.
        budget: How long.
        seed: Of the questions and the captions.
        batch: Captions in a step.
        resume: Continue from the checkpoint where there is one.
        progress: Told of every hundredth of the budget.

    Returns:
        Share of captions, of the last steps, from which each attribute is read rightly. It stays
        below one where a caption does not say it.
    """
    torch.manual_seed(seed)
    reader = Reader(text_encoder.config.hidden_size)
    modules: dict[str, nn.Module] = {"text_encoder": text_encoder.train(), "reader": reader}
    session = Session(
        modules,
        Muon(list(modules.values()), lr=5e-3, adam_lr=2e-3),
        checkpoint=checkpoint,
        budget=budget,
        seed=seed,
        ema_decay=0.98,
        resume=resume,
    )
    progress.start("teach the text model to read", 100)
    told, right = 0, np.zeros(len(VALUES))
    with session:
        while session.running():
            texts, numbers = caption_batch(seed, session.step * batch, batch)
            answers = reader(text_encoder(tokens(tokenizer, texts)).last_hidden_state)
            losses = [F.cross_entropy(answer, numbers[:, k]) for k, answer in enumerate(answers)]
            session.apply(torch.stack(losses).sum())
            found = torch.stack([answer.argmax(1) for answer in answers], 1) == numbers
            right += (found.float().mean(0).numpy() - right) * max(0.05, 1 / session.step)
            if session.step % 50 == 0:
                logger.info(
                    "reading step %d, %.0f s: %s",
                    session.step,
                    session.elapsed,
                    ", ".join(f"{k} {v:.2f}" for k, v in zip(VALUES, right, strict=True)),
                )
            while told < int(100 * session.share):
                told += 1
                progress.advance()
    session.average.copy_to(modules)
    progress.finish()
    return dict(zip(VALUES, right.tolist(), strict=True))
