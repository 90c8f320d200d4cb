"""Waves of images: where they go, when they end, kills, budgets, and topping up."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from character_curator.analysis.duplicates import duplicate_pairs
from character_curator.analysis.pixels import LostImagesError
from character_curator.generation.png import read_record
from character_curator.generation.run import generate
from character_curator.growth.ledger import (
    FIRST_LOOK,
    QUALITY,
    QUOTAS,
    THERE,
    Asked,
    read_ledger,
    write_ledger,
)
from character_curator.growth.waves import Goal, grow
from character_curator.plan import Plan, Scenario, Subject
from character_curator.rejection_reasons import Rejection
from character_curator.selection import Quota, select

SCENES = {1: ("casual", 0.9, 0.8), 2: ("casual", 0.9, 0.6), 3: ("pose", 0.3, 0.7),
          4: ("pose", 0.9, 0.5), 5: ("style", 0.9, 0.7)}  # fmt: skip
"""Category, share that is usable, and mean quality, by scenario."""


def plan_of(seeds=(1, 2, 3, 4), takes=6, word=""):
    return Plan(
        subjects=[Subject(name="char1", description="woman")],
        seeds=seeds,
        takes=takes,
        scenarios=[
            Scenario(number=n, name=f"scene {n}", prompt=f"{n}{word}", category=category)
            for n, (category, _, _) in SCENES.items()
        ],
    )


class Canvas:
    """A back end whose images are noise of the request's own: quick, and different each."""

    maximum_batch = None

    def __init__(self, steps=1):
        self.settings = {"backend": "canvas", "steps": steps}
        self.conditions = {}
        self.sampled = 0

    def sample(self, requests, on_step=None):
        self.sampled += len(requests)
        images = []
        for request in requests:
            if on_step is not None:
                on_step(1, 1)
            random = np.random.default_rng(request.noise_seed)
            images.append(random.integers(0, 256, (8, 8, 3), dtype=np.uint8))
        return np.stack(images)


def look(images):
    """Measure: usable and quality by a hash of the request's own, clusters by category."""
    reasons, qualities, vectors = [], [], []
    for row in images.table.iter_rows(named=True):
        _, usable, quality = SCENES[row["scenario"]]
        random = np.random.default_rng(row["noise_seed"])
        reasons.append(None if random.random() < usable else Rejection.LOW_QUALITY.value)
        qualities.append(quality + 0.03 * random.standard_normal())
        vectors.append(random.standard_normal(16).astype(np.float16).tobytes())
    images = images.with_columns(
        pl.Series("rejection", reasons, dtype=pl.String),
        pl.Series("quality", qualities),
        pl.Series("embedding", vectors, dtype=pl.Binary),
        pl.Series("cluster", [row % 2 for row in images.table["scenario"]], dtype=pl.Int32),
    )
    return images, duplicate_pairs(images, 0.99)


def goal_of(total=12, *quotas, wave=10, gain=0.005, budget=120, most=None):
    return Goal(total, [Quota.parse(text) for text in quotas], wave, gain, budget, most)


CATEGORIES = "category=casual:4,pose:4,style:4"
SEEDS = "seed=3"


class Grower:
    """Grows a set in a folder; counts what is made, and may be killed."""

    def __init__(self, folder, plan=None, batch=4, steps=1):
        self.folder, self.plan, self.batch = folder, plan or plan_of(), batch
        self.backend = Canvas(steps)
        self.kill_at = None

    def start(self, stage, total):
        pass

    def advance(self, n=1, note=""):
        if n == 1 and self.kill_at is not None and note.endswith(".png"):
            self.kill_at -= 1
            if self.kill_at < 0:
                raise KeyboardInterrupt

    def finish(self):
        pass

    def make(self, requests, note):
        return generate(
            requests, self.backend, self.raw, batch_size=self.batch, note=note, progress=self
        )

    @property
    def raw(self):
        return self.folder / "raw"

    def grow(self, goal, look=look):
        return grow(
            self.plan, goal, self.make, look, self.folder / "waves.json",
            settings=self.backend.settings, folder=self.raw,
        )  # fmt: skip

    def contents(self):
        return {path.name: path.read_bytes() for path in self.raw.glob("*.png")}


def requests_of(images):
    return images.table.select("subject", "seed", "kind", "scenario", "take").rows()


def test_the_first_wave_looks_at_every_scenario_alike(tmp_path):
    grown = Grower(tmp_path).grow(goal_of(wave=10, budget=10))
    assert Counter(grown.images.table["scenario"].to_list()) == dict.fromkeys(SCENES, 2)
    assert set(grown.images.table["wave_aim"]) == {FIRST_LOOK}
    assert grown.waves == 1


