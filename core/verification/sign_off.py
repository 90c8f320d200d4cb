"""A person's approval, recorded: who, when, and of exactly what.

A sign-off holds the SHA-256 of every file that was shown: the images, the report and, with a LoRA,
the file itself and its test images. It holds as long as all of them are what they were. Its seal is
the hash of the record, so that an edit shows; it is a checksum, not a signature, and does not prove
who has written it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from .. import atomic
from ..counts import how_many, worded
from ..dataset.checksums import NotADatasetError
from ..dataset.verdict import REPORT_FILE, SIGN_OFF_FILE, exported_hash
from ..errors import CuratorError
from ..hashing import json_hash
from ..imageset import content_hash
from ..json_text import parse
from ..parquet import ParquetError, read_parquet
from ..plain_files import plain_text
from ..reading.own import drawn_in
from .checklist import Fault, Line, judged

FORMAT = 1
SHEET_FILE, TABLE_FILE = "sheet.png", "pictures.parquet"


class SignOffError(CuratorError):
    """There is nothing to sign, or nobody who signs."""


def shown_files(dataset: Path, lora: Path | None, samples: Path | None) -> dict[str, Path]:
    """Return every file that a person approves, by the name that the record calls it.

    Args:
        dataset: Folder of the dataset.
        lora: The LoRA file that is approved with it.
        samples: Folder of that file's test images.

    Raises:
        NotADatasetError: The dataset has no image.
        SignOffError: The test images of the LoRA have not been made yet.
    """
    drawn = drawn_in(dataset) if dataset.is_dir() else ()
    images = sorted(path for path in dataset.glob("*.png") if path.name not in drawn)
    if not images:
        raise NotADatasetError(dataset, "images")
    shown = {path.name: path for path in [*images, dataset / REPORT_FILE] if path.is_file()}
    if lora is None:
        return shown
    own = _test_images(samples) if samples is not None else []
    if not own:
        raise SignOffError(
            f"There are no test images of {lora.name} to look at yet. Make them first: "
            f"character-curator verify {dataset} --lora {lora}"
        )
    shown[lora.name] = lora
    return shown | {f"samples/{path.name}": path for path in own}


def _test_images(samples: Path) -> list[Path]:
    """Return the images with the trigger word of the last verification, which its sheet shows."""
    import polars as pl

    found: list[Path] = []
    for table in sorted(samples.glob(f"*/{TABLE_FILE}")):
        try:
            rows = read_parquet(table, ["path", "series"])
        except (OSError, ParquetError):
            continue  # it is made again by the next verification
        names = rows.filter(pl.col("series").is_in(["trigger", "grid"]))["path"]
        found += [samples / name for name in names if (samples / name).is_file()]
    return found


def fingerprints(shown: Mapping[str, Path]) -> dict[str, str]:
    """Return the SHA-256 of every file that is shown; of the report, of it as it was exported."""
    return {
        name: exported_hash(path) if name == REPORT_FILE else content_hash(path)
        for name, path in shown.items()
    }


def sign(
    dataset: Path,
    name: str,
    shown: Mapping[str, Path],
    *,
    lora: Path | None = None,
    time: str | None = None,
) -> dict[str, Any]:
    """Record that somebody has looked at files and approves of them.

    Args:
        dataset: The record goes into its folder, after those that are there.
        name: Who approves.
        shown: From :func:`shown_files`.
        lora: The LoRA file that is approved.
        time: In UTC, as ISO 8601; now unless given.

    Returns:
        The record.

    Raises:
        SignOffError: The name is empty, or the folder can't be written to.
    """
    who = " ".join(name.split())
    if not who:
        raise SignOffError("A sign-off needs the name of who approves: --name 'Jane Doe'.")
    files = fingerprints(shown)
    record: dict[str, Any] = {
        "format": FORMAT,
        "name": who,
        "time": time or datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "lora": lora.name if lora is not None else "",
        "shown": files,
        "fingerprint": json_hash(files),
    }
    record["seal"] = json_hash(record)
    text = json.dumps([*read_sign_offs(dataset), record], indent=1, ensure_ascii=False)
    try:
        atomic.write_text(dataset / SIGN_OFF_FILE, text + "\n")
    except OSError as error:
        raise SignOffError(
            f"The sign-off can't be written into {dataset}: {error.strerror or error}. Make the "
            "folder writable and sign again."
        ) from error
    return record


def read_sign_offs(dataset: Path) -> list[dict[str, Any]]:
    """Return every sign-off of a dataset, the oldest first.

    Raises:
        SignOffError: The file is no list of them.
    """
    path = dataset / SIGN_OFF_FILE
    try:
        found = parse(plain_text(path))
    except FileNotFoundError:
        return []
    except (OSError, ValueError) as error:
        raise SignOffError(
            f"{path} can't be read: {error}. Move it away and sign again."
        ) from error
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise SignOffError(f"{path} is no list of sign-offs. Move it away and sign again.")
    return found


def check_approval(dataset: Path, lora: Path | None, samples: Path | None) -> Line:
    """Look for a sign-off of exactly what is there now."""
    again = "Look at " + (REPORT_FILE if (dataset / REPORT_FILE).is_file() else "the images")
    again += f" and {SHEET_FILE} of the test images" if lora else ""
    again += f", then: character-curator sign-off {dataset} --name NAME"
    again += f" --lora {lora}" if lora is not None else ""
    try:
        signed = read_sign_offs(dataset)
        now = fingerprints(shown_files(dataset, lora, samples))
    except CuratorError as error:
        return judged("approval", "there is no approval", [Fault(SIGN_OFF_FILE, str(error), again)])
    if not signed:
        return judged(
            "approval", "nobody has signed", [Fault(SIGN_OFF_FILE, "nobody has signed", again)]
        )
    faults: list[Fault] = []
    for record in reversed(signed):
        wrong = _wrong(record, now)
        if not wrong:
            found = (
                f"{record['name']} on {record['time']}, {how_many(len(now), 'file')} as "
                f"{worded(len(now), 'it was', 'they were')} shown"
            )
            return judged("approval", found, name=record["name"], time=record["time"])
        who = f"{SIGN_OFF_FILE}, {record.get('name') or 'without a name'}"
        faults.append(Fault(who, wrong, again))
    return judged("approval", "no sign-off is of what is there now", faults)


def _wrong(record: Mapping[str, Any], now: Mapping[str, str]) -> str:
    """Return what is wrong with a sign-off; empty if nothing is."""
    rest = {key: value for key, value in record.items() if key != "seal"}
    shown = record.get("shown")
    if record.get("seal") != json_hash(rest) or not isinstance(shown, dict) or not record["name"]:
        return "the record was edited after it was signed"
    added, gone = sorted(set(now) - set(shown)), sorted(set(shown) - set(now))
    changed = sorted(name for name in now if name in shown and now[name] != shown[name])
    parts = (("not shown then", added), ("gone since", gone), ("changed since", changed))
    return "; ".join(f"{_some(names)}: {words}" for words, names in parts if names)


def _some(names: Sequence[str]) -> str:
    rest = f" and {len(names) - 2} more" if len(names) > 2 else ""
    return ", ".join(names[:2]) + rest
