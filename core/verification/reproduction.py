"""The fifth group of the checklist: the recipe stands for the images, and they come again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ..counts import how_many, worded
from ..dataset.facts import RECIPE_FILE
from ..errors import CuratorError
from ..generation import conditions
from ..generation.reproduce import (
    NoRecordError,
    backend_of,
    changed_again,
    psnr,
    record_fault,
    settings_differences,
)
from ..hashing import json_hash
from ..naming import noise_seed
from ..plan import Plan, Request
from ..progress import Progress, silent
from ..reading.crops import crop_record
from ..reading.disturbances import disturbance_record
from ..reading.opening import decoding_errors
from .checklist import Fault, Line, judged, not_applicable, unchecked
from .evidence import Evidence, ImageFile
from .schema import RECORD_KEYS

if TYPE_CHECKING:
    from ..generation.backend import Backend

BackendOf = Callable[[Mapping[str, Any]], "Backend | None"]
"""Returns what makes images with a record's settings; ``None`` leaves it to the image's record."""

_REAL = "real images are not generated"
_RECIPE = "Export the dataset again from the project that made its images."
_SAMPLING = {"steps": "steps", "guidance": "guidance", "width": "width", "height": "height"}
# Key in the recipe's [model]: key in an image's settings.


@dataclass(frozen=True)
class Again:
    """One image made again.

    Attributes:
        name: Its file.
        problem: Why it could not be made; empty if it was.
        identical: Whether every byte of its pixels came again.
        psnr: Peak signal-to-noise ratio in dB; infinite when identical.
        settings: In which settings the model of now differs, the weights' fingerprint included.
        conditions: In which versions, device and threads this machine differs.
        needs_wires: Whether it was made on ComfyUI's wires, which are not here.
    """

    name: str
    problem: str = ""
    identical: bool = False
    psnr: float = float("nan")
    settings: tuple[str, ...] = ()
    conditions: tuple[str, ...] = ()
    needs_wires: bool = False


def check_seed_store(evidence: Evidence) -> Line:
    """Check that each image's seed is one of the recipe's, and its noise seed follows from it.

    The recipe of a folder of images that were generated before lists no seeds; they are then in the
    images and in the metadata alone.
    """
    generated = evidence.generated
    if not generated:
        return not_applicable("seed_store", "real images have no seeds")
    plan = _plan_table(evidence).get("seeds")
    listed = set(plan) if isinstance(plan, list) else None
    faults = []
    for file in generated:
        record = file.record or {}
        try:
            derived = noise_seed(record["subject"], record["seed"], record["scenario"],
                                 record["take"], record["kind"])  # fmt: skip
        except (KeyError, TypeError, ValueError):
            faults.append(
                Fault(file.name, "it does not say its seed", "Take it as it was generated.")
            )
            continue
        if listed is None:
            continue
        if record["seed"] not in listed:
            faults.append(
                Fault(file.name, f"its seed {record['seed']} is not in the recipe", _RECIPE)
            )
        elif derived != record.get("noise_seed"):
            what = f"its noise seed {record.get('noise_seed')} does not follow from its seed"
            faults.append(Fault(file.name, what, "Take it as it was generated."))
    if evidence.metadata_name in evidence.checksums.changed:
        faults.append(
            Fault(evidence.metadata_name, "the stored seeds are not those of this version", _RECIPE)
        )
    recipe = "as the recipe lists them" if listed else "the recipe is of a folder and lists none"
    found = (
        f"seeds of {how_many(len(generated), 'image')} in "
        f"{worded(len(generated), 'its record', 'their records')} and the metadata, {recipe}"
    )
    return judged("seed_store", found, faults, seeds=sorted(listed or ()))


def check_recipe(evidence: Evidence) -> Line:
    """Check that the recipe can be read and says what the images were made with."""
    faults = []
    if evidence.recipe_problem:
        faults.append(Fault(RECIPE_FILE, f"it can't be read: {evidence.recipe_problem}", _RECIPE))
    elif not evidence.recipe:
        faults.append(Fault(RECIPE_FILE, "it says nothing", _RECIPE))
    model = evidence.section("model")
    differing: Counter[str] = Counter()
    for file in evidence.generated:
        settings = (file.record or {}).get("settings") or {}
        for key, own in _SAMPLING.items():
            if model.get(key) is not None and settings.get(own) != model[key]:
                differing[
                    f"{key} = {model[key]}, and images were made with {settings.get(own)}"
                ] += 1
    faults += [
        Fault(f"{RECIPE_FILE}, [model]", f"{text} ({count} of them)", _RECIPE)
        for text, count in differing.items()
    ]
    found = f"{RECIPE_FILE} ({', '.join(evidence.recipe)}), compared with the images' records"
    return judged("recipe", found, faults)


def check_automated(evidence: Evidence) -> Line:
    """Rebuild the plan from the recipe; every image must be one of its requests.

    Of real images it is checked that the recipe is a whole project, which ``run`` takes.
    """
    try:
        requests = _requests(evidence)
    except CuratorError as error:
        advice = "Correct it as the message says, or export the dataset again."
        return judged(
            "automated", "the recipe can't be run", [Fault(RECIPE_FILE, str(error), advice)]
        )
    faults = []
    for file in evidence.generated if requests else ():
        record = file.record or {}
        try:
            made = Request.from_row(record)
        except KeyError as error:
            faults.append(
                Fault(file.name, f"its record has no {error}", "Take it as it was generated.")
            )
            continue
        asked = requests.get(_place(made))
        if asked is None:
            faults.append(Fault(file.name, "the recipe does not ask for it", _RECIPE))
        elif wrong := [
            key
            for key in ("prompt", "negative_prompt", "noise_seed")
            if getattr(asked, key) != getattr(made, key)
        ]:
            what = f"the recipe asks for it with another {' and '.join(wrong)}"
            faults.append(Fault(file.name, what, _RECIPE))
    if not evidence.recipe:
        faults.append(Fault(RECIPE_FILE, "it says nothing", _RECIPE))
    planned = f"{how_many(len(evidence.generated), 'image')} compared with the requests of its plan"
    source = "a whole project of a folder, which 'character-curator run' takes"
    found = f"{RECIPE_FILE}: {planned if requests else source}"
    return judged("automated", found, faults, requests=len(requests))


def regenerated(
    evidence: Evidence,
    count: int | Literal["all"],
    *,
    model: str | None = None,
    backend: BackendOf | None = None,
    progress: Progress = silent,
) -> list[Again]:
    """Make images again from their own records alone.

    Images of one model and batch size are made together, each at its own row of the batch.

    Args:
        evidence: What was read.
        count: How many; chosen by their hash, so that it is always the same ones.
        model: Where the model lies now, if not where the records say.
        backend: Makes images of records that no back end of this package can make.
        progress: Watches.
    """
    usable = [f for f in evidence.generated if f.record and not _lacks(f)]
    chosen = sorted(usable, key=lambda file: (file.hash, file.name))
    chosen = chosen if count == "all" else chosen[:count]
    groups: dict[str, list[ImageFile]] = {}
    for file in chosen:
        groups.setdefault(_kind(file), []).append(file)
    results: list[Again] = []
    progress.start("Making images again", len(chosen))
    for files in groups.values():
        for again in _of_group(evidence, files, model, backend):
            results.append(again)
            progress.advance(1, again.name)
    progress.finish()
    return sorted(results, key=lambda again: again.name)


def check_regenerate(evidence: Evidence, results: Sequence[Again]) -> Line:
    """Say whether models and settings of the images are here, as they were."""
    if line := _without(evidence, results, "regenerate"):
        return line
    faults = []
    for again in results:
        if again.problem:
            faults.append(
                Fault(
                    again.name,
                    again.problem,
                    "Put the model back, or say where it lies now: --base MODEL.",
                )
            )
        elif again.settings:
            faults.append(
                Fault(
                    again.name,
                    f"the model is not the one that made it ({'; '.join(again.settings)})",
                    "Put the model's own files back, or say where they lie: --base MODEL.",
                )
            )
    found = (
        f"{len(results)} of {how_many(len(evidence.generated), 'image')} made again from their own "
        "records"
    )
    return judged("regenerate", found, faults, images=len(results))


def check_identical(evidence: Evidence, results: Sequence[Again]) -> Line:
    """Compare the images that were made again byte for byte."""
    if line := _without(evidence, results, "identical"):
        return line
    faults = []
    for again in results:
        if again.identical:
            continue
        differing = "; ".join((*again.settings, *again.conditions))
        why = f" ({differing})" if differing else ""
        what = again.problem or f"other pixels come out, PSNR {again.psnr:.1f} dB{why}"
        faults.append(
            Fault(
                again.name,
                what,
                "Verify on the kind of machine, and with the versions, that made the images; if "
                "those are the same, the image has been altered: export the dataset again.",
            )
        )
    same = sum(again.identical for again in results)
    found = f"{same} of {how_many(len(results), 'image')} came again byte for byte"
    return judged("identical", found, faults, identical=same, images=len(results))


def _without(evidence: Evidence, results: Sequence[Again], key: str) -> Line | None:
    """Return the line where there was nothing to make again."""
    if not evidence.generated:
        return not_applicable(key, _REAL)
    if not results:
        whole = any(file.record and not _lacks(file) for file in evidence.generated)
        if not whole:
            return judged(key, "no image has a whole record", [
                Fault("the images", "none says how it was made", "Take them as generated.")
            ])  # fmt: skip
        return unchecked(
            key,
            "no image was to be made again",
            "Say how many: --regenerate 3 (in ComfyUI: regenerate).",
        )
    if all(again.needs_wires for again in results):
        return unchecked(
            key,
            "ComfyUI made the images",
            "Use the Verify node, with the model, CLIP and VAE wired that made them.",
        )
    return None


def _of_group(
    evidence: Evidence,
    files: Sequence[ImageFile],
    model: str | None,
    make: BackendOf | None,
) -> Iterator[Again]:
    record: Mapping[str, Any] = files[0].record or {}
    try:
        backend = make(record) if make is not None else None
        if backend is None:
            path = evidence.folder / files[0].name
            backend = backend_of(path, record["settings"], record["conditions"], model)
        size = record["batch"]["size"]
        for batch in _batches(files, size):
            # The neighbours of then are not needed: a row depends on the batch's size alone.
            filler = next(file for file in batch if file is not None)
            pixels = backend.sample([Request.from_row((f or filler).record or {}) for f in batch])
            for row, file in enumerate(batch):
                if file is not None:
                    yield _compared(evidence, file, pixels[row], backend)
    except NoRecordError as error:
        yield from (Again(file.name, str(error), needs_wires=True) for file in files)
    except CuratorError as error:
        yield from (Again(file.name, str(error)) for file in files)


def _batches(files: Sequence[ImageFile], size: int) -> Iterator[list[ImageFile | None]]:
    """Deal images out to batches, each at the row that its record says."""
    queues: list[list[ImageFile]] = [[] for _ in range(size)]
    for file in files:
        queues[(file.record or {})["batch"]["row"]].append(file)
    for turn in range(max(map(len, queues))):
        yield [queue[turn] if turn < len(queue) else None for queue in queues]


def _compared(evidence: Evidence, file: ImageFile, pixels: np.ndarray, backend: Backend) -> Again:
    from PIL import Image

    try:
        with Image.open(evidence.folder / file.name, formats=("PNG",)) as image:
            original = np.asarray(image.convert("RGB"))
    except decoding_errors() as error:
        return Again(file.name, f"it can't be read: {error}")
    record = file.record or {}
    path = evidence.folder / file.name
    pixels = changed_again(pixels, crop_record(path), disturbance_record(path))
    return Again(
        file.name,
        identical=np.array_equal(original, pixels),
        psnr=psnr(original, pixels),
        settings=tuple(settings_differences(record, backend)),
        conditions=tuple(conditions.differences(record["conditions"], backend.conditions)),
    )


def _kind(file: ImageFile) -> str:
    """Return what images have in common that one back end makes in one batch."""
    record = file.record or {}
    conditions = record["conditions"]
    place = [conditions.get("threads"), (conditions.get("device") or {}).get("kind")]
    return json_hash([record["settings"], record["batch"]["size"], *place])


def _lacks(file: ImageFile) -> bool:
    record = file.record or {}
    return any(key not in record for key in RECORD_KEYS) or bool(record_fault(record))


def _plan_table(evidence: Evidence) -> Mapping[str, Any]:
    return evidence.section("plan")


def _requests(evidence: Evidence) -> dict[tuple[Any, ...], Request]:
    """Return every request of the recipe's plan, by what names it; none where it has no plan."""
    from .. import project
    from ..project_parts import plan_of

    if not evidence.recipe:
        return {}
    plan = _plan_table(evidence)
    if set(evidence.recipe) == {"plan"}:  # a graph's
        return {_place(request): request for request in Plan.from_mapping(plan).requests()}
    parsed = project.from_mapping(dict(evidence.recipe), RECIPE_FILE)
    if parsed.plan is None:
        return {}
    return {_place(request): request for request in plan_of(parsed).requests()}


def _place(request: Request) -> tuple[Any, ...]:
    return (request.subject, request.seed, request.kind, request.scenario, request.take)
