"""Trains on wires of every layout, in a process of its own with ComfyUI's modules.

``python wire_training.py COMFYUI FOLDER`` prints a JSON object: what was found, a layout a key.
The captioned images to train on are in ``FOLDER/pictures``.
Everything runs in inference mode, as a prompt does.
"""

from __future__ import annotations

import importlib
import json
import logging
import sys
from pathlib import Path

from tests.support.comfyui.pack import NAME, import_pack, start_comfyui

CAPTIONS = ["char1, a red disc", "char1, " + "a blue disc on the left, " * 20]
"""One of them is longer than a text encoder takes at once."""
ADAPTERS = {
    "rslora": {"rslora": True},
    "dora": {"dora": True},
    "lokr": {"adapter": "lokr", "rank": 2, "lokr_factor": 4},
    "lokr, both": {"adapter": "lokr", "rank": 1, "lokr_decompose_both": True},
    "loha": {"adapter": "loha"},
}


def main(comfyui: str, folder: str) -> None:
    start_comfyui(comfyui)
    import torch

    torch.set_num_threads(1)
    import_pack()
    said = Ear()
    logging.getLogger().addHandler(said)
    from tests.support.wires.wire_agreement import compare
    from tests.support.wires.wire_models import LAYOUTS

    images = Path(folder) / "pictures"
    found = {}
    with torch.inference_mode():
        for name, build in LAYOUTS.items():
            said.lines.clear()
            found[name] = examine(build(), images, Path(folder) / name)
            found[name]["said"] = [line for line in said.lines if "oaded" in line and "key" in line]
        found["lycoris"] = lycoris(images, Path(folder) / "lycoris")
        found["pieces"] = pieces(images, Path(folder) / "pieces")
        found["drops"] = drops()
        found["bf16"] = in_bf16(Path(folder) / "bf16")
        found["half"] = half_precision(images, Path(folder) / "half")
        found["dynamic"] = dynamic(images, Path(folder) / "dynamic")
        found["swapped"] = swapped(images, Path(folder) / "swapped")
        found["edits"] = edits(images, Path(folder) / "edits")
        found["stacked"] = stacked(images, Path(folder) / "sd15", Path(folder) / "stacked")
        found["miniature"] = compare()
    sys.stdout.write("FOUND " + json.dumps(found) + "\n")


class Ear(logging.Handler):
    """Hears what ComfyUI says."""

    def __init__(self):
        super().__init__()
        self.lines = []

    def emit(self, record):
        self.lines.append(record.getMessage())


def settings_of(**changes):
    kind = importlib.import_module(f"{NAME}.core.training.settings").TrainingSettings
    values = {
        "rank": 4, "alpha": 2.0, "targets": "full", "epochs": 2, "batch_size": 2,
        "learning_rate": 1e-2, "resolution": 64, "bucket_step": 16, "caption_dropout": 0.1,
        "min_snr_gamma": 5.0, "validation_share": 0.2, "validation_timesteps": 2,
        "train_text_encoder": True, "rslora": True,
    }  # fmt: skip
    return kind(**{**values, **changes})


def train(wires, images, output, settings, **further):
    """Train as the node does; return the result."""
    import torch

    training = importlib.import_module(f"{NAME}.core.training")
    denoisers = importlib.import_module(f"{NAME}.nodes.comfy.denoiser")
    samples = importlib.import_module(f"{NAME}.core.training.outputs.samples").SampleSettings
    chosen = samples(prompts=("char1",), steps=2)
    job = training.LoraJob(images, output, samples=chosen, **further)
    with torch.inference_mode(False):
        denoiser = denoisers.WireDenoiser(
            wires.model, wires.clip, wires.vae,
            train_text_encoder=settings.train_text_encoder, block_swap=settings.block_swap,
        )  # fmt: skip
        with denoiser:
            return training.train_lora(job, settings, denoiser=denoiser)


def tensors_of(wires):
    modules = (wires.model.model, wires.clip.cond_stage_model, wires.vae.first_stage_model)
    return [tensor for module in modules for tensor in (*module.parameters(), *module.buffers())]


