"""The before/after experiment: arms, plan, tables, and the whole of it with very small numbers."""

from __future__ import annotations

import json
from dataclasses import replace

import cv2
import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from character_curator import cli, miniature, project
from character_curator.analysis.face_validation import FaceThresholds
from character_curator.cli import experiment as experiment_cli
from character_curator.experiment.arms import (
    ARMS,
    Curation,
    TooFewCandidatesError,
    make_arms,
    paths_of,
)
from character_curator.experiment.curves import smoothed, steps_to
from character_curator.experiment.plan import (
    ExperimentError,
    ExperimentPlan,
    PlanChangedError,
    commit,
    require_files,
)
from character_curator.experiment.tables import BEGIN, END, Spread, markdown, replaced, report_of
from character_curator.selection import Quota
from character_curator.training.settings import TrainingSettings
from tests.support.images import make_images
from tests.support.tiny_analysis import portrait


def curation(total=6, quotas=("seed=1..", "cluster=1..")):
    return Curation(
        FaceThresholds(), 0.74, (), 4, 0, 0.98, total, tuple(Quota.parse(q) for q in quotas)
    )


@pytest.fixture
def images(tmp_path):
    return make_images(tmp_path, 48, selected=None)


def test_every_stage_takes_from_the_one_before(images):
    arms = make_arms(images, curation(), 5)
    rows = {name: set(arms.rows[name]) for name in ARMS}
    assert list(arms.rows) == list(ARMS)
    assert rows["raw"] > rows["faces"] > rows["quality"] > rows["curated"]
    assert rows["quality"] > rows["clusters"]
    assert len(rows["clusters"]) == len(rows["curated"]) == 6
    reasons = images.table["rejection"]
    assert all(reasons[row] is None for row in rows["quality"])
    assert {reasons[row] for row in rows["faces"]} == {None, "low_quality"}
    assert "unreadable" not in {reasons[row] for row in rows["raw"]}
    seeds = {images.table["seed"][row] for row in rows["curated"]}
    assert len(seeds) == 4


def test_no_arm_trains_on_the_validation_set(images):
    arms = make_arms(images, curation(), 5)
    assert len(arms.validation) == 5
    assert all(images.table["rejection"][row] is None for row in arms.validation)
    for rows in arms.rows.values():
        assert not set(rows) & set(arms.validation)
    assert set(arms.rows["raw"]) | set(arms.validation) == {
        row for row, reason in enumerate(images.table["rejection"]) if reason != "unreadable"
    }
    assert len(paths_of(arms, arms.validation)) == 5


def test_copies_of_a_validation_image_are_held_out_too(images):
    first = make_arms(images, curation(), 5)
    held = first.validation[0]
    copy = next(row for row in first.rows["raw"] if images.table["rejection"][row] is None)
    hashes = images.table["hash"].to_list()
    hashes[copy] = hashes[held]
    again = make_arms(images.with_columns(pl.Series("hash", hashes)), curation(), 5)
    taken = {hashes[row] for row in again.validation}
    for rows in again.rows.values():
        assert not taken & {hashes[row] for row in rows}


def test_the_validation_set_does_not_depend_on_the_order_of_the_rows(images):
    arms = make_arms(images, curation(), 5)
    shuffled = images.filter(pl.lit(True))
    table = images.table.sample(fraction=1.0, shuffle=True, seed=3)
    other = make_arms(replace(shuffled, table=table), curation(), 5)
    assert set(paths_of(arms, arms.validation)) == set(paths_of(other, other.validation))


def test_faces_and_prior_images_count_in_every_arm(images, tmp_path):
    from character_curator.experiment.before_after import examples_of

    boxes = [[1.0, 2.0, 30.0, 40.0]] + [None] * (len(images) - 1)
    known = images.with_columns(pl.Series("face_box", boxes, pl.List(pl.Float32)))
    examples = examples_of(known, project.parse(PROJECT))
    assert examples[0].face == (1.0, 2.0, 30.0, 40.0)
    assert examples[1].face is None
    plan = ExperimentPlan(validate_steps=50, settings=TrainingSettings(batch_size=8))
    # An epoch of 70 images is 9 steps, with as many prior images 18.
    assert plan.training(1, 70).validate_every == 6
    assert plan.training(1, 70, with_prior=True).validate_every == 3


