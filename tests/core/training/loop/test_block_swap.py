"""Block swap and checkpointing by depth: weights come and go, and the result is the same."""

from __future__ import annotations

from collections import Counter
from contextlib import contextmanager, nullcontext

import pytest
import torch
from torch import nn

from character_curator.lora.adapters import LoraSettings, inject
from character_curator.training import LoraJob, TrainingSettings, train_lora
from character_curator.training.denoisers.load import of_pipeline
from character_curator.training.loop.block_swap import BlockSwap, BlockSwapError, swapped
from character_curator.training.loop.blocks import checkpointed_blocks, repeated_blocks
from character_curator.training.settings import SettingsError
from tests.support.lora_weights import pipeline_in
from tests.support.tiny_denoiser import make_dataset

CPU = torch.device("cpu")
FAMILIES = ["tiny_sd15", "tiny_sdxl", "tiny_flux"]


class Diary:
    """Notes what is fetched and let go, and how many blocks were there at once."""

    def __init__(self):
        self.lines, self.there, self.most = [], set(), 0

    def __call__(self, what, position):
        self.lines.append((what, position))
        (self.there.add if what == "load" else self.there.discard)(position)
        self.most = max(self.most, len(self.there))


@pytest.fixture(params=FAMILIES)
def denoiser(request):
    return of_pipeline(pipeline_in(request.getfixturevalue(request.param)), "tiny")


def step(denoiser, around):
    """A step's loss and gradients, with adapters that drop; ``around`` is given the module."""
    adapters = inject(
        {"denoiser": denoiser.module()}, LoraSettings(targets="attention", dropout=0.2), seed=1
    )
    source = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in adapters.parameters():
            parameter.copy_(0.2 * torch.randn(parameter.shape, generator=source))
    latents = torch.randn(2, 4, 8, 8, generator=source)
    noise = torch.randn(latents.shape, generator=source)
    with torch.no_grad():
        text = denoiser.encode_text(["char1", "a hat"])
    times = denoiser.fixed_timesteps(2)
    with around(denoiser.module()):
        torch.manual_seed(5)
        predicted = denoiser.predict(
            denoiser.add_noise(latents, noise, times), times, text, [(64, 64)] * 2
        )
        loss = (predicted - denoiser.target(latents, noise, times)).square().mean()
        loss.backward()
        with torch.no_grad():
            torch.manual_seed(5)
            plain = denoiser.predict(latents, times, text, [(64, 64)] * 2)
    grads = {name: p.grad.clone() for name, p in adapters.named_parameters().items()}
    adapters.remove()
    return loss.detach(), grads, plain


class Still(BlockSwap):
    """Computes a block's activations twice as a swap does, and moves nothing."""

    def load(self, position, ahead):
        for weight, home in zip(self._weights[position], self._homes[position], strict=True):
            weight.data = home

    def release(self, position):
        pass


def test_the_step_is_the_same_to_the_bit_and_every_block_comes_and_goes(denoiser):
    loss, grads, plain = step(denoiser, lambda _: nullcontext())
    before = {name: p.clone() for name, p in denoiser.module().named_parameters()}
    diary = Diary()
    count = len(repeated_blocks(denoiser.module())) - 1
    found = step(denoiser, lambda module: BlockSwap(repeated_blocks(module)[-count:], CPU, diary))
    still = step(denoiser, lambda module: Still(repeated_blocks(module)[-count:], CPU))
    assert torch.equal(found[0], loss)
    assert torch.equal(found[2], plain)
    for name, grad in grads.items():
        assert torch.equal(found[1][name], still[1][name]), name
        # What skips from one end of a UNet to the other is summed in another order.
        assert torch.allclose(found[1][name], grad, rtol=1e-4, atol=1e-7), name
        assert denoiser.prediction != "flow" or torch.equal(found[1][name], grad), name
    loads = [position for what, position in diary.lines if what == "load"]
    assert loads == [*range(count), *reversed(range(count)), *range(count)]
    assert diary.most == 1, "no block is there while another computes"
    assert not diary.there
    after = dict(denoiser.module().named_parameters())
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert not any("forward" in vars(part) for part in denoiser.module().modules())


def test_away_a_block_has_no_weights(denoiser):
    block = repeated_blocks(denoiser.module())[-1]
    frozen = list(block.parameters())
    with BlockSwap([block], CPU):
        assert not any(p.numel() for p in frozen)
    assert all(p.numel() for p in frozen)


