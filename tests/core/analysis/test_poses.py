"""The head's angles in photographs, and references as a set, against what they were made from."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from character_curator.analysis.identities import References, mean_identity, normalised
from character_curator.analysis.poses import (
    ARCFACE_LAYOUT,
    HEADS,
    framing_by_height,
    head_angles,
    yaw,
)


def projected(layout, turn, nod, tilt, scale=100.0, shift=300.0):
    """The landmarks of a head turned right, nodding down and tilted, by degrees, from far away."""
    a, b, c = np.radians([turn, nod, tilt])
    about_y = np.array([[np.cos(a), 0, -np.sin(a)], [0, 1, 0], [np.sin(a), 0, np.cos(a)]])
    about_x = np.array([[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]])
    about_z = np.array([[np.cos(c), -np.sin(c), 0], [np.sin(c), np.cos(c), 0], [0, 0, 1]])
    return (np.array(HEADS[layout]) @ (about_z @ about_y @ about_x).T)[:, :2] * scale + shift


@pytest.mark.parametrize("layout", HEADS)
@given(st.floats(-65, 65), st.floats(-15, 15), st.floats(-40, 40), st.floats(5, 400))
def test_angles_are_found_again(layout, turn, nod, tilt, scale):
    found = head_angles(projected(layout, turn, nod, tilt, scale), layout)
    # The camera of the fit is near, and the head was seen from far away: that costs some degrees.
    assert found[0] == pytest.approx(turn, abs=6)
    assert found[1] == pytest.approx(nod, abs=8)
    assert found[2] == pytest.approx(tilt, abs=9)


@pytest.mark.parametrize("layout", HEADS)
def test_a_turn_has_the_side_that_the_image_shows(layout):
    turns = [head_angles(projected(layout, degrees, 0, 0), layout)[0] for degrees in
             range(-80, 81, 20)]  # fmt: skip
    assert turns == sorted(turns)
    assert turns[0] < -60
    assert turns[-1] > 60
    right = projected(ARCFACE_LAYOUT, 40, 0, 0)
    assert yaw(right) > 0  # the nose is to the right, as of drawn portraits
    assert head_angles(right)[0] > 0


def test_without_landmarks_there_is_no_angle():
    assert np.isnan(head_angles(np.full((5, 2), np.nan))).all()
    assert np.isnan(head_angles(np.full((5, 2), 7.0))).all()


@pytest.mark.parametrize(
    ("ratio", "name"),
    [(0.9, "close-up"), (0.6, "close-up"), (0.599, "bust"), (0.34, "bust"),
     (0.339, "half body"), (0.15, "half body"), (0.149, "full body"), (0.0, "full body")],
)  # fmt: skip
def test_framing_of_photographs(ratio, name):
    assert framing_by_height(ratio) == name


def test_several_references_are_a_set():
    rng = np.random.default_rng(0)
    front, side = np.eye(8, dtype=np.float32)[:2]
    vectors = normalised(rng.normal(size=(20, 8)).astype(np.float32))
    several = References.of(np.stack([front, side]), single=True)
    mean = mean_identity(np.stack([front, side]))
    expected = [(v @ mean + max(v @ front, v @ side)) / 2 for v in vectors]
    np.testing.assert_allclose(several.similarity(vectors), expected, atol=1e-6)
    # A profile finds the profile better than the mean alone does.
    assert several.similarity(side[None])[0] > side @ mean
    # One alone, and a pack of drawings, are compared with the mean.
    for plain in (References.of(front[None], single=True),
                  References.of(np.stack([front, side]), single=False)):  # fmt: skip
        np.testing.assert_allclose(plain.similarity(vectors), vectors @ plain.mean, atol=1e-6)
