"""A disk that forgets what was not synced: calls are replayed on it, and the power is cut.

After a cut a file holds what was in it when it was synced last, and of what was written since
nothing, all, a part, or zeros of the right length; and a folder has the names that were synced, and
of the later changes those up to some moment. Two kinds of file systems are told apart:

``journal``: changes of names reach the disk in their order, and whatever is synced takes all
    earlier ones with it (ext4, XFS, APFS, NTFS).
``strict``: each folder by itself, when it is synced, as POSIX promises and no more. A rename from
    one folder to another reaches the disk as one.

SQLite's ``-shm`` file is memory that processes share, and is never on the disk after a cut.
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from tests.support.faults.recording import Call

JOURNAL, STRICT = "journal", "strict"
SECTOR = 512
"""Bytes that a disk writes at once; see the paper on ALICE (OSDI 2014)."""


@dataclass(eq=False)
class File:
    """A file's content: as processes see it, as it was synced, and what has come since."""

    data: bytearray = field(default_factory=bytearray)
    synced: bytes = b""
    since: list[tuple[int, bytes | None]] = field(default_factory=list)

    def write(self, at: int, data: bytes) -> None:
        _put(self.data, at, data)
        self.since.append((at, data))

    def cut_to(self, size: int) -> None:
        _resize(self.data, size)
        self.since.append((size, None))

    def sync(self) -> None:
        self.synced, self.since = bytes(self.data), []

    def after_a_cut(self, rng: np.random.Generator) -> bytes:
        """Return what is on the disk: what was synced, and some of what came after."""
        left = bytearray(self.synced)
        kind = rng.choice(["nothing", "all", "part", "zeros"]) if self.since else "nothing"
        count = int(rng.integers(len(self.since))) if kind == "part" else len(self.since)
        for at, data in self.since[: 0 if kind == "nothing" else count]:
            if data is None:
                _resize(left, at)
            else:
                _put(left, at, bytes(len(data)) if kind == "zeros" else data)
        if kind == "part" and (data := self.since[count][1]):
            torn = int(rng.integers(len(data) // SECTOR + 1)) * SECTOR
            _put(left, self.since[count][0], data[:torn])
        return bytes(left)


@dataclass(eq=False)
class Folder:
    """A folder's names, as processes see them."""

    names: dict[str, File | Folder] = field(default_factory=dict)


@dataclass
class Change:
    """What happened to names at once: in which folder, which name, and what it stands for now."""

    parts: list[tuple[Folder, str, File | Folder | None]]
    synced: bool = False


class Disk:
    """Replays what a command did below a folder.

    Args:
        root: The folder before the command, which runs in it; all of it is on the disk.
        kind: ``journal`` or ``strict``.
    """

    def __init__(self, root: Path, kind: str) -> None:
        self._place = f"{root}/"
        self._kind = kind
        self._open: dict[int, list] = {}
        self._known: dict[tuple[int, int], File] = {}
        self._changes: list[Change] = []
        self._root = self._read(root)
        self._synced: dict[Folder, dict[str, File | Folder]] = {}
        self._note(self._root)
        self.ignored: set[str] = set()

    def apply(self, calls: Iterable[Call]) -> None:
        """Replay calls."""
        for call in calls:
            getattr(self, f"_on_{call.name}", self._unknown)(call)

    def after_a_cut(self, target: Path, seed: int) -> None:
        """Write what is left when the power is cut now; what has been replayed stays as it is."""
        rng = np.random.default_rng(seed)
        names = {folder: dict(held) for folder, held in self._synced.items()}
        made: dict[File, Path] = {}
        stopped: set[Folder] = set()
        until = int(rng.integers(len(self._changes) + 1))
        chance = rng.random()
        for number, change in enumerate(self._changes):
            folders = {folder for folder, _, _ in change.parts}
            if not change.synced:
                late = number >= until if self._kind == JOURNAL else rng.random() < chance
                if late or folders & stopped:
                    stopped |= folders
                    continue
            for folder, name, what in change.parts:
                held = names.setdefault(folder, {})
                held.pop(name, None)
                if what is not None:
                    held[name] = what
        shutil.rmtree(target, ignore_errors=True)
        self._write(self._root, target, names, made, rng)

    def _write(self, folder, target, names, made, rng) -> None:
        target.mkdir()
        for name, what in names.get(folder, {}).items():
            path = target / name
            if isinstance(what, Folder):
                self._write(what, path, names, made, rng)
            elif name.endswith("-shm"):
                continue
            elif what in made:
                os.link(made[what], path)
            else:
                path.write_bytes(what.after_a_cut(rng))
                made[what] = path

    def _read(self, folder: Path) -> Folder:
        found = Folder()
        for path in sorted(folder.iterdir()):
            status = path.lstat()
            if stat.S_ISDIR(status.st_mode):
                found.names[path.name] = self._read(path)
                continue
            key = status.st_dev, status.st_ino
            if key not in self._known:
                data = path.read_bytes()
                self._known[key] = File(bytearray(data), data)
            found.names[path.name] = self._known[key]
        return found

    def _note(self, folder: Folder) -> None:
        self._synced[folder] = dict(folder.names)
        for inner in folder.names.values():
            if isinstance(inner, Folder):
                self._note(inner)

    def _find(self, path: str) -> tuple[Folder | None, str]:
        """Return the folder and the name of a path; no folder outside of what is watched."""
        path = os.path.normpath(os.path.join(self._place, path))  # the command runs there
        if not path.startswith(self._place):
            return None, ""
        *folders, name = path.removeprefix(self._place).split("/")
        place = self._root
        for part in folders:
            place = place.names[part]
        return place, name

    def _change(self, *parts: tuple[Folder, str, File | Folder | None]) -> None:
        for folder, name, what in parts:
            folder.names.pop(name, None)
            if what is not None:
                folder.names[name] = what
        self._changes.append(Change(list(parts)))

    def _sync_names(self, folder: Folder | None) -> None:
        """Let changes reach the disk: all of them, or those of one folder."""
        for change in self._changes:
            if folder is None or any(place is folder for place, _, _ in change.parts):
                change.synced = True

    # Opening and closing: a number stands for what is open, and where in it.

    def _on_openat(self, call: Call) -> None:
        self._opened(call.path(1, 0), call.arguments[2], call.result)

    def _on_open(self, call: Call) -> None:
        self._opened(call.path(0), call.arguments[1], call.result)

    def _opened(self, path: str, flags: str, number: int) -> None:
        self._open.pop(number, None)
        if os.path.join(os.path.normpath(os.path.join(self._place, path)), "") == self._place:
            self._open[number] = [self._root, 0, False]
            return
        folder, name = self._find(path)
        if folder is None:
            return
        what = folder.names.get(name)
        if what is None:
            assert "O_CREAT" in flags, f"{path} is opened and was never made"
            what = File()
            self._change((folder, name, what))
        elif "O_TRUNC" in flags:
            what.cut_to(0)
        self._open[number] = [what, 0, "O_APPEND" in flags]

    def _on_close(self, call: Call) -> None:
        self._open.pop(call.number(0), None)

    def _on_dup(self, call: Call) -> None:
        if call.number(0) in self._open:
            self._open[call.result] = self._open[call.number(0)]
        else:
            self._open.pop(call.result, None)

    _on_dup2 = _on_dup3 = _on_dup

    def _on_fcntl(self, call: Call) -> None:
        if call.arguments[1].startswith("F_DUPFD"):
            self._on_dup(call)

    # Reading moves the place in a file, and writing changes it.

    def _on_lseek(self, call: Call) -> None:
        if held := self._open.get(call.number(0)):
            held[1] = call.result

    def _on_read(self, call: Call) -> None:
        if held := self._open.get(call.number(0)):
            held[1] += call.result

    def _on_pread64(self, call: Call) -> None:
        pass

    def _on_write(self, call: Call) -> None:
        if held := self._open.get(call.number(0)):
            at = len(held[0].data) if held[2] else held[1]
            data = b"".join(call.strings())[: call.result]
            held[0].write(at, data)
            held[1] = at + len(data)

    _on_writev = _on_write

    def _on_pwrite64(self, call: Call) -> None:
        if held := self._open.get(call.number(0)):
            held[0].write(int(call.arguments[-1], 0), call.strings()[0][: call.result])

    def _on_sendfile(self, call: Call) -> None:
        self._copied(call, call.number(1), call.number(0))

    def _on_copy_file_range(self, call: Call) -> None:
        self._copied(call, call.number(0), call.number(2))

    def _copied(self, call: Call, source: int, target: int) -> None:
        into, from_ = self._open.get(target), self._open.get(source)
        if into:
            assert from_, f"copied from what is not watched: {call}"
            data = bytes(from_[0].data[from_[1] : from_[1] + call.result])
            into[0].write(into[1], data)
            into[1] += len(data)
            from_[1] += len(data)

    def _on_ftruncate(self, call: Call) -> None:
        if held := self._open.get(call.number(0)):
            held[0].cut_to(call.number(1))

    def _on_fsync(self, call: Call) -> None:
        held = self._open.get(call.number(0))
        if held is None:
            return
        if isinstance(held[0], File):
            held[0].sync()
        if self._kind == JOURNAL:
            self._sync_names(None)
        elif isinstance(held[0], Folder):
            self._sync_names(held[0])

    _on_fdatasync = _on_fsync

    # Names.

    def _on_mkdir(self, call: Call) -> None:
        self._made(call.path(0))

    def _on_mkdirat(self, call: Call) -> None:
        self._made(call.path(1, 0))

    def _made(self, path: str) -> None:
        folder, name = self._find(path)
        if folder is not None:
            self._change((folder, name, Folder()))

    def _on_rename(self, call: Call) -> None:
        self._renamed(call.path(0), call.path(1))

    def _on_renameat2(self, call: Call) -> None:
        self._renamed(call.path(1, 0), call.path(3, 2))

    _on_renameat = _on_renameat2

    def _renamed(self, source: str, target: str) -> None:
        (one, before), (other, after) = self._find(source), self._find(target)
        if one is None and other is None:
            return
        assert one is not None, f"from elsewhere: {source} > {target}"
        assert other is not None, f"to elsewhere: {source} > {target}"
        what = one.names[before]
        if other.names.get(after) is not what:  # else nothing happens: two names of one file
            self._change((one, before, None), (other, after, what))

    def _on_unlink(self, call: Call) -> None:
        self._removed(call.path(0))

    _on_rmdir = _on_unlink

    def _on_unlinkat(self, call: Call) -> None:
        self._removed(call.path(1, 0))

    def _removed(self, path: str) -> None:
        folder, name = self._find(path)
        if folder is not None:
            self._change((folder, name, None))

    def _on_link(self, call: Call) -> None:
        self._linked(call.path(0), call.path(1))

    def _on_linkat(self, call: Call) -> None:
        self._linked(call.path(1, 0), call.path(3, 2))

    def _linked(self, source: str, target: str) -> None:
        (one, before), (other, after) = self._find(source), self._find(target)
        if other is not None:
            self._change((other, after, one.names[before]))

    def _unknown(self, call: Call) -> None:
        raise NotImplementedError(f"{call.name} is watched and not replayed")


def _put(data: bytearray, at: int, new: bytes) -> None:
    if len(data) < at:
        data.extend(bytes(at - len(data)))
    data[at : at + len(new)] = new


def _resize(data: bytearray, size: int) -> None:
    del data[size:]
    data.extend(bytes(size - len(data)))
