"""Which family a model is of: its layout, and what it is called."""

from __future__ import annotations

import pytest

from character_curator.lora.families import FAMILIES, named, recognised
from character_curator.lora.header import names_in

XL = "stable-diffusion-xl-v1-base"


def test_no_two_families_are_called_the_same():
    assert len({family.name for family in FAMILIES}) == len(FAMILIES)
    assert len({family.version for family in FAMILIES}) == len(FAMILIES)
    plain = [family.architecture for family in FAMILIES if not family.sign]
    assert len(plain) == len(set(plain)), "the layout alone says one family"


def test_kohyas_own_names_are_kept():
    assert recognised("stable-diffusion-v1").family.version == "sd_v1"
    assert recognised(XL).family.version == "sdxl_base_v1-0"
    assert recognised("flux-1-dev").family.version == "flux1"
    assert recognised("lumina-2").family.version == "lumina2"


def test_interfaces_that_look_at_the_beginning_see_sdxl():
    versions = [family.version for family in FAMILIES if family.architecture == XL]
    assert len(versions) == 4
    assert all(version.startswith("sdxl_") for version in versions)


@pytest.mark.parametrize(
    ("architecture", "name", "family"),
    [
        (XL, "ponyDiffusionV6XL_v6.safetensors", "pony"),
        (XL, "Illustrious-XL-v1.0", "illustrious"),
        (XL, "noobaiXLNAIXL_vPred10Version", "noobai"),
        (XL, "sd_xl_base_1.0.safetensors", "sdxl"),
        ("stable-diffusion-v1", "ponyhorses15.safetensors", "sd1"),
        ("flux-1-dev", "flux1-kontext-dev.safetensors", "flux1-kontext"),
        ("qwen-image", "qwen_image_edit_2511_fp8", "qwen-image-edit"),
        ("wan2.1", "wan2.2_t2v_low_noise_14B", "wan2.2"),
        ("flux-1-dev", "flux1-dev.safetensors", "flux1"),
    ],
)
def test_a_name_tells_what_the_layout_does_not(architecture, name, family):
    guess = recognised(architecture, {"the base model's name": name})
    assert guess.family.name == family
    told = named(family).sign or family in ("flux1-kontext", "qwen-image-edit", "wan2.2")
    assert (name in guess.source) == bool(told), "it is said where a guess is from"


def test_what_a_file_says_of_itself_counts_too():
    says = names_in({"modelspec.title": "My Illustrious merge", "ss_steps": "4"})
    assert says == {"modelspec.title": "My Illustrious merge"}
    guess = recognised(XL, {"the base model's name": "mix.safetensors", **says})
    assert guess.family.name == "illustrious"
    assert "modelspec.title" in guess.source


def test_a_model_without_a_name_keeps_its_own():
    assert recognised("stablecascade_c").family is None
