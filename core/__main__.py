"""The program: ``character-curator``, or ``python -m character_curator``."""

from __future__ import annotations

import sys
from collections.abc import Callable

from .leaving import run_to_the_end


def main() -> int:
    """Run the command line in a process that is its own; return its exit code.

    A request to stop (Ctrl-C, SIGTERM, SIGHUP) ends with 130 whenever it comes.
    """
    return run_to_the_end(_command_line)


def _command_line() -> Callable[[], int]:
    from .cli import main as run

    return run


if __name__ == "__main__":
    sys.exit(main())
