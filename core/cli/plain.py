"""Text that somebody else may have written, on its way to a terminal: no markup, no commands."""

from __future__ import annotations

import logging
import re


def escape(text: object) -> str:
    """Return what somebody else may have written (a name, a message) as plain text for rich.

    It sees no markup in it; what would steer the terminal is shown by its number.
    """
    from rich.markup import escape as without_markup

    return without_markup(visible(str(text)))


def visible(text: str) -> str:
    """Return a text whose control characters are shown by number instead of obeyed.

    So are characters that turn the direction of what follows, and the bytes of file names that are
    no text. Line feeds and tabs stay.
    """
    return _STEERING.sub(lambda found: _named(found.group()), text)


_STEERING = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def _named(character: str) -> str:
    number = ord(character)
    if 0xDC80 <= number <= 0xDCFF:  # how Python keeps a byte of a name that is no UTF-8
        number -= 0xDC00
    return f"\\x{number:02x}" if number < 0x100 else f"\\u{number:04x}"


class PlainLog(logging.Formatter):
    """Formats what is logged so that no name in it steers the terminal."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line of a record."""
        return visible(super().format(record))
