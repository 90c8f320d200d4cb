"""The figures of an evaluation against independent definitions."""

from __future__ import annotations

import itertools
import math

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.spatial.distance import cdist
from scipy.stats import binomtest

from character_curator.evaluation.advice import findings
from character_curator.evaluation.figures import (
    Share,
    false_accept_threshold,
    nearest,
    own_threshold,
    passes,
    quantiles,
    ratings,
    wilson_interval,
)
from character_curator.evaluation.summary import (
    Measured,
    Summary,
    adherence_floor,
    judged,
    near_duplicates,
    summarise,
    training_distances,
)
from character_curator.evaluation.threshold import ThresholdRule, find_threshold

cosines = st.floats(-1, 1, allow_nan=False, width=32)


@given(st.integers(1, 300), st.data())
def test_intervals_are_wilsons(total, data):
    count = data.draw(st.integers(0, total))
    expected = binomtest(count, total).proportion_ci(0.95, method="wilson")
    low, high = wilson_interval(count, total)
    assert (low, high) == pytest.approx((expected.low, expected.high), abs=1e-9)
    assert 0 <= low <= count / total <= high <= 1


def test_shares_of_nothing_say_nothing():
    assert math.isnan(Share.of([]).value)
    assert Share.of([]).as_mapping() == {
        "share": None, "interval": [0.0, 1.0], "count": 0, "of": 0,
    }  # fmt: skip
    assert Share.of([True, False, True, True]).as_mapping()["share"] == 0.75


@given(st.lists(cosines, min_size=1, max_size=250), st.sampled_from([0.0, 0.01, 0.05, 0.3]))
def test_no_more_others_than_the_rate_reach_the_threshold(others, rate):
    threshold = false_accept_threshold([*others, math.nan], rate)
    accepted = sum(value >= threshold for value in others)
    assert accepted <= rate * len(others) + 1e-9
    # And it is no stricter than it must be: what lies below would let in too many.
    below = [value for value in others if value < threshold]
    if below:
        assert sum(value >= max(below) for value in others) > math.floor(rate * len(others) + 1e-9)


def test_the_threshold_lies_halfway_between_accepted_and_refused():
    others = np.arange(200) / 200
    assert false_accept_threshold(others, 0.01) == pytest.approx((0.985 + 0.99) / 2)


def test_the_own_threshold_is_a_quantile():
    values = [0.1, 0.5, math.nan, 0.6, 0.7, 0.9]
    # Linear between the sorted 0.1, 0.5, ...: 0.05 of the way over four gaps is 0.2 of the first.
    assert own_threshold(values, 0.05) == pytest.approx(0.1 + 0.2 * 0.4)
    with pytest.raises(ValueError, match="no face"):
        own_threshold([math.nan])


def test_a_threshold_is_given_or_of_others_or_of_the_dataset():
    others, own = np.linspace(-0.2, 0.5, 100), np.linspace(0.4, 0.9, 20)
    given_one = find_threshold(ThresholdRule(value=0.28), others, own)
    assert (given_one.value, given_one.source) == (0.28, "given")
    measured = find_threshold(ThresholdRule(), others, own)
    assert measured.source == "others"
    assert "1.0%" in measured.explanation
    assert "100" in measured.explanation
    assert sum(others >= measured.value) == 1
    few = find_threshold(ThresholdRule(), np.full(300, math.nan), own)
    assert few.source == "dataset"
    assert few.value == pytest.approx(np.quantile(own, 0.05))


def test_a_image_without_a_face_never_passes():
    assert passes([0.5, math.nan, 0.49, -1], 0.5).tolist() == [True, False, False, False]
    assert passes([math.nan], -5).tolist() == [False]


vectors = arrays(np.float32, st.tuples(st.integers(1, 12), st.just(5)),
                 elements=st.floats(-1, 1, width=32)).map(lambda x: x + 0.01)  # fmt: skip


@given(vectors, vectors)
def test_nearest_training_images_are_scipys(images, training):
    images, training = images + 2, training + 2  # no zero vectors
    index, distance = nearest(images, training)
    expected = cdist(images.astype(float), training.astype(float), "cosine")
    np.testing.assert_allclose(distance, expected.min(axis=1), atol=1e-6)
    rows = np.arange(len(images))
    np.testing.assert_allclose(expected[rows, index], expected.min(axis=1), atol=1e-6)


def test_no_image_is_its_own_neighbour():
    x = np.eye(3)
    index, distance = nearest(x, x, same=True)
    assert all(i != n for n, i in enumerate(index))
    assert distance.tolist() == [1, 1, 1]
    index, distance = nearest(x[:1], x[:1], same=True)
    assert index.tolist() == [-1]
    assert np.isnan(distance).all()
    assert training_distances(x[:1]) == {}


