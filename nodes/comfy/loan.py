"""Lends modules of ComfyUI to a training, and gives them back as they were.

What a prompt has loaded consists of inference tensors, through which no gradient flows. While
modules are lent, their parameters and buffers are replaced by ordinary tensors on the same memory,
so nothing is copied. Adapters are in the modules only while they are lent: whenever ComfyUI itself
moves weights, patches or samples, it finds the modules that it knows.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn

from .differentiable import differentiable_kernels


class Loan:
    """Modules on loan from ComfyUI.

    Args:
        modules: Whose tensors and adapters are exchanged; their children are included.
        adding_in_place: Modules that add to a tensor which their norms' gradients need, as
            ComfyUI's text encoders and transformers do; their norms get copies.
    """

    def __init__(
        self, modules: Sequence[nn.Module], adding_in_place: Sequence[nn.Module] = ()
    ) -> None:
        self._modules = tuple(modules)
        self._adding_in_place = tuple(adding_in_place)
        self._hooks: list[Any] = []
        self._tensors: list[tuple[dict[str, Any], str, Any]] = []
        self._adapters: list[tuple[nn.Module, str, nn.Module]] = []
        self._was_training = False
        self._plain = ExitStack()
        self.is_open = False

    def open(self) -> None:
        """Replace inference tensors, and put back the adapters that :meth:`close` took out."""
        self.is_open = True
        self._was_training = _tell_comfyui(True)
        self._plain.enter_context(differentiable_kernels())
        for parent, name, adapter in self._adapters:
            setattr(parent, name, adapter)
        self._adapters = []
        norms = [
            part
            for module in self._adding_in_place
            for part in module.modules()
            if type(part).__name__.endswith(("LayerNorm", "RMSNorm"))
        ]
        self._hooks = [norm.register_forward_pre_hook(_copy_input) for norm in norms]
        ordinary: dict[int, Any] = {}
        for module in self._modules:
            for part in module.modules():
                for values in (part._parameters, part._buffers):
                    for name, tensor in values.items():
                        if tensor is not None and tensor.is_inference():
                            self._tensors.append((values, name, tensor))
                            # Tied weights stay tied.
                            values[name] = ordinary.setdefault(id(tensor), _ordinary(tensor))

    def close(self) -> None:
        """Put the modules' own tensors back and take the adapters out, to be kept."""
        if not self.is_open:
            return
        self.is_open = False
        self._plain.close()
        _tell_comfyui(self._was_training)
        for hook in self._hooks:
            hook.remove()
        self._hooks = []
        for values, name, tensor in reversed(self._tensors):
            values[name] = tensor
        self._tensors = []
        for module in self._modules:
            found = [(path, part) for path, part in module.named_modules() if is_adapter(part)]
            for path, adapter in found:
                where, _, name = path.rpartition(".")
                parent = module.get_submodule(where)
                self._adapters.append((parent, name, adapter))
                setattr(parent, name, adapter.get_base_layer())

    def end(self) -> None:
        """Close the loan for good: adapters are forgotten."""
        self.close()
        self._adapters = []
        for module in self._modules:
            for part in module.modules():
                # peft notes its settings on the module that it was given.
                part.__dict__.pop("peft_config", None)


def is_adapter(module: nn.Module) -> Any:
    """Whether a module is a layer with an adapter of peft around it."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    return isinstance(module, BaseTunerLayer)


def _tell_comfyui(training: bool) -> bool:
    """Let ComfyUI's models choose operations that have gradients; return what was said before.

    Versions without the flag have no others.
    """
    import comfy.model_management as management

    before = bool(getattr(management, "in_training", False))
    if hasattr(management, "in_training"):
        management.in_training = training
    return before


def _copy_input(_: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    return (inputs[0].clone(), *inputs[1:])


def _ordinary(tensor: Tensor) -> Tensor:
    """Return a tensor on the same memory that gradients can flow through."""
    if hasattr(tensor, "__tensor_flatten__"):
        return _ordinary_quantised(tensor)
    same = torch.empty(0, dtype=tensor.dtype, device=tensor.device)
    same.set_(tensor.untyped_storage(), tensor.storage_offset(), tensor.size(), tensor.stride())
    return nn.Parameter(same, requires_grad=False) if isinstance(tensor, nn.Parameter) else same


def _ordinary_quantised(tensor: Any) -> Tensor:
    """Return the same of a tensor that consists of others: a quantised weight and its scales."""
    kind = type(tensor)
    names, context = tensor.__tensor_flatten__()
    parts = {name: _ordinary(getattr(tensor, name)) for name in names}
    same = kind.__tensor_unflatten__(parts, context, tensor.size(), tensor.stride())
    return nn.Parameter(same, requires_grad=False) if isinstance(tensor, nn.Parameter) else same