def examine(wires, images, folder):
    import torch

    before = tensors_of(wires)
    values = [tensor.clone() for tensor in before]
    inference = all(tensor.is_inference() for tensor in before)
    settings = settings_of()
    result = train(wires, images, folder / "lora.safetensors", settings)
    after = tensors_of(wires)
    losses = result.training.history["validation_loss"].to_list()
    checkpointed = train(
        wires, images, folder / "checkpointed.safetensors",
        settings_of(gradient_checkpointing=True),
    )  # fmt: skip
    return {
        "inference": inference,
        "left_behind": left_behind(wires),
        "same_values": all(torch.equal(a, b) for a, b in zip(values, after, strict=True)),
        "modes": [m.training for m in wires.model.model.diffusion_model.modules()].count(True),
        "losses": losses,
        "checkpointed": checkpointed.training.history["validation_loss"].to_list(),
        "names": names(result.file),
        "differences": {
            kind: differences(wires, folder, **options) for kind, options in ADAPTERS.items()
        },
        "cancelled": cancelled(wires, images, folder / "cut.safetensors", values),
    }


def left_behind(wires):
    """Return what a training has not taken away: adapters, hooks, methods of its own."""
    found = []
    for root in (wires.model.model, wires.clip.cond_stage_model):
        for path, part in root.named_modules():
            own = {"forward", "calculate_denoised", "enable_gradient_checkpointing", "peft_config"}
            found += [f"{path}.{name}" for name in own & set(vars(part))]
            found += [f"hook of {path}" for _ in part._forward_pre_hooks]
            found += [
                f"{path}.{name}"
                for name, _ in part.named_parameters()
                if any(mark in name for mark in ("lora_", "lokr_", "hada_"))
            ]
    return found


def names(file):
    return sorted(key for key in keys(file) if key.endswith(".alpha"))


def keys(file):
    from safetensors import safe_open

    with safe_open(file, "pt") as opened:
        return list(opened.keys())


def cancelled(wires, images, output, values):
    """Whether the weights come back when a training is interrupted while it steps."""
    import comfy.model_management
    import torch

    training = importlib.import_module(f"{NAME}.core.training")
    denoisers = importlib.import_module(f"{NAME}.nodes.comfy.denoiser")

    def stop(_):
        raise comfy.model_management.InterruptProcessingException

    with torch.inference_mode(False):
        denoiser = denoisers.WireDenoiser(wires.model, wires.clip, wires.vae)
        try:
            with denoiser:
                training.train_lora(
                    training.LoraJob(images, output, samples=None),
                    settings_of(train_text_encoder=False), denoiser=denoiser,
                    callbacks=training.Callbacks(on_step=stop),
                )  # fmt: skip
        except comfy.model_management.InterruptProcessingException:
            found = tensors_of(wires)
            return all(torch.equal(a, b) for a, b in zip(values, found, strict=True))
    return False


def differences(wires, folder, **options):
    """Compare predictions with adapters and with their file as the stock loader applies it."""
    import torch

    adapters = importlib.import_module(f"{NAME}.core.lora.adapters")
    checkpoint = importlib.import_module(f"{NAME}.core.lora.file")
    denoisers = importlib.import_module(f"{NAME}.nodes.comfy.denoiser")
    trained = importlib.import_module(f"{NAME}.nodes.train.apply_lora")
    settings = settings_of(**{"rslora": False, **options})
    source = torch.Generator().manual_seed(3)
    channels = wires.model.model.latent_format.latent_channels
    with torch.inference_mode(False):
        clean, noise = (torch.randn(2, channels, 8, 8, generator=source) for _ in range(2))
        times = torch.tensor([700, 120])

        def predict(denoiser):
            with torch.no_grad():
                text = denoiser.encode_text(CAPTIONS)
                noisy = denoiser.add_noise(clean, noise, times)
                return denoiser.predict(noisy, times, text, [(64, 64), (128, 64)])

        denoiser = denoisers.WireDenoiser(
            wires.model, wires.clip, wires.vae, train_text_encoder=True
        )
        with denoiser:
            modules = {"denoiser": denoiser.module(), **denoiser.text_modules()}
            made = adapters.inject(modules, settings.adapters(), seed=1)
            for parameter in made.parameters():
                if parameter.dim() > 1:  # not the magnitudes of DoRA
                    parameter.data = 0.2 * torch.randn(parameter.shape, generator=source)
            with_adapters = predict(denoiser)
            with made.disabled():
                without = predict(denoiser)
            path = folder / "random.safetensors"
            checkpoint.write(path, checkpoint.tensors_of(made, denoiser.file_names()), {})
            made.remove()
        model, clip = trained.apply_lora(wires.model, wires.clip, path)
        with denoisers.WireDenoiser(model, clip, wires.vae) as loaded:
            with_file = predict(loaded)
    scale = with_adapters.norm()
    return {
        "file": float((with_file - with_adapters).norm() / scale),
        "effect": float((without - with_adapters).norm() / scale),
    }


