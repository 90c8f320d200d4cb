"""The miniature's text-to-image model: a U-Net and a CLIP text model, trained together."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from character_curator.progress import Progress, silent

from ..data.latents import LatentBatch, LatentStream
from .muon import Muon
from .session import Budget, Session, flushing_denormals
from .tokenizer import POSITIONS, read_tokenizer

if TYPE_CHECKING:
    from diffusers import DDIMScheduler, UNet2DConditionModel
    from transformers import CLIPTextModel, CLIPTokenizer

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class DiffusionRecipe:
    """Shape of the two networks and how they are trained.

    The U-Net has the layout of Stable Diffusion 1.x: channels are multiples of 32, ``heads`` is the
    number of attention heads in every block, projections are convolutions.
    """

    channels: tuple[int, ...] = (64, 128, 128)
    layers: int = 1
    heads: int = 4
    text_width: int = 128
    text_layers: int = 2
    text_heads: int = 4
    lr: float = 1e-3
    batch: int = 32
    caption_dropout: float = 0.1
    """Share of empty captions, for guidance without a classifier."""
    phrase_dropout: float = 0.15
    snr_cap: float = 5.0
    """Of min-SNR weighting (Hang et al. 2023, arXiv 2303.09556)."""
    face_share: float = 0.5
    """Share of an image's loss that its face carries, however small it is drawn."""
    ema_decay: float = 0.998


def build_unet(recipe: DiffusionRecipe | None = None, size: int = 16) -> UNet2DConditionModel:
    """Build the untrained U-Net.

    Args:
        recipe: Its shape.
        size: Edge of the latents.

    Returns:
        A ``UNet2DConditionModel`` with cross-attention at every resolution.
    """
    from diffusers import UNet2DConditionModel

    recipe = recipe or DiffusionRecipe()
    depth = len(recipe.channels)
    unet = UNet2DConditionModel(
        sample_size=size,
        block_out_channels=recipe.channels,
        layers_per_block=recipe.layers,
        down_block_types=("CrossAttnDownBlock2D",) * depth,
        up_block_types=("CrossAttnUpBlock2D",) * depth,
        cross_attention_dim=recipe.text_width,
        attention_head_dim=recipe.heads,
        norm_num_groups=32,
    )
    return unet.to(memory_format=torch.channels_last)


def build_text_encoder(
    tokenizer: CLIPTokenizer, recipe: DiffusionRecipe | None = None
) -> CLIPTextModel:
    """Build the untrained text model for a tokenizer.

    Args:
        tokenizer: Gives the number of tokens and the special ones.
        recipe: Its shape.

    Returns:
        A ``CLIPTextModel`` whose last hidden state, normalised, conditions the U-Net.
    """
    from transformers import CLIPTextConfig, CLIPTextModel

    recipe = recipe or DiffusionRecipe()
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=recipe.text_width,
            intermediate_size=4 * recipe.text_width,
            projection_dim=recipe.text_width,
            num_hidden_layers=recipe.text_layers,
            num_attention_heads=recipe.text_heads,
            max_position_embeddings=POSITIONS,
            hidden_act="quick_gelu",
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def build_scheduler() -> DDIMScheduler:
    """Build the noise schedule of Stable Diffusion 1.x."""
    from diffusers import DDIMScheduler

    return DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
    )


def tokens(tokenizer: CLIPTokenizer, captions: list[str]) -> Tensor:
    """Turn captions into int64 token numbers (n, ``POSITIONS``), padded and cut."""
    return tokenizer(
        captions,
        padding="max_length",
        truncation=True,
        max_length=POSITIONS,
        return_tensors="pt",
    ).input_ids


def stratified_timesteps(count: int, total: int, generator: torch.Generator) -> Tensor:
    """Draw timesteps that cover the whole range evenly within one batch.

    Args:
        count: How many.
        total: Timesteps there are.
        generator: Source of randomness.

    Returns:
        int64 (count,) in random order: one from each of ``count`` equal intervals.
    """
    slots = torch.randperm(count, generator=generator) + torch.rand(count, generator=generator)
    return (slots / count * total).long().clamp(max=total - 1)


def face_weights(faces: Tensor, share: float) -> Tensor:
    """Weight the cells of every image so that its face carries a given share of the loss.

    A face of a half-body portrait covers 4 % of the image; unweighted, its eyes and mouth are
    learnt last.

    Args:
        faces: Share of each cell that is face (n, 1, h, w).
        share: From 0 to 1. A face that covers more than this keeps its own share.

    Returns:
        Weights (n, 1, h, w) with a mean of one in every image.
    """
    covered = faces.mean((1, 2, 3), keepdim=True)
    wanted = covered.clamp(min=share)
    inside = wanted / covered.clamp(min=1e-6)
    outside = (1 - wanted) / (1 - covered).clamp(min=1e-6)
    weights = faces * inside + (1 - faces) * outside
    return torch.where(covered > 0, weights, torch.ones_like(weights))


