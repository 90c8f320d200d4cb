"""Which settings of two versions of a dataset differ: thresholds, models, and all others."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ..toml_lines import read_tables
from .facts import DatasetFacts, FactsError, read_facts
from .sidecars import RECIPE_FILE
from .version_list import Version

THRESHOLDS, MODELS = "thresholds", "models"
GROUPS: Mapping[str, tuple[str, ...]] = {
    THRESHOLDS: ("quality.", "duplicates.", "faces.minimum_", "faces.choice", "faces.references"),
    MODELS: ("model.", "clip.", "faces.", "fingerprints."),
    "selection": ("selection.", "clusters."),
    "plan": ("plan.", "subjects.", "scenarios.", "originals.", "source"),
    "dataset": ("dataset.", "project."),
    "training": ("training.",),
    "tools": ("tools.",),
}
"""Groups of settings, and how the keys of each begin; a key is of the first that fits."""

_OWN_PLACE = ("project.output",)  # where measurements are kept decides nothing
_FACTS = ("quality.minimum", "faces.minimum_confidence", "duplicates.threshold", "faces.pack",
          "clip.model", "clip.pretrained", "dataset.license", "dataset.trigger")  # fmt: skip


@dataclass(frozen=True)
class SettingChange:
    """A setting that differs.

    Attributes:
        group: One of :data:`GROUPS`.
        key: Its name, with the tables of the recipe that it stands in.
        before: Its value in the first version, as text; empty where it is not said.
        after: Its value in the second.
    """

    group: str
    key: str
    before: str
    after: str


def setting_changes(before: Version, after: Version) -> tuple[SettingChange, ...]:
    """Return the settings in which two versions differ, group by group.

    They are those of the recipe, and where it does not say it, of ``facts.json`` and the record.
    What only one of the two versions can say, for the other is older than its record, is left out.
    """
    known, told = settings_of(before), settings_of(after)
    recorded = before.record is not None and after.record is not None
    changes = [
        SettingChange(group_of(key), key, known.get(key, ""), told.get(key, ""))
        for key in sorted({*known, *told})
        if known.get(key) != told.get(key)
        and (recorded or not key.startswith(("tools.", "fingerprints.")))
    ]
    order = list(GROUPS)
    return tuple(sorted(changes, key=lambda change: order.index(change.group)))


def settings_of(version: Version) -> dict[str, str]:
    """Return every setting that a version says, as text, by its name."""
    values = {
        key: value for key, value in _flat(_recipe(version)) if key not in _OWN_PLACE and value
    }
    try:
        said = zip(_FACTS, _said(read_facts(version.folder)), strict=True)
    except FactsError:
        said = zip((), (), strict=True)
    for key, value in said:
        if value not in (None, ""):
            values.setdefault(key, _text(value))
    if version.record is not None:
        values |= dict(_flat(version.record.models, "fingerprints."))
        values |= dict(_flat(version.record.tools, "tools."))
    return values


def group_of(key: str) -> str:
    """Return the group that a setting is of; the dataset's for what fits none."""
    return next((name for name, starts in GROUPS.items() if key.startswith(starts)), "dataset")


def _said(facts: DatasetFacts) -> tuple[Any, ...]:
    clip = facts.clip or ("", "")
    return (facts.minimum_quality, facts.minimum_confidence, facts.duplicates, facts.faces, *clip,
            facts.license, facts.trigger)  # fmt: skip


def _recipe(version: Version) -> Mapping[str, Any]:
    try:
        return read_tables(version.folder / RECIPE_FILE)
    except (OSError, ValueError):
        return {}


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield each value of nested tables as text; tables of a list go by their name or number."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        elif isinstance(value, list) and value and all(isinstance(v, Mapping) for v in value):
            for n, entry in enumerate(value):
                name = entry.get("number", entry.get("name", n))
                yield from _flat(entry, f"{prefix}{key}.{name}.")
        else:
            yield f"{prefix}{key}", _text(value)


def _text(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(map(_text, value))
    if isinstance(value, bool):
        return str(value).lower()
    return str(value)
