"""Where images lie: a folder, a zip file, a single file, or several of these."""

from __future__ import annotations

import itertools
import logging
import os
import shutil
import tempfile
import zipfile
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

from .. import atomic
from ..counts import how_many, worded
from ..damages import note_damage
from ..errors import CuratorError
from ..hashing import content_hash
from ..naming import expanded, first_of, portable
from .kinds import CAPTION_SUFFIXES, is_image_name
from .masks import masks_of, pictures_in, without_masks
from .own import is_drawn_by_training, is_own_output
from .tars import (
    OUTSIDE,
    TWICE,
    is_no_name,
    is_tar_name,
    is_too_long,
    left_out_of,
    unpack_tar,
    write_left_out,
)
from .tars import SUFFIXES as TAR_SUFFIXES
from .unpacked import UNPACKING_ERRORS, damaged_since, write_unpacked

log = logging.getLogger(__name__)

ZIP_SUFFIX = ".zip"
MAX_UNPACKED_FILE = 1 << 30
"""The most bytes of one file in a zip; a larger one is no image that could be decoded."""
_BOMB = 1000
_ENTRIES, _LEAST = 100_000, 64
"""A tar file may hold so many files, and more where each takes so many bytes of it on average."""


class SourceError(CuratorError):
    """What is named as the images cannot be used."""


class EmptyFolderError(CuratorError):
    """A folder holds no image at all."""

    def __init__(self, folder: Path | str, others: str = "") -> None:
        super().__init__(
            f"No image in {folder} or its subfolders{f' ({others})' if others else ''}. Name a "
            "folder that holds PNG, JPEG, WebP, AVIF, HEIC, BMP or TIFF files."
        )


@dataclass(frozen=True)
class Listing:
    """The files of one or several sources.

    Attributes:
        root: The folder that the names start from.
        names: The images, with ``/``, in order.
        labels: What people are told of where each lies: below its own source, without the folders
            above it; only where there are several sources.
        others: Files that are neither images nor captions of images, in order.
        captions: Captions of images.
        masks: The mask of each image that one lies beside, both as names.
        own: Folders that were not entered, and images that were left out, because this program has
            written them, in order.
        notes: What is to be said of zip and tar files, and of folders that cannot be read, a
            sentence each.
    """

    root: Path
    names: tuple[str, ...]
    labels: tuple[str, ...] | None
    others: tuple[str, ...]
    captions: tuple[str, ...] = ()
    masks: Mapping[str, str] = field(default_factory=dict)
    own: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def list_sources(sources: Sequence[Path], unpacked: Path | None = None) -> Listing:
    """List every file of some sources.

    What this program has written below a source (a dataset, its versions, measurements) is none of
    its images; a folder that is named as a source itself is read whatever it is.

    Args:
        sources: Folders (with all below them), zip or tar files, or single files.
        unpacked: Where images of these are unpacked to; a folder for temporary files unless
            given. What is there already is not unpacked again.

    Raises:
        SourceError: A zip or tar file is not there, damaged, locked by a password or a bomb; a
            single file is no image; the sources have no folder in common.
    """
    if not sources:
        raise SourceError("No source is named: the list is empty. Name a folder of images.")
    places = [_place(source, unpacked) for source in sources]
    listed = [_one(place) for place in places]
    said = tuple(
        note for source, place in zip(sources, places, strict=True)
        for note in (_left_out(source, place),) if note
    )  # fmt: skip
    said += tuple(note for one in listed for note in one.notes)
    if len(listed) == 1:
        return replace(listed[0], notes=said)
    try:
        root = Path(os.path.commonpath([one.root.resolve() for one in listed]))
    except ValueError as error:  # drives of their own
        raise SourceError(
            f"These folders have none in common ({error}). Name folders on the same drive."
        ) from error
    images: dict[str, str] = {}
    others, captions, own = [], [], []
    masks: dict[str, str] = {}
    taken: Counter[str] = Counter()
    for source, one in zip(sources, listed, strict=True):
        title = source.resolve().name or "images"
        taken[title] += 1
        title += f"~{taken[title]}" if taken[title] > 1 else ""
        start = one.root.resolve().relative_to(root).as_posix()
        prefix = "" if start == "." else f"{start}/"
        single = source.is_file() and not is_packed_name(source.name)
        for name in one.names:
            images.setdefault(prefix + name, name if single else f"{title}/{name}")
        others += [prefix + name for name in one.others]
        captions += [prefix + name for name in one.captions]
        own += [prefix + name for name in one.own]
        masks |= {prefix + image: prefix + mask for image, mask in one.masks.items()}
    names = tuple(sorted(images))
    labels = tuple(images[name] for name in names)
    others, captions = sorted({*others}), sorted({*captions})
    told = tuple(sorted({*own}))
    return Listing(root, names, labels, tuple(others), tuple(captions), masks, told, said)


