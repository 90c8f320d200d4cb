"""An asset pack on disk: PNGs by folder, atlas, manifest, checksums, and the archive of all.

Everything but the images is made anew each time, and written only where it differs: a damaged file
is mended, a file of an earlier pack that is in the new one no more goes, and whatever else lies in
the folder (an engine's own notes on each image) stays.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .. import atomic
from ..asset_sections import AtlasRules, SpriteRules
from ..counts import how_many, worded
from ..damages import note_damage
from ..dataset.checksums import FILE_NAME as CHECKSUMS_FILE
from ..dataset.checksums import is_within, list_text, write_list
from ..errors import CuratorError
from ..hashing import json_hash
from ..imageset import ImageSet
from ..json_text import parse
from ..naming import first_of, located, slug
from ..plain_files import plain_bytes, plain_text
from ..progress import Progress, silent
from ..reading.own import PROGRAM
from .archive import write_archive
from .atlas import Atlas, packed, page_image, page_json
from .manifest import FORMAT, MANIFEST_FILE, asset_entry, described
from .sprites import Sprite, encoded, read_source, sprite_of

log = logging.getLogger(__name__)

NOTE_FILE = ".pack.json"
"""Which files of the folder are the pack's: written before they are, so that a killed run's are
known."""
ATLAS = "atlas"

MaskOf = Callable[[int, Mapping[str, Any], Any], Any | None]
"""Called with an image's place among the rows, its row and itself; returns its mask in mode L."""


class AssetPackError(CuratorError):
    """A pack cannot be made."""


class NoAssetsError(AssetPackError):
    """Nothing is left to pack."""


class SourceImageError(AssetPackError):
    """An image cannot be made an asset."""


@dataclass(frozen=True)
class Pack:
    """An asset pack that is there.

    Attributes:
        folder: Where it lies.
        archive: The zip archive of it.
        digest: SHA-256 of the archive.
        files: The assets' names in the folder, in the images' order.
        atlas: Where each lies in the atlas, where one was made.
        fingerprint: Identity of the whole content.
        made: Files that were written because they were not there, or another pack's.
        mended: Files that were written because they were not as this pack had been written.
        removed: Files of an earlier pack that are in this one no more.
        empty: Images of which nothing was left, as the mask has it: their rows' places.
    """

    folder: Path
    archive: Path
    digest: str
    files: tuple[str, ...]
    atlas: Atlas | None
    fingerprint: str
    made: tuple[str, ...] = ()
    mended: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    empty: tuple[int, ...] = ()

    @property
    def pages(self) -> list[Path]:
        """The textures of the atlas."""
        return [] if self.atlas is None else [self.folder / n for n, _ in self.atlas.names(ATLAS)]


