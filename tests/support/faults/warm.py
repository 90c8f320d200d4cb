"""Commands in child processes of a process that has imported everything, to be killed cheaply.

A process is started once, and a command is a fork of it: the same code as in a process of its own,
without the seconds that importing torch takes. A child can end itself with SIGKILL before its n-th
operation on a file below its folder, as Python's audit hooks tell it: the same n is the same moment
each time. Or the system ends it some computing time after that operation, wherever it is then.

A child and the processes that it starts are a group of their own: whoever is in it when the child
has ended has outlived it.
"""

from __future__ import annotations

import importlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[3]
OPERATIONS = frozenset({
    "open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.truncate",
    "sqlite3.connect",
})  # fmt: skip
"""What is counted: whatever opens, names or removes a file."""

PATIENCE = 300.0
"""Seconds after which a command is said to hang."""

MOST_TOLD = 1 << 16
"""Bytes that fit into a pipe: no command says more."""

SOON = 15.0
"""Seconds within which the processes that a command has started end when it has; they give
themselves two, and have to be given a processor."""


@dataclass(frozen=True)
class Ended:
    """How a child ended.

    Attributes:
        code: Its exit code; the negative number of the signal that ended it.
        told: What it wrote to stdout and stderr.
        operations: Its operations on files, ``event path``, as far as it came; opening one to write
            it is ``write path``.
        outlived: Processes that it had started and that did not end soon, as the system lists them;
            they have been killed now.
    """

    code: int
    told: str
    operations: tuple[str, ...]
    outlived: tuple[str, ...] = ()

    @property
    def killed(self) -> bool:
        return self.code in (-signal.SIGKILL, -signal.SIGVTALRM)


