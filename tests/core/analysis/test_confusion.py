"""Whom images resemble most: against figures worked out by hand."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from character_curator.analysis.confusion import confusion, identities_of, reject_confused
from character_curator.analysis.identities import References
from character_curator.imageset import ImageSet, MissingColumnError, vector_column
from character_curator.rejection_reasons import Rejection


def towards(a, b):
    """A face with these similarities to A and to B, whose identities are at right angles."""
    return np.array([a, b, np.sqrt(1 - a * a - b * b)], np.float32)


FACES = {
    "a0.png": ("A", towards(0.9, 0.1)),
    "a1.png": ("A", towards(0.6, 0.4)),
    "a2.png": ("A", towards(0.2, 0.8)),
    "a3.png": ("A", None),
    "b0.png": ("B", towards(0.0, 0.95)),
    "b1.png": ("B", towards(0.5, 0.55)),
}
IDENTITIES = {
    "A": References.centre(np.array([1, 0, 0], np.float32)),
    "B": References.centre(np.array([0, 1, 0], np.float32)),
}


@pytest.fixture
def images():
    rows = [{"path": name, "subject": subject} for name, (subject, _) in FACES.items()]
    made = ImageSet.from_rows(rows, Path("x"))
    return made.with_columns(vector_column("identity", [face for _, face in FACES.values()]))


def rejected(images):
    table = images.table.filter(pl.col("rejection") == Rejection.OTHER_SUBJECT.value)
    return table["path"].to_list()


def test_an_image_nearer_to_another_subject_is_rejected_with_both_figures(images):
    found = reject_confused(images, IDENTITIES)
    assert rejected(found) == ["a2.png"]
    row = found.table.row(2, named=True)
    assert row["rejection_detail"] == "similarity 0.800 to the subject 'B', 0.200 to its own"
    assert row["nearest_other"] == "B"
    assert found.table["other_similarity"].to_list() == pytest.approx(
        [0.1, 0.4, 0.8, None, 0.0, 0.5], abs=1e-3
    )
    assert found.table["nearest_other"].to_list() == ["B", "B", "B", None, "A", "A"]


def test_a_margin_asks_for_more(images):
    assert rejected(reject_confused(images, IDENTITIES, 0.1)) == ["a2.png", "b1.png"]
    assert rejected(reject_confused(images, IDENTITIES, 0.25)) == ["a1.png", "a2.png", "b1.png"]


def test_an_earlier_reason_stays(images):
    before = images.reject(images.table["path"] == "a2.png", Rejection.LOW_QUALITY, "blurred")
    after = reject_confused(before, IDENTITIES)
    assert after.rejections() == {"low_quality": 1}
    assert confusion(after, IDENTITIES).confused == 1, "the table counts it all the same"


def test_the_table(images):
    found = confusion(images, IDENTITIES, subjects=["B", "A"])
    assert found.subjects == ("B", "A")
    assert found.images == (2, 3)
    assert found.similarity == pytest.approx(np.array([[0.75, 0.25], [1.3 / 3, 1.7 / 3]]), abs=1e-3)
    assert found.nearer.tolist() == [[0, 0], [1, 0]]
    assert found.least == pytest.approx((0.05, -0.6), abs=1e-3)
    told = found.as_mapping()["A"]
    assert told["nearer_to"] == {"B": 1}
    assert told["images"] == 3
    assert "| A | 3 | 0.433 | **0.567** | 1 (B) | -0.600 |" in found.markdown()


def test_a_subject_without_faces_or_others_confuses_nobody(images):
    alone = {"A": IDENTITIES["A"]}
    assert rejected(reject_confused(images, alone)) == []
    found = confusion(images, alone, subjects=["A", "B"])
    assert np.isnan(found.least).all()
    assert found.as_mapping()["B"]["similarity"] == {"A": pytest.approx(0.25, abs=1e-3), "B": None}
    assert "–" in found.markdown()
    assert confusion(images, {}, subjects=["A"]).confused == 0


def test_identities_are_the_centres_of_the_majority_unless_given(images):
    found = identities_of(images, {"B": IDENTITIES["B"]})
    assert list(found) == ["A", "B"]
    assert found["B"] is IDENTITIES["B"]
    near = found["A"].similarity(np.stack([FACES["a0.png"][1], FACES["a2.png"][1]]))
    assert near[0] > 0.9 > near[1], "the stranger does not move it"


def test_faces_have_to_be_validated_first(images):
    bare = ImageSet(images.table.drop("identity"), images.root)
    with pytest.raises(MissingColumnError, match="validate_faces"):
        reject_confused(bare, IDENTITIES)
