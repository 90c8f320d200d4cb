"""Adapters on a frozen model: peft makes them, here they are placed and taken away again.

LoRA, LoKr or LoHa; what is said of LoRA holds of all three.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch

from ..counts import how_many
from ..defaults import RECIPE_ALPHA, RECIPE_DROPOUT, RECIPE_RANK, SEED_DOCUMENT
from ..errors import CuratorError
from .lycoris import KINDS, PREFIXES, AdapterKind
from .targets import LAYER_PRESETS, Placement, place

ADAPTER = "default"
"""peft's name of the adapter that is trained."""


class AdapterError(CuratorError):
    """Adapters can't be placed on this model as the settings say."""


@dataclass(frozen=True)
class LoraSettings:
    """Shape and place of the adapters. The defaults are those of the seed-document recipe.

    Raises:
        AdapterError: A value is out of its range, or the preset is unknown.
    """

    rank: int = RECIPE_RANK
    """Inner width of an adapter."""
    alpha: float = RECIPE_ALPHA
    """Strength: an adapter's output is multiplied by :attr:`scale`."""
    dropout: float = RECIPE_DROPOUT
    """Share of an adapter's inputs that a training step drops."""
    targets: str | tuple[str, ...] = SEED_DOCUMENT
    """A name of :data:`.targets.LAYER_PRESETS`; or ends of names of layers, or patterns of them."""
    rslora: bool = False
    """Rank-stabilised: scale alpha / sqrt(rank) (arXiv 2312.03732)."""
    dora: bool = False
    """Weight-decomposed: direction and magnitude apart (arXiv 2402.09353)."""
    text_encoder: bool = False
    """Adapt the text encoders too."""
    text_targets: tuple[str, ...] = ("q_proj", "k_proj", "v_proj", "out_proj")
    """Ends of the names of the text encoders' layers."""
    kind: AdapterKind = "lora"
    """What is added to a weight; see :mod:`.lycoris`. LoKr and LoHa drop rows of it
    (:attr:`dropout`) where LoRA drops inputs."""
    factor: int | None = None
    """LoKr: the sides of the first factor, where they divide a layer's; as near as can be to the
    square root of its sides if None."""
    decompose_both: bool = False
    """LoKr: both factors are of the rank, where it is below half of their sides; the second alone
    otherwise."""

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise AdapterError(
                f"There is no adapter '{self.kind}'. Use one of: {', '.join(KINDS)}."
            )
        if self.kind != "lora" and (self.rslora or self.dora):
            wrong = "rslora" if self.rslora else "dora"
            raise AdapterError(
                f"{wrong} is of LoRA alone, not of {self.kind}: leave it out, or train a LoRA."
            )
        if self.rank < 1 or self.alpha <= 0 or not 0 <= self.dropout < 1:
            raise AdapterError(
                f"rank = {self.rank}, alpha = {self.alpha}, dropout = {self.dropout}: rank must be "
                "at least 1, alpha above 0, dropout from 0 to below 1."
            )
        if isinstance(self.targets, str) and self.targets not in LAYER_PRESETS:
            raise AdapterError(
                f"There is no preset '{self.targets}' of layers. Use one of: "
                f"{', '.join(LAYER_PRESETS)}; or a list of layer names such as to_q, "
                "or of patterns such as blocks.*.attn.*."
            )

    @property
    def scale(self) -> float:
        """What an adapter's output is multiplied by."""
        return self.alpha / (math.sqrt(self.rank) if self.rslora else self.rank)

    @property
    def layers(self) -> tuple[str, ...]:
        """Ends of the names of a UNet's layers that carry adapters, or the user's own."""
        return LAYER_PRESETS[self.targets] if isinstance(self.targets, str) else self.targets