def test_the_next_goes_where_the_selection_is_short(tmp_path):
    grown = Grower(tmp_path).grow(goal_of(12, CATEGORIES, SEEDS, gain=1.0))
    assert grown.met
    later = grown.images.table.filter(pl.col("wave") > 1)
    # 4 of the casual ones are there after the first wave, nearly all of which are usable.
    assert (later["category"] != "casual").sum() > 2 * (later["category"] == "casual").sum()
    assert QUOTAS in set(later["wave_aim"])
    looked, pairs = look(grown.images)
    chosen = select(looked, 12, goal_of(12, CATEGORIES, SEEDS).quotas, conflicts=pairs)
    assert chosen.met
    assert len(grown.images) < len(plan_of().requests()) / 3


def test_then_it_goes_for_quality_until_that_does_not_pay(tmp_path):
    images = {
        gain: Grower(tmp_path / str(gain)).grow(goal_of(12, CATEGORIES, gain=gain))
        for gain in (1.0, 0.02, 0.004)
    }
    counts = [len(one.images) for one in images.values()]
    assert counts == sorted(counts)
    assert counts[0] < counts[-1]
    for gain, one in images.items():
        assert one.met
        assert one.steps[-1].promised < gain
        assert "nothing is lacking" in one.ended
        assert f"less than {gain:g}" in one.ended
    means = []
    for one in images.values():
        looked, pairs = look(one.images)
        means.append(select(looked, 12, goal_of(12, CATEGORIES).quotas, conflicts=pairs).objective)
    assert means[0] < means[-1]
    last = images[0.004].images.table
    better = last.filter((pl.col("wave") > 1) & (pl.col("wave_aim") == QUALITY))
    # Scenario 1 is better than 2, of the same category.
    assert (better["scenario"] == 1).sum() > (better["scenario"] == 2).sum()


def test_the_budget_is_the_most_images(tmp_path):
    grown = Grower(tmp_path).grow(goal_of(12, CATEGORIES, gain=0.0, budget=23))
    assert len(grown.images) == 23
    assert "budget of 23 images is spent" in grown.sentence()
    few = Grower(tmp_path / "few").grow(goal_of(12, CATEGORIES, budget=3))
    assert len(few.images) == 3
    assert not few.met
    assert "not everything that was asked for could be had" in few.ended


def test_it_ends_where_nothing_can_help(tmp_path):
    grown = Grower(tmp_path, plan_of(seeds=(1,))).grow(goal_of(40, SEEDS, most=2))
    assert len(grown.images) == 2 * len(SCENES)
    assert not grown.met
    assert "no further image of this plan would help" in grown.ended


def test_nothing_usable_yet_is_no_end(tmp_path):
    def late(images):
        images, pairs = look(images)
        spoilt = images.table["scenario"] != 5
        return images.reject(
            spoilt & images.table["rejection"].is_null(), Rejection.LOW_QUALITY, "x"
        ), pairs

    grown = Grower(tmp_path).grow(goal_of(4, wave=5, gain=1.0), look=late)
    assert grown.met


def test_a_seed_without_a_usable_image_is_short(tmp_path):
    def blind(images):
        images, pairs = look(images)
        first = (images.table["seed"] == 2) & (images.table["take"] == 1)
        return images.reject(
            first & images.table["rejection"].is_null(), Rejection.LOW_QUALITY, "x"
        ), pairs

    grown = Grower(tmp_path).grow(goal_of(12, SEEDS, gain=1.0), look=blind)
    assert grown.met
    looked, _ = blind(grown.images)
    assert looked.accepted.table.filter(pl.col("seed") == 2).height >= 3


@pytest.mark.parametrize("images", [3, 11, 17, 23])
def test_a_run_that_was_killed_makes_the_same_images(tmp_path, images):
    goal = goal_of(12, CATEGORIES, SEEDS)
    whole = Grower(tmp_path / "whole")
    grown = whole.grow(goal)
    broken = Grower(tmp_path / "broken")
    broken.kill_at = images
    with pytest.raises(KeyboardInterrupt):
        broken.grow(goal)
    assert len(broken.contents()) < len(whole.contents())
    broken.kill_at = None
    again = broken.grow(goal)
    assert again.images.table.equals(grown.images.table)
    assert broken.contents() == whole.contents()
    assert (broken.folder / "waves.json").read_bytes() == (whole.folder / "waves.json").read_bytes()
    before = broken.backend.sampled
    assert broken.grow(goal).images.table.equals(grown.images.table)
    assert broken.backend.sampled == before