def test_a_run_that_had_not_settled_is_told():
    runs = [result("raw", 1, 0.5, 0.2) | {"settled": flag} for flag in (True, False)]
    told = markdown(report_of({"raw": runs}))
    assert "In 1 of 2 runs the loss was still falling" in told
    assert "still falling" not in markdown(report_of({"raw": [runs[0]]}))


def test_too_few_images_are_told(images):
    with pytest.raises(TooFewCandidatesError, match="--validation"):
        make_arms(images, curation(), 40)


def test_a_plan_is_not_changed_after_the_fact(tmp_path):
    plan = ExperimentPlan(steps=10)
    commit(plan, tmp_path)
    commit(plan, tmp_path)
    with pytest.raises(PlanChangedError, match="steps"):
        commit(replace(plan, steps=11), tmp_path)
    settings = plan.settings.replace(learning_rate=1.0)
    with pytest.raises(PlanChangedError, match="settings"):
        commit(replace(plan, settings=settings), tmp_path)
    assert json.loads((tmp_path / "plan.json").read_text())["steps"] == 10


def test_every_arm_has_the_same_steps_seeds_and_settings():
    plan = ExperimentPlan(steps=600, repeats=2, ablation=1, validate_steps=50,
                          settings=TrainingSettings(batch_size=8))  # fmt: skip
    assert plan.runs() == (
        ("raw", 1), ("curated", 1), ("raw", 2), ("curated", 2),
        ("faces", 1), ("quality", 1), ("clusters", 1),
    )  # fmt: skip
    raw, curated = plan.training(1, 400), plan.training(1, 70)
    assert (raw.steps, raw.seed) == (curated.steps, curated.seed) == (600, 1)
    assert (raw.validate_every, curated.validate_every) == (1, 6)  # 50 and 54 steps
    assert raw.replace(validate_every=1) == curated.replace(validate_every=1)
    with pytest.raises(ExperimentError, match="repeats"):
        ExperimentPlan(repeats=0)


@given(st.lists(st.floats(0, 1, allow_nan=False), min_size=1, max_size=20))
def test_courses_are_smoothed_by_a_median_of_three(losses):
    course = [(0, 5.0), *((10 * (n + 1), loss) for n, loss in enumerate(losses))]
    found = smoothed(course)
    assert found[0] == (0, 5.0)
    for n, (step, value) in enumerate(found[1:]):
        assert step == 10 * (n + 1)
        assert value == np.median(losses[max(0, n - 1) : n + 2])
    level = float(np.median(losses))
    reached = steps_to(course, level)
    expected = [step for step, value in found if value <= level]
    assert reached == (expected[0] if expected else None)


def result(arm, seed, consistency, plateau, converged=100):
    share = {"share": consistency, "count": 0, "of": 0, "interval": [0, 1]}
    own = {"consistency": share, "artefacts": {**share, "share": 0.1}, "memorised": share,
           "identity": 0.8, "adherence": 0.3, "quality": 0.8, "diversity": 5.0}  # fmt: skip
    return {
        "arm": arm, "seed": seed, "pictures": 70, "converged_epoch": 8, "plateau": plateau,
        "converged_step": converged, "leakage": None, "series": {"trigger": own},
        "course": [[0, 0.5], [100, 0.3], [200, plateau], [300, plateau]], "best": plateau,
    }  # fmt: skip


def test_spreads_are_means_and_sample_deviations():
    spread = Spread((1.0, None, 2.0, 4.0))
    assert spread.mean == pytest.approx(np.mean([1, 2, 4]))
    assert spread.deviation == pytest.approx(np.std([1, 2, 4], ddof=1))
    assert Spread((3.0,)).deviation is None
    assert Spread((None,)).mean is None


