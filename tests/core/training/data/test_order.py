"""Which images a step sees, and which are held out: by seed, epoch and contents alone."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from character_curator.training.data.order import epoch_batches, hold_out, steps_in


def batches(n=20, *, seed=0, epoch=1, size=3, prior=(), repeats=1, names=None, buckets=None):
    hashes = names or [f"{i:064x}" for i in range(n)]
    buckets = buckets or [i % 3 for i in range(len(hashes))]
    return epoch_batches(
        hashes,
        buckets,
        [i in prior for i in range(len(hashes))],
        seed=seed,
        epoch=epoch,
        batch_size=size,
        repeats=repeats,
    )


def test_an_epoch_shows_every_image_as_often_as_asked():
    for repeats in (1, 3):
        shown = Counter(i for batch in batches(repeats=repeats) for i in batch)
        assert shown == dict.fromkeys(range(20), repeats)


def test_batches_are_of_one_bucket_and_full_but_for_the_last_of_each():
    found = batches(50, size=4)
    assert all(len({i % 3 for i in batch}) == 1 for batch in found)
    for bucket in range(3):
        assert sum(len(b) < 4 for b in found if b[0] % 3 == bucket) <= 1


def test_order_is_a_function_of_seed_and_epoch():
    assert batches() == batches()
    assert len({tuple(batches(epoch=e, seed=s)) for e in range(1, 5) for s in range(3)}) == 12


def test_seed_and_epoch_decide_what_is_batched_together_and_in_which_order():
    moments = [{"epoch": e, "seed": s} for e in range(1, 5) for s in range(3)]
    assert len({frozenset(map(frozenset, batches(**m))) for m in moments}) == 12
    assert len({tuple(batches(size=1, **m)) for m in moments}) == 12


def test_a_short_batch_of_a_rare_bucket_comes_anywhere():
    buckets = [0] * 12 + [1]
    places = {
        batches(size=2, epoch=e, names=[f"{i:064x}" for i in range(13)], buckets=buckets).index(
            (12,)
        )
        for e in range(1, 60)
    }
    assert places == set(range(7))


def test_order_follows_contents_not_positions():
    names = [f"{i:064x}" for i in range(20)]
    mixed = names[7:] + names[:7]
    buckets = [0] * 20
    first = [[names[i] for i in b] for b in batches(names=names, buckets=buckets)]
    second = [[mixed[i] for i in b] for b in batches(names=mixed, buckets=buckets)]
    assert first == second


def test_prior_images_go_along_and_take_turns():
    prior = set(range(4, 20))
    shown = [Counter(i for b in batches(epoch=e, prior=prior) for i in b) for e in (1, 2, 3, 4)]
    assert all(sum(s[i] for i in prior) == 4 == sum(s[i] for i in range(4)) for s in shown)
    assert set().union(*shown) == set(range(20))


def test_steps_hold_every_batch():
    found = batches(20)
    steps = steps_in(found, 4)
    assert [b for step in steps for b in step] == found
    assert all(len(step) == 4 for step in steps[:-1])


@given(st.lists(st.integers(0, 30), min_size=2, max_size=60), st.floats(0, 0.9))
def test_held_out_images_are_chosen_by_content(numbers, share):
    hashes = [f"{n:064x}" for n in numbers]
    chosen = hold_out(hashes, share)
    names = {hashes[i] for i in chosen}
    assert chosen == {i for i, name in enumerate(hashes) if name in names}
    distinct = len(set(hashes))
    assert len(names) == (0 if share == 0 else min(max(1, round(share * distinct)), distinct - 1))
    turned = hashes[::-1]
    assert {turned[i] for i in hold_out(turned, share)} == names
