"""Plans: subjects x seeds x scenarios x takes, as data, and the requests they stand for.

A plan says what images there shall be; it knows no model. Each of its requests has a noise seed
of its own, derived by a hash from what names the request, so that any image can be made alone,
in any order, on any machine of several.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from . import atomic
from .naming import file_name, noise_seed
from .plan_checks import PlanError, check, record, without_defaults

ORIGINAL = "original"
"""The kind of a reference image: the character, plainly lit, in front of nothing."""
SCENARIO = "scenario"
"""The kind of an image of the character in some scenario."""

PUBLISHED_SEEDS = tuple(range(966983, 966993))
"""The ten seeds of the published recipe."""

_PLACEHOLDER = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True)
class Subject:
    """A character.

    Attributes:
        name: Names files and rows, such as "char1".
        description: How the character looks, in the base model's words. Before a LoRA exists this
            is all that the model knows of the character.
        trigger: The word that a LoRA will learn for the character; used in captions.
        class_word: What the character is, such as "person" or "woman".
    """

    name: str
    description: str = ""
    trigger: str = ""
    class_word: str = "person"


@dataclass(frozen=True)
class Scenario:
    """One thing to show the character in.

    Attributes:
        number: Its number in file names, from 1 on, unique among its kind.
        name: A short name for people, such as "golden hour".
        prompt: A fragment that is put into the plan's template; or, when it has a placeholder such
            as ``{description}`` itself, the whole prompt.
        category: The group it counts for, such as "lighting" or "pose".
        negative: What the image must not show, in addition to the plan's negative prompt.
        takes: How many images of it a seed; ``None`` means as many as the plan says.
    """

    number: int
    name: str
    prompt: str
    category: str = ""
    negative: str = ""
    takes: int | None = None


@dataclass(frozen=True)
class Request:
    """One image to make: all that decides its content, except for the model and its settings."""

    subject: str
    seed: int
    kind: str
    scenario: int
    take: int
    category: str
    scenario_name: str
    prompt: str
    negative_prompt: str
    caption: str
    noise_seed: int

    @property
    def file_name(self) -> str:
        """The image's file name, such as ``char_char1_seed_966983_scenario_26_01.png``."""
        return file_name(self.subject, self.seed, self.kind, self.scenario, self.take)

    def as_row(self) -> dict[str, Any]:
        """Return the request as columns of an image set."""
        return asdict(self)

    @staticmethod
    def from_row(row: Mapping[str, Any]) -> Request:
        """Read back what :meth:`as_row` returned; further columns are ignored.

        Raises:
            KeyError: A column is missing.
        """
        return Request(**{item.name: row[item.name] for item in fields(Request)})


