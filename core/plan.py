"""Plans: subjects x seeds x scenarios x takes, as data, and the requests they stand for.

A plan says what images there shall be; it knows no model. Each of its requests has a noise seed
of its own, derived by a hash from what names the request, so that any image can be made alone,
in any order, on any machine of several.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, ValidationError, model_validator

from . import atomic
from .counts import how_many
from .errors import CuratorError
from .naming import file_name, noise_seed, slug
from .options import Model, Whole

ORIGINAL = "original"
"""The kind of a reference image: the character, plainly lit, in front of nothing."""
SCENARIO = "scenario"
"""The kind of an image of the character in some scenario."""

SEED_DOCUMENT_SEEDS = tuple(range(966983, 966993))
"""The ten seeds of the seed-document recipe."""
MAXIMUM_SEED = 2**53
"""Seeds stay below this, so that a browser's number (a double) keeps every digit."""

Seed = Annotated[Whole, Field(ge=0, lt=MAXIMUM_SEED)]

_PLACEHOLDER = re.compile(r"\{(\w+)\}")


class PlanError(CuratorError):
    """A plan says something impossible or ambiguous."""


class Subject(Model):
    """A character: what it is called, and the words that describe it to the model."""

    name: str = Field(description='Names files and rows, such as "char1".')
    description: str = Field(
        default="",
        description="How the character looks, in the base model's words; before a LoRA exists this "
        "is all that the model knows of the character.",
    )
    trigger: str = Field(
        default="",
        description="The word that a LoRA will learn for the character; used in captions.",
    )
    class_word: str = Field(
        default="person", description='What the character is, such as "person" or "woman".'
    )


MOST_IMAGES = 200_000
"""The most images of one plan: its requests are listed in memory, about 3.5 kB each."""


class Scenario(Model):
    """A situation to show every subject in (or, under originals, a plain reference image)."""

    number: Whole = Field(
        ge=0,
        lt=2**31,
        description="Its number in file names, from 1 on, unique among its kind.",
    )
    name: str = Field(description='A short name for people, such as "golden hour".')
    prompt: str = Field(
        description="A fragment that is put into the plan's template; or, when it has a "
        "placeholder such as {description} itself, the whole prompt."
    )
    category: str = Field(
        default="", description='The group it counts for, such as "lighting" or "pose".'
    )
    negative: str = Field(
        default="",
        description="What the image must not show, in addition to the plan's negative prompt.",
    )
    takes: Whole | None = Field(
        default=None,
        ge=0,
        description="How many images of it a seed; as many as the plan says unless given.",
    )


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


class PlanRules(Model):
    """How many images, and how prompts and captions are put together."""

    seeds: tuple[Seed, ...] = Field(
        default=SEED_DOCUMENT_SEEDS,
        description="Seeds of the plan; each makes every original and every scenario once a take.",
    )
    takes: Whole = Field(default=1, ge=1, description="Images of each scenario and seed.")
    template: str = Field(
        default="{description}, {scenario}",
        description="The prompt; it names no trigger word, because a base model does not know it.",
    )
    caption: str = Field(
        default="{trigger} {class_word}, {scenario}",
        description="The text to train with; it names the trigger instead of the character's "
        "looks, so that the looks are learnt as part of the trigger.",
    )
    negative_prompt: str = Field(default="", description="What no image must show.")


class Plan(PlanRules):
    """Subjects x seeds x (originals and scenarios) x takes.

    Templates hold ``{description}``, ``{trigger}``, ``{class_word}``, ``{subject}`` and
    ``{scenario}`` (the scenario's prompt). What is empty leaves no stray comma behind.

    Raises:
        PlanError: The plan is empty, a name or number is used twice, a number is out of range, two
            subjects would share file names, or a template has an unknown placeholder.

    Example:
        >>> plan = Plan(
        ...     subjects=[
        ...         Subject(name="char1", description="red hair, freckles", trigger="char1",
        ...                 class_word="woman")
        ...     ],
        ...     seeds=[1, 2],
        ...     scenarios=[Scenario(number=26, name="park", prompt="in a park")],
        ... )
        >>> first, second = plan.requests()
        >>> first.prompt, first.caption
        ('red hair, freckles, in a park', 'char1 woman, in a park')
        >>> second.file_name
        'char_char1_seed_2_scenario_26_01.png'
    """

    subjects: tuple[Subject, ...] = Field(description="The characters.")
    scenarios: tuple[Scenario, ...] = Field(
        default=(), description="What to show the characters in."
    )
    originals: tuple[Scenario, ...] = Field(
        default=(),
        description="Reference images, with plain prompts of their own; numbered separately.",
    )

    @model_validator(mode="wrap")
    @classmethod
    def _possible(cls, values: Any, check: Callable[[Any], Plan]) -> Plan:
        """Check the plan as a whole; say what is wrong with it in its own words."""
        try:
            plan = check(values)
        except ValidationError as error:
            raise PlanError(_fault(error, values)) from error
        _check(plan)
        return plan

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

    def request(self, subject: str, seed: int, kind: str, scenario: int, take: int) -> Request:
        """Return one request by what names it, of any take: also of more than the plan has.

        Raises:
            PlanError: The plan has no such subject, seed or scenario.
        """
        person = next((one for one in self.subjects if one.name == subject), None)
        scene = next((s for k, s in self.kinds() if k == kind and s.number == scenario), None)
        if person is None or scene is None or seed not in self.seeds or take < 1:
            raise PlanError(
                f"The plan has no {kind} {scenario} of '{subject}' with seed {seed} and take "
                f"{take}. Name what its sections list; takes are counted from 1."
            )
        return _request(person, seed, kind, scene, take, _texts(self, person, scene))

    def shard(self, index: int, count: int) -> tuple[Request, ...]:
        """Return the part of :meth:`requests` that machine ``index`` of ``count`` makes.

        The parts are disjoint and together complete; their sizes differ by one at most.
        """
        return shard(self._requests, index, count)

    def as_mapping(self) -> dict[str, Any]:
        """Return the plan as plain lists, mappings, texts and numbers, defaults left out."""
        values = {**self.model_dump(exclude_defaults=True), "seeds": self.seeds}
        order = ("seeds", "subjects", "scenarios", "originals", *values)
        plain = {name: values[name] for name in order if name in values}
        return {k: list(v) if isinstance(v, tuple) else v for k, v in plain.items()}

    @staticmethod
    def from_mapping(mapping: Mapping[str, Any]) -> Plan:
        """Make a plan from plain data, as in a TOML table.

        Raises:
            PlanError: A key is unknown or missing, or the plan is impossible.
        """
        return Plan.model_validate(dict(mapping))

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
                takes = plan.takes if scenario.takes is None else scenario.takes
                for take in range(1, takes + 1):
                    yield _request(
                        subject, seed, kind, scenario, take, texts[kind, scenario.number]
                    )


