"""Adapters: placed, trained alone, switched off, taken away without a trace."""

from __future__ import annotations

import math

import pytest
import torch

from character_curator.lora.adapters import LAYER_PRESETS, AdapterError, LoraSettings, inject
from tests.support.lora_weights import pipeline_in, shake


@pytest.fixture
def pipeline(tiny_sd15):
    return pipeline_in(tiny_sd15)


def run(unet, seed=1):
    generator = torch.Generator().manual_seed(seed)
    noisy = torch.randn(1, 4, 8, 8, generator=generator)
    context = torch.randn(1, 5, 32, generator=generator)
    return unet(noisy, torch.tensor([300]), encoder_hidden_states=context).sample


def test_the_defaults_are_the_published_recipe(pipeline):
    settings = LoraSettings()
    assert (settings.rank, settings.alpha, settings.dropout) == (8, 8.0, 0.05)
    adapters = inject({"denoiser": pipeline.unet}, settings)
    paths = [path for _, path, _ in adapters.layers()]
    expected = [n for n, _ in pipeline.unet.named_modules() if n.endswith((".to_q", ".to_v"))]
    assert paths == expected


@pytest.mark.parametrize(("preset", "more"), [("attention", "to_out.0"), ("full", "conv1")])
def test_presets_reach_more_layers(pipeline, preset, more):
    adapters = inject({"denoiser": pipeline.unet}, LoraSettings(targets=preset))
    paths = [path for _, path, _ in adapters.layers()]
    assert any(path.endswith(more) for path in paths)
    assert any(path.endswith("to_k") for path in paths)
    assert set(LAYER_PRESETS["attention"]) <= set(LAYER_PRESETS["full"])


@pytest.mark.parametrize("kind", [{}, {"dora": True}, {"kind": "lokr"}, {"kind": "loha"}])
def test_the_model_is_unchanged_before_training_and_after_removal(pipeline, kind):
    unet = pipeline.unet
    before = {name: value.clone() for name, value in unet.state_dict().items()}
    flags = [parameter.requires_grad for parameter in unet.parameters()]
    with torch.no_grad():
        plain = run(unet)
        adapters = inject({"denoiser": unet}, LoraSettings(targets="full", **kind))
        unet.eval()
        assert torch.allclose(run(unet), plain, atol=1e-5)
        shake(adapters)
        changed = run(unet)
        assert (changed - plain).abs().max() > 1e-3
        with adapters.disabled():
            assert torch.equal(run(unet), plain)
        assert torch.equal(run(unet), changed)
        adapters.remove()
        assert torch.equal(run(unet), plain)
    after = unet.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[name], before[name]) for name in before)
    assert [parameter.requires_grad for parameter in unet.parameters()] == flags
    inject({"denoiser": unet}, LoraSettings())  # and it takes new ones


def test_only_the_adapters_are_trained(pipeline):
    unet = pipeline.unet
    adapters = inject({"denoiser": unet}, LoraSettings())
    trainable = {id(p) for p in unet.parameters() if p.requires_grad}
    assert trainable == {id(p) for p in adapters.parameters()}
    run(unet).square().mean().backward()
    assert all(p.grad is not None for p in adapters.parameters())
    frozen = [p for p in unet.parameters() if not p.requires_grad]
    assert all(p.grad is None for p in frozen)


def test_text_encoders_take_part_only_if_asked(pipeline):
    modules = {"denoiser": pipeline.unet, "te1": pipeline.text_encoder}
    adapters = inject(modules, LoraSettings())
    assert adapters.parameters("te1") == []
    adapters.remove()
    adapters = inject(modules, LoraSettings(text_encoder=True))
    assert len(adapters.parameters("te1")) == 2 * 2 * 4  # layers, down and up, q k v out
    assert len(adapters.parameters()) > len(adapters.parameters("te1"))


@pytest.mark.parametrize("kind", [{"dora": True}, {"kind": "lokr"}, {"kind": "loha"}])
def test_adapters_of_half_precision_weights_stay_in_float32(pipeline, kind):
    unet = pipeline.unet.to(torch.bfloat16)
    adapters = inject({"denoiser": unet}, LoraSettings(**kind))
    assert {p.dtype for p in adapters.parameters()} == {torch.float32}
    noisy = torch.randn(1, 4, 8, 8, dtype=torch.bfloat16)
    context = torch.randn(1, 5, 32, dtype=torch.bfloat16)
    sample = unet(noisy, torch.tensor([300]), encoder_hidden_states=context).sample
    sample.float().square().mean().backward()
    assert sample.dtype == torch.bfloat16
    assert all(torch.isfinite(p.grad).all() for p in adapters.parameters())


