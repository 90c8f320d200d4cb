"""LoRA adapters on a frozen model: peft makes them, here they are placed and taken away again."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch

from ..errors import CuratorError

ADAPTER = "default"
"""peft's name of the adapter that is trained."""

_ATTENTION = (
    "to_q", "to_k", "to_v", "to_out.0",
    "add_q_proj", "add_k_proj", "add_v_proj", "to_add_out",  # Flux, the text's side
    "img_attn.qkv", "img_attn.proj", "txt_attn.qkv", "txt_attn.proj",  # Flux in ComfyUI
    "linear1", "linear2",
)  # fmt: skip
_PROJECTIONS = (
    "proj_in", "proj_out", "ff.net.0.proj", "ff.net.2",
    "ff_context.net.0.proj", "ff_context.net.2", "proj_mlp",
    "img_mlp.0", "img_mlp.2", "txt_mlp.0", "txt_mlp.2",
)  # fmt: skip
_CONVOLUTIONS = (
    "conv1", "conv2", "conv_shortcut", "time_emb_proj", "downsamplers.0.conv", "upsamplers.0.conv",
    "in_layers.2", "out_layers.3", "skip_connection", "emb_layers.1", "op", "conv",  # in ComfyUI
)  # fmt: skip

PRESETS: Mapping[str, tuple[str, ...]] = {
    "seed-document": ("to_q", "to_v"),
    "attention": _ATTENTION,
    "full": (*_ATTENTION, *_PROJECTIONS, *_CONVOLUTIONS),
}
"""Ends of the names of the layers that carry adapters. Names that a model lacks do no harm."""


class AdapterError(CuratorError):
    """Adapters can't be placed on this model as the settings say."""


@dataclass(frozen=True)
class LoraSettings:
    """Shape and place of the adapters. The defaults are those of the published recipe.

    Raises:
        AdapterError: A value is out of its range, or the preset is unknown.
    """

    rank: int = 8
    """Inner width of an adapter."""
    alpha: float = 8.0
    """Strength: an adapter's output is multiplied by :attr:`scale`."""
    dropout: float = 0.05
    """Share of an adapter's inputs that a training step drops."""
    targets: str | tuple[str, ...] = "seed-document"
    """A name of :data:`PRESETS`, or ends of the names of layers."""
    rslora: bool = False
    """Rank-stabilised: scale alpha / sqrt(rank) (arXiv 2312.03732)."""
    dora: bool = False
    """Weight-decomposed: direction and magnitude apart (arXiv 2402.09353)."""
    text_encoder: bool = False
    """Adapt the text encoders too."""
    text_targets: tuple[str, ...] = ("q_proj", "k_proj", "v_proj", "out_proj")
    """Ends of the names of the text encoders' layers."""

    def __post_init__(self) -> None:
        if self.rank < 1 or self.alpha <= 0 or not 0 <= self.dropout < 1:
            raise AdapterError(
                f"rank = {self.rank}, alpha = {self.alpha}, dropout = {self.dropout}: rank must be "
                "at least 1, alpha above 0, dropout from 0 to below 1."
            )
        if isinstance(self.targets, str) and self.targets not in PRESETS:
            raise AdapterError(
                f"There is no preset '{self.targets}' of layers. Use one of: {', '.join(PRESETS)}; "
                "or a list of layer names such as to_q."
            )

    @property
    def scale(self) -> float:
        """What an adapter's output is multiplied by."""
        return self.alpha / (math.sqrt(self.rank) if self.rslora else self.rank)

    @property
    def layers(self) -> tuple[str, ...]:
        """Ends of the names of the diffusion model's layers that carry adapters."""
        return PRESETS[self.targets] if isinstance(self.targets, str) else self.targets


