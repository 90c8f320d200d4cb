"""Edits of captions on disk: a plain folder and an exported dataset, and both taken back."""

from __future__ import annotations

import io
import json
import shutil
from contextlib import redirect_stderr, redirect_stdout

import pytest
from PIL import Image

from character_curator.captions import edit, read_history, read_table, undo, write
from character_curator.captions.edits import Add, Prune, Remove, Replace, Trigger
from character_curator.captions.history import (
    Changed,
    HistoryError,
    Step,
    append_step,
    history_file,
)
from character_curator.captions.linting import Kind, lint
from character_curator.captions.table import CaptionFolderError
from character_curator.cli import main
from character_curator.dataset import CuratedDataset, export, verify
from character_curator.dataset.recaptioning import CaptionsChangedError
from character_curator.dataset.restoring import restore
from character_curator.dataset.verdict import VERIFICATION_FILE, card_with_verdict
from character_curator.dataset.version_record import fingerprint_in, read_record
from character_curator.reading.folders import EmptyFolderError
from character_curator.training.data.images import read_images
from character_curator.training.job import LoraJob
from tests.support.images import make_images

TEXTS = {
    "a.txt": b"A red coat, park\r\n",
    "b.txt": "élan, Park\n".encode("cp1252"),
    "c.caption": "sun, park".encode("utf-16"),
    "unknown.txt": bytes.fromhex("93fa967b8cea"),
}


