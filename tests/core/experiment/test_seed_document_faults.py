"""The raw set with the seed document's set's faults."""

from __future__ import annotations

import json
import sys

import cv2
import numpy as np
import pytest

from benchmarks import seed_document_faults
from character_curator import project
from character_curator.generation import png
from character_curator.imageset import ImageSet

PROJECT = """
[project]
name = "somebody"
[plan]
seeds = [1]
[[subjects]]
name = "char1"
description = "a woman"
[[scenarios]]
number = 1
name = "park"
prompt = "park"
"""


@pytest.fixture(scope="module")
def image():
    rng = np.random.default_rng(0)
    coarse = rng.integers(60, 200, (8, 8, 3), dtype=np.uint8)
    clouds = cv2.resize(coarse, (128, 128), interpolation=cv2.INTER_CUBIC)
    return (clouds + rng.integers(0, 30, (128, 128, 1), dtype=np.uint8)).astype(np.uint8)


def sharpness(image):
    return cv2.Laplacian(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.CV_64F).var()


def test_the_shares_are_the_published_ones():
    drawn = [seed_document_faults.fault_of(np.random.default_rng(n)) for n in range(4000)]
    for fault, share in seed_document_faults.FAULTS.items():
        assert drawn.count(fault) / 4000 == pytest.approx(share, abs=0.03)
    assert drawn.count(None) / 4000 == pytest.approx(0.4, abs=0.03)


@pytest.mark.parametrize("seed", range(8))
def test_each_fault_is_one(image, seed):
    made = {
        fault: change(image.copy(), np.random.default_rng(seed))
        for fault, change in seed_document_faults.CHANGES.items()
    }
    assert made.keys() == seed_document_faults.FAULTS.keys()
    assert all(m.shape == image.shape and m.dtype == np.uint8 for m in made.values())
    assert sharpness(made["blurred"]) < sharpness(image) / 4
    assert abs(made["badly lit"].mean() - image.mean()) > 20
    # What is left of the image's lower part, enlarged, has the lower part's colours.
    lower = image[77:].reshape(-1, 3).mean(0)
    assert np.abs(made["no face"].reshape(-1, 3).mean(0) - lower).max() < 40
    assert sharpness(made["no face"]) < sharpness(image)


def run(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["seed_document_faults.py", *map(str, arguments)])
    seed_document_faults.main()


def test_a_run_becomes_a_project_of_found_images(tmp_path, image, monkeypatch):
    raw = tmp_path / "run" / "raw"
    raw.mkdir(parents=True)
    (tmp_path / "run" / "project.toml").write_text(PROJECT)
    for number in range(20):
        record = {"version": 1, "noise_seed": number, "request": {"seed": number}}
        png.write(raw / f"{number:02}.png", image, record)
    for name in ("one", "two"):
        run(monkeypatch, tmp_path / "run", tmp_path / name)
    faults = json.loads((tmp_path / "one" / "faults.json").read_text())
    assert 0 < len(faults) < 20
    for number in range(20):
        name = f"{number:02}.png"
        first = (tmp_path / "one" / "raw" / name).read_bytes()
        assert first == (tmp_path / "two" / "raw" / name).read_bytes()
        record = png.read_record(first)
        assert record["noise_seed"] == number
        assert record.get("fault") == faults.get(name)
        read = cv2.cvtColor(cv2.imread(str(tmp_path / "one" / "raw" / name)), cv2.COLOR_BGR2RGB)
        assert np.array_equal(read, image) == (name not in faults)
    made = project.read(tmp_path / "one" / "project.toml")
    assert made.plan is None
    assert made.subjects[0].description == "a woman"
    assert len(ImageSet.from_folder(made.source)) == 20
    run(monkeypatch, tmp_path / "run", tmp_path / "other", "--seed", 1)
    assert json.loads((tmp_path / "other" / "faults.json").read_text()) != faults


def test_images_of_no_run_are_refused(tmp_path, image, monkeypatch):
    raw = tmp_path / "run" / "raw"
    raw.mkdir(parents=True)
    cv2.imwrite(str(raw / "photo.png"), image)
    with pytest.raises(SystemExit, match=r"photo\.png"):
        run(monkeypatch, tmp_path / "run", tmp_path / "out")
