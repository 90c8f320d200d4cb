"""What an image is called, and which noise it starts from: both follow from what was asked for."""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path


def noise_seed(subject: str, seed: int, scenario: int, take: int, kind: str = "scenario") -> int:
    """Derive a request's noise seed from what names it.

    The first 53 bits of SHA-256 over the UTF-8 text ``character-curator/noise/1`` + line feed +
    the JSON array ``[subject, seed, kind, scenario, take]`` (no spaces, ASCII escapes, the subject
    in Unicode normal form C). Prompts do not enter: a changed word keeps the noise, so that its
    effect can be seen. Nor does a seed fix the character's look: that is the description's part.

    Returns:
        A number in 0 <= n < 2**53.

    Example:
        >>> noise_seed("char1", 966983, scenario=26, take=1)
        4036260782982333
    """
    name = unicodedata.normalize("NFC", subject)
    text = json.dumps([name, int(seed), kind, int(scenario), int(take)], separators=(",", ":"))
    digest = hashlib.sha256(f"character-curator/noise/1\n{text}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 11


def file_name(subject: str, seed: int, kind: str, scenario: int, take: int) -> str:
    """Name an image: ``char_<subject>_seed_<seed>_<kind>_<number>_<take>.png``.

    Number and take have two digits at least. A subject's name that a file system might not take is
    replaced by its :func:`slug`. Two images share a name only when two subjects share a slug.
    """
    return f"char_{slug(subject)}_seed_{seed}_{kind}_{scenario:02d}_{take:02d}.png"


def slug(name: str) -> str:
    """Make a name safe for every file system: ASCII letters, digits, ``_`` and ``-``, 48 at most.

    Accents are dropped, everything else becomes ``-``. A name that loses more than that (a script
    other than Latin, a very long name) gets the first 8 digits of its SHA-256 appended.
    """
    composed = unicodedata.normalize("NFC", name)
    plain = unicodedata.normalize("NFKD", composed).encode("ascii", "ignore").decode()
    safe = re.sub(r"[^A-Za-z0-9_-]+", "-", plain).strip("-")
    lost = len(safe) > 48 or not safe or any(not _is_ascii_based(letter) for letter in composed)
    if not lost and not _DEVICE.match(safe):
        return safe
    digest = hashlib.sha256(composed.encode()).hexdigest()[:8]
    return f"{safe[:39].strip('-') or 'subject'}-{digest}"


def _is_ascii_based(letter: str) -> bool:
    """Whether a letter is ASCII, or ASCII with an accent."""
    return unicodedata.normalize("NFKD", letter).encode("ascii", "ignore") != b""


def portable(name: str) -> str:
    r"""Return the name of one file or folder as every system takes it, changed where it must be.

    Changed are: what Windows refuses or a terminal obeys (control characters, marks that turn the
    direction of what follows, ``<>:"/\|?*``; to ``_``), dots and spaces at the end and spaces in
    front (which Windows drops), a dash in front (which commands take for an option; to ``_``), and
    the names of Windows' devices (``aux.txt`` to ``aux~.txt``). Two names may become one.

    Returns:
        A name, never empty, that this function leaves as it is.
    """
    safe = _UNPORTABLE.sub("_", name).rstrip(" .").lstrip(" ") or "_"
    if safe.startswith("-"):
        safe = "_" + safe[1:]
    device = _DEVICE.match(safe)
    return safe if device is None else f"{device[1]}~{safe[device.end(1) :]}"


def first_of(names: Sequence[str], most: int = 3) -> str:
    """Return the first of several names with commas between, and an ellipsis if there are more."""
    return ", ".join(names[:most]) + (", …" if len(names) > most else "")


def table_name(path: str) -> str:
    """Return a path as text that every file, table and terminal takes.

    A name on disk may hold bytes that are no UTF-8, which Python keeps as halves of characters.
    They are written by number, and :func:`located` finds the file again.
    """
    return _HALF.sub(lambda found: _escaped(ord(found.group())), path)


def located(root: Path, path: str) -> Path:
    """Return where the file lies that a table names.

    Args:
        root: The folder that its paths start from.
        path: From :func:`table_name`.
    """
    found = root / path
    if "\\" in path and not found.exists():
        other = root / disk_name(path)
        return other if other.exists() else found
    return found


def disk_name(text: str) -> str:
    """Return the path that :func:`table_name` wrote as this text."""
    return _ESCAPED.sub(lambda found: _half(found[0]), text)


def expanded(text: str) -> list[str]:
    """Return the names that braces stand for, as a shell does: ``part-{000..009}.tar``, ``{a,b}``.

    Args:
        text: A path or an address; without braces it stands for itself.

    Raises:
        ValueError: More than 100,000 names.
    """
    found = _BRACES.search(text)
    if found is None:
        return [text]
    first, last, several = found.group(1, 2, 3)
    if several is None:
        step = 1 if int(first) <= int(last) else -1
        if abs(int(last) - int(first)) >= MOST_NAMES:
            raise ValueError(f"{text} stands for more than {MOST_NAMES:,} names")
        width = max(len(first), len(last)) if "0" in (first[0], last[0]) else 0
        parts = [f"{n:0{width}d}" for n in range(int(first), int(last) + step, step)]
    else:
        parts = several.split(",")
    names = [
        name
        for part in parts
        for name in expanded(text[: found.start()] + part + text[found.end() :])
    ]
    if len(names) > MOST_NAMES:
        raise ValueError(f"{text} stands for more than {MOST_NAMES:,} names")
    return names


MOST_NAMES = 100_000
_BRACES = re.compile(r"\{(?:(\d{1,9})\.\.(\d{1,9})|([^{}]*,[^{}]*))\}")
_UNPORTABLE = re.compile(
    r'[\x00-\x1f\x7f-\x9f<>:"/\\|?*\u200e\u200f\u061c\u202a-\u202e\u2066-\u2069]'
)
_DEVICE = re.compile(
    r"(con|prn|aux|nul|conin\$|conout\$|(?:com|lpt)[0-9\u00b9\u00b2\u00b3]) *(?:\.|$)", re.I
)
_HALF = re.compile("[\ud800-\udfff]")
_ESCAPED = re.compile(r"\\x[89a-f][0-9a-f]|\\ud[89a-f][0-9a-f]{2}")


def _escaped(number: int) -> str:
    byte = number - 0xDC00
    return f"\\x{byte:02x}" if 0x80 <= byte <= 0xFF else f"\\u{number:04x}"


def _half(text: str) -> str:
    return chr(int(text[2:], 16) + (0xDC00 if text[1] == "x" else 0))
