"""Captions of an image set, before it is exported: by a model, and edited."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import polars as pl

from ..dataset.captions import EDITED, what_varies
from ..features import FeatureStore
from ..imageset import ImageSet
from ..progress import Progress, silent
from .captioners import Captioner
from .edits import Operation, Prune
from .making import Made, make_captions
from .phrases import joined, phrases_of, without_repeats
from .preview import Change, Edit
from .settings import APPEND, KEEP, CaptionSettings
from .table import Captioned, CaptionTable

FILE = "caption_file"


@dataclass(frozen=True)
class CaptionedSet:
    """An image set with captions by a model.

    Attributes:
        images: The set.
        made: What the model has said, by the images' paths.
        kept: How many accepted images kept the caption that they have.
    """

    images: ImageSet
    made: dict[str, Made]
    kept: int

    @property
    def failed(self) -> dict[str, str]:
        """Why an image has no caption, by its path."""
        return {path: one.reason for path, one in self.made.items() if one.reason}


def caption_images(
    images: ImageSet,
    model: Captioner,
    *,
    settings: CaptionSettings | None = None,
    store: FeatureStore | None = None,
    progress: Progress = silent,
) -> CaptionedSet:
    """Let a model write the captions of a set's images; rejected ones are not looked at.

    Args:
        images: The set.
        model: The model.
        settings: What becomes of captions that are there.
        store: What models have said before.
        progress: Watches.

    Raises:
        CaptionerError: The model cannot be used, or failed on every image.
    """
    chosen = settings or CaptionSettings()
    wanted = images.table["rejection"].is_null()
    if "selected" in images.table.columns:
        wanted = wanted & images.table["selected"].fill_null(False)
    rows = images.table.filter(wanted).to_dicts()
    asked = [row for row in rows if chosen.existing != KEEP or not row["caption"]]
    made = make_captions(
        [images.root / row["path"] for row in asked],
        model,
        hashes=[row["hash"] for row in asked],
        store=store,
        progress=progress,
    )
    texts, files = {}, {}
    for row, one in zip(asked, made, strict=True):
        if one.text:
            adds = chosen.existing == APPEND and row["caption"]
            both = [*phrases_of(row["caption"] or ""), *phrases_of(one.text)]
            texts[row["path"]] = joined(without_repeats(both)) if adds else one.text
            # Somebody's own caption is taken as it is; a model's has framing and view added.
            files[row["path"]] = row.get(FILE) if adds else None
    told = {row["path"]: one for row, one in zip(asked, made, strict=True)}
    return CaptionedSet(_with(images, texts, files), told, len(rows) - len(asked))


def edit_image_set(
    images: ImageSet, operations: Sequence[Operation], *, trigger: str = ""
) -> tuple[ImageSet, Edit]:
    """Edit the captions of a set's accepted images.

    A caption is first what an export would write without the trigger word, with framing and view.
    What is edited is exported as it is, by the strategies that take captions.

    Args:
        images: The set.
        operations: What is done, one after the other.
        trigger: The trigger word, for what is said of the edit.

    Returns:
        The set, and what has changed.
    """
    rows = images.accepted.table.to_dicts()
    texts = before = [what_varies(row) for row in rows]
    notes = []
    for operation in operations:
        if isinstance(operation, Prune):
            gone = operation.always(texts)
            notes.append(f"Pruned: {', '.join(gone)}." if gone else "There is nothing to prune.")
        texts = operation(texts)
    names = [row["path"] for row in rows]
    changes = tuple(
        Change(name, name, old, new)
        for name, old, new in zip(names, before, texts, strict=True)
        if old != new
    )
    table = CaptionTable(
        images.root,
        tuple(Captioned(row["path"], text, row["path"], known=_measured(row))
              for row, text in zip(rows, texts, strict=True)),
        trigger,
    )  # fmt: skip
    edited = _with(images, dict(zip(names, texts, strict=True)))
    paths = set(names)
    is_edited = [path in paths for path in images.table["path"]]
    column = pl.Series(EDITED, is_edited, dtype=pl.Boolean)
    return edited.with_columns(column), Edit(table, tuple(map(str, operations)), changes,
                                             tuple(notes))  # fmt: skip


def _with(
    images: ImageSet, texts: dict[str, str], files: dict[str, str | None] | None = None
) -> ImageSet:
    paths = images.table["path"].to_list()
    captions = [texts.get(p, old) for p, old in zip(paths, images.table["caption"], strict=True)]
    made = replace(
        images,
        table=images.table.with_columns(pl.Series("caption", captions, dtype=pl.String)),
    )
    if files is None or FILE not in images.table.columns:
        return made
    named = [files.get(p, old) if p in files else old
             for p, old in zip(paths, images.table[FILE], strict=True)]  # fmt: skip
    return made.with_columns(pl.Series(FILE, named, dtype=pl.String))


def _measured(row: dict[str, object]) -> dict[str, object]:
    return {key: row[key] for key in ("pose", "framing") if row.get(key) is not None}
