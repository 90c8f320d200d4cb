"""Operations on captions, as functions of texts."""

from __future__ import annotations

import pytest

from character_curator.captions import edits
from character_curator.captions.counting import frequencies
from character_curator.captions.edits import (
    Add,
    Deduplicate,
    EditError,
    Prune,
    Remove,
    Replace,
    Substitute,
    Trigger,
)
from character_curator.captions.phrases import same, spoken, tidied


@pytest.mark.parametrize(
    ("operation", "before", "after"),
    [
        (Add("red coat"), "char1, park", "char1, park, red coat"),
        (Add("red coat"), "char1, Red_Coat", "char1, Red_Coat"),
        (Add("red coat"), "", "red coat"),
        (Add("a photo", front=True, trigger="char1"), "char1, park", "char1, a photo, park"),
        (Add("a photo", front=True), "char1, park", "a photo, char1, park"),
        (Add("a photo", front=True, trigger="char1"), "char1", "char1, a photo"),
        (Add("day, sun"), "char1, sun", "char1, sun, day"),
        (Remove("blue eyes"), "char1, blue_eyes, park", "char1, park"),
        (Remove("eyes"), "char1, blue eyes", "char1, blue eyes"),
        (Remove("Park"), "park", ""),
        (Replace("coat", "jacket"), "a red coat, raincoats", "a red jacket, raincoats"),
        (Replace("blue eyes", "eyes"), "char1, blue_eyes", "char1, eyes"),
        (Replace("coat"), "char1, coat, park", "char1, park"),
        (Replace("a", r"\1"), "a b", r"\1 b"),
        (Substitute(r"(\w+) coat", r"coat, \1"), "a red coat", "a coat, red"),
        (Substitute(r"^", "photo, "), "park", "photo, park"),
        (Substitute(r"(?i)PARK,? ?"), "char1, park, sun", "char1, sun"),
        (Trigger("char1"), "park", "char1, park"),
        (Trigger("char1"), "", "char1"),
        (Trigger("char1"), "park, char1, sun", "char1, park, sun"),
        (Trigger("char1"), "a photo of char1 in a park", "a photo of char1 in a park"),
        (Trigger("char1"), "sun, a photo of char1", "sun, a photo of char1"),
        (Trigger("char1"), "char12, park", "char1, char12, park"),
        (Trigger("a1, b2"), "park", "park"),
        (Trigger("a1, b2"), "park, b2", "b2, park"),
        (Deduplicate(), "sun, park, Sun", "sun, park"),
    ],
)
def test_what_an_operation_does(operation, before, after):
    assert operation([before]) == [after]
    assert str(operation)


def test_what_stays_is_not_touched():
    """Spaces and commas of captions that an operation does not concern stay as they were."""
    texts = ["char1 ,  park,", "A sentence, with a comma."]
    for operation in (Add("park"), Remove("x"), Replace("x", "y"), Substitute("x"), Deduplicate()):
        assert operation([texts[0]]) == [texts[0]]
    assert Prune()(["a, b ,", "c"]) == ["a, b ,", "c"]


def test_what_is_always_there_is_pruned_but_the_trigger():
    texts = [
        "char1, Blue eyes, solo, park",
        "char1, blue_eyes, solo, sun",
        "char1, blue eyes, solo",
    ]
    prune = Prune(keep="solo", trigger="char1")
    assert prune.always(texts) == ["Blue eyes"]
    assert prune(texts) == ["char1, solo, park", "char1, solo, sun", "char1, solo"]
    assert Prune(0.3, trigger="char1")(texts) == ["char1"] * 3
    assert Prune().always(texts[:1]) == []


@pytest.mark.parametrize("share", [0.0, 1.01, -1])
def test_a_share_is_one(share):
    with pytest.raises(EditError, match="share"):
        Prune(share)


@pytest.mark.parametrize(("pattern", "new"), [("(", ""), ("a", r"\1"), ("(a)", r"\g<b>")])
def test_a_pattern_that_cannot_be_is_refused_before_anything_is_read(pattern, new):
    with pytest.raises(EditError, match="cannot be used"):
        Substitute(pattern, new)


def test_a_pattern_that_tries_for_ever_is_stopped(monkeypatch):
    monkeypatch.setattr(edits, "MOST_SECONDS", 0.2)
    with pytest.raises(EditError, match="write it without them"):
        Substitute(r"(a|aa)+$")(["a" * 60 + "!"])


@pytest.mark.parametrize("kind", [Add, Remove, Replace, Trigger])
def test_nothing_is_no_phrase(kind):
    with pytest.raises(EditError, match="Nothing is given"):
        kind(" , ")


def test_frequencies_count_captions_not_words():
    found = frequencies(["a_b, c", "a_b, A b", "", "c, d"])
    assert [(one.text, one.count) for one in found] == [("a_b", 2), ("c", 2), ("d", 1)]
    assert found[0].share == pytest.approx(2 / 3)
    words = frequencies(["A woman in a red coat.", "The red door, woman's hat"], "words")
    assert {one.text: one.count for one in words}["red"] == 2
    assert "in" not in {one.text for one in words}


def test_phrases():
    assert [spoken(tag) for tag in ("long_hair", ">_<", "^_^", "o_o")] == [
        "long hair", ">_<", "^_^", "o_o",
    ]  # fmt: skip
    assert same("Long_Hair ") == same("long  hair")
    assert tidied(", a, , b ,c,") == "a, b,c"


@pytest.mark.parametrize(
    "operation",
    [
        Add, Remove, Replace, Substitute, Trigger, lambda text: Replace("a", text),
        lambda text: Substitute("a", text),
    ],
)  # fmt: skip
def test_words_of_megabytes_are_refused(operation):
    with pytest.raises(EditError, match="3,000,000 letters: at most 10,000"):
        operation("y" * 3_000_000)