@pytest.fixture
def photos(tmp_path):
    """Five images: captions in three encodings, one in an unknown one, and none."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in ("a", "b", "c", "none", "unknown"):
        Image.new("RGB", (8, 8)).save(folder / f"{name}.png")
    for name, data in TEXTS.items():
        (folder / name).write_bytes(data)
    return folder


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    place = tmp_path_factory.mktemp("out")
    images = make_images(place / "raw")
    export(images, place / "set", name="set", trigger="char1")
    return place / "set"


@pytest.fixture
def dataset(exported, tmp_path):
    """A dataset of twelve images with the trigger word ``char1``, of this test alone."""
    return shutil.copytree(exported, tmp_path / "set")


def files_of(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes()
            for path in sorted(folder.rglob("*")) if path.is_file()}  # fmt: skip


def command(*arguments, check=0):
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = main([*map(str, arguments), "--json"])
    assert code == check, out.getvalue() + err.getvalue()
    return json.loads(out.getvalue()), err.getvalue()


# --- a plain folder -----------------------------------------------------------------------------


def test_a_preview_writes_nothing(photos):
    before = files_of(photos)
    made = edit(read_table(photos), [Replace("park", "garden"), Add("day")])
    assert {change.image: change.after for change in made.changes} == {
        "a.png": "A red coat, garden, day",
        "b.png": "élan, garden, day",
        "c.png": "sun, garden, day",
        "none.png": "day",
    }
    assert len(made.texts) == 5
    assert "unknown encoding" in " ".join(made.notes)
    assert files_of(photos) == before


def test_an_edit_is_taken_back_to_the_byte(photos):
    before = files_of(photos)
    first = write(edit(read_table(photos), [Replace("park", "garden")]))
    second = write(edit(read_table(photos), [Add("day")]))
    assert (first.number, first.changed, second.number, second.changed) == (1, 3, 2, 4)
    assert (photos / "b.txt").read_text("utf-8") == "élan, garden, day\n"
    assert (photos / "c.caption").read_text("utf-8") == "sun, garden, day\n"
    assert (photos / "none.txt").read_text("utf-8") == "day\n"
    assert (photos / "unknown.txt").read_bytes() == TEXTS["unknown.txt"]
    assert undo(photos).what == ("add 'day'",)
    assert (photos / "b.txt").read_text("utf-8") == "élan, garden\n"
    assert not (photos / "none.txt").exists()
    undo(photos)
    after = files_of(photos)
    after.pop(".caption-edits.jsonl")
    assert after == before
    with pytest.raises(CaptionFolderError, match="no edit"):
        undo(photos)
    assert [(step.number, step.undone) for step in read_history(photos)] == [(1, True), (2, True)]


def test_what_somebody_has_changed_since_is_not_taken_back(photos):
    write(edit(read_table(photos), [Add("day")]))
    (photos / "a.txt").write_text("by hand")
    taken = undo(photos)
    assert (taken.changed, taken.kept) == (3, ("a.png",))
    assert (photos / "a.txt").read_text() == "by hand"


def test_a_caption_that_changed_since_it_was_read_is_not_overwritten(photos):
    made = edit(read_table(photos), [Add("day")])
    (photos / "c.caption").write_text("by hand")
    before = files_of(photos)
    with pytest.raises(CaptionsChangedError, match=r"c\.caption"):
        write(made)
    assert files_of(photos) == before


def test_what_an_interrupted_edit_has_written_can_be_taken_back(photos, monkeypatch):
    from character_curator.captions import writing

    real, written = writing.atomic.write_bytes, []

    def fails_at_the_second(path, data):
        if path.suffix == ".txt" and written:
            raise OSError(28, "No space left on device")
        written.append(path)
        real(path, data)

    with monkeypatch.context() as patch:
        patch.setattr(writing.atomic, "write_bytes", fails_at_the_second)
        # The record is written first; it goes through the same function, under another suffix.
        with pytest.raises(CaptionFolderError, match="undo"):
            write(edit(read_table(photos), [Add("day")]))
    assert files_of(photos)["a.txt"] in (TEXTS["a.txt"], b"A red coat, park, day\n")
    undo(photos)
    after = files_of(photos)
    assert {name: after[name] for name in TEXTS} == TEXTS


def test_only_some_images(photos):
    made = edit(read_table(photos), [Add("day")], images="[ab].png")
    assert [change.image for change in made.changes] == ["a.png", "b.png"]
    assert "of images [ab].png" in made.what
    with pytest.raises(CaptionFolderError, match="is called x"):
        edit(read_table(photos), [Add("day")], images="x*")


def test_two_images_of_one_stem_have_one_caption(photos):
    Image.new("RGB", (8, 8)).save(photos / "a.jpg")
    made = edit(read_table(photos), [Add("day")], images="a.*")
    assert [change.file for change in made.changes] == ["a.txt"]


def test_folders_of_trainers_say_their_trigger(tmp_path):
    folder = tmp_path / "10_ohwx woman"
    folder.mkdir()
    Image.new("RGB", (8, 8)).save(folder / "a.png")
    assert read_table(tmp_path).trigger == "ohwx"
    assert read_table(folder).trigger == "ohwx"


def test_no_folder_and_no_image(tmp_path):
    with pytest.raises(CaptionFolderError, match="no folder"):
        read_table(tmp_path / "x")
    with pytest.raises(EmptyFolderError):
        read_table(tmp_path)


def test_a_damaged_record_stops_before_anything_is_written(photos):
    (photos / ".caption-edits.jsonl").write_text('{"format": 1, "number": 1')
    before = files_of(photos)
    with pytest.raises(HistoryError, match="damaged"):
        write(edit(read_table(photos), [Add("day")]))
    assert files_of(photos) == before


@pytest.mark.parametrize("name", ["../out.txt", "{}/out.txt", "a/../../out.txt", "\0"])
def test_a_record_from_elsewhere_writes_nothing_outside(photos, name):
    append_step(
        photos,
        Step(
            1, "", ("x",), {name.format(photos.parent): Changed("a.png", b"written", None, "", "")}
        ),
    )
    with pytest.raises(HistoryError, match="no file of the folder"):
        undo(photos)
    assert [path.name for path in photos.parent.iterdir()] == ["photos"]


@pytest.mark.parametrize("key", ["number", "time", "what", "changes"])
@pytest.mark.parametrize("value", [None, [1], {"a": 1}, "1\x1b[2J"])
def test_a_record_of_other_values_is_refused_or_shown(photos, key, value):
    write(edit(read_table(photos), [Add("day")]))
    place = history_file(photos)
    place.write_text(json.dumps({**json.loads(place.read_text()), key: value}) + "\n")
    code = 0 if (key, value) == ("time", "1\x1b[2J") else 2
    found, _ = command("captions", "history", photos, check=code)
    assert code == 0 or found["error"] == "HistoryError"
    out = io.StringIO()
    with redirect_stderr(out):
        main(["captions", "history", str(photos)])
    assert "\x1b[2J" not in out.getvalue()


def test_a_link_out_of_the_folder_is_not_written_through(photos, tmp_path):
    outside = tmp_path / "outside.txt"
    outside.write_text("park\n")
    (photos / "a.txt").unlink()
    (photos / "a.txt").symlink_to(outside)
    made = edit(read_table(photos), [Add("day")])
    assert "a link out of the folder" in " ".join(made.notes)
    write(made)
    assert outside.read_text() == "park\n"
    assert "a.txt" not in read_history(photos)[0].changes
    found = lint(read_table(photos))
    assert [one.kind for one in found if one.detail == "a.txt"] == [Kind.ELSEWHERE]


@pytest.mark.parametrize("folder", ["photos", "dataset"])
def test_a_step_that_a_kill_has_kept_from_being_done_is_forgotten(folder, request):
    root = request.getfixturevalue(folder)
    made = edit(read_table(root), [Add("day")])
    changes = {one.file: Changed(one.image, one.data, f"{one.after}\n".encode(), one.before,
                                 one.after) for one in made.changes}  # fmt: skip
    append_step(root, Step(1, "", ("x",), changes))
    assert write(made).number == 1
    assert [step.number for step in read_history(root)] == [1]


def test_half_an_edit_of_a_dataset_is_finished_when_its_captions_are_read(dataset):
    before = files_of(dataset)
    dataset.rename(dataset.with_name(f".{dataset.name}.tmp-0123abcd"))
    dataset.with_name(f".{dataset.name}.lock").touch()
    assert len(read_table(dataset).rows) == 12
    assert files_of(dataset) == before
    assert [path.name for path in dataset.parent.iterdir()] == [dataset.name]


# --- a dataset ----------------------------------------------------------------------------------


def captions_everywhere(folder):
    """Return the captions by image, which files, metadata and lines must agree about."""
    entries = CuratedDataset(folder).metadata
    lines = (folder / "metadata.jsonl").read_text("utf-8").splitlines()
    texts = {line["file_name"]: line["text"] for line in map(json.loads, lines)}
    beside = {name: (folder / name).with_suffix(".txt").read_text("utf-8").strip()
              for name in entries}  # fmt: skip
    assert texts == beside == {name: values["caption"] for name, values in entries.items()}
    return texts


def test_a_dataset_stays_consistent(dataset):
    before = files_of(dataset)
    table = read_table(dataset)
    assert (table.is_dataset, table.trigger, len(table.rows)) == (True, "char1", 12)
    written = write(edit(table, [Add("film grain"), Trigger("char1")]))
    assert written.changed == 12
    assert verify(dataset).ok
    assert not verify(dataset).unlisted
    captions = captions_everywhere(dataset)
    assert all(text.endswith(", film grain") for text in captions.values())
    # Nothing but captions, the list and the version's record is another file.
    after = files_of(dataset)
    changed = {name for name in before if before[name] != after[name]}
    assert {name for name in changed if not name.endswith(".txt")} == {
        "metadata.json", "metadata.jsonl", "SHA256SUMS", "version.json",
    }  # fmt: skip
    record = read_record(dataset)
    assert (record.number, record.parent.number, record.edits) == (2, 1, 1)
    assert record.fingerprint == fingerprint_in(dataset)
    assert after.keys() == before.keys()
    assert files_of(written.previous) == before


def test_a_datasets_edit_is_taken_back_to_the_byte(dataset):
    before = files_of(dataset)
    write(edit(read_table(dataset), [Remove("red hoodie"), Remove("close-up")]))
    undo(dataset)
    after = files_of(dataset)
    # It is the third version, and equal to the first.
    records = [json.loads(files.pop("version.json")) for files in (before, after)]
    assert [record["number"] for record in records] == [1, 3]
    assert records[0]["fingerprint"] == records[1]["fingerprint"]
    assert after == before
    assert history_file(dataset) == dataset.parent / "set.caption-edits.jsonl"


def test_training_and_checklist_read_the_edited_captions(dataset):
    write(edit(read_table(dataset), [Add("film grain")]))
    images = read_images(LoraJob(dataset=dataset, base="miniature", output=dataset / "x"))
    assert all(one.caption.endswith("film grain") for one in images.examples)
    assert images.facts.trigger == "char1"


def test_what_was_changed_by_hand_is_taken_over_or_still_shown(dataset):
    names = sorted(CuratedDataset(dataset).metadata)
    (dataset / names[0]).with_suffix(".txt").write_text("char1, by hand\n")
    (dataset / "facts.json").write_text((dataset / "facts.json").read_text() + "\n")
    (dataset / "notes.md").write_text("mine")
    write(edit(read_table(dataset), [Add("day")], images=names[1]))
    found = verify(dataset)
    assert (found.changed, found.unlisted) == (("facts.json",), ("notes.md",))
    assert captions_everywhere(dataset)[names[0]] == "char1, by hand"


def test_a_verdict_stays_with_the_version_that_it_is_about(dataset):
    card = dataset / "README.md"
    exported = card.read_text("utf-8")
    card.write_text(card_with_verdict(exported, "ready"), "utf-8")
    (dataset / VERIFICATION_FILE).write_text("{}")
    written = write(edit(read_table(dataset), [Add("day")]))
    assert card.read_text("utf-8") == exported
    assert not (dataset / VERIFICATION_FILE).exists()
    assert (written.previous / VERIFICATION_FILE).exists()


def test_an_export_says_that_edits_stay_in_the_version_before(tmp_path):
    images = make_images(tmp_path / "raw")
    first = export(images, tmp_path / "set", name="set", trigger="char1", report=False)
    for text in ("day", "sun"):
        write(edit(read_table(first.folder), [Add(text)]))
    undo(first.folder)
    assert read_record(first.folder).edits == 1
    again = export(images, tmp_path / "set", name="set", trigger="char1", report=False)
    assert (again.version, again.edits) == (5, 1)
    (note,) = again.notes
    assert "(1 edit); those of version 5 are written anew" in note
    restored = restore(first.folder, 4)
    assert read_record(restored.folder).edits == 1
    assert all("day" in text for text in captions_everywhere(first.folder).values())
    undo(first.folder)
    assert read_record(first.folder).edits is None
    assert export(images, tmp_path / "set", name="set", trigger="char1", report=False).unchanged


def test_an_earlier_version_is_left_as_it_is(dataset):
    written = write(edit(read_table(dataset), [Add("day")]))
    before = files_of(written.previous)
    with pytest.raises(CaptionFolderError, match=r"restore .*set 1"):
        write(edit(read_table(written.previous), [Add("night")]))
    with pytest.raises(CaptionFolderError, match="earlier version"):
        undo(written.previous)
    assert files_of(written.previous) == before


def test_somebodys_folder_with_checksums_is_no_dataset(photos):
    (photos / "SHA256SUMS").write_text("0" * 64 + "  a.txt\n")
    assert not read_table(photos).is_dataset
    write(edit(read_table(photos), [Add("day")]))
    assert (photos / "a.txt").read_text() == "A red coat, park, day\n"
    assert (photos / "SHA256SUMS").read_text() == "0" * 64 + "  a.txt\n"


def test_images_are_shared_and_captions_are_not(dataset):
    first, *others = CuratedDataset(dataset).metadata
    written = write(edit(read_table(dataset), [Add("day")], images=first))
    for name in (first, *others):
        text = name.replace(".png", ".txt")
        assert (dataset / name).stat().st_ino == (written.previous / name).stat().st_ino
        assert (dataset / text).stat().st_ino != (written.previous / text).stat().st_ino


def test_the_trigger_word_that_is_lost_is_said(dataset):
    made = edit(read_table(dataset), [Replace("char1")])
    assert "12 captions would lose the trigger word 'char1'." in made.notes


def test_another_trigger_word_than_the_datasets_is_said(dataset):
    made = edit(read_table(dataset, trigger="ohwx"), [Trigger("ohwx")])
    assert made.changes[0].after.startswith("ohwx, char1 person, ")
    (note,) = made.notes
    assert "tells a training is 'char1', not 'ohwx'" in note
    assert edit(read_table(dataset, trigger="char1"), [Trigger("char1")]).notes == ()


def test_what_is_pruned_is_said_and_is_not_the_trigger_word(dataset):
    write(edit(read_table(dataset), [Add("film grain")]))
    made = edit(read_table(dataset), [Prune(trigger="char1")])
    assert made.notes == ("Pruned: film grain, red hoodie.",)
    assert len(made.changes) == 12
    made = edit(read_table(dataset), [Prune(keep="film grain, red hoodie", trigger="char1")])
    assert made.notes == ("There is nothing to prune.",)


# --- commands -----------------------------------------------------------------------------------


def test_commands(photos):
    shown, text = command("captions", "edit", photos, "--replace", "park", "garden",
                          "--trigger", "char1", "--trigger-front", "--preview")  # fmt: skip
    assert shown["written"] is False
    assert "Nothing was written" in text
    assert not (photos / ".caption-edits.jsonl").exists()
    done, text = command("captions", "edit", photos, "--trigger-front", "--add", "x, y",
                         "--trigger", "char1", "--remove", "x")  # fmt: skip
    assert done["what"] == ["put the trigger word 'char1' in front", "add 'x, y'", "remove 'x'"]
    assert done["written"]
    assert (photos / "a.txt").read_text() == "char1, A red coat, park, y\n"
    assert "captions undo" in text
    listed, _ = command("captions", "history", photos)
    assert len(listed[0]["changes"]) == 4
    counted, _ = command("captions", "frequencies", photos)
    assert counted["frequencies"][0] == {"text": "char1", "count": 4, "share": 1.0}
    found, text = command("captions", "lint", photos, check=1)
    assert [one["kind"] for one in found["findings"] if not one["hint"]] == ["unknown encoding"]
    assert "No trigger word is known" in text
    taken, _ = command("captions", "undo", photos)
    assert taken["changed"] == 4
    assert (photos / "a.txt").read_bytes() == TEXTS["a.txt"]
    said, _ = command("captions", "edit", photos, check=2)
    assert said["error"] == "EditError"
    said, _ = command("captions", "edit", photos, "--trigger-front", check=2)
    assert "--trigger WORD" in said["message"]