def lycoris(images, folder):
    """Train LoKr and LoHa as the node does; return losses, and kinds of the files' tensors."""
    from tests.support.wires.wire_models import flux, sd15

    found = {}
    for name, build in {"sd15": sd15, "flux": flux}.items():
        for adapter in ("lokr", "loha"):
            wires = build()
            settings = settings_of(
                adapter=adapter, rslora=False, rank=2, lokr_factor=4, dropout=0.1
            )
            result = train(wires, images, folder / name / f"{adapter}.safetensors", settings)
            found[f"{name}, {adapter}"] = {
                "losses": result.training.history["validation_loss"].to_list(),
                "ends": sorted({key.rpartition(".")[2] for key in keys(result.file)}),
                "continued": continued(wires, images, result.file),
                "left_behind": left_behind(wires),
            }
    return found


def pieces(images, folder):
    """Go on from a LoRA whose file has fused layers in pieces; return the largest difference."""
    from tests.support.wires.wire_models import flux

    wires = flux()
    settings = settings_of(file_spelling="diffusers")
    result = train(wires, images, folder / "pieces.safetensors", settings)
    return continued(wires, images, result.file, file_spelling="diffusers")


def continued(wires, images, file, **options):
    """Take a step of nothing from a file with other settings; return the largest difference."""
    import torch

    training = importlib.import_module(f"{NAME}.core.training")
    denoisers = importlib.import_module(f"{NAME}.nodes.comfy.denoiser")
    read = importlib.import_module(f"{NAME}.core.lora.file").read
    output = file.with_name(f"{file.stem}-further.safetensors")
    job = training.LoraJob(images, output, samples=None, start=file)
    settings = settings_of(
        rank=3, alpha=9.0, targets="attention", rslora=False, learning_rate=1e-12, epochs=1,
        **options,
    )  # fmt: skip
    with torch.inference_mode(False):
        denoiser = denoisers.WireDenoiser(
            wires.model, wires.clip, wires.vae, train_text_encoder=True
        )
        with denoiser:
            training.train_lora(job, settings, denoiser=denoiser)
    before, after = read(file).tensors, read(output).tensors
    assert before.keys() == after.keys()
    return max(float((before[key] - after[key]).abs().max()) for key in before)


def drops():
    """Return, by kind of adapter, whether the predictions of a training step draw dropout."""
    import torch

    from tests.support.wires.wire_models import sd15

    adapters = importlib.import_module(f"{NAME}.core.lora.adapters")
    denoisers = importlib.import_module(f"{NAME}.nodes.comfy.denoiser")
    modes = importlib.import_module(f"{NAME}.core.training.loop.modes").training_modes
    found = {}
    for kind, options in {"lora": {}, **ADAPTERS}.items():
        settings = settings_of(**{"rslora": False, "dropout": 0.5, **options}).adapters()
        with (
            torch.inference_mode(False),
            denoisers.WireDenoiser(*vars(sd15()).values()) as denoiser,
        ):
            made = adapters.inject({"denoiser": denoiser.module()}, settings)
            for parameter in made.parameters():
                parameter.data += 0.1
            noisy = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
            said = []
            for training in (True, False):
                with modes((denoiser.module(),), training), torch.no_grad():
                    text = denoiser.encode_text(CAPTIONS[:1])
                    for seed in (1, 2):
                        torch.manual_seed(seed)
                        said.append(denoiser.predict(noisy, torch.tensor([500]), text, [(64, 64)]))
            made.remove()
        found[kind] = [not torch.equal(said[0], said[1]), not torch.equal(said[2], said[3])]
    return found


def in_bf16(folder):
    """Compare adapters on weights of 16 bits with their file, merged into these weights."""
    import torch

    from tests.support.wires.wire_models import sd15

    folder.mkdir()
    kinds = {"lora": {}, **{k: v for k, v in ADAPTERS.items() if "adapter" in v}}
    return {
        kind: differences(sd15(dtype=torch.bfloat16), folder, **options)
        for kind, options in kinds.items()
    }


def half_precision(images, folder):
    """Train a model of 16-bit weights, whose gradients would underflow."""
    import torch

    from tests.support.wires.wire_models import sd15

    wires = sd15(dtype=torch.float16)
    settings = settings_of(train_text_encoder=False)
    result = train(wires, images, folder / "half.safetensors", settings)
    return {
        "losses": result.training.history["validation_loss"].to_list(),
        "dtypes": sorted({str(p.dtype) for p in wires.model.model.diffusion_model.parameters()}),
    }


