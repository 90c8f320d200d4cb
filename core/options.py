"""What a model's fields say: for options of the command line, widgets, help and messages.

A setting is declared once, as a field of a pydantic model with its type, limits, default and one
sentence. Whatever offers it to a person asks here what the field says.
"""

from __future__ import annotations

import math
import types
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StrictBool, WrapValidator
from pydantic.fields import FieldInfo
from pydantic_core import PydanticCustomError, PydanticUndefined

Kind = Literal["flag", "whole", "number", "choice", "text", "numbers", "wholes", "texts", "other"]

_M = TypeVar("_M", bound="Model")


def _a_number(value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise PydanticCustomError("no_number", "give a number")
    return value


def _as_given(value: Any, check: Callable[[Any], Any]) -> Any:
    check(_a_number(value))
    return value


Flag = StrictBool
"""True or false, and nothing that only looks like it."""
Whole = Annotated[int, BeforeValidator(_a_number)]
"""A whole number; neither a text nor true."""
Number = Annotated[float, Field(allow_inf_nan=False), WrapValidator(_as_given)]
"""A finite number, kept as it was given: 8 stays 8, so that it is written as it was read."""
Fraction = Annotated[float, Field(ge=0, le=1)]
"""A number from 0 to 1."""
Price = Annotated[
    float | None,
    Field(
        ge=0,
        description="What the machine costs an hour, for the statistics; no cost is told unless "
        "given.",
    ),
]
"""What an hour of the machine costs."""
Currency = Annotated[str, Field(description="What that price is in.")]
"""The currency of a :data:`Price`."""


class Model(BaseModel):
    """What is declared once: never changed after it was made, and without unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    def replace(self: _M, **changes: Any) -> _M:
        """Return a copy with other values, which are checked as when it is made."""
        values = {name: getattr(self, name) for name in type(self).model_fields}
        return type(self).model_validate({**values, **changes})


@dataclass(frozen=True)
class Option:
    """A field of a model, as a person may set it.

    Attributes:
        name: The field's name; a TOML file's key.
        kind: What values it takes.
        default: What it is where nothing is said; ``None`` too where it has no default.
        text: One sentence on what it is.
        choices: The values to choose from, of a choice.
        optional: Whether it may be ``None``.
        least: Lower limit.
        most: Upper limit.
        above: Whether the lower limit itself is excluded.
        below: Whether the upper limit itself is excluded.
    """

    name: str
    kind: Kind
    default: Any
    text: str
    choices: tuple[Any, ...] = ()
    optional: bool = False
    least: float = -math.inf
    most: float = math.inf
    above: bool = False
    below: bool = False

    @property
    def allowed(self) -> str:
        """What to give, in words, such as "give a whole number, 1 or more"."""
        if self.kind == "flag":
            return "say true or false"
        if self.kind == "choice":
            return f"choose one of {', '.join(map(str, self.choices))}"
        if self.kind == "texts":
            return "name one at least, as a text or a list of texts"
        what = {"whole": "a whole number", "number": "a number", "numbers": "two numbers"}
        what["wholes"] = "whole numbers"
        return f"give {what.get(self.kind, 'a text')}{self._limits}"

    @property
    def _limits(self) -> str:
        least, most = (f"{limit:g}" for limit in (self.least, self.most))
        if self.most < math.inf:
            return f", from {least} to {'below ' * self.below}{most}"
        if self.above:
            return f" above {least}"
        return f", {least} or more" if self.least > -math.inf else ""


def option(model: type[BaseModel], name: str) -> Option:
    """Return what a model's field says.

    Raises:
        KeyError: The model has no such field.
    """
    field = model.model_fields[name]
    base, metadata, optional = _taken_apart(field.annotation)
    kind, choices, inner = _kind(base)
    return Option(
        name,
        kind,
        None if field.default is PydanticUndefined else field.default,
        field.description or "",
        choices,
        optional,
        **_limits([*metadata, *inner, *field.metadata]),
    )


def options(model: type[BaseModel]) -> tuple[Option, ...]:
    """Return what each of a model's fields says, in their order."""
    return tuple(option(model, name) for name in model.model_fields)


def _taken_apart(annotation: Any) -> tuple[Any, list[Any], bool]:
    """Return a type without its annotations and without None, its annotations, and whether None."""
    metadata: list[Any] = []
    optional = False
    while True:
        if get_origin(annotation) is Annotated:
            annotation, *more = get_args(annotation)
            metadata = [*_flat(more), *metadata]
        elif get_origin(annotation) in (Union, types.UnionType):
            rest = [part for part in get_args(annotation) if part is not type(None)]
            if len(rest) == len(get_args(annotation)) or len(rest) != 1:
                return annotation, metadata, optional
            annotation, optional = rest[0], True
        else:
            return annotation, metadata, optional


def _flat(metadata: list[Any]) -> list[Any]:
    """Return annotations with those that ``Field`` holds in its place."""
    found: list[Any] = []
    for entry in metadata:
        found += entry.metadata if isinstance(entry, FieldInfo) else [entry]
    return found


def _kind(base: Any) -> tuple[Kind, tuple[Any, ...], list[Any]]:
    """Return the kind of a type, its choices, and the annotations of what it holds."""
    simple: dict[Any, Kind] = {bool: "flag", int: "whole", float: "number", str: "text"}
    if base in simple:
        return simple[base], (), []
    if get_origin(base) is Literal:
        return "choice", get_args(base), []
    parts = [_taken_apart(part) for part in get_args(base) if part is not Ellipsis]
    if get_origin(base) is tuple and all(part[0] is float for part in parts):
        return "numbers", (), parts[0][1]
    if get_origin(base) is tuple and all(part[0] is int for part in parts):
        return "wholes", (), parts[0][1]
    if any(part[0] is str for part in parts):
        return "texts", (), []
    return "other", (), []


def _limits(metadata: list[Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for entry in metadata:
        if getattr(entry, "ge", None) is not None:
            found["least"] = entry.ge
        if getattr(entry, "gt", None) is not None:
            found |= {"least": entry.gt, "above": True}
        if getattr(entry, "le", None) is not None:
            found["most"] = entry.le
        if getattr(entry, "lt", None) is not None:
            found |= {"most": entry.lt, "below": True}
    return found