@dataclass(frozen=True)
class Plan:
    """Subjects x seeds x (originals and scenarios) x takes.

    Templates hold ``{description}``, ``{trigger}``, ``{class_word}``, ``{subject}`` and
    ``{scenario}`` (the scenario's prompt). What is empty leaves no stray comma behind.

    Attributes:
        subjects: The characters.
        seeds: Seeds of the plan; each makes every original and every scenario once a take.
        scenarios: What to show the characters in.
        originals: Reference images, with plain prompts of their own; numbered separately.
        takes: Images of each scenario a seed.
        template: The prompt. It names no trigger word, because a base model does not know it.
        caption: The text to train with. It names the trigger instead of the character's looks, so
            that the looks are learnt as part of the trigger.
        negative_prompt: What no image must show.

    Raises:
        PlanError: The plan is empty, a name or number is used twice, a number is out of range, two
            subjects would share file names, or a template has an unknown placeholder.

    Example:
        >>> plan = Plan(
        ...     subjects=(Subject("char1", "red hair, freckles", "char1", "woman"),),
        ...     seeds=(1, 2),
        ...     scenarios=(Scenario(26, "park", "in a park"),),
        ... )
        >>> first, second = plan.requests()
        >>> first.prompt, first.caption
        ('red hair, freckles, in a park', 'char1 woman, in a park')
        >>> second.file_name
        'char_char1_seed_2_scenario_26_01.png'
    """

    subjects: tuple[Subject, ...]
    seeds: tuple[int, ...] = PUBLISHED_SEEDS
    scenarios: tuple[Scenario, ...] = ()
    originals: tuple[Scenario, ...] = ()
    takes: int = 1
    template: str = "{description}, {scenario}"
    caption: str = "{trigger} {class_word}, {scenario}"
    negative_prompt: str = ""

    def __post_init__(self) -> None:
        for name in ("subjects", "seeds", "scenarios", "originals"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        check(self)
        for subject in self.subjects:
            for _, scenario in self.kinds():
                _texts(self, subject, scenario)

    def kinds(self) -> Iterable[tuple[str, Scenario]]:
        """Yield (kind, scenario) for the originals, then the scenarios."""
        yield from ((ORIGINAL, scenario) for scenario in self.originals)
        yield from ((SCENARIO, scenario) for scenario in self.scenarios)

    @cached_property
    def _requests(self) -> tuple[Request, ...]:
        return tuple(_requests_of(self))

    def requests(self) -> tuple[Request, ...]:
        """Return every request, ordered by subject, seed, kind (originals first), number, take."""
        return self._requests

    def shard(self, index: int, count: int) -> tuple[Request, ...]:
        """Return the part of :meth:`requests` that machine ``index`` of ``count`` makes.

        The parts are disjoint and together complete; their sizes differ by one at most.
        """
        return shard(self._requests, index, count)

    def as_mapping(self) -> dict[str, Any]:
        """Return the plan as plain lists, mappings, texts and numbers, defaults left out."""
        return {"seeds": list(self.seeds), **without_defaults(self)}

    @staticmethod
    def from_mapping(mapping: Mapping[str, Any]) -> Plan:
        """Make a plan from plain data, as in a TOML table.

        Raises:
            PlanError: A key is unknown or missing, or the plan is impossible.
        """
        values = dict(mapping)
        for key, kind in (("subjects", Subject), ("scenarios", Scenario), ("originals", Scenario)):
            if key in values:
                entries = enumerate(values[key], 1)
                values[key] = tuple(record(kind, entry, f"{key}[{i}]") for i, entry in entries)
        return record(Plan, values, "the plan")

    def to_toml(self) -> str:
        """Return the plan as TOML."""
        import tomlkit

        return tomlkit.dumps(self.as_mapping())

    @staticmethod
    def from_toml(text: str) -> Plan:
        """Read a plan from TOML.

        Raises:
            PlanError: The text is no TOML, or the plan is impossible.
        """
        import tomlkit
        from tomlkit.exceptions import ParseError

        try:
            return Plan.from_mapping(tomlkit.parse(text).unwrap())
        except ParseError as error:
            raise PlanError(f"The plan is not valid TOML: {error}. Mend that line.") from error

    def write(self, path: Path) -> None:
        """Write the plan as a TOML file, atomically."""
        atomic.write_text(path, self.to_toml())


def shard(requests: Sequence[Request], index: int, count: int) -> tuple[Request, ...]:
    """Return block ``index`` of ``count`` blocks of neighbours, as even as possible.

    Raises:
        PlanError: ``index`` is not one of 0 .. ``count`` - 1.
    """
    if not 0 <= index < count:
        raise PlanError(
            f"Shard {index} of {count} does not exist: shards are counted from 0 to {count - 1}."
        )
    return tuple(requests[len(requests) * index // count : len(requests) * (index + 1) // count])


def fill(template: str, subject: Subject, scenario: str = "") -> str:
    """Fill a template's placeholders and tidy up what empty ones leave behind.

    Braces that hold anything but a single word stay as they are (``{a|b}`` is left to whoever
    reads the prompt).

    Raises:
        PlanError: A placeholder is unknown.
    """
    values = {
        "description": subject.description,
        "trigger": subject.trigger,
        "class_word": subject.class_word,
        "subject": subject.name,
        "scenario": scenario,
    }

    def value(match: re.Match[str]) -> str:
        if match[1] not in values:
            known = ", ".join(f"{{{name}}}" for name in values)
            raise PlanError(f"Unknown placeholder {match[0]} in '{template}'. Known are: {known}.")
        return values[match[1]]

    parts = (" ".join(part.split()) for part in _PLACEHOLDER.sub(value, template).split(","))
    return ", ".join(part for part in parts if part)


def _requests_of(plan: Plan) -> Iterable[Request]:
    for subject in plan.subjects:
        texts = {
            (kind, scenario.number): _texts(plan, subject, scenario)
            for kind, scenario in plan.kinds()
        }
        for seed in plan.seeds:
            for kind, scenario in plan.kinds():
                prompt, negative, caption = texts[kind, scenario.number]
                takes = plan.takes if scenario.takes is None else scenario.takes
                for take in range(1, takes + 1):
                    yield Request(
                        subject=subject.name,
                        seed=seed,
                        kind=kind,
                        scenario=scenario.number,
                        take=take,
                        category=scenario.category,
                        scenario_name=scenario.name,
                        prompt=prompt,
                        negative_prompt=negative,
                        caption=caption,
                        noise_seed=noise_seed(subject.name, seed, scenario.number, take, kind),
                    )


def _texts(plan: Plan, subject: Subject, scenario: Scenario) -> tuple[str, str, str]:
    """Return prompt, negative prompt and caption."""
    negative = fill(f"{plan.negative_prompt}, {scenario.negative}", subject)
    if not _PLACEHOLDER.search(scenario.prompt):
        prompt = fill(plan.template, subject, scenario.prompt)
        return prompt, negative, fill(plan.caption, subject, scenario.prompt)
    # A whole prompt: in its caption the trigger stands where the looks were described.
    named = replace(subject, description=f"{subject.trigger} {subject.class_word}".strip())
    return fill(scenario.prompt, subject), negative, fill(scenario.prompt, named)