@dataclass(frozen=True)
class Adapters:
    """The adapters on a model's modules, from :func:`inject` to :meth:`remove`.

    Attributes:
        modules: The modules that carry adapters, by part: ``denoiser``, ``te1``, ``te2``.
        settings: How they were made.
        placements: Which layers carry them, by part.
    """

    modules: Mapping[str, torch.nn.Module]
    settings: LoraSettings
    _flags: Mapping[torch.nn.Parameter, bool] = field(repr=False)
    placements: Mapping[str, Placement] = field(default_factory=dict)

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
            if name.startswith(PREFIXES)
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
                f"{how_many(len(wrong), 'tensor does', 'tensors do')} not fit the adapters (first: "
                f"{wrong[0]}). Use the rank, layers and base model that they were saved with."
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
    modules: Mapping[str, torch.nn.Module],
    settings: LoraSettings,
    *,
    seed: int = 0,
    placements: Mapping[str, Placement] | None = None,
) -> Adapters:
    """Place new adapters on modules, which are frozen; at first they change no output.

    Adapters are kept in float32 whatever the number type of the frozen weights.

    Args:
        modules: By part: ``denoiser``, and ``te1``, ``te2`` where
            :attr:`LoraSettings.text_encoder` is set (they are passed over where it is not).
        settings: Shape and place of the adapters.
        seed: Of their first weights.
        placements: The layers that carry adapters, by part, instead of those that the settings
            name; other parts carry none.

    Raises:
        AdapterError: A module has none of the layers, or carries adapters already.
    """
    from peft import inject_adapter_in_model

    chosen = {
        part: module
        for part, module in modules.items()
        if (part == "denoiser" or settings.text_encoder)
        and (placements is None or part in placements)
    }
    for part, module in chosen.items():
        if any(_is_adapted(layer) for layer in module.modules()):
            raise AdapterError(f"The model's part '{part}' carries adapters already: unload them.")
    flags = {p: p.requires_grad for module in chosen.values() for p in module.parameters()}
    found: dict[str, Placement] = {}
    adapters = Adapters(chosen, settings, flags, found)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for part, module in chosen.items():
            targets = settings.targets if part == "denoiser" else settings.text_targets
            try:
                placement = placements[part] if placements else _placed(module, targets)
                found[part] = placement
                config = _config(settings, module, placement)
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


def _config(settings: LoraSettings, module: torch.nn.Module, placement: Placement) -> Any:
    """Return what peft is told.

    Raises:
        AdapterError: The layers take LoRA alone.
    """
    from peft import LoHaConfig, LoKrConfig, LoraConfig

    # Whole paths: peft takes names in a list for ends of longer ones too.
    paths = "|".join(map(re.escape, placement.paths))
    unusual = _not_of_torch(module, placement)
    if settings.kind == "lora":
        config = LoraConfig(
            r=settings.rank,
            lora_alpha=settings.alpha,  # type: ignore[arg-type]  # peft only divides it
            lora_dropout=settings.dropout,
            target_modules=paths,
            use_rslora=settings.rslora,
            use_dora=settings.dora,
            bias="none",
        )
        config._register_custom_module(unusual)
        return config
    if unusual:
        raise AdapterError(
            f"{settings.kind} takes no quantised layers "
            f"({', '.join(sorted(kind.__name__ for kind in unusual))}). Train a LoRA on this "
            "model, or load it in 16 bits."
        )
    common = {
        "r": settings.rank,
        "alpha": settings.alpha,
        "rank_dropout": settings.dropout,
        "target_modules": paths,
    }
    if settings.kind == "loha":
        return LoHaConfig(**common)
    return LoKrConfig(
        **common,
        decompose_both=settings.decompose_both,
        decompose_factor=settings.factor or -1,
        rank_dropout_scale=True,  # as LoHa and LoRA: what is left makes up for what is dropped
        init_weights="lycoris",  # the second factor is what begins at nothing
    )


def _placed(module: torch.nn.Module, targets: str | tuple[str, ...]) -> Placement:
    """Choose a module's layers that carry adapters.

    Raises:
        AdapterError: There are none.
    """
    found = place(module, targets)
    if not found.paths:
        wanted = targets if isinstance(targets, str) else ", ".join(targets)
        raise AdapterError(
            f"{type(module).__name__} has no layer whose name or place is meant by: {wanted}. "
            "Choose the preset 'attention' or 'full', or name its layers, by the ends of their "
            "names or by patterns such as blocks.*.attn.*."
        )
    return found


def _not_of_torch(module: torch.nn.Module, placement: Placement) -> dict[type, type]:
    """Return peft's layer for linear layers that peft knows by what they do alone."""
    from peft.tuners.lora.layer import Linear

    kinds = {type(module.get_submodule(path)) for path in placement.paths}
    plain = (torch.nn.Linear, torch.nn.Conv2d)
    return {kind: Linear for kind in kinds if not issubclass(kind, plain)}


def _is_adapted(layer: torch.nn.Module) -> bool:
    from peft.tuners.tuners_utils import BaseTunerLayer

    return isinstance(layer, BaseTunerLayer)
