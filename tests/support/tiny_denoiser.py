"""A small but real diffusion model for the training loop: a few convolutions, a real schedule."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from character_curator.lora.spelling import FileNames
from character_curator.training.data.buckets import Size
from character_curator.training.data.examples import Example
from character_curator.training.denoisers.protocol import TextEmbeddings

WIDTH = 8


class Network(nn.Module):
    """Predicts from noisy latents, the timestep and a caption; with dropout, so that it draws."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(4, WIDTH, 3, padding=1)
        self.caption = nn.Linear(WIDTH, WIDTH)
        self.dropout = nn.Dropout(0.1)
        self.last = nn.Conv2d(WIDTH, 4, 3, padding=1)

    def forward(self, noisy: Tensor, share: Tensor, caption: Tensor) -> Tensor:
        condition = self.caption(caption) + share[:, None]
        hidden = torch.tanh(self.first(noisy) + condition[:, :, None, None])
        return self.last(self.dropout(hidden))


class TinyDenoiser:
    """Keeps the Denoiser protocol; ``calls`` counts what was encoded and predicted."""

    architecture = "tiny"
    pixel_step = 8
    swaps = ""
    base_said = ""

    def __init__(self, prediction: str = "epsilon", seed: int = 0) -> None:
        torch.manual_seed(seed)
        self.prediction = prediction
        self.identity = f"tiny {prediction} {seed}"
        self.device = torch.device("cpu")
        self.network = Network()
        self.text = nn.Linear(WIDTH, WIDTH)
        self.text.requires_grad_(False)
        self.projection = torch.randn(4, 3)
        self.alphas = torch.cumprod(1 - torch.linspace(1e-4, 0.02, 1000), 0)
        self.calls = {"pixels": 0, "text": 0, "predict": 0}

    @property
    def parameters(self) -> dict[str, nn.Parameter]:
        return dict(self.network.named_parameters())

    def module(self) -> nn.Module:
        return self.network

    def text_modules(self) -> Mapping[str, nn.Module]:
        return {"te1": self.text}

    def file_key(self, part: str, path: str) -> str:
        return f"{part}.{path}"

    @property
    def file_names(self) -> FileNames:
        return FileNames("diffusers", {"diffusers": self.file_key})

    def encode_pixels(self, pixels: Tensor, generator: torch.Generator | None) -> Tensor:
        assert not torch.is_grad_enabled()
        self.calls["pixels"] += len(pixels)
        assert pixels.min() >= -1
        assert pixels.max() <= 1
        small = nn.functional.avg_pool2d(pixels, 8)
        return torch.einsum("kc,nchw->nkhw", self.projection, small)

    def encode_text(self, captions: Sequence[str]) -> TextEmbeddings:
        self.calls["text"] += len(captions)
        raw = [hashlib.sha256(caption.encode()).digest()[:WIDTH] for caption in captions]
        values = torch.tensor([list(digest) for digest in raw]) / 128.0 - 1
        return TextEmbeddings({"hidden": self.text(values), "raw": values})

    def encode_edit(self, caption: str, controls: Sequence[Tensor]) -> TextEmbeddings:
        found = self.encode_text([caption])["hidden"]
        seen = sum(self.encode_pixels(control, None).mean() for control in controls)
        return TextEmbeddings({"hidden": found + seen, "raw": found})

    def offload_encoders(self) -> None:
        """It has nothing that could go."""

    def sample_timesteps(self, n: int, generator: torch.Generator | None) -> Tensor:
        return torch.randint(0, 1000, (n,), generator=generator)

    def fixed_timesteps(self, k: int) -> Tensor:
        return ((torch.arange(k) + 0.5) / k * 1000).long()

    def _scales(self, timesteps: Tensor) -> tuple[Tensor, Tensor]:
        alphas = self.alphas[timesteps][:, None, None, None]
        return alphas.sqrt(), (1 - alphas).sqrt()

    def add_noise(self, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        signal, sigma = self._scales(timesteps)
        return signal * latents + sigma * noise

    def target(self, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        if self.prediction == "flow":
            return noise - latents
        signal, sigma = self._scales(timesteps)
        return noise if self.prediction == "epsilon" else signal * noise - sigma * latents

    def predict(
        self,
        noisy: Tensor,
        timesteps: Tensor,
        text: TextEmbeddings,
        size: Sequence[tuple[int, int]],
    ) -> Tensor:
        assert len(noisy) == len(timesteps) == len(text) == len(size)
        self.calls["predict"] += len(noisy)
        return self.network(noisy, timesteps / 1000, text["hidden"]).float()

    def snr(self, timesteps: Tensor) -> Tensor | None:
        if self.prediction == "flow":
            return None
        alphas = self.alphas[timesteps]
        return alphas / (1 - alphas)


def draw_image(path: Path, number: int, size: tuple[int, int] = (64, 64)) -> Path:
    """Write an image of one colour with a stripe; every number another one."""
    rng = np.random.default_rng(number)
    pixels = np.full((size[1], size[0], 3), rng.integers(0, 256, 3), np.uint8)
    pixels[:, : size[0] // 3] = rng.integers(0, 256, 3)
    Image.fromarray(pixels).save(path)
    return path


def make_dataset(folder: Path, count: int = 5, captions: bool = True) -> Path:
    """Draw a folder of images with captions beside them."""
    folder.mkdir(parents=True)
    for i in range(count):
        draw_image(folder / f"p{i}.png", i, (64, 64) if i % 2 else (96, 64))
        if captions:
            (folder / f"p{i}.txt").write_text(f"portrait of char1 woman, scene {i}\n")
    return folder


def make_examples(folder: Path, count: int = 6, sizes=((64, 64),), prior: bool = False):
    """Draw images and describe them as examples."""
    folder.mkdir(parents=True, exist_ok=True)
    examples = []
    for i in range(count):
        size = sizes[i % len(sizes)]
        path = draw_image(folder / f"{i:03d}.png", i + (1000 if prior else 0), size)
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        face = (8.0, 8.0, size[0] - 24.0, size[1] - 16.0)
        examples.append(Example(path, digest, f"char1, image {i}", Size(*size), face, prior))
    return examples
