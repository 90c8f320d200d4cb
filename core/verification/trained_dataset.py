"""Which version of a dataset a LoRA was trained on, and whether it is the one at hand."""

from __future__ import annotations

from pathlib import Path

from ..counts import how_many, worded
from ..dataset.facts import fingerprint
from ..dataset.publish import version_of
from ..dataset.version_list import Version, kept_versions, trained_version
from ..errors import CuratorError
from ..lora.header import LoraOrigin
from .checklist import Fault

TRAIN = "Train the LoRA again: character-curator train DATASET --output FILE."


def check_dataset(name: str, origin: LoraOrigin, folder: Path) -> tuple[list[Fault], int | None]:
    """Compare a dataset with the one that a LoRA's header names.

    Images and captions decide: two versions with the same ones are one to a training. What the
    header calls the version is looked for among those that are kept.

    Args:
        name: The LoRA file's.
        origin: What its header says.
        folder: The dataset.

    Returns:
        What is wrong, and the number of the version that it was trained on, where that is known.
    """
    from ..training.data.examples import read_examples

    again = f"Train on this dataset, or name the one it was trained on. {TRAIN}"
    if not origin.dataset_fingerprint:
        return [Fault(name, "it does not say which dataset it was trained on", again)], None
    kept = trained_version(
        kept_versions(folder),
        origin.version,
        origin.version_fingerprint,
        origin.dataset_fingerprint,
    )
    number = origin.version if kept is None else kept.number
    try:
        examples, _ = read_examples(folder)
    except CuratorError as error:
        return [Fault(folder.name, str(error), again)], number
    if fingerprint(examples) == origin.dataset_fingerprint:
        return [], number
    here = {example.path.name: example.hash for example in examples}
    common = sum(here.get(file) == digest for file, digest in origin.images.items())
    found = (
        f"{common:,} of its {how_many(len(origin.images), 'image')} {worded(common, 'is', 'are')} "
        "here"
    )
    if common == len(origin.images) == len(here):
        found = "it was these images with other captions"
    if kept is not None and kept.folder != folder.resolve():
        again = (
            f"Verify it with that version, {kept.folder}, or bring that back: character-curator "
            f"restore {kept.place} {kept.number}. Otherwise: {TRAIN}"
        )
    return [Fault(name, f"{_trained_on(origin, kept, folder)}: {found}", again)], number


def _trained_on(origin: LoraOrigin, kept: Version | None, folder: Path) -> str:
    """Say what a LoRA was trained on, which is not what is in a folder."""
    if kept is None and origin.version is None:
        return "it was trained on something else"
    if kept is None:
        return (
            f"it was trained on version {origin.version} of '{origin.dataset}' (fingerprint "
            f"{origin.version_fingerprint[:16]}), which is not kept here"
        )
    own = version_of(folder)
    if kept.number != own:
        return f"it was trained on version {kept.number} of the dataset, and this is version {own}"
    if origin.altered:
        return (
            f"it was trained on version {own} with "
            f"{how_many(origin.altered, 'image or caption', 'images or captions')} that "
            f"{worded(origin.altered, 'was', 'were')} not as exported"
        )
    return f"it was trained on version {own}, whose images or captions were changed since"
