"""What another image of a scenario is likely to be worth, from those that are there.

A seed does not fix the character's look (see :func:`..naming.noise_seed`), so that the images of a
scenario are draws from one distribution whatever their seed: everything is estimated a scenario.

- The share that is usable has a Beta posterior. Its prior is that of all images together, worth
  :data:`PRIOR_IMAGES` of them (conjugate for counts; Gelman et al., *Bayesian Data Analysis*, 3rd
  edition, 2.4 and 5.1).
- The quality of usable images is normal within a scenario, and the scenarios' means are normal
  around the mean of all. Both variances are estimated by moments, and each scenario's mean is
  shrunk towards that of all by them (the normal hierarchical model; ibid., 5.4).
- What is measured of an image and not planned (its cluster, its pose) is as often among the next
  images of a scenario as among those before, those of all scenarios counting as one of them.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

PRIOR_IMAGES = 2.0
"""How many images of a scenario the images of all scenarios count for."""
UNKNOWN_DEVIATION = 0.05
"""Standard deviation of the quality while no two usable images of one scenario are known."""
LEAST_SHARE = 0.02
"""What is rarer than this among the images of a scenario is not counted on."""
_DIGITS = 4
"""Estimates are rounded, so that the last bits of pixels do not decide what is made next."""


@dataclass(frozen=True)
class Yield:
    """What the next image of a scenario is likely to be.

    Attributes:
        made: How many images of it there are.
        usable: The expected share that passes every stage, in (0, 1).
        quality: The expected quality of one that does.
        deviation: Its standard deviation, what is not known of the mean included.
        shares: How likely it has which measured values, summing to 1.
    """

    made: int
    usable: float
    quality: float
    deviation: float
    shares: tuple[tuple[Hashable, float], ...]


def yields(
    scenario_of: npt.NDArray[np.int64],
    usable: npt.NDArray[np.bool_],
    quality: npt.NDArray[np.float64],
    measured: Sequence[Hashable],
    scenarios: int,
) -> list[Yield]:
    """Estimate what the next image of each scenario is worth.

    Args:
        scenario_of: Of each image that was made, from 0.
        usable: Whether it passed every stage and repeats no better one.
        quality: Its quality; read where it is usable.
        measured: What was measured of it and not planned; read where it is usable.
        scenarios: How many scenarios there are.

    Returns:
        One a scenario, in order.
    """
    made = np.bincount(scenario_of, minlength=scenarios)
    good = np.bincount(scenario_of[usable], minlength=scenarios)
    overall = (good.sum() + 1.0) / (made.sum() + 2.0)
    rates = (good + PRIOR_IMAGES * overall) / (made + PRIOR_IMAGES)
    means, deviations = _qualities(scenario_of[usable], quality[usable], good)
    everywhere = _counts([measured[i] for i in np.flatnonzero(usable).tolist()])
    found = []
    for scenario in range(scenarios):
        own = np.flatnonzero(usable & (scenario_of == scenario)).tolist()
        shares = _shares(_counts([measured[i] for i in own]), everywhere)
        found.append(
            Yield(
                int(made[scenario]),
                round(float(rates[scenario]), _DIGITS),
                round(float(means[scenario]), _DIGITS),
                round(float(deviations[scenario]), _DIGITS),
                shares,
            )
        )
    return found


def _qualities(
    scenario_of: npt.NDArray[np.int64],
    quality: npt.NDArray[np.float64],
    good: npt.NDArray[np.int64],
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return the mean that is expected of each scenario, and the next image's deviation."""
    scenarios = len(good)
    if not len(quality):
        return np.full(scenarios, 0.5), np.full(scenarios, UNKNOWN_DEVIATION)
    centre = float(quality.mean())
    sums = np.bincount(scenario_of, quality, minlength=scenarios)
    own = np.where(good > 0, sums / np.maximum(good, 1), centre)
    freedom = int((good[good > 0] - 1).sum())
    within = (
        float(((quality - own[scenario_of]) ** 2).sum()) / freedom
        if freedom
        else UNKNOWN_DEVIATION**2
    )
    within = max(within, 1e-8)
    seen = good > 0
    between = 0.0
    if seen.sum() > 1:
        noise = within * float((1.0 / good[seen]).mean())
        between = max(0.0, float(own[seen].var(ddof=1)) - noise)
    trust = good * between / (good * between + within)
    means = centre + trust * (own - centre)
    return means, np.sqrt(within + between * (1.0 - trust))


def _counts(values: Sequence[Hashable]) -> dict[Hashable, int]:
    found: dict[Hashable, int] = {}
    for value in values:
        found[value] = found.get(value, 0) + 1
    return found


def _shares(
    own: dict[Hashable, int], everywhere: dict[Hashable, int]
) -> tuple[tuple[Hashable, float], ...]:
    """Return how likely each value is, all scenarios together counting as one image of this."""
    total, number = sum(everywhere.values()), sum(own.values())
    if not total:
        return ((None, 1.0),)
    shares = {
        value: (own.get(value, 0) + count / total) / (number + 1)
        for value, count in everywhere.items()
    }
    kept = {value: share for value, share in shares.items() if share >= LEAST_SHARE}
    kept = kept or {max(shares, key=lambda value: shares[value]): 1.0}
    whole = sum(kept.values())
    return tuple((value, share / whole) for value, share in kept.items())
