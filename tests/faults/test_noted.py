"""What is found damaged is noted with its place, once, and what stands in for it is right."""

from __future__ import annotations

import json
import zipfile

import pytest

from character_curator.augmentation.records import _seconds
from character_curator.damages import collected_damage, note_damage, summary
from character_curator.dataset.sidecars import read_metadata
from character_curator.dataset.version_record import new_record, read_record, write_record
from character_curator.evaluation.images import Analysers, read_reference
from character_curator.experiment import runs
from character_curator.features import FeatureStore
from character_curator.growth import ledger
from character_curator.hashing import sealed, unsealed
from character_curator.imageset import ImageSet
from character_curator.plan import Plan, Scenario, Subject
from character_curator.reading.unpacked import list_of
from character_curator.training.finished import FINISHED, read_notes
from tests.support.commands import draw_people
from tests.support.images import drawing, png_bytes
from tests.support.tiny_analysis import needs_miniature_faces


def _as_said(found):
    return [(one.what, one.where, one.count) for one in summary(found)]


@pytest.fixture
def unpacked(tmp_path):
    """An archive that has been unpacked: the file, and its folder."""
    path = tmp_path / "photos.zip"
    with zipfile.ZipFile(path, "w") as made:
        for number in range(3):
            made.writestr(f"{number}.png", png_bytes(drawing(number)))
        made.writestr("0.txt", "a caption")
    return path, ImageSet.from_folder(path, unpacked=tmp_path / "work").root


@pytest.mark.parametrize("how", ["changed", "gone", "another list"])
def test_what_was_unpacked_and_is_damaged_is_unpacked_again(unpacked, caplog, how):
    path, folder = unpacked
    before = ImageSet.from_folder(path, unpacked=folder.parent)
    if how == "changed":
        (folder / "1.png").write_bytes(png_bytes(drawing(7)))
    elif how == "gone":
        (folder / "0.txt").unlink()
    else:
        list_of(folder).write_text("[")
    with collected_damage() as found:
        after = ImageSet.from_folder(path, unpacked=folder.parent)
    assert after.table.equals(before.table)
    assert _as_said(found) == [("unpacked files", str(folder), 1)]
    assert f"kept as {folder.name}.damaged-1" in caplog.text
    assert folder.with_name(f"{folder.name}.damaged-1").is_dir()
    with collected_damage() as found:
        ImageSet.from_folder(path, unpacked=folder.parent)
    assert not found


def test_what_somebody_adds_to_what_was_unpacked_is_theirs(unpacked):
    path, folder = unpacked
    (folder / "1.txt").write_text("another caption")
    with collected_damage() as found:
        images = ImageSet.from_folder(path, unpacked=folder.parent)
    assert images.table["caption"].to_list() == ["a caption", "another caption", None]
    assert not found
    list_of(folder).unlink()  # as an earlier version has left it
    (folder / "1.png").unlink()
    assert len(ImageSet.from_folder(path, unpacked=folder.parent)) == 2


def test_a_record_of_a_version_that_is_damaged_is_noted_once(tmp_path):
    with collected_damage() as found:
        assert read_record(tmp_path) is None
    assert not found
    write_record(tmp_path, new_record(3, {"a.png": "ab" * 32}))
    path = tmp_path / "version.json"
    whole = path.read_text()
    assert read_record(tmp_path).number == 3
    for text in (whole.replace('"number": 3', '"number": 7'), whole[:-9], "[]", "\x00"):
        path.write_text(text)
        with collected_damage() as found:
            assert [read_record(tmp_path) for _ in range(3)] == [None] * 3
        assert _as_said(found) == [("records of versions", str(path), 1)]


def test_a_table_of_images_that_is_damaged_is_noted_once(tmp_path, caplog):
    path = tmp_path / "metadata.json"
    with collected_damage() as found:
        assert read_metadata(tmp_path) == {}
        path.write_text("[]")  # some other program's
        assert read_metadata(tmp_path) == {}
    assert not found
    path.write_text('{"a.png": {"caption": "x"')
    with collected_damage() as found:
        assert [read_metadata(tmp_path), read_metadata(tmp_path)] == [{}, {}]
    assert _as_said(found) == [("tables of images", str(path), 1)]
    assert f"{path} cannot be read" in caplog.text


