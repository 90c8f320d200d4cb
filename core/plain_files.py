"""Files of others, read with care: one that is no plain file is refused before it is waited for.

Whoever gave us a folder may have put a pipe into it where a text is looked for: reading it would
wait for ever, and reading a device would never end.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path


def plain_bytes(path: Path) -> bytes:
    """Return what a file holds.

    Raises:
        OSError: It cannot be read, or is no plain file (links are followed).
    """
    with open(path, "rb", opener=plain) as file:
        return file.read()


def plain_text(path: Path, encoding: str = "utf-8", errors: str = "strict") -> str:
    """Return the text that a file holds, every line ended by a line feed.

    Raises:
        OSError: It cannot be read, or is no plain file (links are followed).
        UnicodeDecodeError: It is not in that encoding.
    """
    with open(path, encoding=encoding, errors=errors, opener=plain) as file:
        return file.read()


def plain(path: str, flags: int) -> int:
    """Open a file as ``open(path, opener=plain)`` asks for it, unless it is no plain file.

    Raises:
        OSError: It cannot be opened, or is a pipe, a socket or a device.
    """
    # Without waiting for whoever would write into a pipe; of plain files that changes nothing.
    handle = os.open(path, flags | getattr(os, "O_NONBLOCK", 0))
    mode = os.fstat(handle).st_mode
    if stat.S_ISREG(mode) or stat.S_ISDIR(mode):  # Python refuses folders by itself
        return handle
    os.close(handle)
    raise OSError(errno.ESPIPE, "It is no plain file", path)
