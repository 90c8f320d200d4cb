"""Plans: requests, noise seeds, file names, shards and TOML."""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from character_curator.naming import file_name, noise_seed, portable, slug
from character_curator.plan import Plan, PlanError, Scenario, Subject, shard

names = st.text(min_size=1, max_size=80).filter(str.strip)
seeds = st.integers(0, 2**53 - 1)
numbers = st.integers(0, 2**31 - 1)
words = st.text("abcdefgh ,", max_size=20)


@st.composite
def plans(draw):
    subjects = draw(st.lists(names, min_size=1, max_size=3, unique_by=lambda n: slug(n).casefold()))

    def scenarios(least):
        chosen = draw(st.lists(numbers, min_size=least, max_size=4, unique=True))
        takes = st.none() | st.integers(0, 3)
        return [
            Scenario(
                number=n,
                name=draw(words),
                prompt=draw(words),
                category=draw(words),
                negative=draw(words),
                takes=draw(takes),
            )
            for n in chosen
        ]

    return Plan(
        subjects=[Subject(name=n, description=draw(words), trigger=draw(words)) for n in subjects],
        seeds=draw(st.lists(seeds, min_size=1, max_size=4, unique=True)),
        scenarios=scenarios(1),
        originals=scenarios(0),
        takes=draw(st.integers(1, 3)),
        negative_prompt=draw(words),
    )


def test_a_noise_seed_is_the_documented_hash():
    text = 'character-curator/noise/1\n["char1",966983,"scenario",26,1]'
    expected = int(hashlib.sha256(text.encode()).hexdigest(), 16) >> (256 - 53)
    assert noise_seed("char1", 966983, 26, 1) == expected


def test_noise_seeds_of_the_published_recipe_never_change():
    assert noise_seed("char1", 966983, 26, 1) == 4036260782982333
    assert noise_seed("char1", 966985, 22, 1, "original") == 8077848663966873


@given(names, seeds, numbers, st.integers(1, 99), st.sampled_from(["original", "scenario"]))
def test_a_noise_seed_fits_a_browsers_number_and_ignores_how_accents_are_typed(
    name, seed, number, take, kind
):
    value = noise_seed(name, seed, number, take, kind)
    assert 0 <= value < 2**53
    assert int(json.loads(json.dumps(float(value)))) == value
    for form in ("NFC", "NFD"):
        assert noise_seed(unicodedata.normalize(form, name), seed, number, take, kind) == value


@settings(max_examples=50)
@given(plans())
def test_every_request_has_a_noise_seed_and_a_file_name_of_its_own(plan):
    requests = plan.requests()
    assert len({r.noise_seed for r in requests}) == len(requests)
    assert len({r.file_name.casefold() for r in requests}) == len(requests)
    kinds = [(plan.originals, "original"), (plan.scenarios, "scenario")]
    expected = [
        (subject.name, seed, kind, scenario.number, take)
        for subject in plan.subjects
        for seed in plan.seeds
        for scenarios, kind in kinds
        for scenario in scenarios
        for take in range(1, 1 + (plan.takes if scenario.takes is None else scenario.takes))
    ]
    assert [(r.subject, r.seed, r.kind, r.scenario, r.take) for r in requests] == expected


@given(names)
def test_a_file_name_is_safe_everywhere(name):
    made = file_name(name, 2**53 - 1, "scenario", 2**31 - 1, 99)
    assert re.fullmatch(r"[A-Za-z0-9_.-]+", made)
    assert len(made) < 128
    assert not slug(name).startswith("-")


def test_file_names_are_the_published_ones():
    assert (
        file_name("char1", 966983, "scenario", 26, 1) == "char_char1_seed_966983_scenario_26_01.png"
    )
    assert (
        file_name("char1", 966985, "original", 22, 1) == "char_char1_seed_966985_original_22_01.png"
    )
    assert file_name("char1", 7, "scenario", 101, 3) == "char_char1_seed_7_scenario_101_03.png"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("char1", "char1"),
        ("Zoë Ångström", "Zoe-Angstrom"),
        ("../../etc/passwd", "etc-passwd"),
        ("a/b\\c:d*?", "a-b-c-d"),
    ],
)
def test_odd_names_become_safe_ones(name, expected):
    assert slug(name) == expected


def test_names_in_other_scripts_stay_apart():
    assert slug("花子") != slug("太郎")
    assert slug("花子").startswith("subject-")


@settings(max_examples=50)
@given(plans(), st.integers(1, 7))
def test_shards_are_disjoint_complete_and_even(plan, count):
    parts = [plan.shard(index, count) for index in range(count)]
    assert [request for part in parts for request in part] == list(plan.requests())
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


