"""The command line: ``character-curator COMMAND``; a module here for each group of commands.

A module of commands has one entry, ``add_commands(command)``, which calls ``command(name, run,
text)`` for each of them and adds its arguments; a name of two words is an action of a command.
``run(options, console)`` returns the exit code and what ``--json`` prints. A command that looks for
faces sets ``analyses``: what is wrong with the libraries' builds is then said first.
"""

from __future__ import annotations

import argparse
import errno
import logging
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from .. import __version__, leaving
from ..analysis.builds import build_faults
from ..damages import Damage, as_mappings, collected_damage, summary
from ..errors import CuratorError, WriteError
from . import (
    assets,
    augmentation,
    captions,
    curation,
    evaluation,
    experiment,
    faces,
    miniature,
    portfolio,
    stores,
    training,
    verification,
    versions,
)
from .output import EXIT_DIFFERENT, EXIT_DONE, EXIT_STOPPED, escape, write_json
from .places import here
from .plain import visible
from .process import mend_streams
from .threads import quiet_decoders, spin_briefly

if TYPE_CHECKING:
    from rich.console import Console

log = logging.getLogger(__name__)

_GROUPS = {
    "captions": "Look at the captions of a folder, check and edit them, and take edits back.",
}
"""What the commands are about that have actions of their own."""

_EPILOG = """\
exit codes: 0 done; 1 done, but not as wanted (an image that could not be reproduced, a dataset
that is not ready, a LoRA that has an issue);
2 something to mend, which the message names; 130 stopped by Ctrl-C (run again to go on)"""


class NoHomeError(CuratorError):
    """A path begins with ``~``, and there is no such home."""

    def __init__(self, error: Exception) -> None:
        super().__init__(
            f"{error} A path begins with '~', the home of somebody who is not known here. Write "
            "the folder's full path, or set HOME."
        )


class LinkLoopError(CuratorError):
    """A path leads through links that lead to each other."""

    def __init__(self, error: Exception) -> None:
        super().__init__(
            f"{visible(str(error))}: links lead in a circle there, to no file or folder. Take them "
            "away, or name another place."
        )


class BrokenLibraryError(CuratorError):
    """A library is installed and cannot be loaded, or a part of it is missing."""

    def __init__(self, error: ImportError) -> None:
        super().__init__(
            f"The library {error.name or 'that is needed'} cannot be loaded: "
            f"{visible(str(error))}. Install it again, or what it says is missing; 'pip check' "
            "finds libraries that do not fit each other."
        )


class TooLittleMemoryError(CuratorError):
    """Something is larger than this machine's memory."""

    def __init__(self, error: Exception) -> None:
        super().__init__(
            f"This machine has too little memory for that{f' ({error})' if str(error) else ''}. "
            "Ask for less at once: a smaller size, batch, rank or number of images."
        )


class TooFewThreadsError(CuratorError):
    """The system gives this process no further thread or process."""

    def __init__(self, error: Exception) -> None:
        super().__init__(
            f"The system gives no further thread or process ({error}). End others of yours, allow "
            "more ('ulimit -u', or the limit of the container), or ask for fewer with "
            "OMP_NUM_THREADS=1 and --workers 1; what is done is kept."
        )


_NO_ROOM = ("failed to map segment", "annot allocate memory")
"""How a library that does not fit into memory is said to have failed to load."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit code."""
    if arguments is None:  # the process is ours
        mend_streams()
        spin_briefly()
        quiet_decoders()
    options = parser().parse_args(arguments)
    from .console import Terminal

    console = Terminal(options.quiet)
    _quiet_libraries()
    with (
        _logging(console, options.verbose), _stopped_as_by_ctrl_c(), collected_damage() as damaged
    ):  # fmt: skip
        try:
            if getattr(options, "analyses", False):
                for fault in build_faults():
                    log.warning("%s", fault)
            try:
                with here(options, console) as pending:
                    code, result = options.command(options, console)
                    if code in (EXIT_DONE, EXIT_DIFFERENT):
                        result = pending.upload(console, result)
            finally:
                _say_damage(damaged, console)
        except Exception as error:
            if (named := _named(error)) is None:
                raise
            return _say_error(named, options, damaged)
        except KeyboardInterrupt:
            with suppress(OSError):  # the terminal may be gone
                console.print("Stopped. Run the same command again: it goes on where it was.")
            return EXIT_STOPPED
    if options.json:
        if damaged and isinstance(result, dict):
            result = {**result, "damage": as_mappings(damaged)}
        try:
            write_json(result)
        except OSError as error:
            options.json = False  # the error goes to stderr
            return _say_error(WriteError("The standard output", error), options, damaged)
    return code