def write_pack(
    images: ImageSet,
    folder: Path,
    folders: Sequence[str],
    masks: MaskOf,
    sprites: SpriteRules,
    atlas: AtlasRules,
    *,
    name: str,
    about: Mapping[str, Any] | None = None,
    extra: Mapping[str, bytes] | None = None,
    progress: Progress = silent,
) -> Pack:
    """Write a pack, or bring the one that is there up to date.

    Args:
        images: What goes into it, a row an asset.
        folder: The pack's; the archive goes beside it.
        folders: The folder of each asset in the pack.
        masks: What of each image is the subject.
        sprites: How images become assets.
        atlas: How they are packed.
        name: The pack's, for people.
        about: What else the manifest says, ready for JSON.
        extra: Further files of the pack, by name.
        progress: Watches.

    Raises:
        NoAssetsError: There is no image, or nothing is left of any.
        SourceImageError: An image cannot be read.
        AtlasError: An asset is larger than a page of the atlas.
        MaskError: A mask can't be had.
        AssetPackError: A file that is not the pack's lies where one of it goes.
    """
    names = asset_names(images, folders)
    writer = _Writer(folder, _read_note(folder))
    writer.announce([*names, MANIFEST_FILE, CHECKSUMS_FILE, *(extra or {})])
    entries, places, empty = [], {}, []
    progress.start("Cutting assets", len(images))
    try:
        for number, (row, file) in enumerate(zip(images.table.to_dicts(), names, strict=True)):
            sprite, pixels = _sprite(images.root, number, row, masks, sprites)
            progress.advance(1, file)
            if sprite is None:
                empty.append(number)
                continue
            digest = writer.write(file, encoded(sprite.image))
            places[file] = (sprite.image.size, sprite.image.getchannel("A").getbbox())
            entries.append(asset_entry(row, file, digest, pixels, sprite))
    finally:
        progress.finish()
    if not entries:
        raise NoAssetsError(
            f"Nothing is left of any of {how_many(len(images), 'image')}: "
            f"{worded(len(images), 'its mask is', 'their masks are')} black. Look at the "
            "background and at the masks."
            if len(images)
            else "There is no image to make an asset of."
        )
    made = packed(places, atlas) if atlas.atlas else None
    textures = [] if made is None else made.names(ATLAS)
    writer.announce([file for pair in textures for file in pair])
    if made is not None:
        for page, (texture, table) in enumerate(textures):
            writer.write(texture, encoded(page_image(made, page, folder, atlas)))
            writer.write(table, page_json(made, page, ATLAS).encode())
    for file, data in (extra or {}).items():
        writer.write(file, data)
    manifest = {
        "format": FORMAT,
        "program": PROGRAM,
        "name": name,
        "count": len(entries),
        **described(images),
        **(about or {}),
        "sprites": sprites.model_dump(include=set(SpriteRules.model_fields) - {"mask_model"}),
        "atlas": atlas.model_dump(include=set(AtlasRules.model_fields))
        | {"pages": [{"image": image, "data": data} for image, data in textures]},
        "assets": entries,
    }
    text = json.dumps(manifest, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    writer.write(MANIFEST_FILE, text.encode())
    writer.check(CHECKSUMS_FILE, list_text(writer.digests))
    write_list(folder, writer.digests)
    removed = writer.finish([CHECKSUMS_FILE])
    archive = folder.with_name(f"{folder.name}.zip")
    if writer.mended:
        note_damage("files of the pack", folder, "written again", len(writer.mended))
        listed = first_of(writer.mended)
        log.warning(
            "%s in %s not as written, and made again: %s",
            how_many(len(writer.mended), "file was", "files were"), folder,
            listed,
        )  # fmt: skip
    return Pack(
        folder,
        archive,
        write_archive(folder, [*writer.digests, CHECKSUMS_FILE], archive),
        tuple(entry["file"] for entry in entries),
        made,
        json_hash(writer.digests),
        tuple(writer.made),
        tuple(writer.mended),
        removed,
        tuple(empty),
    )


def asset_names(images: ImageSet, folders: Sequence[str]) -> list[str]:
    """Return where each image goes in the pack: ``armor/char1_armor_966983.png``.

    Of an image that was not made from a prompt it is its own name, in the letters that every engine
    takes.
    """
    taken: set[str] = set()
    names = []
    takes = images.table["take"].fill_null(1).max() or 1
    for row, folder in zip(images.table.to_dicts(), folders, strict=True):
        parts = [slug(row[key]) for key in ("subject", "scenario_name") if row[key]]
        if row["seed"] is None or not row["scenario_name"]:
            parts = [slug(Path(row["path"]).stem)]
        else:
            parts.append(str(row["seed"]))
            if takes > 1:  # type: ignore[operator]
                parts.append(f"{row['take'] or 1:02d}")
        stem = f"{slug(folder) if folder else 'assets'}/{'_'.join(parts)}"
        name, number = f"{stem}.png", 1
        while name.casefold() in taken:
            number += 1
            name = f"{stem}_{number}.png"
        taken.add(name.casefold())
        names.append(name)
    return names


def _sprite(
    root: Path, number: int, row: Mapping[str, Any], masks: MaskOf, rules: SpriteRules
) -> tuple[Sprite | None, str]:
    """Return the asset of an image, and the SHA-256 of the image's pixels."""
    path = located(root, row["path"])
    try:
        image = read_source(path)
    except (OSError, ValueError, SyntaxError, MemoryError) as error:
        raise SourceImageError(
            f"{path} cannot be read: {error}. Mend it, or leave it out."
        ) from error
    size = f"{image.width}x{image.height} RGBA ".encode()
    digest = hashlib.sha256(size + image.tobytes()).hexdigest()
    return sprite_of(image, masks(number, row, image), rules), digest


@dataclass
class _Writer:
    """Writes the files of a pack that are not there as they are to be."""

    folder: Path
    noted: dict[str, str | None]
    made: list[str] = field(default_factory=list)
    mended: list[str] = field(default_factory=list)
    digests: dict[str, str] = field(default_factory=dict)
    _announced: set[str] = field(default_factory=set)

    def announce(self, names: Sequence[str]) -> None:
        """Note that files are the pack's, before they are written.

        Raises:
            AssetPackError: There is one that is not.
        """
        for name in names:
            if name not in self.noted and (self.folder / name).exists():
                raise AssetPackError(
                    f"{self.folder / name} exists and is not of this pack. Move it away, or choose "
                    "another folder."
                )
        self._announced |= set(names)
        new = [name for name in names if name not in self.noted]
        if new:
            self.noted |= dict.fromkeys(new)
            self._note()

    def write(self, name: str, data: bytes) -> str:
        """Write a file where it is not there as it is to be; return its SHA-256."""
        path = self.folder / name
        digest = self.digests[name] = hashlib.sha256(data).hexdigest()
        try:
            there: bytes | None = plain_bytes(path)
        except OSError:
            there = None
        if there != data:
            as_noted = self.noted.get(name) == digest
            (self.mended if as_noted else self.made).append(name)
            atomic.write_bytes(path, data)
        return digest

    def check(self, name: str, text: str) -> None:
        """Look whether a file that follows from the others is as it was written with them."""
        as_before = not self.made and self.noted.keys() == {*self.digests, name}
        try:
            there = plain_text(self.folder / name)
        except FileNotFoundError:
            return
        except (OSError, ValueError):
            there = ""
        if as_before and there != text:
            self.mended.append(name)

    def finish(self, more: Sequence[str]) -> tuple[str, ...]:
        """Remove what is the pack's no longer, and note what is; return what was removed."""
        kept = self.digests.keys() | set(more)
        gone = sorted(self.noted.keys() - kept)
        there = [name for name in gone if (self.folder / name).is_file()]
        for name in there:
            (self.folder / name).unlink()
        for parent in {(self.folder / name).parent for name in gone} - {self.folder}:
            with suppress(OSError):  # something else is in it, or it is not there
                parent.rmdir()
        self.noted = {name: self.digests.get(name) for name in sorted(kept)}
        self._note()
        return tuple(there)

    def _note(self) -> None:
        note = {"program": PROGRAM, "files": self.noted}
        atomic.write_text(self.folder / NOTE_FILE, json.dumps(note, indent=1) + "\n")


def _read_note(folder: Path) -> dict[str, str | None]:
    """Return the files of a folder that are a pack's, and the SHA-256 that each was left with."""
    try:
        found = parse(plain_text(folder / NOTE_FILE))
        return {
            name: digest if isinstance(digest, str) else None
            for name, digest in found["files"].items()
            if is_within(name)
        }
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise AssetPackError(
            f"{folder / NOTE_FILE} cannot be read: {error}. It says which files are the pack's. "
            "Move the folder away, and make the pack again."
        ) from error
