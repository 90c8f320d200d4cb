"""Where a wave goes, what it promises, and how numbers become requests."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from character_curator.generation.run import batches
from character_curator.growth.allocation import Limits, allocate
from character_curator.growth.dealing import cells_of, deal, first_look, whole_numbers
from character_curator.growth.yields import Yield, yields
from character_curator.plan import Plan, Scenario, Subject

PLAIN = Yield(made=4, usable=0.8, quality=0.6, deviation=0.02, shares=((None, 1.0),))


def plan_of(scenarios=6, seeds=range(1, 11)):
    return Plan(
        subjects=[Subject(name="char1", description="woman")],
        seeds=tuple(seeds),
        scenarios=[Scenario(number=n, name=f"s{n}", prompt=f"p{n}") for n in range(scenarios)],
    )


def exactly(numbers, there, **where):
    bounds = np.asarray(numbers)
    named = {name: np.asarray(codes) for name, codes in where.items()}
    return Limits(bounds, bounds, np.asarray(there), **named)


def test_it_goes_to_what_is_short():
    values = np.full(6, 0.9)
    quota = exactly([4, 4], [0, 0, 0, 0, 0, 0], scenarios=[0, 1])
    found = allocate(values, [quota], None, 8, [PLAIN, PLAIN], np.full((2, 3), 99), 6)
    # Five images of which four will be usable; a sixth is worth nothing sure.
    assert found.counts[1].sum() == pytest.approx(5, abs=1)
    assert found.counts[0].sum() <= 1
    assert found.gain > 1


def test_what_is_better_comes_before_what_is_not():
    values = np.full(4, 0.5)
    good = replace(PLAIN, quality=0.7)
    found = allocate(values, [], None, 4, [PLAIN, good], np.full((2, 1), 99), 4)
    assert found.counts[1].sum() > 3.9
    # Four images, 0.8 of which are usable: each is worth 0.2 more than what it replaces.
    assert found.gain == pytest.approx(4 * 0.8 * 0.2, rel=0.02)


def test_where_nothing_can_be_better_nothing_is_promised():
    found = allocate(np.full(4, 0.9), [], None, 4, [PLAIN], np.full((1, 1), 99), 4)
    assert found.gain == pytest.approx(0.0, abs=1e-9)


def test_an_uncertain_scenario_may_be_the_better_one():
    doubtful = replace(PLAIN, deviation=0.2)
    found = allocate(np.full(4, 0.62), [], None, 4, [PLAIN, doubtful], np.full((2, 1), 99), 4)
    assert found.counts[1].sum() > found.counts[0].sum()


def test_near_duplicates_count_once():
    values = np.full(4, 0.9)
    pairs = [(0, 1), (1, 2), (0, 2), (0, 3), (1, 3), (2, 3)]
    alone = allocate(values, [], pairs, 2, [PLAIN], np.full((1, 1), 99), 4)
    apart = allocate(values, [], None, 2, [PLAIN], np.full((1, 1), 99), 4)
    assert alone.gain > 1 > apart.gain


def test_a_short_seed_gets_its_images():
    quota = exactly([2, 2], [0, 0], seeds=[0, 1])
    found = allocate(np.full(2, 0.9), [quota], None, 4, [PLAIN], np.full((1, 2), 99), 4)
    assert found.counts[0, 1] > found.counts[0, 0]


def test_a_measured_value_is_sought_where_it_was_found():
    often = replace(PLAIN, shares=(((0,), 0.1), ((1,), 0.9)))
    rarely = replace(PLAIN, shares=(((0,), 0.9), ((1,), 0.1)))
    quota = replace(exactly([3, 3], [0, 0, 0]), measured=0)
    found = allocate(np.full(3, 0.9), [quota], None, 6, [rarely, often], np.full((2, 1), 99), 5)
    assert found.counts[1].sum() > 4


def test_there_is_no_more_than_room_for():
    found = allocate(np.full(1, 0.1), [], None, 5, [PLAIN], np.full((1, 2), 1), 9)
    assert found.counts.sum() <= 2 + 1e-9


def test_few_images_are_trusted_little():
    scenes = np.array([0] * 20 + [1] * 20 + [2])
    quality = np.array([0.8, 0.82] * 10 + [0.6, 0.62] * 10 + [0.9])
    usable = np.ones(41, dtype=bool)
    usable[20:30] = False
    one, other, third, unseen = yields(scenes, usable, quality, [None] * 41, 4)
    assert one.usable > 0.9 > 0.6 > other.usable > 0.45
    assert one.quality == pytest.approx(0.81, abs=0.005)
    assert other.quality == pytest.approx(0.61, abs=0.01)
    assert 0.8 < third.quality < 0.9  # its single image is very good, which may be luck
    assert unseen.made == 0
    assert unseen.deviation > third.deviation > one.deviation


def test_nothing_is_known_at_first():
    (only,) = yields(np.zeros(0, int), np.zeros(0, bool), np.zeros(0), [], 1)
    assert only.usable == 0.5
    assert only.shares == ((None, 1.0),)


def test_shares_are_a_distribution():
    measured = [(0,), (0,), (1,), (2,)]
    found = yields(np.array([0, 0, 1, 1]), np.ones(4, bool), np.full(4, 0.5), measured, 2)
    for one in found:
        assert sum(share for _, share in one.shares) == pytest.approx(1)
    assert dict(found[0].shares)[0,] > dict(found[1].shares)[0,]


@pytest.mark.parametrize(
    ("parts", "total", "whole"),
    [([1.5, 1.5, 1.0], 4, [2, 1, 1]), ([0.2, 0.9], 4, [1, 1]), ([0.0, 0.0], 4, [0, 0]),
     ([2.9999999, 1.0000001], 4, [3, 1])],
)  # fmt: skip
def test_rounding_keeps_the_sum(parts, total, whole):
    assert whole_numbers(np.array(parts), total) == whole


def test_no_request_twice_and_batches_nearly_full():
    plan = plan_of()
    cells = cells_of(plan)
    made = deal(plan, first_look(cells, 16, 999), ())
    rows = 0
    for seeds in ({1: 10, 2: 10, 5: 4}, dict.fromkeys(plan.seeds, 3), {7: 24}):
        wave = deal(plan, {cells[0]: 12, cells[1]: 6, cells[4]: 6}, made, seeds=seeds)
        made += wave
        rows += sum(8 for _ in batches(wave, 8))
        assert Counter(request.scenario for request in wave) == {0: 12, 1: 6, 4: 6}
    assert len(set(made)) == len(made)
    assert len({request.file_name for request in made}) == len(made)
    assert rows <= 1.25 * 3 * 24


def test_the_first_look_is_even_and_within_the_budget():
    cells = cells_of(plan_of(5))
    assert set(first_look(cells, 12, 99).values()) == {3}
    assert set(first_look(cells, 12, 10).values()) == {2}
    assert sum(first_look(cells, 12, 4).values()) == 4
