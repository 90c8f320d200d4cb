"""ComfyUI's MODEL, CLIP and VAE wires as a back end of core's generation loop.

An image is made as the stock nodes make it: CLIPTextEncode, EmptyLatentImage, KSampler, VAEDecode
and SaveImage. For a batch of one, pixels are bit for bit those of a stock graph with the same noise
seed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import comfy.model_management
import comfy.sample
import comfy.utils
import numpy as np
import torch

from ...core.errors import CuratorError
from ..ui.images import to_bytes
from .stock_graph import Sampling

if TYPE_CHECKING:
    from ...core.generation.backend import StepCallback
    from ...core.plan import Request

INDEPENDENT = frozenset(
    {
        "euler", "euler_cfg_pp", "heun", "heunpp2", "dpm_2", "lms", "dpmpp_2m", "dpmpp_2m_cfg_pp",
        "ddim", "ipndm", "ipndm_v", "deis", "res_multistep", "res_multistep_cfg_pp",
        "gradient_estimation", "gradient_estimation_cfg_pp", "uni_pc", "uni_pc_bh2",
    }
)  # fmt: skip
"""Samplers that draw no noise on the way and choose no step size from the whole batch: with these
a row of a batch does not depend on its neighbours."""


class NoNumbersError(CuratorError):
    """A model or VAE gives values that are no numbers, which stock nodes save as black."""

    def __init__(self, by: str, name: str) -> None:
        mend = {
            "VAE": "Start ComfyUI with --fp32-vae, or connect another VAE",
            "model": "Start ComfyUI with --force-upcast-attention or --fp32-unet, or choose "
            "another sampler or a lower cfg",
        }[by]
        super().__init__(
            f"The {by} gives values that are no numbers (NaN) for {name}, which would be black: it "
            f"overflows in half precision. {mend}; images that are done are kept."
        )


class WiresBackend:
    """Makes images with what a KSampler takes.

    Args:
        model: A MODEL.
        vae: A VAE.
        clip: A CLIP, unless both conditionings are given.
        positive: A conditioning in place of every prompt.
        negative: A conditioning in place of every negative prompt.
        sampling: Widgets of the KSampler, and the size.
        name: What records call the model.
        fingerprint: What identifies the models; see :mod:`.identity`.
        on_image: Called with each finished image, a PIL image.
        refuses_no_numbers: Whether values that are no numbers end it, instead of being black: in a
            training or an evaluation a black image says something of the LoRA.
    """

    def __init__(
        self,
        model: Any,
        vae: Any,
        clip: Any,
        positive: Any,
        negative: Any,
        sampling: Sampling,
        *,
        name: str,
        fingerprint: str,
        on_image: Callable[[Any], None],
        refuses_no_numbers: bool = False,
    ) -> None:
        self._model, self._vae, self._clip = model, vae, clip
        self._given = {"positive": positive, "negative": negative}
        self._sampling = sampling
        self._on_image = on_image
        self._refuses_no_numbers = refuses_no_numbers
        self._encoded: dict[str, Any] = {}
        self._settings = {
            "backend": "comfyui",
            "model": name,
            "model_fingerprint": fingerprint,
            "sampler": sampling.sampler,
            "scheduler": sampling.scheduler,
            "steps": sampling.steps,
            "guidance": sampling.cfg,
            "width": sampling.width,
            "height": sampling.height,
        }

    @property
    def settings(self) -> Mapping[str, Any]:
        """All that decides the images besides the requests."""
        return self._settings

    @property
    def conditions(self) -> Mapping[str, Any]:
        """Versions, device, threads, and the flags that ComfyUI was started with."""
        from comfy.cli_args import args
        from comfyui_version import __version__

        from ...core.generation.conditions import current

        flags = {
            name: str(value)
            for name, value in vars(args).items()
            if value
            and name.startswith(("force_", "fp", "bf16", "use_", "cpu", "deterministic", "fast"))
        }
        device = self._model.load_device.type
        return {**current(device), "comfyui": __version__, "flags": flags}

    @property
    def maximum_batch(self) -> int | None:
        """1 for samplers whose rows depend on each other, else ``None``."""
        return None if self._sampling.sampler in INDEPENDENT else 1

    def encode(self, requests: Sequence[Request]) -> None:
        """Encode every distinct prompt of the requests that is not encoded yet."""
        for request in requests:
            for role, text in _texts(request).items():
                if self._given[role] is None and text not in self._encoded:
                    comfy.model_management.throw_exception_if_processing_interrupted()
                    tokens = self._clip.tokenize(text)
                    self._encoded[text] = self._clip.encode_from_tokens_scheduled(tokens)

    def sample(
        self, requests: Sequence[Request], on_step: StepCallback | None = None
    ) -> np.ndarray:
        """Make an image a request, those together whose prompts a model can take together.

        Returns:
            uint8 RGB array of shape ``(len(requests), height, width, 3)``.
        """
        self.encode(requests)
        groups: dict[Any, list[int]] = {}
        for number, request in enumerate(requests):
            groups.setdefault(self._kind(request), []).append(number)
        rows: dict[int, np.ndarray] = {}
        for done, group in enumerate(groups.values()):
            told = None if on_step is None else _part(on_step, done, len(groups))
            images = self._sample([requests[number] for number in group], told)
            rows |= dict(zip(group, images, strict=True))
        return np.stack([rows[number] for number in range(len(requests))])

    def _kind(self, request: Request) -> tuple[Any, ...]:
        """Return what requests of one batch have in common: the shapes of what is encoded."""
        return tuple(
            None if self._given[role] is not None else _shapes(self._encoded[text])
            for role, text in _texts(request).items()
        )

    def _sample(self, requests: Sequence[Request], on_step: StepCallback | None) -> np.ndarray:
        chosen = self._sampling
        # A cell is 8 pixels in most families, not in all.
        cell = int(self._vae.spacial_compression_encode())
        shape = [1, 4, chosen.height // cell, chosen.width // cell]
        empty = torch.zeros(shape, device=comfy.model_management.intermediate_device())
        empty = comfy.sample.fix_empty_latent_channels(self._model, empty)
        seeds = [request.noise_seed for request in requests]
        noise = torch.cat([comfy.sample.prepare_noise(empty, seed) for seed in seeds])

        def callback(step: int, _: Any, __: Any, total: int) -> None:
            comfy.model_management.throw_exception_if_processing_interrupted()
            if on_step is not None:
                on_step(step + 1, total)

        samples = comfy.sample.sample(
            self._model,
            noise,
            chosen.steps,
            chosen.cfg,
            chosen.sampler,
            chosen.scheduler,
            self._conditioning("positive", requests),
            self._conditioning("negative", requests),
            comfy.utils.repeat_to_batch_size(empty, len(requests)),
            callback=callback,
            disable_pbar=True,
            # Samplers that draw noise on the way begin with it; they sample one at a time.
            seed=seeds[0],
        )
        rows = []
        for row in range(len(requests)):
            # One at a time: how many fit into memory at once must not matter.
            image = self._vae.decode(samples[row : row + 1])
            if self._refuses_no_numbers and not torch.isfinite(image).all():
                by = "VAE" if torch.isfinite(samples[row]).all() else "model"
                raise NoNumbersError(by, requests[row].file_name)
            rows.append(to_bytes(image.reshape(-1, *image.shape[-3:]))[:1])
            self._show(rows[-1][0])
        return np.concatenate(rows)

    def _conditioning(self, role: str, requests: Sequence[Request]) -> Any:
        if self._given[role] is not None:
            return self._given[role]
        parts = [self._encoded[_texts(request)[role]] for request in requests]
        return parts[0] if all(part is parts[0] for part in parts) else _stacked(parts)

    def _show(self, pixels: np.ndarray) -> None:
        from PIL import Image

        self._on_image(Image.fromarray(pixels))


def _part(on_step: StepCallback, done: int, parts: int) -> StepCallback:
    """Return a callback for one of several parts of equal length."""
    return lambda step, total: on_step(done * total + step, parts * total)


def _shapes(encoded: Any) -> Any:
    """Return what encodings must share to be rows of one; an encoding with more goes alone."""
    if len(encoded) != 1 or set(encoded[0][1]) - {"pooled_output"}:
        return id(encoded)
    pooled = encoded[0][1].get("pooled_output")
    return encoded[0][0].shape, None if pooled is None else pooled.shape


def _stacked(parts: Sequence[Any]) -> Any:
    """Join encodings of one text each into one of as many rows."""
    joined = dict(parts[0][0][1])
    pooled = [part[0][1].get("pooled_output") for part in parts]
    if all(value is not None for value in pooled):
        joined["pooled_output"] = torch.cat(pooled)
    return [[torch.cat([part[0][0] for part in parts]), joined]]


def _texts(request: Request) -> dict[str, str]:
    return {"positive": request.prompt, "negative": request.negative_prompt}
