"""Presets by family: what suits the model, under whatever a person sets."""

from __future__ import annotations

import pytest

from character_curator.lora.families import FAMILIES, named, recognised
from character_curator.training import TrainingSettings
from character_curator.training.presets import (
    FAMILY_PRESETS,
    caption_note,
    choose,
    preset_names,
)
from character_curator.training.settings import PRESETS, SettingsError

XL = "stable-diffusion-xl-v1-base"
SDXL = recognised(XL)


@pytest.mark.parametrize("name", FAMILY_PRESETS)
def test_a_preset_is_of_a_family_and_makes_settings(name):
    chosen = choose({}, name)
    assert chosen.family == named(name).title
    for option, value in chosen.from_preset.items():
        assert getattr(chosen.settings, option) == value
    assert set(FAMILY_PRESETS[name].settings) >= {"rank", "alpha", "learning_rate", "resolution"}
    assert chosen.captions in ("prose", "tags")


@pytest.mark.parametrize(
    ("family", "values"),
    [
        ("flux1", {"resolution_shift": "flux", "timestep_sampling": "logit-normal"}),
        ("qwen-image", {"timestep_shift": 2.2, "rank": 16, "learning_rate": 5e-5}),
        ("z-image", {"timestep_shift": 2.0, "rank": 32}),
        ("krea2", {"timestep_shift": 2.5, "rank": 32, "alpha": 32.0, "targets": "full"}),
        ("sdxl", {"timestep_sampling": "uniform", "min_snr_gamma": 5.0, "resolution": 1024}),
    ],
)
def test_known_families_have_what_their_trainers_document(family, values):
    settings = choose({}, "auto", recognised(named(family).architecture)).settings
    assert {name: getattr(settings, name) for name in values} == values


def test_what_is_set_wins_and_is_said():
    chosen = choose({"rank": 8, "resolution": 768}, None, SDXL)
    assert (chosen.settings.rank, chosen.settings.resolution) == (8, 768)
    assert chosen.settings.alpha == 8.0, "the scale stays 1"
    assert chosen.settings.min_snr_gamma == 5.0
    assert str(chosen) == (
        "Settings: preset of SDXL (read from the layout of its weights): alpha 8, learning_rate "
        "0.0001, timestep_sampling uniform, min_snr_gamma 5, sample_guidance 6, "
        "sample_steps 25; set by you: rank 8, resolution 768."
    )


def test_a_value_that_is_set_to_the_default_is_set_too():
    assert choose({"rank": 16}, "auto", SDXL).settings.rank == 16


@pytest.mark.parametrize("guess", [None, recognised("tiny"), recognised("joyimage")])
def test_a_model_without_a_preset_has_the_defaults_and_it_is_said(guess):
    chosen = choose({"steps": 3}, "auto", guess)
    assert chosen.settings == TrainingSettings(steps=3)
    assert "the defaults, for " in str(chosen)


@pytest.mark.parametrize("name", PRESETS)
def test_named_presets_are_as_ever_whatever_the_model(name):
    assert choose({"rank": 4}, name, SDXL).settings == PRESETS[name].replace(rank=4)


def test_booru_models_want_tags():
    styles = {name: FAMILY_PRESETS[name].captions for name in ("pony", "noobai", "illustrious")}
    assert set(styles.values()) == {"tags"}
    assert FAMILY_PRESETS["sdxl"].captions == FAMILY_PRESETS["flux1"].captions == "prose"


TAGS = "1girl, solo, red hair, green eyes, freckles, white dress, park"
PROSE = "A freckled woman with wavy red hair stands in a park, smiling, in a white dress."


@pytest.mark.parametrize(
    ("family", "captions", "said"),
    [
        ("pony", [PROSE, PROSE, TAGS], "booru tags"),
        ("flux1", [TAGS, TAGS, PROSE], "sentences"),
        ("pony", [TAGS], ""),
        ("flux1", [PROSE], ""),
        ("flux1", ["portrait of char1 woman, red dress, bar background"], ""),
        ("flux1", ["red dress, bar"], ""),
        ("flux1", [], ""),
    ],
)
def test_captions_of_another_style_are_told(family, captions, said):
    note = caption_note(captions, choose({}, family))
    assert said in note
    assert bool(note) == bool(said)
    assert caption_note(captions, choose({}, "default")) == ""


def test_an_unknown_preset_is_refused_with_those_that_there_are():
    with pytest.raises(SettingsError, match="one of: auto, default, seed-document, sd1"):
        choose({}, "sdxxl")
    assert {family.name for family in FAMILIES} >= set(preset_names()) - {"auto", *PRESETS}
