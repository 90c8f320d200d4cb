"""Trigger words as people write them."""

import pytest

from character_curator.dataset.trigger_words import is_named, without_class_word, words_of


@pytest.mark.parametrize(
    ("text", "words"), [("", ()), (" , ", ()), ("zoe", ("zoe",)), ("zoe,  max ,", ("zoe", "max"))]
)
def test_words_stand_between_commas(text, words):
    assert words_of(text) == words


@pytest.mark.parametrize(
    ("caption", "trigger", "named"),
    [
        ("photo of zoe", "zoe", True),
        ("photo of zoey", "zoe", False),
        ("photo of max", "zoe, max", True),
        ("photo", "", False),
        ("photo", " , ", False),
        ("a+b, smiling", "a+b", True),
    ],
)
def test_a_caption_names_whole_words(caption, trigger, named):
    assert is_named(caption, trigger) is named


def test_the_class_word_is_no_part_of_the_trigger():
    assert without_class_word("zoe woman", "woman") == "zoe"
    assert without_class_word("zoe", "woman") == "zoe"
    assert without_class_word("catwoman", "woman") == "catwoman"