def is_packed_name(name: str) -> bool:
    """Whether a file's name says that it is a zip or a tar file."""
    return name.lower().endswith((ZIP_SUFFIX, *TAR_SUFFIXES))


def sources_in(places: Sequence[Path]) -> list[Path]:
    """Return the sources that places stand for.

    Args:
        places: Sources of :func:`list_sources`; braces in a name stand for several
            (``part-{000..009}.tar``), and a folder without an image for the zip or tar files in it.

    Raises:
        SourceError: Braces stand for too many.
    """
    return [one for place in places for named in _named(place) for one in packed_in(named)]


def _named(source: Path) -> list[Path]:
    """Return what a name with braces stands for; a file that is so called stands for itself."""
    if "{" not in source.name or source.exists():
        return [source]
    try:
        return [source.with_name(name) for name in expanded(source.name)]
    except ValueError as error:
        raise SourceError(f"{error}. Name fewer, or their folder.") from error


def packed_in(source: Path) -> list[Path]:
    """Return the zip and tar files of a folder that holds them and no image; else the source."""
    if not source.is_dir():
        return [source]
    found = sorted(path for path in source.iterdir() if is_packed_name(path.name))
    if not any(path.is_file() for path in found):
        return [source]
    if any(is_image_name(name) for name in _files(source)[0]):
        return [source]
    return [path for path in found if path.is_file() and not path.name.startswith(".")]


def _place(source: Path, unpacked: Path | None) -> Path:
    if not is_packed_name(source.name) or source.is_dir():
        return source
    if not source.is_file():
        if source.exists():
            raise SourceError(f"{source} is a pipe or a device, and no file. Name another.")
        raise SourceError(f"There is no file {source}. Check the name.")
    return unpack(source, unpacked)


def _left_out(source: Path, place: Path) -> str:
    """Say what was left out of a zip or tar file; empty for nothing."""
    counts = left_out_of(place) if place != source else {}
    listed = ", ".join(f"{count} {reason}" for reason, count in counts.items())
    total = sum(counts.values())
    what = how_many(total, "entry was", "entries were")
    return f"{source.name}: {what} left out: {listed}." if counts else ""


def _one(place: Path) -> Listing:
    if place.is_file():
        if not is_image_name(place):
            raise SourceError(
                f"{place} is no image that can be read ({place.suffix or 'no ending'}). Name an "
                "image, a folder of images or a zip file."
            )
        return Listing(place.parent, (place.name,), None, ())
    files, own, closed = _files(place)
    there = set(files)
    drawn = {name for name in files if is_drawn_by_training(name, there)}
    files = [name for name in files if name not in drawn]
    own = tuple(sorted((*own, *drawn)))
    shown = [name for name in files if is_image_name(name)]
    pictures = pictures_in(place, shown)
    masks = masks_of(shown, pictures)
    names = without_masks(shown, pictures)
    stems = {name.rpartition(".")[0] for name in names}
    rest = [name for name in files if not is_image_name(name)]
    captions = tuple(name for name in rest if _is_caption(name, stems))
    others = tuple(name for name in rest if name not in set(captions))
    notes: tuple[str, ...] = ()
    if closed:
        count = how_many(len(closed), "folder")
        notes = (
            f"{count} below {place} cannot be read, and nothing in there was: "
            f"{first_of(closed, 5)}.",
        )
    if pictures:
        count = how_many(len(pictures), "file")
        notes += (
            f"Called as masks, but in many colors, and so taken for images of their own: {count} "
            f"of {place} ({first_of(pictures, 5)}).",
        )
    return Listing(place, names, None, others, captions, masks, own, notes)


