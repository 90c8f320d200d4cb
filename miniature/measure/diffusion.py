"""Quality of the text-to-image model: its codec on unseen renders, images on fresh prompts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..captions import attributes, caption
from ..data.faces import draw_people
from ..identity import sample_identity
from ..scene import sample_scene
from .clip import classify, load_clip
from .faces import UNSEEN_SEED, find_faces, load_pack

STEPS, GUIDANCE, BATCH = 20, 2.5, 8


@dataclass(frozen=True)
class CodecQuality:
    """What the VAE keeps of unseen renders."""

    psnr: float
    """Peak signal to noise ratio in decibels over 8-bit values."""
    one_face: float
    """Share of reconstructions in which the pack finds exactly one face."""
    one_face_confident: float
    """Share in which it finds exactly one, with a confidence of at least 0.85."""
    same_person: float
    """Median cosine between a render's face and its reconstruction's."""


@dataclass(frozen=True)
class GenerationQuality:
    """What prompts that no training saw become."""

    drawn: int
    one_face: float
    """Share of images in which the pack finds exactly one face."""
    one_face_confident: float
    """Share in which it finds exactly one, with a confidence of at least 0.85."""
    foreign_one_face: float | None
    """Share in which a detector trained on photographs finds exactly one; None without it."""
    as_prompted: dict[str, float]
    """By attribute, the share of images in which the open_clip model sees what was asked for."""


def load_pipeline(folder: Path) -> Any:
    """Load the text-to-image model for measuring: DDIM, no safety checker, on the CPU."""
    from diffusers import DDIMScheduler, StableDiffusionPipeline

    pipeline = StableDiffusionPipeline.from_pretrained(
        folder, safety_checker=None, requires_safety_checker=False, local_files_only=True
    )
    pipeline.scheduler = DDIMScheduler.from_config(pipeline.scheduler.config)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline.to("cpu")


def reconstruct(pipeline: Any, images: NDArray[np.uint8], batch_size: int = 16) -> np.ndarray:
    """Send RGB images (n, h, w, 3) through the VAE and back.

    Args:
        pipeline: With the VAE.
        images: uint8.
        batch_size: Images at a time.

    Returns:
        uint8 images of the same shape.
    """
    import torch

    vae = pipeline.vae
    out = []
    for start in range(0, len(images), batch_size):
        batch = torch.from_numpy(np.ascontiguousarray(images[start : start + batch_size]))
        batch = batch.permute(0, 3, 1, 2).to(vae.dtype) / 127.5 - 1
        with torch.inference_mode():
            decoded = vae.decode(vae.encode(batch).latent_dist.mode()).sample
        values = ((decoded.float() + 1) * 127.5).round().clamp(0, 255)
        out.append(values.permute(0, 2, 3, 1).to(torch.uint8).numpy())
    return np.concatenate(out)


def measure_codec(
    diffusion: Path, pack: Path, *, count: int = 200, seed: int = UNSEEN_SEED + 3
) -> CodecQuality:
    """Measure the VAE on unseen renders.

    Args:
        diffusion: Folder of the text-to-image model.
        pack: Folder of the face pack.
        count: How many renders.
        seed: Of the renders.

    Returns:
        The figures.
    """
    pipeline, analysis = load_pipeline(diffusion), load_pack(pack)
    images = draw_people(seed, 0, count, scenes=1).images
    again = reconstruct(pipeline, images)
    error = np.mean((images.astype(np.float32) - again.astype(np.float32)) ** 2, axis=(1, 2, 3))
    psnr = float(np.mean(10 * np.log10(255**2 / error)))
    one, confident, cosines = 0, 0, []
    for image, other in zip(images, again, strict=True):
        before, after = find_faces(analysis, image), find_faces(analysis, other)
        one += len(after) == 1
        confident += len(after) == 1 and float(after[0].det_score) >= 0.85
        if len(before) == len(after) == 1:
            cosines.append(float(before[0].normed_embedding @ after[0].normed_embedding))
    return CodecQuality(psnr, one / count, confident / count, float(np.median(cosines)))


def generate_fresh(
    pipeline: Any, count: int, seed: int = UNSEEN_SEED + 4
) -> tuple[NDArray[np.uint8], list[dict[str, str]]]:
    """Generate images from prompts about people and scenes drawn at random.

    Args:
        pipeline: The text-to-image model.
        count: How many images, one for each prompt.
        seed: Of prompts and noise.

    Returns:
        Images (n, h, w, 3) uint8 RGB, and what each prompt asked for.
    """
    import torch

    rng = np.random.default_rng(seed)
    wishes = [(sample_identity(rng), sample_scene(rng)) for _ in range(count)]
    images = []
    for start in range(0, count, BATCH):
        batch = wishes[start : start + BATCH]
        noise = [torch.Generator().manual_seed(seed + start + k) for k in range(len(batch))]
        images.append(
            pipeline(
                [caption(identity, scene) for identity, scene in batch],
                num_inference_steps=STEPS,
                guidance_scale=GUIDANCE,
                generator=noise,
                output_type="np",
            ).images
        )
    drawn = (np.concatenate(images) * 255).round().astype(np.uint8)
    return drawn, [attributes(identity, scene) for identity, scene in wishes]


def measure_generation(
    diffusion: Path, pack: Path, clip: Path, *, count: int = 304, seed: int = UNSEEN_SEED + 4
) -> GenerationQuality:
    """Measure the text-to-image model on prompts that no training saw.

    Args:
        diffusion: Folder of the text-to-image model.
        pack: Folder of the face pack.
        clip: Folder of the open_clip model.
        count: How many images.
        seed: Of prompts and noise.

    Returns:
        The figures.
    """
    images, wanted = generate_fresh(load_pipeline(diffusion), count, seed)
    analysis, judge = load_pack(pack), load_clip(clip)
    found = [find_faces(analysis, image) for image in images]
    one = [len(faces) == 1 for faces in found]
    confident = [len(faces) == 1 and float(faces[0].det_score) >= 0.85 for faces in found]
    embeddings = judge.embed_images(list(images))
    as_prompted = {}
    for attribute in wanted[0]:
        seen = classify(judge, embeddings, attribute)
        hits = [guess == wish[attribute] for guess, wish in zip(seen, wanted, strict=True)]
        as_prompted[attribute] = float(np.mean(hits))
    return GenerationQuality(
        count, float(np.mean(one)), float(np.mean(confident)), _foreign_share(images), as_prompted
    )


def _foreign_share(images: NDArray[np.uint8]) -> float | None:
    from ..foreign_detector import count_faces

    try:
        return float(np.mean([count_faces(image) == 1 for image in images]))
    except ImportError:
        return None
