"""ComfyUI's MODEL, CLIP and VAE wires as a denoiser of core's trainer.

The adapters go into ComfyUI's own diffusion model, and the model's own ``apply_model`` makes the
predictions, so that whatever ComfyUI can load is trained as it generates. Between two steps, for
sample images and while images and captions are encoded, ComfyUI has its models back.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import comfy.ldm.modules.attention
import comfy.model_base
import comfy.model_management
import comfy.samplers
import comfy.sd
import torch
from torch import Tensor, nn

from ...core.errors import CuratorError
from . import conditions as wire_conditions
from . import references
from .activation_checkpoints import add_checkpointing, remove_checkpointing
from .backend import WiresBackend
from .file_names import file_names
from .identity import weights_identity
from .loan import Loan, is_adapter
from .model_kinds import (
    architecture_of,
    has_signal_scale,
    is_unet,
    layer_names,
    prediction_of,
    size_step,
)
from .partial_loading import PartialLoading
from .stock_graph import Sampling

if TYPE_CHECKING:
    import numpy as np

    from ...core.lora.adapters import Adapters
    from ...core.lora.spelling import FileNames
    from ...core.training.data.buckets import Size
    from ...core.training.denoisers.protocol import Prediction, TextEmbeddings
    from ...core.training.outputs.samples import SampleSettings

_ALL_THERE_IS = 1e20
"""Memory asked for, in bytes, so that everything else makes room."""

_SLOW_ATTENTION = ("attention_sub_quad", "attention_split", "attention_basic")


class UntrainableError(CuratorError):
    """A MODEL, CLIP or VAE that a LoRA cannot be trained on as it is wired."""


class WireDenoiser:
    """Keeps ``core.training.denoiser.SamplingDenoiser``; see there for the methods.

    A context: within it the trainer may have the models; after it, error or not, they are as they
    were before. Timesteps are indices of the model's schedule, or 1000 sigma for flow matching.

    Args:
        model: A MODEL; LoRAs and patches on it are trained on top of.
        clip: A CLIP.
        vae: A VAE.
        train_text_encoder: Whether the text encoders carry adapters too.
        sampler: KSampler's name of the sampler of sample images.
        scheduler: KSampler's name of their scheduler.
        on_image: Called with each finished sample image, a PIL image.
        references: How control images are told, one of :data:`.references.ENCODINGS`.
        block_swap: How many blocks' weights are on the card only while they compute.

    Raises:
        UntrainableError: The model predicts neither noise, nor velocity, nor a flow; or its text
            encoder takes no adapters.
    """

    def __init__(
        self,
        model: Any,
        clip: Any,
        vae: Any,
        *,
        train_text_encoder: bool = False,
        sampler: str = "euler",
        scheduler: str = "normal",
        on_image: Callable[[Any], None] = lambda _: None,
        references: str = references.AUTO,
        block_swap: int = 0,
    ) -> None:
        found = prediction_of(model.get_model_object("model_sampling"))
        if found is None:
            raise UntrainableError(
                f"What {type(model.model).__name__} predicts, {_sampling_name(model)}, has no "
                "known target, so no LoRA can be trained on it. Known are noise (epsilon) and "
                "velocity (v) on discrete timesteps, and rectified flows, that of "
                "Cosmos-Predict2 included. Wire another model, or one without a patch of its "
                "sampling."
            )
        self.prediction: Prediction = found
        self._model, self._clip, self._vae = model, clip, vae
        if train_text_encoder and _is_dynamic(clip.patcher):
            self._clip = clip = clip.clone(disable_dynamic=True)
        self._texts = wire_conditions.encoders(clip)
        if train_text_encoder and not self._texts:
            raise UntrainableError(
                f"The text encoder {type(clip.cond_stage_model).__name__} takes no adapters that "
                "a LoRA file could hold. Switch train_text_encoder off."
            )
        if train_text_encoder and block_swap:
            raise UntrainableError(
                "block_swap does not go with train_text_encoder: ComfyUI would load the text "
                "encoder in part too. Switch one off."
            )
        self._trains_text = train_text_encoder
        self._sampler, self._scheduler, self._on_image = sampler, scheduler, on_image
        # Computed now: afterwards the weights may have been lent.
        self.identity = _identity(model, clip, vae, references)
        self._references = references
        self.architecture = architecture_of(model.model, found)
        self.pixel_step = size_step(model.model, vae)
        self.device: torch.device = model.load_device
        self._names = layer_names(model.model)
        self._lent = _in_training_precision(model)
        modules = [self._lent.model]
        if train_text_encoder:
            modules.append(clip.cond_stage_model)
        adding = [] if is_unet(model.model) else [self._lent.model.diffusion_model]
        adding += self._texts.values() if train_text_encoder else ()
        self._loan = Loan(modules, adding)
        self._partial = PartialLoading(self._lent, block_swap) if block_swap else None

    def __enter__(self) -> WireDenoiser:
        """Take the models."""
        add_checkpointing(self._lent.model.diffusion_model)
        return self

    def __exit__(self, *_: object) -> None:
        """Give the models back."""
        self._give_back(self._loan.end)
        remove_checkpointing(self._lent.model.diffusion_model)

    base_said = ""
    """ComfyUI holds a model as its file does."""

    @property
    def swaps(self) -> str:
        """What is left to ComfyUI's partial loading, in words."""
        return self._partial.note if self._partial is not None else ""

    def module(self) -> nn.Module:
        """Return the diffusion model, where it computes."""
        self._take()
        return self._lent.model.diffusion_model

    def text_modules(self) -> Mapping[str, nn.Module]:
        """Return the text encoders that can carry adapters."""
        return self._texts

    def file_key(self, part: str, path: str) -> str:
        """Return the one name of a layer: kohya's for UNets and text encoders, ComfyUI's own."""
        from ...core.lora import names

        if part == "denoiser" and not self._names:
            return names.generic(part, path)
        count = wire_conditions.encoder_count(self._clip)
        return names.kohya(part, self._names.get(path, path), text_encoders=count)

    @property
    def file_names(self) -> FileNames:
        """How LoRA files may call the layers, by spelling."""
        count = wire_conditions.encoder_count(self._clip)
        return file_names(self._model.model, self.architecture, count)

    def encode_pixels(self, pixels: Tensor, generator: torch.Generator | None) -> Tensor:
        """Encode images, ``(n, 3, height, width)`` in [-1, 1], as VAEEncode does.

        Raises:
            UntrainableError: The VAE is of another kind of model.
        """
        with self._as_before():
            images = (pixels.movedim(1, -1) + 1) / 2
            # A video's VAE takes several images for the frames of one.
            alone = len(images) > 1 and self._model.model.latent_format.latent_dimensions == 3
            parts = images.split(1) if alone else (images,)
            latents = torch.cat([self._vae.encode(part) for part in parts])
            if self._model.model.latent_format.latent_dimensions == 3 and latents.dim() == 4:
                latents = latents.unsqueeze(2)
            own = self._model.model.latent_format
            if latents.shape[1] != own.latent_channels:
                raise UntrainableError(
                    f"The VAE makes latents of {latents.shape[1]} channels, the model takes "
                    f"{own.latent_channels}: wire the VAE that belongs to the model."
                )
            latents = self._model.model.process_latent_in(latents)
        return latents.float().clone()

    def encode_text(self, captions: Sequence[str]) -> TextEmbeddings:
        """Encode captions; gradients reach the text encoders if they are trained."""
        from ...core.training.denoisers.protocol import TextEmbeddings

        if self._trains_text:
            self._take()
            clip = self._clip
            return TextEmbeddings.cat(
                [wire_conditions.encode_with_gradients(clip, text) for text in captions]
            )
        with self._as_before():
            found = TextEmbeddings.cat([wire_conditions.encode(self._clip, c) for c in captions])
        return found.cloned()

    def encode_edit(self, caption: str, controls: Sequence[Tensor]) -> TextEmbeddings:
        """Encode a caption with control images as the stock node of the family does.

        Raises:
            ReferencesError: The model takes none.
        """
        references.check(self._model.model)
        images = [(control.movedim(1, -1) + 1) / 2 for control in controls]
        with self._as_before():
            told = references.encode(
                self._model.model, self._clip, self._vae, caption, images, self._references
            )
            found = wire_conditions.embeddings(told)
        return found.cloned()

    def offload_encoders(self) -> None:
        """Nothing to do: whatever else ComfyUI has loaded makes room when the model is taken."""

    def sample_timesteps(self, n: int, generator: torch.Generator | None) -> Tensor:
        """Draw timesteps: evenly; for flow matching logit-normally (arXiv 2403.03206)."""
        if self.prediction == "flow":
            return (1000 * torch.randn(n, generator=generator).sigmoid()).to(self.device)
        return torch.randint(self._steps, (n,), generator=generator).to(self.device)

    def fixed_timesteps(self, k: int) -> Tensor:
        """Return the ``k`` mid-quantiles of that distribution, ascending."""
        shares = (torch.arange(k, dtype=torch.float64) + 0.5) / k
        if self.prediction == "flow":
            normal = 2**0.5 * torch.erfinv(2 * shares - 1)
            return (1000 * normal.sigmoid()).float().to(self.device)
        return (shares * self._steps).long().to(self.device)

    def add_noise(self, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """Return the latents with noise in ComfyUI's scale: for UNets the signal keeps its own."""
        self._take()
        # It adds in place.
        return self._sampling.noise_scaling(self._sigma(timesteps), noise.clone(), latents)

    def target(self, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """Return the noise, the velocity of arXiv 2202.00512, or the flow's."""
        if self.prediction == "epsilon":
            return noise
        if self.prediction == "flow":
            return getattr(self._sampling, "noise_scale", 1.0) * noise - latents
        sigma = self._sigma(timesteps).view(-1, *(1,) * (latents.dim() - 1))
        return (noise - sigma * latents) / (sigma**2 + 1) ** 0.5

    def snr(self, timesteps: Tensor) -> Tensor | None:
        """Return the signal-to-noise ratios; ``None`` for flow matching."""
        return None if self.prediction == "flow" else 1 / self._sigma(timesteps) ** 2

    def predict(
        self,
        noisy: Tensor,
        timesteps: Tensor,
        text: TextEmbeddings,
        size: Sequence[tuple[int, int]],
    ) -> Tensor:
        """Return the model's raw output in float32."""
        self._take()
        model = self._lent.model
        _compute_as_in_sampling(model.diffusion_model)
        scale = int(self._vae.spacial_compression_encode())
        rows = wire_conditions.conditions(model, noisy, text, size, scale)
        sigma = self._sigma(timesteps)
        parts, order = [], []
        for group in wire_conditions.groups(rows):
            told = comfy.samplers.cond_cat([rows[number] for number in group])
            options = self._options(sigma[group], len(group))
            parts.append(
                model.apply_model(noisy[group], sigma[group], transformer_options=options, **told)
            )
            order += group
        found = torch.cat(parts) if len(parts) > 1 else parts[0]
        return found[torch.tensor(order).argsort().to(found.device)] if len(parts) > 1 else found

    def sample(self, adapters: Adapters, settings: SampleSettings, size: Size) -> np.ndarray:
        """Make sample images with a KSampler's code and the LoRA as the file would hold it."""
        import numpy as np

        from ...core.lora.file import tensors_of

        tensors = tensors_of(adapters, self.file_key)
        guided = not self._model.model.model_config.unet_config.get("guidance_embed")
        chosen = Sampling(
            self._sampler,
            self._scheduler,
            settings.steps,
            settings.guidance if guided else 1.0,
            size.width,
            size.height,
        )
        with self._as_before():
            model, clip = comfy.sd.load_lora_for_models(self._model, self._clip, tensors, 1.0, 1.0)
            backend = WiresBackend(
                model, self._vae, clip, None, None, chosen,
                name="", fingerprint="", on_image=self._on_image,
            )  # fmt: skip
            images = np.concatenate([backend.sample([request]) for request in _requests(settings)])
        self._take()
        return images

    @property
    def _sampling(self) -> Any:
        return self._lent.get_model_object("model_sampling")

    @property
    def _steps(self) -> int:
        return len(self._sampling.sigmas)

    def _sigma(self, timesteps: Tensor) -> Tensor:
        if self.prediction == "flow":
            share = timesteps / 1000
            return share / (1 - share) if has_signal_scale(self._sampling) else share
        return self._sampling.sigma(timesteps)

    def _options(self, sigma: Tensor, rows: int) -> dict[str, Any]:
        options = dict(self._lent.model_options.get("transformer_options", {}))
        options |= {"cond_or_uncond": [0] * rows, "sigmas": sigma}
        options.setdefault("optimized_attention_override", _attention)
        return options

    def _take(self) -> None:
        """Load the models whole, and open the loan."""
        if self._loan.is_open:
            return
        # As in a prompt: elsewhere ComfyUI makes ordinary tensors of quantised weights, which it
        # cannot move in any later prompt.
        with torch.inference_mode():
            if self._partial is not None:
                self._partial.load()
            else:
                wanted = [self._lent, *([self._clip.patcher] if self._trains_text else [])]
                comfy.model_management.load_models_gpu(
                    wanted, memory_required=_ALL_THERE_IS, force_full_load=True
                )
        self._loan.open()
        # apply_model ends with it: the raw output is what the loss is of.
        self._sampling.calculate_denoised = _raw_output

    def _give_back(self, end: Callable[[], None]) -> None:
        if self._loan.is_open:
            if self._partial is not None:
                self._partial.close()
            del self._sampling.calculate_denoised
        end()

    @contextmanager
    def _as_before(self) -> Iterator[None]:
        """Within the context, ComfyUI has its models and works as in a prompt."""
        self._give_back(self._loan.close)
        with torch.inference_mode():
            yield


def _compute_as_in_sampling(module: nn.Module) -> None:
    """Leave training mode to the adapters: the model's own parts would drop captions, for one."""
    if module.training:
        for path, part in module.named_modules():
            # LoRA asks a part of its layer whether to drop, DoRA, LoKr and LoHa the layer.
            part.training = "lora_dropout" in path or is_adapter(part)


def _raw_output(_: Tensor, output: Tensor, __: Tensor) -> Tensor:
    return output


def _attention(chosen: Any, *arguments: Any, **options: Any) -> Any:
    """Take torch's attention where ComfyUI would save memory that training needs anyway."""
    if getattr(chosen, "__name__", "") in _SLOW_ATTENTION:
        chosen = comfy.ldm.modules.attention.attention_pytorch
    return chosen(*arguments, **options)


def _sampling_name(model: Any) -> str:
    """Return what ComfyUI calls the way in which a model predicts."""
    kinds = type(model.get_model_object("model_sampling")).__mro__
    named = [kind.__name__ for kind in kinds if "calculate_denoised" in vars(kind)]
    return named[0] if named else kinds[0].__name__


def _is_dynamic(patcher: Any) -> bool:
    """Whether ComfyUI keeps the weights elsewhere, and brings each for the layer's own moment."""
    return bool(getattr(patcher, "is_dynamic", lambda: False)())


def _whole(model: Any) -> Any:
    """Return the same MODEL with its weights where they compute, for as long as they do."""
    try:
        return model.get_non_dynamic_delegate()
    except RuntimeError as error:
        raise UntrainableError(
            f"The weights of {type(model.model).__name__} stay in dynamic VRAM, for ComfyUI does "
            "not know which file they are of, so no gradient can go through them. Start ComfyUI "
            "with --disable-dynamic-vram, or load the model by a stock node."
        ) from error


def _in_training_precision(model: Any) -> Any:
    """Return a clone of a MODEL whose gradients do not underflow, as half precision's would."""
    lent = _whole(model) if _is_dynamic(model) else model.clone()
    own = lent.model.manual_cast_dtype or lent.model_dtype()
    if own not in (torch.float32, torch.bfloat16):
        half = comfy.model_management.should_use_bf16(lent.load_device)
        lent.set_model_compute_dtype(torch.bfloat16 if half else torch.float32)
    return lent


def _identity(model: Any, clip: Any, vae: Any, told: str) -> str:
    """Hash the weights on the wires, and what else decides latents, embeddings and predictions."""
    sampling = model.get_model_object("model_sampling")
    marks = [
        *(weights_identity(patcher) for patcher in (model, clip.patcher, vae.patcher)),
        str((clip.layer_idx, sorted(clip.tokenizer_options.items()))),
        str((prediction_of(sampling), model.model_dtype(), model.model.manual_cast_dtype)),
    ]
    if not is_unet(model.model) and type(model.model) is not comfy.model_base.Flux:
        marks.append("conditions in full")  # what was encoded without is encoded anew
    if told != references.AUTO:
        marks.append(told)
    marks.append(hashlib.sha256(sampling.sigmas.cpu().numpy().tobytes()).hexdigest())
    return hashlib.sha256(" ".join(marks).encode()).hexdigest()


def _requests(settings: SampleSettings) -> list[Any]:
    from ...core.requests import prompt_request

    return [
        prompt_request(
            prompt, number + 1, subject="sample", seed=settings.seed + number,
            caption=prompt, negative=settings.negative, noise=settings.seed + number,
        )
        for number, prompt in enumerate(settings.prompts)
    ]  # fmt: skip
