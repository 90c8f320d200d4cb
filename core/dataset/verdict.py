"""What the list of checksums does not name: verdict, sign-offs, and the record of the version.

The list is of the dataset as it was exported, so what comes later is not in it, nor is the record,
which holds the list's fingerprint. The card is, and the report; the line that a verification puts
into the one and the sections that go into the other can be taken out again to the byte.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path

from ..plain_files import plain_bytes
from ..reading.own import RECORD_FILE

VERIFICATION_FILE, SIGN_OFF_FILE = "verification.json", "sign-offs.json"
VERIFICATION_PAGE = "verification.html"
CARD_FILE, REPORT_FILE = "README.md", "report.html"

LATER = frozenset({VERIFICATION_FILE, VERIFICATION_PAGE, SIGN_OFF_FILE, RECORD_FILE})
"""Files that the list of checksums does not name."""

ADDED_TO = (CARD_FILE, REPORT_FILE)
"""Files of an export to which something is added later."""

_MARK = "<!-- verification -->"
SLOTS = ("verdict", "training", "verification")
"""Places in the report for what is known only later."""

_SLOT = re.compile(rf"(<!-- ({'|'.join(SLOTS)}) -->).*?(<!-- /\2 -->)", re.S)
_LINE = re.compile(rf"^> [^\n]*{_MARK}\n\n", re.M)


def card_without_verdict(text: str) -> str:
    """Return a card's text as it was exported."""
    return _LINE.sub("", text)


def card_with_verdict(text: str, verdict: str) -> str:
    """Return a card's text with the verdict below its title."""
    plain = card_without_verdict(text)
    line = f"> Verification: {verdict} (`{VERIFICATION_FILE}`). {_MARK}\n\n"
    return re.sub(r"^# [^\n]*\n\n", lambda title: title[0] + line, plain, count=1, flags=re.M)


def report_without_later(text: str) -> str:
    """Return a report's text as it was exported."""
    return _SLOT.sub(r"\1\3", text)


def report_with(text: str, parts: Mapping[str, str]) -> str:
    """Return a report's text with parts in its places; other places stay as they are.

    Args:
        text: The report. One without such places, from before there were any, stays as it is.
        parts: HTML by the name of the place, one of :data:`SLOTS`; its texts are escaped, so that
            none of them can end a place.
    """

    def filled(found: re.Match[str]) -> str:
        part = parts.get(found[2])
        return found[0] if part is None else f"{found[1]}{part}{found[3]}"

    return _SLOT.sub(filled, text)


def exported_bytes(path: Path) -> bytes:
    """Return a card or a report as it was exported, whatever was added since."""
    plain = report_without_later if path.name == REPORT_FILE else card_without_verdict
    text = plain_bytes(path).decode("utf-8", "surrogateescape")
    return plain(text).encode("utf-8", "surrogateescape")


def exported_hash(path: Path) -> str:
    """Return the SHA-256 of a card or a report as it was exported."""
    return hashlib.sha256(exported_bytes(path)).hexdigest()
