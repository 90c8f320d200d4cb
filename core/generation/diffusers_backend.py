"""Text-to-image pipelines of diffusers (SD 1.5, SDXL, SD 3.5, Flux, …) as a back end."""

from __future__ import annotations

import copy
import inspect
import logging
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..counts import how_many, worded
from ..engines.local import threads as threads_of
from ..engines.work import Needs
from . import conditions, models, pipelines, schedulers
from .backend import StepCallback
from .model_files import located
from .prompts import PromptArguments, guidance_arguments, has_rows_of_any_length

if TYPE_CHECKING:
    from ..plan import Request

log = logging.getLogger(__name__)


class DiffusersBackend:
    """Makes images with a diffusers pipeline, found by ``AutoPipelineForText2Image``.

    Weights are loaded when the first image is asked for, so that a run that finds everything on
    disk is quick. Noise is drawn on the CPU, by one generator a row, seeded with the request's
    noise seed. Pixels are quantised as ComfyUI's SaveImage does: 255 * value, clipped, the
    fraction cut off.

    Args:
        model: ``miniature``, the folder of a pipeline, a single ``.safetensors`` file, or an id of
            the Hugging Face hub.
        scheduler: See :func:`.schedulers.make`.
        steps: Denoising steps.
        guidance: Classifier-free guidance scale (for Flux.1 and Flux.2: the distilled guidance).
        width: In pixels; the model's own size if ``None``.
        height: In pixels; the model's own size if ``None``.
        dtype: ``float32``, ``float16``, ``bfloat16``; or ``auto``: float32 on a CPU, else float16
            for models with a UNet and bfloat16 for others.
        device: ``cpu``, ``cuda``, ``mps``; or ``auto``: the best there is.
        loras: Files and weights, applied in this order.
        variant: The variant of the weights to load, such as ``fp16``.
        safety_checker: Keep the safety checker of a model that has one. It blackens what it finds.
        threads: CPU threads to sample with; torch's own choice if ``None``.
        config: Of a single file: the folder of diffusers, or the hub's id, that its configurations
            and tokenizers come from; what diffusers takes for the file if ``None``.

    Raises:
        ModelNotFoundError: There is no such model here or on the hub.
        SchedulerError: The scheduler is unknown or does not fit.
        LoraError: A LoRA file is missing.
        ModelSettingsError: Size, dtype or device is impossible.
    """

    def __init__(
        self,
        model: str | Path = "miniature",
        *,
        scheduler: str | Mapping[str, Any] = schedulers.MODEL,
        steps: int = 20,
        guidance: float = 5.0,
        width: int | None = None,
        height: int | None = None,
        dtype: str = "auto",
        device: str = "auto",
        loras: Sequence[tuple[str | Path, float]] = (),
        variant: str | None = None,
        safety_checker: bool = True,
        threads: int | None = None,
        config: str | Path | None = None,
    ) -> None:
        self._device = pipelines.device_of(device)
        self._threads = threads
        self._loras = [(Path(path).expanduser(), float(weight)) for path, weight in loras]
        self._options: dict[str, Any] = {} if variant is None else {"variant": variant}
        files = located(model, config, **self._options)
        folder = files.folder
        self._files = files
        safety_checker = safety_checker and files.file is None  # which brings none
        keeps_checker = safety_checker and "safety_checker" in models.parts(folder)
        if "safety_checker" in models.parts(folder) and not safety_checker:
            self._options |= {"safety_checker": None, "requires_safety_checker": False}
        self._scheduler = schedulers.make(scheduler, pipelines.own_scheduler(folder, files.file))
        size = pipelines.size_of(folder, width, height)
        self._settings: dict[str, Any] = {
            "backend": "diffusers",
            "pipeline": models.pipeline_class(folder),
            "model": models.reference(model),
            "model_fingerprint": files.fingerprint(variant),
            "variant": variant,
            "scheduler": schedulers.describe(self._scheduler),
            "steps": int(steps),
            "guidance": float(guidance),
            "width": size[0],
            "height": size[1],
            "dtype": pipelines.dtype_of(dtype, self._device, folder),
            "loras": [pipelines.describe_lora(path, weight) for path, weight in self._loras],
            "safety_checker": keeps_checker,
        }
        if files.file is not None:
            self._settings["config"] = None if config is None else models.reference(config)
        kind = models.pipeline_class(folder)
        takes = pipelines.passes_generators(kind)
        apart = schedulers.has_rows_of_their_own(self._scheduler, steps, takes)
        self._maximum_batch = None if apart and not has_rows_of_any_length(kind) else 1

    def __getstate__(self) -> dict[str, Any]:
        """Travel as a description: another process loads the weights itself."""
        loaded = ("_pipeline", "_prompts", "_scheduler")
        return {name: value for name, value in vars(self).items() if name not in loaded}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        own = pipelines.own_scheduler(self._files.folder, self._files.file)
        self._scheduler = schedulers.make(self._settings["scheduler"], own)

    @cached_property
    def _pipeline(self) -> Any:
        """The pipeline, its weights loaded when the first image is asked for."""
        import torch

        dtype = getattr(torch, self._settings["dtype"])
        pipeline = pipelines.load(self._files.folder, dtype, self._options, self._files.file)
        pipeline.scheduler = self._scheduler
        names = [f"lora_{index}" for index in range(len(self._loras))]
        for name, (path, _) in zip(names, self._loras, strict=True):
            pipelines.add_lora(pipeline, path, name)
        if names:
            pipeline.set_adapters(names, [weight for _, weight in self._loras])
        pipeline.to(self._device)
        pipeline.set_progress_bar_config(disable=True)
        for part in (getattr(pipeline, "unet", None), getattr(pipeline, "vae", None)):
            if part is not None:
                pipelines.lay_out(part)
        # An image at a time through the decoder: memory does not grow with the batch.
        if hasattr(pipeline, "vae") and hasattr(pipeline.vae, "enable_slicing"):
            pipeline.vae.enable_slicing()
        return pipeline

    @cached_property
    def _prompts(self) -> PromptArguments:
        return PromptArguments(self._pipeline, guided=self._settings["guidance"] > 1)

    @staticmethod
    def from_settings(
        settings: Mapping[str, Any],
        *,
        model: str | Path | None = None,
        device: str = "auto",
        threads: int | None = None,
    ) -> DiffusersBackend:
        """Make the back end that an image's record describes.

        Args:
            settings: The record's settings.
            model: Where the model is now, if elsewhere.
            device: As for the class.
            threads: As for the class.
        """
        model = model or settings["model"]
        return DiffusersBackend(
            model,
            scheduler=settings["scheduler"],
            steps=settings["steps"],
            guidance=settings["guidance"],
            width=settings["width"],
            height=settings["height"],
            dtype=settings["dtype"],
            device=device,
            loras=[(lora["path"], lora["weight"]) for lora in settings["loras"]],
            variant=settings["variant"],
            safety_checker=settings["safety_checker"],
            threads=threads,
            config=settings.get("config") if Path(model).expanduser().is_file() else None,
        )

    @property
    def settings(self) -> Mapping[str, Any]:
        """All that decides the images besides the requests."""
        return self._settings

    @property
    def conditions(self) -> Mapping[str, Any]:
        """Versions, device and threads."""
        present = conditions.current(self._device)
        return present if self._threads is None else {**present, "threads": self._threads}

    @property
    def needs(self) -> Needs:
        """What a process takes that samples: the weights, and half as much for what they make."""
        stored = models.weight_bytes(self._files.folder, self._options.get("variant"))
        stored += 0 if self._files.file is None else self._files.file.stat().st_size
        # Weights of that size are mostly stored in 16 bits, and a CPU wants 32.
        wide = 2 if self._settings["dtype"] == "float32" and stored > 2**30 else 1
        return Needs(2**30 + stored * wide * 3 // 2, self._device)

    def sized(self) -> DiffusersBackend:
        """Return this back end with a worker's threads on a CPU.

        It then makes the same images, bit by bit, in however many processes.
        """
        if self._device != "cpu" or self._threads is not None:
            return self
        sized = copy.copy(self)
        sized._threads = threads_of(self.needs)
        return sized

    @property
    def maximum_batch(self) -> int | None:
        """1 if the scheduler's noise or the length of prompts is not a row's own, else ``None``."""
        return self._maximum_batch

    def sample(
        self, requests: Sequence[Request], on_step: StepCallback | None = None
    ) -> np.ndarray:
        """Make an image a request, as one batch.

        Returns:
            uint8 RGB array of shape ``(len(requests), height, width, 3)``.

        Raises:
            ModelNotFoundError: Some part of the model can't be loaded.
            LoraError: A LoRA file does not fit the model.
            ModelSettingsError: The batch does not fit into memory.
        """
        import torch

        settings = self._settings
        arguments = self._prompts([(r.prompt, r.negative_prompt) for r in requests])
        steps = settings["steps"]

        def after_step(_: Any, step: int, __: Any, values: dict[str, Any]) -> dict[str, Any]:
            if on_step is not None:
                on_step(step + 1, steps)
            return values

        accepted = inspect.signature(type(self._pipeline).__call__).parameters
        if "callback_on_step_end" in accepted:
            arguments["callback_on_step_end"] = after_step
        # Older versions of torch know this error as one of CUDA alone.
        out_of_memory = getattr(torch, "OutOfMemoryError", torch.cuda.OutOfMemoryError)
        # The global generator is seeded too, for schedulers that draw from it (batches of one).
        with conditions.exact(self._threads), torch.random.fork_rng():
            torch.manual_seed(requests[0].noise_seed)
            try:
                result = self._pipeline(
                    **arguments,
                    generator=[torch.Generator().manual_seed(r.noise_seed) for r in requests],
                    num_inference_steps=steps,
                    **guidance_arguments(self._pipeline, settings["guidance"]),
                    width=settings["width"],
                    height=settings["height"],
                    output_type="pt",
                )
            except out_of_memory as error:
                raise pipelines.ModelSettingsError(
                    f"{how_many(len(requests), 'image')} of "
                    f"{settings['width']}x{settings['height']} "
                    f"{worded(len(requests), 'does', 'do')} not fit into the device's memory at "
                    "once. Use a smaller batch size or size."
                ) from error
            except RuntimeError as error:
                if "allocate memory" not in str(error):  # as torch has it on a CPU
                    raise
                raise pipelines.ModelSettingsError(
                    f"{how_many(len(requests), 'image')} of "
                    f"{settings['width']}x{settings['height']} "
                    f"{worded(len(requests), 'does', 'do')} not fit into memory at once. Use a "
                    "smaller batch size or size."
                ) from error
            except ValueError as error:
                raise pipelines.ModelSettingsError(
                    f"The model makes no image with these settings: {error}"
                ) from error
        for request, hidden in zip(
            requests, getattr(result, "nsfw_content_detected", None) or (), strict=False
        ):
            if hidden:
                log.warning("the model's safety checker has blackened %s", request.file_name)
        images = result.images
        images = images if isinstance(images, torch.Tensor) else torch.from_numpy(images)
        return quantise(images.float().cpu().numpy().transpose(0, 2, 3, 1))


def quantise(images: np.ndarray) -> np.ndarray:
    """Turn values in [0, 1] into bytes as ComfyUI's SaveImage does: scale, clip, truncate."""
    return np.clip(255.0 * images, 0, 255).astype(np.uint8)
