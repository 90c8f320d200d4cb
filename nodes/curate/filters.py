"""Parts of an image set by what became of its images."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...core.counts import how_many, worded

if TYPE_CHECKING:
    from ...core.imageset import ImageSet


def chosen(images: ImageSet, which: str) -> ImageSet:
    """Return the rows of ``images`` that a filter names.

    Args:
        images: Any set.
        which: ``all``, ``accepted``, ``rejected``, a reason such as ``rejected: no_face``, or
            ``selected`` (the accepted rows where no selection was made).
    """
    import polars as pl

    if which == "all":
        return images
    if which == "rejected":
        return images.rejected
    if which.startswith("rejected: "):
        reason = which.removeprefix("rejected: ")
        return images.filter(pl.col("rejection") == reason)
    if which == "selected" and "selected" in images.table.columns:
        return images.accepted.filter(pl.col("selected").fill_null(False))
    return images.accepted


def outcome(images: ImageSet) -> str:
    """Say how many images are left, and how many each reason has taken."""
    reasons = ", ".join(f"{count} {reason}" for reason, count in images.rejections().items())
    accepted = len(images.accepted)
    left = (
        f"{accepted:,} of {how_many(len(images), 'image')} {worded(accepted, 'is', 'are')} accepted"
    )
    return f"{left}; rejected: {reasons}." if reasons else f"{left}."


def what_thresholds_cost(images: ImageSet, wanted: int) -> list[str]:
    """Say what each threshold has cost, where fewer images pass than were wanted.

    Args:
        images: After FaceValidate and QualityScore; of others nothing is said.
        wanted: How many.
    """
    from ...core.analysis.threshold_costs import costs_of

    costs = costs_of(images)
    if costs is None or costs.passing >= wanted:
        return []
    return [f"Fewer pass than the {wanted} that were wanted.", *costs.sentences("words")]