def test_a_kill_while_a_wave_is_measured_changes_nothing(tmp_path):
    goal = goal_of(12, CATEGORIES, SEEDS)
    whole, broken = Grower(tmp_path / "whole"), Grower(tmp_path / "broken")
    grown = whole.grow(goal)
    looks = iter([False, True])

    def killed(images):
        if next(looks):
            raise KeyboardInterrupt
        return look(images)

    with pytest.raises(KeyboardInterrupt):
        broken.grow(goal, look=killed)
    assert broken.grow(goal).images.table.equals(grown.images.table)
    assert broken.contents() == whole.contents()


def test_the_batch_size_decides_nothing(tmp_path):
    goal = goal_of(12, CATEGORIES, SEEDS)
    sizes = [Grower(tmp_path / str(batch), batch=batch) for batch in (1, 2, 8)]
    made = [requests_of(one.grow(goal).images) for one in sizes]
    assert made[0] == made[1] == made[2]


def test_batches_are_nearly_full(tmp_path):
    grower = Grower(tmp_path, plan_of(seeds=tuple(range(1, 11))), batch=8)
    grown = grower.grow(goal_of(39, CATEGORIES.replace(":4", ":13"), wave=32, gain=0.001))
    assert grower.backend.sampled <= 1.3 * len(grown.images)


def test_batches_of_small_waves_are_nearly_full(tmp_path):
    grower = Grower(tmp_path, plan_of(seeds=tuple(range(1, 11))), batch=8)
    quotas = CATEGORIES.replace(":4", ":10"), "seed=3"
    grown = grower.grow(goal_of(30, *quotas, wave=8, gain=0.001))
    assert grower.backend.sampled <= 1.1 * len(grown.images)


def test_a_record_says_in_which_wave_and_why(tmp_path):
    grower = Grower(tmp_path)
    grown = grower.grow(goal_of(12, CATEGORIES, SEEDS))
    for row in grown.images.table.iter_rows(named=True):
        said = read_record((grower.raw / row["path"]).read_bytes())["wave"]
        assert (said["number"], said["aim"]) == (row["wave"], row["wave_aim"])
        assert (said["number"] == 1) == (said["aim"] == FIRST_LOOK)
        if said["number"] > 1:
            assert 0 < said["usable"] < 1
            assert 0.3 < said["quality"] < 1


def test_more_is_wanted_and_the_old_images_stay(tmp_path):
    grower = Grower(tmp_path)
    small = grower.grow(goal_of(12, CATEGORIES))
    before = grower.contents()
    states = {path: path.stat().st_mtime_ns for path in grower.raw.glob("*.png")}
    large = grower.grow(goal_of(24, CATEGORIES.replace(":4", ":8")))
    assert large.met
    assert large.waves > small.waves
    assert set(requests_of(small.images)) < set(requests_of(large.images))
    after = grower.contents()
    assert all(after[name] == data for name, data in before.items())
    assert all(path.stat().st_mtime_ns == time for path, time in states.items())


def test_a_set_made_without_waves_is_topped_up(tmp_path):
    grower = Grower(tmp_path)
    old = generate(plan_of(takes=1), grower.backend, grower.raw, batch_size=4)
    (grower.raw / "char_char1_seed_1_scenario_01_09.png").write_bytes(b"no image")
    before = grower.contents()
    grown = grower.grow(goal_of(12, "category=casual:3,pose:7,style:2", gain=1.0))
    assert grown.met
    table = grown.images.table
    there = table.filter(pl.col("wave") == 0)
    assert set(there["path"]) == set(old.table["path"])
    assert set(there["wave_aim"]) == {THERE}
    # Of the scenario whose images are rarely usable more is needed, than of others.
    later = table.filter(pl.col("wave") > 0)
    assert (later["category"] == "pose").sum() >= 5
    assert set(later.filter(pl.col("wave_aim") == QUOTAS)["category"]) == {"pose"}
    assert all(grower.contents()[name] == data for name, data in before.items())


def test_what_the_plan_no_longer_asks_for_is_left_out(tmp_path):
    grower = Grower(tmp_path)
    first = grower.grow(goal_of(12, CATEGORIES))
    plan = plan_of()
    changed = [replace_prompt(s) if s.number == 5 else s for s in plan.scenarios]
    grower.plan = plan.model_copy(update={"scenarios": tuple(changed)})
    second = grower.grow(goal_of(12, CATEGORIES))
    kept = first.images.table.filter(pl.col("scenario") != 5)
    shared = second.images.table.filter(pl.col("path").is_in(kept["path"].to_list()))
    assert shared["wave"].to_list() == kept["wave"].to_list()
    anew = second.images.table.filter(pl.col("scenario") == 5)
    assert set(anew["prompt"]) == {"woman, other"}
    assert anew["wave"].min() > kept["wave"].max()  # as many as are needed now, not as before


