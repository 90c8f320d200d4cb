"""The section [augmentation] of a project file: what is varied, and by what it is disturbed."""

from __future__ import annotations

from pydantic import Field, model_validator

from .options import Currency, Fraction, Model, Price
from .reading.disturbances import ALBUMENTATIONS, KINDS


class AugmentationSection(Model):
    """Real images, and synthetic variations of whom they show, as one dataset."""

    total: int = Field(
        default=200,
        ge=1,
        description="Synthetic images in the combined dataset: 200 to 300 beside 70 real ones.",
    )
    candidates: int | None = Field(
        default=None,
        ge=1,
        description="How many images to generate at least, to choose from; half as many again as "
        "are wanted unless given.",
    )
    lora: str | None = Field(
        default=None,
        description="The LoRA file of whom the real images show; [training] makes one of them "
        "unless given.",
    )
    weight: float = Field(default=1.0, ge=0, le=2, description="How strongly the LoRA is applied.")
    angles: tuple[str, ...] = Field(
        default=("frontal view", "three-quarter view", "profile view"),
        description="Angles to vary, as prompts say them.",
    )
    lights: tuple[str, ...] = Field(
        default=("golden hour lighting", "cool evening light", "dramatic lighting"),
        description="Lights to vary: warm, cool and dramatic.",
    )
    expressions: tuple[str, ...] = Field(
        default=("calm expression", "gentle smile", "serious expression"),
        description="Expressions to vary: neutral, a smile, and serious.",
    )
    backgrounds: tuple[str, ...] = Field(
        default=("neutral background", "park background", "city background", "beach background"),
        description="Backgrounds to vary.",
    )
    disturbances: tuple[str, ...] = Field(
        default=KINDS,
        description="What disturbed copies are disturbed by: occlusion, blur, noise, compression, "
        "or albumentations: and the name of one of its transforms.",
    )
    disturbed: Fraction = Field(
        default=0.25, description="Share of the synthetic images that are disturbed copies."
    )
    strength: Fraction = Field(
        default=0.5,
        description="How much they are disturbed, from 0 (just visible) to 1 (hardly to be "
        "recognised).",
    )
    seed: int = Field(
        default=0, ge=0, lt=2**32, description="What the disturbances are drawn from."
    )
    price_per_hour: Price = None
    currency: Currency = "USD"

    @model_validator(mode="after")
    def _can_be_varied(self) -> AugmentationSection:
        for name in ("angles", "lights", "expressions", "backgrounds"):
            values = getattr(self, name)
            if not values or len(set(values)) < len(values) or not all(map(str.strip, values)):
                raise ValueError(f"{name} needs one text at least, none empty, none twice")
        if len(set(self.disturbances)) < len(self.disturbances):
            raise ValueError("disturbances: one is named twice")
        for kind in self.disturbances:
            if kind not in KINDS and not kind.startswith(ALBUMENTATIONS):
                raise ValueError(
                    f"disturbances: there is no '{kind}'; there are {', '.join(KINDS)}, and "
                    f"{ALBUMENTATIONS}NAME"
                )
        if self.disturbed and not self.disturbances:
            raise ValueError("disturbances are needed where a share is disturbed: or disturbed = 0")
        return self
