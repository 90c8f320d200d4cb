"""TOML documents: read with care, written from values, and where in one a key stands."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .plain_files import plain_text

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_HEADER = re.compile(r"^\s*(\[\[?)\s*([^\]]+?)\s*\]\]?\s*(#.*)?$")
_KEY = re.compile(r"""^\s*((?:[A-Za-z0-9_-]+|"[^"]*"|'[^']*')(?:\s*\.\s*[A-Za-z0-9_"'-]+)*)\s*=""")


class TomlError(ValueError):
    """A text is no TOML that can be used."""


def tables(text: str) -> dict[str, Any]:
    """Return a TOML document as nested tables.

    Raises:
        TomlError: It is no TOML, is nested so deeply that it cannot be read, or holds a number of
            thousands of digits.
    """
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise TomlError("it is nested too deeply") from None
    except ValueError as error:
        raise TomlError(str(error)) from error


def read_tables(path: Path) -> dict[str, Any]:
    """Return a TOML file as nested tables.

    Raises:
        OSError: It cannot be read.
        ValueError: It is no UTF-8, or as :func:`tables`.
    """
    return tables(plain_text(path, "utf-8-sig"))


def recipe_toml(recipe: Mapping[str, Any]) -> str:
    """Return the recipe as TOML; keys without a value are left out, for TOML knows no null."""
    import tomlkit

    return tomlkit.dumps(plain(recipe))


def line_of(text: str, keys: list[Any]) -> int | None:
    """Return the line (from 1) where a key of a TOML document stands.

    Args:
        text: The document.
        keys: Names of tables and keys and, inside an array of tables, positions from 0. When the
            key itself is absent, the nearest table above it is found.
    """
    best: tuple[int, int] | None = None
    table: list[Any] = []
    counts: dict[tuple[Any, ...], int] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if header := _HEADER.match(line):
            names = _split(header.group(2))
            table = _with_positions(names, counts, new=header.group(1) == "[[")
            best = _better(best, table, keys, number)
        elif key := _KEY.match(line):
            best = _better(best, [*table, *_split(key.group(1))], keys, number)
    return best[1] if best else None


def _split(dotted: str) -> list[str]:
    return [part.strip().strip("\"'") for part in dotted.split(".")]


def _with_positions(names: list[str], counts: dict[tuple[Any, ...], int], new: bool) -> list[Any]:
    place: list[Any] = []
    for depth, name in enumerate(names):
        place.append(name)
        if new and depth == len(names) - 1:
            counts[tuple(place)] = counts.get(tuple(place), -1) + 1
        if tuple(place) in counts:
            place.append(counts[tuple(place)])
    return place


def _better(
    best: tuple[int, int] | None, place: list[Any], keys: list[Any], number: int
) -> tuple[int, int] | None:
    """Keep the deepest place that is a beginning of ``keys``."""
    if place != keys[: len(place)] or (best and best[0] >= len(place)):
        return best
    return len(place), number


def plain(value: Any) -> Any:
    """Return a value as TOML and JSON know it: plain tables and lists without nulls."""
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items() if v is not None}
    if isinstance(value, list | tuple | set | frozenset):
        listed = sorted(value) if isinstance(value, set | frozenset) else value
        return [plain(v) for v in listed if v is not None]
    return str(value) if isinstance(value, Path) else value
