"""Prompts of an evaluation, and what a dataset says of its character."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from character_curator.dataset.facts import read_facts
from character_curator.evaluation import Setup
from character_curator.evaluation.character import Character, template_of, with_article
from character_curator.evaluation.images import FIRST_SEED, requests_for
from character_curator.evaluation.prompts import (
    SEED_DOCUMENT,
    VOCABULARY,
    Prompt,
    PromptError,
    new_prompts,
    read_prompts,
    vocabulary_of,
)
from character_curator.generation.run import batches

RECIPE = """
[model]
path = "somewhere"
steps = 12
guidance = 2.5

[plan]
seeds = [1]
caption = "portrait of {trigger} {class_word}, {scenario}"

[[subjects]]
name = "char1"
trigger = "ohwx"
class_word = "woman"
description = "gentle freckled woman"

[[scenarios]]
number = 1
name = "a"
prompt = "red hoodie, warm smile, park background"

[[scenarios]]
number = 2
name = "b"
prompt = "blue dress, serious, bar background, glasses"

[faces]
pack = "my-pack"

[quality]
minimum = 0.5
"""


def test_the_grid_is_the_published_one():
    assert [p.seeds for p in SEED_DOCUMENT] == [(100, 101, 102), (200, 201, 202), (300, 301, 302)]
    assert SEED_DOCUMENT[0].of("freckled person") == (
        "portrait of freckled person, casual hoodie, warm smile, golden hour lighting, "
        "depth of field, professional photography"
    )
    requests = requests_for(SEED_DOCUMENT, "char1 woman", "grid", neutral="a woman")
    assert [r.noise_seed for r in requests] == [100, 101, 102, 200, 201, 202, 300, 301, 302]
    assert len({r.file_name for r in requests}) == 9
    assert requests[3].prompt.startswith("professional headshot of char1 woman, business casual")
    assert requests[3].caption.startswith("professional headshot of a woman, business casual")


def test_prompts_without_seeds_get_consecutive_ones():
    prompts = [Prompt("{who} a"), Prompt("{who} b"), Prompt("{who} a")]
    requests = requests_for(prompts, "x", "trigger", neutral="y")
    assert [r.noise_seed for r in requests] == [FIRST_SEED, FIRST_SEED + 1, FIRST_SEED + 2]
    assert len({r.file_name for r in requests}) == 3


def test_new_prompts_fill_their_batches():
    prompts = [Prompt(f"{{who}} {n}") for n in range(100)]
    requests = [
        request
        for series in ("trigger", "class")
        for request in requests_for(prompts, "x", series, neutral="y")
    ]
    assert len({r.file_name for r in requests}) == 200
    assert len(list(batches(requests, 8))) == 26  # the 25 that 200 images need, and a rest


def test_nobody_leaves_no_stray_comma():
    assert Prompt("{who}, at  the bar").of("") == "at the bar"
    with pytest.raises(PromptError, match=r"no \{who\}"):
        Prompt("at the bar")


@given(st.integers(0, 60), st.integers(0, 5))
def test_new_prompts_are_new_different_and_repeatable(count, seed):
    known = [", ".join(place[0] for place in VOCABULARY)]
    prompts = new_prompts(count, known=known, seed=seed)
    texts = [p.text for p in prompts]
    assert len(set(texts)) == count
    assert all(known[0] not in text for text in texts)
    assert prompts == new_prompts(count + 7, known=known, seed=seed)[:count]
    for text in texts:
        parts = text.split(", ")[1:]
        assert all(part in place for part, place in zip(parts, VOCABULARY, strict=True))


def test_a_training_caption_that_holds_the_scene_is_no_new_prompt():
    vocabulary = (("a", "b"), ("c", "d"))
    prompts = new_prompts(3, vocabulary=vocabulary, known=["portrait of char1, a, c, close-up"])
    assert {p.text.split(", ", 2)[1] + p.text.split(", ", 2)[2] for p in prompts} == {
        "ad", "bc", "bd",
    }  # fmt: skip
    with pytest.raises(PromptError, match="only 3 scenes"):
        new_prompts(4, vocabulary=vocabulary, known=["portrait of char1, a, c, close-up"])


def test_a_vocabulary_is_read_off_scenarios_of_one_order():
    scenes = ["red hoodie, smile, park", "blue dress, serious, bar, glasses"]
    assert vocabulary_of(scenes) == (
        ("red hoodie", "blue dress"), ("smile", "serious"), ("park", "bar"),
    )  # fmt: skip
    assert vocabulary_of(["one", "two"]) == ()
    assert vocabulary_of(["a, b"]) == ()
    assert vocabulary_of([]) == ()


def test_a_recipe_tells_character_vocabulary_and_models(tmp_path):
    (tmp_path / "recipe.toml").write_text(RECIPE)
    facts = read_facts(tmp_path)
    character = Character.of(facts)
    assert character.with_trigger == "ohwx woman"
    assert character.described == "a gentle freckled woman"
    assert character.of_class == "a woman"
    assert template_of(facts) == "portrait of {who}, {scene}"
    assert vocabulary_of(facts.scenes)[0] == ("red hoodie", "blue dress")
    assert facts.model["steps"] == 12
    setup = Setup.of_facts(facts, count=1)
    assert (setup.faces, setup.minimum_quality, setup.clip) == ("my-pack", 0.5, ("ViT-B-32", ""))
    assert Setup.of_facts(facts, count=1, trigger="sks").character.trigger == "sks"


def test_the_recipe_of_a_graph_tells_the_character_of_its_plan(tmp_path):
    (tmp_path / "recipe.toml").write_text(
        '[plan]\nseeds = [1]\ncaption = "photo of {trigger} {class_word}, {scenario}"\n'
        '[[plan.subjects]]\nname = "mia"\ntrigger = "ohwx"\nclass_word = "woman"\n'
    )
    facts = read_facts(tmp_path)
    assert Character.of(facts).with_trigger == "ohwx woman"
    assert template_of(facts) == "photo of {who}, {scene}"


def test_a_folder_of_images_has_working_defaults(tmp_path):
    setup = Setup.of_dataset(tmp_path / "mia", count=20)
    assert setup.character.with_trigger == "mia person"
    said = {part for p in setup.prompts for part in p.text.split(", ")[1:]}
    assert said <= {phrase for place in VOCABULARY for phrase in place}
    (tmp_path / "recipe.toml").write_text("this is not TOML")
    assert Setup.of_dataset(tmp_path, count=1).faces == "buffalo_l"


@pytest.mark.parametrize(
    ("words", "expected"),
    [("woman", "a woman"), ("old man", "an old man"), ("The Queen", "The Queen"), ("", "")],
)
def test_articles(words, expected):
    assert with_article(words) == expected


def test_lists_of_prompts(tmp_path):
    path = tmp_path / "prompts.txt"
    text = "# mine\n\nphoto of {who}, park\n  ohwx woman, at the bar\nan ohwx statue\n"
    path.write_text(text, encoding="utf-8-sig")  # as Windows' editors write it
    prompts = read_prompts(path, "ohwx", "woman")
    assert [p.text for p in prompts] == [
        "photo of {who}, park", "{who}, at the bar", "an {who} statue",
    ]  # fmt: skip
    path.write_text("photo of {who}\na park\n")
    with pytest.raises(PromptError, match="line 2"):
        read_prompts(path, "ohwx")
    path.write_text("\n")
    with pytest.raises(PromptError, match="no prompt"):
        read_prompts(path)
    with pytest.raises(PromptError, match="cannot be read"):
        read_prompts(tmp_path / "absent.txt")


def test_another_base_model_keeps_its_own_size(tmp_path):
    (tmp_path / "recipe.toml").write_text(RECIPE.replace("steps = 12", "steps = 12\nwidth = 128"))
    same = Setup.of_dataset(tmp_path, count=1)
    assert dict(same.sampling) == {"steps": 12, "guidance": 2.5, "width": 128}
    assert dict(Setup.of_dataset(tmp_path, count=1, model="somewhere").sampling) == same.sampling
    other = Setup.of_dataset(tmp_path, count=1, model="elsewhere", sampling={"guidance": 7.0})
    assert dict(other.sampling) == {"steps": 12, "guidance": 7.0}
    assert same.prompts[0].text.startswith("portrait of {who}, ")
    given = Setup.of_dataset(tmp_path, count=3, prompts=[Prompt("{who} a"), Prompt("{who} b")])
    assert [p.text for p in given.prompts] == ["{who} a", "{who} b", "{who} a"]
