"""The widgets of TrainLoRA as settings of core's trainer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ...core.errors import CuratorError
from ..ui.lines import lines_of

if TYPE_CHECKING:
    from ...core.lora.families import Guess
    from ...core.training.outputs.samples import SampleSettings
    from ...core.training.presets import Chosen
    from ...core.training.settings import TrainingSettings

MOST_SAMPLES = 100
"""Prompts of sample images, at most: each is made again and again while it trains."""
AS_SET_HERE = "as set here"
_OF_THE_RECIPE = (
    "rank", "alpha", "targets", "learning_rate", "epochs", "steps", "batch_size",
)  # fmt: skip
"""Widgets that the seed-document recipe takes the place of."""
_OWN_DEFAULTS = {"sample_every": 10}
"""What widgets are at first where that is another than the option's default."""


class OptionsError(CuratorError):
    """The text of further options cannot be read."""


def training_settings(
    preset: str, widgets: Mapping[str, Any], options: str = "", guess: Guess | None = None
) -> Chosen:
    """Return the settings, and where they come from.

    Args:
        preset: :data:`AS_SET_HERE`; or the recipe, which goes before the widgets of what it names;
            or ``auto`` or a family's name: widgets that differ from their defaults go before it.
        widgets: Settings by name; ``steps`` 0 stands for none.
        options: Further settings, ``name = value`` a line, as TOML; they go before everything.
        guess: Which family the MODEL is of.

    Raises:
        OptionsError: The options are no TOML.
        SettingsError: A setting does not exist, or a value makes no sense.
    """
    from ...core.options import option
    from ...core.training.presets import choose
    from ...core.training.settings import PRESETS, TrainingSettings

    values = {**widgets, "steps": widgets.get("steps") or None}
    values["sample_every"] = widgets.get("sample_every") or None
    more = read_options(options)
    defaults = {
        key: _OWN_DEFAULTS.get(key, option(TrainingSettings, key).default) for key in values
    }
    changed = {key: value for key, value in values.items() if value != defaults[key]}
    if preset == AS_SET_HERE:
        found = choose({**values, **more}, "default")
        return replace(found, origin="as set on the node", stated={**changed, **more})
    if preset in PRESETS:
        values = {key: value for key, value in values.items() if key not in _OF_THE_RECIPE}
        found = choose({**values, **more}, preset)
        return replace(found, stated={k: v for k, v in found.stated.items() if k in changed | more})
    found = choose({**changed, **more}, preset, guess)
    own = {key: value for key, value in _OWN_DEFAULTS.items() if key not in found.stated}
    return replace(found, settings=found.settings.replace(**own))


def preset_choices() -> list[str]:
    """Return what the widget ``preset`` offers."""
    from ...core.training.presets import preset_names

    names = [name for name in preset_names() if name != "default"]
    return [names[0], AS_SET_HERE, *names[1:]]


def read_options(text: str) -> dict[str, Any]:
    """Read settings, one a line.

    Raises:
        OptionsError: A line is no TOML.
    """
    from ...core.toml_lines import TomlError, tables

    try:
        return tables(text)
    except TomlError as error:
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


def with_samples(chosen: Chosen, preset: str, steps: int, cfg: float) -> Chosen:
    """Return the choice with what the widgets of sample images say.

    Args:
        chosen: The settings.
        preset: Of the widget; with :data:`AS_SET_HERE` widgets count at their defaults too.
        steps: Of the widget.
        cfg: Of the widget.
    """
    from ...core.defaults import SAMPLE_GUIDANCE, SAMPLE_STEPS

    if preset == AS_SET_HERE:
        return replace(chosen, steps=steps, guidance=cfg)
    return chosen.with_samples(
        None if cfg == SAMPLE_GUIDANCE else cfg, None if steps == SAMPLE_STEPS else steps
    )


def sample_settings(prompts: str, chosen: Chosen) -> SampleSettings:
    """Return what is sampled: a prompt a line; without any, captions of the training set.

    Raises:
        LinesError: There are more than :data:`MOST_SAMPLES`.
    """
    from ...core.training.outputs.samples import SampleSettings

    lines = tuple(lines_of("sample_prompts", prompts, MOST_SAMPLES))
    return SampleSettings(
        prompts=lines, seed=chosen.settings.seed, steps=chosen.steps, guidance=chosen.guidance
    )


def with_room_for(settings: TrainingSettings, step: int) -> TrainingSettings:
    """Return settings whose buckets suit a model that wants multiples of ``step`` pixels."""
    if settings.bucket_step % step == 0 or step > min(settings.sides):
        return settings
    return settings.replace(bucket_step=-(-settings.bucket_step // step) * step)
