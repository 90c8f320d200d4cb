"""What a LoRA file says of itself, read back; and that its keys are spelled in one place."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path

import pytest
import torch

from character_curator.lora.adapters import LoraSettings
from character_curator.lora.header import LoraCard, LoraHeader, metadata, read_header

ROOT = Path(__file__).resolve().parents[3]
SPELLED = ROOT / "core" / "lora" / "header.py"
SOURCES = [
    path
    for folder in ("core", "nodes", "benchmarks", "miniature")
    for path in sorted((ROOT / folder).rglob("*.py"))
    if path != SPELLED
] + [ROOT / "__init__.py", ROOT / "quickstart.py"]
FULL = LoraCard(
    "char1",
    "stable-diffusion-v1",
    trigger_phrase="char1",
    dataset_fingerprint="f",
    generation=[{"seed": 1}],
    settings={"rank": 4},
    validation_loss=0.0812345678901234,
    continued_from={"file": "first.safetensors", "sha256": "ab"},
)


def test_what_is_written_is_read():
    says = metadata(FULL, LoraSettings())
    assert says["character_curator.validation_loss"] == "0.0812345678901234"
    assert read_header(says) == LoraHeader("char1", 0.0812345678901234)
    assert read_header({}) == LoraHeader("", None)


@pytest.mark.parametrize("text", ["", "nan", "low", "inf"])
def test_a_validation_loss_that_is_no_number_is_none(text):
    assert read_header({"character_curator.validation_loss": text}).validation_loss is None


def test_the_layers_are_those_of_the_model():
    card = LoraCard("char1", "flux-1-dev", targets=("img_attn.qkv", "linear1"))
    says = json.loads(metadata(card, LoraSettings(targets="attention"))["ss_network_args"])
    assert says["target_modules"] == ["img_attn.qkv", "linear1"]


def test_a_version_that_is_set_goes_before_the_architectures():
    says = metadata(LoraCard("char1", "stable-diffusion-xl-v1-base"), LoraSettings())
    assert says["ss_base_model_version"] == "sdxl_base_v1-0"
    card = LoraCard("char1", "stable-diffusion-xl-v1-base", version="sdxl_pony")
    assert metadata(card, LoraSettings())["ss_base_model_version"] == "sdxl_pony"


@pytest.mark.parametrize(("key", "alpha"), [("a.lora_A.weight", "4.0"), ("a.alpha", "6.0")])
def test_the_headers_alpha_is_what_is_not_in_the_weights(key, alpha):
    says = metadata(FULL, LoraSettings(rank=4, alpha=6), {key: torch.ones(1)})
    assert says["ss_network_alpha"] == alpha


def keys_in(source):
    """Return the text constants of a program that spell a key of a LoRA file's header."""
    own = {key for key in metadata(FULL, LoraSettings()) if key.startswith("character_curator.")}
    foreign = re.compile(r"(?<![\w-])(?:ss|sshs)_[a-z]|\bmodelspec\.")
    texts = [n.value for n in ast.walk(ast.parse(source)) if isinstance(n, ast.Constant)]
    return [
        text
        for text in texts
        if isinstance(text, str)
        and (foreign.search(text) or text in own or text == "character_curator.")
    ]


def test_no_other_module_spells_a_key():
    assert len(SOURCES) > 150
    found = {str(p.relative_to(ROOT)): keys_in(p.read_text(encoding="utf-8")) for p in SOURCES}
    assert {name: keys for name, keys in found.items() if keys} == {}


def test_a_spelled_key_is_seen():
    assert keys_in("header.get('modelspec.trigger_phrase')")
    assert keys_in("f'ss_{name}'") == []  # not a whole key, nor one of ours
    assert keys_in("x = {'ss_training_comment': 1, 'character_curator.settings': 2}")
    assert keys_in("PREFIX = 'character_curator.'; f'{PREFIX}validation_loss'")
