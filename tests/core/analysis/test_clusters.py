"""Clusters: found, ordered, repeatable, and named apart."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from character_curator.analysis.clusters import (
    PROMPTS,
    _standing_out,
    cluster,
    cluster_names,
    kmeans_labels,
    unique_names,
)
from character_curator.imageset import ImageSet, MissingColumnError, vector_column

SIZES = (7, 30, 18)


def blobs(seed=0):
    """Three clouds around axes, shuffled; returns vectors and what each belongs to."""
    rng = np.random.default_rng(seed)
    member = np.repeat(np.arange(3), SIZES)
    rng.shuffle(member)
    vectors = np.eye(3, 12)[member] + 0.05 * rng.normal(size=(len(member), 12))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32), member


class Words:
    """Texts in the space of :func:`blobs`: the axis that a text names."""

    model = "words"

    def embed_texts(self, texts):
        return np.stack([np.eye(12, dtype=np.float32)[int(text.split()[-1])] for text in texts])


def image_set(vectors, rejection=None):
    rows = [
        {"path": f"{i}.png", "rejection": (rejection or {}).get(i)} for i in range(len(vectors))
    ]
    return ImageSet.from_rows(rows, "/nowhere").with_columns(vector_column("embedding", vectors))


def test_labels_are_ordered_by_size():
    vectors, member = blobs()
    found = cluster(image_set(list(vectors)), k=3)
    labels = found.table["cluster"].to_numpy()
    order = {1: 0, 2: 1, 0: 2}  # the cloud of 30 comes first
    assert labels.tolist() == [order[m] for m in member]
    assert np.bincount(labels).tolist() == [30, 18, 7]
    assert set(found.table["cluster_name"]) == {"cluster 0", "cluster 1", "cluster 2"}


def test_the_same_images_give_the_same_clusters():
    vectors = np.random.default_rng(3).normal(size=(120, 16)).astype(np.float32)
    np.testing.assert_array_equal(kmeans_labels(vectors, 8, 5), kmeans_labels(vectors, 8, 5))


def test_rejected_rows_have_no_cluster():
    vectors, _ = blobs()
    listed = list(vectors)
    listed[4] = None
    images = image_set(listed, rejection={4: "no_face", 5: "low_quality"})
    found = cluster(images, k=3)
    assert found.table["cluster"][4] is None
    assert found.table["cluster"][5] is None
    assert found.table["cluster_name"].null_count() == 2
    assert "cluster" not in images.table.columns


@pytest.mark.parametrize(("distinct", "k", "expected"), [(3, 8, 3), (1, 8, 1), (20, 4, 4)])
def test_never_more_clusters_than_different_images(distinct, k, expected):
    vectors = np.random.default_rng(0).normal(size=(distinct, 6)).astype(np.float32)
    labels = kmeans_labels(np.concatenate([vectors, vectors]), k)
    assert len(set(labels.tolist())) == expected


def test_an_empty_set_has_no_clusters():
    images = image_set([None], rejection={0: "no_face"})
    assert cluster(images).table["cluster"].to_list() == [None]


def test_embeddings_come_first():
    with pytest.raises(MissingColumnError, match="embed"):
        cluster(ImageSet.from_rows([{"path": "a.png"}], "/nowhere"))


def test_names_say_what_sets_a_cluster_apart():
    vectors, _ = blobs()
    prompts = {
        "pose": {"frontal": "axis 0", "profile": "axis 1", "from behind": "axis 2"},
        "light": {"never": "axis 9", "bright": "axis 1"},
    }
    names = cluster_names(vectors, kmeans_labels(vectors, 3), Words(), prompts)
    assert names[0].split(", ")[0] in {"profile", "bright"}
    assert names[1].startswith("from behind")
    assert len(set(names)) == 3


def test_measured_attributes_go_before_zero_shot_ones():
    vectors, member = blobs()
    images = image_set(list(vectors)).with_columns(
        pl.Series("pose", [("frontal", "profile", "three-quarter")[m] for m in member])
    )
    prompts = {"pose": {"upside down": "axis 0"}, "light": {"dim": "axis 5"}}
    found = cluster(images, 3, embedder=Words(), prompts=prompts)
    named = {(m, name) for m, name in zip(member, found.table["cluster_name"], strict=True)}
    assert named == {(0, "frontal"), (1, "profile"), (2, "three-quarter")}


@given(st.lists(st.lists(st.sampled_from("abc"), min_size=1, max_size=3), min_size=1, max_size=9))
def test_names_are_unique_and_short(words):
    names = unique_names(words)
    assert len(set(names)) == len(names)
    for name, choice in zip(names, words, strict=True):
        assert name.startswith(choice[0])
        alike = [other for other in words if other[0] == choice[0]]
        if len(alike) == 1:
            assert name == choice[0]


def test_the_published_attributes_have_prompts():
    assert {"pose", "framing", "lighting"} <= set(PROMPTS)
    labels = [label for choices in PROMPTS.values() for label in choices]
    assert len(set(labels)) == len(labels)


def test_a_cluster_stands_out_by_what_is_rare_elsewhere_and_half_of_it_is_enough():
    labels = np.array([0, 0, 1, 1])
    (first, second) = _standing_out(labels, ["frontal", "profile", "frontal", "frontal"])
    assert first == ((True, 0.25), "profile")
    assert second == ((True, 0.25), "frontal")
    # Most of the first cluster is frontal, and yet less of it than of the whole set.
    labels = np.array([0, 0, 0, 1, 1, 1])
    first, _ = _standing_out(labels, ["frontal", "frontal", "profile", *["frontal"] * 3])
    assert first[1] == "profile"
    assert not first[0][0]


def test_lengths_of_vectors_part_no_cluster():
    vectors, _ = blobs()
    lengths = np.random.default_rng(1).uniform(0.1, 100, (len(vectors), 1)).astype(np.float32)
    assert np.array_equal(kmeans_labels(vectors * lengths, 3), kmeans_labels(vectors, 3))
