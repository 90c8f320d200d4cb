"""The miniature: tiny but real models, embedded in the package.

The constants name the folders of the weights; importing this package loads none of them.
"""

from __future__ import annotations

from pathlib import Path

WEIGHTS = Path(__file__).resolve().parent / "weights"
DIFFUSION_PATH = WEIGHTS / "diffusion"
"""A diffusers folder in the layout of Stable Diffusion 1.5, for images of 128x128."""
CLIP_PATH = WEIGHTS / "clip"
"""An open_clip model with its configuration."""
FACE_PACK_PATH = WEIGHTS / "faces"
"""An insightface pack: detector and recogniser as ONNX."""

__all__ = ["CLIP_PATH", "DIFFUSION_PATH", "FACE_PACK_PATH", "WEIGHTS"]
