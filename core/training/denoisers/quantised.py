"""A base model in 4 or 8 bits: its blocks' linear layers as bitsandbytes has them.

The adapters and all that is computed keep their precision (QLoRA, Dettmers et al. 2023, arXiv
2305.14314; LLM.int8(), arXiv 2208.07339). What is in no repeated block, such as embedders and the
last projection, stays as it is: it is small, and errors there are not averaged away.
"""

from __future__ import annotations

import re
from typing import Any

import torch
from torch import nn

from ...counts import how_many
from ...errors import CuratorError, MissingDependencyError
from ..settings import BasePrecision

_OF_A_BLOCK = re.compile(r"\.\d+\.")


class BasePrecisionError(CuratorError):
    """The weights of a base model can't be held so on this machine, or with this option."""


def quantise(module: nn.Module, precision: BasePrecision, device: str) -> str:
    """Hold the linear layers of a model's blocks in fewer bits, in place.

    Args:
        module: Of a pipeline, not yet quantised, on the CPU.
        precision: ``nf4`` or ``int8``; ``as_is`` changes nothing.
        device: Where it will compute.

    Returns:
        What is held how, in words; nothing for ``as_is``.

    Raises:
        MissingDependencyError: bitsandbytes is not installed.
        BasePrecisionError: It can't compute on this device.
    """
    if precision == "as_is":
        return ""
    try:
        import bitsandbytes
    except ImportError:
        raise MissingDependencyError(
            "bitsandbytes", f"A base model in {precision}", "pip install bitsandbytes"
        ) from None
    linear = {path: layer for path, layer in module.named_modules() if type(layer) is nn.Linear}
    chosen = {path: layer for path, layer in linear.items() if _OF_A_BLOCK.search(f"{path}.")}
    before = sum(layer.weight.nbytes for layer in chosen.values())
    after = 0
    try:
        for path, layer in chosen.items():
            where, _, name = path.rpartition(".")
            small = _layer(layer, precision, bitsandbytes.nn).to(device)
            after += _bytes(small.weight)
            setattr(module.get_submodule(where), name, small)
        _compute(next(iter(chosen.values()), None), module, precision)
    except (RuntimeError, NotImplementedError, AttributeError) as error:
        raise BasePrecisionError(
            f"bitsandbytes {bitsandbytes.__version__} cannot hold a base model in {precision} on "
            f"'{device}': {error}. Install a newer one, or leave base_precision at as_is."
        ) from error
    # peft asks the model which layers it has.
    name = "is_loaded_in_4bit" if precision == "nf4" else "is_loaded_in_8bit"
    setattr(module, name, True)
    return (
        f"Base model: {len(chosen):,} of {how_many(len(linear), 'linear layer')} in {precision}, "
        f"{after / 1e6:.1f} MB in place of {before / 1e6:.1f} (bitsandbytes "
        f"{bitsandbytes.__version__})."
    )


def _layer(layer: nn.Linear, precision: BasePrecision, layers: Any) -> nn.Module:
    """Return a layer that will hold the same weights in fewer bits when it is moved."""
    shape = (layer.in_features, layer.out_features)
    biased = layer.bias is not None
    weight = layer.weight.data
    if precision == "nf4":
        small = layers.Linear4bit(*shape, bias=biased, compute_dtype=weight.dtype, quant_type="nf4")
        small.weight = layers.Params4bit(weight, requires_grad=False, quant_type="nf4")
        # Some CPUs would repack weights for inference, with which training can't go on.
        small.support_avx512bf16_for_cpu = False
    else:
        small = layers.Linear8bitLt(*shape, bias=biased, has_fp16_weights=False, threshold=6.0)
        small.weight = layers.Int8Params(weight, requires_grad=False, has_fp16_weights=False)
    small.bias = layer.bias
    return small.requires_grad_(False)


def _bytes(weight: Any) -> int:
    state = getattr(weight, "quant_state", None)
    scales = [state.absmax] if state is not None else [getattr(weight, "SCB", None)]
    return sum(part.nbytes for part in (weight, *scales) if part is not None)


def _compute(layer: nn.Linear | None, module: nn.Module, precision: BasePrecision) -> None:
    """Let one layer compute forward and backward: what it can't do is known before hours."""
    if layer is None:
        raise BasePrecisionError(
            f"{type(module).__name__} has no linear layer in its blocks that {precision} could be "
            "for. Leave base_precision at as_is."
        )
    small: Any = next(part for part in module.modules() if _is_small(part))
    value = torch.ones(
        1, layer.in_features, dtype=layer.weight.dtype, device=small.weight.device,
        requires_grad=True,
    )  # fmt: skip
    small(value).sum().backward()


def _is_small(part: nn.Module) -> bool:
    return type(part).__name__ in ("Linear4bit", "Linear8bitLt")
