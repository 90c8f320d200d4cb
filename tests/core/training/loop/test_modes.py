"""How a process is set while it trains."""

from __future__ import annotations

import platform
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from character_curator.training.loop.modes import (
    freed_memory_kept,
    gates_recomputed,
    heads_contiguous,
)

MIB = 2**20


def held():
    """Memory of this process that is no file's, in MiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) / 1024


def use_and_free(mib=256):
    torch.ones(mib * MIB // 4).sum()


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="it is about glibc's allocator")
def test_what_a_step_frees_is_there_for_the_next_one_and_given_back_in_the_end():
    use_and_free()
    before = held()
    with freed_memory_kept(torch.device("cpu")):
        use_and_free()
        kept = held()
    after = held()
    assert kept > before + 200
    assert after < before + 64
    use_and_free()
    assert held() < before + 64


def test_memory_of_an_accelerator_is_its_own_business():
    before = held() if Path("/proc/self/status").exists() else 0
    with freed_memory_kept(torch.device("cuda")):
        use_and_free()
        if before:
            assert held() < before + 64


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


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_heads_lie_side_by_side_on_a_cpu(device):
    torch.manual_seed(0)
    states = [torch.randn(2, 64, 4 * 8, requires_grad=True) for _ in range(3)]

    def attend():
        heads = [part.view(2, 64, 4, 8).transpose(1, 2) for part in states]
        with kept_for_backward() as kept:
            out = torch.nn.functional.scaled_dot_product_attention(*heads, scale=0.3)
        gradients = torch.autograd.grad(out.square().sum(), states)
        own = {part.untyped_storage().data_ptr() for part in states}
        return out.detach(), gradients, own <= set(kept)

    out, gradients, kept_as_given = attend()
    assert kept_as_given
    with heads_contiguous(torch.device(device)):
        within, others, kept_as_given = attend()
    assert kept_as_given == (device != "cpu")
    torch.testing.assert_close(within, out)
    for gradient, other in zip(gradients, others, strict=True):
        torch.testing.assert_close(other, gradient)


def test_the_attention_of_a_whole_model_gets_contiguous_heads(tiny_sd15, monkeypatch):
    from diffusers import UNet2DConditionModel

    model = UNet2DConditionModel.from_pretrained(tiny_sd15 / "unet")
    attend = torch.nn.functional.scaled_dot_product_attention
    seen = []

    def look(*heads, **options):
        seen.append(all(part.is_contiguous() for part in heads[:3]))
        return attend(*heads, **options)

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", look)
    inputs, text = torch.randn(1, 4, 16, 16), torch.randn(1, 7, model.config.cross_attention_dim)
    model(inputs, 1, text)
    with heads_contiguous(torch.device("cpu")):
        model(inputs, 1, text)
    before, within = seen[: len(seen) // 2], seen[len(seen) // 2 :]
    assert not any(before)
    assert all(within)
    assert within
    assert torch.nn.functional.scaled_dot_product_attention is look
