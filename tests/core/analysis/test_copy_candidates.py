"""Pairs that are coarsely alike: the same as comparing all, and bounded where there are many."""

from __future__ import annotations

import logging

import numpy as np
import pytest

from character_curator.analysis.copy_candidates import coarse_candidates

LEAST = 0.8


def mirrored(vectors):
    turned = vectors.reshape(-1, 4, 4)[:, :, ::-1]
    return np.ascontiguousarray(turned).reshape(len(vectors), -1)


@pytest.fixture(scope="module")
def windows():
    """Three vectors of each of 300 images, among them copies, mirrored ones and parts."""
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(300, 3, 16)) + rng.normal(size=(300, 1, 16))
    vectors[40:60] = vectors[100:120] + rng.normal(0, 0.1, (20, 3, 16))
    vectors[200:220, 0] = mirrored(vectors[10:30, 0])
    vectors[250:260, 2] = vectors[150:160, 0]
    vectors -= vectors.mean(axis=2, keepdims=True)
    return (vectors / np.linalg.norm(vectors, axis=2, keepdims=True)).astype(np.float32)


def compared(windows):
    """Compare all with all, one by one."""
    found = set()
    for a in range(len(windows)):
        for turned, whole in ((False, windows[a, :1]), (True, mirrored(windows[a, :1]))):
            likeness = (windows @ whole[0]).max(axis=1)
            found |= {(min(a, b), max(a, b), turned) for b in np.flatnonzero(likeness >= LEAST)
                      if a != b}  # fmt: skip
    return sorted((int(a), int(b), turned) for a, b, turned in found)


def found_in(windows, **options):
    found = coarse_candidates(
        windows[:, 0], lambda index: windows[index], mirrored, LEAST, **options
    )
    return list(zip(found.first.tolist(), found.second.tolist(), found.mirrored.tolist(),
                    strict=True))  # fmt: skip


def test_no_pair_is_lost_or_added(windows):
    expected = compared(windows)
    assert len(expected) > 50
    assert found_in(windows) == expected


def test_it_is_told_where_they_are_most_alike(windows):
    found = coarse_candidates(windows[:, 0], lambda index: windows[index], mirrored, LEAST)
    for a, b, turned, of_first, vector in zip(
        found.first, found.second, found.mirrored, found.of_first, found.vector, strict=True
    ):
        large, small = (a, b) if of_first else (b, a)
        whole, other = (mirrored(windows[k, :1])[0] if turned else windows[k, 0]
                        for k in (small, large))  # fmt: skip
        likeness = windows[large] @ whole
        assert likeness.argmax() == vector
        assert likeness.max() >= (windows[small] @ other).max() - 1e-6
    assert found.of_first.any()
    assert not found.of_first.all()
    assert len(set(found.vector.tolist())) == 3


def test_with_fewer_neighbours_copies_are_found_and_it_is_said(windows, caplog):
    with caplog.at_level(logging.WARNING):
        found = set(found_in(windows, neighbours=100))
    assert found < set(compared(windows))
    copies = {(40 + k, 100 + k, False) for k in range(20)}
    copies |= {(10 + k, 200 + k, True) for k in range(20)}
    assert len(copies & found) >= 36
    assert "Of 300 images each was compared with the 100" in caplog.text


def test_of_too_many_the_most_alike_are_kept_and_it_is_said(windows, caplog):
    expected = compared(windows)
    best = {(40 + k, 100 + k, False) for k in range(20)}
    with caplog.at_level(logging.WARNING):
        found = found_in(windows, looks=60)
    assert len(found) == 60
    assert best <= set(found) < set(expected)
    assert "More than 60 pairs" in caplog.text
