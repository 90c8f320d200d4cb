"""What the metadata of an exported image must say, as a schema."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

_Text = Annotated[str, StringConstraints(min_length=1)]
_Digest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
_Share = Annotated[float, Field(ge=0, le=1)]


class ImageRow(BaseModel):
    """What is known of any image: the seed document's keys and what identifies the file."""

    model_config = ConfigDict(extra="allow", strict=True)

    quality_score: _Share
    cluster: Annotated[int, Field(ge=0)]
    type: _Text
    caption: _Text
    width: Annotated[int, Field(gt=0)]
    height: Annotated[int, Field(gt=0)]
    hash: _Digest
    source: _Text


class GeneratedRow(ImageRow):
    """What is known of an image that a model has made: enough to ask for it again."""

    subject: str
    seed: Annotated[int, Field(ge=0)]
    scenario: Annotated[int, Field(ge=0)]
    take: Annotated[int, Field(ge=0)]
    noise_seed: Annotated[int, Field(ge=0, lt=2**53)]
    prompt: _Text
    request: _Digest
    generation: dict[str, Any]


RECORD_KEYS = (
    "subject", "seed", "kind", "scenario", "take", "prompt", "negative_prompt", "noise_seed",
    "request", "settings", "batch", "conditions",
)  # fmt: skip
"""What an image says of its own making; without one of these it can't be made again."""


def missing_of(row: Mapping[str, Any], *, generated: bool) -> list[str]:
    """Return what is missing or wrong in an image's row, a few words each.

    Args:
        row: From ``metadata.json``.
        generated: Whether a model has made the image.
    """
    try:
        (GeneratedRow if generated else ImageRow).model_validate(dict(row))
    except ValidationError as error:
        return [_words(fault) for fault in error.errors()]
    return []


def _words(fault: Any) -> str:
    key = ".".join(map(str, fault["loc"]))
    return f"no {key}" if fault["type"] == "missing" else f"{key}: {fault['msg']}"
