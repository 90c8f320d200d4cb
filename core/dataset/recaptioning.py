"""Give an exported dataset other captions: a new version of it, in which everything agrees.

Captions stand in the files beside the images, in ``metadata.json`` and in ``metadata.jsonl``, and
the list of checksums names all of these. So they are changed where the export writes them, in a new
folder that takes the dataset's place when it is whole; the version before is kept as by an export.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from ..counts import how_many, worded
from ..errors import CuratorError, WriteError
from ..hashing import content_hash
from ..naming import first_of
from ..plain_files import plain_bytes
from ..reading.texts import UnreadCaptionError
from .checksums import FILE_NAME, exported_checksums, write_list
from .images import SUFFIXES, link_or_copy
from .publish import next_version, publish, staging
from .records import Record, metadata_json, metadata_lines
from .shared_images import share_images
from .sidecars import metadata_path, read_caption, read_metadata
from .verdict import ADDED_TO, LATER, exported_bytes
from .version_record import new_record, read_record, write_record

LINES_FILE = "metadata.jsonl"


class CaptionsChangedError(CuratorError):
    """Captions have become others since they were read."""

    def __init__(self, root: Path, files: list[str]) -> None:
        listed = first_of(files, 5)
        super().__init__(
            f"{how_many(len(files), 'caption')} of {root} {worded(len(files), 'has', 'have')} "
            f"changed since {worded(len(files), 'it was', 'they were')} read ({listed}). Nothing "
            "was written. Run the command again."
        )


@dataclass(frozen=True)
class Rewritten:
    """A caption's file with other contents.

    Attributes:
        before: Its bytes; ``None`` where there is no such file.
        after: What they become; ``None`` takes the file away.
        image: The image that it is about.
        text: The caption that the metadata then has.
    """

    before: bytes | None
    after: bytes | None
    image: str
    text: str


def recaption(
    root: Path,
    files: Mapping[str, Rewritten],
    *,
    back: bool = False,
    first: Callable[[], None] | None = None,
) -> Path | None:
    """Make the version of a dataset that has other captions.

    Whatever else has been changed in the folder since its export stays as it is, and
    :func:`.checksums.verify` still shows it; a caption that was changed by hand goes into the
    metadata. What a verification has found is about the version before, and stays with it.

    Args:
        root: The dataset.
        files: The caption files that change, by their names below it.
        back: Whether this takes an edit back, and is none more.
        first: Called when nobody else can write the dataset, and before anything of it is.

    Returns:
        Where the version before is kept; ``None`` if nothing changes.

    Raises:
        NotADatasetError: It has no list of checksums.
        CaptionsChangedError: A file is not what it was when it was read.
        OutputError: The place cannot be written.
        DiskFullError: The disk is full; nothing is left behind.
    """
    listed = exported_checksums(root)
    with staging(root) as fresh:
        check_unchanged(root, files)
        if first is not None:
            first()
        for path in sorted(root.rglob("*")):
            name = path.relative_to(root).as_posix()
            if path.is_dir():
                (fresh / name).mkdir(exist_ok=True)
            elif name not in files and name not in (FILE_NAME, *LATER):
                _carry(path, fresh / name)
        for name, one in files.items():
            if one.after is not None:
                (fresh / name).parent.mkdir(parents=True, exist_ok=True)
                (fresh / name).write_bytes(one.after)
        digests = _agreeing(fresh, listed, {one.image: one.text for one in files.values()})
        number, parent = next_version(root)
        record = read_record(root)
        models = None if record is None else record.models
        before = 0 if record is None else record.edits or 0
        edits = max(0, before - 1) if back else before + 1
        write_record(fresh, new_record(number, digests, parent=parent, edits=edits, models=models))
        write_list(fresh, digests)
        previous = publish(fresh, root).previous
        share_images(root)
        return previous


def check_unchanged(root: Path, files: Mapping[str, Rewritten]) -> None:
    """Raise :class:`CaptionsChangedError` unless files are what they were when they were read.

    Raises:
        WriteError: One cannot be read.
    """
    changed = []
    for name, one in files.items():
        try:
            found: bytes | None = plain_bytes(root / name)
        except FileNotFoundError:
            found = None
        except OSError as error:
            raise WriteError(root / name, error) from error
        if found != one.before:
            changed.append(name)
    if changed:
        raise CaptionsChangedError(root, changed)


def _carry(path: Path, target: Path) -> None:
    """Bring a file into the new version; only images, which nobody edits, share their bytes."""
    if path.name in ADDED_TO:
        target.write_bytes(exported_bytes(path))
    elif path.suffix in SUFFIXES:
        link_or_copy(path, target)
    else:
        target.write_bytes(plain_bytes(path))


def _agreeing(root: Path, listed: dict[str, str], texts: Mapping[str, str]) -> dict[str, str]:
    """Write the captions into the metadata; return the digests of what is in the folder now."""
    entries = read_metadata(root)
    records = []
    for name, values in entries.items():
        try:
            caption = texts.get(name) or read_caption(root / name, values)
        except UnreadCaptionError:
            caption = str(values.get("caption") or "")
        records.append(Record(name, caption, {**values, "caption": caption}))
    written = {}
    if records:
        place = metadata_path(root)
        written = {place.name: metadata_json(records), LINES_FILE: metadata_lines(records)}
    for name, text in written.items():
        (root / name).write_text(text, encoding="utf-8", newline="\n")
    beside = [PurePosixPath(name).with_suffix(".txt").as_posix() for name in entries]
    digests = dict(listed)
    for name in (*written, *beside):
        if (root / name).is_file():
            digests[name] = content_hash(root / name)
        else:
            digests.pop(name, None)
    return digests