def test_a_record_of_an_augmentation_that_is_damaged_is_noted(tmp_path, caplog):
    path = tmp_path / "augmentation.json"
    with collected_damage() as found:
        assert _seconds(path, "x", {"training": 1.26}) == {"training": 1.3}
        path.write_text(json.dumps({"combined": {"fingerprint": "x"}, "seconds": {"training": 9}}))
        assert _seconds(path, "x", {"training": 1.26}) == {"training": 9}
    assert not found
    path.write_text("{")
    with collected_damage() as found:
        assert _seconds(path, "x", {"training": 1.26}) == {"training": 1.3}
    assert _as_said(found) == [("records of augmentations", str(path), 1)]
    assert "written again, with the times of this run" in caplog.text


@needs_miniature_faces
def test_a_training_image_that_cannot_be_read_is_left_out_of_an_evaluation_and_said(
    tmp_path, caplog
):
    from character_curator.analysis.embeddings import Embedder
    from character_curator.analysis.face_analyser import FaceAnalyser

    folder = draw_people(tmp_path / "in", 3)
    images = ImageSet.from_folder(folder)
    (folder / "p1.png").write_bytes((folder / "p1.png").read_bytes()[:-200])
    models = FaceAnalyser("miniature"), Embedder("miniature")
    with FeatureStore() as store, collected_damage() as found:
        reference = read_reference(images, Analysers(*models, store))
    assert reference.names == ("nobody.png", "p0.png", "p2.png")
    assert _as_said(found) == [("training images", str(folder), 1)]
    assert "1 of 4 training images" in caplog.text


def test_what_is_the_same_each_time_counts_once():
    with collected_damage() as found:
        for _ in range(3):
            note_damage("notes", "a", "taken for absent", once=True)
            note_damage("notes", "b", "taken for absent")
    assert [one.count for one in summary(found)] == [1, 3]


def test_a_note_of_which_one_figure_is_another_is_not_believed(tmp_path):
    result = dict.fromkeys(runs._KEYS, 1) | {"seed": 4711}
    plan = Plan(
        subjects=[Subject(name="char1", description="woman")],
        seeds=(1,),
        scenarios=[Scenario(number=4711, name="scene", prompt="park")],
    )
    (request,) = plan.requests()
    paths = [tmp_path / name for name in (runs.RESULT_FILE, FINISHED, "waves.json")]
    for path in paths[:2]:
        path.write_text(json.dumps(sealed(result)))
    ledger.write_ledger(paths[2], [ledger.Asked(request, 4711, ledger.QUOTAS, 0.5, 0.5)], {})
    readers = [
        lambda: runs.known_result(tmp_path),
        lambda: read_notes(tmp_path),
        lambda: ledger.read_ledger(paths[2], plan, {}),
    ]
    for path, read in zip(paths, readers, strict=True):
        with collected_damage() as found:
            assert read()
        assert not found
        for old, new in (('"wave": 4711', '"wave": 4712'), ('"seed": 4711', '"seed": 4712')):
            path.write_text(path.read_text().replace(old, new))
        with collected_damage() as found:
            assert not read()
        assert [one.where for one in found] == [str(path)]


def test_a_seal_is_over_everything():
    written = json.dumps(sealed({"a": (1, 0.1), "b": None, "ü": {"z": 1, "y": [1e-7, 2**70]}}))
    assert unsealed(json.loads(written))["a"] == [1, 0.1]
    assert unsealed({"a": 1}) == {"a": 1}
    with pytest.raises(ValueError, match="seal"):
        unsealed(sealed({"a": 1}) | {"a": 2})
    with pytest.raises(ValueError, match="seal"):
        unsealed(sealed({"a": 1}) | {"b": 2})
