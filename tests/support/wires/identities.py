"""Asks what identifies a model while it is loaded in several ways, with ComfyUI's modules.

``python identities.py COMFYUI`` prints a JSON object: what was found, a way of loading a key.
"""

from __future__ import annotations

import copy
import importlib
import json
import sys

from tests.support.comfyui.pack import NAME, import_pack, start_comfyui


def main(comfyui: str) -> None:
    start_comfyui(comfyui)
    import torch

    torch.set_num_threads(1)
    import_pack()
    from tests.support.wires.wire_models import sd15

    with torch.inference_mode():
        found = {way.__name__: examine(sd15().model, way) for way in WAYS}
    sys.stdout.write("FOUND " + json.dumps(found) + "\n")


def examine(model, load):
    """Identities of a model and of a patched clone, before the clone is loaded and meanwhile."""
    import comfy.model_management as management

    identity = importlib.import_module(f"{NAME}.nodes.comfy.identity")

    def identities():
        identity._known.clear()
        return [identity.weights_identity(patcher) for patcher in (model, patched)]

    patched = model.clone()
    patched.add_patches({name: ("diff", (torch_like(model, name),)) for name in LAYERS}, 1.0)
    sampling = copy.deepcopy(model.get_model_object("model_sampling"))
    sampling.set_sigmas(sampling.sigmas * 2)
    patched.add_object_patch("model_sampling", sampling)
    before = identities()
    as_read = identity.digest(model.model.state_dict())
    load(patched)
    loaded = management.loaded_models()
    as_loaded = identity.digest(model.model.state_dict())
    meanwhile = identities()
    found = {
        "differ": before[0] != before[1],
        "patched": as_loaded != as_read,
        "same": meanwhile == before,
        "still_loaded": [id(each) for each in management.loaded_models()]
        == [id(each) for each in loaded],
        "untouched": identity.digest(model.model.state_dict()) == as_loaded,
    }
    patched.detach()
    management.unload_all_models()
    found["restored"] = identity.digest(model.model.state_dict()) == as_read
    return found


def whole(patched):
    import comfy.model_management as management

    management.load_models_gpu([patched], force_full_load=True)
    assert management.loaded_models() == [patched]


def in_place(patched):
    patched.weight_inplace_update = True
    whole(patched)


def in_part(patched):
    """One layer is patched when it is used, the other in its weights."""
    patched.patch_model(patched.load_device, lowvram_model_memory=patched.model_size() // 2)


def by_a_hook(patched):
    """A LoRA that holds for a part of the sampling, upon one that always does."""
    import comfy.hooks

    whole(patched)
    hook = comfy.hooks.WeightHook(strength_model=1.0, strength_clip=1.0)
    hook.need_weight_init = False
    group = comfy.hooks.HookGroup()
    group.add(hook)
    patched.add_hook_patches(
        hook, {name: ("diff", (torch_like(patched, name),)) for name in LAYERS[:1]}, 1.0
    )
    patched.patch_hooks(group)
    assert patched.hook_backup


def torch_like(model, name):
    import torch

    weight = dict(model.model.named_parameters())[name]
    return torch.full_like(weight, 0.5)


LAYERS = (
    "diffusion_model.input_blocks.1.1.proj_in.weight",
    "diffusion_model.out.2.weight",
)
WAYS = (whole, in_place, in_part, by_a_hook)

if __name__ == "__main__":
    main(sys.argv[1])
