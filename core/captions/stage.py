"""The stage between selection and export: a model writes captions, and all are edited."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..counts import how_many
from ..imageset import ImageSet
from ..progress import Progress, silent
from .captioners import Captioner
from .choosing import captioner
from .edits import Add, Deduplicate, EditError, Operation, Prune, Remove, Replace, Substitute
from .imagesets import caption_images, edit_image_set
from .settings import CaptionEdit, CaptionStage

if TYPE_CHECKING:
    from ..features import FeatureStore


@dataclass(frozen=True)
class Captioning:
    """What is to be done to captions, checked, with its model found.

    Attributes:
        stage: As the project has it.
        model: What writes captions; None where nothing does.
        operations: The edits.
        trigger: Trigger words, with commas between.
    """

    stage: CaptionStage
    model: Captioner | None
    operations: tuple[Operation, ...]
    trigger: str = ""

    @staticmethod
    def of(stage: CaptionStage, trigger: str = "", base: Path | str = ".") -> Captioning:
        """Find the model and check the edits.

        Args:
            stage: What is to be done.
            trigger: A phrase that names one of these words is not pruned.
            base: The folder that a relative path of a model starts from.

        Raises:
            CaptionerNotFoundError: The model is not here, and the hub does not give it.
            EditError: An edit cannot be done, such as a pattern that is none.
        """
        operations = tuple(operations_of(stage.edits, trigger))
        model = None
        if stage.model:
            place = Path(base).expanduser() / Path(stage.model).expanduser()
            model = captioner(place if place.exists() else stage.model, stage)
        return Captioning(stage, model, operations, trigger)

    def __call__(
        self, images: ImageSet, store: FeatureStore, progress: Progress = silent
    ) -> ImageSet:
        """Return the set with the captions of its chosen images written and edited.

        :attr:`.ImageSet.notes` say how many captions were written, which were not, and what the
        edits did.

        Args:
            images: After the selection.
            store: What models have said before.
            progress: Watches.

        Raises:
            CaptionerError: The model cannot be used, or failed on every image.
        """
        notes = []
        if self.model is not None:
            made = caption_images(
                images, self.model, settings=self.stage, store=store, progress=progress
            )
            written = sum(bool(one.text) for one in made.made.values())
            note = (
                f"{how_many(written, 'caption')} written by {self.model.name}; {made.kept:,} kept."
            )
            if made.failed:
                first, reason = next(iter(made.failed.items()))
                without = how_many(len(made.failed), "image has", "images have")
                note += f" {without} none ({first}: {reason})."
            notes.append(note)
            images = made.images
        if self.operations:
            images, edit = edit_image_set(images, self.operations, trigger=self.trigger)
            notes.append(
                f"{how_many(len(edit.changes), 'caption')} edited: {'; '.join(edit.what)}."
            )
            notes += edit.notes
        return replace(images, notes=(*images.notes, *notes))


def operations_of(edits: Sequence[CaptionEdit], trigger: str = "") -> list[Operation]:
    """Return what a project's edits do.

    Args:
        edits: In their order.
        trigger: Trigger words, with commas between; a phrase that names one is not pruned.

    Raises:
        EditError: One of them cannot be done, such as a pattern that is none.
    """
    made: list[Operation] = []
    for number, one in enumerate(edits, 1):
        try:
            made.append(_operation(one, trigger))
        except EditError as error:
            raise EditError(f"Edit {number} of the captions: {error}") from error
    return made


def _operation(one: CaptionEdit, trigger: str) -> Operation:
    if one.add is not None:
        return Add(one.add)
    if one.add_front is not None:
        return Add(one.add_front, front=True, trigger=trigger)
    if one.remove is not None:
        return Remove(one.remove)
    if one.replace_words is not None:
        return Replace(*one.replace_words)
    if one.replace_pattern is not None:
        return Substitute(*one.replace_pattern)
    if one.prune is not None:
        return Prune(one.prune, one.keep, trigger)
    return Deduplicate()
