"""The portfolio in words: counted and measured, for generated images and for photographs."""

import json
import re

import numpy as np
import polars as pl
import pytest

from character_curator import export
from character_curator.dataset.portfolio_text import (
    characteristics,
    diversity_text,
    samples_of,
    seeds_text,
    tone_of,
    use_case,
)
from character_curator.dataset.records import Record
from tests.support.images import make_images


def one(name="a.png", caption="char1 woman, in a park", **values):
    return Record(name, caption, values)


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    folder = tmp_path_factory.mktemp("portfolio")
    recipe = {"quality": {"minimum": 0.3}, "duplicates": {"threshold": 0.98}}
    images = make_images(folder / "raw")
    done = export(images, folder / "set", name="a", trigger="char1", recipe=recipe, report=False)
    text = (done.folder / "README.md").read_text(encoding="utf-8")
    return text, json.loads((done.folder / "metadata.json").read_text()), images


def section(text, title):
    return text.split(f"## {title}\n", 1)[1].split("\n## ", 1)[0]


def test_the_composition_counts_every_image_once(exported):
    text, metadata, _ = exported
    lines = section(text, "Composition")
    kinds = re.findall(r"^- (.+): (\d+) \((\d+)%\)$", lines, re.M)
    assert sum(int(count) for _, count, _ in kinds) == len(metadata)
    for name, count, share in kinds:
        kind = {"Original reference images": "original", "Scenario variations": "scenario"}[name]
        assert int(count) == sum(v["type"] == kind for v in metadata.values())
        assert int(share) == round(100 * int(count) / len(metadata))
    scenarios = [v["category"] for v in metadata.values() if v["type"] == "scenario"]
    for name, count in re.findall(r"^  - (.+): (\d+) image", lines, re.M):
        assert scenarios.count(name) == int(count)
    least = min(v["quality_score"] for v in metadata.values())
    assert f"The least quality score is {least:.2f}, and the threshold is 0.30" in lines


def test_the_samples_say_what_the_metadata_say(exported):
    text, metadata, _ = exported
    entries = re.split(r"^### ", section(text, "Samples"), flags=re.M)[1:]
    assert len(entries) == 5
    for entry in entries:
        values = metadata[re.search(r"!\[.*\]\((.+)\)", entry)[1]]
        said = dict(re.findall(r"^- ([^:]+): (.+)$", entry, re.M))
        assert said["Quality score"] == f"{values['quality_score']:.2f}"
        assert said["Cluster"] == f"{values['cluster']} ({values['cluster_name']})"
        assert said["Seed"] == str(values["seed"])
        assert said["Type"] == values["type"]
        assert "char1" not in said["Characteristics"]
        assert values["pose"] in said["Characteristics"].split("measured: ")[1]


def test_the_nearest_two_are_found(exported):
    text, metadata, images = exported
    rows = images.filter(images.table["selected"] & images.table["rejection"].is_null())
    vectors = rows.embeddings()
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    alike = vectors @ vectors.T - 2 * np.eye(len(vectors))
    assert len(vectors) == len(metadata)
    assert f"a similarity of {alike.max():.3f}; from 0.98 on" in section(text, "Semantic diversity")


def test_seeds_that_some_images_lack_are_said():
    text = seeds_text([one(seed=1), one(seed=1), one(seed=2), one()])
    assert "2 different seeds" in text
    assert "1 to 2 images per seed" in text
    assert "1 image without a seed" in text
    assert seeds_text([one(), one()]) == ""


def test_light_is_read_from_prompts_and_measured():
    records = [one("a.png", prompt="x, golden hour lighting, bust"), one("b.png")]
    text = diversity_text(records, pl.DataFrame(), {"b.png": "dark with cool tones"}, None)
    assert "as prompted: golden hour lighting 1" in text
    assert "as measured: dark with cool tones 1" in text
    assert diversity_text([one(caption="a")], pl.DataFrame(), {}, None) == ""


@pytest.mark.parametrize(
    ("color", "said"),
    [((10, 10, 10), "dark with neutral"), ((250, 250, 250), "bright with neutral"),
     ((240, 160, 40), "warm"), ((60, 90, 200), "cool")],
)  # fmt: skip
def test_tones(color, said):
    assert said in tone_of(np.full((8, 8, 3), color, np.uint8))


def test_characteristics_leave_the_name_out_and_keep_a_sentence():
    assert characteristics(one(caption="char1 woman, red hat, smile"), "char1") == "red hat, smile"
    sentence = "a photo of my friend at the lake"
    assert characteristics(one(caption=sentence), "char1", "dark") == f"{sentence}; measured: dark"
    assert characteristics(one(caption="char1"), "char1", "dark") == "measured: dark"
    assert characteristics(one(caption=""), "") == ""


def test_use_cases_follow_kind_category_and_view():
    assert use_case(one(type="original", category="original")) == "reference for consistency checks"
    assert use_case(one(type="scenario", category="pose", pose="profile")) == (
        "pose variation, the character from the side"
    )
    assert use_case(one(type="real", framing="half body")) == "the character in its surroundings"
    assert use_case(one(type="real")) == "photograph of the subject"


def test_samples_differ_in_cluster_and_scenario_where_they_can():
    records = [
        one(f"{i}.png", type="scenario", cluster=i // 3, scenario_name=f"s{i % 3}",
            quality_score=0.9 - i / 100)
        for i in range(9)
    ]  # fmt: skip
    shown = samples_of(records, 3)
    assert len({r.values["cluster"] for r in shown}) == 3
    assert len({r.values["scenario_name"] for r in shown}) == 3
    assert len(samples_of(records[:2], 5)) == 2


def test_markup_in_captions_stays_text(tmp_path):
    images = make_images(tmp_path / "raw", 12, selected=4)
    odd = pl.lit("char1, <b>bold</b> [link](x)\n## no heading")
    images = images.with_columns(odd.alias("caption"))
    done = export(images, tmp_path / "set", name="a", captions="{caption}", report=False)
    text = (done.folder / "README.md").read_text(encoding="utf-8")
    assert "<b>" not in text.split("## Samples")[1]
    assert not re.search(r"^## no heading", text, re.M)
