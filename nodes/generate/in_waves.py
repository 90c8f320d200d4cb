"""Images in waves on the canvas: what SeedBatchGenerate makes next, and what it hands on for that.

SeedBatchGenerate makes what the waves have asked for so far, and the first of them where nothing
has been asked for. The nodes after it measure and select; GenerateUntil, after them, asks for the
next wave and has all of them run once more.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ...core.growth.ledger import Asked
    from ...core.growth.next_wave import Goal
    from ...core.imageset import ImageSet
    from ...core.plan import Plan, Request
    from ...core.selection import Quota

LEDGER = "waves.json"
"""Beside the images: what each wave has asked for."""
NOBODY_ASKS = (
    "Only what the waves have asked for so far was made: no GenerateUntil is connected to "
    "SeedBatchGenerate's 'waves', which would ask for more."
)


@dataclass(frozen=True)
class Waves:
    """What GenerateUntil has to know of the node that makes the images.

    Attributes:
        node: Its id.
        plan: What images there may be.
        settings: Of the back end.
        folder: Where the images go.
        wave: Images of a wave.
        images: The most images in all.
        takes: The most of each scenario and seed; None for any.
        made: What it has made.
    """

    node: str
    plan: Plan
    settings: Mapping[str, Any]
    folder: Path
    wave: int
    images: int
    takes: int | None
    made: frozenset[Request] = frozenset()

    @property
    def ledger(self) -> Path:
        """The file that the waves are noted in."""
        return self.folder / LEDGER

    def goal(self, total: int = 1, quotas: Sequence[Quota] = (), gain: float = 0.0) -> Goal:
        """Return when there are enough.

        Args:
            total: How many are to be chosen.
            quotas: How many of which values.
            gain: Least rise of the mean quality of the chosen that another wave is worth.
        """
        from ...core.growth.next_wave import Goal

        return Goal(total, quotas, self.wave, gain, self.images, self.takes)

    def asked(self) -> list[Asked]:
        """Return what was asked for so far; the first wave where nothing was."""
        from ...core.growth.waves import asked_so_far

        return asked_so_far(self.plan, self.goal(), self.ledger, self.settings, self.folder)

    def make(self, generate: Callable[..., ImageSet]) -> tuple[ImageSet, Waves]:
        """Make what was asked for so far; return it, and with it what was made.

        Args:
            generate: Makes the images of requests, with a note in each one's record.
        """
        from ...core.generation.png import output_error
        from ...core.growth.dealing import in_plan_order
        from ...core.growth.ledger import write_ledger
        from ...core.growth.waves import with_waves

        asked = self.asked()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise output_error(self.folder, error) from error
        write_ledger(self.ledger, asked, self.settings)
        notes = {one.request: one.note() for one in asked}
        images = generate(in_plan_order(self.plan, notes), notes.__getitem__)
        return with_waves(images, asked), replace(self, made=frozenset(notes))
