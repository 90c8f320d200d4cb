"""Which images each wave has asked for: written down before the first of them is made.

What comes next follows from what the waves before have asked for, and from what was measured of it.
A run that was killed reads here how far it was, makes what is missing, and goes on as if nothing
had happened.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import atomic
from ..counts import how_many
from ..damages import note_damage
from ..generation.backend import request_fingerprint
from ..hashing import sealed, unsealed
from ..json_text import number, parse
from ..plain_files import plain_bytes
from ..plan import Plan, PlanError, Request

log = logging.getLogger(__name__)

FIRST_LOOK, QUOTAS, QUALITY, THERE = "first look", "quotas", "quality", "there already"
"""Why an image was asked for: to see what a scenario gives; because images were missing, in all or
of some quota; for the quality; or it was there before the waves."""

_AIMS = (FIRST_LOOK, QUOTAS, QUALITY, THERE)
_MOST_WAVES = 1_000_000
_NAMING = ("subject", "seed", "kind", "scenario", "take")


@dataclass(frozen=True)
class Asked:
    """One image of a wave.

    Attributes:
        request: What was asked for.
        wave: The number of its wave, from 1; 0 for what was there before.
        aim: Why; one of the words above.
        usable: The share of its scenario's images that was expected to be usable; None for what
            was there before.
        quality: Their expected quality; likewise.
    """

    request: Request
    wave: int
    aim: str
    usable: float | None = None
    quality: float | None = None

    def note(self) -> dict[str, Any]:
        """Return what the image says of this in its record."""
        return {
            "wave": {
                "number": self.wave,
                "aim": self.aim,
                "usable": self.usable,
                "quality": self.quality,
            }
        }


def read_ledger(path: Path, plan: Plan, settings: Mapping[str, Any]) -> list[Asked]:
    """Return what was asked for and is still what the plan and the model would make.

    Args:
        path: Of the file; empty when there is none, or none that can be read.
        plan: As it is now.
        settings: Of the back end, as they are now.
    """
    try:
        entries = unsealed(parse(plain_bytes(path), strict=True))["images"]
        found = []
        for entry in entries:
            if not isinstance(entry, dict):
                raise ValueError("an image in it is none")
            request = as_planned(plan, entry)
            if request is None or request_fingerprint(request, settings) != entry["request"]:
                continue
            wave, aim = entry["wave"], entry["aim"]
            if type(wave) is not int or not 0 <= wave < _MOST_WAVES or aim not in _AIMS:
                raise ValueError("a wave in it is none")
            usable, quality = (
                None if entry[name] is None else number(entry[name])
                for name in ("usable", "quality")
            )
            found.append(Asked(request, wave, aim, usable, quality))
    except FileNotFoundError:
        return []
    except (OSError, ValueError, KeyError, TypeError, ArithmeticError) as error:
        note_damage("notes of waves", path, "taken for absent", once=True)
        log.warning("%s is damaged (%s), and counts as if it were not there.", path, error)
        return []
    return found


def as_planned(plan: Plan, entry: Mapping[str, Any]) -> Request | None:
    """Return the plan's request of the same name; None when it has none."""
    try:
        return plan.request(*(entry[name] for name in _NAMING))
    except (PlanError, TypeError):
        return None


def write_ledger(path: Path, asked: Sequence[Asked], settings: Mapping[str, Any]) -> None:
    """Write what was asked for, atomically."""
    atomic.write_text(path, _text_of(asked, settings))


def holds(path: Path, asked: Sequence[Asked], settings: Mapping[str, Any]) -> bool:
    """Whether a file says just what :func:`write_ledger` would write.

    Raises:
        OSError: It cannot be read.
    """
    return plain_bytes(path) == _text_of(asked, settings).encode()


def _text_of(asked: Sequence[Asked], settings: Mapping[str, Any]) -> str:
    entries = [
        {
            **{name: getattr(one.request, name) for name in _NAMING},
            "wave": one.wave,
            "aim": one.aim,
            "usable": one.usable,
            "quality": one.quality,
            "request": request_fingerprint(one.request, settings),
        }
        for one in asked
    ]
    lines = ",\n".join(json.dumps(entry) for entry in entries)
    seal = sealed({"images": entries})["seal"]
    return f'{{"images": [\n{lines}\n], "seal": "{seal}"}}\n'


def found_there(
    folder: Path, plan: Plan, settings: Mapping[str, Any], known: Iterable[Asked]
) -> list[Asked]:
    """Return the images in a folder that the plan and the model would make just so.

    Args:
        folder: Of generated images; it may be absent, and hold others.
        plan: The plan; images of more takes than it has count as well.
        settings: Of the back end.
        known: Those that are known already, and left out. Where none is, no notes of waves are
            left, and images that say of themselves that a wave has asked for them do not count:
            waves begin with the first look, and ask for them again as they did before.
    """
    from ..generation import png

    names = {one.request.file_name for one in known}
    found, of_waves = [], 0
    for path in sorted(folder.glob("char_*.png")) if folder.is_dir() else ():
        if path.name in names:
            continue
        try:
            record = png.read_record(plain_bytes(path))
        except (OSError, png.DamagedPngError):
            continue
        request = as_planned(plan, record) if record and record.keys() >= {*_NAMING} else None
        if request is None or request.file_name != path.name or record is None:
            continue
        if request_fingerprint(request, settings) == record.get("request"):
            if not names and _of_a_wave(record):
                of_waves += 1
                continue
            found.append(Asked(request, 0, THERE))
    if of_waves:
        log.warning(
            "No notes are left of the waves that have made %s in %s: waves begin anew, and what "
            "they ask for again is not made again.",
            how_many(of_waves, "image"), folder,
        )  # fmt: skip
    return found


def _of_a_wave(record: Mapping[str, Any]) -> bool:
    """Whether an image's record says that a wave has asked for it."""
    said = record.get("wave")
    return isinstance(said, dict) and said.get("number") not in (None, 0)
