"""Runs ComfyUI's own code on LoRA files, in a process of its own.

``python comfyui_lora.py COMFYUI CASES.json``: each case names a kind of model, a file of weights
(diffusers' names), a LoRA file, a file of inputs, and where the output is to be written. Prints a
JSON list with, for each case, what ComfyUI logged and how many weights it patched.
"""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path


def main(comfyui: str, cases: str) -> None:
    sys.path.insert(0, comfyui)
    sys.argv = ["main.py", "--cpu"]
    import comfy.options

    comfy.options.enable_args_parsing()
    import comfy.sd
    import comfy.utils
    import torch
    from safetensors.torch import load_file, save_file

    torch.set_num_threads(1)
    said: list[str] = []

    class Ear(logging.Handler):
        def emit(self, record):
            said.append(record.getMessage())

    logging.getLogger().handlers = [Ear()]
    answers = []
    models = {}
    for case in json.loads(Path(cases).read_text()):
        key = (case["kind"], case["weights"])
        if key not in models:
            models[key] = BUILDERS[case["kind"]](load_file(case["weights"]))
        patcher, run = models[key]
        said.clear()
        lora = comfy.utils.load_torch_file(case["lora"], safe_load=True)
        if case["kind"] == "clip":
            patched, _ = clip_with_lora(patcher, lora)
        else:  # what the node LoraLoader calls
            patched, _ = comfy.sd.load_lora_for_models(patcher, None, lora, case["strength"], 0)
        patched.patch_model()
        with torch.no_grad():
            output = run(patched.model, load_file(case["inputs"]))
        patched.unpatch_model()
        save_file({"output": output.contiguous()}, case["output"])
        answers.append({"said": list(said), "patched": len(patched.patches)})
    sys.stdout.write("ANSWERS " + json.dumps(answers) + "\n")


def clip_with_lora(patcher, lora):
    import comfy.lora

    to_load = comfy.lora.model_lora_keys_clip(patcher.model, {})
    loaded = comfy.lora.load_lora(lora, to_load)
    patched = patcher.clone()
    return patched, patched.add_patches(loaded, 1.0)


def patcher_of(model):
    import comfy.model_patcher
    import torch

    cpu = torch.device("cpu")
    return comfy.model_patcher.ModelPatcher(model, load_device=cpu, offload_device=cpu)


def unet_of(kind, config, extra, weights):
    import comfy.utils
    import torch

    subclass = type("Tiny", (kind,), {"unet_extra_config": extra})
    settings = subclass(config)
    settings.set_inference_dtype(torch.float32, None)
    model = settings.get_model({}, device=torch.device("cpu"))
    names = comfy.utils.unet_to_diffusers(config)
    own = {names[name]: value for name, value in weights.items()}
    missing, unexpected = model.diffusion_model.load_state_dict(own, strict=False)
    assert missing == unexpected == []
    return patcher_of(model.eval())


COMMON = {
    "image_size": 32, "in_channels": 4, "out_channels": 4, "use_spatial_transformer": True,
    "legacy": False, "model_channels": 32, "num_res_blocks": [1, 1], "channel_mult": [1, 2],
    "use_temporal_attention": False, "use_temporal_resblock": False,
}  # fmt: skip


def sd15(weights):
    import comfy.supported_models

    config = COMMON | {
        "adm_in_channels": None, "transformer_depth": [1, 0], "transformer_depth_middle": 1,
        "transformer_depth_output": [1, 1, 0, 0], "use_linear_in_transformer": False,
        "context_dim": 32,
    }  # fmt: skip
    extra = {"num_heads": 4, "num_head_channels": -1}
    patcher = unet_of(comfy.supported_models.SD15, config, extra, weights)
    return patcher, lambda m, x: m.diffusion_model(x["noisy"], x["timesteps"], x["context"])


def sdxl(weights):
    import comfy.supported_models

    # The timesteps of the size are embedded by the caller; y is what the UNet is told.
    config = COMMON | {
        "num_classes": "sequential", "adm_in_channels": 80, "transformer_depth": [0, 1],
        "transformer_depth_middle": 1, "transformer_depth_output": [0, 0, 1, 1],
        "use_linear_in_transformer": True, "context_dim": 64,
    }  # fmt: skip
    patcher = unet_of(
        comfy.supported_models.SDXL, config, {"num_heads": -1, "num_head_channels": 16}, weights
    )
    return patcher, lambda m, x: m.diffusion_model(
        x["noisy"], x["timesteps"], x["context"], y=x["y"]
    )


def flux(weights):
    import comfy.ldm.flux.model
    import comfy.supported_models
    import comfy.utils
    import torch

    config = {
        "image_model": "flux", "in_channels": 4, "out_channels": 4, "patch_size": 2,
        "vec_in_dim": 32, "context_in_dim": 32, "hidden_size": 32, "mlp_ratio": 4.0,
        "num_heads": 2, "depth": 1, "depth_single_blocks": 1, "axes_dim": [4, 4, 8],
        "theta": 10000, "qkv_bias": True, "guidance_embed": True,
    }  # fmt: skip
    if "txt_ids_dims" in comfy.ldm.flux.model.FluxParams.__annotations__:
        config["txt_ids_dims"] = []
    settings = comfy.supported_models.Flux(config)
    settings.set_inference_dtype(torch.float32, None)
    model = settings.get_model({}, device=torch.device("cpu"))
    own = model.diffusion_model.state_dict()
    left = set(own)
    for name, place in comfy.utils.flux_to_diffusers(config).items():
        if name not in weights:
            continue
        place = place if isinstance(place, tuple) else (place,)
        key, offset, function = (*place, None, None)[:3]
        value = weights[name] if function is None else function(weights[name])
        part = own[key] if offset is None else own[key].narrow(*offset)
        part.copy_(value)
        left.discard(key)
    assert not left, left
    model.diffusion_model.load_state_dict(own)
    return patcher_of(model.eval()), lambda m, x: m.diffusion_model(
        x["noisy"], x["timesteps"] / 1000, x["context"], y=x["y"], guidance=x["guidance"]
    )


def clip(weights):
    import comfy.clip_model
    import comfy.ops
    import torch

    config = {
        "num_hidden_layers": 2, "hidden_size": 32, "num_attention_heads": 4,
        "intermediate_size": 64, "hidden_act": "quick_gelu", "eos_token_id": 0,
        "projection_dim": 32, "max_position_embeddings": 77,
    }  # fmt: skip
    cpu = torch.device("cpu")
    text = comfy.clip_model.CLIPTextModel(config, torch.float32, cpu, comfy.ops.disable_weight_init)
    own = {f"text_model.{name}": value for name, value in weights.items()}
    own["text_projection.weight"] = torch.eye(32)
    # ComfyUI's vocabulary is always the whole one.
    tokens = own["text_model.embeddings.token_embedding.weight"]
    whole = torch.zeros(49408, 32)
    whole[: len(tokens)] = tokens
    own["text_model.embeddings.token_embedding.weight"] = whole
    text.load_state_dict(own)
    model = torch.nn.Module()
    model.clip_l = torch.nn.Module()
    model.clip_l.transformer = text
    return patcher_of(model.eval()), lambda m, x: m.clip_l.transformer(x["tokens"])[0]


BUILDERS = {"sd15": sd15, "sdxl": sdxl, "flux": flux, "clip": clip}

if __name__ == "__main__":
    main(*sys.argv[1:3])
