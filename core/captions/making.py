"""Let a model write the captions of many images; what it has said once it is not asked again."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..analysis.decoding import Pixels, decode_ahead
from ..counts import how_many
from ..damages import note_damage
from ..features import FeatureStore
from ..hashing import content_hash
from ..progress import Progress, silent
from .captioners import Captioner, CaptionerError
from .edits import Trigger
from .phrases import joined, phrases_of, without_repeats
from .preview import Edit, rewritten
from .settings import APPEND, KEEP, CaptionSettings
from .table import CaptionTable

log = logging.getLogger(__name__)

ANALYSER = "captions"


@dataclass(frozen=True)
class Made:
    """What a model has said of an image.

    Attributes:
        text: The caption; empty if there is none.
        reason: Why there is none.
        remark: What is to be said of how it was made.
        fresh: Whether the model was asked now.
        unseen: Whether the image could not be read, so that the model never saw it.
    """

    text: str
    reason: str = ""
    remark: str = ""
    fresh: bool = False
    unseen: bool = False


@dataclass(frozen=True)
class CaptionRun:
    """What came of letting a model write the captions of a folder.

    Attributes:
        edit: The captions as a preview, which :func:`.writing.write` writes.
        made: What the model has said, by the images' names.
        kept: How many images kept the captions that they have.
    """

    edit: Edit
    made: Mapping[str, Made]
    kept: int

    @property
    def failed(self) -> dict[str, str]:
        """Why an image has no caption, by its name."""
        return {name: one.reason for name, one in self.made.items() if one.reason}

    @property
    def asked(self) -> int:
        """Of how many images the model was asked now."""
        return sum(one.fresh for one in self.made.values())

    @property
    def known(self) -> int:
        """Of how many images it had said before what it says."""
        return sum(not one.fresh and not one.unseen for one in self.made.values())

    @property
    def remarks(self) -> dict[str, int]:
        """How often something is to be said of how captions were made."""
        return dict(Counter(one.remark for one in self.made.values() if one.remark))


def caption_folder(
    table: CaptionTable,
    model: Captioner,
    *,
    settings: CaptionSettings | None = None,
    store: FeatureStore | None = None,
    trigger: str | None = None,
    progress: Progress = silent,
) -> CaptionRun:
    """Let a model write the captions of a folder's images. Nothing is written yet.

    Args:
        table: The folder's captions as they are.
        model: The model.
        settings: What becomes of captions that are there.
        store: What models have said before; of this call alone unless given.
        trigger: The word that is put in front; the folder's own unless given, none if empty.
        progress: Watches.

    Raises:
        CaptionerError: The model cannot be used, or failed on every image.
    """
    chosen = settings or CaptionSettings()
    word = table.trigger if trigger is None else trigger
    rows = [
        row
        for row in table.rows
        if not row.unread and (chosen.existing != KEEP or not _says_more(row.text, word))
    ]
    paths = [table.root / row.image for row in rows]
    made = dict(zip([row.image for row in rows],
                    make_captions(paths, model, store=store, progress=progress),
                    strict=True))  # fmt: skip
    texts = {}
    for row in rows:
        if text := made[row.image].text:
            if chosen.existing == APPEND and row.text:
                text = joined(without_repeats([*phrases_of(row.text), *phrases_of(text)]))
            texts[row.image] = Trigger(word)([text])[0] if word else text
    what = f"captions by {model.name} ({chosen.existing})"
    return CaptionRun(rewritten(table, texts, [what]), made, len(table.rows) - len(rows))


def make_captions(
    paths: Sequence[Path],
    model: Captioner,
    *,
    hashes: Sequence[str | None] | None = None,
    store: FeatureStore | None = None,
    progress: Progress = silent,
) -> list[Made]:
    """Let a model write captions of images.

    What it says is stored image by image, so whoever is stopped goes on from there. An image that
    cannot be read, or that the model fails on, has no caption and the reason why.

    Args:
        paths: The images.
        model: The model.
        hashes: SHA-256 of the files where they are known.
        store: What models have said before.
        progress: Watches.

    Returns:
        One result an image, in their order.

    Raises:
        CaptionerError: The model cannot be used, or failed on every image that it saw.
    """
    own = FeatureStore() if store is None else None
    known = store or own
    assert known is not None  # noqa: S101
    try:
        return _made(paths, _digests(paths, hashes), model, known, progress)
    finally:
        if own is not None:
            own.close()


def _made(
    paths: Sequence[Path],
    digests: Sequence[str | None],
    model: Captioner,
    store: FeatureStore,
    progress: Progress,
) -> list[Made]:
    found = store.get([d for d in digests if d], ANALYSER, model.fingerprint)
    results: dict[int, Made] = {}
    for index, digest in enumerate(digests):
        if digest and digest in found:
            try:
                results[index] = _read(model, found[digest])
            except (ValueError, TypeError, LookupError, AttributeError):
                note_damage("stored captions", store.path, "asked again")
                log.warning("%s: what is stored of it is no caption; it is asked again.",
                            paths[index])  # fmt: skip
    missing = [index for index in range(len(paths)) if index not in results]
    progress.start(f"Captioning with {model.name}", len(paths))
    if results:
        progress.advance(len(results), "made before")
    waiting: list[tuple[int, str, Pixels]] = []

    def ask() -> None:
        for index, digest, value in _answers(model, waiting):
            if isinstance(value, bytes):
                store.put({digest: value}, ANALYSER, model.fingerprint)
                results[index] = _read(model, value, fresh=True)
            else:
                log.warning("%s: %s", paths[index], value)
                results[index] = Made("", f"{model.name} failed: {value}", fresh=True)
            progress.advance(1, paths[index].name)
        waiting.clear()

    for one in decode_ahead([paths[i] for i in missing], lambda pixels: pixels, hashed=True):
        index = missing[one.index]
        if one.image is None:
            results[index] = Made("", one.reason, unseen=True)
            progress.advance(1, paths[index].name)
            continue
        waiting.append((index, one.digest, one.image))
        if len(waiting) >= model.batch:
            ask()
    if waiting:
        ask()
    progress.finish()
    asked = [one for one in results.values() if one.fresh]
    if asked and all(one.reason for one in asked):
        raise CaptionerError(
            f"{asked[0].reason}. So it was with each of {how_many(len(asked), 'image')}: the model "
            "does not work here. Try another, or another precision."
        )
    return [results[index] for index in range(len(paths))]


def _answers(
    model: Captioner, waiting: Sequence[tuple[int, str, Pixels]]
) -> list[tuple[int, str, bytes | str]]:
    """Ask the model of some images; of each alone if it fails on them together."""
    try:
        values = model.find([image for _, _, image in waiting])
        pairs = zip(waiting, values, strict=True)
        return [(index, digest, value) for (index, digest, _), value in pairs]
    except model.stops:
        raise
    except Exception as error:  # whatever a model's code raises on an image
        if len(waiting) > 1:
            return [answer for one in waiting for answer in _answers(model, [one])]
        if type(error).__name__ == "OutOfMemoryError":
            raise CaptionerError(
                f"There is too little memory for {model.name}. Free some (other programs, other "
                "models), take a smaller model, or a precision of 16 bits."
            ) from error
        index, digest, _ = waiting[0]
        return [(index, digest, f"{type(error).__name__}: {error}".strip().rstrip("."))]


def _read(model: Captioner, value: bytes, fresh: bool = False) -> Made:
    text = model.caption(value)
    reason = "" if text else f"{model.name} said nothing of it"
    return Made(text, reason, model.remark(value), fresh)


def _digests(paths: Sequence[Path], known: Sequence[str | None] | None) -> list[str | None]:
    if known is not None:
        return list(known)
    found: list[str | None] = []
    for path in paths:
        try:
            found.append(content_hash(path))
        except OSError:
            found.append(None)
    return found


def _says_more(text: str, trigger: str) -> bool:
    """Whether a caption says anything but the trigger word."""
    return bool(text) and text != trigger
