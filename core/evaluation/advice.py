"""What to do when a figure is not as it should be."""

from __future__ import annotations

from dataclasses import dataclass

from .summary import Summary, Targets


@dataclass(frozen=True)
class Finding:
    """A figure that misses its target.

    Attributes:
        figure: Its name.
        value: What it is.
        wanted: What it should be, in words.
        advice: What to do next, the likeliest first.
    """

    figure: str
    value: float
    wanted: str
    advice: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.figure} is {self.value:.3g}, wanted is {self.wanted}. " + " ".join(
            self.advice
        )


def findings(summary: Summary, targets: Targets = Targets()) -> tuple[Finding, ...]:  # noqa: B008
    """Compare a checkpoint's figures with their targets; the gravest first."""
    found: list[Finding] = []
    own = summary.trigger
    if own.consistency.value < targets.consistency:
        found.append(
            Finding(
                "character consistency",
                own.consistency.value,
                f"at least {targets.consistency:g}",
                (
                    "Train longer, or with a higher rank (16) or learning rate.",
                    "Check that every training image shows the character (identity similarity in "
                    "the dataset's report), and that captions begin with the trigger word.",
                ),
            )
        )
    leak, chance = summary.leakage, summary.base_leakage
    allowed = max(targets.leakage, chance.value if chance and chance.total else 0.0)
    if leak is not None and leak.total and leak.value > allowed:
        found.append(
            Finding(
                "leakage",
                leak.value,
                f"at most {allowed:.3g}",
                (
                    "Add prior-preservation images of the class, made by the base model.",
                    "Train for fewer epochs, or leave the class word out of the captions.",
                ),
            )
        )
    if own.artefacts.value > targets.artefacts:
        also = ""
        if summary.base is not None and summary.base.artefacts.value > targets.artefacts:
            also = (
                f"The base model itself is at {summary.base.artefacts.value:.0%}: more sampling "
                "steps or another guidance scale may help both."
            )
        found.append(
            Finding(
                "artefact share",
                own.artefacts.value,
                f"at most {targets.artefacts:g}",
                tuple(
                    filter(
                        None,
                        (
                            also,
                            "Curate with a higher minimum quality.",
                            "Use more sampling steps, or a lower strength of the LoRA.",
                        ),
                    )
                ),
            )
        )
    if summary.base is not None:
        loss = summary.base.adherence - own.adherence
        if loss > targets.adherence_loss:
            found.append(
                Finding(
                    "adherence below the base model's",
                    loss,
                    f"at most {targets.adherence_loss:g}",
                    (
                        "Let the captions name everything that varies, so that it stays free.",
                        "Train for fewer epochs or with a lower rank.",
                    ),
                )
            )
        needed = targets.diversity * summary.base.diversity
        if own.diversity < needed:
            found.append(
                Finding(
                    "diversity (Vendi score)",
                    own.diversity,
                    f"at least {needed:.3g}",
                    (
                        "The images are too much alike: balance the dataset over more clusters.",
                        "Lower the rank or the learning rate.",
                    ),
                )
            )
    if own.memorised.value > targets.memorised:
        found.append(
            Finding(
                "memorised share",
                own.memorised.value,
                f"at most {targets.memorised:g}",
                (
                    "The LoRA repeats training images: train for fewer epochs, or on more.",
                    "Lower the rank.",
                ),
            )
        )
    return tuple(found)
