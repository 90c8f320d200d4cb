"""Batches of drawn portraits for the autoencoder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from .renders import read_shard, shard_folders


class ImageStream:
    """Random crops or whole images from a folder of shards that may still be growing."""

    def __init__(
        self,
        folder: Path,
        *,
        batch: int = 16,
        crop: int = 64,
        face_share: float = 0.6,
        face_emphasis: float = 2.0,
    ) -> None:
        """Open the shards that are complete.

        Args:
            folder: Where the shards are.
            batch: Crops in a batch; of whole images it has a quarter.
            crop: Edge of a crop in pixels.
            face_share: Share of crops that are centred on the face.
            face_emphasis: Weight of the pixels inside the face box.
        """
        self._folder, self._batch, self._crop = folder, batch, crop
        self._face_share, self._face_emphasis = face_share, face_emphasis
        self._opened: dict[Path, tuple[np.ndarray, np.ndarray]] = {}
        self.refresh()

    def refresh(self) -> int:
        """Open shards that have been completed since; returns how many images there are."""
        for folder in shard_folders(self._folder):
            if folder not in self._opened:
                shard = read_shard(folder)
                self._opened[folder] = (np.array(shard.images), shard.boxes)
        self._shards = list(self._opened.values())
        self._lengths = np.cumsum([len(images) for images, _ in self._shards])
        return int(self._lengths[-1]) if self._shards else 0

    def batch(self, generator: torch.Generator, *, whole: bool) -> tuple[Tensor, Tensor]:
        """Draw a batch.

        Args:
            generator: Source of randomness.
            whole: Whole images (a quarter of the batch) instead of crops.

        Returns:
            float32 images (n, 3, h, w) in [-1, 1], channels last, half of them mirrored, and
            the emphasis on each pixel (n, 1, h, w).
        """
        rng = np.random.default_rng(
            int(torch.randint(2**31, (1,), generator=generator, dtype=torch.int64))
        )
        drawn, maps = [], []
        for _ in range(max(1, self._batch // 4) if whole else self._batch):
            index = int(rng.integers(self._lengths[-1]))
            which = int(np.searchsorted(self._lengths, index, side="right"))
            images, boxes = self._shards[which]
            row = index - (int(self._lengths[which - 1]) if which else 0)
            image, emphasis = images[row], np.ones(images.shape[1:3], np.float32)
            left, top, right, bottom = boxes[row].round().astype(int)
            emphasis[top:bottom, left:right] = self._face_emphasis
            if not whole:
                window = self._window(image.shape[0], boxes[row], rng)
                image, emphasis = image[window], emphasis[window]
            if rng.random() < 0.5:
                image, emphasis = image[:, ::-1], emphasis[:, ::-1]
            drawn.append(image)
            maps.append(emphasis)
        stacked = torch.from_numpy(np.stack(drawn)).permute(0, 3, 1, 2)
        scaled = stacked.to(torch.float32).div_(127.5).sub_(1)
        return scaled, torch.from_numpy(np.stack(maps))[:, None]

    def _window(self, edge: int, box: np.ndarray, rng: np.random.Generator) -> tuple[slice, slice]:
        size, room = self._crop, edge - self._crop
        left, top = rng.integers(room + 1, size=2)
        if rng.random() < self._face_share:
            jitter = rng.integers(-size // 4, size // 4 + 1, size=2)
            centre = np.array([box[0] + box[2], box[1] + box[3]]) / 2 + jitter
            left, top = np.clip((centre - size / 2).astype(int), 0, room)
        return slice(top, top + size), slice(left, left + size)
