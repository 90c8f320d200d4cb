"""Which files are images, and which of them need a library more to be read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import PurePath

from ..counts import how_many

PLUGINS: Mapping[str, str] = {
    ".heic": "pillow-heif",
    ".heif": "pillow-heif",
    ".hif": "pillow-heif",
    ".jxl": "pillow-jxl-plugin",
}
"""Images that Pillow reads with a library more, by the end of their name; extra ``formats``."""

IMAGE_SUFFIXES = frozenset(
    {
        ".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".bmp", ".dib", ".tif", ".tiff",
        ".gif", ".avif", ".avifs", ".jp2", ".j2k", ".j2c", ".jpc", ".jpf", ".jpx", ".ppm", ".pgm",
        ".pbm", ".pnm", ".tga", ".pcx", ".psd", ".sgi", ".qoi", *PLUGINS,
    }
)  # fmt: skip
"""The ends of the names that are taken for images, in small letters."""

FORMATS = frozenset(
    {
        "PNG", "JPEG", "MPO", "WEBP", "BMP", "DIB", "TIFF", "GIF", "AVIF", "JPEG2000", "PPM", "TGA",
        "PCX", "PSD", "SGI", "QOI", "HEIF", "JXL",
    }
)  # fmt: skip
"""The formats that are decoded, in Pillow's names: those of :data:`IMAGE_SUFFIXES`, whatever a
file is called. Of others Pillow starts programs (PostScript), or they are no images."""

CAPTION_SUFFIXES = (".txt", ".caption")
"""The ends of the names of captions beside an image, the first one that is there taken."""


def is_image_name(name: str | PurePath) -> bool:
    """Whether a file's name says that it is an image."""
    return PurePath(name).suffix.lower() in IMAGE_SUFFIXES


@lru_cache(maxsize=1)
def add_plugins() -> None:
    """Let Pillow read HEIC and JPEG XL, where the libraries for that are installed."""
    from contextlib import suppress

    with suppress(ImportError):
        from pillow_heif import register_heif_opener

        register_heif_opener()
    with suppress(ImportError):
        import pillow_jxl  # noqa: F401  registers itself


@lru_cache(maxsize=1)
def known_formats() -> tuple[str, ...]:
    """Return what of :data:`FORMATS` can be decoded here, in the order that Pillow tries them."""
    from PIL import Image

    add_plugins()
    Image.init()
    return tuple(name for name in Image.ID if name in FORMATS)


def missing_plugin(name: str | PurePath) -> str:
    """Return what to install for a file that Pillow has not recognised; empty for others."""
    suffix = PurePath(name).suffix
    library = PLUGINS.get(suffix.lower())
    return f"{suffix} needs the library {library}: pip install {library}" if library else ""


def others_in_words(names: Iterable[str]) -> str:
    """Say how many files are no images, by the ends of their names, the most frequent first."""
    ends = Counter(PurePath(name).suffix.lower() or "without an ending" for name in names)
    if not ends:
        return ""
    total = sum(ends.values())
    listed = ", ".join(f"{end} {n}" for end, n in sorted(ends.items(), key=lambda e: (-e[1], e[0])))
    what = how_many(total, "file is no image", "files are no images")
    return f"{what}: {listed}"
