"""Damage to bytes, and values of another form in trees of JSON and TOML; all of it seeded."""

from __future__ import annotations

import copy
import json
import math

import numpy as np

MARKS = (
    b"\x00", b"\xff", b"\x00" * 8, b"\xff" * 8, b"\x7f\xff\xff\xff", b"\x80\x00\x00\x00",
    b"\xff\xff\xff\x7f", b"\x00\x00\x27\x10", b"\xef\xbb\xbf", b"\xff\xfe", b"\xed\xa0\x80",
    b"[" * 3000, b"{" * 50, b"9" * 5000, b"\n", b'"', b"\\u0000", b"\\ud800", b"NaN", b"1e999",
    b"../", b"%s%n", b"PK\x03\x04", b"<script>", b"\x1b[2J",
)  # fmt: skip
"""What readers stumble over."""

VALUES = (
    None, True, False, 0, -1, 1, 2**31, -(2**31) - 1, 2**63, -(2**63) - 1, 10**30, 0.5, -0.0,
    math.nan, math.inf, -math.inf, 1e308, 5e-324, "", " ", "a", "\x00", "\ud800", "é", "NaN",
    "../../x", "/", "~nobody/x", "a" * 3000, "{", "{trigger:{caption}}", "{0}", "[/b]", "9" * 5000,
    "1e999", "-1", "true", "\x1b[2J", [], {}, [[]], [None], [1, 2], [1, 2, 3, 4], ["a", "b"],
    {"a": 1}, {"": None}, [{}], {"a": {"a": {"a": []}}}, [math.nan, math.inf, 0, 1],
)  # fmt: skip
"""What stands in the place of another value."""


def damaged(data: bytes, rng: np.random.Generator) -> bytes:
    """Return bytes with one to four kinds of damage: flipped, cut, put in, repeated, moved."""
    changed = bytearray(data)
    for _ in range(int(rng.integers(1, 5))):
        place = int(rng.integers(len(changed) + 1))
        length = min(int(rng.geometric(0.05)), len(changed) - place)
        kind = int(rng.integers(8))
        if kind <= 2 and changed:
            for one in rng.integers(0, len(changed), int(rng.integers(1, 9))):
                changed[one] ^= 1 << int(rng.integers(8))
        elif kind == 3 and changed:
            changed[min(place, len(changed) - 1)] = int(rng.integers(256))
        elif kind == 4:
            del changed[place : place + length]
        elif kind == 5:
            changed[place : place + length] = MARKS[int(rng.integers(len(MARKS)))]
        elif kind == 6:
            changed[place:place] = changed[place : place + length] * int(rng.integers(1, 40))
        elif rng.random() < 0.3:
            del changed[place:]
    return bytes(changed)


def altered(tree: object, rng: np.random.Generator) -> object:
    """Return a tree of tables and lists in which one to three values are of another form."""
    tree = copy.deepcopy(tree)
    for _ in range(int(rng.integers(1, 4))):
        places = list(_places(tree))
        if not places:
            return _value(rng)
        table, key = places[int(rng.integers(len(places)))]
        kind = rng.random()
        if kind < 0.7:
            table[key] = _value(rng)
        elif kind < 0.85:
            del table[key]
        elif isinstance(table, dict):
            table[str(_value(rng))[:40]] = table.pop(key)
        else:
            table[key:key] = [table[key]] * int(rng.integers(1, 4))
    return _value(rng) if rng.random() < 0.03 else tree


def json_damaged(data: bytes, rng: np.random.Generator) -> bytes:
    """Return JSON, or lines of it, with other values in it; now and then damaged as bytes too."""
    if rng.random() < 0.25:
        return damaged(data, rng)
    text = data.decode("utf-8", "replace")
    try:
        changed = _text(altered(json.loads(text), rng))
    except ValueError:  # a line a value
        lines = text.splitlines() or [""]
        one = int(rng.integers(len(lines)))
        try:
            lines[one] = _text(altered(json.loads(lines[one]), rng))
        except ValueError:
            return damaged(data, rng)
        changed = "\n".join(lines) + "\n"
    return changed.encode("utf-8", "surrogatepass")


def toml_damaged(data: bytes, rng: np.random.Generator) -> bytes:
    """Return TOML with other values in it; now and then damaged as bytes too."""
    import tomlkit

    if rng.random() < 0.25:
        return damaged(data, rng)
    tree = altered(tomlkit.parse(data.decode()).unwrap(), rng)
    try:
        return tomlkit.dumps(tree).encode("utf-8", "surrogatepass")
    except Exception:  # what TOML does not know: null, no table
        return damaged(data, rng)


def _text(tree: object) -> str:
    return json.dumps(tree, ensure_ascii=False)


def _value(rng: np.random.Generator) -> object:
    return copy.deepcopy(VALUES[int(rng.integers(len(VALUES)))])


def _places(tree: object):
    """Yield each table or list below a tree, with each key or position in it."""
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if _is_list(tree) else ()
    for key, value in items:
        yield tree, key
        yield from _places(value)


def _is_list(tree: object) -> bool:
    return isinstance(tree, list)
