"""The miniature's autoencoder: 128x128 images to 4x16x16 latents and back."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from character_curator.progress import Progress, silent

from ..data.stream import ImageStream
from .critic import PatchCritic, critic_loss, decoder_loss
from .muon import Muon
from .session import Budget, Session, flushing_denormals

if TYPE_CHECKING:
    from diffusers import AutoencoderKL

logger = logging.getLogger(__name__)

SCALING_FACTOR = 0.18215
"""Of Stable Diffusion 1.x; the trained latents are normalised so that it holds here too."""


@dataclass(frozen=True)
class VaeRecipe:
    """Shape of the autoencoder and how it is trained."""

    channels: tuple[int, ...] = (16, 32, 64, 128)
    groups: int = 8
    lr: float = 1e-3
    batch: int = 16
    crop: int = 64
    whole_share: float = 0.15
    """Last share of the budget, in which whole images are trained instead of crops."""
    face_share: float = 0.6
    """Share of crops that are centred on the face."""
    face_emphasis: float = 2.0
    """Factor on the errors inside the face box."""
    kl_weight: float = 1e-6
    gradient_weight: float = 0.5
    color_weight: float = 0.5
    """Of ``unexplained_color``: without it, fine texture crowds a whole axis of colour out."""
    critic_weight: float = 0.1
    """Of the critic's judgement, where there is a critic."""
    ema_decay: float = 0.998


def build_vae(recipe: VaeRecipe | None = None, size: int = 128) -> AutoencoderKL:
    """Build the untrained autoencoder.

    Args:
        recipe: Its shape.
        size: Edge of the images, in pixels.

    Returns:
        An ``AutoencoderKL`` that halves the edge three times and has 4 latent channels.
    """
    from diffusers import AutoencoderKL

    recipe = recipe or VaeRecipe()
    depth = len(recipe.channels)
    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * depth,
        up_block_types=("UpDecoderBlock2D",) * depth,
        block_out_channels=recipe.channels,
        layers_per_block=1,
        norm_num_groups=recipe.groups,
        latent_channels=4,
        sample_size=size,
        scaling_factor=SCALING_FACTOR,
        force_upcast=False,
        mid_block_add_attention=False,
    )
    with torch.no_grad():
        # Start with hardly any latent noise: the image has to come through first.
        vae.quant_conv.weight[4:] = 0
        vae.quant_conv.bias[4:] = -8
    return vae.to(memory_format=torch.channels_last)


def reconstruction_loss(
    output: Tensor, target: Tensor, gradient_weight: float = 0.5, emphasis: Tensor | None = None
) -> Tensor:
    """L1 at three scales plus the L1 of the image's gradients at the two finer ones.

    Args:
        output: Decoded images (n, 3, h, w) in [-1, 1].
        target: The images.
        gradient_weight: Weight of the gradients.
        emphasis: Factor on the error at every pixel (n, 1, h, w).

    Returns:
        The mean loss.
    """
    difference = output - target
    if emphasis is not None:
        difference = difference * emphasis
    loss = difference.abs().mean()
    for _ in range(2):
        dx = difference[..., 1:] - difference[..., :-1]
        dy = difference[..., 1:, :] - difference[..., :-1, :]
        loss = loss + gradient_weight * (dx.abs().mean() + dy.abs().mean())
        difference = functional.avg_pool2d(difference, 2)
        loss = loss + difference.abs().mean()
    return loss


def unexplained_color(latents: Tensor, drawn: Tensor, ridge: float = 0.05) -> Tensor:
    """Share of the local mean colours that no linear map reads from the latents.

    Args:
        latents: (n, c, h / 8, w / 8), with a spread of about one.
        drawn: (n, 3, h, w) in [-1, 1].
        ridge: Penalty of the regression; keeps the colours from hiding in a tiny amplitude.

    Returns:
        Mean residual variance of lightness, red-green and blue-yellow, each in units of its own.
    """
    red, green, blue = functional.avg_pool2d(drawn, 8).unbind(1)
    axes = torch.stack([red + green + blue, red - green, blue - (red + green) / 2], -1)
    axes = axes.flatten(0, 2)
    axes = (axes - axes.mean(0)) / (axes.std(0) + 1e-3)
    points = latents.permute(0, 2, 3, 1).flatten(0, 2)
    points = points - points.mean(0)
    moments = points.T @ points / len(points) + ridge * torch.eye(points.shape[1])
    weights = torch.linalg.solve(moments, points.T @ axes / len(points))
    return (axes - points @ weights).square().mean()