def test_ratings_follow_their_definition():
    for face, known, clean, asked in itertools.product([False, True], repeat=4):
        rating = int(ratings([face], [known], [clean], [asked])[0])
        if not face:
            assert rating == 1
        elif not known:
            assert rating == 2
        else:
            assert rating == {0: 3, 1: 4, 2: 5}[clean + asked]


def test_quantiles_leave_out_what_is_unknown():
    found = quantiles([1, 2, 3, math.nan])
    assert found["q50"] == 2
    assert found["q00"] == 1
    assert found["q100"] == 3
    assert quantiles([math.nan]) == {}


def test_near_duplicates_are_those_of_the_curation():
    from character_curator.analysis.duplicates import similar_pairs

    angles = np.arccos([0.9, 0.979, 0.9805, 0.999])
    training = np.array([[1.0, 0.0]])
    images = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    _, distance = nearest(images, training)
    mine = near_duplicates(distance).tolist()
    theirs = [len(similar_pairs(np.stack([training[0], p]), 0.98)) == 1 for p in images]
    assert mine == theirs == [False, False, True, True]


def table(**columns):
    values = {
        "one_face": [True, True, True, False],
        "identity_similarity": [0.9, 0.7, 0.2, None],
        "adherence": [0.3, 0.1, 0.3, 0.3],
        "artefact": [False, False, True, True],
        "nearest_distance": [0.01, 0.2, 0.4, 0.3],
        "quality": [0.9, 0.8, 0.5, None],
    }
    return pl.DataFrame({**values, **columns})


def test_a_series_comes_to_its_figures():
    rows = judged(table(), 0.7, 0.2)
    assert rows["is_character"].to_list() == [True, True, False, False]
    assert rows["rating"].to_list() == [5, 4, 2, 1]
    assert rows["rating_name"].to_list() == ["excellent", "good", "poor", "failed"]
    figures = summarise(Measured(rows, np.eye(4, dtype=np.float32)))
    assert figures.consistency == Share(2, 4)
    assert figures.artefacts == Share(2, 4)
    assert figures.one_face == Share(3, 4)
    assert figures.usable == Share(1, 4)
    assert figures.memorised == Share(1, 4)
    assert figures.identity == pytest.approx(0.6)
    assert figures.quality == pytest.approx(2.2 / 3)
    assert figures.adherence == pytest.approx(0.25)
    assert figures.rating == pytest.approx(3)
    assert figures.diversity == pytest.approx(4)
    assert figures.distances["q50"] == pytest.approx(0.25)


def test_the_adherence_floor_is_of_the_base_model():
    base = pl.DataFrame({"adherence": np.linspace(0, 1, 11)})
    assert adherence_floor(base) == pytest.approx(0.1)
    assert adherence_floor(None) == -math.inf


def figures(similarity, **columns):
    rows = judged(table(identity_similarity=similarity, **columns), 0.7, 0.2)
    return summarise(Measured(rows, np.eye(4, dtype=np.float32)))


def test_leakage_is_the_class_words_consistency_and_lowers_the_score():
    clean = {"one_face": [True] * 4, "artefact": [False] * 4, "adherence": [0.3] * 4}
    good = figures([0.9] * 4, **clean)
    silent = Summary(good, of_class=figures([0.1] * 4, **clean))
    loud = Summary(good, of_class=figures([0.9, 0.1, 0.1, 0.1], **clean))
    assert silent.leakage.value == 0
    assert loud.leakage.value == 0.25
    assert (silent.score, loud.score) == (1.0, 0.75)
    assert loud.as_mapping()["leakage"]["count"] == 1


def test_findings_name_what_misses_its_target_and_nothing_else():
    clean = {"one_face": [True] * 4, "artefact": [False] * 4, "adherence": [0.3] * 4,
             "nearest_distance": [0.3] * 4}  # fmt: skip
    good = figures([0.9] * 4, **clean)
    nobody = figures([0.1] * 4, **clean)
    assert findings(Summary(good, nobody, nobody, nobody)) == ()
    names = [f.figure for f in findings(Summary(nobody, good, nobody, nobody))]
    assert names == ["character consistency", "leakage"]
    # What the base model makes by chance is no leak.
    assert findings(Summary(good, good, nobody, good)) == ()
    spoilt = figures([0.9] * 4, **{**clean, "artefact": [True] * 4})
    assert [f.figure for f in findings(Summary(spoilt, nobody, nobody, nobody))] == [
        "artefact share"
    ]
    copied = figures([0.9] * 4, **{**clean, "nearest_distance": [0.0] * 4})
    assert [f.figure for f in findings(Summary(copied, nobody, nobody, nobody))] == [
        "memorised share"
    ]
    deaf = figures([0.9] * 4, **{**clean, "adherence": [0.21] * 4})
    assert [f.figure for f in findings(Summary(deaf, nobody, nobody, nobody))] == [
        "adherence below the base model's"
    ]
