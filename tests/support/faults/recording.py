"""What a command does to files, as the kernel sees it: recorded with strace, for any library's."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.support.faults.warm import Child, Ended

STRACE = shutil.which("strace")
WATCHED = (
    "open,openat,creat,close,dup,dup2,dup3,fcntl,lseek,read,pread64,write,writev,pwrite64,pwritev,"
    "ftruncate,truncate,fsync,fdatasync,sync,sync_file_range,rename,renameat,renameat2,unlink,"
    "unlinkat,mkdir,mkdirat,rmdir,link,linkat,symlink,symlinkat,sendfile,copy_file_range,fallocate"
)
_CALL = re.compile(r"(\d+) +(\w+)\((.*)\) += (-?\d+)(?:<[^>]*>)?")
_BEGUN = re.compile(r"(\d+) +(\w+)\((.*?) *<unfinished \.\.\.>")
_RESUMED = re.compile(r"(\d+) +<\.\.\. (\w+) resumed>,? ?(.*)\) += (-?\d+)(?:<[^>]*>)?")
_STRING = re.compile(r'"((?:\\x[0-9a-f]{2})*)"')


@dataclass(frozen=True)
class Call:
    """A system call that succeeded.

    Attributes:
        name: Of the call.
        arguments: As strace writes them, strings as hexadecimal escapes.
        result: What it returned.
    """

    name: str
    arguments: tuple[str, ...]
    result: int

    def strings(self) -> list[bytes]:
        """Return the strings in the arguments."""
        return [_bytes(found) for found in _STRING.findall(", ".join(self.arguments))]

    def number(self, place: int) -> int:
        """Return an argument that is a number, or a file's number and its path."""
        return int(self.arguments[place].split("<")[0], 0)

    def path(self, place: int, at: int | None = None) -> str:
        """Return an argument that is a path; ``at`` is where its folder stands."""
        name = os.fsdecode(_bytes(_STRING.fullmatch(self.arguments[place])[1]))
        return name if at is None else os.path.join(_folder(self.arguments[at]), name)


def traced(child: Child, into: Path, *options: str) -> Ended:
    """Let a held command run to its end under strace.

    Args:
        child: Started with ``held``.
        into: What strace writes.
        options: What is traced, or what is to go wrong.
    """
    arguments = [STRACE, "-f", "-qq", "-p", str(child.pid), "-o", str(into), *options]
    with subprocess.Popen(arguments, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE) as tracer:
        status = Path(f"/proc/{child.pid}/status")
        while "TracerPid:\t0\n" in status.read_text():
            if tracer.poll() is not None:
                child.kill()
                child.wait()
                raise RuntimeError(f"strace cannot trace: {tracer.stderr.read().decode()}")
            time.sleep(0.005)
        child.release()
        return child.wait()


def recorded(child: Child, into: Path) -> tuple[Ended, list[Call]]:
    """Let a held command run to its end; return its calls on files, in order."""
    ended = traced(
        child, into, "-y", "-xx", "-s", "1000000000", "-e", f"trace={WATCHED}", "-e", "signal=none"
    )
    calls = list(_parsed(into))
    into.unlink()
    return ended, calls


def _parsed(listed: Path) -> Iterator[Call]:
    begun: dict[str, str] = {}
    with listed.open() as lines:
        for line in lines:
            if found := _BEGUN.match(line):
                begun[found[1]] = found[3]
                continue
            if found := _RESUMED.match(line):
                before = begun.pop(found[1])
                text = f"{before}, {found[3]}" if before and found[3] else before + found[3]
            elif found := _CALL.match(line):
                text = found[3]
            else:
                continue
            if int(found[4]) >= 0:
                yield Call(found[2], tuple(text.split(", ")), int(found[4]))


def _bytes(escaped: str) -> bytes:
    return bytes.fromhex(escaped.replace("\\x", ""))


def _folder(argument: str) -> str:
    """Return the path of a folder's number, such as ``AT_FDCWD<\\x2f>``."""
    inner = argument.split("<", 1)[1].removesuffix(">")
    return os.fsdecode(_bytes(inner)) if inner.startswith("\\x") else inner
