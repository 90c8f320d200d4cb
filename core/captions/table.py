"""The captions of a folder of images, as one table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from ..counts import how_many, worded
from ..dataset.facts import read_facts, with_concepts
from ..dataset.publish import settle
from ..dataset.sidecars import read_metadata
from ..errors import CuratorError
from ..plain_files import plain_bytes
from ..reading.concepts import concept_above
from ..reading.folders import EmptyFolderError, list_sources
from ..reading.kinds import others_in_words
from ..reading.own import is_dataset
from ..reading.rows import caption_notes
from ..reading.texts import MOST_BYTES, UTF_8, caption_file, decoded, leads_elsewhere


class CaptionFolderError(CuratorError):
    """A folder whose captions cannot be read or written."""


@dataclass(frozen=True)
class Captioned:
    """An image and what is said of it.

    Attributes:
        image: Its name below the folder, with ``/``.
        text: Its caption in one line; empty if it has none.
        file: The caption's file below the folder; the one it would have where there is none.
        data: The bytes of that file; ``None`` where there is none.
        encoding: Of these bytes; empty where it is not known.
        known: What ``metadata.json`` says of the image.
    """

    image: str
    text: str
    file: str
    data: bytes | None = None
    encoding: str = UTF_8
    known: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @property
    def unread(self) -> bool:
        """Whether there is a caption that is not read, and never changed.

        It is in no encoding that is recognised, or a link out of its folder.
        """
        return self.data is not None and not self.encoding

    @property
    def elsewhere(self) -> bool:
        """Whether there is a caption that is a link out of its folder."""
        return self.unread and not self.data


@dataclass(frozen=True)
class CaptionTable:
    """The captions of a folder.

    Attributes:
        root: The folder.
        rows: A row an image, in the order of their names.
        trigger: The word that calls whom the images show, as far as the folder says it.
        is_dataset: Whether it is an exported dataset, with metadata and checksums.
        notes: What is to be said of how it was read, a sentence each.
        told: The trigger word that the folder itself tells a training.
    """

    root: Path
    rows: tuple[Captioned, ...]
    trigger: str = ""
    is_dataset: bool = False
    notes: tuple[str, ...] = ()
    told: str = ""

    @property
    def texts(self) -> list[str]:
        """The captions, in the order of the rows."""
        return [row.text for row in self.rows]

    def named(self, pattern: str) -> list[bool]:
        """Return a boolean a row: whether the image's name fits ``pattern``, such as ``a*.png``.

        Raises:
            CaptionFolderError: Of no image.
        """
        found = [
            fnmatch(row.image, pattern) or fnmatch(row.image.rpartition("/")[2], pattern)
            for row in self.rows
        ]
        if not any(found):
            raise CaptionFolderError(
                f"No image of {self.root} is called {pattern}. A * stands for any letters: "
                "'portrait*' are all that begin so."
            )
        return found


def read_table(folder: Path | str, *, trigger: str | None = None) -> CaptionTable:
    """Read the captions of a folder's images, in whatever encoding they are.

    Args:
        folder: An exported dataset, or any folder of images; subfolders count too.
        trigger: The trigger word, if it is known better than the folder knows it.

    Raises:
        CaptionFolderError: There is no such folder.
        EmptyFolderError: It has no image.
    """
    root = Path(folder).expanduser().resolve()
    if is_dataset(root) or not root.exists():
        settle(root)
    if not root.is_dir():
        raise CaptionFolderError(f"{folder} is no folder. Name a dataset or a folder of images.")
    try:
        listing = list_sources([root])
        if not listing.names:
            raise EmptyFolderError(root, others_in_words(listing.others))
        known = read_metadata(root)
        told = [known.get(name) or known.get(Path(name).name, {}) for name in listing.names]
        pairs = zip(listing.names, told, strict=True)
        rows = tuple(_row(root, name, values) for name, values in pairs)
    except OSError as error:
        raise CaptionFolderError(
            f"{root} cannot be read: {error.strerror or error}. Mend that, or name another folder."
        ) from error
    facts = with_concepts(read_facts(root), [Path(row.image) for row in rows])
    own = read_facts(root).trigger or facts.trigger
    encodings = [row.encoding for row in rows if row.data is not None and row.encoding]
    faults = [f"The caption {row.file} {_why_unread(row)}" for row in rows if row.unread]
    if below := sum(concept_above(row.image, root.name) is None and "/" in row.image
                    for row in rows):  # fmt: skip
        faults.append(
            f"{below:,} of {how_many(len(rows), 'image')} {worded(below, 'lies', 'lie')} in "
            f"subfolders; {worded(below, 'it counts', 'they count')} too."
        )
    return CaptionTable(
        root,
        rows,
        own if trigger is None else trigger,
        is_dataset(root),
        tuple(caption_notes(encodings if set(encodings) - {UTF_8} else [], faults)),
        own,
    )


def _why_unread(row: Captioned) -> str:
    if row.elsewhere:
        return (
            "is a link out of its folder, and is not followed. Put a copy in its place if you want "
            "what it leads to."
        )
    if len(row.data or b"") > MOST_BYTES:
        return (
            f"is larger than {MOST_BYTES:,} bytes, and stays as it is. Take it away, or shorten it."
        )
    return "is in an unknown encoding, and stays as it is. Save it as UTF-8."


def _row(root: Path, name: str, known: Mapping[str, Any]) -> Captioned:
    file = caption_file(root / name)
    if file is None:
        text = " ".join(str(known.get("caption") or "").split())
        beside = Path(name).with_suffix(".txt").as_posix()
        return Captioned(name, text, beside, None, UTF_8, known)
    if leads_elsewhere(file, root / name):
        return Captioned(name, "", file.relative_to(root).as_posix(), b"", "", known)
    data = plain_bytes(file)
    text, encoding = decoded(data) or ("", "")
    place = file.relative_to(root).as_posix()
    return Captioned(name, " ".join(text.split()), place, data, encoding, known)
