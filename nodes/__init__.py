"""ComfyUI nodes: read widgets, call core, show progress and pictures.

Whatever is slow to import (core, its libraries) is imported when a node runs, so that starting
ComfyUI costs next to nothing and a missing library takes only its own node away.
"""

from __future__ import annotations

from comfy_api.latest import ComfyExtension, io

from .clusters import ClipCluster
from .contact_sheet import ContactSheet
from .dataset import DatasetExport, LoadDataset
from .evaluate import EvaluateLoRA
from .faces import FaceValidate
from .generate import SeedBatchGenerate
from .image_sets import ImageSetToImages, ImagesToImageSet, LoadImageSet
from .miniature import LoadMiniature
from .plan import CharacterPlan
from .quality import QualityScore
from .selection import BalancedSelect
from .train import TrainLoRA

__all__ = ["CharacterCuratorExtension"]


class CharacterCuratorExtension(ComfyExtension):
    """Everything that the pack adds."""

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        """Return the nodes, in the order of the flow."""
        return [
            LoadMiniature,
            CharacterPlan,
            SeedBatchGenerate,
            LoadImageSet,
            ImagesToImageSet,
            FaceValidate,
            QualityScore,
            ClipCluster,
            BalancedSelect,
            ContactSheet,
            DatasetExport,
            LoadDataset,
            ImageSetToImages,
            TrainLoRA,
            EvaluateLoRA,
        ]