@flushing_denormals()
def train_vae(
    data: Path,
    out: Path,
    *,
    budget: Budget,
    seed: int = 0,
    recipe: VaeRecipe | None = None,
    decoder_only: bool = False,
    start_from: AutoencoderKL | None = None,
    latent_noise: float = 0.0,
    critic: PatchCritic | None = None,
    resume: bool = True,
    progress: Progress = silent,
    log_every: int = 50,
) -> AutoencoderKL:
    """Train the autoencoder, or only its decoder, on drawn portraits.

    Args:
        data: Folder of shards from ``renders.write_shards``; new shards are taken in on the way.
        out: Folder of the run; its checkpoint lies in ``vae-state.pt``.
        budget: How long.
        seed: Of weights and batches.
        recipe: Shape and training settings.
        decoder_only: Leave the encoder, and so the latents, as they are.
        start_from: Trained weights to begin with.
        latent_noise: Standard deviation of noise on the latents, in units of their own spread;
            it teaches the decoder to forgive a denoiser's small errors.
        critic: Learns beside the decoder and makes it sharp; see :mod:`.critic`.
        resume: Continue from the checkpoint.
        progress: Told of every hundredth of the budget.
        log_every: Steps between log lines.

    Returns:
        The autoencoder with averaged weights, in evaluation mode.
    """
    recipe = recipe or VaeRecipe()
    torch.manual_seed(seed)
    vae = start_from if start_from is not None else build_vae(recipe)
    vae.train()
    if decoder_only:
        vae.encoder.requires_grad_(False)
        vae.quant_conv.requires_grad_(False)
    stream = ImageStream(
        data,
        batch=recipe.batch,
        crop=recipe.crop,
        face_share=recipe.face_share,
        face_emphasis=recipe.face_emphasis,
    )
    modules: dict[str, nn.Module] = {"vae": vae}
    if critic is not None:
        modules["critic"] = critic.train()
    session = Session(
        modules,
        Muon(list(modules.values()), recipe.lr),
        checkpoint=out / "vae-state.pt",
        budget=budget,
        seed=seed,
        ema_decay=recipe.ema_decay,
        resume=resume,
    )
    progress.start("train the autoencoder", 100)
    told = 0
    with session:
        while session.running():
            generator = session.generator()
            # A fixed encoder has to be met as it will be used: on whole images.
            whole = decoder_only or session.share >= 1 - recipe.whole_share
            drawn, emphasis = stream.batch(generator, whole=whole)
            with torch.set_grad_enabled(not decoder_only):
                posterior = vae.encode(drawn).latent_dist
                noise = torch.randn(posterior.mean.shape, generator=generator)
                latents = posterior.mean + posterior.std * noise
                if latent_noise:
                    extra = torch.randn(posterior.mean.shape, generator=generator)
                    latents = latents + latent_noise / SCALING_FACTOR * extra
            decoded = vae.decode(latents).sample
            loss = reconstruction_loss(decoded, drawn, recipe.gradient_weight, emphasis)
            if critic is not None:
                loss = loss + recipe.critic_weight * decoder_loss(critic, decoded)
                loss = loss + critic_loss(critic, drawn, decoded)
            color = unexplained_color(posterior.mean, drawn)
            if not decoder_only:
                loss = loss + recipe.kl_weight * posterior.kl().mean()
                loss = loss + recipe.color_weight * color
            session.apply(loss)
            if session.step % log_every == 0:
                logger.info(
                    "vae step %d, %.0f s, loss %.4f, unexplained colour %.3f",
                    session.step,
                    session.elapsed,
                    loss.item(),
                    color.item(),
                )
                stream.refresh()
            while told < int(100 * session.share):
                told += 1
                progress.advance()
    session.average.copy_to(modules)
    progress.finish()
    return vae.eval().requires_grad_(False)


@torch.no_grad()
def normalise_latents(vae: AutoencoderKL, drawn: Tensor) -> None:
    """Make every latent channel have mean 0 and, after ``SCALING_FACTOR``, deviation 1.

    The affine map is folded into the 1x1 convolutions on both sides of the latents, so the
    images stay the same and no loader needs to know of it.

    Args:
        vae: Changed in place.
        drawn: float32 (n, 3, h, w) in [-1, 1] from which the statistics are taken.
    """
    means = torch.cat([vae.encode(part).latent_dist.mean for part in drawn.split(16)])
    shift = means.mean((0, 2, 3))
    spread = means.std((0, 2, 3)) * SCALING_FACTOR
    before, after = vae.quant_conv, vae.post_quant_conv
    before.weight[:4] /= spread[:, None, None, None]
    before.bias[:4] = (before.bias[:4] - shift) / spread
    before.bias[4:] -= 2 * spread.log()
    after.bias += (after.weight[:, :, 0, 0] @ shift[:, None])[:, 0]
    after.weight *= spread[None, :, None, None]


@torch.no_grad()
def psnr(vae: AutoencoderKL, drawn: Tensor) -> float:
    """Measure reconstruction without latent noise.

    Args:
        vae: The autoencoder.
        drawn: float32 (n, 3, h, w) in [-1, 1].

    Returns:
        Peak signal-to-noise ratio in dB, from the mean squared error over all images.
    """
    errors = [
        (vae.decode(vae.encode(part).latent_dist.mean).sample.clamp(-1, 1) - part).square().mean()
        for part in drawn.split(16)
    ]
    return float(-10 * torch.log10(torch.stack(errors).mean() / 4))
