"""What was done to the captions of a folder: a line a step, enough to take every step back.

Of an exported dataset the file lies beside it (``NAME.caption-edits.jsonl``), so that it is
published with nothing; of any other folder in it, hidden (``.caption-edits.jsonl``), so that it
travels along.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .. import atomic
from ..dataset.checksums import is_within
from ..errors import CuratorError
from ..json_text import parse
from ..plain_files import plain_text
from ..reading.own import is_dataset

EDITS_FILE = "caption-edits.jsonl"
FORMAT = 1


class HistoryError(CuratorError):
    """The record of a folder's edits cannot be read."""

    def __init__(self, path: Path, reason: object) -> None:
        super().__init__(
            f"{path} cannot be used: {reason}. It holds what takes the edits of captions back; "
            "move it away, and what was done so far can no longer be undone."
        )


@dataclass(frozen=True)
class Changed:
    """A caption's file that a step has changed.

    Attributes:
        image: The image's name.
        before: The file's bytes before; ``None`` where there was none.
        after: Its bytes afterwards; ``None`` where there is none.
        text: The caption before.
        new: The caption afterwards.
    """

    image: str
    before: bytes | None
    after: bytes | None
    text: str
    new: str


@dataclass(frozen=True)
class Step:
    """Something that was done to the captions.

    Attributes:
        number: 1 for the first.
        time: When, as ISO 8601 in UTC.
        what: What was done, in words.
        changes: What it has changed, by the captions' files.
        undone: Whether it was taken back.
    """

    number: int
    time: str
    what: tuple[str, ...]
    changes: Mapping[str, Changed] = field(repr=False)
    undone: bool = False


def history_file(root: Path) -> Path:
    """Return where the steps of a folder are kept."""
    if is_dataset(root):
        return root.parent / f"{root.name}.{EDITS_FILE}"
    return root / f".{EDITS_FILE}"


def read_history(root: Path) -> list[Step]:
    """Return what was done to the captions of a folder, the first step first.

    Raises:
        HistoryError: The record is damaged, or of a newer version.
    """
    path = history_file(root)
    try:
        lines = plain_text(path).split("\n")
    except FileNotFoundError:
        return []
    except (OSError, UnicodeDecodeError) as error:
        raise HistoryError(path, error) from error
    try:
        entries = [parse(line) for line in lines if line]
        if any(entry["format"] > FORMAT for entry in entries):
            raise HistoryError(path, "it is of a newer version than this one")
        undone = {entry["undoes"] for entry in entries if "undoes" in entry}
        return [_step(entry, undone) for entry in entries if "undoes" not in entry]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise HistoryError(path, f"it is damaged ({error})") from error


def append_step(root: Path, step: Step) -> None:
    """Write a step down."""
    changes = {
        file: {
            "image": one.image,
            "before": _encoded(one.before),
            "after": _encoded(one.after),
            "text": one.text,
            "new": one.new,
        }
        for file, one in step.changes.items()
    }
    _append(root, {"number": step.number, "time": step.time, "what": list(step.what),
                   "changes": changes})  # fmt: skip


def append_undo(root: Path, number: int, time: str) -> None:
    """Write down that a step was taken back."""
    _append(root, {"undoes": number, "time": time})


def forget_last(root: Path) -> None:
    """Take the last line away again, of something that was not done after all."""
    path = history_file(root)
    lines = plain_text(path).splitlines(keepends=True)[:-1]
    if lines:
        atomic.write_text(path, "".join(lines))
    else:
        path.unlink()


def _append(root: Path, entry: Mapping[str, Any]) -> None:
    path = history_file(root)
    before = plain_text(path) if path.is_file() else ""
    line = json.dumps({"format": FORMAT, **entry}, ensure_ascii=True)
    atomic.write_text(path, f"{before}{line}\n")


def _step(entry: Mapping[str, Any], undone: Sequence[int] | set[int]) -> Step:
    changes = {}
    for file, values in entry["changes"].items():
        if not is_within(file):
            raise ValueError(f"it names '{file[:80]}', which is no file of the folder")
        texts = [values[key] for key in ("image", "text", "new")]
        _check(all(isinstance(text, str) for text in texts))
        before, after = _decoded(values["before"]), _decoded(values["after"])
        changes[file] = Changed(texts[0], before, after, texts[1], texts[2])
    number, time, what = entry["number"], entry["time"], entry["what"]
    _check(isinstance(number, int) and isinstance(time, str) and isinstance(what, list))
    _check(all(isinstance(text, str) for text in what))
    return Step(number, time, tuple(what), changes, number in undone)


def _check(is_right: bool) -> None:
    if not is_right:
        raise ValueError("a value in it is of another kind than it should be")


def _encoded(data: bytes | None) -> Any:
    """Return bytes as JSON: as text where they are UTF-8, so that people can read the file."""
    if data is None:
        return None
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(data).decode("ascii")}


def _decoded(value: Any) -> bytes | None:
    if value is None:
        return None
    return value.encode("utf-8") if isinstance(value, str) else base64.b64decode(value["base64"])
