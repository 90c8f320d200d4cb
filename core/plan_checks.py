"""Plans from and to plain data, and what can be wrong with them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields
from typing import TYPE_CHECKING, Any, TypeVar

from .errors import CuratorError
from .naming import slug

if TYPE_CHECKING:
    from .plan import Plan

MAXIMUM_SEED = 2**53
"""Seeds stay below this, so that a browser's number (a double) keeps every digit."""

_T = TypeVar("_T")


class PlanError(CuratorError):
    """A plan says something impossible or ambiguous."""


def check(plan: Plan) -> None:
    """Check that a plan is possible and unambiguous.

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
    for subject in plan.subjects:
        if not subject.name.strip():
            raise PlanError("A subject has no name. Give it one, such as 'char1'.")
    owners: dict[str, str] = {}
    for subject in plan.subjects:
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
    for seed in plan.seeds:
        if not _whole(seed) or not 0 <= seed < MAXIMUM_SEED:
            raise PlanError(f"Seed {seed!r} is not a whole number from 0 to 2**53 - 1.")
    for kind, scenario in plan.kinds():
        if not _whole(scenario.number) or not 0 <= scenario.number < 2**31:
            raise PlanError(
                f"The number {scenario.number!r} of {kind} '{scenario.name}' is not a whole number "
                "from 0 to 2**31 - 1."
            )
        if scenario.takes is not None and (not _whole(scenario.takes) or scenario.takes < 0):
            raise PlanError(f"{kind} '{scenario.name}' has takes = {scenario.takes!r}: use 0, 1 …")
    if not _whole(plan.takes) or plan.takes < 1:
        raise PlanError(f"takes = {plan.takes!r}: a plan needs one take at least.")


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _unique(values: Sequence[object], what: str) -> None:
    seen: set[object] = set()
    for value in values:
        if value in seen:
            raise PlanError(f"The {what} {value!r} is there twice. Remove or rename one.")
        seen.add(value)


def record(kind: type[_T], values: object, where: str) -> _T:
    """Make a dataclass from plain data.

    Args:
        kind: The dataclass.
        values: A mapping with its fields.
        where: What the data is, for messages.

    Raises:
        PlanError: A key is unknown, missing or not a text where one is needed.
    """
    names = [item.name for item in fields(kind) if item.init]  # type: ignore[arg-type]
    if not isinstance(values, Mapping):
        raise PlanError(f"{where} is {values!r}, not a table with the keys {', '.join(names)}.")
    for key in values:
        if key not in names:
            raise PlanError(f"Unknown key '{key}' in {where}. Known are: {', '.join(names)}.")
    for item in fields(kind):  # type: ignore[arg-type]
        if item.type == "str" and not isinstance(values.get(item.name, ""), str):
            raise PlanError(f"{item.name} = {values[item.name]!r} in {where} is not a text.")
    try:
        return kind(**values)
    except TypeError as error:
        raise PlanError(f"{where} is incomplete: {error}. Its keys: {', '.join(names)}.") from error


def without_defaults(value: Any) -> dict[str, Any]:
    """Return a dataclass of dataclasses as plain data; what has its default is left out."""
    result: dict[str, Any] = {}
    for item in fields(value):
        content = getattr(value, item.name)
        if item.default is not MISSING and content == item.default:
            continue
        if isinstance(content, tuple):
            content = [e if isinstance(e, int) else without_defaults(e) for e in content]
        result[item.name] = content
    return result
