"""What the tests of the analysis share: a random open_clip model, and drawn images on disk."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from character_curator.miniature import FACE_PACK_PATH

needs_miniature_faces = pytest.mark.skipif(
    not any(FACE_PACK_PATH.glob("*.onnx")), reason="the miniature's face pack is not here"
)


def save_clip(folder: Path, seed: int = 0) -> Path:
    """Save an open_clip model with random weights in the layout of ``local-dir:``."""
    import open_clip
    import torch
    from safetensors.torch import save_file

    configuration = {
        "embed_dim": 24,
        "vision_cfg": {"image_size": 32, "layers": 1, "width": 32, "patch_size": 8,
                       "head_width": 16},
        "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2,
                     "layers": 1},
    }  # fmt: skip
    torch.manual_seed(seed)
    model = open_clip.CLIP(**configuration)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "open_clip_config.json").write_text(
        json.dumps({"model_cfg": configuration, "preprocess_cfg": {}})
    )
    weights = {name: value.contiguous() for name, value in model.state_dict().items()}
    save_file(weights, folder / "open_clip_model.safetensors")
    return folder


def portrait(number: int = 0, person: int = 0, **changes: object) -> np.ndarray:
    """Draw a portrait, BGR uint8; ``changes`` replace fields of the scene."""
    from miniature.identity import sample_identity
    from miniature.portrait import render
    from miniature.scene import sample_scene

    scene = sample_scene(np.random.default_rng([1, number]))
    scene = replace(scene, **{"framing": "close-up", "pose": "frontal", **changes})
    identity = sample_identity(np.random.default_rng([2, person]))
    return np.ascontiguousarray(render(identity, scene).image[..., ::-1])


def empty_place(number: int = 0) -> np.ndarray:
    """Draw a place without a person, BGR uint8."""
    from miniature.portrait import render_empty

    return np.ascontiguousarray(render_empty(np.random.default_rng([3, number]))[..., ::-1])


def group(number: int = 0) -> np.ndarray:
    """Draw two people, BGR uint8."""
    from miniature.identity import sample_identity
    from miniature.portrait import render_group
    from miniature.scene import sample_scene

    rng = np.random.default_rng([4, number])
    members = []
    for _ in range(2):
        scene = replace(sample_scene(rng), pose="frontal")
        members.append((sample_identity(rng), scene))
    return np.ascontiguousarray(render_group(members)[0][..., ::-1])


def write_images(folder: Path, images: dict[str, np.ndarray]) -> Path:
    """Write BGR arrays as PNG files."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, pixels in images.items():
        assert cv2.imwrite(str(folder / name), pixels)
    return folder
