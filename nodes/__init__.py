"""ComfyUI nodes: read widgets, call core, show progress and images.

Whatever is slow to import (core, its libraries) is imported when a node runs, so that starting
ComfyUI costs next to nothing and a missing library takes only its own node away.
"""

from __future__ import annotations

import logging

from comfy_api.latest import ComfyExtension, io

from .curate.balanced_select import BalancedSelect
from .curate.captions import CaptionImages, EditCaptions
from .curate.clip_cluster import ClipCluster
from .curate.compare_subjects import CompareSubjects
from .curate.contact_sheet import ContactSheet
from .curate.crop_images import CropImages
from .curate.disturb_images import DisturbImages, JoinImageSets
from .curate.face_validate import FaceValidate
from .curate.image_sets import ImageSetToImages, ImagesToImageSet, LoadImageSet
from .curate.quality_score import QualityScore
from .evaluate.evaluate_lora import EvaluateLoRA
from .evaluate.verify import Verify
from .export.dataset_export import DatasetExport, LoadDataset
from .export.export_assets import ExportAssets
from .generate.generate_until import GenerateUntil
from .generate.load_miniature import LoadMiniature
from .generate.seed_batch_generate import SeedBatchGenerate
from .plan.character_plan import CharacterPlan
from .train.train_lora import TrainLoRA

log = logging.getLogger(__name__)

__all__ = ["CharacterCuratorExtension"]


class CharacterCuratorExtension(ComfyExtension):
    """Everything that the pack adds."""

    async def on_load(self) -> None:
        """Log what is wrong with the builds of libraries: a server's start is where one looks."""
        from ..core.analysis.builds import build_faults

        for fault in build_faults():
            log.warning("Character Curator: %s", fault)

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        """Return the nodes, in the order of the flow."""
        return [
            LoadMiniature,
            CharacterPlan,
            SeedBatchGenerate,
            LoadImageSet,
            ImagesToImageSet,
            CropImages,
            DisturbImages,
            FaceValidate,
            CompareSubjects,
            QualityScore,
            ClipCluster,
            BalancedSelect,
            GenerateUntil,
            JoinImageSets,
            CaptionImages,
            EditCaptions,
            ContactSheet,
            DatasetExport,
            ExportAssets,
            LoadDataset,
            ImageSetToImages,
            TrainLoRA,
            EvaluateLoRA,
            Verify,
        ]
