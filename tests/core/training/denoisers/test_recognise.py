"""A folder of diffusers says by its configuration which family it is of."""

from __future__ import annotations

import json

import pytest

from character_curator.training.denoisers.recognise import recognise, said_by
from tests.support.single_files import save_single_file

CASES = [
    ("sd1", "StableDiffusionPipeline", {"unet": {"cross_attention_dim": 768}}),
    ("sd2", "StableDiffusionPipeline", {"unet": {"cross_attention_dim": 1024}}),
    (
        "sd2-v",
        "StableDiffusionPipeline",
        {
            "unet": {"cross_attention_dim": 1024},
            "scheduler": {"prediction_type": "v_prediction"},
        },
    ),
    ("sdxl", "StableDiffusionXLPipeline", {}),
    ("sd3", "StableDiffusion3Pipeline", {}),
    ("sd3.5-large", "StableDiffusion3Pipeline", {"transformer": {"qk_norm": "rms_norm"}}),
    ("flux1", "FluxPipeline", {"transformer": {"guidance_embeds": True}}),
    ("flux1-schnell", "FluxPipeline", {"transformer": {"guidance_embeds": False}}),
    ("flux1-kontext", "FluxKontextPipeline", {}),
    ("flux2", "Flux2Pipeline", {"transformer": {"guidance_embeds": True}}),
    (
        "flux2-klein-9b",
        "Flux2KleinPipeline",
        {"transformer": {"guidance_embeds": False, "joint_attention_dim": 12288}},
    ),
    ("chroma", "ChromaPipeline", {}),
    ("qwen-image", "QwenImagePipeline", {}),
    ("qwen-image-edit", "QwenImageEditPipeline", {}),
    ("z-image", "ZImagePipeline", {}),
]


def folder_of(path, kind, configurations):
    path.mkdir()
    (path / "model_index.json").write_text(json.dumps({"_class_name": kind}))
    for part, values in configurations.items():
        (path / part).mkdir()
        name = "scheduler_config.json" if part == "scheduler" else "config.json"
        (path / part / name).write_text(json.dumps(values))
    return path


@pytest.mark.parametrize(("family", "kind", "configurations"), CASES)
def test_a_folder_is_recognised(tmp_path, family, kind, configurations):
    guess = recognise(folder_of(tmp_path / "model", kind, configurations))
    assert guess.family.name == family


def test_its_name_tells_a_family_of_the_same_layout(tmp_path):
    guess = recognise(folder_of(tmp_path / "my-pony-xl", "StableDiffusionXLPipeline", {}))
    assert guess.family.name == "pony"
    assert "my-pony-xl" in guess.source


@pytest.mark.parametrize("fixture", ["tiny_sdxl", "tiny_flux"])
def test_a_tiny_pipeline_is_what_its_denoiser_says(fixture, request):
    from character_curator.lora.families import recognised
    from character_curator.training.denoisers.load import load

    folder = request.getfixturevalue(fixture)
    architecture = load(folder, device="cpu").architecture
    if fixture == "tiny_flux":  # whose guidance the denoiser's name does not tell
        assert recognise(folder).family.name.startswith("flux1")
    else:
        assert recognise(folder).family == recognised(architecture).family


def test_the_embedded_model_has_no_preset():
    guess = recognise("miniature")
    assert guess.family is None
    assert "miniature" in guess.source


def test_a_checkpoint_in_one_file_is_recognised_by_its_layout_and_what_it_says(tiny_sdxl, tmp_path):
    from safetensors.torch import load_file, save_file

    file = save_single_file(tiny_sdxl, tmp_path / "mix.safetensors")
    assert recognise(file, tiny_sdxl).family.name == "sdxl"
    save_file(load_file(file), file, {"modelspec.title": "Illustrious mix", "format": "pt"})
    assert said_by(file) == {"modelspec.title": "Illustrious mix"}
    guess = recognise(file, tiny_sdxl)
    assert guess.family.name == "illustrious"
    assert "modelspec.title" in guess.source
