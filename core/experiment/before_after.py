"""Before and after curation: the same training on all raw images and on the curated set."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from .. import atomic, pipeline
from ..counts import how_many
from ..dataset.captions import caption
from ..dataset.facts import DatasetFacts, facts_of
from ..evaluation.baseline import prepare
from ..evaluation.images import read_reference
from ..evaluation.setup import Setup
from ..evaluation.threshold import ThresholdRule
from ..features import FeatureStore
from ..imageset import ImageSet
from ..progress import Progress, silent
from ..project import Project
from ..project_parts import STORE_FILE, quotas_of, thresholds_of
from ..project_training import prior_images
from ..training.data.buckets import Box, Size
from ..training.data.examples import Example
from ..training.data.images import read_prior
from ..training.data.prior import make_prior
from ..training.job import PriorImages
from .arms import ArmAssignment, Curation, analysed, make_arms, paths_of
from .plan import ExperimentError, ExperimentPlan, commit
from .runs import SharedInputs, known_result, run_arm
from .sharing import alone, together
from .tables import markdown, report_of

log = logging.getLogger(__name__)

ARMS_FILE, REPORT_FILE, TABLE_FILE = "arms.json", "before-after.json", "before-after.md"
RUNS_FOLDER, PRIOR_FOLDER = "runs", "prior"

OnRun = Callable[[str, int, int, int, Mapping[str, Any]], None]
"""Told of every run: arm, seed, how many are done, how many there are, the result."""


def before_after(
    project: Project,
    plan: ExperimentPlan,
    output: Path | str,
    *,
    base: Path | str = ".",
    shard: tuple[int, int] = (0, 1),
    progress: Progress = silent,
    on_run: OnRun | None = None,
) -> dict[str, Any]:
    """Train and evaluate every arm of an experiment.

    The plan is written first and is not changed afterwards. Every run's result stays in its folder
    and is not made again, so a stopped experiment goes on where it was. After every run the report
    so far is written: ``before-after.json`` and ``before-after.md``.

    Args:
        project: Whose images, thresholds and quotas.
        plan: Budget and settings.
        output: Folder of the experiment.
        base: The folder that the project's relative paths start from.
        shard: Which part of the runs this process makes: (index, count). Processes may work in one
            folder at the same time; the report is of all runs that are done.
        progress: Watches.
        on_run: Told of every run.

    Returns:
        The report, as ``before-after.json`` has it.

    Raises:
        ExperimentError: The project is of several characters.
        PlanChangedError: The folder holds an experiment with another plan.
        CuratorError: Something else that the message says how to mend.
    """
    from ..training.denoisers.load import load

    if len(project.subjects) > 1:
        raise ExperimentError(
            f"The project has {how_many(len(project.subjects), 'subject')}; an experiment is about "
            "one."
        )
    root = Path(output).expanduser()
    with alone(root, "raw images"):
        images = raw_images(project, base, progress)
    plan = with_context(plan, project, images)
    commit(plan, root)
    curation = curation_of(project, base)
    facts = facts_of(project.model_dump(mode="json", exclude_none=True), project.project.name)
    store_file = Path(base).expanduser() / project.project.output / STORE_FILE
    with FeatureStore(store_file) as store:
        setup = setup_of(plan, facts)
        analysers = setup.analysers(store)
        with alone(root, "measuring"):
            found = analysed(
                images, curation, analysers.analyser, analysers.embedder, store, progress
            )
            reference = read_reference(images, analysers, curation.references, progress)
        arms = make_arms(found, curation, plan.validation)
        _write_arms(arms, root / ARMS_FILE)
        make = together(root, shard)
        baseline = prepare(setup, analysers, reference, root, progress, make=make)
        examples = examples_of(found, project)
        with alone(root, "prior images"):
            prior = prior_of(project, base, examples, setup, root, progress)
        denoiser = load(setup.model, device=str(setup.sampling.get("device", "auto")))
        shared = SharedInputs(
            denoiser,
            baseline,
            [examples[row] for row in arms.validation],
            store,
            plan.weights,
            prior,
        )
        report: dict[str, Any] = {}
        mine = plan.runs()[shard[0] :: shard[1]]
        for done, (arm, seed) in enumerate(mine, 1):
            own = [examples[row] for row in arms.rows[arm]]
            folder = root / RUNS_FOLDER / f"{arm}-{seed}"
            settings = plan.training(seed, len(own), with_prior=bool(prior))
            result = run_arm(shared, arm, own, settings, folder, progress)
            results = results_of(plan, root)
            report = {
                "plan": plan.as_mapping(),
                "identity_threshold": baseline.threshold.as_mapping(),
                "validation_images": len(arms.validation),
                "base": base_figures(result),
                **report_of(results),
                "runs": [r for runs in results.values() for r in runs],
            }
            write_report(report, root)
            if on_run is not None:
                on_run(arm, seed, done, len(mine), result)
    return report


def raw_images(project: Project, base: Path | str, progress: Progress = silent) -> ImageSet:
    """Return all images of a project before any curation; makes those that are missing."""
    if project.source is not None:
        return pipeline.source_images(project, base, progress=progress)
    return pipeline.generate(project, base, progress=progress)


def with_context(plan: ExperimentPlan, project: Project, images: ImageSet) -> ExperimentPlan:
    """Return the plan with what the experiment is about written into it."""
    from dataclasses import replace

    described = project.model_dump(mode="json", exclude_none=True, exclude={"project"})
    context = {"pictures": len(images), "fingerprint": images.fingerprint(), "project": described}
    return replace(plan, context=context)


def curation_of(project: Project, base: Path | str) -> Curation:
    """Return how a project curates."""
    faces = project.faces
    return Curation(
        thresholds_of(project),
        project.quality.minimum,
        tuple(Path(base).expanduser() / Path(path).expanduser() for path in faces.references),
        project.clusters.count,
        project.clusters.random_state,
        project.duplicates.threshold,
        project.selection.total,
        tuple(quotas_of(project)),
        project.quality.formula,
    )


def setup_of(plan: ExperimentPlan, facts: DatasetFacts) -> Setup:
    """Return how every LoRA of an experiment is evaluated."""
    return Setup.of_facts(
        facts,
        count=plan.pictures,
        rule=ThresholdRule(plan.identity_threshold),
        with_class=plan.leakage,
    )


def examples_of(images: ImageSet, project: Project) -> list[Example]:
    """Return every image as one to train on, captioned as the dataset's are."""
    # One subject at most: found images, which name none, are of it too.
    trigger = next((s.trigger or s.name for s in project.subjects), None)
    strategy = project.dataset.captions
    return [
        Example(
            path,
            row["hash"] or "",
            caption(row, trigger, strategy),
            Size(row["width"] or 0, row["height"] or 0),
            _box(row.get("face_box")),
        )
        for path, row in zip(images.paths(), images.table.iter_rows(named=True), strict=True)
    ]


