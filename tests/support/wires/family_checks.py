"""What must hold of every family: trained as it samples, and saved as it is loaded.

Each function takes a family's tiny model and returns a figure or a list of faults. Imported in a
process that has ComfyUI's modules.
"""

from __future__ import annotations

import importlib
import logging
import sys
from typing import Any

import torch

from tests.support.comfyui.pack import NAME

CAPTIONS = ["a red disc", "a blue disc on the left of a green wall"]
"""Of unequal lengths."""
SAID = "the prediction"
GUIDED = 1.0
"""Distilled guidance, in training and in the sampling that it is compared with."""


def _module(path: str) -> Any:
    return importlib.import_module(f"{NAME}.{path}")


def denoiser_of(wires: Any) -> Any:
    return _module("nodes.comfy.denoiser").WireDenoiser(wires.model, wires.clip, wires.vae)


def pixels(side: int, count: int = 2) -> torch.Tensor:
    source = torch.Generator().manual_seed(5)
    return torch.rand(count, 3, side, side + 32, generator=source) * 2 - 1


def trains(wires: Any, side: int, steps: int = 3) -> dict[str, Any]:
    """Take steps with two captions of unequal lengths; return losses and what has no gradient."""
    adapters = _module("core.lora.adapters")
    with torch.inference_mode(False), denoiser_of(wires) as denoiser:
        clean = denoiser.encode_pixels(pixels(side), None)
        text = denoiser.encode_text(CAPTIONS)
        settings = adapters.LoraSettings(rank=2, alpha=2.0, dropout=0.0, targets="full")
        made = adapters.inject({"denoiser": denoiser.module()}, settings, seed=1)
        modes = _module("core.training.loop.modes").training_modes
        optimizer = torch.optim.AdamW(made.parameters(), lr=1e-3)
        source = torch.Generator().manual_seed(0)
        losses, without = [], set()
        for _ in range(steps):
            with modes((denoiser.module(),)):
                loss = _loss(denoiser, clean, text, source, side)
                loss.backward()
            losses.append(loss.item())
            without = {
                path
                for _, path, layer in made.layers()
                if not _moves(layer.lora_B["default"].weight)
            }
            optimizer.step()
            optimizer.zero_grad()
        placement = made.placements["denoiser"]
        made.remove()
    return {
        "losses": losses,
        "adapted": placement.adapted,
        "linear": placement.linear,
        "without": list(placement.without),
        "no_gradient": sorted(without),
        "unexplained": [path for path in sorted(without) if unexplained(path, placement.paths)],
    }


def _moves(weight: torch.Tensor) -> bool:
    return weight.grad is not None and bool(weight.grad.abs().max() > 0)


def _loss(denoiser: Any, clean: Any, text: Any, source: Any, side: int) -> torch.Tensor:
    noise = torch.randn(clean.shape, generator=source)
    times = denoiser.sample_timesteps(len(clean), source)
    sizes = [(side + 32, side)] * len(clean)
    noisy = denoiser.add_noise(clean, noise, times)
    predicted = denoiser.predict(noisy, times, text, sizes)
    return (predicted - denoiser.target(clean, noise, times)).square().mean()


def gradient_error(wires: Any, side: int) -> float:
    """Compare the gradient along itself with a difference quotient; return the relative error."""
    adapters = _module("core.lora.adapters")
    with torch.inference_mode(False), denoiser_of(wires) as denoiser:
        clean = denoiser.encode_pixels(pixels(side, 1), None)
        text = denoiser.encode_text(CAPTIONS[:1])
        settings = adapters.LoraSettings(rank=2, alpha=2.0, dropout=0.0, targets="full")
        made = adapters.inject({"denoiser": denoiser.module()}, settings, seed=1)
        _shake(made)

        def loss() -> torch.Tensor:
            return _loss(denoiser, clean, text, torch.Generator().manual_seed(3), side)

        loss().backward()
        there = {p: p.grad.clone() for p in made.parameters() if p.grad is not None}
        length = sum(grad.square().sum() for grad in there.values()).sqrt()
        errors = []
        for step in (1e-1, 3e-2, 1e-2, 3e-3):
            found = []
            with torch.no_grad():
                for sign in (1, -1):
                    for parameter, grad in there.items():
                        parameter.add_(grad, alpha=sign * step / float(length))
                    found.append(loss().double())
                    for parameter, grad in there.items():
                        parameter.sub_(grad, alpha=sign * step / float(length))
            slope = (found[0] - found[1]) / (2 * step)
            errors.append(float((slope - length) / length))
        made.remove()
    return min(errors, key=abs)


def _shake(made: Any) -> None:
    source = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.copy_(0.2 * torch.randn(parameter.shape, generator=source))


