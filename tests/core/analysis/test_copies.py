"""Copies by their pixels: seeded variations of photographs that come with the libraries."""

from __future__ import annotations

import shutil
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np
import polars as pl
import pytest

from character_curator.analysis import copies, copy_candidates
from character_curator.analysis.copies import alike, copy_pairs
from character_curator.analysis.copy_agreement import agreement_of
from character_curator.analysis.duplicates import duplicate_pairs
from character_curator.analysis.small_images import Small
from character_curator.features import FeatureStore
from character_curator.imageset import ImageSet, vector_column
from character_curator.rejection_reasons import Rejection
from tests.support.tiny_analysis import portrait

RNG_SEED = 5


@lru_cache(maxsize=1)
def photographs():
    """Return photographs, BGR, by name: scikit-learn's, and scikit-image's where it is."""
    from sklearn.datasets import load_sample_images

    found = {Path(name).stem: image[..., ::-1] for name, image in zip(
        ["china", "flower"], load_sample_images().images, strict=True)}  # fmt: skip
    place = find_spec("skimage")
    for name in ("astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg", "retina.jpg",
                 "motorcycle_left.png", "camera.png", "ihc.png"):  # fmt: skip
        path = Path(place.origin).parent / "data" / name if place else Path(name)
        if path.is_file():
            found[path.stem] = cv2.imread(str(path))
    return {name: smaller(image) for name, image in found.items()}


def smaller(image):
    scale = 400 / max(image.shape[:2])
    return cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)


def cropped(image, share, rng):
    height, width = image.shape[:2]
    down, across = int(height * share), int(width * share)
    top, left = rng.integers(0, down + 1), rng.integers(0, across + 1)
    return image[top : top + height - down, left : left + width - across]


