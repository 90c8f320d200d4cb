"""A project that makes assets with a LoRA of the embedded model, small enough for a test."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
from safetensors.numpy import save

from character_curator.project import Project, parse

PROJECT = """\
[project]
name = "hero"
output = "out"

[model]
steps = 2
batch_size = 2

[[subjects]]
name = "ada"
trigger = "adax"
class_word = "woman"
description = "woman, wavy red hair, green eyes, fair skin"

[faces]
minimum_confidence = 0.3
minimum_side = 8.0

[quality]
minimum = 0.0

[assets]
lora = "ada.safetensors"
strength = 0.5
seeds = [966983, 966984]
template = "portrait of a {description}, {scenario}"
background = "figure"
size = "power-of-two"

[[assets.prompts]]
name = "armor"
prompt = "green fantasy armor, neutral background, studio lighting, frontal view, bust"

[[assets.prompts]]
name = "portrait"
prompt = "gray t-shirt, gentle smile, neutral background, studio lighting, frontal view, close-up"
"""


def write_project(folder: Path, text: str = PROJECT) -> Project:
    """Write the project and its LoRA into a folder; return the project."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "hero.toml").write_text(text, encoding="utf-8")
    (folder / "ada.safetensors").write_bytes(lora_bytes())
    return parse(text)


@cache
def lora_bytes() -> bytes:
    """Return a LoRA of small random weights for the embedded model, with a trigger phrase."""
    rng = np.random.default_rng(0)
    weights = {}
    for layer in ("to_q", "to_k", "to_v", "to_out_0"):
        stem = f"lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_{layer}"
        weights[f"{stem}.lora_down.weight"] = rng.normal(size=(4, 64)) / 8
        weights[f"{stem}.lora_up.weight"] = rng.normal(size=(64, 4)) / 8
        weights[f"{stem}.alpha"] = np.array(4.0)
    found = {key: value.astype(np.float32) for key, value in weights.items()}
    return save(found, {"modelspec.trigger_phrase": "adax woman"})


def contents(folder: Path) -> dict[str, bytes]:
    """Return the bytes of every file below a folder, by name."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
