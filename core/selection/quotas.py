"""Quotas as a person states them."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import CuratorError

Amount = float | Mapping[Any, float]
"""One number for every value that is present, or a number for each value named."""


class ContradictoryQuotaError(CuratorError):
    """A quota that no set of images can meet, whatever the images are."""

    def __init__(self, column: str, problem: str) -> None:
        super().__init__(f"The quota on '{column}' contradicts itself: {problem}. Correct it.")


class QuotaSyntaxError(CuratorError):
    """A quota given as text is not in the notation of :meth:`Quota.parse`."""

    def __init__(self, text: str, problem: str) -> None:
        super().__init__(
            f"'{text}' is not a quota: {problem}. Write for example seed=7, cluster=8..10, "
            "kind=original:18,scenario:52 or kind=original:26%,scenario:74%."
        )


@dataclass(frozen=True)
class Quota:
    """How many of the selected images each value of a column gets.

    Give ``exact``, or ``minimum`` and/or ``maximum``. Each is one number, which then holds for
    every value that is present among the candidates, or a mapping from values to numbers, which
    leaves other values alone. Values are compared as text, so that a key of a text file finds a
    number. Rows where the column is null count for no value.

    Attributes:
        column: Any column of whole numbers, text or truth values.
        exact: That many.
        minimum: At least that many.
        maximum: At most that many.
        shares: The numbers are shares of the total, 0 to 1. A minimum is then rounded up to whole
            images and a maximum down; exact shares are apportioned by largest remainder, and
            values that tie for the last images may get either number.

    Raises:
        ContradictoryQuotaError: Nothing or too much is given, a number is negative, no whole
            number or above 1 where it may not be, or a minimum exceeds its maximum.

    Example:
        >>> str(Quota("seed", exact=7))
        '7 each'
        >>> str(Quota.parse("kind=original:26%,scenario:74%"))
        'original 26 %, scenario 74 %'
        >>> Quota.parse("cluster=8..10") == Quota("cluster", minimum=8, maximum=10)
        True
    """

    column: str
    exact: Amount | None = None
    minimum: Amount | None = None
    maximum: Amount | None = None
    shares: bool = False

    def __post_init__(self) -> None:
        bounds = [("minimum", self.minimum), ("maximum", self.maximum)]
        given = [(name, amount) for name, amount in bounds if amount is not None]
        if self.exact is not None:
            if given:
                raise ContradictoryQuotaError(
                    self.column, "'exact' excludes 'minimum' and 'maximum'"
                )
            given = [("exact", self.exact)]
        if not given:
            raise ContradictoryQuotaError(
                self.column, "it has neither 'exact' nor 'minimum' nor 'maximum'"
            )
        for name, amount in given:
            for number in amount.values() if isinstance(amount, Mapping) else [amount]:
                self._check(name, number)
        for value in self.named():
            least, most = amount_for(self.minimum, value), amount_for(self.maximum, value)
            if least is not None and most is not None and least > most:
                where = "" if value is None else f" for {value}"
                raise ContradictoryQuotaError(
                    self.column, f"the minimum {least:g}{where} exceeds the maximum {most:g}"
                )
        for name, stated in (("exact", self.exact), ("minimum", self.minimum)):
            if self.shares and isinstance(stated, Mapping):
                whole = math.fsum(stated.values())
                if whole > 1 + 1e-9:
                    raise ContradictoryQuotaError(
                        self.column, f"its {name} shares sum to {whole:g}, which is more than 1"
                    )

    def _check(self, name: str, number: float) -> None:
        if isinstance(number, bool) or not isinstance(number, int | float):
            raise ContradictoryQuotaError(self.column, f"{name} {number!r} is not a number")
        if not math.isfinite(number) or number < 0:
            raise ContradictoryQuotaError(self.column, f"{name} {number:g} is not 0 or more")
        if number > _MOST:
            raise ContradictoryQuotaError(
                self.column, f"{name} {number:g} is more than there are images of anything"
            )
        if self.shares and number > 1:
            raise ContradictoryQuotaError(self.column, f"the share {number:g} is more than 1")
        if not self.shares and number != int(number):
            raise ContradictoryQuotaError(
                self.column, f"{name} {number:g} is not a whole number (is it a share?)"
            )

    def named(self) -> list[object]:
        """Return the values that mappings name; ``[None]`` when there is no mapping."""
        mappings = [a for a in (self.exact, self.minimum, self.maximum) if isinstance(a, Mapping)]
        unique = {str(value): value for mapping in mappings for value in mapping}
        return list(unique.values()) if mappings else [None]

    @staticmethod
    def parse(text: str) -> Quota:
        """Read ``COLUMN=AMOUNT`` or ``COLUMN=VALUE:AMOUNT,VALUE:AMOUNT``.

        An amount is ``7``, ``8..10``, ``8..`` or ``..10``; with ``%`` after each number, shares of
        the total.

        Raises:
            QuotaSyntaxError: The text is something else.
            ContradictoryQuotaError: The numbers contradict each other.
        """
        if not isinstance(text, str):
            raise QuotaSyntaxError(str(text), "it is no text")
        column, equals, rest = (part.strip() for part in text.partition("="))
        if not (column and equals and rest):
            raise QuotaSyntaxError(text, "it needs a column, '=' and an amount")
        exact: dict[object, float] = {}
        least: dict[object, float] = {}
        most: dict[object, float] = {}
        percents = set()
        for part in rest.split(","):
            value, colon, amount = part.rpartition(":")
            if bool(colon) != (":" in rest) or (not colon and "," in rest):
                raise QuotaSyntaxError(text, "with several amounts, each needs its VALUE:")
            key = value.strip()
            if key in exact or key in least or key in most:
                raise QuotaSyntaxError(text, f"'{key}' is there twice")
            single = re.fullmatch(r"\s*([\d.]*\d)(%?)\s*", amount)
            span = re.fullmatch(
                r"\s*(?:(\d+(?:\.\d+)?)(%?))?\.\.(?:(\d+(?:\.\d+)?)(%?))?\s*", amount
            )
            if span and (span[1] or span[3]):
                if span[1]:
                    least[key] = _number(text, span[1])
                    percents.add(span[2])
                if span[3]:
                    most[key] = _number(text, span[3])
                    percents.add(span[4])
            elif single:
                exact[key] = _number(text, single[1])
                percents.add(single[2])
            else:
                raise QuotaSyntaxError(text, f"'{amount.strip()}' is not an amount")
        if len(percents) > 1:
            raise QuotaSyntaxError(text, "counts and percentages do not mix")
        if exact and (least or most):
            least, most, exact = {**least, **exact}, {**most, **exact}, {}
        shares = percents == {"%"}
        if shares:
            exact, least, most = (
                {key: number / 100 for key, number in side.items()} for side in (exact, least, most)
            )

        def amount_of(side: dict[object, float]) -> Amount | None:
            return side if ":" in rest and side else side.get("")

        return Quota(column, amount_of(exact), amount_of(least), amount_of(most), shares)

    def __str__(self) -> str:
        """Return what is asked, in words: ``7 each``, ``original 18, scenario 52``."""
        named = self.named()
        if named == [None]:
            return f"{self._words(None)} each"
        parts = [f"{value} {self._words(value)}" for value in named]
        others = [a for a in (self.exact, self.minimum, self.maximum) if not isinstance(a, Mapping)]
        if any(amount is not None for amount in others):
            parts.append(f"others {self._words(None)}")
        return ", ".join(parts)

    def _words(self, value: object) -> str:
        def show(number: float) -> str:
            return f"{number * 100:g} %" if self.shares else f"{number:g}"

        exact = amount_for(self.exact, value)
        if exact is not None:
            return show(exact)
        least, most = amount_for(self.minimum, value), amount_for(self.maximum, value)
        if least is not None and most is not None:
            return show(least) if least == most else f"{show(least)} to {show(most)}"
        return f"at least {show(least)}" if least is not None else f"at most {show(most or 0)}"


def amount_for(amount: Amount | None, value: object) -> float | None:
    """Return the number for one value, None where nothing is asked of it."""
    if not isinstance(amount, Mapping):
        return amount
    texts = {str(key): number for key, number in amount.items()}
    return texts.get(str(value))


_MOST = 2**31


def _number(text: str, digits: str) -> float:
    try:
        return float(digits)
    except ValueError:
        raise QuotaSyntaxError(text, f"'{digits}' is not a number") from None
