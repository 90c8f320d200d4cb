"""The widgets of TrainLoRA as settings of core's trainer."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

if TYPE_CHECKING:
    from ...core.training.outputs.samples import SampleSettings
    from ...core.training.settings import TrainingSettings

AS_SET_HERE = "as set here"
_OF_THE_RECIPE = (
    "rank", "alpha", "targets", "learning_rate", "epochs", "steps", "batch_size",
)  # fmt: skip
"""Widgets that the seed-document recipe takes the place of."""


class OptionsError(ValueError):
    """The text of further options cannot be read."""


def training_settings(
    preset: str, widgets: Mapping[str, Any], options: str = ""
) -> TrainingSettings:
    """Return the settings.

    Args:
        preset: :data:`AS_SET_HERE`, or the name of a preset, which goes before the widgets of
            what it names.
        widgets: Settings by name; ``steps`` 0 stands for none.
        options: Further settings, ``name = value`` a line, as TOML; they go before everything.

    Raises:
        OptionsError: The options are no TOML.
        SettingsError: A setting does not exist, or a value makes no sense.
    """
    from ...core.training.settings import TrainingSettings

    values = {**widgets, "steps": widgets.get("steps") or None}
    values["sample_every"] = widgets.get("sample_every") or None
    name = None if preset == AS_SET_HERE else preset
    if name is not None:
        values = {key: value for key, value in values.items() if key not in _OF_THE_RECIPE}
    return TrainingSettings.from_mapping({**values, **read_options(options)}, name)


def read_options(text: str) -> dict[str, Any]:
    """Read settings, one a line.

    Raises:
        OptionsError: A line is no TOML.
    """
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise OptionsError(
            f"options: {error}. Write one a line, such as 'dora = true' or 'schedule = \"cosine\"'."
        ) from error


def faults(options: str) -> str | None:
    """Say what is wrong with the text of further options; None if nothing is."""
    from ...core.training.settings import TrainingSettings

    try:
        found = TrainingSettings.faults(read_options(options))
    except OptionsError as error:
        return str(error)
    return " ".join(found.values()) or None


def sample_settings(prompts: str, seed: int, steps: int, cfg: float) -> SampleSettings:
    """Return what is sampled: a prompt a line; without any, captions of the training set."""
    from ...core.training.outputs.samples import SampleSettings

    lines = tuple(line.strip() for line in prompts.splitlines() if line.strip())
    return SampleSettings(prompts=lines, seed=seed, steps=steps, guidance=cfg)


def with_room_for(settings: TrainingSettings, step: int) -> TrainingSettings:
    """Return settings whose buckets suit a model that wants multiples of ``step`` pixels."""
    if settings.bucket_step % step == 0 or step > min(settings.sides):
        return settings
    return settings.replace(bucket_step=-(-settings.bucket_step // step) * step)