def _is_caption(name: str, stems: set[str]) -> bool:
    stem, _, end = name.rpartition(".")
    return f".{end.lower()}" in CAPTION_SUFFIXES and stem in stems


def _files(root: Path) -> tuple[list[str], tuple[str, ...], tuple[str, ...]]:
    """List files recursively, the folders below that this program has written, those not readable.

    Hidden ones are left out; a folder reached twice is entered once.

    Raises:
        OSError: The folder itself is there and cannot be read.
    """
    found: list[str] = []
    own: list[str] = []
    closed: list[str] = []
    entered: set[tuple[int, int]] = set()

    def refused(error: OSError) -> None:
        place = Path(os.fsdecode(error.filename))
        if place != root:
            closed.append(place.relative_to(root).as_posix())
        elif not isinstance(error, (FileNotFoundError, NotADirectoryError)):
            raise error

    for folder, folders, files in os.walk(root, onerror=refused, followlinks=True):
        status = Path(folder).stat()
        identity = (status.st_dev, status.st_ino)
        if identity in entered:
            folders.clear()
            continue
        entered.add(identity)
        seen = sorted(name for name in folders if not name.startswith("."))
        written = [name for name in seen if is_own_output(Path(folder) / name)]
        folders[:] = [name for name in seen if name not in set(written)]
        own += [(Path(folder) / name).relative_to(root).as_posix() for name in written]
        found += [
            (Path(folder) / name).relative_to(root).as_posix()
            for name in files
            if not name.startswith(".")
        ]
    return sorted(found), tuple(sorted(own)), tuple(sorted(closed))


def unpack(archive: Path, folder: Path | None = None) -> Path:
    """Unpack images and captions of a zip or tar file, once.

    Args:
        archive: The file.
        folder: Where the folder of its images goes.

    Returns:
        The folder, named by the archive and its contents.

    Raises:
        SourceError: It is damaged, locked by a password, or claims more than it can hold.
    """
    home = folder or Path(tempfile.gettempdir()) / "character-curator"
    try:
        target = home / f"{archive.stem}-{content_hash(archive)[:12]}"
        if target.is_dir() and not _set_aside(target):
            return target
        with atomic.filling(target) as making:
            if is_tar_name(archive.name):
                unpack_tar(archive, making, _parts, _limits(archive, making))
            else:
                with zipfile.ZipFile(archive) as opened:
                    _extract(opened, making, archive)
            write_unpacked(making, target)
    except UNPACKING_ERRORS as error:
        raise SourceError(f"{archive} cannot be unpacked: {error}. Pack it again.") from error
    except RuntimeError as error:  # how zipfile says that there is a password
        raise SourceError(f"{archive} cannot be unpacked: {error}. Unpack it yourself.") from error
    except OSError as error:
        if error.errno is None:  # bz2 says so of damaged data
            raise SourceError(f"{archive} cannot be unpacked: {error}. Pack it again.") from error
        raise SourceError(f"{archive} cannot be unpacked to {home}: {error}.") from error
    return target


def _set_aside(target: Path) -> bool:
    """Rename what was unpacked if it is not that any more; return whether that was so."""
    damaged = damaged_since(target)
    if not damaged:
        return False
    kept = atomic.free_aside(target)
    target.rename(kept)
    note_damage("unpacked files", target, "unpacked again", len(damaged))
    log.warning(
        "%d of the files in %s %s not what was unpacked there. They are kept as %s, and all are "
        "unpacked again: %s",
        len(damaged), target, worded(len(damaged), "is", "are"), kept.name,
        first_of(damaged),
    )  # fmt: skip
    return True


