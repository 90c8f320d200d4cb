"""The first group of the checklist: the images, their scores, faces and seeds, and the metadata."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import polars as pl

from ..counts import how_many, worded
from ..errors import CuratorError
from ..parquet import ParquetError, read_parquet
from ..reading.disturbances import DISTURBED
from ..selection.quotas import Quota
from ..selection.resolve import resolve
from .checklist import Fault, Line, judged, not_applicable, unchecked
from .evidence import LINES_FILE, PROVENANCE_FILE, REAL, Evidence, ImageFile
from .schema import missing_of

SCORE_TOLERANCE = 0.005
"""How far a score may lie from the recorded one: detectors differ in the last digits between
machines, and images that were converted to PNG were measured before."""

_PUT_BACK = "Put the exported file back (a version, a backup), or export the dataset again."
_EXPORT = "Export the dataset again; or put the file back as it was exported."


def check_images(evidence: Evidence) -> Line:
    """Check that every image is there, whole, as it was exported, and as many as were asked for."""
    there = {file.name: file for file in evidence.files}
    faults = [
        Fault(name, "the image is missing", _PUT_BACK)
        for name in sorted(evidence.expected - set(there))
    ]
    changed = set(evidence.checksums.changed)
    for name, file in there.items():
        if file.problem:
            faults.append(Fault(name, f"it can't be decoded: {file.problem}", _PUT_BACK))
        elif name in changed or _other_hash(evidence, file):
            faults.append(Fault(name, "its bytes are not those that were exported", _PUT_BACK))
        elif name not in evidence.metadata:
            faults.append(
                Fault(
                    name,
                    f"{evidence.metadata_name} does not know it",
                    "Take it away, or export again.",
                )
            )
    total = evidence.section("selection").get("total")
    synthetic = evidence.section("augmentation").get("total")
    if isinstance(total, int) and isinstance(synthetic, int):
        total += synthetic  # the real images, and as many more
    if isinstance(total, int) and total != len(there):
        faults.append(
            Fault(
                "recipe.toml",
                f"the recipe asks for {how_many(total, 'image')} and there "
                f"{worded(len(there), 'is', 'are')} {len(there):,}",
                "Make more candidates, relax a quota or lower [selection] total; then export "
                "again.",
            )
        )
    asked = f" of {total} that the recipe asks for" if isinstance(total, int) else ""
    found = (
        f"{how_many(len(there), 'image')}{asked}, each decoded, hashed and compared with what was "
        "exported"
    )
    return judged("images", found, faults, images=len(there), expected=total)


def check_quality(evidence: Evidence) -> Line:
    """Compute every score anew from pixels; compare it with the threshold and what is recorded."""
    if evidence.measured is None:
        return unchecked("quality", evidence.measuring_problem, _models())
    minimum, faults, scores, copies = evidence.minimum_quality, [], [], 0
    for row in evidence.measured.iter_rows(named=True):
        score = row["quality"]
        spared = evidence.kind_of(row["path"]) == DISTURBED
        if spared:
            copies += 1
        else:
            scores.append(score if score is not None else 0.0)
        if not spared and (score is None or score < minimum):
            value = "no score" if score is None else f"{score:.3f}"
            faults.append(
                Fault(
                    row["path"],
                    f"its quality is {value}, below {minimum:g}",
                    "Curate again with this threshold, so that another image takes its place.",
                )
            )
            continue
        recorded = evidence.metadata.get(row["path"], {}).get("quality_score")
        if score is None:
            continue
        if isinstance(recorded, float | int) and abs(recorded - score) > SCORE_TOLERANCE:
            faults.append(
                Fault(
                    row["path"],
                    f"its quality is {score:.3f}, and {evidence.metadata_name} says {recorded:.3f}",
                    "The row or the image is not the exported one. " + _EXPORT,
                )
            )
    own = "the dataset's own" if evidence.facts.minimum_quality is not None else "the document's"
    low, mean = min(scores, default=0.0), sum(scores) / max(1, len(scores))
    found = (
        f"{how_many(len(scores), 'score')} computed anew: {low:.3f} at least, {mean:.3f} on "
        f"average; threshold {minimum:g} ({own})"
        + (
            f"; {how_many(copies, 'disturbed copy')} compared, and not judged by it"
            if copies
            else ""
        )
    )
    return judged("quality", found, faults, threshold=minimum, lowest=low, mean=mean)


def check_faces(evidence: Evidence) -> Line:
    """Look for faces in every image; each must show exactly one that is valid."""
    if evidence.measured is None:
        return unchecked("faces", evidence.measuring_problem, _models())
    faults = [
        Fault(
            row["path"],
            row["rejection_detail"] or row["rejection"],
            "Curate again, so that another image takes its place.",
        )
        for row in evidence.measured.iter_rows(named=True)
        if row["rejection"] is not None and row["rejection"] != "low_quality"
    ]
    count = evidence.measured.height
    found = (
        f"{count - len(faults):,} of {how_many(count, 'image')} "
        f"{worded(count - len(faults), 'shows', 'show')} exactly one face "
        f"(confidence at least {evidence.minimum_confidence:g})"
        + (f"; {evidence.measured_note}" if evidence.measured_note else "")
    )
    return judged("faces", found, faults, passed=count - len(faults), images=count)


def check_seeds(evidence: Evidence) -> Line:
    """Count the images of every seed, and compare with the quota that the recipe sets.

    Without one, no seed may have more than twice or less than half of its even share.
    """
    generated = evidence.generated
    if not generated:
        return not_applicable("seeds", "real images have no seeds")
    counted = Counter(
        str(file.record["seed"])
        if file.record and "seed" in file.record
        else str(evidence.metadata.get(file.name, {}).get("seed"))
        for file in generated
    )
    wanted, source = _wanted_seeds(evidence, len(generated), counted)
    faults = []
    for seed, (least, most) in wanted.items():
        if not least <= counted[seed] <= most:
            asked = f"{least}" if least == most else f"{least} to {most}"
            faults.append(
                Fault(
                    f"seed {seed}",
                    f"it has {how_many(counted[seed], 'image')}; wanted are {asked} ({source})",
                    "Select again: with more candidates of this seed, or with another quota on "
                    "seed in the recipe.",
                )
            )
    faults += [
        Fault(f"seed {seed}", "the recipe does not know it", "Export the dataset again.")
        for seed in counted
        if seed not in wanted
    ]
    numbers = counted.values()
    found = (
        f"{how_many(len(counted), 'seed')} with {min(numbers):,} to "
        f"{how_many(max(numbers), 'image')} each; {source}"
    )
    return judged("seeds", found, faults, counts=dict(sorted(counted.items())))


def check_metadata(evidence: Evidence) -> Line:
    """Check every row of the metadata against the schema, the file and the caption it is about."""
    faults = [
        Fault(name, f"it can't be read: {problem}", _EXPORT)
        for name, problem in evidence.metadata_problems.items()
    ]
    for file in evidence.files:
        row = evidence.metadata.get(file.name)
        if row is None:
            faults.append(Fault(evidence.metadata_name, f"it has no row for {file.name}", _EXPORT))
            continue
        generated = file.is_generated or row.get("type") not in (REAL, DISTURBED)
        wrong = [*missing_of(row, generated=generated), *_disagreements(evidence, file, row)]
        if wrong:
            where = f"{evidence.metadata_name}, {file.name}"
            faults.append(Fault(where, "; ".join(wrong), _EXPORT))
    found = (
        f"{how_many(len(evidence.metadata), 'row')} checked against the schema, the files, the "
        f"captions and {LINES_FILE}"
    )
    return judged("metadata", found, faults, rows=len(evidence.metadata))


def _disagreements(evidence: Evidence, file: ImageFile, row: Mapping[str, Any]) -> Iterator[str]:
    if row.get("hash") and row["hash"] != file.hash:
        yield "hash is not that of the file"
    if not file.problem and (row.get("width"), row.get("height")) != (file.width, file.height):
        yield f"the image has {file.width} x {file.height} pixels"
    if not file.caption:
        yield f"there is no caption beside {file.name}"
    elif " ".join(str(row.get("caption")).split()) != file.caption:
        yield f"caption is not that of {file.name.removesuffix('.png')}.txt"
    line = evidence.lines.get(file.name)
    if LINES_FILE in evidence.metadata_problems:
        return
    if line is None:
        yield f"{LINES_FILE} has no line for it"
        return
    for key, value in row.items():
        said = line.get("text" if key == "caption" else key)
        if not isinstance(value, dict | list) and said != value:
            yield f"{LINES_FILE} says another {key}"


def _other_hash(evidence: Evidence, file: ImageFile) -> bool:
    recorded = evidence.metadata.get(file.name, {}).get("hash")
    return bool(recorded) and recorded != file.hash


def _wanted_seeds(
    evidence: Evidence, total: int, counted: Counter[str]
) -> tuple[dict[str, tuple[int, int]], str]:
    """Return how many images each seed should have, and who says so."""
    table, accepted = _candidates(evidence, counted)
    for text in evidence.section("selection").get("quotas", ()):
        try:
            quota = Quota.parse(str(text))
            if quota.column != "seed":
                continue
            found = resolve(quota, table, accepted, total)
        except CuratorError:
            continue  # what can't be read is told where the recipe is checked
        bounds = zip(found.bounds.minimum, found.bounds.maximum, strict=True)
        wanted = {
            str(label): (int(least), int(most))
            for label, (least, most) in zip(found.labels, bounds, strict=True)
        }
        return wanted, f"the recipe's quota {text}"
    plan = evidence.section("plan").get("seeds")
    seeds = [str(seed) for seed in plan] if isinstance(plan, list) and plan else list(counted)
    even = total / len(seeds)
    bound = (int(even / 2), max(1, int(2 * even)))
    return dict.fromkeys(seeds, bound), "no quota on seed: half to twice the even share"


def _candidates(evidence: Evidence, counted: Counter[str]) -> tuple[pl.DataFrame, pl.Series]:
    """Return every candidate's seed and whether it could have been selected."""
    try:
        table = read_parquet(evidence.folder / PROVENANCE_FILE, ["seed", "rejection"])
    except (OSError, ParquetError):
        seeds = [int(seed) for seed in counted if seed.isdecimal() and len(seed) < 20]
        table = pl.DataFrame({"seed": seeds, "rejection": [None] * len(seeds)})
    passed = table["rejection"].is_null() | table["rejection"].is_in(["quota", "duplicate"])
    return table, passed.fill_null(True)


def _models() -> str:
    return "Name the face pack that measured the images: --faces PACK (in ComfyUI: pack)."
