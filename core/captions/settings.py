"""What models are told when they write captions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, model_validator

from ..errors import CuratorError
from ..options import Flag, Fraction, Model, Whole, option

KEEP, REPLACE, APPEND = "keep", "replace", "append"
"""What becomes of the captions that images have: kept, replaced, or added to."""

AUTO = "auto"


class CaptionSettingsError(CuratorError):
    """An option of captioning has a value that makes no sense."""


class CaptionSettings(Model):
    """How captions are written by a model."""

    existing: Literal["keep", "replace", "append"] = Field(
        default="keep",
        description="What becomes of captions that are there: keep them and write the missing "
        "ones, replace them, or append what they do not say yet.",
    )
    style: Literal["prose", "tags"] = Field(
        default="prose",
        description="What a vision-language model is asked for: sentences, or short phrases "
        "between commas, as models want that were trained on booru tags.",
    )
    prompt: str = Field(
        default="",
        description="What a vision-language model is asked instead; Florence-2 takes the name of "
        "a task, such as DETAILED_CAPTION.",
    )
    max_tokens: Annotated[Whole, Field(ge=8, le=2048)] = Field(
        default=200, description="The most tokens of a caption that a vision-language model writes."
    )
    threshold: Fraction = Field(
        default=0.35, description="The least probability of a tag that a tagger writes."
    )
    character_threshold: Fraction = Field(
        default=0.85, description="The least probability of a tag that names a character."
    )
    categories: str = Field(
        default="general",
        description="Which tags a tagger writes, with commas between: general, character, rating, "
        "artist, copyright, meta. Names of characters are best left to the trigger word.",
    )
    order: Literal["probability", "alphabet", "model"] = Field(
        default="probability",
        description="The order of tags: the most probable first, by alphabet, or as the model "
        "lists them.",
    )
    underscores: Flag = Field(default=False, description="Whether tags keep their underscores.")
    exclude: str = Field(
        default="", description="Tags that are never written, with commas between."
    )
    most: Annotated[Whole, Field(ge=0)] = Field(
        default=0, description="The most tags of an image; 0 for all."
    )
    batch: Annotated[Whole, Field(ge=1, le=256)] = Field(
        default=1, description="How many images a model sees at once: faster, with more memory."
    )
    precision: Literal["auto", "float32", "float16", "bfloat16"] = Field(
        default="auto",
        description="The numbers that a vision-language model computes with; auto takes bfloat16 "
        "on a graphics card that has it, float16 on another, float32 without one.",
    )
    trust_remote_code: Flag = Field(
        default=False,
        description="Whether a model's folder may bring Python code of its own, which then runs "
        "here with all that you may do.",
    )


class CaptionEdit(Model):
    """One edit of all captions: exactly one of its keys, ``keep`` beside ``prune``."""

    add: str | None = Field(default=None, description="Add a phrase behind, where it is not yet.")
    add_front: str | None = Field(
        default=None, description="Add a phrase in front, behind the trigger word."
    )
    remove: str | None = Field(
        default=None, description="Take a phrase between commas away, whatever its case."
    )
    replace_words: tuple[str, str] | None = Field(
        default=None, description="Old and new: replace whole words, wherever they stand."
    )
    replace_pattern: tuple[str, str] | None = Field(
        default=None, description="A regular expression and what takes its place."
    )
    prune: Annotated[float, Field(gt=0, le=1)] | None = Field(
        default=None,
        description="Take phrases away that this share of the captions has: what is always there "
        "belongs to the trigger word.",
    )
    keep: str = Field(default="", description="Phrases that prune leaves, with commas between.")
    deduplicate: Literal[True] | None = Field(
        default=None, description="Take phrases away that a caption has said before."
    )

    @model_validator(mode="after")
    def _says_one_thing(self) -> CaptionEdit:
        said = [name for name in EDITS if getattr(self, name) is not None]
        if len(said) != 1:
            raise ValueError(
                f"an edit of captions has one of these keys: {', '.join(EDITS)}; this one has "
                f"{', '.join(said) or 'none'}"
            )
        if self.keep and self.prune is None:
            raise ValueError("'keep' goes with 'prune'")
        return self


EDITS = ("add", "add_front", "remove", "replace_words", "replace_pattern", "prune", "deduplicate")


class CaptionStage(CaptionSettings):
    """Captions of the chosen images, before they are exported: by a model, and edited."""

    model: str = Field(
        default="",
        description="A tagger or a vision-language model, by name or folder, that writes captions "
        "for images without any; none unless given.",
    )
    edits: tuple[CaptionEdit, ...] = Field(
        default=(), description="What is done to all captions afterwards, in this order."
    )


def caption_settings(given: Mapping[str, Any]) -> CaptionSettings:
    """Make settings of options by name.

    Raises:
        CaptionSettingsError: An option cannot have its value, or does not exist.
    """
    try:
        return CaptionSettings.model_validate(dict(given))
    except ValidationError as error:
        names = [str(fault["loc"][0]) if fault["loc"] else "" for fault in error.errors()]
        known = [name for name in names if name in CaptionSettings.model_fields]
        told = [f"{name}: {option(CaptionSettings, name).allowed}" for name in known]
        told += [f"there is no option '{name}'" for name in names if name not in known]
        raise CaptionSettingsError(f"{'; '.join(told)}.") from error
