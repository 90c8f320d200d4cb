"""Makes the tiny models of :mod:`.families`, of random weights.

A family's own diffusion model is on a ``ModelPatcher``, beside a ``comfy.sd.CLIP`` and a
``comfy.sd.VAE`` whose innermost modules are a few random matrices: real text encoders and
autoencoders of these families have billions of parameters, and they matter to a training through
the shapes and names of what they give alone. ComfyUI's modules must be importable.
"""

from __future__ import annotations

import json
import re
from typing import Any

from tests.support.wires.families import FAMILIES, Family
from tests.support.wires.wire_models import Wires, autoencoder, fill


class AbsentError(Exception):
    """This version of ComfyUI does not know the family."""


_BEFORE = {
    "txt_ids_dims": [], "vec_in_dim": 32, "rope_theta": 10000.0, "vision_in_dim": None,
    "use_cond_type_embedding": False, "meanflow_sum": False, "use_x0": False,
    "use_sequential_txt_ids": False,
}  # fmt: skip
"""Settings that older versions lack, and what these versions do as if it had been said."""


def build(name: str) -> Wires:
    """Make a family's tiny model.

    Raises:
        AbsentError: This version of ComfyUI does not know the family.
    """
    family = FAMILIES[name]
    if not isinstance(family, Family):
        return family()
    import comfy.supported_models

    kind = getattr(comfy.supported_models, family.kind, None)
    if kind is None:
        raise AbsentError(f"no class {family.kind} in comfy.supported_models")
    model = _model(kind, family)
    if family.quantised:
        model = _quantised(kind, family, model.model.diffusion_model)
    return Wires(model, _clip(family), _vae(model.model.latent_format))


def _quantised(kind: Any, family: Family, plain: Any) -> Any:
    """Load a model's weights, those of its blocks in a format of fewer bits, as from a file."""
    import torch

    try:
        import comfy.quant_ops
    except ImportError as error:
        raise AbsentError("no quantised layers") from error
    formats = getattr(comfy.quant_ops, "QUANT_ALGOS", {})
    if family.quantised not in formats:
        raise AbsentError(f"no format {family.quantised}")
    layout = formats[family.quantised]["comfy_tensor_layout"]
    note = json.dumps({"format": family.quantised}).encode()
    weights = dict(plain.state_dict())
    for path, layer in plain.named_modules():
        if isinstance(layer, torch.nn.Linear) and re.search(r"\.\d+\.", path):
            weight = weights.pop(f"{path}.weight").to(torch.bfloat16)
            rounded = comfy.quant_ops.QuantizedTensor.from_float(weight, layout)
            weights |= rounded.state_dict(f"{path}.weight")
            weights[f"{path}.comfy_quant"] = torch.tensor(list(note), dtype=torch.uint8)
    settings = kind(dict(family.config))
    settings.unet_config.update(family.config)
    settings.quant_config = {"mixed_ops": True}
    settings.set_inference_dtype(torch.bfloat16, torch.float32)
    model = settings.get_model({}, device=torch.device("cpu"))
    model.diffusion_model.load_state_dict(weights)
    return _patcher(model.eval())


def _patcher(model: Any) -> Any:
    import comfy.model_patcher
    import torch

    cpu = torch.device("cpu")
    return comfy.model_patcher.ModelPatcher(model, load_device=cpu, offload_device=cpu)


def _model(kind: Any, family: Family) -> Any:
    import torch

    cpu = torch.device("cpu")
    config = dict(family.config)
    if family.kind == "ChromaRadiance":
        config["nerf_embedder_dtype"] = torch.float32
    while True:
        settings = kind(config)
        # Those of a real file's size, which are not the tiny model's.
        settings.unet_config.update(config)
        settings.set_inference_dtype(torch.float32, None)
        try:
            model = settings.get_model({}, device=cpu)
            break
        except TypeError as error:
            unknown = re.search(r"unexpected keyword argument '(\w+)'", str(error))
            name = unknown.group(1) if unknown else ""
            if name not in config or config[name] != _BEFORE.get(name, ...):
                raise AbsentError(f"{family.kind} takes other settings: {error}") from error
            del config[name]
    family.adjust(model.diffusion_model)
    fill(model)
    for name, value in model.named_parameters():
        if name.endswith((".norm.scale", "_norm.scale")):  # what newer versions call weight
            value.data.fill_(1.0)
    return _patcher(model)


def _clip(family: Family) -> Any:
    import comfy.sd
    import torch

    class Words:
        def __init__(self, **_: Any) -> None: ...

        def tokenize_with_weights(
            self, text: str, *_: Any, images: Any = (), **__: Any
        ) -> list[int]:
            words = text.split() or ["nothing"]
            seen = [int(511 * image.double().mean()) for image in images]
            return [sum(word.encode()) % 512 for word in words] + [0, 1, 2, *seen]

    class Encoder(torch.nn.Module):
        dtypes = (torch.float32,)

        def __init__(self, **_: Any) -> None:
            super().__init__()
            self.table = torch.nn.Embedding(512, family.text)
            self.pool = torch.nn.Linear(family.text, family.pooled or 1)

        def reset_clip_options(self) -> None: ...

        def set_clip_options(self, _: Any) -> None: ...

        def encode_token_weights(self, tokens: list[int]) -> tuple[Any, Any, dict[str, Any]]:
            found = self.table(torch.tensor([tokens]))
            pooled = self.pool(found.mean(1)) if family.pooled else None
            return found, pooled, family.extras(len(tokens))

    class Target:
        params: dict[str, Any] = {}  # noqa: RUF012 (the shape that comfy.sd.CLIP reads)
        clip = Encoder
        tokenizer = Words

    clip = comfy.sd.CLIP(Target, model_options={"dtype": torch.float32})
    fill(clip.cond_stage_model, 1)
    return clip


def _vae(latents: Any) -> Any:
    import comfy.model_patcher
    import torch

    cell = getattr(latents, "spacial_downscale_ratio", 8)
    is_video = latents.latent_dimensions == 3

    class Means(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.enter = torch.nn.Linear(3, latents.latent_channels)
            self.leave = torch.nn.Linear(latents.latent_channels, 3)

        def encode(self, pixels: Any) -> Any:
            size = (1, cell, cell) if is_video else cell
            pool = torch.nn.functional.avg_pool3d if is_video else torch.nn.functional.avg_pool2d
            return self.enter(pool(pixels, size, size).movedim(1, -1)).movedim(-1, 1)

        def decode(self, found: Any, **_: Any) -> Any:
            size = (1, cell, cell) if is_video else (cell, cell)
            pixels = self.leave(found.movedim(1, -1)).movedim(-1, 1)
            return torch.nn.functional.interpolate(pixels, scale_factor=size)

    vae = autoencoder(4)
    vae.first_stage_model = fill(Means(), 2)
    vae.latent_channels, vae.latent_dim = latents.latent_channels, latents.latent_dimensions
    vae.downscale_ratio = vae.upscale_ratio = cell
    vae.patcher = comfy.model_patcher.ModelPatcher(
        vae.first_stage_model, load_device=vae.device, offload_device=torch.device("cpu")
    )
    return vae
