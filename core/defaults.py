"""Defaults that several stages share, each once; this module imports no other.

A stage's function, the project file, the command line and the nodes all take them from here.
"""

from __future__ import annotations

from typing import Literal

Formula = Literal["seed-document", "calibrated"]
"""How the quality of an image is found."""
FaceChoice = Literal["reject", "largest", "reference"]
"""What is done with an image of several faces."""
CropFraming = Literal["close-up", "bust", "half", "full"]
"""How much of a person a crop shows."""
MASK_KINDS = ("face", "head", "person", "foreground", "alpha", "beside")
"""What the masks of a dataset show, where they do not come from a folder."""

MINIMUM_QUALITY = 0.74
"""The seed-document recipe keeps images above this quality."""
MINIMUM_CONFIDENCE = 0.85
"""Least score of a face detector; below it the seed-document quality formula gives 0 as well."""
MINIMUM_FACE_SHARE = 0.01
"""Least area of a face, as a share of the image's."""
MINIMUM_FACE_SIDE = 20.0
"""Least width and height of a face, in pixels."""
DUPLICATE_SIMILARITY = 0.98
"""Cosine similarity of embeddings from which on two images count as one."""
COPY_AGREEMENT = 0.55
"""Share of the blocks of two aligned images from which on one counts as a copy of the other."""

FACE_PACK = "buffalo_l"
"""The insightface pack of real work; for non-commercial research only."""
CLIP_MODEL = "ViT-B-32"
"""The open_clip architecture of real work."""
MINIATURE_GUIDANCE = 2.5
"""The guidance scale that suits the embedded model."""
SAMPLE_STEPS = 20
"""Denoising steps of the images that a training samples."""
SAMPLE_GUIDANCE = 4.0
"""Guidance scale of the images that a training samples."""

REGENERATED_IMAGES = 3
"""How many images a verification makes again."""
TEST_PROMPTS = 60
"""New prompts that a verification tries a LoRA with: enough faces of others for a threshold."""

SEED_DOCUMENT = "seed-document"
"""The seed-document recipe's name, as a preset of settings and of layers, and of its formula."""
CALIBRATED: Formula = "calibrated"
"""The quality that is measured on the face, for photographs."""
RECIPE_RANK = 8
RECIPE_ALPHA = 8.0
RECIPE_DROPOUT = 0.05
"""The seed-document recipe's adapters."""
