"""The augmentation experiment: what arms hold, that nothing unseen is learnt, and its tables."""

import json
import shutil

import numpy as np
import polars as pl
import pytest

from character_curator import cli, project
from character_curator.experiment.augmentation import (
    AugmentationPlan,
    drawn,
    try_augmentation,
)
from character_curator.experiment.augmentation_tables import markdown, report_of
from character_curator.experiment.plan import ExperimentError, PlanChangedError
from character_curator.experiment.recognition import ARMS, CONDITIONS, accuracies, rows_of_arm
from character_curator.imageset import ImageSet, pack_vector
from character_curator.reading.disturbances import KINDS
from tests.support.small_augmentation import PROJECT, draw, of_two

TWO = of_two()


def vectors(who, seed=0, shift=0.0):
    """A subject's run: 6 real, 8 synthetic, copies of each kind, 10 unseen a condition."""
    rng = np.random.default_rng(seed)
    centre = np.eye(16)[who] * 1.2

    def rows(part, kind, count, of=()):
        made = rng.normal(centre, 0.15 + shift * (part == "unseen" and kind != ""), (count, 16))
        return [
            {
                "part": part, "disturbance": kind, "of": of[i] if of else "",
                "hash": f"{who}-{part}-{kind}-{i}", "turn": i, "embedding": pack_vector(v),
            }
            for i, v in enumerate(made)
        ]  # fmt: skip

    synthetic = [f"{who}-synthetic--{i}" for i in range(8)]
    listed = [*rows("real", "", 6), *rows("synthetic", "", 8)]
    for kind in KINDS:
        listed += rows("copy", kind, 6, synthetic[2:])
        listed += rows("classic", kind, 3)
        listed += rows("unseen", kind, 10)
    return pl.DataFrame([*listed, *rows("unseen", "", 10)])


def test_arms_have_the_images_that_they_say():
    table = vectors(0)
    held = {arm: rows_of_arm(table, arm, 0.5) for arm in ARMS}
    assert held["real"].height == 6
    assert all(held[arm].height == 14 for arm in ARMS if arm != "real")
    for arm, rows in held.items():
        assert "unseen" not in rows["part"]
        assert (rows["part"] == "real").sum() == 6
        copies = rows.filter(pl.col("part") == "copy")
        assert copies.height == (4 if arm in KINDS or arm == "augmented" else 0)
        # Who is disturbed does not stay beside its copy.
        assert not set(copies["of"]) & set(rows["hash"])
    assert set(held["blur"].filter(pl.col("part") == "copy")["disturbance"]) == {"blur"}
    mixed = held["augmented"].filter(pl.col("part") == "copy")
    assert sorted(mixed["disturbance"]) == sorted(KINDS)
    assert mixed["of"].n_unique() == 4


def test_fewer_copies_than_wanted_leave_the_undisturbed_images():
    table = vectors(0).filter((pl.col("disturbance") != "blur") | (pl.col("turn") < 1))
    assert rows_of_arm(table, "blur", 0.5).height == 14


def test_a_recogniser_learns_who_is_who_and_is_asked_about_the_unseen():
    tables = {"a": vectors(0, 1), "b": vectors(1, 2)}
    found = accuracies(tables, 0.5)
    assert set(found) == set(ARMS)
    assert all(found[arm]["all"] > 0.95 for arm in ARMS)
    # Unseen images of one subject under the other's name are wrong, whatever was learnt.
    unseen = pl.col("part") == "unseen"
    crossed = {
        "a": pl.concat([tables["a"].filter(~unseen), tables["b"].filter(unseen)]),
        "b": pl.concat([tables["b"].filter(~unseen), tables["a"].filter(unseen)]),
    }
    assert all(value < 0.05 for value in accuracies(crossed, 0.5)["augmented"].values())


