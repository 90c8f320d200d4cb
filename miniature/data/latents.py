"""Drawn portraits, encoded once: the latents, captions and faces that the U-Net is trained on."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from character_curator.progress import Progress, silent

from ..recipe.vae import SCALING_FACTOR
from .renders import Shard, read_shard, shard_folders, shuffled_caption

if TYPE_CHECKING:
    from diffusers import AutoencoderKL

CELL = 8
"""Edge, in pixels, of the square that one cell of the latents stands for."""


def as_images(images: np.ndarray) -> Tensor:
    """Turn uint8 RGB (n, h, w, 3) into float32 (n, 3, h, w) in [-1, 1], channels last."""
    drawn = torch.from_numpy(np.array(images)).permute(0, 3, 1, 2)
    return drawn.to(torch.float32).div_(127.5).sub_(1)


@torch.no_grad()
def encode_shards(
    data: Path, out: Path, vae: AutoencoderKL, *, batch: int = 16, progress: Progress = silent
) -> list[Path]:
    """Encode every shard of images that has not been encoded yet.

    Every image is also encoded mirrored: captions never say which side a person faces.

    Args:
        data: Folder of shards from ``renders.write_shards``.
        out: Folder for the shards of latents.
        vae: The trained autoencoder; its latents are scaled by ``SCALING_FACTOR``.
        batch: Images encoded at once.
        progress: Told of every shard.

    Returns:
        The folders of all shards of latents.
    """
    out.mkdir(parents=True, exist_ok=True)
    folders = shard_folders(data)
    progress.start("encode portraits", len(folders))
    for folder in folders:
        target = out / folder.name
        if not target.exists():
            shard = read_shard(folder)
            images = np.concatenate([shard.images, shard.images[:, :, ::-1]])
            means = [
                vae.encode(as_images(images[i : i + batch])).latent_dist.mean
                for i in range(0, len(images), batch)
            ]
            latents = (torch.cat(means) * SCALING_FACTOR).numpy().astype(np.float16)
            partial = out / f".{folder.name}.partial"
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir()
            np.save(partial / "latents.npy", latents)
            np.save(partial / "faces.npy", np.concatenate(face_cells(shard)))
            captions = json.dumps([*shard.captions, *shard.captions])
            (partial / "captions.json").write_text(captions, encoding="utf-8")
            partial.replace(target)
        progress.advance()
    progress.finish()
    return shard_folders(out)


def face_cells(shard: Shard) -> tuple[np.ndarray, np.ndarray]:
    """Say which cells of the latents a shard's faces cover.

    Args:
        shard: Images of one size with a face box each.

    Returns:
        The share of each cell that lies in the face box, float16 (n, h / 8, w / 8): of the images
        and of the mirrored ones.
    """
    edges = np.arange(shard.images.shape[1] // CELL + 1) * CELL
    low, high = edges[:-1], edges[1:]

    def covered(first: np.ndarray, last: np.ndarray) -> np.ndarray:
        overlap = np.minimum(high, last[:, None]) - np.maximum(low, first[:, None])
        return np.clip(overlap, 0, CELL) / CELL

    across = covered(shard.boxes[:, 0], shard.boxes[:, 2])
    down = covered(shard.boxes[:, 1], shard.boxes[:, 3])
    cells = (down[:, :, None] * across[:, None, :]).astype(np.float16)
    return cells, cells[:, :, ::-1]


@dataclass(frozen=True)
class LatentBatch:
    """Some portraits as the U-Net is trained on them."""

    latents: Tensor
    """float32 (n, 4, h, w), scaled."""
    captions: list[str]
    faces: Tensor
    """float32 (n, 1, h, w): the share of each cell that is face."""


class LatentStream:
    """Random latents with shuffled captions from a folder of shards that may still be growing."""

    def __init__(self, folder: Path) -> None:
        """Read the shards that are complete."""
        self._folder = folder
        self._known: set[Path] = set()
        self._latents: list[np.ndarray] = []
        self._faces: list[np.ndarray] = []
        self._captions: list[list[str]] = []
        self.refresh()

    def refresh(self) -> int:
        """Read shards that have been completed since; returns how many latents there are."""
        for folder in shard_folders(self._folder):
            if folder not in self._known:
                self._known.add(folder)
                self._latents.extend(np.load(folder / "latents.npy"))
                self._faces.extend(np.load(folder / "faces.npy"))
                self._captions.extend(
                    json.loads((folder / "captions.json").read_text(encoding="utf-8"))
                )
        return len(self._latents)

    def batch(
        self,
        count: int,
        generator: torch.Generator,
        phrase_dropout: float,
        caption_dropout: float,
    ) -> LatentBatch:
        """Draw a batch.

        Args:
            count: Its size.
            generator: Source of randomness.
            phrase_dropout: Probability that a phrase is left out.
            caption_dropout: Probability that a whole caption is.

        Returns:
            The batch.
        """
        rng = np.random.default_rng(
            int(torch.randint(2**31, (1,), generator=generator, dtype=torch.int64))
        )
        rows = rng.integers(len(self._latents), size=count)
        captions = [shuffled_caption(self._captions[row], rng, phrase_dropout) for row in rows]
        empty = rng.random(count) < caption_dropout
        captions = ["" if drop else text for drop, text in zip(empty, captions, strict=True)]
        latents = torch.from_numpy(np.stack([self._latents[row] for row in rows]).astype("f4"))
        faces = torch.from_numpy(np.stack([self._faces[row] for row in rows]).astype("f4"))
        return LatentBatch(latents, captions, faces[:, None])