def replace_prompt(scenario):
    return scenario.model_copy(update={"prompt": "other"})


def test_another_model_begins_anew(tmp_path):
    first = Grower(tmp_path).grow(goal_of(12, CATEGORIES))
    other = Grower(tmp_path, steps=2).grow(goal_of(12, CATEGORIES))
    assert requests_of(other.images) == requests_of(first.images)
    assert other.images.table["request"].to_list() != first.images.table["request"].to_list()


def test_a_damaged_ledger_is_found_again_from_the_images(tmp_path):
    grower = Grower(tmp_path)
    first = grower.grow(goal_of(12, CATEGORIES))
    (tmp_path / "waves.json").write_text('{"images": [{"subject"')
    made = grower.backend.sampled
    again = grower.grow(goal_of(12, CATEGORIES))
    assert requests_of(again.images) == requests_of(first.images)
    assert grower.backend.sampled == made


@pytest.mark.parametrize("left", [1, 3, 14])
def test_of_images_whose_waves_nobody_knows_any_more_the_waves_are_the_same(tmp_path, left, caplog):
    goal = goal_of(12, CATEGORIES, SEEDS)
    whole, broken = Grower(tmp_path / "whole"), Grower(tmp_path / "broken")
    grown = whole.grow(goal)
    broken.raw.mkdir(parents=True)
    # A folder that was taken away while its images were written has some of any wave, and no notes.
    for path in sorted(whole.raw.glob("*.png"))[-left:]:
        (broken.raw / path.name).write_bytes(path.read_bytes())
    assert broken.grow(goal).images.table.equals(grown.images.table)
    assert broken.contents() == whole.contents()
    assert f"have made {left} image" in caplog.text


def test_a_wave_is_not_judged_by_what_is_left_of_it(tmp_path):
    goal = goal_of(12, CATEGORIES, SEEDS)
    whole, broken = Grower(tmp_path / "whole"), Grower(tmp_path / "broken")
    grown = whole.grow(goal)
    looks = iter([False, True])

    def lost(images):
        looked, pairs = look(images)
        if next(looks):
            shutil.rmtree(broken.raw)
            gone = np.arange(len(looked)) == 0
            looked = looked.reject(gone, Rejection.UNREADABLE, ["it is gone"] * len(looked))
        return looked, pairs

    with pytest.raises(LostImagesError):
        broken.grow(goal, look=lost)
    assert broken.grow(goal).images.table.equals(grown.images.table)
    assert broken.contents() == whole.contents()


@pytest.mark.parametrize(
    ("key", "value"),
    [("wave", 2**31 - 1), ("wave", 10**30), ("wave", -1), ("wave", 1.5), ("aim", ["quotas"]),
     ("aim", "none"), ("usable", 10**400), ("quality", "good")],
)  # fmt: skip
def test_a_ledger_with_impossible_values_is_damaged(tmp_path, key, value):
    asked = [Asked(request, 1, FIRST_LOOK, 0.5, 0.5) for request in plan_of().requests()[:2]]
    write_ledger(tmp_path / "waves.json", asked, {})
    assert read_ledger(tmp_path / "waves.json", plan_of(), {}) == asked
    values = json.loads((tmp_path / "waves.json").read_text())
    values.pop("seal", None)  # as an earlier version has written it
    values["images"][1][key] = value
    (tmp_path / "waves.json").write_text(json.dumps(values))
    assert read_ledger(tmp_path / "waves.json", plan_of(), {}) == []


def test_takes_are_capped(tmp_path):
    grown = Grower(tmp_path).grow(goal_of(12, CATEGORIES, gain=0.0, budget=60, most=2))
    assert grown.images.table["take"].max() == 2


def test_decisions_are_followed(tmp_path):
    from character_curator.selection import Decisions

    grower = Grower(tmp_path)
    first = grower.grow(goal_of(12, CATEGORIES))
    looked, pairs = look(first.images)
    chosen = select(looked, 12, goal_of(12, CATEGORIES).quotas, conflicts=pairs).selected
    poses = chosen.table.filter(pl.col("category") == "pose")
    decisions = Decisions(veto=frozenset(poses["hash"].to_list()))
    goal = replace(goal_of(12, CATEGORIES), decisions=decisions)
    second = grower.grow(goal)
    assert second.met
    more = set(requests_of(second.images)) - set(requests_of(first.images))
    assert Counter(scenario for _, _, _, scenario, _ in more).keys() & {3, 4}
