"""A portfolio on disk: who is turned away, what stays to the byte, who can read it."""

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image

from character_curator import CuratedDataset, project
from character_curator.damages import collected_damage
from character_curator.dataset import verify
from character_curator.portfolio.making import (
    SubjectError,
    UnknownSubjectError,
    make_portfolio,
)
from miniature.identity import sample_identity
from miniature.portrait import render
from miniature.scene import sample_scene
from tests.support.small_portfolio import ADA, BEN, EMIL, HEAD

COLLECTED = """\
[project]
name = "trio"
output = "out"

[portfolio]

[quality]
minimum = 0.2

[clusters]
count = 2

[duplicates]
copies = false

[selection]
total = 4
"""


def subject(name, **more):
    keys = {"name": name, "description": "somebody", "class_word": "man", "source": name, **more}
    return "\n[[subjects]]\n" + "\n".join(f"{k} = {json.dumps(v)}" for k, v in keys.items()) + "\n"


def draw(folder, person, count, seed, prefix="p"):
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    for i in range(count):
        scene = sample_scene(rng)
        Image.fromarray(render(person, scene).image).save(folder / f"{prefix}{i}.png")


def hashes(folder):
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def people(count):
    return [sample_identity(np.random.default_rng(seed)) for seed in range(count)]


@pytest.fixture(scope="module")
def collected(tmp_path_factory):
    """Two people's photo folders, and one image of the second among those of the first."""
    folder = tmp_path_factory.mktemp("collected")
    one, two = people(2)
    draw(folder / "one", one, 6, seed=1)
    draw(folder / "one", two, 1, seed=2, prefix="stranger")
    draw(folder / "two", two, 6, seed=3)
    text = COLLECTED + subject("one", trigger="onex") + subject("two", total=3)
    made = make_portfolio(project.parse(text), folder)
    return folder, text, made


@pytest.fixture
def copied(collected, tmp_path):
    folder, text, _ = collected
    shutil.copytree(folder, tmp_path / "copy")
    return tmp_path / "copy", text


def provenance(folder, name):
    return pl.read_parquet(folder / "out" / "portfolio" / name / "provenance.parquet")


def test_an_image_of_somebody_else_is_turned_away_and_counted(collected):
    folder, _, made = collected
    table = provenance(folder, "one").filter(pl.col("rejection") == "other_subject")
    assert table["path"].to_list() == ["stranger0.png"]
    assert table["nearest_other"].to_list() == ["two"]
    assert made.candidates.nearer.tolist() == [[0, 1], [0, 0]]
    assert made.chosen.confused == 0
    assert min(made.chosen.least) > 0
    assert made.is_complete
    assert not made.sentences()


def test_every_subject_has_its_own_total_and_trigger(collected):
    folder, _, made = collected
    assert [entry.figures.images for entry in made.entries] == [4, 3]
    assert made.combined.figures.images == 7
    for name, trigger, count in (("one", "onex", 4), ("two", "two", 3)):
        dataset = CuratedDataset(folder / "out" / "portfolio" / name)
        assert len(dataset) == count
        facts = json.loads((folder / "out" / "portfolio" / name / "facts.json").read_text())
        assert [s["trigger"] for s in facts["subjects"]] == [trigger]


def test_the_combined_dataset_is_what_kohya_reads(collected):
    folder, _, _ = collected
    combined = folder / "out" / "portfolio" / "combined"
    tables = project.tables((combined / "dataset.toml").read_text())
    subsets = {s["image_dir"]: s["class_tokens"] for s in tables["datasets"][0]["subsets"]}
    assert subsets == {"1_onex man": "onex man", "1_two man": "two man"}
    for name, word, count in (("1_onex man", "onex", 4), ("1_two man", "two", 3)):
        captions = [path.read_text() for path in (combined / name).glob("*.txt")]
        assert len(captions) == count
        assert all(caption.startswith(word) for caption in captions)
    assert verify(combined).ok


def test_hugging_face_reads_the_portfolio_by_its_card(collected, hugging_face):
    folder, _, _ = collected
    import datasets

    root = str(folder / "out" / "portfolio")
    everyone = hugging_face(root, split="train")
    assert sorted(set(everyone["subject"])) == ["one", "two"]
    assert len(everyone) == 7
    two = hugging_face(root, "two", split="train")
    assert len(two) == 3
    for read, name in ((everyone, "combined"), (two, "two")):
        files = read.cast_column("image", datasets.Image(decode=False))["image"]
        assert {Path(file["path"]).relative_to(root).parts[0] for file in files} == {name}
    assert two[0]["image"].size == Image.open(folder / "two" / "p0.png").size


def test_nothing_says_where_the_photographs_lie(collected):
    folder, _, _ = collected
    for path in (folder / "out" / "portfolio").rglob("*"):
        if path.is_file():
            assert str(folder).encode() not in path.read_bytes(), path


def test_a_third_subject_leaves_the_others_to_the_byte(copied):
    folder, text = copied
    portfolio = folder / "out" / "portfolio"
    before = {name: hashes(portfolio / name) for name in ("one", "two")}
    times = {p: p.stat().st_mtime_ns for p in (portfolio / "one").iterdir()}
    draw(folder / "three", people(3)[2], 5, seed=4)
    made = make_portfolio(project.parse(text + subject("three")), folder)
    assert {name: hashes(portfolio / name) for name in before} == before
    assert {p: p.stat().st_mtime_ns for p in times} == times, "nothing is written anew"
    assert made.version == 2
    assert [entry.kept for entry in made.entries] == [True, True, False]
    assert made.combined.version == 2
    record = json.loads((portfolio / "portfolio.json").read_text())
    assert [v["version"] for v in record["versions"]] == [1, 2]
    first, second = (v["datasets"] for v in record["versions"])
    assert first["one"] == second["one"]
    assert "three" in second
    assert "three" not in first


