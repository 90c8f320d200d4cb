"""JSON that lies on a disk: somebody may have damaged it, or written it to do damage."""

from __future__ import annotations

import json
import math
from typing import Any, NoReturn


class JsonError(ValueError):
    """A text is no JSON that can be used."""


def parse(text: str | bytes, *, strict: bool = False) -> Any:
    """Return what a JSON text says.

    Args:
        text: UTF-8, where it is bytes.
        strict: Also refuse what JSON does not know and Python reads: NaN, infinite numbers, and
            halves of characters, which no file, table or terminal takes.

    Raises:
        JsonError: It is no JSON, or nested so deeply that it cannot be read.
    """
    refuse: dict[str, Any] = {}
    if strict:
        refuse = {"parse_constant": _refuse_number, "parse_float": _finite}
    try:
        found = json.loads(text, **refuse)
        if strict:
            json.dumps(found, ensure_ascii=False).encode()
    except RecursionError:
        raise JsonError("it is nested too deeply") from None
    except UnicodeEncodeError:
        raise JsonError("it holds half a character") from None
    except JsonError:
        raise
    except ValueError as error:
        raise JsonError(str(error)) from error
    return found


def parse_object(text: Any) -> dict[str, Any] | None:
    """Return the object that a JSON text holds; None where it holds none, or is no text."""
    try:
        found = parse(text)
    except (TypeError, JsonError):
        return None
    return found if isinstance(found, dict) else None


def number(value: Any) -> float:
    """Return a number of a JSON text as one that can be reckoned with.

    Raises:
        JsonError: It is none, is infinite, or beyond all measure.
    """
    try:
        if isinstance(value, int | float) and math.isfinite(value):
            return float(value)
    except OverflowError:
        pass
    raise JsonError("a value in it is no number, or none that can be reckoned with")


def _finite(text: str) -> float:
    number = float(text)
    return number if math.isfinite(number) else _refuse_number(text[:40])


def _refuse_number(name: str) -> NoReturn:
    raise JsonError(f"it holds the number {name}")