def denoising_loss(
    unet: UNet2DConditionModel,
    text_encoder: CLIPTextModel,
    batch: LatentBatch,
    token_numbers: Tensor,
    alphas: Tensor,
    generator: torch.Generator,
    recipe: DiffusionRecipe,
) -> Tensor:
    """Mean squared error of the predicted noise, weighted by min-SNR and towards the face.

    Args:
        unet: Predicts the noise.
        text_encoder: Encodes the captions.
        batch: Scaled latents (n, 4, h, w) and where the faces are.
        token_numbers: Captions (n, ``POSITIONS``).
        alphas: Cumulative products of the noise schedule.
        generator: Draws noise and timesteps.
        recipe: Gives the cap of the signal-to-noise ratio and the face's share.

    Returns:
        The scalar loss.
    """
    latents = batch.latents
    noise = torch.randn(latents.shape, generator=generator)
    timesteps = stratified_timesteps(len(latents), len(alphas), generator)
    signal = alphas[timesteps][:, None, None, None]
    noisy = signal.sqrt() * latents + (1 - signal).sqrt() * noise
    noisy = noisy.contiguous(memory_format=torch.channels_last)
    text = text_encoder(token_numbers).last_hidden_state
    predicted = unet(noisy, timesteps, encoder_hidden_states=text).sample
    ratio = (signal / (1 - signal)).flatten()
    weights = ratio.clamp(max=recipe.snr_cap) / ratio
    errors = (predicted - noise).square() * face_weights(batch.faces, recipe.face_share)
    return (errors.mean((1, 2, 3)) * weights).mean()


@dataclass(frozen=True)
class DiffusionModel:
    """The trained parts that a pipeline needs beside the autoencoder."""

    unet: UNet2DConditionModel
    text_encoder: CLIPTextModel
    tokenizer: CLIPTokenizer


def build_model(tokenizer_folder: Path, recipe: DiffusionRecipe | None = None) -> DiffusionModel:
    """Build both networks, untrained, for the tokenizer in a folder."""
    tokenizer = read_tokenizer(tokenizer_folder)
    return DiffusionModel(build_unet(recipe), build_text_encoder(tokenizer, recipe), tokenizer)


@flushing_denormals()
def train_diffusion(
    data: Path,
    out: Path,
    tokenizer_folder: Path,
    *,
    budget: Budget,
    seed: int = 0,
    recipe: DiffusionRecipe | None = None,
    start_from: DiffusionModel | None = None,
    resume: bool = True,
    progress: Progress = silent,
    log_every: int = 50,
) -> DiffusionModel:
    """Train the U-Net and the text model on encoded portraits.

    Args:
        data: Folder of latent shards from ``latents.encode_shards``; may grow while this runs.
        out: Folder of the run; its checkpoint lies in ``diffusion-state.pt``.
        tokenizer_folder: Files of the tokenizer.
        budget: How long.
        seed: Of weights, batches, captions and noise.
        recipe: Shape and training settings.
        start_from: Networks to begin with, such as a text model that can read already.
        resume: Continue from the checkpoint.
        progress: Told of every hundredth of the budget.
        log_every: Steps between log lines.

    Returns:
        The networks with averaged weights, in evaluation mode.
    """
    recipe = recipe or DiffusionRecipe()
    torch.manual_seed(seed)
    model = start_from or build_model(tokenizer_folder, recipe)
    modules = {"unet": model.unet.train(), "text_encoder": model.text_encoder.train()}
    stream = LatentStream(data)
    alphas = build_scheduler().alphas_cumprod
    session = Session(
        modules,
        Muon(list(modules.values()), recipe.lr),
        checkpoint=out / "diffusion-state.pt",
        budget=budget,
        seed=seed,
        ema_decay=recipe.ema_decay,
        resume=resume,
    )
    progress.start("train the text-to-image model", 100)
    told, recent = 0, 0.0
    with session:
        while session.running():
            generator = session.generator()
            batch = stream.batch(
                recipe.batch, generator, recipe.phrase_dropout, recipe.caption_dropout
            )
            loss = denoising_loss(
                model.unet,
                model.text_encoder,
                batch,
                tokens(model.tokenizer, batch.captions),
                alphas,
                generator,
                recipe,
            )
            session.apply(loss)
            recent += float(loss.detach())
            if session.step % log_every == 0:
                logger.info(
                    "diffusion step %d, %.0f s, %d latents, loss %.4f",
                    session.step,
                    session.elapsed,
                    stream.refresh(),
                    recent / log_every,
                )
                recent = 0.0
            while told < int(100 * session.share):
                told += 1
                progress.advance()
    session.average.copy_to(modules)
    for module in modules.values():
        module.eval().requires_grad_(False)
    progress.finish()
    return model
