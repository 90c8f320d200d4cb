"""Spellings of layers' names: what is written in any of them is the same update, and is read."""

from __future__ import annotations

import pytest
import torch

from character_curator.lora import file as lora_file
from character_curator.lora.adapters import LoraSettings, inject
from character_curator.lora.continuing import Origin
from character_curator.lora.spelling import FileNames, Piece, SpellingError

WIDTH = 12


class Block(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attn = torch.nn.ModuleDict({"qkv": torch.nn.Linear(WIDTH, 3 * WIDTH)})
        self.mlp = torch.nn.Linear(WIDTH, WIDTH)


class Transformer(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.blocks = torch.nn.ModuleList([Block(), Block()])


def dotted(part, path):
    return f"diffusion_model.{path}"


def kohya(part, path):
    return f"lora_unet_{path.replace('.', '_')}"


def split(part, path):
    if not path.endswith("qkv"):
        return [Piece(f"transformer.{path}")]
    parent = path.removesuffix("qkv")
    return [Piece(f"transformer.{parent}to_{n}", i * WIDTH, WIDTH) for i, n in enumerate("qkv")]


NAMES = FileNames("ai-toolkit", {"ai-toolkit": dotted, "kohya": kohya, "diffusers": split})


def adapted(seed=0, **settings):
    """Adapters with an alpha that is not their rank, of random weights."""
    torch.manual_seed(0)
    model = Transformer()
    shape = {"rank": 3, "alpha": 2.0, "dropout": 0.0, "targets": "full", **settings}
    adapters = inject({"denoiser": model}, LoraSettings(**shape), seed=seed)
    source = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in adapters.named_parameters().items():
            wide = torch.randn(parameter.shape, generator=source)
            parameter.copy_(1 + 0.1 * wide if "magnitude" in name else wide)
    return adapters


def written(adapters, spelling):
    return lora_file.LoraFile(lora_file.tensors_of(adapters, NAMES(spelling)), {})


def updates(file):
    """The update of every layer of a file, by its name."""
    return {
        name: scale * up @ down for name in file.names for down, up, scale, _ in [file.layer(name)]
    }


def test_a_spelling_changes_names_and_no_weight():
    adapters = adapted()
    plain = updates(written(adapters, "kohya"))
    for name, update in updates(written(adapters, "auto")).items():
        same = "lora_unet_" + name.removeprefix("diffusion_model.").replace(".", "_")
        torch.testing.assert_close(update, plain[same])


def test_pieces_are_the_rows_of_the_whole():
    adapters = adapted()
    whole, apart = updates(written(adapters, "kohya")), updates(written(adapters, "diffusers"))
    assert len(apart) == 8
    for number in range(2):
        parts = [apart[f"transformer.blocks.{number}.attn.to_{n}"] for n in "qkv"]
        torch.testing.assert_close(torch.cat(parts), whole[f"lora_unet_blocks_{number}_attn_qkv"])


@pytest.mark.parametrize(("spelling", "alphas"), [("kohya", 4), ("auto", 0), ("diffusers", 0)])
def test_dotted_files_have_no_alpha(spelling, alphas):
    tensors = written(adapted(), spelling).tensors
    assert sum(key.endswith(".alpha") for key in tensors) == alphas


@pytest.mark.parametrize("spelling", NAMES.spellings)
@pytest.mark.parametrize("settings", [{}, {"rslora": True}, {"dora": True}])
def test_a_training_goes_on_from_a_file_in_any_spelling(spelling, settings):
    file = written(adapted(**settings), spelling)
    other = adapted(seed=1, **settings)
    lora_file.restore(other, file, *NAMES.spellings.values())
    again = written(other, spelling)
    for name, update in updates(file).items():
        torch.testing.assert_close(updates(again)[name], update)
        magnitude = file.layer(name)[3]
        if settings.get("dora"):
            torch.testing.assert_close(again.layer(name)[3], magnitude)


def test_pieces_that_were_trained_apart_are_refused():
    file = written(adapted(), "diffusers")
    key = "transformer.blocks.0.attn.to_k.lora_A.weight"
    strange = lora_file.LoraFile({**file.tensors, key: torch.randn(3, WIDTH)}, {})
    with pytest.raises(lora_file.CheckpointError, match="trained as several"):
        lora_file.restore(adapted(), strange, *NAMES.spellings.values())


def test_another_models_file_is_refused_by_its_first_strange_layer():
    strange = lora_file.LoraFile({"lora_unet_x.lora_down.weight": torch.ones(1, 1)}, {})
    with pytest.raises(lora_file.CheckpointError, match="differ in"):
        lora_file.restore(adapted(), strange, *NAMES.spellings.values())


def test_a_spelling_that_a_model_lacks_is_refused_with_those_that_it_has():
    with pytest.raises(SpellingError, match="one of: auto, kohya"):
        FileNames("kohya", {"kohya": kohya})("diffusers")


@pytest.mark.parametrize("kind", ["lokr", "loha"])
def test_factors_are_never_parted(kind):
    adapters = adapted(kind=kind)
    layers = [(part, path) for part, path, _ in adapters.layers()]
    names = FileNames("diffusers", {"diffusers": split, "kohya": kohya})
    assert names.unbroken(layers) is kohya, "auto finds one that leaves layers whole"
    assert NAMES.unbroken(layers) is dotted
    with pytest.raises(SpellingError, match="in pieces"):
        names.unbroken(layers, "diffusers")
    with pytest.raises(lora_file.CheckpointError, match="Choose another file_spelling"):
        written(adapters, "diffusers")
    for spelling in ("kohya", "ai-toolkit"):
        file = written(adapters, spelling)
        other = adapted(seed=1, kind=kind)
        lora_file.restore(other, file, *NAMES.spellings.values())
        found, expected = other.state_dict(), adapters.state_dict()
        assert all(torch.allclose(found[key], value) for key, value in expected.items())


@pytest.mark.parametrize("spelling", NAMES.spellings)
def test_what_goes_on_from_a_file_of_any_spelling_follows_it(spelling, tmp_path):
    adapters = adapted()
    path = tmp_path / "first.safetensors"
    lora_file.write(path, written(adapters, spelling).tensors, {})
    origin = Origin.of(path)
    model = Transformer()
    settings = LoraSettings(rank=3, alpha=1.0, targets=("mlp",))
    again = origin.adapters({"denoiser": model}, settings, *NAMES.spellings.values())
    expected = {at: layer.get_delta_weight("default") for _, at, layer in adapters.layers()}
    found = {at: layer.get_delta_weight("default") for _, at, layer in again.layers()}
    assert found.keys() == expected.keys()
    for at, delta in expected.items():
        torch.testing.assert_close(found[at], delta, rtol=1e-5, atol=1e-6)
