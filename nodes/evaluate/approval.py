"""A person's approval in a graph: a name, and the fingerprint of exactly what was looked at.

A name alone signs nothing: it stays in its widget, and would sign whatever comes next. The
fingerprint is told when the verification has run, and is another one as soon as a file changes.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ...core.verification import Readiness


def approve(
    readiness: Readiness,
    dataset: Path,
    lora: Path | None,
    samples: Path,
    name: str,
    fingerprint: str,
) -> tuple[Readiness, str]:
    """Record an approval, if it is of what is there now.

    Args:
        readiness: What the checklist came to.
        dataset: Folder of the dataset.
        lora: The LoRA file.
        samples: Folder of its test images.
        name: Who approves; empty if nobody does.
        fingerprint: Of what was looked at.

    Returns:
        The checklist with the approval, and a line that says how to approve, or why nothing was
        signed.
    """
    from ...core.dataset.verdict import REPORT_FILE
    from ...core.errors import CuratorError
    from ...core.hashing import json_hash
    from ...core.verification.checklist import Status
    from ...core.verification.sign_off import (
        check_approval,
        fingerprints,
        shown_files,
        sign,
    )

    [line] = [line for line in readiness.lines if line.key == "approval"]
    if line.status is Status.HOLDS:
        return readiness, ""
    try:
        shown = shown_files(dataset, lora, samples)
        now = json_hash(fingerprints(shown))
        if name.strip() and fingerprint == now:
            sign(dataset, name, shown, lora=lora)
            line = check_approval(dataset, lora, samples)
            lines = tuple(line if one.key == "approval" else one for one in readiness.lines)
            return replace(readiness, lines=lines), ""
    except CuratorError as error:
        return readiness, str(error)
    report = dataset / REPORT_FILE
    how = (
        f"To approve, look at {report if report.is_file() else dataset}"
        + (f" and the images in {samples}" if lora is not None else "")
        + f"; then put your name into approved_by, {now} into approved_fingerprint, and run again."
    )
    if not name.strip() or not fingerprint:
        return readiness, how
    return readiness, f"Not signed: something has changed since you looked. {how}"
