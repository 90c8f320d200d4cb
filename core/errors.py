"""The root of every error that a user can cause."""

from __future__ import annotations


class CuratorError(Exception):
    """Something the user can mend.

    The message says what is wrong, where, and what to do next. Each stage defines its own small
    subclasses beside the code that raises them; the command line prints the message without a
    traceback and ends with ``exit_code``.
    """

    exit_code = 2


class MissingDependencyError(CuratorError):
    """An optional library is not installed."""

    def __init__(self, library: str, purpose: str, install: str) -> None:
        super().__init__(f"{purpose} needs the library '{library}'. Install it with: {install}")
