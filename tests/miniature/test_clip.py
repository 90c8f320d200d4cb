"""The miniature's open_clip model: its recipe against open_clip, its weights on unseen renders."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
open_clip = pytest.importorskip("open_clip")
pytest.importorskip("transformers")

import character_curator.miniature as miniature  # noqa: E402
from miniature import vocabulary  # noqa: E402
from miniature.captions import attributes  # noqa: E402
from miniature.data.faces import draw_people  # noqa: E402
from miniature.data.prompts import PHRASES, random_prompts  # noqa: E402
from miniature.identity import sample_identity  # noqa: E402
from miniature.measure import markdown_table  # noqa: E402
from miniature.measure.clip import load_clip, zero_shot_accuracy  # noqa: E402
from miniature.recipe import clip  # noqa: E402
from miniature.recipe.session import Budget  # noqa: E402
from miniature.scene import sample_scene  # noqa: E402

CLIP = Path(miniature.__file__).parent / "weights" / "clip"
needs_weights = pytest.mark.skipif(
    not (CLIP / "open_clip_model.safetensors").exists(),
    reason="the miniature's open_clip model has not been trained here",
)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clip")
    images = draw_people(5, 0, 2, scenes=3)
    model = clip.train_clip(
        images, folder / "run" / "state.pt", budget=Budget(steps=2), batch_size=4
    )
    clip.write_clip(model, folder / "model")
    return model, folder / "model"


def test_every_value_that_a_scene_can_show_has_a_phrase():
    for seed in range(200):
        rng = np.random.default_rng(seed)
        shown = attributes(sample_identity(rng), sample_scene(rng))
        assert shown.keys() == PHRASES.keys()
        assert all(value in PHRASES[attribute] for attribute, value in shown.items())


def test_prompts_of_an_attribute_are_different_and_hold_their_phrase():
    for seed in range(50):
        for attribute, prompts in random_prompts(np.random.default_rng(seed)).items():
            assert len(set(prompts)) == len(prompts) == len(PHRASES[attribute])
            for prompt, phrases in zip(prompts, PHRASES[attribute].values(), strict=True):
                assert any(phrase in prompt for phrase in phrases)
                assert "{" not in prompt


def test_outfit_phrases_do_not_name_a_color():
    for phrases in PHRASES["outfit"].values():
        for phrase in phrases:
            assert not set(phrase.split()) & set(vocabulary.OUTFIT_COLORS)


def test_short_encoding_is_that_of_open_clip(trained):
    model, folder = trained
    tokens = open_clip.get_tokenizer(f"local-dir:{folder}")(["red hair", "a man, park background"])
    with torch.no_grad():
        torch.testing.assert_close(
            clip.encode_texts(model, tokens[:, :16]),
            model.encode_text(tokens, normalize=True),
            atol=1e-5,
            rtol=1e-4,
        )


def test_images_of_both_training_sizes_are_embedded(trained):
    model, _ = trained
    for size in (clip.EARLY_SIZE, clip.IMAGE_SIZE):
        images = np.random.default_rng(0).integers(0, 255, (2, size, size, 3)).astype(np.uint8)
        found = clip.embed_images(model, clip.network_input(images))
        assert found.shape == (2, 128)
        if size == clip.IMAGE_SIZE:
            expected = model.encode_image(clip.network_input(images), normalize=True)
            torch.testing.assert_close(found, expected)


def test_folder_loads_offline_after_it_was_moved(trained, tmp_path, monkeypatch):
    model, folder = trained
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    moved = shutil.copytree(folder, tmp_path / "elsewhere" / "model of mine")
    loaded = load_clip(moved)
    image = draw_people(5, 0, 1, scenes=1).images[0]
    # 96 pixels need no resizing, so this compares networks alone.
    small = np.ascontiguousarray(image[:96, :96])
    with torch.no_grad():
        expected = model.encode_image(clip.network_input(small[None]), normalize=True).numpy()
    np.testing.assert_allclose(loaded.embed_images([small]), expected, atol=5e-3)
    assert loaded.embed_texts(["red hair", "blue hoodie"]).shape == (2, 128)


def test_views_keep_size_and_are_reproducible():
    image = draw_people(5, 0, 1, scenes=1).images[0]
    for seed in range(5):
        a = clip.view(image, np.random.default_rng(seed))
        assert a.shape == (clip.IMAGE_SIZE, clip.IMAGE_SIZE, 3)
        np.testing.assert_array_equal(a, clip.view(image, np.random.default_rng(seed)))


def test_figures_become_a_table():
    text = markdown_table(
        {
            "clip": {"hair": 0.9, "mean": 0.875},
            "generation": {
                "pictures": 304,
                "one_face": 0.5,
                "foreign_one_face": None,
                "one_face_confident": 0.25,
                "as_prompted": {"hair_style": 1.0},
            },
        }
    )
    assert "| Zero-shot accuracy: mean | 87.5 % |" in text
    assert "| Exactly one face (MTCNN) | not measured |" in text
    assert "| As prompted: hair style | 100.0 % |" in text
    assert "Face detector" not in text


@needs_weights
def test_trained_model_names_what_unseen_renders_show():
    accuracy = zero_shot_accuracy(CLIP, count=80, seed=77_004)
    assert accuracy["mean"] >= 0.85
    asked = zero_shot_accuracy(CLIP, count=80, seed=77_004, template="a portrait with {}")
    assert asked["mean"] >= 0.8


@needs_weights
def test_captions_find_their_images():
    drawn = draw_people(77_005, 0, 24, scenes=1)
    model = load_clip(CLIP)
    images = model.embed_images(list(drawn.images))
    texts = model.embed_texts([variants[0] for variants in drawn.captions])
    hits = (images @ texts.T).argmax(1) == np.arange(24)
    assert hits.mean() >= 0.5


@needs_weights
def test_open_clip_model_is_small():
    assert sum(file.stat().st_size for file in CLIP.iterdir()) < 5_000_000
