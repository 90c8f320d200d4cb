"""What an experiment will do, written down before anything is looked at."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, Protocol

from .. import atomic
from ..counts import how_many, worded
from ..errors import CuratorError
from ..json_text import parse
from ..plain_files import plain_text
from ..training.settings import TrainingSettings
from .arms import ARMS

PLAN_FILE = "plan.json"

MAIN = ("raw", "curated")
"""The two arms of the before/after table."""


class PlanChangedError(CuratorError):
    """The folder holds another experiment."""


class ExperimentError(CuratorError):
    """An experiment that cannot be made as it is asked for."""


def require_files(paths: Iterable[Path]) -> None:
    """Refuse to keep the figures of a run for good when what they are of is gone.

    Raises:
        ExperimentError: A file is not there; a folder was taken away while the run went on.
    """
    listed = list(paths)
    gone = [path for path in listed if not path.is_file()]
    if gone:
        raise ExperimentError(
            f"{len(gone):,} of the {how_many(len(listed), 'file')} of this run "
            f"{worded(len(gone), 'is', 'are')} gone, such as {gone[0]}: its "
            "figures are not kept. Run the experiment again: what is missing is made again."
        )


@dataclass(frozen=True)
class ExperimentPlan:
    """The budget and the settings, the same in every arm.

    Attributes:
        steps: Optimizer steps of every run.
        repeats: Runs of the two main arms, with training seeds 1, 2, …
        ablation: Runs of the other arms.
        settings: Training options; ``steps``, ``seed`` and ``validate_every`` are set by the
            experiment, and no run ends early (``patience``).
        validation: Images in the common validation set.
        validate_steps: Optimizer steps from one validation to the next, to the nearest epoch.
        images: New prompts that every LoRA is evaluated with.
        leakage: Also make the images of the class word.
        weights: Which weights are evaluated: those with the lowest validation loss, or the last.
        identity_threshold: A given one; derived once for all arms unless given.
        context: What the experiment is about: model, images, thresholds, quotas.
    """

    steps: int = 600
    repeats: int = 3
    ablation: int = 1
    settings: TrainingSettings = field(default_factory=TrainingSettings)
    validation: int = 16
    validate_steps: int = 50
    pictures: int = 100
    leakage: bool = True
    weights: Literal["best", "last"] = "best"
    identity_threshold: float | None = None
    context: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("steps", "repeats", "validation", "validate_steps", "pictures"):
            if getattr(self, name) < 1:
                raise ExperimentError(f"{name} is {getattr(self, name)}: it must be at least 1.")
        if self.ablation < 0:
            raise ExperimentError("The ablation's repeats can't be fewer than 0.")

    def runs(self) -> tuple[tuple[str, int], ...]:
        """Return (arm, training seed) of every run; the main arms first, taking turns."""
        main = [(arm, seed) for seed in range(1, self.repeats + 1) for arm in MAIN]
        rest = [
            (arm, seed) for seed in range(1, self.ablation + 1) for arm in ARMS if arm not in MAIN
        ]
        return (*main, *rest)

    def training(self, seed: int, pictures: int, *, with_prior: bool = False) -> TrainingSettings:
        """Return the settings of one run.

        Args:
            seed: Of the training.
            pictures: How many images its arm has; validations come at about the same steps in
                every arm.
            with_prior: Whether a prior-preservation image goes with each of them.
        """
        rows = pictures * self.settings.repeats * (2 if with_prior else 1)
        per_step = self.settings.batch_size * self.settings.accumulation
        per_epoch = max(1, -(-rows // per_step))
        every = max(1, round(self.validate_steps / per_epoch))
        return self.settings.replace(
            steps=self.steps,
            seed=seed,
            validate_every=every,
            # Nothing may end a run early, and nothing else is kept of it.
            patience=None,
            checkpoint_every=None,
            sample_every=None,
        )

    def as_mapping(self) -> dict[str, Any]:
        """Return the plan as JSON knows it."""
        values = asdict(replace(self, context={}))
        values["settings"] = self.settings.recorded()
        return {**values, "runs": [list(run) for run in self.runs()], "context": dict(self.context)}


class Recorded(Protocol):
    """What can be written down as a plan."""

    def as_mapping(self) -> dict[str, Any]:
        """Return the plan as JSON knows it."""


def commit(plan: Recorded, folder: Path) -> None:
    """Write the plan, or check that the folder is of the same plan.

    Raises:
        PlanChangedError: It is of another; what is done is not mixed with what is asked for now.
    """
    path = folder / PLAN_FILE
    text = json.dumps(plan.as_mapping(), indent=1, sort_keys=True, default=str) + "\n"
    try:
        before = parse(plain_text(path))
    except FileNotFoundError:
        atomic.write_text(path, text)
        return
    except (OSError, ValueError) as error:
        raise PlanChangedError(f"{path} cannot be read: {error}. Take another folder.") from error
    now = parse(text)
    other = sorted(key for key in {**before, **now} if before.get(key) != now.get(key))
    if other:
        raise PlanChangedError(
            f"{folder} holds an experiment with another plan; different are: {', '.join(other)}. "
            "Choose another folder (--output): a plan is not changed after looking at results."
        )
