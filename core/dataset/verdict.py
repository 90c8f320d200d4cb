"""What the list of checksums does not name: verdict, sign-offs, and the record of the version.

The list is of the dataset as it was exported, so what comes later is not in it, nor is the record,
which holds the list's fingerprint. The card is; the line that a verification puts there is one that
can be taken out again to the byte.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from ..reading.own import RECORD_FILE

VERIFICATION_FILE, SIGN_OFF_FILE = "verification.json", "sign-offs.json"
VERIFICATION_PAGE = "verification.html"
CARD_FILE = "README.md"

LATER = frozenset({VERIFICATION_FILE, VERIFICATION_PAGE, SIGN_OFF_FILE, RECORD_FILE})
"""Files that the list of checksums does not name."""

_MARK = "<!-- verification -->"
_LINE = re.compile(rf"^> [^\n]*{_MARK}\n\n", re.M)


def card_without_verdict(text: str) -> str:
    """Return a card's text as it was exported."""
    return _LINE.sub("", text)


def card_with_verdict(text: str, verdict: str) -> str:
    """Return a card's text with the verdict below its title."""
    plain = card_without_verdict(text)
    line = f"> Verification: {verdict} (`{VERIFICATION_FILE}`). {_MARK}\n\n"
    return re.sub(r"^# [^\n]*\n\n", lambda title: title[0] + line, plain, count=1, flags=re.M)


def exported_hash(card: Path) -> str:
    """Return the SHA-256 of a card as it was exported, whatever its verdict says."""
    text = card.read_bytes().decode("utf-8", "surrogateescape")
    return hashlib.sha256(card_without_verdict(text).encode("utf-8", "surrogateescape")).hexdigest()