def _extract(opened: zipfile.ZipFile, target: Path, archive: Path) -> None:
    entries = [entry for entry in opened.infolist() if not entry.is_dir()]
    wanted, left_out = _wanted(entries)
    write_left_out(target, left_out)
    kept = [pair for pair in wanted if _is_kept(pair[1][-1])]
    size = sum(entry.file_size for entry, _ in kept)
    if size > shutil.disk_usage(target).free:
        raise SourceError(f"{archive} holds {size:,} bytes of images: more than the disk has free.")
    for entry, parts in wanted:
        path = target.joinpath(*parts)
        path.parent.mkdir(parents=True, exist_ok=True)
        if not _is_kept(parts[-1]):
            path.touch()  # so that it is counted, like anything beside images in a folder
            continue
        is_bomb = entry.file_size > _BOMB * max(entry.compress_size, 1 << 12)
        if entry.file_size > MAX_UNPACKED_FILE or is_bomb:
            raise SourceError(
                f"{archive} is refused: {entry.filename} claims {entry.file_size:,} bytes, packed "
                f"into {entry.compress_size:,}. Take that file out of it."
            )
        with opened.open(entry) as source, path.open("wb") as copy:
            shutil.copyfileobj(source, copy, 1 << 20)


def _wanted(
    entries: Sequence[zipfile.ZipInfo],
) -> tuple[list[tuple[zipfile.ZipInfo, tuple[str, ...]]], Counter[str]]:
    """Return the entries that become files, the last of a name, and how many others there are."""
    left_out: Counter[str] = Counter()
    files: set[tuple[str, ...]] = set()
    folders: set[tuple[str, ...]] = set()
    wanted = []
    for entry in reversed(entries):
        parts = _parts(entry.filename)
        if not parts:
            left_out[OUTSIDE] += is_no_name(entry.filename)
            continue
        above = {parts[:depth] for depth in range(1, len(parts))}
        if parts in files or parts in folders or above & files:
            left_out[TWICE] += 1
            continue
        files.add(parts)
        folders |= above
        wanted.append((entry, parts))
    return wanted[::-1], left_out


def _limits(archive: Path, target: Path) -> Callable[[str, int, int], None]:
    """Return what refuses a tar file that holds more than it can, or than the disk has room for."""
    free, packed = shutil.disk_usage(target).free, archive.stat().st_size
    entries, most = itertools.count(1), max(_ENTRIES, packed // _LEAST)

    def check(name: str, size: int, total: int) -> None:
        if next(entries) > most:
            raise SourceError(
                f"{archive} is refused: it claims more than {how_many(most, 'file')}, packed into "
                f"{packed:,} bytes. Pack the images alone."
            )
        if size > MAX_UNPACKED_FILE or total > _BOMB * max(packed, 1 << 12):
            raise SourceError(
                f"{archive} is refused: {name} claims {size:,} bytes, with what is before it "
                f"{total:,}, packed into {packed:,}. Take that file out of it."
            )
        if total > free:
            raise SourceError(
                f"{archive} holds more than {total:,} bytes: more than the disk has free."
            )

    return check


def _is_kept(name: str) -> bool:
    return is_image_name(name) or PurePosixPath(name).suffix.lower() in CAPTION_SUFFIXES


def _parts(name: str) -> tuple[str, ...]:
    """Return an entry's path as safe names; empty for hidden ones, and where no file has it."""
    parts = [part for part in PurePosixPath(name.replace("\\", "/")).parts if part != "/"]
    if not parts or any(part == "__MACOSX" or part.startswith(".") for part in parts):
        return ()
    if is_too_long(parts):
        return ()
    return tuple(portable(part) for part in parts)
