"""All five models of the miniature, one after the other, from nothing but a seed."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from character_curator.progress import Progress, silent

from .. import vocabulary
from .session import Budget

SHARES = {
    "vae": 0.24,
    "reading": 0.02,
    "diffusion": 0.44,
    "decoder": 0.10,
    "detector": 0.06,
    "recogniser": 0.08,
    "clip": 0.06,
}
"""How the time is divided, drawing and encoding apart."""

PORTRAITS = 22_528
PEOPLE = 2_400
OTHERS = 1_500


def train_family(
    out: Path,
    *,
    budget_seconds: float,
    seed: int = 0,
    portraits: int = PORTRAITS,
    people: int = PEOPLE,
    others: int = OTHERS,
    progress: Progress = silent,
) -> Path:
    """Train the text-to-image model, the face pack and the open_clip model.

    Everything is kept below ``out``: the drawn images and each run's checkpoint in ``out/work``,
    the finished models in ``out/weights``. A run that was killed continues.

    Args:
        out: A folder with room for some gigabytes.
        budget_seconds: Seconds of training in all; drawing the images comes on top.
        seed: Of images, weights and batches.
        portraits: Drawn for the text-to-image model.
        people: Drawn several times each, for the other three.
        others: Groups and empty places, for the detector.
        progress: Told of every part.

    Returns:
        The folder of the weights: ``diffusion``, ``faces`` and ``clip``.
    """
    work, weights = out / "work", out / "weights"
    budgets = {name: Budget(seconds=budget_seconds * share) for name, share in SHARES.items()}
    train_text_to_image(
        work, weights / "diffusion", budgets, seed=seed, portraits=portraits, progress=progress
    )
    train_eyes(work, weights, budgets, seed=seed, people=people, others=others, progress=progress)
    return weights


def train_text_to_image(
    work: Path,
    folder: Path,
    budgets: dict[str, Budget],
    *,
    seed: int,
    portraits: int,
    progress: Progress = silent,
) -> Path:
    """Train autoencoder, text model and U-Net, then the decoder once more, on fixed latents.

    Args:
        work: For images, latents and checkpoints.
        folder: The pipeline's folder; replaced as a whole.
        budgets: Of "vae", "reading", "diffusion" and "decoder".
        seed: Of everything.
        portraits: How many images to draw.
        progress: Told of every part.

    Returns:
        ``folder``.
    """
    from diffusers import AutoencoderKL

    from ..data.latents import as_images, encode_shards
    from ..data.reading import teach_reading
    from ..data.renders import read_shard, write_shards
    from .critic import PatchCritic
    from .diffusion import build_model, train_diffusion
    from .export import assemble, write_pipeline
    from .tokenizer import write_tokenizer
    from .vae import normalise_latents, train_vae

    shards = write_shards(work / "portraits", count=portraits, seed=seed, progress=progress)
    frozen = work / "vae-frozen"
    if not frozen.exists():
        vae = train_vae(
            work / "portraits", work / "vae", budget=budgets["vae"], seed=seed, progress=progress
        )
        sample = np.concatenate([read_shard(path).images[::16] for path in shards])[:256]
        normalise_latents(vae, as_images(sample))
        vae.save_pretrained(work / "vae-new")
        (work / "vae-new").replace(frozen)
    vae = AutoencoderKL.from_pretrained(frozen).eval()
    encode_shards(work / "portraits", work / "latents", vae, progress=progress)
    tokenizer = write_tokenizer(work / "tokenizer", vocabulary.WORDS)
    model = build_model(tokenizer)
    teach_reading(
        model.text_encoder,
        model.tokenizer,
        work / "reading" / "reading.pt",
        budget=budgets["reading"],
        seed=seed,
        progress=progress,
    )
    model = train_diffusion(
        work / "latents",
        work / "diffusion",
        tokenizer,
        budget=budgets["diffusion"],
        seed=seed,
        start_from=model,
        progress=progress,
    )
    vae = train_vae(
        work / "portraits",
        work / "decoder",
        budget=budgets["decoder"],
        seed=seed + 1,
        decoder_only=True,
        start_from=vae,
        latent_noise=0.12,
        critic=PatchCritic(),
        progress=progress,
    )
    return write_pipeline(assemble(vae, model), folder)


def train_eyes(
    work: Path,
    weights: Path,
    budgets: dict[str, Budget],
    *,
    seed: int,
    people: int,
    others: int,
    progress: Progress = silent,
) -> None:
    """Train what looks at images: detector, recogniser and open_clip model.

    Args:
        work: For images and checkpoints.
        weights: Gets the folders ``faces`` and ``clip``.
        budgets: Of "detector", "recogniser" and "clip".
        seed: Of everything.
        people: How many people to draw.
        others: How many groups and empty places.
        progress: Told of every part.
    """
    from ..data.faces import read_sets, write_sets
    from .clip import train_clip, write_clip
    from .detector import export_detector, train_detector
    from .recogniser import export_recogniser, train_recogniser

    drawn = work / "people"
    write_sets(drawn, people=people, others=others, seed=seed, progress=progress)
    faces, clip = weights / "faces", weights / "clip"
    for folder in (faces, clip):
        folder.mkdir(parents=True, exist_ok=True)
    detector = train_detector(
        read_sets(drawn),
        work / "detector.pt",
        budget=budgets["detector"],
        seed=seed,
        progress=progress,
    )
    export_detector(detector, faces / "det_miniature.onnx")
    portraits = read_sets(drawn, ["people"])
    recogniser = train_recogniser(
        portraits,
        work / "recogniser.pt",
        budget=budgets["recogniser"],
        seed=seed,
        progress=progress,
    )
    export_recogniser(recogniser, faces / "rec_miniature.onnx")
    model = train_clip(
        portraits,
        work / "clip" / "clip.pt",
        budget=budgets["clip"],
        seed=seed,
        progress=progress,
    )
    write_clip(model, clip)