class _Log(logging.Handler):
    """Hears what ComfyUI says of keys that it does not know."""

    def __enter__(self) -> list[str]:
        self.lines: list[str] = []
        logging.getLogger().addHandler(self)
        return self.lines

    def __exit__(self, *_: object) -> None:
        logging.getLogger().removeHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        if "not loaded" in record.getMessage():
            self.lines.append(record.getMessage())


def file_error(wires: Any, side: int, folder: Any) -> dict[str, Any]:
    """Compare the trained model's predictions with those of its file in the stock loader."""
    adapters, file = _module("core.lora.adapters"), _module("core.lora.file")
    apply_lora = _module("nodes.train.apply_lora").apply_lora
    with torch.inference_mode(False):
        with denoiser_of(wires) as denoiser:
            settings = adapters.LoraSettings(rank=2, alpha=2.0, dropout=0.0, targets="full")
            made = adapters.inject({"denoiser": denoiser.module()}, settings, seed=1)
            _shake(made)
            trained = _prediction(denoiser, side)
            with made.disabled():
                plain = _prediction(denoiser, side)
            path = folder / "random.safetensors"
            file.write(path, file.tensors_of(made, denoiser.file_names()), {})
            made.remove()
        with _Log() as said:
            model, clip = apply_lora(wires.model, wires.clip, path)
        with _module("nodes.comfy.denoiser").WireDenoiser(model, clip, wires.vae) as loaded:
            found = _prediction(loaded, side)
    scale = trained.norm()
    return {
        "file": float((found - trained).norm() / scale),
        "effect": float((plain - trained).norm() / scale),
        "unloaded": said,
    }


def _prediction(denoiser: Any, side: int) -> torch.Tensor:
    source = torch.Generator().manual_seed(7)
    with torch.no_grad():
        clean = denoiser.encode_pixels(pixels(side), None)
        text = denoiser.encode_text(CAPTIONS)
        noise = torch.randn(clean.shape, generator=source)
        times = denoiser.fixed_timesteps(2)
        noisy = denoiser.add_noise(clean, noise, times)
        return denoiser.predict(noisy, times, text, [(side + 32, side)] * 2)


def batch_error(wires: Any, side: int) -> float:
    """Compare a batch's predictions, for captions of one length, with those of each row alone."""
    with torch.inference_mode(False), denoiser_of(wires) as denoiser, torch.no_grad():
        clean = denoiser.encode_pixels(pixels(side), None)
        captions = ["a red disc", "a tan cube"]
        noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(13))
        times = denoiser.fixed_timesteps(2)
        noisy = denoiser.add_noise(clean, noise, times)
        sizes = [(side + 32, side)] * 2
        together = denoiser.predict(noisy, times, denoiser.encode_text(captions), sizes)
        alone = [
            denoiser.predict(
                noisy[n : n + 1], times[n : n + 1], denoiser.encode_text(captions[n : n + 1]),
                sizes[:1],
            )
            for n in range(2)
        ]  # fmt: skip
    return float((together - torch.cat(alone)).norm() / together.norm())


def target_error(wires: Any, side: int) -> float:
    """Return how far the model's own formula takes the target from the clean latents."""
    with torch.inference_mode(False), denoiser_of(wires) as denoiser:
        clean = denoiser.encode_pixels(pixels(side), None)
        sampling = wires.model.get_model_object("model_sampling")
        source = torch.Generator().manual_seed(11)
        noise = torch.randn(clean.shape, generator=source)
        times = denoiser.fixed_timesteps(2)
        noisy = denoiser.add_noise(clean, noise, times)
        target = denoiser.target(clean, noise, times)
        denoised = type(sampling).calculate_denoised(
            sampling, denoiser._sigma(times), target, noisy
        )
    return float((denoised - clean).norm() / clean.norm())


def conditioning_faults(wires: Any, side: int) -> list[str]:
    """Return what a training tells the diffusion model otherwise than a KSampler does."""
    cond = wires.clip.encode_from_tokens_scheduled(wires.clip.tokenize(CAPTIONS[0]))
    return told_otherwise(wires, side, lambda denoiser: denoiser.encode_text(CAPTIONS[:1]), cond)


def told_otherwise(wires: Any, side: int, encode: Any, cond: Any) -> list[str]:
    """Return how a training that encodes so differs from a KSampler with a conditioning."""
    trained = _told_in_training(wires, side, encode)
    sampled = _told_in_sampling(wires, side, cond)
    for told in (trained, sampled):
        _understood(wires.model.model.diffusion_model, told)
    faults = [f"{name} is missing" for name in sampled.keys() - trained.keys()]
    faults += [f"{name} is not known to a sampling" for name in trained.keys() - sampled.keys()]
    for name in sorted(sampled.keys() & trained.keys()):
        faults += _difference(name, trained[name], sampled[name])
    return faults


