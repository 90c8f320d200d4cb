"""The miniature's open_clip model: images and words in one space.

It is trained with CLIP's contrastive loss (Radford et al., 2021) on drawn portraits and their
captions, and with the same loss over short prompts, one attribute at a time, because that is how
images are sorted without examples. The architecture is open_clip's own ``CLIP`` class with a
custom configuration, so ``open_clip.create_model_and_transforms("local-dir:...")`` loads it.
"""

from __future__ import annotations

import json
import logging
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from character_curator.atomic import write_bytes, write_text
from character_curator.progress import Progress, silent

from .. import vocabulary
from ..data.augment import Degradation, degrade
from ..data.faces import DrawnSet, batches
from ..data.prompts import PHRASES, random_prompts
from ..data.renders import shuffled_caption
from .muon import Muon
from .session import Budget, Session, flushing_denormals
from .tokenizer import POSITIONS, read_tokenizer, write_tokenizer

if TYPE_CHECKING:
    from open_clip.model import CLIP

logger = logging.getLogger(__name__)

IMAGE_SIZE = 96
EARLY_SIZE = 64
"""Edge of the images at first: colours and places are learnt twice faster on small ones."""
_EARLY_SHARE = 0.5
_EMPHASIS = {"pose": 3.0, "outfit": 2.0, "light": 2.0, "hair_style": 2.0}
"""Weights of what is hard to see."""
_ODDS = Degradation(blur=0.3, resample=0.3, noise=0.2, jpeg=0.2, color=0.0)
_MEAN = _DEVIATION = 0.5


def configuration(tokens: int) -> dict[str, Any]:
    """Describe the architecture as open_clip's configuration files do.

    Args:
        tokens: Size of the tokenizer's vocabulary.

    Returns:
        The content of ``open_clip_config.json``.
    """
    return {
        "model_cfg": {
            "embed_dim": 128,
            "vision_cfg": {
                "image_size": IMAGE_SIZE,
                "layers": [1, 1, 1, 1],
                "width": 16,
                "head_width": 64,
            },
            "text_cfg": {
                "context_length": POSITIONS,
                "vocab_size": tokens,
                "width": 96,
                "heads": 3,
                "layers": 2,
                # open_clip then reads the tokenizer from the model's own folder.
                "hf_tokenizer_name": "miniature",
            },
        },
        "preprocess_cfg": {
            "mean": [_MEAN] * 3,
            "std": [_DEVIATION] * 3,
            "interpolation": "bicubic",
            "resize_mode": "shortest",
        },
    }


def build_clip(tokens: int) -> CLIP:
    """Make an untrained model.

    Args:
        tokens: Size of the tokenizer's vocabulary.

    Returns:
        The model in training mode.
    """
    from open_clip.model import CLIP

    return CLIP(**configuration(tokens)["model_cfg"])


def write_clip(model: CLIP, folder: Path) -> None:
    """Write a folder that open_clip loads as "local-dir:<folder>", wherever it is moved.

    Args:
        model: The trained model.
        folder: Where configuration, half-precision weights and tokenizer go.
    """
    from safetensors.torch import save

    write_tokenizer(folder, vocabulary.WORDS)
    state = {
        name: (tensor.half() if tensor.is_floating_point() else tensor).contiguous()
        for name, tensor in model.state_dict().items()
    }
    weights = save(state, metadata={"format": "pt"})
    write_bytes(folder / "open_clip_model.safetensors", weights)
    content = configuration(model.vocab_size)
    write_text(folder / "open_clip_config.json", json.dumps(content, indent=2) + "\n")


def encode_texts(model: CLIP, tokens: Tensor) -> Tensor:
    """Embed texts without computing the positions that no text reaches.

    The causal mask keeps later positions from earlier ones, so the result is that of
    ``model.encode_text`` on the padded texts.

    Args:
        model: The model.
        tokens: (n, length), length up to the model's context.

    Returns:
        (n, 128), of length one.
    """
    length = tokens.shape[1]
    x = model.token_embedding(tokens) + model.positional_embedding[:length]
    x = model.transformer(x, attn_mask=model.attn_mask[:length, :length])  # type: ignore[index]
    x = model.ln_final(x)[torch.arange(len(tokens)), tokens.argmax(-1)]
    return F.normalize(x @ model.text_projection, dim=-1)  # type: ignore[operator]


def network_input(images: NDArray[np.uint8]) -> Tensor:
    """Scale uint8 (n, size, size, 3) in RGB to the model's (n, 3, size, size)."""
    scaled = (torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255 - _MEAN) / _DEVIATION
    return scaled.contiguous(memory_format=torch.channels_last)