def test_the_table_stands_beside_what_is_stated():
    report = report_of(
        {
            "raw": [result("raw", 1, 0.5, 0.2), result("raw", 2, 0.7, 0.2)],
            "curated": [result("curated", 1, 0.9, 0.1), result("curated", 2, 0.9, 0.3, None)],
            "faces": [result("faces", 1, 0.8, 0.15)],
        }
    )
    lines = markdown(report).splitlines()
    row = next(line for line in lines if line.startswith("| character consistency"))
    deviation = np.std([50, 70], ddof=1)
    assert row == f"| character consistency | 78 % | 95 % | 60.0 ± {deviation:.1f} % | 90.0 % |"
    row = next(line for line in lines if "steps to convergence" in line)
    assert row.endswith("| 100 | 100 (1 of 2 never) |")
    row = next(line for line in lines if "raw arm's plateau" in line)
    # At the first validation the median is of two values: (0.3 + 0.1) / 2 reaches 0.2 at once.
    assert row.endswith("| 200 | 100 (1 of 2 never) |")
    row = next(line for line in lines if "plateau of the validation" in line)
    assert row.startswith("| plateau of the validation loss | 0.25 | 0.09 | 0.2000 | 0.2000 ± ")
    assert any(line.startswith("| faces only") for line in lines)
    assert report["arms"]["raw"]["consistency"]["values"] == [0.5, 0.7]
    assert report["stated"]["artefacts"] == ["28 %", "8 %"]


def test_the_table_is_put_between_its_marks():
    document = f"# A\n{BEGIN}\nold\n{END}\nend\n"
    assert replaced(document, "| new |\n") == f"# A\n{BEGIN}\n\n| new |\n\n{END}\nend\n"
    assert replaced(replaced(document, "x"), "| new |") == replaced(document, "| new |")
    with pytest.raises(ValueError, match="no part"):
        replaced("# A", "x")


PROJECT = """
source = "images"

[project]
name = "mia"
output = "output"

[model]
path = "miniature"
steps = 2
guidance = 2.0
batch_size = 4

[[subjects]]
name = "mia"
trigger = "mia"
class_word = "woman"
description = "freckled woman"

[faces]
pack = "miniature"

[quality]
minimum = 0.3

[clip]
model = "miniature"

[clusters]
count = 2

[selection]
total = 5
quotas = ["cluster=1.."]
"""