def _difference(name: str, one: Any, other: Any) -> list[str]:
    if isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        pairs = zip(one, other, strict=True)
        return [text for pair in pairs for text in _difference(name, *pair)]
    if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        if one.shape != other.shape:
            return [f"{name} is {tuple(one.shape)}, sampled {tuple(other.shape)}"]
        bound = 1e-3 if name == SAID else 1e-4
        same = (one.float() - other.float()).abs().max() <= bound * (1e-3 + other.abs().max())
        return [] if same else [f"{name} has other values"]
    return [] if type(one) is type(other) and one == other else [f"{name}: {one}, sampled {other}"]


def _understood(model: Any, told: dict[str, Any]) -> None:
    """Let Anima's model read the words that a sampling has it read beforehand."""
    ids, weights = told.pop("t5xxl_ids", None), told.pop("t5xxl_weights", None)
    if ids is not None:
        with torch.no_grad():
            told["context"] = model.preprocess_text_embeds(told["context"], ids, weights)


class _Ear:
    """Notes what a diffusion model is told first, and what it says to that."""

    def __init__(self, model: Any) -> None:
        self.told: dict[str, Any] = {}
        self._model = model

    def __enter__(self) -> dict[str, Any]:
        before = self._model.register_forward_pre_hook(self._hear, with_kwargs=True)
        self._hooks = before, self._model.register_forward_hook(self._note)
        return self.told

    def __exit__(self, *_: object) -> None:
        for hook in self._hooks:
            hook.remove()

    def _hear(self, _: Any, given: Any, named: dict[str, Any]) -> None:
        if not self.told:
            plain = {k: v for k, v in named.items() if k not in ("transformer_options", "control")}
            self.told |= {"x": given[0].clone(), "timesteps": given[1].clone(), **plain}

    def _note(self, _: Any, __: Any, said: Any) -> None:
        self.told.setdefault(SAID, said.clone())


def _told_in_training(wires: Any, side: int, encode: Any) -> dict[str, Any]:
    with torch.inference_mode(False), denoiser_of(wires) as denoiser, torch.no_grad():
        clean = denoiser.encode_pixels(pixels(side, 1), None)
        text = encode(denoiser)
        noise, sigma = _first_step(wires, clean)
        times = _timestep_of(denoiser, sigma)
        noisy = denoiser.add_noise(torch.zeros_like(clean), noise, times)
        cell = wires.vae.spacial_compression_encode()
        size = (clean.shape[-1] * cell, clean.shape[-2] * cell)
        with _Ear(denoiser.module()) as told:
            denoiser.predict(noisy, times, text, [size])
    return told


