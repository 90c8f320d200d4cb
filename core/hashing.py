"""One way to hash a value: the SHA-256 of its JSON with sorted keys."""

from __future__ import annotations

import hashlib
import json


def json_hash(value: object) -> str:
    """Return the SHA-256, in hexadecimal, of a value's JSON.

    Keys are sorted and everything beyond ASCII is escaped, so that equal values have equal hashes
    on every machine. Mappings are taken by their keys as text: ``1`` and ``"1"`` are one key.

    Args:
        value: Whatever ``json.dumps`` takes.

    Raises:
        TypeError: Something in it is no JSON.
    """
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