def embed_images(model: CLIP, x: Tensor) -> Tensor:
    """Embed images of any size that is a multiple of 32.

    The network is convolutional but for the table of positions in its last layer; that is
    interpolated where the size is not the model's own.

    Args:
        model: The model.
        x: (n, 3, size, size) from ``network_input``.

    Returns:
        (n, 128), of length one.
    """
    name = "attnpool.positional_embedding"
    table = model.visual.get_parameter(name)
    own, grid = round(math.sqrt(len(table) - 1)), x.shape[-1] // 32
    if own == grid:
        return F.normalize(model.visual(x), dim=-1)
    cells = table[1:].T.reshape(1, -1, own, own)
    cells = F.interpolate(cells, (grid, grid), mode="bilinear", align_corners=False)
    resized = torch.cat([table[:1], cells.reshape(table.shape[1], -1).T])
    return F.normalize(torch.func.functional_call(model.visual, {name: resized}, (x,)), dim=-1)


def view(
    image: NDArray[np.uint8], rng: np.random.Generator, size: int = IMAGE_SIZE
) -> NDArray[np.uint8]:
    """Make one training image: mirrored and moved a little, degraded, brought to a size."""
    if rng.random() < 0.5:
        image = np.ascontiguousarray(image[:, ::-1])
    shift = rng.uniform(-4, 4, 2)
    matrix = np.array([[1, 0, shift[0]], [0, 1, shift[1]]])
    edge = image.shape[0]
    image = cv2.warpAffine(image, matrix, (edge, edge), borderMode=cv2.BORDER_REPLICATE).astype(
        np.uint8
    )
    image = degrade(image, rng, _ODDS)
    return cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA).astype(np.uint8)


def _classes(drawn: DrawnSet) -> dict[str, Tensor]:
    """Number the values of every attribute of every image, in the order of the prompts."""
    numbers = {
        attribute: {value: number for number, value in enumerate(values)}
        for attribute, values in PHRASES.items()
    }
    return {
        attribute: torch.tensor([known[shown[attribute]] for shown in drawn.attributes])
        for attribute, known in numbers.items()
    }


@flushing_denormals()
def train_clip(
    drawn: DrawnSet,
    checkpoint: Path,
    *,
    budget: Budget,
    seed: int = 0,
    batch_size: int = 96,
    resume: bool = True,
    progress: Progress = silent,
) -> CLIP:
    """Train the model; an interrupted run continues from its checkpoint.

    Args:
        drawn: Portraits only, with attributes and captions.
        checkpoint: File of the run's state; the tokenizer is written beside it.
        budget: How long to train in all.
        seed: Of the weights, the order, the captions and the augmentation.
        batch_size: Images in a step.
        resume: Continue from the checkpoint where there is one.
        progress: Told of every hundredth of the budget.

    Returns:
        The trained model, averaged over its last steps, in evaluation mode.
    """
    torch.manual_seed(seed)
    tokenizer = read_tokenizer(write_tokenizer(checkpoint.parent, vocabulary.WORDS))
    model = build_clip(len(tokenizer)).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    session = Session(
        {"model": model},
        Muon(model, lr=0.01, adam_lr=2e-3),
        checkpoint=checkpoint,
        budget=budget,
        seed=seed,
        ema_decay=0.995,
        resume=resume,
    )

    def tokens(texts: list[str]) -> Tensor:
        return tokenizer(
            texts, return_tensors="pt", padding=True, truncation=True, max_length=POSITIONS
        ).input_ids

    classes = _classes(drawn)
    order = batches(len(drawn), batch_size, np.random.default_rng(seed), skip=session.step)
    progress.start("train the open_clip model", 100)
    told, running = 0, np.zeros(2)
    model.train()
    while session.running():
        rng = np.random.default_rng([seed, session.step])
        indices = next(order)
        size = EARLY_SIZE if session.share < _EARLY_SHARE else IMAGE_SIZE
        images = np.stack([view(drawn.images[i], rng, size) for i in indices])
        drop = float(rng.uniform(0, 0.6))
        captions = [shuffled_caption(drawn.captions[i], rng, drop) for i in indices]
        prompts = random_prompts(rng)
        seen = embed_images(model, network_input(images))
        scale = model.logit_scale.clamp(max=math.log(60)).exp()
        said = encode_texts(model, tokens(captions))
        logits = scale * seen @ said.T
        own = torch.arange(len(indices))
        matching = (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2
        asked = encode_texts(model, tokens([text for group in prompts.values() for text in group]))
        answers = (scale * seen @ asked.T).split([len(group) for group in prompts.values()], -1)
        sorting = torch.stack(
            [
                _EMPHASIS.get(attribute, 1.0) * F.cross_entropy(answer, classes[attribute][indices])
                for attribute, answer in zip(prompts, answers, strict=True)
            ]
        ).mean()
        session.apply(0.3 * matching + 2 * sorting)
        now = np.array([float(matching.detach()), float(sorting.detach())])
        running += (now - running) * max(0.02, 1 / session.step)
        if session.step % 100 == 0:
            logger.info(
                "open_clip step %d, %.0f s, matching %.3f, sorting %.3f, scale %.1f",
                session.step,
                session.elapsed,
                *running,
                float(scale.detach()),
            )
        if int(session.share * 100) > told:
            progress.advance(int(session.share * 100) - told, f"loss {running[1]:.3f}")
            told = int(session.share * 100)
    session.save()
    session.average.copy_to({"model": model})
    progress.finish()
    return model.eval()
