"""What a workflow file can carry in the place of a widget's value, a table a kind of widget.

A workflow is JSON that somebody else may have written: a widget may hold any JSON value, and a wire
of any type may lead to it.
"""

from __future__ import annotations

import json
import math
from typing import Any

LONG = 10_000_000
"""Letters of a text that somebody has pasted by mistake."""

_NOT_OF_ANY_KIND: dict[str, Any] = {
    "nothing": None,
    "a list": {"__value__": [1, "two", None]},
    "a mapping": {"name": {"of": ["a", "mapping"]}},
}
"""Values that are of no widget's kind, as the canvas writes lists and mappings."""

NUMBERS: dict[str, Any] = {
    "no number": math.nan,
    "infinite": math.inf,
    "infinitely small": -math.inf,
    "beyond measure": 1e308,
    "next to nothing": 5e-324,
    "minus nothing": -0.0,
    "minus one": -1,
    "below 32 bits": -(2**31) - 1,
    "beyond 53 bits": 2**53 + 1,
    "at 63 bits": 2**63,
    "beyond 64 bits": 2**64,
    "far beyond 64 bits": 10**300,
    "below 64 bits": -(2**63) - 1,
    "a text": "twelve",
    "a text that is a number": "7",
    "a text of many digits": "9" * 400,
    "a yes": True,
    **_NOT_OF_ANY_KIND,
}

TEXTS: dict[str, Any] = {
    "empty": "",
    "a space": " ",
    "lines of nothing": "\n\n \r\n\t\n",
    "half a character": "a\ud800b",
    "other half": "\udcff",
    "NUL": "a\0b",
    "control characters": "\x1b[2J\x07\x08\x7f",
    "other lines": "one\u2028two\x0bthree\x85four",
    "right to left": "\u202egnp.exe",
    "beyond the plane": "🧑🏽‍🚀" * 20,
    "out of the folder": "../../../../etc/passwd",
    "from the root": "/etc/passwd",
    "a home": "~/.ssh/id_rsa",
    "another system": "C:\\Windows\\system32\\con",
    "a device": "/dev/zero",
    "points": "...",
    "the folder itself": ".",
    "an address": "s3://bucket/folder",
    "a name beyond measure": "n" * 300,
    "a path beyond measure": "a/" * 5000,
    "10 MB": "x" * LONG,
    "10 MB of lines": "a, b\n" * (LONG // 5),
    "10 MB of numbers": "1 " * (LONG // 2),
    "200,000 lines": "a\n" * 200_000,
    "braces": "{" * 2000 + "}" * 2000,
    "a placeholder": "{unknown} {0.__class__} {trigger",
    "per cent": "%s%n%(x)d %",
    "a range beyond measure": "1-99999999999999999999",
    "many large ranges": "1-99999 " * 200,
    "a number beyond 64 bits": "99999999999999999999",
    "a number that is none": "seed=nan..inf",
    "equations": "=\n= =\n=> =>\na=\n=b",
    "a pattern that never ends": "/(a+)+$/ => b",
    "a pattern that is none": "/(/ => \\9",
    "bars": "|||\n| |\n||||||",
    "nested TOML": "a = " + "[" * 20_000,
    "TOML": "rank = 99999999999999999999\nalpha = nan\nepochs = inf",
    "other TOML": "rank = [1]\nalpha = {a = 1}\n__class__ = 1",
    "JSON": '{"a": [1, 2, {"b": null}]}',
    "a number": 7,
    "a large number": 10**300,
    "no number": math.nan,
    "a yes": True,
    **_NOT_OF_ANY_KIND,
}

CHOICES: dict[str, Any] = {
    "none of them": "no such choice",
    "empty": "",
    "half a character": "\ud800",
    "out of the folder": "../../etc/passwd",
    "10 MB": "x" * LONG,
    "a number": 1,
    "a yes": True,
    **_NOT_OF_ANY_KIND,
}

FLAGS: dict[str, Any] = {
    "a text": "false",
    "empty": "",
    "a number": 7,
    "no number": math.nan,
    **_NOT_OF_ANY_KIND,
}

WIRES: dict[str, Any] = {
    "a number": 1,
    "a text": "/etc",
    "half a character": "\ud800",
    "10 MB": "x" * LONG,
    **_NOT_OF_ANY_KIND,
}
"""Of inputs that are no widgets: their sockets take what the file says in their place."""

_BOX = {"x": 1, "y": 1, "width": 5, "height": 5}
BOXES: dict[str, Any] = {
    **WIRES,
    "a list in a list": {"__value__": [[1, "two"]]},
    "an empty list": {"__value__": []},
    "a box without sides": {"__value__": [{"x": 1, "width": 2}]},
    "a box of no numbers": {"__value__": [{**_BOX, "x": math.nan}] * 4},
    "a box in the infinite": {"__value__": [[{**_BOX, "width": math.inf}]] * 4},
    "a box beyond measure": {"__value__": [[{**_BOX, "width": 10**400}]] * 4},
    "no area": {"__value__": [[[5, 5, 5, 5]]] * 4},
    "frames that are none": {"frames": 7, "image_size": [4, 4]},
    "frames without faces": {"frames": [[{}]] * 4, "image_size": [4, 4]},
    "frames of no size": {"frames": [], "image_size": [0, 0]},
    "frames of no numbers": {"frames": [], "image_size": [math.nan, math.inf]},
    "frames of three sides": {"frames": [], "image_size": [1, 2, 3]},
    "points that are none": {
        "frames": [[{"bbox_xyxy": [1, 1, 3, 3], "landmarks_xy": [[1, 2]]}]] * 4,
        "image_size": [4, 4],
    },
    "corners that are none": {
        "frames": [[{"bbox_xyxy": ["a"], "landmarks_xy": []}]] * 4, "image_size": [4, 4],
    },
}  # fmt: skip
"""Of inputs that take what another node has found."""

BY_KIND = {
    "BOUNDING_BOX,FACE_LANDMARKS,BBOX,SEGS": BOXES,
    "INT": NUMBERS,
    "FLOAT": NUMBERS,
    "STRING": TEXTS,
    "COMBO": CHOICES,
    "BOOLEAN": FLAGS,
}

SAMPLE = {
    "INT": ("at 63 bits", "no number", "a text"),
    "FLOAT": ("no number", "a text", "beyond measure"),
    "STRING": ("half a character", "NUL", "10 MB", "from the root", "nothing"),
    "COMBO": ("none of them",),
    "BOOLEAN": ("a text",),
    "": ("a text", "nothing"),
}
"""What the short run tries of each kind."""


def values_of(kind: str, sample: int | None = None) -> dict[str, Any]:
    """Return the hostile values of a kind of input by their names.

    Args:
        kind: ComfyUI's name of its type.
        sample: A number: only one of them, which another number makes another one.
    """
    found = BY_KIND.get(kind, WIRES)
    if sample is None:
        return found
    few = SAMPLE[kind if kind in SAMPLE else ""]
    chosen = few[sample % len(few)]
    return {chosen: found[chosen]}


def as_read(value: Any) -> Any:
    """Return a value as a server reads it from a workflow file."""
    return json.loads(json.dumps(value))