class Warm:
    """A process that has imported everything, whose forks run commands.

    Args:
        scratch: A folder for what the children say, outside of the folders they work in; what is
            in it is removed.
    """

    def __init__(self, scratch: Path) -> None:
        self._scratch = scratch
        shutil.rmtree(scratch, ignore_errors=True)  # of one that was ended
        scratch.mkdir(parents=True)
        self._count = 0
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.faults.warm"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )

    def __enter__(self) -> Warm:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.stdin.close()
        self._process.wait(30)
        self._process.stdout.close()

    def start(
        self,
        arguments,
        folder: Path,
        *,
        kill_before: int | None = None,
        kill_later: float = 0.0,
        by_clock: bool = False,
        held: bool = False,
        sync: bool = False,
        full: int | None = None,
        remove: str = "",
        first: str = "",
    ) -> Child:
        """Start a command.

        Args:
            arguments: Of ``character-curator``.
            folder: Where it runs; operations below it are counted.
            kill_before: The operation before which it kills itself, from 0.
            kill_later: Seconds of computing after that operation until the system ends it instead,
                without a line of the command's code running, as by SIGKILL.
            by_clock: Count those seconds by the clock: where other processes compute.
            held: Wait before the command begins, until :meth:`Child.release`.
            sync: Whether files are synced as without ``CURATOR_FSYNC=0``.
            full: Instead of being killed, find the disk full: no file grows beyond so many bytes.
            remove: Instead, find a folder of this name removed.
            first: Python that the child runs first, such as one that sets its clock.
        """
        self._count += 1
        name = self._scratch / f"{self._count:05d}"
        os.mkfifo(name.with_suffix(".told"))
        told = os.open(name.with_suffix(".told"), os.O_RDWR | os.O_NONBLOCK)
        wish = {
            "arguments": [*map(str, arguments)], "folder": str(folder), "name": str(name),
            "kill": kill_before, "later": kill_later, "by_clock": by_clock, "held": held,
            "sync": sync, "full": full, "remove": remove, "first": first,
        }  # fmt: skip
        return Child(self, self._ask(start=wish), name, told)

    def run(self, arguments, folder: Path, **options) -> Ended:
        """Run a command to its end; see :meth:`start`."""
        return self.start(arguments, folder, **options).wait()

    def _ask(self, **wish) -> int:
        self._process.stdin.write(json.dumps(wish) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        assert answer, "the warm process has ended"
        return int(answer)


class Child:
    """A command that runs."""

    def __init__(self, warm: Warm, pid: int, name: Path, told: int) -> None:
        self._warm, self.pid, self._name, self._told = warm, pid, name, told

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Send a signal; nothing happens when it has ended."""
        os.kill(self.pid, number)  # nobody else has its number: it has not been waited for

    def workers(self) -> list[int]:
        """Return the processes that work for it now, in the order in which they were started."""
        listed = [line.split(None, 3) for line in _group(self.pid)]
        # Whoever tidies up after them, as Python has it, does no work.
        return sorted(int(pid) for pid, _, _, what in listed if "spawn_main" in what)

    def release(self) -> None:
        """Let a command begin that was held."""
        self._name.with_suffix(".go").touch()

    def wait(self) -> Ended:
        """Wait until it has ended; one that hangs is killed, and an error."""
        code = self._warm._ask(wait=self.pid)
        with suppress(BlockingIOError), os.fdopen(self._told, "rb", 0) as pipe:
            told = (pipe.read(MOST_TOLD) or b"").decode(errors="replace")
        listed = self._name.with_suffix(".operations").read_text(errors="surrogateescape")
        for end in (".told", ".operations", ".go"):
            self._name.with_suffix(end).unlink(missing_ok=True)
        outlived = self._outlived()
        assert code != -signal.SIGALRM, f"it hung for {PATIENCE:.0f} s: {told}"
        return Ended(code, told, tuple(listed.splitlines()), outlived)

    def _outlived(self) -> tuple[str, ...]:
        """Wait until those whom it has started have ended; kill those who do not, and say whom."""
        until = time.monotonic() + SOON
        while left := _group(self.pid):
            if time.monotonic() > until:
                os.killpg(self.pid, signal.SIGKILL)
                return tuple(left)
            time.sleep(0.05)
        return ()


def _group(leader: int) -> list[str]:
    """Return the living processes of a group: their number, group, state and command line."""
    try:
        os.killpg(leader, 0)
    except (ProcessLookupError, PermissionError):  # nobody, or nobody of ours
        return []
    listed = subprocess.run(
        ["ps", "-A", "-o", "pid=,pgid=,stat=,args="], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    parts = [(line, line.split(None, 3)) for line in listed]
    return [
        line.strip()
        for line, (pid, group, state, *_) in parts
        if int(group) == leader != int(pid) and not state.startswith("Z")
    ]


def serve() -> None:
    """Answer wishes from stdin, a line each, until that is closed."""
    import character_curator.cli.training
    import character_curator.pipeline  # noqa: F401

    for line in sys.stdin:
        wish = json.loads(line)
        if "wait" in wish:
            answer = os.waitstatus_to_exitcode(os.waitpid(wish["wait"], 0)[1])
        else:
            known = Path(wish["start"]["name"]).parent / "imported.json"
            if known.exists():  # by the children before: then the next need not
                for module in json.loads(known.read_text()):
                    with suppress(Exception):
                        importlib.import_module(module)
                known.unlink()
            answer = os.fork()
            if not answer:
                os.setpgid(0, 0)
                _become(**wish["start"])
        sys.stdout.write(f"{answer}\n")
        sys.stdout.flush()


def _become(
    arguments, folder, name, kill, later, by_clock, held, sync, full, remove, first
) -> None:  # fmt: skip
    """Be a command, and end."""
    signal.alarm(int(PATIENCE))
    # What it tells goes into a pipe: a file could not grow when the disk is full.
    with open(os.devnull, "rb") as nothing, open(f"{name}.told", "wb", 0) as told:
        os.dup2(nothing.fileno(), 0)
        os.dup2(told.fileno(), 1)
        os.dup2(told.fileno(), 2)
    sys.stdout = os.fdopen(1, "w", closefd=False)
    sys.stderr = os.fdopen(2, "w", closefd=False)
    os.chdir(folder)
    os.environ["CURATOR_FSYNC"] = "1" if sync else "0"
    listed = os.open(f"{name}.operations", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    while held and not os.path.exists(f"{name}.go"):
        time.sleep(0.005)
    before = set(sys.modules)
    if first:
        exec(first, {})

    def die() -> None:
        if full is not None:
            import resource

            resource.setrlimit(resource.RLIMIT_FSIZE, (full, full))
        elif remove:
            shutil.rmtree(os.path.join(folder, remove), ignore_errors=True)
        elif later and by_clock:
            timer = threading.Timer(later, os.kill, (os.getpid(), signal.SIGKILL))
            timer.daemon = True
            timer.start()
        elif later:
            signal.setitimer(signal.ITIMER_VIRTUAL, later)
        else:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(_counting(folder, kill, die, listed))
    code = 70
    try:
        from character_curator.cli import main

        code = main(arguments)
    except SystemExit as leaving:
        code = leaving.code if isinstance(leaving.code, int) else 1
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        new = [module for module in sys.modules if module not in before and module != "__main__"]
        if new and not code:
            with open(Path(name).parent / "imported.json", "w") as file:
                json.dump(new, file)
        os._exit(code or 0)


def _writes(mode: str | None, flags: int) -> bool:
    """Whether a file is opened to be written."""
    return bool(set(mode or "") & set("wax+") or flags & (os.O_WRONLY | os.O_RDWR))


def _counting(folder: str, fatal: int | None, do, listed: int):
    """Return a hook that lists operations on files below a folder, and does something at one."""
    count, at_it = 0, False
    root = folder.rstrip("/") + "/"

    def hook(event: str, arguments: tuple) -> None:
        nonlocal count, at_it
        if at_it or event not in OPERATIONS or not arguments or isinstance(arguments[0], int):
            return
        path = os.path.join(root, os.fsdecode(arguments[0]))
        if not path.startswith(root):
            return
        number, count = count, count + 1
        to = ""
        if event in ("os.rename", "os.link"):
            to = " > " + os.path.basename(os.fsdecode(arguments[1]))
        at_it = True
        what = "write" if event == "open" and _writes(*arguments[1:3]) else event
        line = f"{what} {path.removeprefix(root)}{to}\n"
        with suppress(OSError):  # of a disk that is full
            os.write(listed, line.encode(errors="surrogateescape"))
        if number == fatal:
            do()
        at_it = False

    return hook


if __name__ == "__main__":
    serve()
