"""A row an image: what its header says, what lies beside it, and what its folder is called."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..counts import how_many
from ..json_text import JsonError
from ..naming import first_of, table_name
from ..plain_files import plain_bytes
from ..rejection_reasons import Rejection
from .concepts import Concept, concept_above
from .disturbances import DISTURBANCE_KEY, DISTURBED, DisturbanceRecord
from .folders import Listing
from .kinds import missing_plugin, others_in_words
from .opening import (
    MAX_BYTES,
    MAX_PIXELS,
    TooLargeError,
    check_plain,
    decoding_errors,
    opened,
    upright_size,
)
from .own import own_in_words
from .recorded import PARAMETERS_KEY, Recorded, recorded
from .texts import UTF_8, UnreadCaptionError, beside

Row = dict[str, Any]

_LISTED = 5
_WIDEST = 2**31 - 1
_TURNING = (b"eXIf", b"Raw profile type", b"com.adobe.xmp")
"""One of these is in every PNG that says how it is to be turned."""
_UNREAD = "_caption_fault"
_ENCODING = "_caption_encoding"
_PROGRAM = "_program"
_RECORD = "_record_fault"


def describe(root: Path, name: str, columns_of: Callable[[str], Row]) -> Row:
    """Read the header of one file and what lies beside it: never raises, always a row.

    Args:
        root: The folder that the name starts from.
        name: The file's, with ``/``.
        columns_of: Reads how an image that this program has made describes itself.

    Returns:
        The columns of the row; keys with ``_`` in front are for :func:`notes_on`, which takes
        them away.
    """
    path = root / name
    row: Row = {"path": table_name(name), "kind": "real"}
    own = None
    try:
        check_plain(path)
        size = path.stat().st_size
        if size == 0:
            raise OSError("the file is empty (0 bytes)")
        if size > MAX_BYTES:
            raise OSError(f"the file is too large ({size:,} bytes)")
        data = plain_bytes(path)
        row["hash"] = hashlib.sha256(data).hexdigest()
        with opened(data) as image:
            if max(image.size) > _WIDEST:
                raise TooLargeError(image.size, MAX_PIXELS)
            own = image.info.get(PARAMETERS_KEY)
            disturbed = DisturbanceRecord.from_text(image.info.get(DISTURBANCE_KEY))
            is_own = isinstance(own, str)
            # Pillow decodes all of a PNG to find this, which those of our own need not have.
            exif = (
                None if is_own and not any(mark in data for mark in _TURNING) else image.getexif()
            )
            row["width"], row["height"] = upright_size(image.size, exif)
            foreign = None if is_own else recorded(image.info, exif)
        if disturbed is not None:
            row |= _of_disturbed(disturbed, columns_of)
        elif isinstance(own, str):
            row |= _of_record(own, columns_of)
        elif foreign is not None:
            row |= _of_foreign(foreign)
    except decoding_errors() as error:
        row |= {
            "rejection": Rejection.UNREADABLE.value,
            "rejection_detail": _reason(error, path),
        }
    concept = concept_above(table_name(name), table_name(root.resolve().name))
    if concept is not None:
        row |= {"repeats": concept.repeats, "class_word": concept.class_word or None}
        row["subject"] = row.get("subject") or concept.trigger
    return row | _beside(path)


def _of_record(text: str, columns_of: Callable[[str], Row]) -> Row:
    """Return the columns of an image's own record, or why it is ignored as a whole."""
    try:
        return columns_of(text)
    except JsonError as error:
        return {_RECORD: str(error)}


def _of_disturbed(record: DisturbanceRecord, columns_of: Callable[[str], Row]) -> Row:
    """Return what was asked for of a disturbed image's original, and what disturbs it."""
    made = json.dumps(dict(record.generation)) if record.generation is not None else None
    return {
        **(_of_record(made, columns_of) if made is not None else {}),
        "kind": DISTURBED,
        **record.columns(),
    }


