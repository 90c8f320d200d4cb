"""How a process is set while it trains."""

from __future__ import annotations

from contextlib import contextmanager

import torch

from character_curator.training.loop.modes import gates_recomputed


@contextmanager
def kept_for_backward():
    """Bytes of each storage that autograd keeps for the backward pass, by its address."""
    kept = {}

    def note(tensor):
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        yield kept


def gradients(gate, states):
    states = states.clone().requires_grad_()
    with kept_for_backward() as kept:
        out = gate(states)
    out.square().sum().backward()
    return out.detach(), states.grad, sum(kept.values())


def test_a_gate_keeps_less_and_gives_the_same_bits():
    from diffusers.models.activations import GEGLU

    torch.manual_seed(0)
    gate = GEGLU(32, 128).requires_grad_(False)
    states = torch.randn(2, 64, 32)
    before = gradients(gate, states)
    with gates_recomputed(gate):
        within = gradients(gate, states)
    after = gradients(gate, states)
    for out, gradient, _ in (within, after):
        assert torch.equal(out, before[0])
        assert torch.equal(gradient, before[1])
    product = 2 * 64 * 128 * 4  # bytes of the GELU's result
    assert within[2] == before[2] - product
    assert after[2] == before[2]


def test_gates_of_a_whole_model_are_found(tiny_sd15):
    from diffusers import UNet2DConditionModel

    model = UNet2DConditionModel.from_pretrained(tiny_sd15 / "unet")
    model.requires_grad_(False)
    inputs = torch.randn(1, 4, 16, 16, requires_grad=True)
    text = torch.randn(1, 7, model.config.cross_attention_dim)

    def kept():
        with kept_for_backward() as all_kept:
            model(inputs, 1, text)
        return sum(all_kept.values())

    before = kept()
    with gates_recomputed(model):
        within = kept()
    assert within < before
    assert kept() == before
