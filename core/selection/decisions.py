"""What a person has decided about single images: keep this one, leave that one out.

A decision names an image by its content hash (SHA-256 of the file; of a crop, of the original's),
so that it survives a rename, a move, or another crop. The report writes decisions as a JSON file;
:func:`.select` takes them as constraints that come before every quota.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from ..counts import how_many, worded
from ..errors import CuratorError
from ..json_text import parse
from ..plain_files import plain_text
from ..rejection_reasons import in_words
from .conflicts import IntArray
from .resolve import ResolvedQuota

FORMAT = 1
"""Version of the file; a reader refuses a higher one."""

DECISIONS_FILE = "decisions.json"
"""What the file is called that an export keeps beside its recipe."""

KEEP, VETO = "keep", "veto"
_HASH = re.compile(r"[0-9a-f]{64}")
_SHOWN = 5


class DecisionsFileError(CuratorError):
    """A file of decisions cannot be used."""

    def __init__(self, name: str, problem: object) -> None:
        super().__init__(
            f"The decisions in {name} cannot be used: {problem}. Download them again with the "
            "button of report.html, or correct the file."
        )


class ImpossibleDecisionsError(CuratorError):
    """Decisions that no selection can follow.

    Attributes:
        problems: What cannot be followed, a sentence each, with the images' names.
    """

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        listed = "\n".join(f"- {problem}" for problem in problems)
        super().__init__(
            f"The decisions cannot be followed:\n{listed}\nTake one of each back in the report "
            "and download the decisions again, or loosen what is named."
        )


@dataclass(frozen=True)
class Decisions:
    """Images to take and images to leave out, by content hash.

    Attributes:
        keep: Hashes of images that are selected whatever they are worth.
        veto: Hashes of images that are not selected.
        names: What the images were called when they were decided on, by hash; for people only.

    Raises:
        DecisionsFileError: An image is both kept and vetoed.

    Example:
        >>> some = Decisions.parse('{"format": 1, "decisions": []}')
        >>> len(some), bool(some)
        (0, False)
    """

    keep: frozenset[str] = frozenset()
    veto: frozenset[str] = frozenset()
    names: Mapping[str, str] = field(default_factory=dict, compare=False)

    def __post_init__(self) -> None:
        both = sorted(self.keep & self.veto)
        if both:
            named = _listed([self.names.get(key, key) for key in both])
            raise DecisionsFileError("this set", f"{named} is both kept and vetoed")

    def __len__(self) -> int:
        return len(self.keep) + len(self.veto)

    @staticmethod
    def read(path: Path | str) -> Decisions:
        """Read a file that the report has written.

        Raises:
            DecisionsFileError: It is absent, is no such file, or contradicts itself.
        """
        try:
            text = plain_text(Path(path).expanduser(), "utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or error
            raise DecisionsFileError(str(path), reason) from error
        return Decisions.parse(text, str(path))

    @staticmethod
    def parse(text: str, name: str = "the text") -> Decisions:
        """Read the text of such a file; ``name`` is what errors call it.

        Raises:
            DecisionsFileError: As :meth:`read`.
        """
        try:
            values = parse(text, strict=True)
            if values["format"] > FORMAT:
                newer = f"its format {values['format']} is newer than this version's, {FORMAT}"
                raise DecisionsFileError(name, newer)
            rows = [(row["hash"], row["decision"], row.get("name")) for row in values["decisions"]]
        except KeyError as error:
            raise DecisionsFileError(name, f"it has no {error}") from error
        except (ValueError, TypeError, AttributeError) as error:
            raise DecisionsFileError(name, error) from error
        sides: dict[str, set[str]] = {KEEP: set(), VETO: set()}
        names = {}
        for key, decision, called in rows:
            if not isinstance(key, str) or not _HASH.fullmatch(key):
                raise DecisionsFileError(name, f"{key!r} is no content hash (SHA-256)")
            if not isinstance(decision, str) or decision not in sides:
                raise DecisionsFileError(name, f"{decision!r} is neither '{KEEP}' nor '{VETO}'")
            sides[decision].add(key)
            if isinstance(called, str):
                names[key] = called
        try:
            return Decisions(frozenset(sides[KEEP]), frozenset(sides[VETO]), names)
        except DecisionsFileError as error:
            raise DecisionsFileError(name, "an image is both kept and vetoed") from error

    def to_json(self) -> str:
        """Return the text of the file: the same decisions, the same bytes."""
        rows = [
            {"hash": key, "decision": decision, "name": self.names.get(key, "")}
            for decision, side in ((KEEP, self.keep), (VETO, self.veto))
            for key in sorted(side)
        ]
        values: dict[str, Any] = {"format": FORMAT, "decisions": rows}
        return json.dumps(values, indent=1, ensure_ascii=False) + "\n"


@dataclass(frozen=True)
class Followed:
    """What came of decisions in a selection.

    Attributes:
        decisions: What was decided.
        kept: How many images are selected because they were to be kept.
        vetoed: How many images were left out by a veto.
        idle: How many vetoed images had been rejected already.
        unknown: How many hashes no image has.
    """

    decisions: Decisions
    kept: int
    vetoed: int
    idle: int
    unknown: int

    def sentence(self) -> str:
        """Return what came of them, for people."""
        text = f"Decisions: {self.kept} kept, {self.vetoed} vetoed"
        if self.idle:
            text += f", {self.idle} vetoed that had been rejected anyway"
        if self.unknown:
            text += f"; {self.unknown} unknown: no image has that content"
        return text + "."


@dataclass(frozen=True, eq=False)
class Placed:
    """Decisions in the rows of a table.

    Attributes:
        keep: The rows that are kept, ascending; of equal files the one whose path sorts first.
        veto: A boolean a row: accepted and vetoed.
        followed: How many decisions of which kind there are.
    """

    keep: IntArray
    veto: npt.NDArray[np.bool_]
    followed: Followed


def contents(table: pl.DataFrame) -> pl.Series:
    """Return what decisions know each row by: the hash of its file; of a crop, the original's."""
    if "crop_source_hash" not in table.columns:
        return table["hash"]
    return table.select(pl.coalesce("crop_source_hash", "hash").alias("hash"))["hash"]


