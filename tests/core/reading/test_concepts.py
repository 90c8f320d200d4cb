"""Folders as kohya's trainers name them, read by curation and training alike."""

from collections import Counter

import pytest

from character_curator.dataset import export
from character_curator.imageset import ImageSet
from character_curator.reading.concepts import Concept, concept_above, concept_of
from character_curator.training.data.examples import read_examples
from character_curator.training.data.images import read_images
from character_curator.training.data.order import epoch_batches
from character_curator.training.job import LoraJob
from tests.support.images import drawing


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("10_char1 woman", (10, "char1", "woman")),
        ("10_zoe", (10, "zoe", "")),
        ("3_ohwx red haired woman", (3, "ohwx", "red haired woman")),
        ("1_a_b man", (1, "a_b", "man")),
    ],
)
def test_names_of_folders(name, found):
    assert concept_of(name) == Concept(name, *found)


@pytest.mark.parametrize(
    "name", ["photos", "2023_summer", "1999_x", "05_12_party", "0_x", "10_", "5000_x", "x_10"]
)
def test_other_folders_are_none(name):
    assert concept_of(name) is None


def test_the_nearest_folder_counts():
    assert concept_above("10_a/5_b woman/x/y.png").phrase == "b woman"
    assert concept_above("y.png", "7_c").repeats == 7
    assert concept_above("10_a woman.png") is None, "it is a file"


@pytest.fixture
def folder(tmp_path):
    for place, count in (("set/10_char1 woman", 3), ("set/2_char2 man/more", 2)):
        (tmp_path / place).mkdir(parents=True)
        for number in range(count):
            drawing(number + 10 * count).save(tmp_path / place / f"{number}.png")
    (tmp_path / "set/10_char1 woman/0.txt").write_text("a red hat")
    return tmp_path / "set"


def test_curation_reads_them_and_export_says_them(folder, tmp_path):
    images = ImageSet.from_folder(folder)
    assert images.table["subject"].to_list() == ["char1"] * 3 + ["char2"] * 2
    assert images.table["repeats"].to_list() == [10] * 3 + [2] * 2
    assert "Folder '10_char1 woman': 3 images, 10 repeats, trigger 'char1', class 'woman'." in (
        images.notes
    )
    done = export(images, tmp_path / "flat", name="x")
    read = LoraJob(done.folder, tmp_path / "x.safetensors")
    facts = read_images(read).facts
    assert facts.trigger == "char1, char2"
    assert {s.name: s.class_word for s in facts.subjects} == {"char1": "woman", "char2": "man"}
    captions = {e.caption for e in read_images(read).examples}
    assert captions == {"a red hat", "char1", "char2"}, "what somebody has written is kept"


def test_kohyas_folders_come_again_if_asked(folder, tmp_path, hugging_face):
    done = export(ImageSet.from_folder(folder), tmp_path / "out", name="x", layout="kohya")
    images = sorted(p.relative_to(done.folder).as_posix() for p in done.folder.rglob("*.png"))
    assert images == [f"10_char1 woman/{n}" for n in ("0.png", "1.png", "2.png")] + sorted(
        p.relative_to(done.folder).as_posix() for p in done.folder.glob("2_char2 man/*.png")
    )
    text = (done.folder / "dataset.toml").read_text()
    assert 'image_dir = "10_char1 woman"' in text
    assert "num_repeats = 10" in text
    rows = hugging_face(str(done.folder))["train"]
    assert len(rows) == 5
    assert sorted(set(rows["text"])) == ["a red hat", "char1", "char2"]
    again, _ = read_examples(done.folder)
    assert Counter(e.repeats for e in again) == {10: 3, 2: 2}


def test_training_repeats_what_folders_say(folder, tmp_path):
    notes = []
    examples, _ = read_examples(folder, notes=notes)
    assert {e.caption for e in examples} == {"a red hat", "char1 woman", "char2 man"}
    assert [e.repeats for e in examples] == [10, 10, 10, 2, 2]
    assert any("10 repeats" in note for note in notes)
    facts = read_images(LoraJob(folder, tmp_path / "x.safetensors")).facts
    assert facts.trigger == "char1, char2"
    batches = epoch_batches(
        [e.hash for e in examples], ["b"] * 5, [False] * 5, seed=0, epoch=1, batch_size=1,
        repeats=[e.repeats for e in examples],
    )  # fmt: skip
    assert Counter(i for batch in batches for i in batch) == {0: 10, 1: 10, 2: 10, 3: 2, 4: 2}


def test_plain_subfolders_are_trained_on_and_it_is_said(tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    for place in ("x", "b/y"):
        drawing(1).save(tmp_path / "a" / f"{place}.png")
        (tmp_path / "a" / f"{place}.txt").write_text(place)
    notes = []
    examples, _ = read_examples(tmp_path / "a", notes=notes)
    assert [e.caption for e in examples] == ["b/y", "x"]
    assert notes == ["1 of 2 images lies in subfolders; it is trained on too."]