def _of_foreign(found: Recorded) -> Row:
    return {
        "prompt": found.prompt or None,
        "negative_prompt": found.negative_prompt or None,
        "seed": found.seed,
        "caption": found.caption or None,
        _PROGRAM: found.program,
    }


def _beside(path: Path) -> Row:
    try:
        caption = beside(path)
    except UnreadCaptionError as error:
        return {_UNREAD: str(error)}
    except OSError as error:
        return {_UNREAD: f"The caption beside {path} cannot be read: {error}."}
    if caption is None:
        return {}
    if not caption.text:
        return {_UNREAD: f"The caption {caption.file} is empty."}
    return {
        "caption": caption.text,
        "caption_file": table_name(caption.file.name),
        _ENCODING: caption.encoding,
    }


def _reason(error: Exception, path: Path) -> str:
    if type(error).__name__ == "UnidentifiedImageError":
        missing = missing_plugin(path)
        return missing or f"not an image, whatever its name says ({path.suffix})"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or f"the file is damaged ({type(error).__name__})"


def notes_on(rows: Sequence[Row], listing: Listing) -> tuple[str, ...]:
    """Say what was read of a folder, a sentence each; takes the rows' private keys away."""
    notes = [*listing.notes]
    if others := others_in_words(listing.others):
        notes.append(f"{others}.")
    if own := own_in_words(listing.own):
        notes.append(own)
    needing = [row["rejection_detail"] for row in rows if row.get("rejection_detail")]
    for text, count in sorted(Counter(t for t in needing if "pip install" in t).items()):
        notes.append(f"{how_many(count, 'image')} not read: {text}.")
    notes += caption_notes(
        [row[_ENCODING] for row in rows if _ENCODING in row],
        [row[_UNREAD] for row in rows if _UNREAD in row],
    )
    if masks := len(listing.masks):
        notes.append(f"{how_many(masks, 'mask lies', 'masks lie')} beside the images.")
    notes += concept_notes([concept_above(row["path"], table_name(listing.root.resolve().name))
                            for row in rows])  # fmt: skip
    programs = Counter(row[_PROGRAM] for row in rows if row.get(_PROGRAM))
    for program, count in sorted(programs.items()):
        seeds = sum(r.get(_PROGRAM) == program and r.get("seed") is not None for r in rows)
        notes.append(
            f"{how_many(count, 'image')} of {program}: prompt read, and of {seeds} the seed."
        )
    faults = [f"{row['path']} ({row[_RECORD]})" for row in rows if _RECORD in row]
    if faults:
        listed = first_of(faults, _LISTED)
        notes.append(
            f"{how_many(len(faults), 'image')} with a generation record that makes no sense, "
            f"which is ignored: {listed}."
        )
    for row in rows:
        for key in (_ENCODING, _UNREAD, _PROGRAM, _RECORD):
            row.pop(key, None)
    return tuple(notes)


def caption_notes(encodings: Sequence[str], faults: Sequence[str]) -> list[str]:
    """Say how many captions were read beside images, in which encodings, and which were not."""
    notes = []
    if encodings:
        counted = Counter(encodings)
        listed = ", ".join(
            f"{name} {count}"
            for name, count in sorted(counted.items(), key=lambda e: (e[0] != UTF_8, -e[1], e[0]))
        )
        count = len(encodings)
        notes.append(f"{how_many(count, 'caption')} read beside the images ({listed}).")
    notes += faults[:_LISTED]
    if len(faults) > _LISTED:
        notes.append(
            f"{how_many(len(faults) - _LISTED, 'more caption is', 'more captions are')} empty or "
            "cannot be read."
        )
    return notes


def concept_notes(concepts: Sequence[Concept | None]) -> list[str]:
    """Say what the names of folders give their images."""
    counted: Mapping[Concept, int] = Counter(c for c in concepts if c is not None)
    return [
        f"Folder '{c.folder}': {how_many(count, 'image')}, {how_many(c.repeats, 'repeat')}, "
        f"trigger '{c.trigger}'{f', class {c.class_word!r}' if c.class_word else ''}."
        for c, count in sorted(counted.items(), key=lambda e: e[0].folder)
    ]
