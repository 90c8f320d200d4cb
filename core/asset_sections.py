"""The section [assets] of a project file: images of a character for a game, and how they come."""

from __future__ import annotations

import re
from typing import Literal

from pydantic import Field, field_validator, model_validator

from .naming import slug
from .options import Flag, Fraction, Model
from .plan import SEED_DOCUMENT_SEEDS, Seed

KEEP, FIGURE = "keep", "figure"
BACKGROUNDS = (KEEP, FIGURE, "person", "foreground", "head")
"""What is done with the background: kept, or all but this of the image taken away."""

POWER_OF_TWO = "power-of-two"

_FIXED = re.compile(r"(\d+)(?:\s*[x×]\s*(\d+))?")
_LARGEST = 16_384


def fixed_size(text: str) -> tuple[int, int] | None:
    """Return the width and height that a size asks for; None for :data:`POWER_OF_TWO`.

    Args:
        text: ``power-of-two``, a side such as ``256``, or width and height such as ``256x512``.

    Raises:
        ValueError: It is none of these, or a side is not from 8 to 16384 pixels.
    """
    if text.strip() == POWER_OF_TWO:
        return None
    found = _FIXED.fullmatch(text.strip())
    if found is None:
        raise ValueError(
            f"'{text}' is no size: give {POWER_OF_TWO}, a side in pixels such as 256, or width and "
            "height such as 256x512"
        )
    size = (int(found[1]), int(found[2] or found[1]))
    if not all(8 <= side <= _LARGEST for side in size):
        raise ValueError(f"{text}: a side has from 8 to {_LARGEST} pixels")
    return size


class AssetPrompt(Model):
    """A kind of image that the game needs."""

    name: str = Field(
        min_length=1, description="What it is called: part of file names, and a folder."
    )
    prompt: str = Field(
        min_length=1,
        description="A fragment that is put into the template; or, with a placeholder such as "
        "{trigger} itself, the whole prompt.",
    )
    negative: str = Field(default="", description="What the image must not show.")
    takes: int = Field(default=1, ge=0, description="How many images of it a seed.")


DEFAULT_PROMPTS = (
    AssetPrompt(name="armor", prompt="in game armor"),
    AssetPrompt(name="portrait", prompt="portrait for UI"),
    AssetPrompt(name="action", prompt="action pose"),
    AssetPrompt(name="idle", prompt="idle animation frame"),
)
"""The seed-document recipe's prompts for a game."""


class SpriteRules(Model):
    """How an image becomes an asset."""

    background: str = Field(
        default=KEEP,
        description="keep leaves it; figure cuts out the person around the face that was found, "
        "without a further model; person or foreground by rembg; head as measured; or a folder of "
        "masks under the images' names.",
    )
    mask_model: str | None = Field(
        default=None,
        description="For person and foreground: rembg's name of another model, or an ONNX file of "
        "U-2-Net's kind in rembg's own folder.",
    )
    trim: Flag = Field(default=True, description="Cut transparent edges off.")
    size: str | None = Field(
        default=None,
        description="power-of-two, a side in pixels such as 256, or width and height such as "
        "256x512; as it comes unless given.",
    )
    anchor: Literal["center", "bottom"] = Field(
        default="center", description="Where the subject stands in a size that is larger than it."
    )

    @field_validator("size")
    @classmethod
    def _is_a_size(cls, size: str | None) -> str | None:
        if size is not None:
            fixed_size(size)
        return size


class AtlasRules(Model):
    """How assets lie in textures."""

    atlas: Flag = Field(default=True, description="Pack all assets into a texture atlas.")
    atlas_size: int = Field(
        default=2048,
        ge=64,
        le=_LARGEST,
        description="Longest side of a page of the atlas in pixels, a power of two; what does not "
        "fit goes onto further pages.",
    )
    padding: int = Field(
        default=2, ge=0, le=64, description="Transparent pixels between two images of the atlas."
    )
    extrude: int = Field(
        default=1,
        ge=0,
        le=16,
        description="How many pixels the edge of each image is repeated outwards in the atlas.",
    )

    @field_validator("atlas_size")
    @classmethod
    def _is_a_power(cls, side: int) -> int:
        if side & (side - 1):
            raise ValueError("give a power of two: 512, 1024, 2048, 4096")
        return side


class AssetsSection(SpriteRules, AtlasRules):
    """Images for a game: prompts times seeds with a LoRA, checked, cut out and packed."""

    lora: str | None = Field(
        default=None,
        description="The LoRA file, relative to the project file; the one that [training] makes "
        "unless given. Without either the model draws the subject's description.",
    )
    strength: float = Field(default=1.0, ge=-10, le=10, description="How strongly it works.")
    seeds: tuple[Seed, ...] = Field(
        default=SEED_DOCUMENT_SEEDS, min_length=1, description="Each makes every prompt."
    )
    prompts: tuple[AssetPrompt, ...] = Field(
        default=DEFAULT_PROMPTS,
        min_length=1,
        description="What is made: armor, portrait, action and idle unless given.",
    )
    template: str | None = Field(
        default=None,
        description="The prompt around the fragments; with a LoRA the caption of [plan] unless "
        "given, without one its template.",
    )
    categories: dict[str, str] = Field(
        default={},
        description="Tags, each with a text that describes its images: every image gets the one "
        "whose text is nearest to it, by [clip].",
    )
    folders: Literal["prompt", "category"] | None = Field(
        default=None,
        description="What the folders of the pack are; category where there are any, else prompt.",
    )
    minimum_quality: Fraction | None = Field(
        default=None, description="Least quality that is kept; that of [quality] unless given."
    )

    @model_validator(mode="after")
    def _can_be(self) -> AssetsSection:
        for what, names in (
            ("prompts", [prompt.name for prompt in self.prompts]),
            ("categories", list(self.categories)),
        ):
            owners: dict[str, str] = {}
            for name in names:
                key = slug(name).casefold()
                if key in owners:
                    raise ValueError(
                        f"the {what} '{owners[key]}' and '{name}' would be folders of the same "
                        "name: give one another"
                    )
                owners[key] = name
        if len(self.categories) == 1:
            raise ValueError("one category alone tells nothing apart: name two at least, or none")
        if not all(text.strip() for text in self.categories.values()):
            raise ValueError("a category has no text: describe what its images show")
        if self.folders == "category" and not self.categories:
            raise ValueError("folders = 'category' needs [assets.categories]")
        return self
