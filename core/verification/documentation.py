"""The fourth group of the checklist: what is written down, compared with what it is about."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ..counts import how_many
from ..dataset.version_record import read_record
from ..json_text import parse
from ..reading.disturbances import DISTURBED, disturbance_record
from ..reading.own import RECORD_FILE
from .checklist import Fault, Line, judged, not_applicable
from .evidence import Evidence, ImageFile
from .schema import RECORD_KEYS

_AGAIN = "Export the dataset again from the images that were generated."
_REAL = "real images were not generated"

_MAPPING = {"subject": "subject", "seed": "seed", "type": "kind", "scenario": "scenario",
            "take": "take", "noise_seed": "noise_seed", "request": "request"}  # fmt: skip
# Key in metadata.json: key in the image's own record.


def check_parameters(evidence: Evidence) -> Line:
    """Check that every generated image says how it was made, and its row says the same."""
    generated = evidence.generated
    if not generated:
        return not_applicable("parameters", _REAL)
    faults = []
    for file in generated:
        lacking = [key for key in RECORD_KEYS if key not in (file.record or {})]
        if lacking:
            what = "it has no record" if file.record is None else f"no {', '.join(lacking)}"
            faults.append(
                Fault(
                    file.name,
                    f"its generation record is not whole: {what}",
                    "Take the image as it was generated: editors and many sites remove the record.",
                )
            )
        elif evidence.metadata.get(file.name, {}).get("generation") != file.record:
            faults.append(
                Fault(
                    f"{evidence.metadata_name}, {file.name}",
                    "its generation is not what the image itself says",
                    _AGAIN,
                )
            )
    found = (
        f"{how_many(len(generated), 'image says how it was', 'images say how they were')} made, "
        f"compared with {evidence.metadata_name}"
    )
    return judged("parameters", found, faults, images=len(generated))


def check_mapping(evidence: Evidence) -> Line:
    """Check that each row's seeds are those of the image that it is about."""
    generated = evidence.generated
    if not generated:
        return not_applicable("mapping", _REAL)
    faults = []
    for file in generated:
        row = evidence.metadata.get(file.name, {})
        wrong = [*_differences(row, file), *_other_disturbance(evidence, row, file)]
        if wrong:
            faults.append(
                Fault(
                    f"{evidence.metadata_name}, {file.name}",
                    f"the row is not of this image: {', '.join(wrong)}",
                    _AGAIN,
                )
            )
    found = (
        f"{how_many(len(generated), 'image')}: seed, scenario, take and noise seed as in the "
        "image's record"
    )
    return judged("mapping", found, faults, images=len(generated))


def check_prompts(evidence: Evidence) -> Line:
    """Check that every image has its prompt, and every one a caption to train with."""
    faults = []
    for file in evidence.files:
        row = evidence.metadata.get(file.name, {})
        if not file.caption:
            faults.append(
                Fault(
                    f"{file.name.removesuffix('.png')}.txt",
                    "the caption is missing or empty",
                    "Write what the image shows into it, or export the dataset again.",
                )
            )
        if file.record is not None and row.get("prompt") != file.record.get("prompt"):
            faults.append(
                Fault(
                    f"{evidence.metadata_name}, {file.name}",
                    "its prompt is not the one that the image was made with",
                    _AGAIN,
                )
            )
        elif file in evidence.generated and not row.get("prompt"):
            faults.append(
                Fault(f"{evidence.metadata_name}, {file.name}", "it has no prompt", _AGAIN)
            )
    made = len(evidence.generated)
    found = (
        f"{how_many(len(evidence.files), 'caption')} and {how_many(made, 'prompt')}, compared with "
        "the images"
    )
    return judged("prompts", found, faults, captions=len(evidence.files), prompts=made)


def check_version(evidence: Evidence, version: int) -> Line:
    """Compare every file with the list of checksums, which is the version's identity."""
    sums = evidence.checksums
    back = "Put the exported file back, or export the dataset again: that makes a new version."
    faults = [Fault(name, "the file is missing", back) for name in sums.missing]
    faults += [Fault(name, "the file has been changed", back) for name in sums.changed]
    faults += [
        Fault(name, "the file is not part of the version", "Move it elsewhere, or export again.")
        for name in sums.unlisted
    ]
    record = read_record(evidence.folder)
    said = record is not None and record.fingerprint == evidence.fingerprint
    if (evidence.folder / RECORD_FILE).is_file() and not said:
        faults.append(
            Fault(RECORD_FILE, "the record of the version is not of these files, or edited", back)
        )
    found = (
        f"version {version}, {how_many(sums.checked, 'file')} compared with SHA256SUMS, "
        f"fingerprint {evidence.fingerprint[:16]}"
    )
    return judged("version", found, faults, version=version, files=sums.checked)


def _differences(row: Mapping[str, Any], file: ImageFile) -> list[str]:
    if file.record is None:
        return ["the image does not say its seed"]
    return [
        f"{key} {row.get(key)} where the image says {file.record.get(own)}"
        if key != "request"
        else "another request"
        for key, own in _MAPPING.items()
        if row.get(key) != file.record.get(own)
        and not (key == "type" and row.get(key) == DISTURBED)  # of what the image's record is
    ]


def _other_disturbance(
    evidence: Evidence, row: Mapping[str, Any], file: ImageFile
) -> Iterator[str]:
    """Say where an image and its row do not tell of the same disturbance."""
    record = disturbance_record(evidence.folder / file.name)
    told = None if record is None else parse(record.columns()["disturbance_record"])
    if row.get("disturbance") != told:
        yield "another disturbance"
    if (row.get("type") == DISTURBED) != (record is not None):
        yield f"type {row.get('type')}"