def _named(error: Exception) -> CuratorError | None:
    """Return an error in words that say what to do; None where nobody foresaw it."""
    text = str(error)
    if isinstance(error, CuratorError):
        return error
    if isinstance(error, OSError):
        if error.errno == errno.EAGAIN and error.filename is None:  # of a fork
            return TooFewThreadsError(error)
        return WriteError(visible(str(error.filename or _nameless())), error)
    if isinstance(error, ImportError):
        if any(sign in text for sign in _NO_ROOM):
            return TooLittleMemoryError(error)
        log.debug("A library cannot be loaded.", exc_info=True)
        return BrokenLibraryError(error)
    if isinstance(error, MemoryError):
        return TooLittleMemoryError(error)
    if isinstance(error, RuntimeError):
        if "start new thread" in text:
            return TooFewThreadsError(error)
        if "allocate memory" in text:  # as torch has it on a CPU
            return TooLittleMemoryError(MemoryError())
        if "Symlink loop" in text:  # as pathlib has it before Python 3.13
            return LinkLoopError(error)
        if "home directory" in text:  # as pathlib has it of '~'
            return NoHomeError(error)
    return None


def _nameless() -> str:
    """Return what an error of the system is about that names no file."""
    try:
        Path.cwd()
    except OSError:
        return "The current folder, which is gone"
    return "A file"


def _say_damage(damaged: Sequence[Damage], console: Console) -> None:
    """Say at the end what was found damaged, by kind and place; the notes above have the rest."""
    found = summary(damaged)
    if found:
        with suppress(OSError):  # the terminal may be gone
            console.print("[yellow]Damage found[/] (the notes above say more):")
            for one in found:
                console.print(f"  {escape(str(one))}")


def _say_error(error: CuratorError, options: argparse.Namespace, damaged: Sequence[Damage]) -> int:
    """Show an error: as JSON where that is asked for, else on stderr, however quiet.

    Returns:
        The exit code.
    """
    from .console import Terminal

    if options.json:
        found = {"damage": as_mappings(damaged)} if damaged else {}
        with suppress(OSError):  # whose disk is full; the exit code says it too
            write_json({"error": type(error).__name__, "message": str(error), **found})
    else:
        name = f"[bold red]{type(error).__name__}[/]"
        Terminal().print(f"{name}: {escape(error)}")
    return error.exit_code


@contextmanager
def _logging(console: Console, verbose: bool) -> Iterator[None]:
    """Show what the stages warn of as notes; with ``verbose`` all that they log, line by line."""
    from .console import NotesOnConsole
    from .plain import PlainLog

    if verbose:
        logging.basicConfig(level=logging.DEBUG)
        for handler in logging.getLogger().handlers:
            handler.setFormatter(PlainLog("%(levelname)s %(name)s: %(message)s"))
        yield
        return
    others = logging.StreamHandler()
    # By itself too: what our loggers let through reaches it without asking for the root's level.
    others.setLevel(logging.ERROR)
    form = "%(levelname)s %(name)s: %(message)s"
    logging.basicConfig(level=logging.ERROR, format=form, handlers=[others])
    ours, notes = logging.getLogger(__package__.partition(".")[0]), NotesOnConsole(console)
    level = ours.level
    ours.addHandler(notes)
    ours.setLevel(logging.WARNING)
    try:
        yield
    finally:
        ours.removeHandler(notes)
        ours.setLevel(level)


@contextmanager
def _stopped_as_by_ctrl_c() -> Iterator[None]:
    """Let a polite request to end (SIGTERM, SIGHUP) do what Ctrl-C does: save, and say so."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    names = ("SIGTERM", "SIGHUP")
    numbers = [getattr(signal, name) for name in names if hasattr(signal, name)]
    before = {}
    if threading.current_thread() is threading.main_thread():
        for number in numbers:
            # Ignored as nohup has it, or taken already by a process that is our own.
            if signal.getsignal(number) not in (signal.SIG_IGN, leaving.stop):
                before[number] = signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def parser() -> argparse.ArgumentParser:
    """Return the parser of every command."""
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--json", action="store_true", help="print the result as JSON on stdout")
    common.add_argument("--quiet", action="store_true", help="no messages but errors")
    common.add_argument("--verbose", action="store_true", help="log what the stages decide")
    common.add_argument(
        "--cache-limit", metavar="SIZE",
        help="the most that copies of objects in stores may take here (default 50GB)",
    )  # fmt: skip

    whole = argparse.ArgumentParser(
        prog="character-curator",
        description="Generate, curate and export training sets for a character.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    whole.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = whole.add_subparsers(required=True, metavar="COMMAND")

    groups: dict[str, Any] = {"": commands}

    def command(name: str, run: Callable[..., Any], text: str) -> argparse.ArgumentParser:
        group, _, own = name.rpartition(" ")
        if group not in groups:
            about = _GROUPS[group]
            named = commands.add_parser(group, help=about, description=about)
            groups[group] = named.add_subparsers(required=True, metavar="ACTION")
        sub: argparse.ArgumentParser = groups[group].add_parser(
            own, parents=[common], help=text, description=text
        )
        sub.set_defaults(command=run)
        return sub

    modules = (
        curation, portfolio, augmentation, assets, versions, faces, captions, training,
        evaluation, verification, experiment, stores, miniature,
    )  # fmt: skip
    for module in modules:
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