def placed(decisions: Decisions, table: pl.DataFrame) -> Placed:
    """Find the rows that decisions are about.

    Raises:
        ImpossibleDecisionsError: An image is to be kept that an earlier stage has rejected.
    """
    rows = table.select("path", "rejection", "rejection_detail").with_row_index("row")
    rows = rows.with_columns(contents(table))
    known = set(rows["hash"].drop_nulls())
    to_keep = rows.filter(pl.col("hash").is_in(list(decisions.keep))).sort("path")
    accepted = to_keep.filter(pl.col("rejection").is_null())
    kept = accepted.unique("hash", keep="first", maintain_order=True)
    lost = to_keep.filter(~pl.col("hash").is_in(kept["hash"].to_list()))
    if lost.height:
        raise ImpossibleDecisionsError(
            [
                f"{row['path']} is to be kept, but was rejected before the selection: "
                f"{in_words(row['rejection'])}"
                + (f" ({row['rejection_detail']})" if row["rejection_detail"] else "")
                for row in lost.unique("hash", keep="first", maintain_order=True).to_dicts()
            ]
        )
    out = rows["hash"].is_in(list(decisions.veto)).fill_null(False).to_numpy()
    open_rows = rows["rejection"].is_null().to_numpy()
    followed = Followed(
        decisions,
        kept=kept.height,
        vetoed=int((out & open_rows).sum()),
        idle=int((out & ~open_rows).sum()),
        unknown=len((decisions.keep | decisions.veto) - known),
    )
    return Placed(np.sort(kept["row"].to_numpy().astype(np.int64)), out & open_rows, followed)


def check_possible(
    keep: IntArray,
    paths: Sequence[str],
    pairs: IntArray,
    resolved: Sequence[ResolvedQuota],
    total: int,
) -> None:
    """Refuse images to be kept that cannot be in one selection.

    Args:
        keep: Positions of candidates that are to be kept, ascending.
        paths: Path of each candidate.
        pairs: Near-duplicates among the candidates, shape ``(m, 2)``.
        resolved: The quotas.
        total: How many images are selected.

    Raises:
        ImpossibleDecisionsError: They are too many, near-duplicates of each other, more than a
            quota allows of one value, or they leave too few places for a quota's minimums.
    """
    problems = []
    if len(keep) > total:
        problems.append(
            f"{how_many(len(keep), 'image is', 'images are')} to be kept, more than the total of "
            f"{total}"
        )
    both = pairs[np.isin(pairs, keep).all(axis=1)]
    problems += [
        f"{paths[a]} and {paths[b]} are to be kept, but are near-duplicates of each other"
        for a, b in np.unique(np.sort(both, axis=1), axis=0).tolist()
    ]
    for item in resolved:
        column, bounds = item.quota.column, item.bounds
        codes = bounds.codes[keep]
        got = np.bincount(codes[codes >= 0], minlength=len(bounds.maximum))
        for value in np.flatnonzero(got > bounds.maximum):
            named = _listed([paths[row] for row in keep[codes == value]])
            problems.append(
                f"{how_many(got[value], 'image')} of {column} {item.labels[value]} "
                f"{worded(got[value], 'is', 'are')} to be kept, of which "
                f"the quota allows {bounds.maximum[value]}: {named}"
            )
        wanted = int(bounds.minimum.sum())
        needed = int(np.maximum(bounds.minimum, got).sum()) + int((codes < 0).sum())
        if wanted <= total < needed and len(keep) <= total:
            others = keep[(codes < 0) | (got > bounds.minimum)[codes]]
            problems.append(
                f"the minimums of {column} need {wanted:,} of the {how_many(total, 'place')}, and "
                "the images that are to be kept leave too few: "
                f"{_listed([paths[row] for row in others])}"
            )
    if problems:
        raise ImpossibleDecisionsError(problems)


def _listed(texts: Sequence[str]) -> str:
    if len(texts) > _SHOWN + 1:
        return f"{', '.join(texts[:_SHOWN])} and {how_many(len(texts) - _SHOWN, 'other')}"
    return ", ".join(texts)
