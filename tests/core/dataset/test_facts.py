"""What a dataset says of itself, and where it is read from."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace

import polars as pl
import pytest
import tomlkit

from character_curator.dataset import export, verify
from character_curator.dataset.facts import (
    FORMAT,
    FactsError,
    SubjectFacts,
    facts_json,
    facts_of,
    read_facts,
)
from character_curator.dataset.sidecars import read_captions
from character_curator.evaluation import Setup
from character_curator.imageset import ImageSet
from character_curator.training import read_examples
from tests.support.images import make_images

RECIPE = {
    "project": {"name": "Ada"},
    "model": {"path": "somewhere", "steps": 12, "guidance": 2.5, "width": 64, "batch_size": 2},
    "plan": {"seeds": [1], "caption": "portrait of {trigger} {class_word}, {scenario}"},
    "subjects": [
        {"name": "char1", "trigger": "ohwx", "class_word": "woman", "description": "freckled"}
    ],
    "scenarios": [
        {"number": 1, "name": "a", "prompt": "red hoodie, smile, park"},
        {"number": 2, "name": "b", "prompt": "blue dress, serious, bar"},
        {"number": 3, "name": "c", "prompt": "a whole prompt of {description}"},
    ],
    "faces": {"pack": "my-pack", "minimum_confidence": 0.7, "references": None},
    "clip": {"model": "ViT-L-14", "pretrained": "openai"},
    "quality": {"minimum": 0.5},
    "duplicates": {"threshold": 0.9},
}


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return make_images(tmp_path_factory.mktemp("raw"))


def of_subject(images, subject):
    table = images.table.with_columns(pl.lit(subject, pl.String).alias("subject"))
    return ImageSet(table, images.root)


def exported(images, folder, **options):
    values = {"name": "Ada", "recipe": RECIPE, "license": "cc-by-4.0", "trigger": {"char1": "ohwx"}}
    made = export(of_subject(images, "char1"), folder, report=False, **{**values, **options})
    return made.folder


def test_an_export_says_what_readers_need(images, tmp_path):
    folder = exported(images, tmp_path / "set")
    facts = read_facts(folder)
    assert (facts.name, facts.folder, facts.license) == ("Ada", "set", "cc-by-4.0")
    assert facts.trigger == "ohwx"
    assert facts.subjects == (SubjectFacts("char1", "ohwx", "woman", "freckled", 12),)
    assert facts.caption == "portrait of {trigger} {class_word}, {scenario}"
    assert facts.scenes == ("red hoodie, smile, park", "blue dress, serious, bar")
    assert facts.model == RECIPE["model"]
    assert (facts.faces, facts.clip) == ("my-pack", ("ViT-L-14", "openai"))
    known = (facts.minimum_quality, facts.minimum_confidence, facts.duplicates)
    assert known == (0.5, 0.7, 0.9)
    assert replace(facts, folder="") == replace(
        facts_of(RECIPE, "Ada"), license="cc-by-4.0", subjects=facts.subjects
    )


def test_the_file_is_versioned_listed_and_described(images, tmp_path):
    folder = exported(images, tmp_path / "set")
    assert json.loads((folder / "facts.json").read_text(encoding="utf-8"))["format"] == FORMAT
    assert "  facts.json\n" in (folder / "SHA256SUMS").read_text()
    assert "| `facts.json` |" in (folder / "README.md").read_text(encoding="utf-8")
    (folder / "facts.json").write_text("{}")
    assert verify(folder).changed == ("facts.json",)


@pytest.mark.parametrize("edit", ["deleted", "edited"])
def test_texts_and_files_for_others_change_no_fact(images, tmp_path, edit):
    folder = exported(images, tmp_path / "set")
    examples, _ = read_examples(folder)
    before = read_facts(folder, examples)
    setup = Setup.of_dataset(folder, count=3)
    for name in ("README.md", "dataset.toml", "recipe.toml"):
        path = folder / name
        text = path.read_text(encoding="utf-8")
        path.unlink()
        if edit == "edited":
            for word, other in (("ohwx", "zoe"), ("cc-by-4.0", "mit"), ("my-pack", "theirs")):
                text = text.replace(word, other)
            path.write_text(text, encoding="utf-8")
    assert read_facts(folder, examples) == before
    assert Setup.of_dataset(folder, count=3) == setup
    assert (before.trigger, before.license) == ("ohwx", "cc-by-4.0")
    assert (setup.character.trigger, setup.faces, setup.minimum_confidence) == (
        "ohwx", "my-pack", 0.7,
    )  # fmt: skip


def test_the_word_of_the_captions_goes_before_the_recipes(images, tmp_path):
    folder = exported(images, tmp_path / "set", trigger="zoe", captions="trigger")
    assert set(read_captions(folder)) == {"zoe"}
    assert read_facts(folder).trigger == "zoe"
    assert Setup.of_dataset(folder, count=1).character.with_trigger == "zoe woman"
    classes = tomlkit.parse((folder / "dataset.toml").read_text())["datasets"][0]["subsets"]
    assert classes[0]["class_tokens"] == "zoe"


def test_without_a_word_captions_call_subjects_by_name(images, tmp_path):
    facts = read_facts(exported(images, tmp_path / "set", trigger=None))
    assert facts.trigger == "char1"


def test_found_images_name_nobody_but_the_recipe_does(images, tmp_path):
    found = of_subject(images, None)
    folder = export(
        found, tmp_path / "set", name="Ada", recipe=RECIPE, trigger={"char1": "ohwx"}, report=False
    ).folder
    facts = read_facts(folder)
    assert facts.trigger == ""  # in no caption
    assert [(s.name, s.trigger, s.images) for s in facts.subjects] == [
        ("char1", "ohwx", 0), ("", "", 12),
    ]  # fmt: skip
    assert Setup.of_dataset(folder, count=1).character.with_trigger == "ohwx woman"


def test_several_subjects_have_several_words(images, tmp_path):
    count = images.table.height
    names = pl.Series("subject", [("ada", "bea")[i % 2] for i in range(count)])
    both = ImageSet(images.table.with_columns(names), images.root)
    words = {"ada": "zzz", "bea": "aaa"}
    folder = export(both, tmp_path / "set", name="Two", trigger=words, report=False).folder
    facts = read_facts(folder)
    assert facts.trigger == "aaa, zzz"
    assert [s.name for s in facts.subjects] == ["ada", "bea"]
    assert sum(s.images for s in facts.subjects) == 12


def test_an_export_of_before_tells_what_its_recipe_holds_and_no_more(images, tmp_path):
    recipe = {**RECIPE, "dataset": {"license": "mit"}}
    folder = exported(images, tmp_path / "set", recipe=recipe)
    (folder / "facts.json").unlink()
    facts = read_facts(folder)
    assert (facts.name, facts.trigger, facts.license) == ("set", "ohwx", "mit")
    assert facts.subjects[0].images is None
    (folder / "recipe.toml").unlink()
    nothing = read_facts(folder)
    assert (nothing.name, nothing.trigger, nothing.license) == ("set", "", "")
    assert (nothing.faces, nothing.clip, nothing.minimum_quality) == ("", None, None)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "line 1"),
        ("[]", "list"),
        ("{}", "no 'format'"),
        ('{"format": 2}', "format 2 is newer"),
        ('{"format": 1, "subjects": [{"word": "ohwx"}]}', "word"),
        ('{"format": 1, "thresholds": {"quality": "good"}}', "good"),
        ('{"format": 1, "clip": "ViT-B-32"}', "clip|get"),
    ],
)
def test_facts_that_cannot_be_read_are_named(tmp_path, text, words):
    (tmp_path / "facts.json").write_text(text)
    with pytest.raises(FactsError, match=words) as caught:
        read_facts(tmp_path)
    assert str(tmp_path / "facts.json") in str(caught.value)


def test_facts_come_back_as_they_were(tmp_path):
    facts = facts_of({**RECIPE, "dataset": {"license": "mit"}}, "Ada")
    (tmp_path / "facts.json").write_text(facts_json(facts), encoding="utf-8")
    assert read_facts(tmp_path) == replace(facts, folder=tmp_path.name)


def test_a_reader_of_datasets_needs_nothing_of_training():
    code = (
        "import sys, character_curator.dataset.facts; "
        "print(sorted(n for n in sys.modules if n.startswith("
        "('torch', 'character_curator.training', 'character_curator.evaluation'))))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout.strip() == "[]", result.stderr