def test_a_failure_within_a_block_lets_its_weights_go():
    class Fails(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(4, 4).requires_grad_(False)

        def forward(self, x):
            raise RuntimeError("no")

    block, diary = Fails(), Diary()
    with BlockSwap([block], CPU, diary):
        with pytest.raises(RuntimeError):
            block(torch.ones(1, 4, requires_grad=True))
        assert not diary.there
    assert block.layer.weight.numel() == 16


@pytest.mark.parametrize("share", [0.01, 0.5, 1.0])
def test_a_share_of_the_blocks_is_computed_twice(denoiser, share):
    found_blocks = repeated_blocks(denoiser.module())
    wanted = max(1, round(share * len(found_blocks)))
    calls = Counter()
    for number, block in enumerate(found_blocks):
        for path, part in block.named_modules():
            if not list(part.children()):
                part.register_forward_hook(lambda *_, key=(number, path): calls.update([key]))
    loss, grads, _ = step(denoiser, lambda _: nullcontext())
    once = Counter(calls)
    calls.clear()
    said = []

    @contextmanager
    def around(module):
        with checkpointed_blocks(module, share) as chosen:
            said.append(chosen)
            yield

    found = step(denoiser, around)
    assert said == [(wanted, len(found_blocks))]
    assert torch.equal(found[0], loss)
    for name, grad in grads.items():
        assert torch.allclose(found[1][name], grad, rtol=1e-4, atol=1e-7), name
        assert denoiser.prediction != "flow" or torch.equal(found[1][name], grad), name
    again = {number for number, path in calls if calls[number, path] > once[number, path]}
    # SDXL's first block has no attention, so that no gradient goes through it.
    assert again | {0} == set(range(wanted))


def test_more_blocks_than_there_are_is_said(denoiser):
    with pytest.raises(BlockSwapError, match="Give fewer"), swapped(denoiser.module(), 99, CPU):
        pass


def test_on_a_cpu_nothing_is_moved_and_that_is_said(denoiser):
    weights = list(denoiser.module().parameters())
    with swapped(denoiser.module(), 1, CPU) as said:
        assert "no effect on a CPU" in said
        assert all(weight.numel() for weight in weights)
    with swapped(denoiser.module(), 0, CPU) as said:
        assert said == ""


def test_what_is_swapped_is_not_computed_three_times(tiny_flux):
    denoiser = of_pipeline(pipeline_in(tiny_flux), "tiny")
    loss, grads, _ = step(denoiser, lambda _: nullcontext())
    calls = []
    last = repeated_blocks(denoiser.module())[-1]
    leaf = next(part for part in last.modules() if isinstance(part, nn.LayerNorm))
    leaf.register_forward_hook(lambda *_: calls.append(1))

    @contextmanager
    def around(module):
        with BlockSwap(repeated_blocks(module)[-1:], CPU), checkpointed_blocks(module, 1.0):
            yield

    found = step(denoiser, around)
    assert len(calls) == 3, "forward, for the backward pass, and once without gradients"
    assert torch.equal(found[0], loss)
    assert all(torch.equal(found[1][name], grad) for name, grad in grads.items())
    assert not any("forward" in vars(part) for part in denoiser.module().modules())


def test_the_result_says_what_was_done(tiny_flux, tmp_path):
    dataset = make_dataset(tmp_path / "images", 3)
    settings = TrainingSettings(
        rank=2, steps=1, resolution=64, bucket_step=16, validation_share=0, block_swap=1,
        gradient_checkpointing=True, checkpointing_share=0.5,
    )  # fmt: skip
    job = LoraJob(dataset, tmp_path / "a.safetensors", samples=None)
    denoiser = of_pipeline(pipeline_in(tiny_flux), "tiny")
    result = train_lora(job, settings, denoiser=denoiser)
    total = len(repeated_blocks(denoiser.module()))
    assert f"the first {total // 2} of {total} blocks" in result.memory
    assert "no effect on a CPU" in result.memory
    with pytest.raises(SettingsError, match="dora"):
        train_lora(job, settings.replace(dora=True, seed=2), denoiser=denoiser)
    assert not any("lora" in name for name, _ in denoiser.module().named_parameters())
