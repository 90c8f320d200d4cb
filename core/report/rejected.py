"""When little passes: what the thresholds cost, and the best of what they turned away."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from .. import atomic
from ..imageset import ImageSet
from ..naming import located
from ..rejection_reasons import in_words
from ..selection import NoCandidatesError
from .contact_sheet import contact_sheet

if TYPE_CHECKING:
    from ..analysis.threshold_costs import Naming, ThresholdCosts

_COLUMNS, _SIDE = 5, 256


class NothingPassesError(NoCandidatesError):
    """No image passes the thresholds; the message says what each of them costs.

    Args:
        images: Every candidate.
        costs: What the thresholds cost.
        sheet: Where the best of the rejected are shown.
        named: What thresholds are called where they are set.
    """

    def __init__(
        self, images: ImageSet, costs: ThresholdCosts, sheet: Path, named: Naming = "keys"
    ) -> None:
        super().__init__(images)
        self.images, self.costs, self.sheet = images, costs, sheet
        lines = [str(self), *costs.sentences(named)]
        if costs.best:
            lines.append(f"The best of what was turned away: {sheet}")
        self.args = ("\n".join(lines),)

    def calling(self, named: Naming) -> NothingPassesError:
        """Return the same error with thresholds called as where they were set."""
        return NothingPassesError(self.images, self.costs, self.sheet, named)


def show_rejected(images: ImageSet, costs: ThresholdCosts, path: Path) -> None:
    """Draw the rejected images that come nearest to passing, with why they do not.

    Args:
        images: Every candidate.
        costs: Which of them come nearest.
        path: The JPEG to write; nothing is written where none shows a face.
    """
    if not costs.best:
        return
    table = images.table
    items = []
    for row in costs.best:
        reason = in_words(table["rejection"][row] or "")
        detail = table["rejection_detail"][row] or ""
        items.append((located(images.root, table["path"][row]), detail or reason))
    sheet = contact_sheet([("The best that were turned away", items)], columns=_COLUMNS, side=_SIDE)
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic.write_jpeg(path, sheet, quality=88)
