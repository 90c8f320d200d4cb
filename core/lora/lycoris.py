"""LoKr and LoHa, adapters of LyCORIS: what a layer of theirs is in peft, and in a file.

Both change a weight by more than a product of two thin matrices: LoKr by a Kronecker product,
``w1 ⊗ w2``, LoHa by an elementwise one, ``(w1_a w1_b) * (w2_a w2_b)`` (arXiv 2309.14859). Factors
are called in files what peft calls them, and ``alpha`` says the scale, as with LoRA. Readers divide
it by the rank of LoKr's factors; where both of them are whole there is none, and nothing is scaled:
the scale is then in ``lokr_w2``.

ComfyUI and kohya's tools read such files; ``load_lora_weights`` of diffusers reads no LoHa, and
LoKr for Flux.2 and Qwen-Image alone. :mod:`.in_diffusers` gives them to its pipelines.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, get_args

import torch
from torch import Tensor

AdapterKind = Literal["lora", "lokr", "loha"]
KINDS: tuple[AdapterKind, ...] = get_args(AdapterKind)

FACTORS: Mapping[AdapterKind, tuple[str, ...]] = {
    "lokr": (
        "lokr_w1", "lokr_w1_a", "lokr_w1_b", "lokr_w2", "lokr_w2_a", "lokr_w2_b", "lokr_t2",
    ),
    "loha": ("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b", "hada_t1", "hada_t2"),
}  # fmt: skip
"""What the factors of a layer are called, in peft and in files."""
PREFIXES = ("lora_", "lokr_", "hada_")
"""How the names of peft's trained tensors begin, of every kind of adapter."""


def kind_of(name: str) -> AdapterKind | None:
    """Return the kind that a factor is of; None if it is no factor of LoKr or LoHa."""
    return next((kind for kind, factors in FACTORS.items() if name in factors), None)


def factors(layer: Any, adapter: str) -> dict[str, Tensor]:
    """Return the factors of a layer of peft, which are its parameters.

    Args:
        layer: Of peft.
        adapter: peft's name of the adapter.

    Returns:
        By name; empty if it is no layer of LoKr or LoHa.
    """
    names = (name for of_kind in FACTORS.values() for name in of_kind)
    held = ((name, getattr(layer, name, None)) for name in names)
    return {name: table[adapter] for name, table in held if table is not None and adapter in table}


def rank(values: Mapping[str, Tensor]) -> int | None:
    """Return the rank that a layer's ``alpha`` is divided by; None where both factors are whole."""
    inner = [name for name in ("lokr_w2_b", "lokr_w1_b", "hada_w1_b") if name in values]
    return values[inner[0]].shape[0] if inner else None


def scale(values: Mapping[str, Tensor]) -> float:
    """Return what a file's layer is multiplied by.

    Args:
        values: Factors, and ``alpha`` if the file has it.
    """
    divisor, alpha = rank(values), values.get("alpha")
    return 1.0 if alpha is None or divisor is None else float(alpha) / divisor


def to_file(layer: Any, adapter: str) -> dict[str, Tensor]:
    """Return the tensors of a layer as a file holds them: float32 factors, and ``alpha``."""
    values = {name: value.detach().float() for name, value in factors(layer, adapter).items()}
    own, inner = layer.scaling[adapter], rank(values)
    if inner is None:
        values["lokr_w2"] = own * values["lokr_w2"]
    values["alpha"] = torch.tensor(float(layer.r[adapter] if inner is None else own * inner))
    return values


def fits(layer: Any, adapter: str, values: Mapping[str, Tensor]) -> bool:
    """Whether a file's layer has the factors of a layer of peft, in their shapes."""
    own = {name: value.shape for name, value in factors(layer, adapter).items()}
    return own == {name: value.shape for name, value in values.items() if name != "alpha"}


def restore(layer: Any, adapter: str, values: Mapping[str, Tensor]) -> None:
    """Put a file's layer that :func:`fits` into a layer of peft; its scale stays as it is."""
    ratio = scale(values) / layer.scaling[adapter]
    last = next(name for name in ("lokr_w2", "lokr_w2_b", "hada_w2_b") if name in values)
    with torch.no_grad():
        for name, parameter in factors(layer, adapter).items():
            value = values[name].float()
            parameter.copy_(ratio * value if name == last else value)


def replace(
    layer: Any, adapter: str, values: Mapping[str, Tensor], *, trainable: bool = False
) -> None:
    """Put a file's layer into a layer of peft, whatever shapes it has there, scale and all.

    Args:
        layer: Of peft.
        adapter: peft's name of the adapter.
        values: Of the file.
        trainable: Whether they are to be trained, in float32; otherwise they are of the frozen
            weight's number type.
    """
    weight = layer.get_base_layer().weight
    dtype = torch.float32 if trainable else weight.dtype
    for of_kind in FACTORS.values():
        for name in of_kind:
            table = getattr(layer, name, {})
            if adapter in table:
                del table[adapter]
            if name in values:
                value = values[name].to(weight.device, dtype)
                table[adapter] = torch.nn.Parameter(value, requires_grad=trainable)
    layer.r[adapter] = 1
    layer.alpha[adapter] = layer.scaling[adapter] = scale(values)
