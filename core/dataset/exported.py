"""What an export has made, and what is to be said of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..counts import how_many, worded
from ..naming import first_of


@dataclass(frozen=True)
class Exported:
    """A dataset on disk.

    Attributes:
        folder: The folder.
        version: Its number, 1 for the first export to this place.
        previous: Where the version before is kept, if this export replaced one.
        images: How many images it holds.
        candidates: How many images it was selected from.
        size_bytes: Size of the images together.
        linked: Images that share their bytes on disk with the source.
        converted: Images that were converted to PNG.
        unchanged: The place held the same dataset already, and was left as it was.
        reused: Images that an earlier export to the same place had converted.
        cleaned: Images that were copied without what hid beside their pixels.
        masks: Images that got a mask of their own.
        white_masks: Images for which there was none, and whose mask is white.
        fingerprint: Of the whole content, as ``version.json`` says it.
        damaged: Files of the version before that were gone or changed since its export.
        shared: Whether images that several versions hold are one file each; otherwise the file
            system has no hard links.
        edits: How many edits of captions the version before has had, which this one has not.
    """

    folder: Path
    version: int
    previous: Path | None
    images: int
    candidates: int
    size_bytes: int
    linked: int
    converted: int
    unchanged: bool
    reused: int = 0
    cleaned: int = 0
    masks: int = 0
    white_masks: int = 0
    fingerprint: str = ""
    damaged: tuple[str, ...] = ()
    shared: bool = True
    edits: int = 0

    @property
    def masks_in_words(self) -> str:
        """How many images have a mask; empty if masks were not asked for."""
        if not self.masks + self.white_masks:
            return ""
        rest = self.white_masks
        white = f" For {how_many(rest, 'image')} there was none: white, all counts."
        return f"Masks of {how_many(self.masks, 'image')}.{white if rest else ''}"

    @property
    def notes(self) -> tuple[str, ...]:
        """What is to be said of it, a sentence each."""
        notes = []
        if self.damaged:
            listed = first_of(self.damaged, 5)
            count = len(self.damaged)
            notes.append(
                f"{how_many(count, 'file')} of the version before {worded(count, 'was', 'were')} "
                f"gone or changed since its export ({listed}). It is kept as it was found in "
                f"{self.previous}; version {self.version} is whole."
            )
        if self.edits:
            notes.append(
                "The captions of the version before had been edited "
                f"({how_many(self.edits, 'edit')}); those of version {self.version} are written "
                f"anew. 'character-curator restore {self.folder} {self.version - 1}' brings the "
                "edited ones back."
            )
        if not self.shared:
            notes.append(
                "The file system has no hard links: the newest version has files of its own, and "
                f"each image of earlier ones is stored once in {self.folder.name}.versions/content."
            )
        return tuple(notes)