@pytest.mark.skipif(
    not (miniature.DIFFUSION_PATH.is_dir() and miniature.CLIP_PATH.is_dir()),
    reason="the miniature's weights are not here",
)
def test_the_whole_experiment_on_the_miniature(tmp_path, capsys, monkeypatch):
    (tmp_path / "images").mkdir()
    for number in range(14):
        image = portrait(number)
        if number >= 12:  # no quality at all
            image = cv2.GaussianBlur(image, (0, 0), 12)
        cv2.imwrite(str(tmp_path / "images" / f"p{number:02d}.png"), image)
    file = tmp_path / "mia.toml"
    file.write_text(PROJECT + "\n[training]\nprior_pictures = 3\n")
    document = tmp_path / "table.md"
    document.write_text(f"{BEGIN}\n{END}\n")
    command = [
        "experiment", "before-after", str(file), "--steps", "4", "--repeats", "1", "--ablation",
        "0", "--pictures", "2", "--validation", "3", "--validate-steps", "2", "--set", "rank=2",
        "--set", "batch_size=4", "--set", "learning_rate=0.01", "--set", "validation_timesteps=2",
        "--json",
    ]  # fmt: skip
    # Two processes share the runs; each reports on what is there.
    assert cli.main([*command, "--shard", "2/2"]) == 0
    half = next(iter(json.loads(capsys.readouterr().out).values()))
    assert [(r["arm"], r["seed"]) for r in half["runs"]] == [("curated", 1)]
    assert cli.main([*command, "--shard", "1/2", "--document", str(document)]) == 0
    report = next(iter(json.loads(capsys.readouterr().out).values()))
    folder = tmp_path / "output" / "before-after"
    arms = json.loads((folder / "arms.json").read_text())
    assert len(arms["raw"]) == 11
    # In every arm the same images of anybody go along, made once.
    captions = [path.read_text() for path in (folder / "prior").glob("*.txt")]
    assert len(captions) == 3
    assert all("woman" in text and "mia" not in text for text in captions)
    assert not list((folder / "base-2").glob("*"))
    assert len(arms["curated"]) == 5
    assert not set(arms["raw"]) & set(arms["validation"])
    assert [(r["arm"], r["seed"]) for r in report["runs"]] == [("raw", 1), ("curated", 1)]
    raw, curated = report["runs"]
    assert raw["steps"] == curated["steps"] == 4
    # One validation set, one frozen model: before training the losses are the same.
    assert raw["start"] == pytest.approx(curated["start"], rel=1e-6)
    assert raw["course"][-1][1] != curated["course"][-1][1]
    assert half["identity_threshold"] == report["identity_threshold"]
    for run in report["runs"]:
        assert run["series"]["trigger"]["pictures"] == 2
        assert run["series"]["grid"]["pictures"] == 9
        lora = folder / "runs" / f"{run['arm']}-{run['seed']}" / "lora.safetensors"
        assert lora.is_file()
    told = document.read_text()
    assert "| character consistency | 78 % | 95 % |" in told
    assert "The base model by itself, with the plain description: consistency" in told
    assert (folder / "before-after.md").read_text() in document.read_text()

    # A second time nothing is trained, made or measured.
    from character_curator.experiment import runs
    from character_curator.generation.diffusers_backend import DiffusersBackend

    def refuse(*_, **__):
        raise AssertionError("it is done again")

    monkeypatch.setattr(runs, "train", refuse)
    monkeypatch.setattr(DiffusersBackend, "sample", refuse)
    assert cli.main(command) == 0
    again = next(iter(json.loads(capsys.readouterr().out).values()))
    assert again["runs"] == report["runs"]

    # And another plan is not mixed with this one.
    assert cli.main([*command, "--set", "rank=4"]) == 2
    assert "another plan" in json.loads(capsys.readouterr().out)["message"]


def test_training_options_are_the_projects_unless_set():
    text = PROJECT + "\n[training]\nrank = 4\nlearning_rate = 0.5\npatience = 2\n"
    known = project.parse(text)

    def plan(*arguments, of=known):
        options = cli.parser().parse_args(["experiment", "before-after", "x", *arguments])
        return experiment_cli.plan_of(options, of)

    assert (plan().settings.rank, plan().settings.learning_rate) == (4, 0.5)
    assert plan("--set", "rank=2").settings.rank == 2
    assert plan("--set", "rank=2").settings.learning_rate == 0.5
    assert plan("--preset", "seed-document").settings.learning_rate == 1e-4
    assert plan(of=project.parse(PROJECT)).settings == TrainingSettings()
    # A run that ended early would not have the steps of the others.
    assert plan().training(1, 70).patience is None


def test_several_characters_are_refused(tmp_path):
    from character_curator.experiment.before_after import before_after

    text = PROJECT.replace("[faces]", '[[subjects]]\nname = "b"\ndescription = "x"\n\n[faces]')
    with pytest.raises(ExperimentError, match="2 subjects"):
        before_after(project.parse(text), ExperimentPlan(), tmp_path / "out")


def test_figures_of_files_that_are_gone_are_not_kept(tmp_path):
    files = [tmp_path / name for name in ("lora.safetensors", "a.png", "b.png")]
    for path in files:
        path.touch()
    require_files(files)
    files[1].unlink()
    with pytest.raises(ExperimentError, match=r"1 of the 3 files .* such as .*a\.png"):
        require_files(iter(files))
