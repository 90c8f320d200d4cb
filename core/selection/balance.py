"""Selection on an image set: the best images under quotas, without near-duplicates."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from numbers import Integral

import numpy as np
import numpy.typing as npt
import polars as pl

from ..counts import how_many
from ..errors import CuratorError
from ..imageset import ImageSet
from ..rejection_reasons import Rejection
from .advice import advise
from .conflicts import Conflicts, IntArray
from .decisions import KEEP, VETO, Decisions, Placed, check_possible, placed
from .explain import explain_relaxations, nearest_selected, places_taken
from .optimum import solve
from .quotas import ContradictoryQuotaError, Quota
from .reduction import Bounds, FloatArray
from .resolve import ResolvedQuota, UncountableColumnError, UnknownColumnError, resolve
from .result import Problem, QuotaCount, Selection

logger = logging.getLogger(__name__)


class TotalError(CuratorError):
    """Less than one image is to be selected."""

    def __init__(self, total: object) -> None:
        super().__init__(f"The total to select is {total}. Ask for at least 1 image.")


class PairsError(CuratorError):
    """What is given as near-duplicates is no list of pairs."""

    def __init__(self, error: Exception) -> None:
        super().__init__(
            f"The conflicts are no pairs of row numbers ({error}). Give what 'duplicate_pairs' "
            "returns: shape (m, 2)."
        )


class NoCandidatesError(CuratorError):
    """Nothing is left to select from."""

    def __init__(self, images: ImageSet) -> None:
        reasons = ", ".join(f"{n} {reason}" for reason, n in images.rejections().items())
        super().__init__(
            f"None of the {how_many(len(images), 'image')} can be selected"
            + (f" (rejected: {reasons})" if reasons else "")
            + ". Loosen the thresholds of the stages before, or add images."
        )


class NonFiniteValueError(CuratorError):
    """A candidate has no finite value to maximise."""

    def __init__(self, column: str, count: int, path: str) -> None:
        super().__init__(
            f"Column '{column}' has no finite number for "
            f"{how_many(count, 'accepted image')}, the first of them {path}. Run the stage that "
            "fills it on every accepted image, or reject these."
        )


class UnknownPairError(CuratorError):
    """A near-duplicate pair names a row that does not exist."""

    def __init__(self, row: int, rows: int) -> None:
        super().__init__(
            f"A pair of near-duplicates names row {row}, but the image set has "
            f"{how_many(rows, 'row')}. Find the pairs again on this image set."
        )


def select(
    images: ImageSet,
    total: int,
    quotas: Sequence[Quota | str] = (),
    *,
    value: str = "quality",
    conflicts: npt.ArrayLike | None = None,
    similarities: npt.ArrayLike | None = None,
    time_limit: float | None = None,
    decisions: Decisions | None = None,
) -> Selection:
    """Select ``total`` accepted images of the greatest total value under quotas.

    The result is a proven optimum. When the quotas cannot all be met, the one listed last is
    relaxed first and by as little as possible (see :mod:`.relaxation`), and ``relaxations`` says
    what is missing and why.

    The selection does not depend on the order of the rows. Of two images that every quota counts
    alike, that conflict with none and are worth the same, the one whose path sorts first is taken;
    between other selections of equal value the solver decides, always in the same way.

    Args:
        images: The images; only accepted ones are candidates.
        total: How many to select.
        quotas: How many of which values, the most important quota first; texts such as
            ``"seed=7"`` are read by :meth:`Quota.parse`.
        value: The numeric column to maximise the sum of.
        conflicts: Near-duplicates: pairs of row positions in ``images``, shape ``(m, 2)``; at most
            one of a pair is selected, and pairs are not chained. Rejected rows may occur.
        similarities: How similar the pairs are, shape ``(m,)``; named in the rejection details.
        time_limit: Seconds for each integer program. None, the default, waits for the proof; with
            a limit the result depends on the machine's speed.
        decisions: Images that are selected whatever they are worth, and images that are not, by
            content hash. They come before every quota; a vetoed image is no candidate. Adds a
            column ``decision``.

    Raises:
        TotalError: Less than one image is asked for.
        PairsError: ``conflicts`` is no list of pairs.
        UnknownColumnError: ``value`` or a quota names a column that does not exist.
        UncountableColumnError: ``value`` is not numeric, or a quota's column cannot be counted.
        ContradictoryQuotaError: A quota's numbers cannot add up, or two name the same column.
        NoCandidatesError: No accepted image.
        NonFiniteValueError: An accepted image has no value.
        UnknownPairError: A pair names a row that does not exist.
        ImpossibleDecisionsError: No selection follows the decisions; the message says which.
        SolverError: The time limit passed before any selection was found.

    Example:
        >>> rows = [
        ...     {"path": "a.png", "seed": 1, "quality": 0.9},
        ...     {"path": "b.png", "seed": 1, "quality": 0.8},
        ...     {"path": "c.png", "seed": 2, "quality": 0.7},
        ... ]
        >>> best = select(ImageSet.from_rows(rows, "."), 2, [Quota("seed", exact=1)])
        >>> best.selected.table["path"].to_list()
        ['a.png', 'c.png']
        >>> best.images.table["rejection_detail"].to_list()[1]
        'seed 1 already has 1 as good or better'
        >>> best.optimal, best.met
        (True, True)
    """
    whole: object = total  # whatever somebody's Python gives
    if not isinstance(whole, Integral) or total < 1:
        raise TotalError(total)
    quotas = _parsed(quotas)
    images.require("path", "'ImageSet.from_folder'")
    decided = None if decisions is None else placed(decisions, images.table)
    if decided is not None:
        images = _decided(images, decided)
    table = images.table
    accepted = table["rejection"].is_null()
    if not accepted.any():
        raise NoCandidatesError(images)
    worth = _values(table, accepted, value)

    # Candidates in the order of their paths: the selection must not depend on the row order.
    place = np.flatnonzero(accepted.to_numpy())
    order = table["path"].filter(accepted).arg_sort().to_numpy()
    place, worth = place[order], worth[order]
    _check_columns(quotas)
    resolved = [_reordered(resolve(quota, table, accepted, total), order) for quota in quotas]
    pairs, alike = _candidate_pairs(conflicts, similarities, place, table.height)

    keep = np.zeros(0, dtype=np.int64)
    if decided is not None:
        keep = np.flatnonzero(np.isin(place, decided.keep))
        check_possible(keep, table["path"].gather(place).to_list(), pairs, resolved, total)

    solution = solve(
        worth, [item.bounds for item in resolved], pairs, total, keep=keep, time_limit=time_limit
    )
    logger.debug("selected %d of %d in %d nodes", len(solution.rows), len(worth), solution.nodes)
    chosen = np.zeros(len(worth), dtype=bool)
    chosen[solution.rows] = True
    relaxations = explain_relaxations(
        resolved, Conflicts.of(pairs, len(worth)), chosen, total, time_limit, kept=len(keep)
    )
    relaxations = advise(table, relaxations, resolved, int(chosen.sum()))
    marked, duplicates = _marked(
        images, place, worth, chosen, resolved, pairs, alike, kept=len(keep) > 0
    )
    return Selection(
        images=marked,
        value=value,
        total=total,
        candidates=len(worth),
        duplicates=duplicates,
        considered=solution.considered,
        objective=solution.objective,
        bound=solution.bound,
        gap=solution.gap,
        optimal=solution.optimal,
        nodes=solution.nodes,
        stated=tuple(quotas),
        quotas=tuple(_counts(resolved, chosen)),
        relaxations=tuple(relaxations),
        followed=None if decided is None else decided.followed,
        problem=Problem(place, worth, tuple(resolved), pairs, keep, solution),
    )


def _decided(images: ImageSet, decided: Placed) -> ImageSet:
    """Add the column ``decision``, and reject what was vetoed."""
    said = np.full(len(images), None, dtype=object)
    said[decided.keep] = KEEP
    said[decided.veto] = VETO
    images = images.with_columns(pl.Series("decision", said.tolist(), dtype=pl.String))
    return images.reject(decided.veto, Rejection.VETO, "left out by a decision")


def _values(table: pl.DataFrame, accepted: pl.Series, column: str) -> FloatArray:
    if column not in table.columns:
        raise UnknownColumnError(column, table.columns)
    if not table[column].dtype.is_numeric():
        raise UncountableColumnError(
            column, table[column].dtype, "the value to maximise must be a number"
        )
    values = table[column].filter(accepted).cast(pl.Float64).fill_null(np.nan).to_numpy()
    bad = ~np.isfinite(values)
    if bad.any():
        first = table["path"].filter(accepted)[int(np.argmax(bad))]
        raise NonFiniteValueError(column, int(bad.sum()), str(first))
    return values


def _parsed(quotas: Sequence[Quota | str]) -> list[Quota]:
    given = [quotas] if isinstance(quotas, (str, Quota)) else quotas or ()
    return [quota if isinstance(quota, Quota) else Quota.parse(quota) for quota in given]


def _check_columns(quotas: Sequence[Quota]) -> None:
    columns = [quota.column for quota in quotas]
    for column in columns:
        if columns.count(column) > 1:
            raise ContradictoryQuotaError(column, "the column has more than one quota")


def _reordered(item: ResolvedQuota, order: IntArray) -> ResolvedQuota:
    bounds = item.bounds
    return ResolvedQuota(
        item.quota, item.labels, Bounds(bounds.codes[order], bounds.minimum, bounds.maximum)
    )


def _candidate_pairs(
    conflicts: npt.ArrayLike | None,
    similarities: npt.ArrayLike | None,
    place: IntArray,
    rows: int,
) -> tuple[IntArray, FloatArray | None]:
    """Renumber pairs of table rows to pairs of candidates; pairs with others are dropped."""
    try:
        pairs = np.asarray([] if conflicts is None else conflicts, dtype=np.int64)
        pairs = pairs.reshape(-1, 2)
    except (TypeError, ValueError) as error:
        raise PairsError(error) from error
    wrong = pairs[(pairs < 0) | (pairs >= rows)]
    if len(wrong):
        raise UnknownPairError(int(wrong[0]), rows)
    position = np.full(rows, -1, dtype=np.int64)
    position[place] = np.arange(len(place))
    pairs = position[pairs]
    known = (pairs >= 0).all(axis=1) & (pairs[:, 0] != pairs[:, 1])
    if similarities is None:
        return pairs[known], None
    return pairs[known], np.asarray(similarities, dtype=np.float64).reshape(-1)[known]


def _counts(resolved: Sequence[ResolvedQuota], chosen: npt.NDArray[np.bool_]) -> list[QuotaCount]:
    rows = []
    for item in resolved:
        codes, size = item.bounds.codes, len(item.labels)
        present = np.bincount(codes[codes >= 0], minlength=size)
        got = np.bincount(codes[(codes >= 0) & chosen], minlength=size)
        rows += [
            QuotaCount(item.quota.column, label, *map(int, numbers))
            for label, *numbers in zip(
                item.labels, item.bounds.minimum, item.bounds.maximum, present, got, strict=True
            )
        ]
    return rows


def _marked(
    images: ImageSet,
    place: IntArray,
    worth: FloatArray,
    chosen: npt.NDArray[np.bool_],
    resolved: Sequence[ResolvedQuota],
    pairs: IntArray,
    alike: FloatArray | None,
    *,
    kept: bool,
) -> tuple[ImageSet, int]:
    """Add ``selected``, ``selection_rank`` and reasons; count the near-duplicates."""
    rows = len(images)
    selected = np.zeros(rows, dtype=bool)
    selected[place[chosen]] = True
    best_first = place[chosen][np.argsort(-worth[chosen], kind="stable")]
    rank = pl.DataFrame(
        {"row": pl.Series(best_first, dtype=pl.Int64), "rank": range(1, len(best_first) + 1)}
    )
    ranks = pl.DataFrame({"row": pl.int_range(rows, eager=True)}).join(
        rank, on="row", how="left", maintain_order="left"
    )["rank"]

    paths = images.table["path"]
    near, original, similarity = nearest_selected(pairs, alike, chosen)
    texts = np.full(rows, "", dtype=object)
    texts[place] = places_taken(worth, chosen, resolved, kept=kept)
    for k, (row, winner) in enumerate(zip(place[near], place[original], strict=True)):
        suffix = "" if similarity is None else f" ({similarity[k]:.2f})"
        texts[row] = f"near-duplicate of {paths[int(winner)]}{suffix}"
    duplicate = np.zeros(rows, dtype=bool)
    duplicate[place[near]] = True
    quota = np.zeros(rows, dtype=bool)
    quota[place[~chosen]] = True
    details = texts.tolist()
    marked = images.with_columns(
        pl.Series("selected", selected), ranks.cast(pl.Int32).alias("selection_rank")
    )
    marked = marked.reject(duplicate, Rejection.DUPLICATE, details)
    return marked.reject(quota, Rejection.QUOTA, details), len(near)