def marked(image, rng):
    written, (height, width) = image.copy(), image.shape[:2]
    place = (int(width * 0.05), int(height * 0.55))
    cv2.putText(written, "(c) SAMPLE PHOTO", place, cv2.FONT_HERSHEY_SIMPLEX, width / 320,
                (255, 255, 255), max(1, width // 150))  # fmt: skip
    return cv2.addWeighted(written, 0.5, image, 0.5, 0)


def grey(image, rng):
    return cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR)


VARIATIONS = {
    "mirrored": lambda image, rng: image[:, ::-1],
    "cropped by 5 %": lambda image, rng: cropped(image, 0.05, rng),
    "cropped by 10 %": lambda image, rng: cropped(image, 0.10, rng),
    "brighter": lambda image, rng: cv2.add(image, (30, 30, 30, 0)),
    "darker": lambda image, rng: (image * 0.6).astype(np.uint8),
    "grey": grey,
    "marked": marked,
    "half the size": lambda image, rng: cv2.resize(image, None, fx=0.5, fy=0.5),
    "mirrored, cropped, grey": lambda image, rng: grey(cropped(image[:, ::-1], 0.05, rng), rng),
}


@pytest.mark.parametrize("name", VARIATIONS)
def test_a_varied_photograph_is_a_copy(name):
    rng = np.random.default_rng(RNG_SEED)
    missed = []
    for title, image in photographs().items():
        other = np.ascontiguousarray(VARIATIONS[name](image, rng))
        if alike([Small.of(image), Small.of(other)]).tolist() != [[0, 1]]:
            missed.append(title)
    assert missed == []


def test_different_photographs_are_none():
    greys = [Small.of(np.ascontiguousarray(image)) for image in photographs().values()]
    assert alike(greys).tolist() == []


def test_drawings_that_share_their_lines_are_none():
    """One figure before grounds of other colors: only those tell."""
    greys = [Small.of(portrait(number)) for number in (3, 10, 11, 35, 36, 48)]
    assert agreement_of(greys[1]._replace(chroma=greys[5].chroma), greys[5]) > 0.9
    assert alike(greys).tolist() == []


def test_nothing_can_be_said_of_what_has_no_structure():
    flat = [Small.of(np.full((128, 128, 3), value, np.uint8)) for value in (30, 200, 200)]
    assert agreement_of(flat[0], flat[1]) == 0
    assert agreement_of(flat[1], flat[2]) == 1


def test_blocks_of_rows_meet(monkeypatch):
    images = list(photographs().values())[:2]
    greys = [Small.of(np.ascontiguousarray(image)) for image in [*images, images[0][:, ::-1]]]
    monkeypatch.setattr(copy_candidates, "_ROWS", 1)
    monkeypatch.setattr(copy_candidates, "_COLUMNS", 1)
    assert alike(greys).tolist() == [[0, 2]]


@pytest.fixture
def folder(tmp_path):
    image = portrait(3)
    big = cv2.resize(image, (256, 256), interpolation=cv2.INTER_CUBIC)
    for name, pixels in (("a", big), ("b", big[:, ::-1]), ("c", portrait(4))):
        cv2.imwrite(str(tmp_path / f"{name}.png"), pixels)
    return tmp_path


def test_only_collected_images_are_compared_and_each_is_decoded_once(folder):
    images = ImageSet.from_folder(folder)
    with FeatureStore() as store:
        assert copy_pairs(images, store).tolist() == [[0, 1]]
        assert store.computed[copies.ANALYSER] == 3
        again = copy_pairs(images, store)
        assert again.tolist() == [[0, 1]]
        assert store.computed[copies.ANALYSER] == 3
        made = images.with_columns(pl.lit("scenario").alias("kind"))
        assert copy_pairs(made, store).tolist() == []
        left_out = images.reject(np.array([True, False, False]), Rejection.NO_FACE)
        assert copy_pairs(left_out, store).tolist() == []


def test_they_join_what_embeddings_say(folder):
    images = ImageSet.from_folder(folder)
    images = images.with_columns(vector_column("embedding", list(np.eye(3))))
    assert duplicate_pairs(images).tolist() == []
    with FeatureStore() as store:
        known = np.array([[1, 2]])
        assert copy_pairs(images, store, known=known).tolist() == [[0, 1], [1, 2]]
        assert copy_pairs(images, store, known=np.array([[0, 1]])).tolist() == [[0, 1]]


def test_what_is_known_is_not_looked_at(folder, monkeypatch):
    images, looks = ImageSet.from_folder(folder), []
    compare = copies.structure_agreement
    monkeypatch.setattr(
        copies, "structure_agreement", lambda *pair: looks.append(pair) or compare(*pair)
    )
    with FeatureStore() as store:
        copy_pairs(images, store, known=np.array([[0, 1]]))
        assert looks == []
        copy_pairs(images, store)
        assert looks


def test_of_equal_files_one_is_compared_and_all_are_copies_of_what_it_is(folder):
    for number in range(3):
        shutil.copy(folder / "a.png", folder / f"d{number}.png")
    shutil.copy(folder / "b.png", folder / "e.png")
    images = ImageSet.from_folder(folder)
    names = images.table["path"].to_list()
    with FeatureStore() as store:
        found = copy_pairs(images, store)
        assert store.computed[copies.ANALYSER] == 3
    told = {(names[a][0], names[b][0]) for a, b in found}
    assert len(found) == 6 * 5 // 2, "four of one file, two of its mirror image"
    assert not any("c" in pair for pair in told)
    assert set("".join("".join(pair) for pair in told)) == set("abde")


def test_a_chain_of_crops_is_decided_in_pairs():
    image = photographs()["china"][:256, :256]
    chain = [np.ascontiguousarray(image[9 * n : 256 - 9 * n, 9 * n : 256 - 9 * n])
             for n in range(8)]  # fmt: skip
    pairs = {tuple(pair) for pair in alike([Small.of(link) for link in chain]).tolist()}
    assert {(n, n + 1) for n in range(7)} <= pairs
    assert (0, 7) not in pairs, (
        "half is cut off: that the links between are copies counts for nothing"
    )
