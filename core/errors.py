"""The root of every error that a user can cause."""

from __future__ import annotations

import errno


class CuratorError(Exception):
    """Something the user can mend.

    The message says what is wrong, where, and what to do next. Each stage defines its own small
    subclasses beside the code that raises them; the command line prints the message without a
    traceback and ends with ``exit_code``.
    """

    exit_code = 2


class WriteError(CuratorError, OSError):
    """A file cannot be written, or a folder not be read; the message says what that means.

    It is an ``OSError`` too, with its number, for whoever can do without the file.
    """

    def __init__(self, path: object, error: OSError) -> None:
        self._message = f"{path}: {_meaning(error)}"
        super().__init__(self._message)
        self.errno, self.strerror, self.filename = error.errno, error.strerror, error.filename

    def __str__(self) -> str:
        return self._message


def _meaning(error: OSError) -> str:
    """Say what an operating system's error means, and what to do about it."""
    reason = (error.strerror or str(error)).lower().rstrip(".")
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return (
            f"{reason}. Nothing half-written is left. Free some space and run the same command "
            "again: what is done is kept."
        )
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"{reason}. Choose a place that you may read and write."
    if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG,
                       errno.EEXIST):  # fmt: skip
        return f"{reason}. Check the name."
    if error.errno == errno.ESPIPE:
        return f"{reason}. Take it away, or put a file in its place."
    if error.errno == errno.EMFILE:
        return f"{reason}. Let this process open more files (ulimit -n), and run again."
    return f"{reason}. If that comes again, have the disk or the network drive checked."


class MissingDependencyError(CuratorError):
    """An optional library is not installed."""

    def __init__(self, library: str, purpose: str, install: str) -> None:
        super().__init__(f"{purpose} needs the library '{library}'. Install it with: {install}")
