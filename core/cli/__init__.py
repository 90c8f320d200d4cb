"""The command line: ``character-curator COMMAND``; a module here for each group of commands.

A module of commands has one entry, ``add_commands(command)``, which calls ``command(name, run,
text)`` for each of them and adds its arguments. ``run(options, console)`` returns the exit code and
what ``--json`` prints. A command that looks for faces sets ``analyses``: what is wrong with the
libraries' builds is then said first.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Callable, Sequence
from typing import Any

from .. import __version__
from ..analysis.builds import build_faults
from ..errors import CuratorError
from . import curation, evaluation, experiment, faces, miniature, training, verification
from .output import EXIT_STOPPED, escape, write_json
from .threads import sleep_while_waiting

_EPILOG = """\
exit codes: 0 done; 1 done, but not as wanted (an image that could not be reproduced, a dataset
that is not ready, a LoRA that has an issue);
2 something to mend, which the message names; 130 stopped by Ctrl-C (run again to go on)"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit code."""
    from rich.console import Console

    if arguments is None:  # the process is ours
        sleep_while_waiting()
    options = parser().parse_args(arguments)
    console = Console(stderr=True, quiet=options.quiet)
    logging.basicConfig(
        level=logging.DEBUG if options.verbose else logging.ERROR,
        format="%(levelname)s %(name)s: %(message)s",
    )
    _quiet_libraries()
    if getattr(options, "analyses", False):
        for fault in build_faults():
            console.print(f"[yellow]Note[/]: {escape(fault)}")
    try:
        code, result = options.command(options, console)
    except CuratorError as error:
        if options.json:
            write_json({"error": type(error).__name__, "message": str(error)})
        else:
            console.print(f"[bold red]{type(error).__name__}[/]: {escape(str(error))}")
        return error.exit_code
    except KeyboardInterrupt:
        console.print("Stopped. Run the same command again: it goes on where it was.")
        return EXIT_STOPPED
    if options.json:
        write_json(result)
    return code


def parser() -> argparse.ArgumentParser:
    """Return the parser of every command."""
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--json", action="store_true", help="print the result as JSON on stdout")
    common.add_argument("--quiet", action="store_true", help="no progress and no messages")
    common.add_argument("--verbose", action="store_true", help="log what the stages decide")

    whole = argparse.ArgumentParser(
        prog="character-curator",
        description="Generate, curate and export training sets for a character.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    whole.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = whole.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, run: Callable[..., Any], text: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, parents=[common], help=text, description=text)
        sub.set_defaults(command=run)
        return sub

    for module in (curation, faces, training, evaluation, verification, experiment, miniature):
        module.add_commands(command)
    return whole


def _quiet_libraries() -> None:
    """Keep the model libraries' own bars and notices out of the image."""
    import os
    import warnings

    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("DIFFUSERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    warnings.filterwarnings("ignore", category=FutureWarning)
