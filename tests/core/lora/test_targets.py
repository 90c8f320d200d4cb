"""Where adapters go: by name in UNets and Flux as ever, by structure in other transformers."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from character_curator.lora.adapters import AdapterError, LoraSettings, inject
from character_curator.lora.targets import LAYER_PRESETS, is_linear, place
from tests.support.lora_weights import pipeline_in


class Quantised(nn.Module):
    """A linear layer that is none of torch's."""

    def __init__(self, width):
        super().__init__()
        self.in_features = self.out_features = width
        self.weight = nn.Parameter(torch.eye(width) * 127, requires_grad=False)
        self.bias = None

    def forward(self, x):
        return x @ (self.weight / 127).T


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.attn = nn.ModuleDict({"wq": nn.Linear(8, 8), "wk": nn.Linear(8, 8)})
        self.attn["wv"] = Quantised(8)
        self.feed_forward = nn.Sequential(nn.Linear(8, 16), nn.GELU(), nn.Linear(16, 8))
        self.adaln_modulation_attn = nn.Linear(8, 8)
        self.norm1 = nn.ModuleDict({"linear": nn.Linear(8, 8)})

    def forward(self, x):
        return self.feed_forward(self.attn["wv"](self.attn["wq"](x)))


class Transformer(nn.Module):
    def __init__(self):
        super().__init__()
        self.x_embedder = nn.Linear(8, 8)
        self.time = nn.Sequential(nn.Linear(8, 8), nn.SiLU(), nn.Linear(8, 8))
        self.blocks = nn.ModuleList([Block(), Block()])
        self.refiner = nn.ModuleDict({"blocks": nn.ModuleList([Block()])})

    def forward(self, x):
        return self.blocks[1](self.blocks[0](self.x_embedder(x)))


@pytest.mark.parametrize("preset", LAYER_PRESETS)
@pytest.mark.parametrize("family", ["tiny_sd15", "tiny_sdxl", "tiny_flux"])
def test_unets_and_flux_keep_the_layers_that_the_names_stand_for(family, preset, request):
    pipeline = pipeline_in(request.getfixturevalue(family))
    module = pipeline.unet if hasattr(pipeline, "unet") else pipeline.transformer
    ends = tuple(f".{name}" for name in LAYER_PRESETS[preset])
    named = [
        path
        for path, layer in module.named_modules()
        if isinstance(layer, (nn.Linear, nn.Conv2d)) and f".{path}".endswith(ends)
    ]
    assert list(place(module, preset).paths) == named


def test_attention_and_feed_forward_of_repeated_blocks_carry_adapters():
    found = place(Transformer(), "attention")
    ends = {path.rpartition(".")[2] for path in found.paths}
    assert (len(found.paths), ends) == (9, {"wq", "wk", "wv"})
    full = place(Transformer(), "full")
    assert len(full.paths) == 15
    assert set(found.paths) < set(full.paths)
    assert full.without == ("adaln_modulation_attn", "norm1", "time", "x_embedder")
    assert str(full) == (
        "Adapters on 15 of 24 linear layers; none in: adaln_modulation_attn, norm1, time, "
        "x_embedder."
    )


def test_the_published_recipe_finds_queries_and_values_by_whatever_name():
    found = place(Transformer(), "seed-document")
    assert {path.rpartition(".")[2] for path in found.paths} == {"wq", "wv"}
    assert found.fused == ()


def test_a_pattern_stands_for_whole_names():
    found = place(Transformer(), ("blocks.*.attn.*",))
    assert found.paths == tuple(
        f"blocks.{block}.attn.{name}" for block in (0, 1) for name in ("wq", "wk", "wv")
    )
    model = Transformer()
    adapters = inject({"denoiser": model}, LoraSettings(targets=("blocks.*.attn.*",)))
    paths = [path for _, path, _ in adapters.layers()]
    assert paths == list(found.paths), "no layer whose name merely ends the same"


def test_a_quantised_layer_is_linear_and_computes_the_same_under_an_adapter():
    model = Transformer().eval()
    assert is_linear(model.blocks[0].attn["wv"])
    assert not is_linear(nn.Embedding(2, 2))
    x = torch.randn(3, 8)
    with torch.no_grad():
        before = model(x)
        adapters = inject({"denoiser": model}, LoraSettings(targets="attention", dropout=0.0))
        assert torch.equal(model(x), before)
        for parameter in adapters.parameters():
            parameter.add_(0.1)
        assert not torch.allclose(model(x), before)
        adapters.remove()
        assert torch.equal(model(x), before)


@pytest.mark.parametrize("kind", ["lokr", "loha"])
def test_lycoris_refuses_quantised_layers_and_leaves_the_model_as_it_was(kind):
    model = Transformer().eval()
    x = torch.randn(3, 8)
    with torch.no_grad():
        before = model(x)
        with pytest.raises(AdapterError, match=r"quantised layers \(Quantised\)"):
            inject({"denoiser": model}, LoraSettings(targets="attention", kind=kind))
        assert torch.equal(model(x), before)
    inject({"denoiser": model}, LoraSettings(targets="attention"))
