"""What the pack's nodes share: names, the types of their wires, and the feature store."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from comfy_api.latest import io

if TYPE_CHECKING:
    from ...core.features import FeatureStore

ROOT = "Character Curator"
"""The root category."""

Plan = io.Custom("CURATOR_PLAN")
"""A ``core.plan.Plan``."""
ImageSet = io.Custom("CURATOR_IMAGE_SET")
"""A ``core.imageset.ImageSet``: an immutable table of paths and figures, never pixels."""
Selection = io.Custom("CURATOR_SELECTION")
"""A ``core.selection.Selection``: the proof of a selection."""
Waves = io.Custom("CURATOR_WAVES")
"""A ``nodes.generate.in_waves.Waves``: of images that are made in waves; None of others."""
Dataset = io.Custom("CURATOR_DATASET")
"""The ``pathlib.Path`` of an exported dataset."""


def node_id(name: str) -> str:
    """Return the id of a node, which saved graphs refer to and which therefore never changes."""
    return f"CharacterCurator_{name}"


def category(stage: str) -> str:
    """Return the menu's place for the nodes of one stage."""
    return f"{ROOT}/{stage}"


def searched_as(*words: str) -> dict[str, Any]:
    """Return the schema's further words by which a search finds a node, where it can have them."""
    known = {field.name for field in fields(io.Schema)}
    return {"search_aliases": list(words)} if "search_aliases" in known else {}


def feature_store() -> FeatureStore:
    """Open the server's feature store: what has been measured once is never measured again."""
    import folder_paths

    from ...core.features import FeatureStore

    folder = Path(folder_paths.get_user_directory()) / "character_curator"
    return FeatureStore(folder / "features.sqlite")
