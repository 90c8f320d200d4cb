"""JSON that lies on a disk: somebody may have damaged it, or written it to do damage."""

from __future__ import annotations

import json
from typing import Any


class JsonError(ValueError):
    """A text is no JSON that can be used."""


def parse(text: str | bytes, *, strict: bool = False) -> Any:
    """Return what a JSON text says.

    Args:
        text: UTF-8, where it is bytes.
        strict: Also refuse what JSON does not know and Python reads: NaN, infinite numbers, and
            halves of characters, which no file, table or terminal takes.

    Raises:
        JsonError: It is no JSON, or nested so deeply that it cannot be read.
    """
    refuse = {"parse_constant": _refuse_number} if strict else {}
    try:
        found = json.loads(text, **refuse)  # type: ignore[arg-type]
        if strict:
            json.dumps(found, ensure_ascii=False).encode()
    except RecursionError:
        raise JsonError("it is nested too deeply") from None
    except UnicodeEncodeError:
        raise JsonError("it holds half a character") from None
    except JsonError:
        raise
    except ValueError as error:
        raise JsonError(str(error)) from error
    return found


def _refuse_number(name: str) -> None:
    raise JsonError(f"it holds the number {name}")
