"""Seconds by image, whatever happens to the run."""

import pytest

from character_curator.portfolio.times import Times
from character_curator.progress import silent


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def watched(tmp_path):
    clock = Clock()
    times = Times(tmp_path / "work" / "times.jsonl", clock)
    return times, clock, times.watch(silent)


def test_a_batch_shares_what_it_took_and_what_was_there_took_nothing(watched):
    times, clock, watch = watched
    watch.start("Generating", 5)
    clock.now += 50
    watch.advance(2, "already there")
    clock.now += 6
    watch.advance(0, "a.png …: step 1 of 2")
    clock.now += 6
    watch.advance(1, "a.png")
    watch.advance(1, "b.png")
    clock.now += 3
    watch.advance(0, "c.png …: step 1 of 2")
    clock.now += 1
    watch.advance(1, "c.png")
    clock.now += 100
    watch.finish()
    assert times.of(["a.png"]) == (6, 0)
    assert times.of(["a.png", "b.png", "c.png", "old.png"]) == (16, 1)


def test_an_image_that_is_made_again_counts_once(watched):
    times, _, _ = watched
    times.add(["a.png"], 5)
    times.add(["a.png"], 2)
    assert times.of(["a.png"]) == (2, 0)


def test_a_line_that_a_kill_has_cut_off_counts_for_nothing(watched):
    times, _, _ = watched
    times.add(["a.png", "b.png"], 4)
    text = times.path.read_text()
    times.path.write_text(text[:-9])
    assert times.of(["a.png", "b.png"]) == (2, 1)
    assert Times(times.path.with_name("none")).of(["a.png"]) == (0, 1)
    times.add(["c.png"], 3)
    assert times.of(["a.png", "b.png", "c.png"]) == (5, 1)
    assert times.path.read_text().count("\n") == 3
