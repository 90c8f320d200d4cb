"""The balanced subset, exactly: the best images under hard quotas, with a proof."""

from __future__ import annotations

from .again import select_again
from .balance import NoCandidatesError, NonFiniteValueError, UnknownPairError, select
from .decisions import Decisions, DecisionsFileError, Followed, ImpossibleDecisionsError
from .forcing import Price, prices
from .optimum import Bounds, Solution, SolverError, solve
from .quotas import ContradictoryQuotaError, Quota, QuotaSyntaxError
from .resolve import UncountableColumnError, UnknownColumnError
from .result import Cause, QuotaCount, Relaxation, Selection

__all__ = [
    "Bounds",
    "Cause",
    "ContradictoryQuotaError",
    "Decisions",
    "DecisionsFileError",
    "Followed",
    "ImpossibleDecisionsError",
    "NoCandidatesError",
    "NonFiniteValueError",
    "Price",
    "Quota",
    "QuotaCount",
    "QuotaSyntaxError",
    "Relaxation",
    "Selection",
    "Solution",
    "SolverError",
    "UncountableColumnError",
    "UnknownColumnError",
    "UnknownPairError",
    "prices",
    "select",
    "select_again",
    "solve",
]