def test_the_seed_decides_the_first_weights_and_leaves_torch_alone(pipeline):
    states = []
    for seed in (1, 1, 2):
        torch.manual_seed(7)
        adapters = inject({"denoiser": pipeline.unet}, LoraSettings(), seed=seed)
        assert torch.rand(1).item() == torch.rand(1, generator=torch.Generator().manual_seed(7))
        states.append(adapters.state_dict())
        adapters.remove()
    assert all(torch.equal(states[0][k], states[1][k]) for k in states[0])
    assert any(not torch.equal(states[0][k], states[2][k]) for k in states[0])


def test_states_go_back_in_and_strange_ones_do_not(pipeline):
    adapters = inject({"denoiser": pipeline.unet}, LoraSettings(dora=True))
    shake(adapters)
    state = adapters.state_dict()
    shake(adapters, seed=5)
    adapters.load_state_dict(state)
    assert all(torch.equal(v, state[k]) for k, v in adapters.state_dict().items())
    state.pop(next(iter(state)))
    with pytest.raises(AdapterError, match="does not fit"):
        adapters.load_state_dict(state)


@pytest.mark.parametrize(
    "kind",
    [
        {"kind": "lora"},
        {"kind": "lokr", "factor": 4},
        {"kind": "lokr", "decompose_both": True, "rank": 1},
        {"kind": "loha"},
    ],
)
def test_gradients_are_those_of_finite_differences(pipeline, kind):
    """In float64, along the gradient itself, for linear layers and convolutions."""
    unet = pipeline.unet.double()
    settings = LoraSettings(**{"rank": 2, "targets": "full", "dropout": 0.0, **kind})
    adapters = inject({"denoiser": unet}, settings)
    parameters = adapters.parameters()
    for parameter in parameters:
        parameter.data = parameter.data.double()
    shake(adapters)
    unet.eval()
    generator = torch.Generator().manual_seed(1)
    noisy, target = (torch.randn(1, 4, 8, 8, generator=generator).double() for _ in range(2))
    context = torch.randn(1, 5, 32, generator=generator).double()

    def loss():
        found = unet(noisy, torch.tensor([300]), encoder_hidden_states=context).sample
        return (found - target).square().mean()

    gradient = torch.autograd.grad(loss(), parameters)
    length = torch.stack([part.square().sum() for part in gradient]).sum().sqrt()
    assert all(part.abs().max() > 0 for part in gradient)
    step, found = 1e-5, []
    with torch.no_grad():
        for sign in (1, -2):
            for parameter, part in zip(parameters, gradient, strict=True):
                parameter.add_(part, alpha=sign * step / float(length))
            found.append(loss())
    assert float((found[0] - found[1]) / (2 * step)) == pytest.approx(float(length), rel=1e-6)


@pytest.mark.parametrize("kind", ["lora", "lokr", "loha"])
def test_dropout_is_drawn_while_it_trains_alone(pipeline, kind):
    unet = pipeline.unet
    adapters = inject({"denoiser": unet}, LoraSettings(kind=kind, dropout=0.5))
    shake(adapters)

    def drawn(seed):
        torch.manual_seed(seed)
        with torch.no_grad():
            return run(unet)

    unet.train()
    assert torch.equal(drawn(1), drawn(1))
    assert not torch.equal(drawn(1), drawn(2))
    unet.eval()
    assert torch.equal(drawn(1), drawn(2))


@pytest.mark.parametrize("wrong", ["rslora", "dora"])
@pytest.mark.parametrize("kind", ["lokr", "loha"])
def test_what_is_of_lora_alone_is_refused_elsewhere(kind, wrong):
    with pytest.raises(AdapterError, match=f"{wrong} is of LoRA alone"):
        LoraSettings(kind=kind, **{wrong: True})


def test_scales():
    assert LoraSettings(rank=4, alpha=8).scale == 2
    assert LoraSettings(rank=4, alpha=8, rslora=True).scale == pytest.approx(8 / math.sqrt(4))


@pytest.mark.parametrize(
    "settings", [{"rank": 0}, {"alpha": 0}, {"dropout": 1.0}, {"targets": "everything"}]
)
def test_impossible_settings_are_refused(settings):
    with pytest.raises(AdapterError):
        LoraSettings(**settings)


def test_a_model_without_the_layers_is_refused_and_left_alone(pipeline):
    with pytest.raises(AdapterError, match="no layer whose name"):
        inject({"denoiser": pipeline.unet}, LoraSettings(targets=("to_nothing",)))
    assert not hasattr(pipeline.unet, "peft_config")
    inject({"denoiser": pipeline.unet}, LoraSettings())
    with pytest.raises(AdapterError, match="already"):
        inject({"denoiser": pipeline.unet}, LoraSettings())