def _request(
    subject: Subject,
    seed: int,
    kind: str,
    scenario: Scenario,
    take: int,
    texts: tuple[str, str, str],
) -> Request:
    prompt, negative, caption = texts
    return Request(
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
    named = subject.replace(description=f"{subject.trigger} {subject.class_word}".strip())
    return fill(scenario.prompt, subject), negative, fill(scenario.prompt, named)


def _check(plan: Plan) -> None:
    """Check that a plan is possible and unambiguous as a whole.

    Raises:
        PlanError: It is not; the message says why.
    """
    if not plan.subjects or not plan.seeds or not (plan.scenarios or plan.originals):
        raise PlanError(
            "A plan needs at least one subject, one seed, and one scenario or original: "
            f"this one has {len(plan.subjects)}, {len(plan.seeds)} and "
            f"{len(plan.scenarios) + len(plan.originals)}."
        )
    _unique([subject.name for subject in plan.subjects], "subject")
    owners: dict[str, str] = {}
    for subject in plan.subjects:
        if not subject.name.strip():
            raise PlanError("A subject has no name. Give it one, such as 'char1'.")
        # Some file systems do not tell capital letters from small ones.
        other = owners.setdefault(slug(subject.name).casefold(), subject.name)
        if other != subject.name:
            raise PlanError(
                f"The subjects '{other}' and '{subject.name}' would write files of the same names "
                f"(char_{slug(subject.name)}_…). Give one of them another name."
            )
    _unique(plan.seeds, "seed")
    _unique([scenario.number for scenario in plan.scenarios], "scenario number")
    _unique([scenario.number for scenario in plan.originals], "original's number")
    for subject in plan.subjects:
        for _, scenario in plan.kinds():
            _texts(plan, subject, scenario)
    takes = sum(plan.takes if s.takes is None else s.takes for _, s in plan.kinds())
    total = len(plan.subjects) * len(plan.seeds) * takes
    if total > MOST_IMAGES:
        raise PlanError(
            f"The plan asks for {how_many(total, 'image')} (subjects: {len(plan.subjects)}, seeds: "
            f"{len(plan.seeds)}, takes: {takes:,} of each), and one plan makes {MOST_IMAGES:,} at "
            "most. Take fewer takes, seeds or scenarios, or several projects."
        )


def _unique(values: Sequence[object], what: str) -> None:
    seen: set[object] = set()
    for value in values:
        if value in seen:
            raise PlanError(f"The {what} {value!r} is there twice. Remove or rename one.")
        seen.add(value)


def _fault(error: ValidationError, values: Any) -> str:
    """Say in words what the first fault of a plan's values is; a wrong key may hide a right one."""
    faults = error.errors(include_url=False)
    fault = min(faults, key=lambda fault: fault["type"] != "extra_forbidden")
    value, where, key = fault["input"], "the plan", str(next(iter(fault["loc"]), ""))
    model: type[Model] = Plan
    part, kind = values, "plan"
    if len(fault["loc"]) > 1 and key != "seeds":
        place, index = key, int(fault["loc"][1])
        model = Subject if place == "subjects" else Scenario
        where, kind, part = f"{place}[{index + 1}]", place.removesuffix("s"), values[place][index]
        key = str(fault["loc"][2]) if len(fault["loc"]) > 2 else ""
    keys = ", ".join(model.model_fields)
    if not key or fault["type"].startswith("model"):
        return f"{where} is {value!r}, not a table with the keys {keys}."
    if fault["type"] == "extra_forbidden":
        return f"Unknown key '{key}' in {where}. Known are: {keys}."
    if fault["type"] == "missing":
        return f"{where} is incomplete: it has no {key}. Its keys: {keys}."
    if fault["type"] == "string_type":
        return f"{key} = {value!r} in {where} is not a text."
    if key == "seeds" and len(fault["loc"]) > 1:
        return f"Seed {value!r} is not a whole number from 0 to 2**53 - 1."
    if key == "takes" and model is Plan:
        return f"takes = {value!r}: a plan needs one take at least."
    if key == "takes":
        return f"{kind} '{part.get('name')}' has takes = {value!r}: use 0, 1 …"
    if key == "number":
        return (
            f"The number {value!r} of {kind} '{part.get('name')}' is not a whole number from 0 to "
            "2**31 - 1."
        )
    return f"{key} = {value!r} in {where}: {fault['msg']}."