def dynamic(images, folder):
    """Train a model whose own patcher never brings its weights together, as with dynamic VRAM."""
    import comfy.model_management
    import comfy.model_patcher

    from tests.support.wires.wire_models import Wires, flux

    whole, wires = flux(), flux()

    class Scattered(comfy.model_patcher.ModelPatcher):
        def is_dynamic(self):
            return True

        def get_non_dynamic_delegate(self):
            return whole.model.clone()

    model = wires.model.model
    values = [tensor.clone() for tensor in (*model.parameters(), *model.buffers())]
    own = Scattered(model, wires.model.load_device, wires.model.offload_device)
    settings = settings_of(train_text_encoder=False)
    dropped = train(Wires(own, wires.clip, wires.vae), images, folder / "a.safetensors", settings)
    plain = train(whole, images, folder / "b.safetensors", settings)
    comfy.model_management.unload_all_models()  # the last sample's LoRA may be in it
    found = [*model.parameters(), *model.buffers()]
    return {
        "losses": dropped.training.history["validation_loss"].to_list(),
        "plain": plain.training.history["validation_loss"].to_list(),
        "same_values": all(bool((a == b).all()) for a, b in zip(values, found, strict=True)),
    }


def swapped(images, folder):
    """Train with weights that ComfyUI brings to their layers while these compute."""
    from tests.support.wires.wire_models import flux, sd15

    found = {}
    for name, build in {"sd15": sd15, "flux": flux}.items():
        wires = build()
        values = [tensor.clone() for tensor in tensors_of(wires)]
        settings = settings_of(train_text_encoder=False)
        plain = train(wires, images, folder / f"{name}.safetensors", settings)
        less = train(
            wires, images, folder / f"{name}-swapped.safetensors",
            settings.replace(block_swap=2),
        )  # fmt: skip
        found[name] = {
            "plain": plain.training.history["validation_loss"].to_list(),
            "losses": less.training.history["validation_loss"].to_list(),
            "same": same_tensors(plain.file, less.file),
            "said": less.memory,
            "left_behind": left_behind(wires),
            "same_values": all(
                bool((a == b).all()) for a, b in zip(values, tensors_of(wires), strict=True)
            ),
        }
    return found


def same_tensors(one, other):
    from safetensors.torch import load_file

    a, b = load_file(one), load_file(other)
    return a.keys() == b.keys() and all(bool((a[name] == b[name]).all()) for name in a)


def edits(images, folder):
    """Train a model that takes reference latents with control images and without."""
    import shutil

    from tests.support.wires.wire_models import flux

    wires = flux()
    controls = shutil.copytree(images, folder / "controls")
    settings = settings_of(train_text_encoder=False)
    on_wires = importlib.import_module(f"{NAME}.nodes.train.on_wires")
    jobs = importlib.import_module(f"{NAME}.core.training.job")
    read = importlib.import_module(f"{NAME}.core.training.data.images").read_images
    given = read(jobs.LoraJob(images, folder / "b.safetensors", control_images=controls))
    paired = train(wires, images, folder / "a.safetensors", settings, control_images=controls)
    plain = train(wires, images, folder / "b.safetensors", settings)
    return {
        "losses": paired.training.history["validation_loss"].to_list(),
        "without": plain.training.history["validation_loss"].to_list(),
        "said": on_wires._told(on_wires.Base(wires.model, wires.clip, wires.vae), given),
    }


def stacked(images, earlier, folder):
    """Train on a MODEL that has a LoRA already, under autocast."""
    import torch

    from tests.support.wires.wire_models import Wires, sd15

    base = sd15()
    values = [tensor.clone() for tensor in tensors_of(base)]
    trained = importlib.import_module(f"{NAME}.nodes.train.apply_lora")
    model, clip = trained.apply_lora(base.model, base.clip, earlier / "random.safetensors")
    settings = settings_of(train_text_encoder=False, precision="bf16")
    wires = Wires(model, clip, base.vae)
    result = train(wires, images, folder / "second.safetensors", settings)
    plain = train(base, images, folder / "first.safetensors", settings)
    found = tensors_of(base)
    return {
        "losses": result.training.history["validation_loss"].to_list(),
        "without": plain.training.history["validation_loss"].to_list(),
        "same_values": all(torch.equal(a, b) for a, b in zip(values, found, strict=True)),
    }


if __name__ == "__main__":
    main(*sys.argv[1:3])
