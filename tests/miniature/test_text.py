"""The text side of the miniature's recipe: its tokenizer, its captions, a model that reads them."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")
pytest.importorskip("diffusers")
pytest.importorskip("transformers")

from miniature import vocabulary  # noqa: E402
from miniature.captions import caption  # noqa: E402
from miniature.data import renders as render_data  # noqa: E402
from miniature.data.reading import VALUES, caption_batch, teach_reading  # noqa: E402
from miniature.recipe.diffusion import DiffusionRecipe, build_model, tokens  # noqa: E402
from miniature.recipe.session import Budget  # noqa: E402
from miniature.recipe.tokenizer import POSITIONS, read_tokenizer  # noqa: E402


def test_every_word_is_one_token(tokenizer_folder):
    tokenizer = read_tokenizer(tokenizer_folder)
    parts = {part for word in vocabulary.WORDS for part in re.findall("[a-z]+", word)}
    assert len(parts) > 80
    for part in parts:
        assert tokenizer.tokenize(part) == [part + "</w>"]


def test_captions_survive_the_tokenizer(tokenizer_folder):
    tokenizer = read_tokenizer(tokenizer_folder)
    for index in range(50):
        identity, scene, rng = render_data.draw_parameters(5, index)
        text = caption(identity, scene, rng)
        numbers = tokenizer(text).input_ids
        assert len(numbers) <= POSITIONS
        decoded = tokenizer.decode(numbers, skip_special_tokens=True)
        assert re.findall("[a-z]+", decoded) == re.findall("[a-z]+", text.lower())


@settings(max_examples=60, deadline=None)
@given(text=st.text(max_size=200))
def test_any_text_can_be_encoded(tokenizer_folder, text):
    tokenizer = read_tokenizer(tokenizer_folder)
    numbers = tokens(tokenizer, [text])
    assert numbers.shape == (1, POSITIONS)
    assert int(numbers[0, 0]) == tokenizer.bos_token_id
    assert tokenizer.eos_token_id in numbers[0, 1:]
    assert int(numbers.max()) < len(tokenizer)


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 2**32), drop=st.floats(0, 1))
def test_shuffled_captions_only_lose_phrases(seed, drop):
    variants = ("portrait of a woman, red hair, park background, soft daylight",)
    text = render_data.shuffled_caption(variants, np.random.default_rng(seed), drop)
    subject, *phrases = text.split(", ")
    assert subject == "portrait of a woman"
    assert set(phrases) <= set(variants[0].split(", ")[1:])
    assert len(set(phrases)) == len(phrases)


def test_captions_come_with_the_numbers_of_what_they_say():
    texts, numbers = caption_batch(3, 0, 6)
    assert numbers.shape == (6, len(VALUES))
    names = list(VALUES)
    freckled = numbers[:, names.index("freckles")]
    for text, number in zip(texts, freckled, strict=True):
        assert ("freckled" in text) == (VALUES["freckles"][number] == "yes")
    assert caption_batch(3, 2, 4)[0] == texts[2:]


def test_a_text_model_learns_to_read(tokenizer_folder, tmp_path):
    small = DiffusionRecipe(channels=(32,), text_width=96, text_layers=1)
    model = build_model(tokenizer_folder, small)
    right = teach_reading(
        model.text_encoder, model.tokenizer, tmp_path / "reading.pt", budget=Budget(steps=100)
    )
    assert set(right) == set(VALUES)
    assert right["background"] > 0.5
    assert right["freckles"] > 0.75
    again = build_model(tokenizer_folder, small)
    teach_reading(
        again.text_encoder, again.tokenizer, tmp_path / "reading.pt", budget=Budget(steps=100)
    )
    for mine, theirs in zip(
        again.text_encoder.parameters(), model.text_encoder.parameters(), strict=True
    ):
        assert torch.equal(mine, theirs)