@dataclass(frozen=True)
class Adapters:
    """The adapters on a model's modules, from :func:`inject` to :meth:`remove`.

    Attributes:
        modules: The modules that carry adapters, by part: ``denoiser``, ``te1``, ``te2``.
        settings: How they were made.
    """

    modules: Mapping[str, torch.nn.Module]
    settings: LoraSettings
    _flags: Mapping[torch.nn.Parameter, bool] = field(repr=False)

    def layers(self) -> Iterator[tuple[str, str, Any]]:
        """Yield part, path and peft layer of each adapter, in the modules' order."""
        for part, module in self.modules.items():
            for path, layer in module.named_modules():
                if _is_adapted(layer):
                    yield part, path, layer

    def parameters(self, part: str | None = None) -> list[torch.nn.Parameter]:
        """Return the trainable parameters alone, of one part or of all."""
        return list(self.named_parameters(part).values())

    def named_parameters(self, part: str | None = None) -> dict[str, torch.nn.Parameter]:
        """Return the trainable parameters by name, ``<part>.<path>.<tensor>``."""
        return {
            f"{where}.{path}.{name.replace(f'.{ADAPTER}', '')}": parameter
            for where, path, layer in self.layers()
            if part in (None, where)
            for name, parameter in layer.named_parameters()
            if name.startswith("lora_")
        }

    def state_dict(self) -> dict[str, torch.Tensor]:
        """Return copies of the trainable parameters, on the CPU."""
        return {k: v.detach().cpu().clone() for k, v in self.named_parameters().items()}

    def load_state_dict(self, state: Mapping[str, torch.Tensor]) -> None:
        """Put back what :meth:`state_dict` gave.

        Raises:
            AdapterError: It is of adapters with other settings or of another model.
        """
        own = self.named_parameters()
        wrong = [k for k in own if k not in state or state[k].shape != own[k].shape]
        wrong += [k for k in state if k not in own]
        if wrong:
            raise AdapterError(
                f"{len(wrong)} tensors do not fit the adapters (first: {wrong[0]}). Use the rank, "
                "layers and base model that they were saved with."
            )
        with torch.no_grad():
            for name, parameter in own.items():
                parameter.copy_(state[name])

    def enable(self, enabled: bool = True) -> None:
        """Let the adapters act, or let the model be as it was without them."""
        for _, _, layer in self.layers():
            layer.enable_adapters(enabled)

    @contextmanager
    def disabled(self) -> Iterator[None]:
        """Within the context, the model is as it was without adapters."""
        self.enable(False)
        try:
            yield
        finally:
            self.enable()

    def remove(self) -> None:
        """Take the adapters away; the model is bit for bit what it was before."""
        for module in self.modules.values():
            for path, layer in [m for m in module.named_modules() if _is_adapted(m[1])]:
                parent, _, name = path.rpartition(".")
                setattr(module.get_submodule(parent), name, layer.get_base_layer())
            if hasattr(module, "peft_config"):
                del module.peft_config
        for parameter, flag in self._flags.items():
            parameter.requires_grad_(flag)


def inject(
    modules: Mapping[str, torch.nn.Module], settings: LoraSettings, *, seed: int = 0
) -> Adapters:
    """Place new adapters on modules, which are frozen; at first they change no output.

    Adapters are kept in float32 whatever the number type of the frozen weights.

    Args:
        modules: By part: ``denoiser``, and ``te1``, ``te2`` where
            :attr:`LoraSettings.text_encoder` is set (they are passed over where it is not).
        settings: Shape and place of the adapters.
        seed: Of their first weights.

    Raises:
        AdapterError: A module has none of the layers, or carries adapters already.
    """
    from peft import LoraConfig, inject_adapter_in_model

    chosen = {
        part: module
        for part, module in modules.items()
        if part == "denoiser" or settings.text_encoder
    }
    for part, module in chosen.items():
        if any(_is_adapted(layer) for layer in module.modules()):
            raise AdapterError(f"The model's part '{part}' carries adapters already: unload them.")
    flags = {p: p.requires_grad for module in chosen.values() for p in module.parameters()}
    adapters = Adapters(chosen, settings, flags)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for part, module in chosen.items():
            targets = settings.layers if part == "denoiser" else settings.text_targets
            try:
                config = LoraConfig(
                    r=settings.rank,
                    lora_alpha=settings.alpha,  # type: ignore[arg-type]  # peft only divides it
                    lora_dropout=settings.dropout,
                    target_modules=_paths(module, targets),
                    use_rslora=settings.rslora,
                    use_dora=settings.dora,
                    bias="none",
                )
                inject_adapter_in_model(config, module, adapter_name=ADAPTER)
            except (AdapterError, ValueError) as error:
                adapters.remove()
                raise AdapterError(
                    f"No adapters can be placed on the model's part '{part}': {error}"
                ) from error
    for parameter in adapters.parameters():
        parameter.data = parameter.data.float()
        parameter.requires_grad_()
    return adapters


def _paths(module: torch.nn.Module, targets: tuple[str, ...]) -> list[str]:
    """Return the paths of the linear and convolution layers that the targets name."""
    kinds = (torch.nn.Linear, torch.nn.Conv2d)
    ends = tuple(f".{target}" for target in targets)
    paths = [
        path
        for path, layer in module.named_modules()
        if isinstance(layer, kinds) and f".{path}".endswith(ends)
    ]
    if not paths:
        raise AdapterError(
            f"{type(module).__name__} has no layer whose name ends with any of: "
            f"{', '.join(targets)}. Choose the preset 'attention' or 'full', or name its layers."
        )
    return paths


def _is_adapted(layer: torch.nn.Module) -> bool:
    from peft.tuners.tuners_utils import BaseTunerLayer

    return isinstance(layer, BaseTunerLayer)
