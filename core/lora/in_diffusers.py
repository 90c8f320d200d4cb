"""LoKr and LoHa files in pipelines of diffusers, whose own loader leaves them out."""

from __future__ import annotations

import re
from typing import Any

from . import lycoris
from . import names as layer_names
from .file import CheckpointError, LoraFile


def add_lycoris(pipeline: Any, file: LoraFile, name: str) -> None:
    """Put a LoKr or LoHa file into a pipeline, as ``load_lora_weights`` does with LoRA files.

    ``set_adapters`` of the pipeline then chooses it and its weight.

    Args:
        pipeline: Of diffusers.
        file: In the names of :mod:`.names`.
        name: Of the adapter.

    Raises:
        CheckpointError: The file names a layer that the pipeline lacks, or changes magnitudes.
    """
    from peft import LoHaConfig, LoKrConfig, inject_adapter_in_model

    layers = layer_names.of_pipeline(pipeline)
    strange = [layer for layer in file.names if layer not in layers]
    if strange:
        raise CheckpointError(
            f"The model has no layer '{strange[0]}': use the file's own base model."
        )
    if file.is_dora:
        raise CheckpointError(
            "The file has magnitudes (DoRA) beside LoKr or LoHa, which peft does not know. Use it "
            "in ComfyUI."
        )
    config = LoKrConfig if file.kind == "lokr" else LoHaConfig
    paths: dict[str, dict[str, str]] = {}
    for layer in file.names:
        part, _, path = layers[layer][0].partition(".")
        paths.setdefault(part, {})[path] = layer
    for part, found in paths.items():
        module = getattr(pipeline, part)
        targets = "|".join(map(re.escape, found))
        inject_adapter_in_model(config(r=1, alpha=1, target_modules=targets), module, name)
        for path, layer in found.items():
            lycoris.replace(module.get_submodule(path), name, file.factors(layer))
        module._hf_peft_config_loaded = True  # what set_adapters of diffusers asks for
