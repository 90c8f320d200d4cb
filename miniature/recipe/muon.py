"""Muon: momentum whose matrices are orthogonalised before they are applied."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

# Coefficients of the quintic Newton-Schulz iteration, from K. Jordan, "Muon: an optimizer for
# hidden layers in neural networks" (2024).
_A, _B, _C = 3.4445, -4.7750, 2.0315
_SMALLEST_SIDE = 8


def orthogonalised(matrix: Tensor, steps: int = 3) -> Tensor:
    """Bring all singular values of a matrix close to one.

    Args:
        matrix: Any (m, n) matrix.
        steps: Newton-Schulz iterations; 3 leave the smallest directions a little weaker and cost
            40 % less than the usual 5.

    Returns:
        A matrix of the same shape with nearly the same singular vectors.
    """
    x = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
    x = x / (x.norm() + 1e-7)
    for _ in range(steps):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=_B, alpha=_C), x, beta=_A)
    return x if matrix.shape[0] <= matrix.shape[1] else x.T


class Muon(torch.optim.Optimizer):
    """Muon for weight matrices and convolutions, Adam for everything else.

    ``torch.optim.Muon`` takes matrices only and works in bfloat16. Here a convolution counts as the
    matrix (out, in * kh * kw), the iteration runs in the parameter's own precision, and one
    optimizer holds the state of a whole model.
    """

    def __init__(
        self,
        modules: nn.Module | list[nn.Module],
        lr: float = 2e-3,
        *,
        adam_lr: float = 1e-3,
        momentum: float = 0.95,
        betas: tuple[float, float] = (0.9, 0.95),
        newton_schulz_steps: int = 3,
    ) -> None:
        """Sort the parameters of some modules into the two kinds.

        Args:
            modules: What to train. Parameters that do not require a gradient are left out.
            lr: Learning rate of the matrices.
            adam_lr: Learning rate of biases, norms, embeddings and very narrow matrices.
            momentum: Of the matrices; Nesterov's kind.
            betas: Of Adam.
            newton_schulz_steps: Iterations of the orthogonalisation.
        """
        matrices: list[nn.Parameter] = []
        others: list[nn.Parameter] = []
        for module in modules if isinstance(modules, list) else [modules]:
            tables = {
                id(table.weight) for table in module.modules() if isinstance(table, nn.Embedding)
            }
            for parameter in module.parameters():
                if not parameter.requires_grad:
                    continue
                wide = (
                    parameter.ndim >= 2
                    and min(parameter.shape[0], parameter.numel() // parameter.shape[0])
                    >= _SMALLEST_SIDE
                )
                matrix = wide and id(parameter) not in tables
                (matrices if matrix else others).append(parameter)
        groups = [
            {"params": matrices, "lr": lr, "peak_lr": lr, "kind": "muon"},
            {"params": others, "lr": adam_lr, "peak_lr": adam_lr, "kind": "adam"},
        ]
        self._momentum, self._betas, self._steps = momentum, betas, newton_schulz_steps
        super().__init__([group for group in groups if group["params"]], {})

    def scale_lr(self, factor: float) -> None:
        """Set every group's learning rate to a fraction of its peak."""
        for group in self.param_groups:
            group["lr"] = group["peak_lr"] * factor

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Apply the gradients once."""
        loss = closure() if closure is not None else None
        for group in self.param_groups:
            update = self._muon if group["kind"] == "muon" else self._adam
            for parameter in group["params"]:
                if parameter.grad is not None:
                    update(parameter, parameter.grad, group["lr"])
        return loss

    def _muon(self, parameter: Tensor, gradient: Tensor, lr: float) -> None:
        state = self.state[parameter]
        if not state:
            state["momentum"] = torch.zeros_like(gradient)
        buffer = state["momentum"].lerp_(gradient, 1 - self._momentum)
        matrix = gradient.lerp(buffer, self._momentum).reshape(gradient.shape[0], -1)
        change = orthogonalised(matrix, self._steps)
        # The scale that gives the update the root mean square of a typical Adam update, so that
        # learning rates carry over: J. Liu et al. 2025, "Muon is scalable for LLM training".
        scale = 0.2 * math.sqrt(max(matrix.shape))
        parameter.add_(change.reshape(parameter.shape), alpha=-lr * scale)

    def _adam(self, parameter: Tensor, gradient: Tensor, lr: float) -> None:
        state = self.state[parameter]
        if not state:
            state["steps"] = 0
            state["mean"] = torch.zeros_like(gradient)
            state["square"] = torch.zeros_like(gradient)
        state["steps"] += 1
        first, second = self._betas
        state["mean"].lerp_(gradient, 1 - first)
        state["square"].lerp_(gradient.square(), 1 - second)
        mean = state["mean"] / (1 - first ** state["steps"])
        root = (state["square"] / (1 - second ** state["steps"])).sqrt_().add_(1e-8)
        parameter.addcdiv_(mean, root, value=-lr)
