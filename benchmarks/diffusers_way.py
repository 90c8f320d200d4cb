"""A LoRA's training step as the text-to-image example of diffusers takes it.

Of ``examples/text_to_image/train_text_to_image_lora.py``, in its order: a data loader (shuffled, in
the process itself, as ``--dataloader_num_workers`` is 0 by default) decodes, resizes and crops
every image when its batch is put together, and tokenises its caption; every step runs the
autoencoder and the text encoder; the loss is a mean over the batch; gradients are clipped; AdamW;
a learning rate scheduler; the loss is read back for the progress bar. ``accelerate``, which on one
device only adds to it, is left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import DDPMScheduler
from diffusers.optimization import get_scheduler
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms


class FolderDataset(Dataset[dict[str, Tensor]]):
    """Images with captions beside them, decoded and tokenised whenever one is asked for."""

    def __init__(self, folder: Path, tokenizer: Any, resolution: int) -> None:
        self.paths = sorted(folder.glob("*.png"))
        self.tokenizer = tokenizer
        self.transform = transforms.Compose([
            transforms.Resize(resolution, interpolation=transforms.InterpolationMode.BILINEAR),
            transforms.CenterCrop(resolution),
            transforms.ToTensor(),
            transforms.Normalize([0.5], [0.5]),
        ])  # fmt: skip

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        path = self.paths[index]
        with Image.open(path) as image:
            pixels = self.transform(image.convert("RGB"))
        tokens = self.tokenizer(
            path.with_suffix(".txt").read_text(),
            max_length=self.tokenizer.model_max_length,
            padding="max_length",
            truncation=True,
            return_tensors="pt",
        )
        return {"pixel_values": pixels, "input_ids": tokens.input_ids[0]}


def collate(examples: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Put examples into one batch."""
    pixels = torch.stack([example["pixel_values"] for example in examples])
    return {
        "pixel_values": pixels.to(memory_format=torch.contiguous_format).float(),
        "input_ids": torch.stack([example["input_ids"] for example in examples]),
    }


class DiffusersWay:
    """The example's loop, a step a call.

    Args:
        pipeline: Whose parts are trained and run; adapters are in place.
        parameters: The adapters' weights.
        folder: Images with captions beside them.
        resolution: Side of the square that they are cut to.
        batch_size: Images a step.
        learning_rate: Of AdamW.
        autocast: Whether the forward pass runs under bfloat16 autocast.
    """

    def __init__(
        self,
        pipeline: Any,
        parameters: Iterable[nn.Parameter],
        folder: Path,
        *,
        resolution: int,
        batch_size: int,
        learning_rate: float,
        autocast: bool,
    ) -> None:
        self.unet, self.vae, self.text = pipeline.unet, pipeline.vae, pipeline.text_encoder
        self.parameters = list(parameters)
        self.scheduler = DDPMScheduler.from_config(pipeline.scheduler.config)
        self.optimizer = torch.optim.AdamW(
            self.parameters, lr=learning_rate, betas=(0.9, 0.999), weight_decay=1e-2, eps=1e-8
        )
        self.rate = get_scheduler("constant", optimizer=self.optimizer)
        self.loader = DataLoader(
            FolderDataset(folder, pipeline.tokenizer, resolution),
            shuffle=True,
            collate_fn=collate,
            batch_size=batch_size,
            drop_last=True,  # every timed step is of a full batch
        )
        self.device = next(self.unet.parameters()).device
        self.dtype = next(self.vae.parameters()).dtype
        self.autocast = autocast
        self._batches = self._endless()

    def step(self) -> float:
        """Take one step; return its loss."""
        batch = next(self._batches)
        pixels, tokens = (value.to(self.device) for value in batch.values())
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.autocast):
            latents = self.vae.encode(pixels.to(self.dtype)).latent_dist.sample()
            latents = latents * self.vae.config.scaling_factor
            noise = torch.randn_like(latents)
            timesteps = torch.randint(
                0, self.scheduler.config.num_train_timesteps, (len(latents),), device=self.device
            ).long()
            noisy = self.scheduler.add_noise(latents, noise, timesteps)
            states = self.text(tokens, return_dict=False)[0]
            predicted = self.unet(noisy, timesteps, states, return_dict=False)[0]
        loss = F.mse_loss(predicted.float(), noise.float(), reduction="mean")
        loss.backward()
        nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimizer.step()
        self.rate.step()
        self.optimizer.zero_grad()
        return loss.detach().item()

    def _endless(self) -> Iterator[dict[str, Tensor]]:
        while True:
            yield from self.loader