@pytest.mark.parametrize("index", [-1, 3])
def test_a_shard_that_does_not_exist_is_an_error(index):
    with pytest.raises(PlanError, match="0 to 2"):
        shard([], index, 3)


@settings(max_examples=50)
@given(plans())
def test_toml_gives_the_same_plan_back(plan):
    assert Plan.from_toml(plan.to_toml()) == plan


def test_prompts_describe_and_captions_name():
    plan = Plan(
        subjects=[
            Subject(
                name="char1",
                description="freckled woman, red hair",
                trigger="ohwx",
                class_word="woman",
            )
        ],
        seeds=[1],
        scenarios=[
            Scenario(number=1, name="casual", prompt="casual hoodie, warm smile", negative="hat"),
            Scenario(
                number=2,
                name="headshot",
                prompt="professional headshot of {description}, studio lighting",
            ),
        ],
        negative_prompt="blurry",
    )
    first, second = plan.requests()
    assert first.prompt == "freckled woman, red hair, casual hoodie, warm smile"
    assert first.caption == "ohwx woman, casual hoodie, warm smile"
    assert first.negative_prompt == "blurry, hat"
    expected = "professional headshot of freckled woman, red hair, studio lighting"
    assert second.prompt == expected
    assert second.caption == "professional headshot of ohwx woman, studio lighting"


def test_empty_parts_leave_no_commas_and_other_braces_stay():
    plan = Plan(
        subjects=[Subject(name="a")],
        seeds=[1],
        scenarios=[Scenario(number=1, name="x", prompt="{red|blue} hat")],
    )
    (request,) = plan.requests()
    assert request.prompt == "{red|blue} hat"
    assert request.negative_prompt == ""


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"subjects": []}, "at least one subject"),
        ({"scenarios": []}, "one scenario or original"),
        ({"seeds": [1, 1]}, "seed 1 is there twice"),
        ({"seeds": [2**53]}, "2\\*\\*53"),
        ({"seeds": [-1]}, "not a whole number"),
        ({"seeds": [1.5]}, "not a whole number"),
        ({"takes": 0}, "one take at least"),
        ({"subjects": [{"name": "Ann"}, {"name": "ann"}]}, "same names"),
        ({"subjects": [{"name": "a b"}, {"name": "a/b"}]}, "same names"),
        ({"subjects": [{"name": " "}]}, "no name"),
        ({"subjects": [{"nam": "x"}]}, "Unknown key 'nam' in subjects\\[1\\]"),
        ({"scenarios": [{"number": 1, "name": "x"}]}, "incomplete"),
        ({"scenarios": [{"number": 1, "name": "x", "prompt": 3}]}, "not a text"),
        ({"scenarios": [{"number": 1, "name": "x", "prompt": ""}] * 2}, "there twice"),
        ({"template": "{descripton}"}, "Unknown placeholder {descripton}"),
    ],
)
def test_what_is_wrong_with_a_plan_is_said(change, message):
    good = {
        "subjects": [{"name": "char1"}],
        "scenarios": [{"number": 1, "name": "casual", "prompt": "hoodie"}],
    }
    assert len(Plan.from_mapping(good).requests()) == 10
    with pytest.raises(PlanError, match=message):
        Plan.from_mapping(good | change)


def test_text_that_is_not_toml_is_an_error_with_its_line():
    with pytest.raises(PlanError, match="line 2"):
        Plan.from_toml("takes = 1\nseeds = [1,")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a b.png", "a b.png"), ("Größe 花子.png", "Größe 花子.png"), (".hidden", ".hidden"),
        ("CON", "CON~"), ("aux.txt", "aux~.txt"), ("Nul .tar.gz", "Nul~ .tar.gz"),
        ("com1.png", "com1~.png"), ("console.png", "console.png"), ("com10", "com10"),
        ("a.png. .", "a.png"), ("...", "_"), ("", "_"), ("-rf", "_rf"), (" -x", "_x"),
        ("a\u202egnp.exe", "a_gnp.exe"), ("a\x1b[2J\x9b", "a_[2J_"), ("c:\\d/e|f", "c__d_e_f"),
    ],
)  # fmt: skip
def test_a_name_is_one_that_every_system_takes(name, expected):
    assert portable(name) == expected
    assert portable(expected) == expected


def test_no_slug_is_a_device():
    assert slug("con") == f"con-{hashlib.sha256(b'con').hexdigest()[:8]}"