def _first_step(wires: Any, clean: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the noise of seed 9, and a sigma in the middle of the schedule."""
    import comfy.sample

    sampling = wires.model.get_model_object("model_sampling")
    sigma = sampling.sigmas[len(sampling.sigmas) // 2].clone()
    return comfy.sample.prepare_noise(clean, 9), sigma


def _timestep_of(denoiser: Any, sigma: torch.Tensor) -> torch.Tensor:
    """Return the timestep of a training whose sigma this is."""
    if denoiser.prediction != "flow":
        return (denoiser._sampling.sigmas - sigma).abs().argmin().reshape(1)
    cosmos = _module("nodes.comfy.model_kinds").has_signal_scale(denoiser._sampling)
    return (1000 * (sigma / (1 + sigma) if cosmos else sigma)).reshape(1)


def _told_in_sampling(wires: Any, side: int, cond: Any) -> dict[str, Any]:
    import comfy.sample
    import comfy.samplers

    if wires.model.model.model_config.unet_config.get("guidance_embed"):
        cond = [[tensor, {**told, "guidance": GUIDED}] for tensor, told in cond]
    latents = wires.vae.encode((pixels(side, 1).movedim(1, -1) + 1) / 2)
    empty = torch.zeros_like(latents)
    noise, sigma = _first_step(wires, empty)
    with _Ear(wires.model.model.diffusion_model) as told:
        comfy.sample.sample_custom(
            wires.model, noise, 1.0, comfy.samplers.sampler_object("euler"),
            torch.stack([sigma, torch.zeros_like(sigma)]), cond, cond, empty, disable_pbar=True,
        )  # fmt: skip
    return told


def image_faults(wires: Any, side: int) -> list[str]:
    """Make a batch of images from prompts of equal and unequal lengths, and each image alone."""
    prompts = ["a red disc", CAPTIONS[1], "a tan cube"]
    requests = _module("nodes.comfy.denoiser")._requests(
        _module("core.training.outputs.samples").SampleSettings(prompts=tuple(prompts))
    )
    chosen = _module("nodes.comfy.backend").Sampling("euler", "normal", 2, 1.0, side + 32, side)
    backend = _module("nodes.comfy.backend").WiresBackend(
        wires.model, wires.vae, wires.clip, None, None, chosen,
        name="", fingerprint="", on_image=lambda _: None,
    )  # fmt: skip
    steps: list[tuple[int, int]] = []
    found = backend.sample(requests, lambda *step: steps.append(step))
    alone = [backend.sample([request])[0] for request in requests]
    faults = []
    if found.shape != (3, side, side + 32, 3):
        faults.append(f"images are {found.shape}")
    elif max(abs(a.astype(int) - b).max() for a, b in zip(found, alone, strict=True)) > 2:
        faults.append("an image of a batch is not what it is alone")
    if sorted(steps) != steps or steps[-1][0] != steps[-1][1]:
        faults.append(f"steps are told as {steps}")
    return faults


def stock_error(wires: Any, side: int) -> float | None:
    """Compare an image with that of the stock nodes; None where theirs has another size.

    Returns:
        The largest difference of a pixel, in grey values.
    """
    import nodes as stock  # ComfyUI's own

    words, seed = CAPTIONS[1], 2**40 + 7
    samples = _module("core.training.outputs.samples")
    request = _module("nodes.comfy.denoiser")._requests(
        samples.SampleSettings(prompts=(words,), seed=seed)
    )[0]
    chosen = _module("nodes.comfy.backend").Sampling("euler", "normal", 3, 2.0, side + 32, side)
    ours = _module("nodes.comfy.backend").WiresBackend(
        wires.model, wires.vae, wires.clip, None, None, chosen,
        name="", fingerprint="", on_image=lambda _: None,
    ).sample([request])[0]  # fmt: skip
    texts = [stock.CLIPTextEncode().encode(wires.clip, text)[0] for text in (words, "")]
    empty = stock.EmptyLatentImage().generate(side + 32, side)[0]
    latent = stock.KSampler().sample(
        wires.model, request.noise_seed, 3, 2.0, "euler", "normal", *texts, empty
    )[0]
    image = stock.VAEDecode().decode(wires.vae, latent)[0][0]
    theirs = (image.numpy() * 255.0).clip(0, 255).astype("uint8")  # as SaveImage writes it
    if theirs.shape != ours.shape:
        return None
    return float(abs(theirs.astype(int) - ours).max())


def named_as_ever(wires: Any) -> bool:
    """Whether presets choose what the names in them stand for, as for UNets and Flux they must."""
    targets = _module("core.lora.targets")
    model = wires.model.model.diffusion_model
    kinds = (torch.nn.Linear, torch.nn.Conv2d)
    layers = [path for path, layer in model.named_modules() if isinstance(layer, kinds)]
    return all(
        list(targets.place(model, preset).paths)
        == [path for path in layers if f".{path}".endswith(tuple(f".{n}" for n in names))]
        for preset, names in targets.LAYER_PRESETS.items()
        if preset != "seed-document"
    )


def header(wires: Any) -> dict[str, Any]:
    """Return what a file's header says of the model, and of the layers that carry adapters."""
    families, targets = _module("core.lora.families"), _module("core.lora.targets")
    kinds = _module("nodes.comfy.model_kinds")
    model = wires.model.model
    architecture = kinds.architecture_of(model, kinds.prediction_of(model.model_sampling))
    placement = targets.place(model.diffusion_model, "full")
    guess = families.recognised(architecture)
    family = guess.family
    return {
        "family": "" if family is None else family.name,
        "version": architecture if family is None else family.version,
        "from_preset": dict(_module("core.training.presets").choose({}, "auto", guess).from_preset),
        "targets": list(placement.kinds),
        "strange": [path for path in placement.paths if not path.endswith(placement.kinds)],
    }


def unexplained(path: str, paths: Any) -> bool:
    """Whether there is no reason for a layer to have no gradient.

    Reasons: the last block's text is not used any more; there is no reference image.
    """
    if path.startswith("ref_image_refiner."):
        return False
    block, _, rest = path.partition(".")
    number = int(rest.partition(".")[0]) if rest.partition(".")[0].isdigit() else -1
    last = max(int(p.split(".")[1]) for p in paths if p.startswith(f"{block}."))
    text = any(word in rest for word in ("txt_", "add_q", "to_add_out", "instruct_"))
    return not (text and number == last)


def left_behind(wires: Any) -> list[str]:
    """Return what a training has not taken away."""
    import comfy.model_management

    ours = f"{NAME}."
    found = [
        path
        for path, part in wires.model.model.named_modules()
        if "forward" in vars(part) or "peft_config" in vars(part) or part._forward_pre_hooks
    ]
    if getattr(comfy.model_management, "in_training", False):
        found.append("in_training")
    kitchen = sys.modules.get("comfy_kitchen")
    found += [
        name
        for name, value in vars(kitchen or sys).items()
        if str(getattr(value, "__module__", "")).startswith(ours)
    ]
    return found
