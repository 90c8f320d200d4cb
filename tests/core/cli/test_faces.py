"""The command about faces: what there is, a try on images, and what little passing says."""

from __future__ import annotations

import io
import json
from contextlib import redirect_stderr, redirect_stdout

import cv2
import numpy as np
import pytest
from PIL import Image

from character_curator.analysis.calibration import Calibration
from character_curator.analysis.degradations import FAULTS, HARMLESS
from character_curator.analysis.face_analyser import FaceAnalyser
from character_curator.analysis.self_test import SelfTest, _compare, self_test
from character_curator.cli import main
from character_curator.miniature import FACE_PACK_PATH
from tests.support.tiny_analysis import (
    empty_place,
    group,
    needs_miniature_faces,
    portrait,
    write_images,
)


def command(*arguments, check=0):
    """Run a command in this process; return what it wrote as JSON, and to stderr."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = main([*map(str, arguments), "--json"])
    assert code == check, out.getvalue() + err.getvalue()
    return json.loads(out.getvalue()), err.getvalue()


@pytest.fixture
def people(tmp_path):
    """Three drawn people of five images each, one image of nobody, one of two."""
    images = {
        f"p{person}/{number}.png": portrait(10 * person + number, person)
        for person in range(3)
        for number in range(5)
    }
    for name, image in {**images, "empty.png": empty_place(1), "two.png": group(2)}.items():
        path = tmp_path / "people" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), image)
    return tmp_path / "people"


def test_packs_are_listed():
    packs, text = command("faces")
    here = {pack["pack"]: pack["installed"] for pack in packs}
    assert here["miniature"] is True
    assert here["FOLDER"] is None
    assert all(pack["licence"] for pack in packs)
    assert "Try one" in text


@needs_miniature_faces
def test_a_pack_is_tried_on_a_folder(people):
    found, text = command("faces", "miniature", people)
    assert found["images"] == 17
    assert sum(found["faces"].values()) == 17
    assert found["faces"]["none"] >= 1
    assert found["faces"]["several"] >= 1
    assert found["people"] == 3
    assert found["same"] > 0
    assert found["different"] > found["same"]
    assert set(found["spoilt"]) == set(FAULTS)
    assert set(found["harmless"]) == set(HARMLESS)
    assert "of one person" in text
    # Each of three people has five sets of three, one to the two others of five, and the strangers.
    assert found["same_as_set"] % 5 == 0
    assert found["different_from_set"] > found["same_as_set"] > 0
    assert found["pack_threshold"] is None


@needs_miniature_faces
def test_a_folder_of_nobody_says_so(tmp_path):
    write_images(tmp_path, {"a.png": empty_place(1)})
    found, _ = command("faces", "miniature", tmp_path, check=2)
    assert found["error"] == "CalibrationError"
    found, _ = command("faces", "miniature", check=2)
    assert "Name a folder" in found["message"]


@needs_miniature_faces
def test_a_calibration_is_written_into_the_packs_folder(tmp_path):
    pack = tmp_path / "pack"
    pack.mkdir()
    for path in FACE_PACK_PATH.glob("*.onnx"):
        (pack / path.name).write_bytes(path.read_bytes())
    images = {f"{i}.png": portrait(i, i % 3) for i in range(44)}
    write_images(tmp_path / "set", images)
    found, _ = command("faces", pack, tmp_path / "set", "--write")
    written = Calibration.read(pack)
    assert len(found["scores"]) >= 40
    assert written.curve[1] == (pytest.approx(np.quantile(found["scores"], 0.05), abs=1e-3), 0.85)
    assert FaceAnalyser(pack).calibration == written
    refused, _ = command("faces", "miniature", tmp_path / "set", "--write", check=2)
    assert "no folder of its own" in refused["message"]


def test_a_threshold_is_where_strangers_end():
    rng = np.random.default_rng(0)
    result = SelfTest("a pack", same=list(rng.normal(0.7, 0.1, 500)))
    assert result.threshold() is None
    result.different = list(rng.normal(0.1, 0.1, 4000))
    least = result.threshold()
    own, strangers = result.rates(least)
    assert strangers <= 0.001
    assert own > 0.97
    assert 0.35 < least < 0.5


def test_a_set_of_references_is_compared_as_a_curation_does():
    axes = np.eye(8, dtype=np.float32)
    faces = [axes[0] + 0.2 * axes[i % 4 + 2] for i in range(5)] + [axes[1]] * 2
    faces = [face / np.linalg.norm(face) for face in faces]
    result = SelfTest("a pack")
    _compare(result, faces, ["ann"] * 5 + ["bo"] * 2, single=True)
    assert (len(result.same_as_set), len(result.different_from_set)) == (5 * 2, 5 * 2)
    own, others = result.rates(0.9, sets=True)
    assert (own, others) == (1.0, 0.0)
    # Above what any two of one person have: the mean of three is nearer than each of them.
    assert max(result.different_from_set) < 0.3
    assert min(result.same_as_set) > min(result.same)
    assert np.isnan(SelfTest("a pack").rates(0.5, sets=True)).all()


def test_faults_are_the_same_for_the_same_image():
    rng = np.random.default_rng(0)
    image = cv2.GaussianBlur(rng.integers(0, 256, (90, 80, 3), dtype=np.uint8), (0, 0), 2)
    for change in [*FAULTS.values(), *HARMLESS.values()]:
        changed = change(image, 60.0)
        assert changed.dtype == np.uint8
        assert changed.shape == image.shape
        assert np.abs(changed.astype(int) - image).mean() > 0.3
        np.testing.assert_array_equal(changed, change(image, 60.0))


@needs_miniature_faces
def test_where_nothing_passes_it_says_what_would(people, tmp_path):
    output = tmp_path / "out"
    found, _ = command(
        "curate", people, "--output", output, "--faces", "miniature", "--total", 4,
        "--clusters", 2, "--min-identity", 0.99999, check=2,
    )  # fmt: skip
    assert found["error"] == "NothingPassesError"
    assert "minimum identity 0.99999 (--min-identity)" in found["message"]
    assert "no face" in found["message"]
    sheet = tmp_path / "out.work" / "rejected.jpg"
    assert str(sheet) in found["message"]
    with Image.open(sheet) as image:
        assert image.width > 5 * 256
    assert not output.exists()
    found, _ = command(
        "curate", people, "--output", output, "--faces", "miniature", "--total", 4,
        "--clusters", 2, "--min-quality", 1.0, check=2,
    )  # fmt: skip
    assert "no face was looked for" in found["message"]
    assert "nan" not in found["message"]


@needs_miniature_faces
def test_the_calibrated_quality_asks_for_a_pack_that_knows_it(people, tmp_path):
    found, said = command(
        "curate", people, "--output", tmp_path / "out", "--faces", "miniature",
        "--quality-formula", "calibrated", check=2,
    )  # fmt: skip
    assert found["error"] == "UnknownLooksError"
    assert "Choose another face pack" in found["message"]
    assert "Measuring" not in said  # before anything was measured


@needs_miniature_faces
@pytest.mark.parametrize("formula", [(), ("--quality-formula", "calibrated")])
def test_where_no_photograph_shows_a_face_it_says_so(tmp_path, formula):
    pack = tmp_path / "pack"
    pack.mkdir()
    for path in FACE_PACK_PATH.glob("*.onnx"):
        (pack / path.name).write_bytes(path.read_bytes())
    Calibration(((0.5, 0.5), (0.7, 0.85)), 0.4).write(pack)
    write_images(tmp_path / "photos", {f"{i}.png": empty_place(i) for i in range(3)})
    found, _ = command(
        "curate", tmp_path / "photos", "--output", tmp_path / "out", "--faces", pack, *formula,
        check=2,
    )  # fmt: skip
    assert found["error"] == "NothingPassesError"
    assert "no face 3" in found["message"]


def test_a_limit_is_kept(tmp_path):
    write_images(tmp_path, {f"{i}.png": portrait(i) for i in range(6)})
    assert self_test(FaceAnalyser("miniature"), tmp_path, limit=3, spoil=1).images == 3


@needs_miniature_faces
def test_it_says_what_a_reference_did(people, tmp_path):
    common = ("curate", people, "--faces", "miniature", "--total", 2, "--clusters", 2,
              "--min-quality", 0.2, "--min-confidence", 0.3,
              "--reference", people / "p0" / "0.png", "--work", tmp_path / "work")  # fmt: skip
    found, text = command(*common, "--output", tmp_path / "any")
    assert found["minimum_identity"] is None
    assert "others were not turned away" in " ".join(text.split())
    found, text = command(*common, "--output", tmp_path / "own", "--min-identity", 0.35)
    assert found["minimum_identity"] == 0.35
    assert "at least 0.35 was asked for" in " ".join(text.split())