def _box(values: Sequence[float] | None) -> Box | None:
    if values is None:
        return None
    left, top, right, bottom = (float(edge) for edge in values)
    return left, top, right, bottom


def prior_of(
    project: Project,
    base: Path | str,
    examples: Sequence[Example],
    setup: Setup,
    root: Path,
    progress: Progress = silent,
) -> list[Example]:
    """Return the prior-preservation images that go along in every arm, as the project wants them.

    Where it says how many to make, they show the scenes of all raw images and are kept in the
    experiment's folder.

    Args:
        project: Its section [training] names a folder, or says how many; else there are none.
        base: The folder that the project's relative paths start from.
        examples: All raw images.
        setup: Of the evaluation: its character and its base model.
        root: Folder of the experiment.
        progress: Watches.
    """

    def make(count: int, seed: int) -> PriorImages:
        return make_prior(
            [example.caption for example in examples],
            setup.character.as_anybody,
            setup.backend(),
            root / PRIOR_FOLDER,
            count,
            seed=seed,
            batch_size=setup.batch_size,
            progress=progress,
        )

    images = prior_images(project.training, base, make)
    if project.training is None or images is None:
        return []
    return read_prior(images, project.training.prior_caption)[0]


def base_figures(result: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the base model does by itself, from any run's result."""
    series = result["series"]
    return {name: series[name] for name in ("base", "base_of_class") if name in series}


def write_report(report: Mapping[str, Any], root: Path) -> None:
    """Write the report as JSON and as Markdown."""
    text = json.dumps(report, indent=1, allow_nan=False, default=str)
    atomic.write_text(root / REPORT_FILE, text + "\n")
    atomic.write_text(root / TABLE_FILE, markdown(report))


def results_of(plan: ExperimentPlan, output: Path) -> dict[str, list[Mapping[str, Any]]]:
    """Return the results that are there, by arm, in the plan's order."""
    results: dict[str, list[Mapping[str, Any]]] = {}
    for arm, seed in plan.runs():
        found = known_result(output / RUNS_FOLDER / f"{arm}-{seed}")
        if found is not None:
            results.setdefault(arm, []).append(found)
    return results


def _write_arms(arms: ArmAssignment, path: Path) -> None:
    names: dict[str, Sequence[str]] = {arm: paths_of(arms, rows) for arm, rows in arms.rows.items()}
    names["validation"] = paths_of(arms, arms.validation)
    atomic.write_text(path, json.dumps(names, indent=1) + "\n")