def test_a_changed_subject_leaves_the_others_to_the_byte(copied):
    folder, text = copied
    portfolio = folder / "out" / "portfolio"
    before = hashes(portfolio / "one")
    (folder / "two" / "p0.png").unlink()
    made = make_portfolio(project.parse(text.replace("total = 3", "total = 2")), folder)
    assert hashes(portfolio / "one") == before
    assert [entry.kept for entry in made.entries] == [True, False]
    assert made.entries[1].version == 2
    assert made.entries[1].figures.images == 2


def test_a_damaged_dataset_is_made_again(copied):
    folder, text = copied
    portfolio = folder / "out" / "portfolio"
    before = hashes(portfolio / "one")
    shutil.rmtree(portfolio / "one")
    assert make_portfolio(project.parse(text), folder).version == 1
    after = hashes(portfolio / "one")
    assert after.keys() == before.keys()
    # What is written when a dataset is published says when that was.
    assert {name for name in after if after[name] != before[name]} <= {"version.json"}


def test_a_file_of_a_dataset_that_is_changed_is_found(copied, caplog):
    folder, text = copied
    place = folder / "out" / "portfolio" / "one"
    before = hashes(place)
    (place / "README.md").write_text("changed")
    with collected_damage() as found:
        made = make_portfolio(project.parse(text), folder)
    assert [(one.what, one.where) for one in found] == [("files of the version before", str(place))]
    assert "1 of the files of the dataset" in caplog.text
    assert str(place) in caplog.text
    after = hashes(place)
    assert {name for name in before if after[name] != before[name]} == {"version.json"}
    assert {entry.name: entry.kept for entry in made.entries} == {"one": False, "two": True}
    assert (place.with_name("one.versions") / "v0001" / "README.md").read_text() == "changed"


def test_a_newcomer_who_is_a_look_alike_is_reported_and_again_turns_it_away(copied):
    folder, _ = copied
    # The stranger among the first's images is taken for what it is only once the second is known.
    alone = project.parse(COLLECTED + subject("one", trigger="onex", total=7))
    shutil.rmtree(folder / "out")
    make_portfolio(alone, folder)
    both = project.parse(COLLECTED + subject("one", trigger="onex", total=7) + subject("two"))
    made = make_portfolio(both, folder)
    assert made.entries[0].kept
    assert made.chosen.nearer.tolist() == [[0, 1], [0, 0]]
    assert not made.is_complete
    assert any("--again one" in sentence for sentence in made.sentences())
    made = make_portfolio(both, folder, again=["one"])
    assert made.chosen.confused == 0
    assert made.entries[0].version == 2
    assert made.entries[0].figures.images == 6
    assert any("6 of 7" in sentence for sentence in made.sentences())


def test_what_is_wrong_names_the_subject(copied):
    folder, text = copied
    with pytest.raises(UnknownSubjectError, match="no subject 'four'"):
        make_portfolio(project.parse(text), folder, again=["four"])
    (folder / "empty").mkdir()
    with pytest.raises(SubjectError, match="Subject 'three': No image"):
        make_portfolio(project.parse(text + subject("three", source="empty")), folder)


class Stopped(Exception):
    """A run that is killed, as far as files can tell."""


class Until:
    """A watcher that stops a run after so many generated images."""

    def __init__(self, images):
        self.left = images

    def start(self, stage, total):
        self.stage = stage

    def advance(self, n=1, note=""):
        self.left -= n if self.stage == "Generating" else 0
        if self.left <= 0:
            raise Stopped

    def finish(self):
        pass


def test_generated_subjects_go_on_after_a_kill_and_stay_when_one_is_added(tmp_path):
    pair = project.parse(HEAD + ADA + BEN)
    with pytest.raises(Stopped):
        make_portfolio(pair, tmp_path, progress=Until(6))
    made = make_portfolio(pair, tmp_path)
    portfolio = tmp_path / "out" / "portfolio"
    assert [entry.figures.images for entry in made.entries] == [4, 3]
    assert made.figures.untimed <= 4, "of the batch that was under way, at most"
    seconds = made.figures.generation_seconds + made.figures.curation_seconds
    told = made.as_mapping()["statistics"]
    assert told["cost"] == pytest.approx(seconds, rel=1e-3)  # a price of 1 a second
    assert told["generation_seconds"] > 0
    assert told["manual_effort_seconds"] == 0
    assert made.entries[0].figures.identity[0] <= made.entries[0].figures.identity[1] <= 1

    before = hashes(portfolio)
    make_portfolio(pair, tmp_path)
    assert hashes(portfolio) == before, "a run that finds everything there changes nothing"
    make_portfolio(project.parse(HEAD + ADA + BEN + EMIL), tmp_path)
    for name in ("ada", "ben"):
        assert hashes(portfolio / name) == {
            path.removeprefix(f"{name}/"): digest
            for path, digest in before.items()
            if path.startswith(f"{name}/")
        }
    assert len(CuratedDataset(portfolio / "emil")) == 2
