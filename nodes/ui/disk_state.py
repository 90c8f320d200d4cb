"""Notices that files which a node has made are gone or changed, so that the node runs again.

ComfyUI caches a node's outputs by its inputs and asks ``fingerprint_inputs`` for whatever else
matters. For a node that writes files the answer must stay the same while its files are whole,
from before its first run on, and must differ once they are not.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from functools import wraps
from pathlib import Path
from typing import Any

from .paths import output_path

Fingerprint = Callable[..., Any]


def always_answers(fingerprint: Fingerprint) -> Fingerprint:
    """Return ``fingerprint_inputs`` of a node as one that answers whatever it is asked.

    ComfyUI takes an error here for a fingerprint that equals none, and runs the node and all behind
    it each time. What cannot be read has the same answer each time instead; the node itself, which
    is given the same, says what is wrong with it.
    """

    @wraps(fingerprint)
    def run(cls: Any, **given: Any) -> Any:
        try:
            return fingerprint(cls, **given)
        except Exception as error:
            return f"cannot be read: {type(error).__name__}"

    return run


class DiskState:
    """Remembers, as ComfyUI's own cache does for the life of the server, what nodes have made."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._marks: dict[Path, dict[Path, tuple[int, int] | None]] = {}
        self._answers: dict[Path, int] = {}
        self._rounds: dict[Path, int] = {}

    def fingerprint(self, folder: Path) -> int:
        """Return a number that changes when a recorded file of ``folder`` is no longer whole."""
        with self._lock:
            answer = self._rounds.get(folder, 0) + (not self._whole(folder))
            self._answers[folder] = answer
            return answer

    def record(self, folder: Path, files: Iterable[Path]) -> None:
        """Remember that a node has made ``files`` in ``folder``, and that they are whole now.

        What was answered before the node ran is answered from now on, until one of them changes:
        under that answer ComfyUI caches what the node returns.
        """
        with self._lock:
            self._rounds[folder] = self._answers.get(folder, 0)
            marks = {path: _mark(path) for path in [*self._marks.get(folder, {}), *files]}
            self._marks[folder] = {path: mark for path, mark in marks.items() if mark}

    def _whole(self, folder: Path) -> bool:
        return all(_mark(path) == mark for path, mark in self._marks.get(folder, {}).items())


def _mark(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns


disk_state = DiskState()
"""The server's one memory of files; as short-lived as ComfyUI's cache, which it serves."""


def output_fingerprint(folder: str | None) -> int:
    """Answer ``fingerprint_inputs`` of a node that writes into a folder below the output folder."""
    return disk_state.fingerprint(output_path(folder)) if folder else 0


def listing(folder: Path) -> list[tuple[str, int, int]]:
    """Return name, size and time of change of every file below a folder, or of one, sorted."""
    if folder.is_file():
        mark = _mark(folder)
        return [(folder.name, *mark)] if mark else []
    found = []
    for path in sorted(folder.rglob("*")):
        mark = _mark(path)
        if mark and path.is_file():
            found.append((path.relative_to(folder).as_posix(), *mark))
    return found


def states(place: Path | None) -> str:
    """Return what tells one state of a model's files from another, without reading them.

    Args:
        place: A folder, whose folders count too, or a file; None or nothing there is a state too.
    """
    from ...core.hashing import file_state

    if place is None or not place.exists():
        return "absent"
    files = [place] if place.is_file() else sorted(place.rglob("*"))
    return str([(path.name, *file_state(path)) for path in files if path.is_file()])
