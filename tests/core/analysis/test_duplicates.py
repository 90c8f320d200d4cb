"""Near-duplicates: exactly the pairs that brute force finds, and groups that do not chain."""

import numpy as np
import polars as pl
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from character_curator.analysis import duplicates
from character_curator.analysis.duplicates import (
    TooManyDuplicatesError,
    TooManyEqualFilesError,
    duplicate_pairs,
    find_duplicates,
    similar_pairs,
)
from character_curator.imageset import ImageSet, MissingColumnError, vector_column


def brute_force(vectors, threshold):
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    cosine = unit.astype(np.float64) @ unit.T.astype(np.float64)
    return [
        (i, j)
        for i in range(len(unit))
        for j in range(i + 1, len(unit))
        if cosine[i, j] >= threshold
    ]


@given(
    st.integers(2, 60), st.integers(2, 90), st.integers(0, 10**6),
    st.sampled_from([0.3, 0.9, 0.98, 0.999]),
)  # fmt: skip
def test_pairs_are_those_of_brute_force(count, width, seed, threshold):
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(max(1, count // 4), width))
    spread = rng.choice([0.02, 0.2, 0.6])
    vectors = centres[rng.integers(len(centres), size=count)]
    vectors = (vectors + spread * rng.normal(size=(count, width))).astype(np.float32)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    cosine = unit.astype(np.float64) @ unit.T.astype(np.float64)
    near = np.abs(cosine[np.triu_indices(count, 1)] - threshold) < 1e-5
    assume(not near.any())  # those are decided by rounding: see below
    assert [tuple(p) for p in similar_pairs(vectors, threshold)] == brute_force(vectors, threshold)


def pairs_at(cosine, width):
    """Rows of any length, each with a partner at exactly this cosine but for rounding."""
    count = 200 if width < 100 else 40  # wide ones take their time
    rng = np.random.default_rng(width)
    one = rng.normal(size=(count, width))
    one /= np.linalg.norm(one, axis=1, keepdims=True)
    across = rng.normal(size=(count, width))
    across -= (across * one).sum(axis=1, keepdims=True) * one
    across /= np.linalg.norm(across, axis=1, keepdims=True)
    other = cosine * one + np.sqrt(1 - cosine**2) * across
    lengths = rng.uniform(0.1, 10, (2, count, 1))
    return (lengths * [one, other]).astype(np.float32).transpose(1, 0, 2)


@pytest.mark.parametrize("width", [2, 64, 512])
@pytest.mark.parametrize("threshold", [0.5, 0.9, 0.98, 0.999, 1.0])
def test_rounding_parts_no_pair_at_the_threshold_and_makes_none_below(threshold, width):
    # float32 rounds each number by up to 6e-8 of it, and so a cosine by less than 4e-7.
    for pair in pairs_at(threshold, width):
        assert similar_pairs(pair, threshold).tolist() == [[0, 1]]
    for pair in pairs_at(threshold - 1.5e-6, width):
        assert similar_pairs(pair, threshold).tolist() == []


def test_blocks_meet(monkeypatch):
    monkeypatch.setattr(duplicates, "_BLOCK", 7)
    monkeypatch.setattr(duplicates, "_WIDE", 11)
    rng = np.random.default_rng(1)
    vectors = rng.normal(size=(200, 64)).astype(np.float32)
    vectors[150:] = vectors[:50] + 0.01 * rng.normal(size=(50, 64))
    assert [tuple(p) for p in similar_pairs(vectors, 0.99)] == brute_force(vectors, 0.99)


def test_twenty_thousand_rows_with_planted_pairs():
    rng = np.random.default_rng(2)
    vectors = rng.normal(size=(20_000, 128)).astype(np.float32)
    twins = rng.permutation(20_000)[:400].reshape(200, 2)
    vectors[twins[:, 1]] = vectors[twins[:, 0]] + 0.02 * rng.normal(size=(200, 128))
    expected = np.sort(twins, axis=1)
    expected = expected[np.lexsort((expected[:, 1], expected[:, 0]))]
    np.testing.assert_array_equal(similar_pairs(vectors, 0.98), expected)


def test_too_many_pairs_are_an_error(monkeypatch):
    monkeypatch.setattr(duplicates, "MAX_PAIRS", 100)
    with pytest.raises(TooManyDuplicatesError, match=r"0\.9"):
        similar_pairs(np.ones((50, 4), np.float32), 0.9)


def angles(*degrees):
    return [np.array([np.cos(a), np.sin(a)]) for a in np.radians(degrees)]


def image_set(vectors, hashes=None, quality=None, rejection=None):
    count = len(vectors)
    rows = [
        {"path": f"{i}.png", "hash": hashes[i] if hashes else f"h{i}",
         "rejection": rejection[i] if rejection else None}
        for i in range(count)
    ]  # fmt: skip
    images = ImageSet.from_rows(rows, "/nowhere").with_columns(vector_column("embedding", vectors))
    if quality:
        images = images.with_columns(pl.Series("quality", quality))
    return images


def test_pairs_do_not_chain():
    # 0 and 5 degrees are near, 5 and 10 are near, 0 and 10 are not.
    images = image_set(angles(0, 5, 10))
    threshold = float(np.cos(np.radians(6)))
    assert duplicate_pairs(images, threshold).tolist() == [[0, 1], [1, 2]]


@pytest.mark.parametrize(
    ("quality", "groups"),
    [
        ([0.9, 0.8, 0.7, 0.6], [0, 0, None, None]),  # 0 leads 1; 2 is only near 1
        ([0.7, 0.9, 0.8, 0.6], [0, 0, 0, None]),  # 1 leads both
    ],
)
def test_the_best_leads_a_group(quality, groups):
    images = image_set(angles(0, 5, 10, 60), quality=quality)
    threshold = float(np.cos(np.radians(6)))
    found = find_duplicates(images, threshold)
    assert found.table["duplicate_group"].to_list() == groups
    known = find_duplicates(images, pairs=duplicate_pairs(images, threshold))
    assert known.table.equals(found.table)
    assert found.table["rejection"].null_count() == 4
    assert "duplicate_group" not in images.table.columns


def test_equal_files_are_duplicates_and_rejected_ones_are_not():
    vectors = angles(0, 90, 0, 0, 45)
    images = image_set(
        vectors,
        hashes=["a", "b", "a", "c", "b"],
        rejection=[None, None, None, "low_quality", None],
    )
    assert duplicate_pairs(images, 0.98).tolist() == [[0, 2], [1, 4]]


def test_one_file_too_often_is_named(monkeypatch):
    monkeypatch.setattr(duplicates, "MAX_PAIRS", 5)
    images = image_set(angles(0, 20, 40, 60, 80), hashes=["a", "b", "b", "b", "b"])
    with pytest.raises(TooManyEqualFilesError, match=r"4 files are .* as 1\.png"):
        duplicate_pairs(images, 0.98)


def test_rows_without_embedding_are_left_out():
    images = image_set([None, *angles(0, 1)], rejection=["no_face", None, None])
    assert duplicate_pairs(images, 0.98).tolist() == [[1, 2]]
    everything = image_set([None], rejection=["no_face"])
    assert duplicate_pairs(everything).shape == (0, 2)


def test_embeddings_come_first():
    images = ImageSet.from_rows([{"path": "a.png"}], "/nowhere")
    with pytest.raises(MissingColumnError, match="embed"):
        find_duplicates(images)


def test_a_rejected_copy_is_no_duplicate():
    images = image_set(
        angles(0, 90, 0), hashes=["a", "b", "a"], rejection=[None, None, "low_quality"]
    )
    assert duplicate_pairs(images, 0.98).tolist() == []


def test_as_many_pairs_as_are_allowed_are_found(monkeypatch):
    monkeypatch.setattr(duplicates, "MAX_PAIRS", 50 * 49 // 2)
    assert len(similar_pairs(np.ones((50, 4), np.float32), 0.9)) == 50 * 49 // 2
    with pytest.raises(TooManyDuplicatesError):
        similar_pairs(np.ones((51, 4), np.float32), 0.9)
