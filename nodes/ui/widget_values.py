"""Values of widgets, looked at before a node runs.

The canvas keeps a widget within its limits; a workflow file and a wire need not. ComfyUI converts
what a file says and compares it with the limits, and lets values that are no numbers (NaN) and
texts of any length pass; of what comes over a wire it looks at nothing.
"""

from __future__ import annotations

import sys
from typing import Any

from ...core.counts import how_many
from ...core.errors import CuratorError
from ...core.naming import table_name

LONGEST_LINE = 100_000
"""Letters of a text in a widget of one line, at most."""
LONGEST_TEXT = 1_000_000
"""Letters of a text in a widget of several lines, at most."""
_BITS = 2**63
"""Whole numbers that neither files, tables nor tensors hold begin here."""
_KINDS = ("STRING", "INT", "FLOAT", "BOOLEAN", "COMBO")
_SHOWN = 40


class WidgetError(CuratorError):
    """A widget's value is of another kind than the widget, or outside of its limits."""

    def __init__(self, name: str, needs: str, value: Any) -> None:
        super().__init__(
            f"'{name}' needs {needs}, and {_told(value)} came. Set the widget anew, or connect "
            "what gives such a value."
        )


class LongTextError(CuratorError):
    """A text in a widget is longer than anything that it is meant for."""

    def __init__(self, name: str, letters: int, most: int) -> None:
        super().__init__(
            f"'{name}' has {how_many(letters, 'letter')}, and takes {most:,} at most. Shorten "
            "the text."
        )


def widget_value(one: Any, value: Any) -> Any:
    """Return the value of a widget in its own kind.

    Args:
        one: The input, as the node's schema has it.
        value: What came; values of inputs that are no widgets are returned as they are.

    Raises:
        WidgetError: It is of another kind, no number, not within the limits, or none of the
            choices.
        LongTextError: It is a text of more than :data:`LONGEST_TEXT` letters, or in a widget of
            one line more than :data:`LONGEST_LINE`.
    """
    kind = one.get_io_type()
    if kind in _KINDS and getattr(value, "ndim", None) == 0:
        value = value.item()  # a single number of NumPy or torch, as other nodes give them
    if kind == "STRING":
        return _text(one, value)
    if kind in ("INT", "FLOAT"):
        return _number(one, value, whole=kind == "INT")
    if kind == "BOOLEAN":
        if isinstance(value, bool) or (isinstance(value, int) and value in (0, 1)):
            return bool(value)
        raise WidgetError(one.id, "true or false", value)
    if kind == "COMBO" and (not isinstance(value, str) or value not in one.options):
        shown = ", ".join(map(str, one.options[:8])) + (", …" if len(one.options) > 8 else "")
        raise WidgetError(one.id, f"one of its choices ({shown})", value)
    return value


def _text(one: Any, value: Any) -> str:
    if isinstance(value, int | float) and abs(value) < _BITS:
        return str(value)  # as ComfyUI writes a number that a file has in a text's place
    if not isinstance(value, str):
        raise WidgetError(one.id, "a text", value)
    most = LONGEST_TEXT if getattr(one, "multiline", False) else LONGEST_LINE
    if len(value) > most:
        raise LongTextError(one.id, len(value), most)
    return value


def _number(one: Any, value: Any, *, whole: bool) -> int | float:
    least = -_BITS if one.min is None and whole else one.min
    most = _BITS - 1 if one.max is None and whole else one.max
    what = "a whole number" if whole else "a number"
    if least is not None and most is not None:
        what += f" from {least:,} to {most:,}"
    if not isinstance(value, int | float):
        raise WidgetError(one.id, what, value)
    fits = (least is None or value >= least) and (most is None or value <= most)
    bound = _BITS - 1 if whole else sys.float_info.max
    if not fits or not -bound - 1 <= value <= bound or (whole and value != int(value)):
        raise WidgetError(one.id, what, value)
    return int(value) if whole else value


def _told(value: Any) -> str:
    """Say what came, in a few words."""
    if value is None:
        return "nothing"
    if isinstance(value, str):
        return f"'{table_name(value[:_SHOWN])}{'…' if len(value) > _SHOWN else ''}'"
    if isinstance(value, int) and abs(value) >= _BITS:
        return "a number beyond 64 bits"
    if isinstance(value, bool | int | float):
        return str(value)
    return f"something else ({type(value).__name__})"