def test_tables_have_mean_and_spread_and_gains_of_each_repeat_against_itself():
    def repeat(number, real, augmented):
        accuracy = {arm: dict.fromkeys((*CONDITIONS, "all"), real) for arm in ARMS}
        accuracy["augmented"] = dict.fromkeys((*CONDITIONS, "all"), augmented)
        counts = {"real": 70, "synthetic": 200, **{f"copy {kind}": 100 for kind in KINDS}}
        counts["copy occlusion"] = 61
        runs = [{"subject": name, "images": counts, "identity": 0.5} for name in ("a", "b")]
        return {"repeat": number, "accuracy": accuracy, "runs": runs}

    repeats = [repeat(1, 0.80, 0.90), repeat(2, 0.84, 0.94), repeat(3, 0.88, 0.98)]
    report = {"plan": AugmentationPlan().as_mapping(), **report_of(repeats), "repeats": repeats}
    text = markdown(report)
    assert "| 70 real images of each | 85 % | 84.0 ± 4.0 % | 84.0 ± 4.0 % |" in text
    assert "| 70 real + 200 synthetic | 92 % | 94.0 ± 4.0 % | 94.0 ± 4.0 % |" in text
    assert "| +7 points | +10.0 ± 0.0 points | +10.0 ± 0.0 points |" in text
    assert "Of 100 copies by occlusion alone, 61 to 61 passed the curation." in text
    assert text.count("copies by") == 1


@pytest.fixture(scope="module")
def people(tmp_path_factory):
    base = tmp_path_factory.mktemp("two")
    for number, name in enumerate(("ada", "bea")):
        draw(base / name, 5, 100 + number, number)
        draw(base / f"{name}_unseen", 4, 100 + number, 10 + number)
    (base / "two.toml").write_text(TWO, encoding="utf-8")
    return base


def sets_of(people, name):
    return ImageSet.from_folder(people / name), ImageSet.from_folder(people / f"{name}_unseen")


def test_every_repeat_draws_others_and_none_of_the_unseen_is_learnt(people, tmp_path):
    plan = AugmentationPlan(real=3, unseen=2)
    draws = [drawn(sets_of(people, "ada"), plan, repeat) for repeat in (1, 2, 3)]
    assert all((len(real), len(unseen)) == (3, 2) for real, unseen in draws)
    assert len({tuple(real.table["hash"]) for real, _ in draws}) > 1
    alone = (sets_of(people, "ada")[0], None)
    real, unseen = drawn(alone, plan, 1)
    assert not set(real.table["hash"]) & set(unseen.table["hash"])
    # A copy of a learnt file under another name is no unseen image.
    shutil.copytree(people / "ada", tmp_path / "copies")
    _, unseen = drawn((alone[0], ImageSet.from_folder(tmp_path / "copies")), plan, 1)
    assert not set(real.table["hash"]) & set(unseen.table["hash"])


def test_what_cannot_be_tried_is_said(people, capsys):
    with pytest.raises(ExperimentError, match="two \\[\\[subjects\\]\\]"):
        try_augmentation(project.parse(PROJECT), AugmentationPlan(), people / "x")
    two = project.read(people / "two.toml")
    with pytest.raises(ExperimentError, match="has 5 images and 4 unseen ones"):
        try_augmentation(two, AugmentationPlan(), people / "x", base=people)
    assert cli.main(["experiment", "augmentation", str(people / "two.toml"), "--steps", "5"]) == 2
    assert "has no --steps" in " ".join(capsys.readouterr().err.split())
    assert cli.main(["experiment", "before-after", str(people / "two.toml"), "--real", "5"]) == 2


@pytest.mark.slow
def test_the_whole_of_it_small(people, tmp_path):
    arguments = ["experiment", "augmentation", str(people / "two.toml"), "--output", str(tmp_path)]
    arguments += ["--repeats", "1", "--real", "3", "--unseen", "2", "--synthetic", "4"]
    assert cli.main([*arguments, "--shard", "1/2", "--quiet"]) == 0
    report = json.loads((tmp_path / "augmentation.json").read_text())
    assert report["repeats"] == []
    first = (tmp_path / "runs" / "1-ada" / "vectors.parquet").stat().st_mtime_ns
    assert cli.main([*arguments, "--quiet"]) == 0  # the rest of it
    assert (tmp_path / "runs" / "1-ada" / "vectors.parquet").stat().st_mtime_ns == first
    report = json.loads((tmp_path / "augmentation.json").read_text())
    assert set(report["arms"]) == set(ARMS)
    table = pl.read_parquet(tmp_path / "runs" / "1-bea" / "vectors.parquet")
    counted = dict(table.group_by("part").len().iter_rows())
    assert (counted["real"], counted["synthetic"], counted["unseen"]) == (3, 4, 10)
    assert "| 3 real + 4 synthetic | 92 % |" in (tmp_path / "augmentation.md").read_text()
    two = project.read(people / "two.toml")
    with pytest.raises(PlanChangedError, match="unseen"):
        try_augmentation(two, AugmentationPlan(1, 1, 3, 1, 4), tmp_path, base=people)
