"""Time of a training step on the MODEL wire, and what the steps achieve, beside ComfyUI's own way.

Run: python benchmarks/training_on_the_wire.py [--steps 60] [--rounds 3] [--json FILE]

The miniature is trained on drawn portraits twice in every round: as TrainLoRA does, and by
ComfyUI's built-in TrainLoraNode, with the same rank, batch, learning rate, number type and
optimizer, in one process. Latents and captions of both are encoded beforehand. The time of a step
is what passes from one optimizer step to the next, everything between them included; the figure is
the median of all rounds. Afterwards both LoRAs predict the noise of the same held-out portraits at
the same timesteps with the same noise.

Two things differ, because the built-in node has no settings for them: it adapts every layer, norms
and biases too (here: targets 'full'), and its scale is 1 / rank (here: alpha is the rank).
"""

from __future__ import annotations

import argparse
import importlib
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import comfyui_process
from verdicts import Verdict, conclude

HELD_OUT = 6


def main() -> int:
    """Run the benchmark and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--comfyui", type=Path, help="its folder (default: COMFYUI_PATH)")
    parser.add_argument("--gpu", action="store_true", help="compute where ComfyUI would")
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--pictures", type=int, default=24)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--rank", type=int, default=8)
    parser.add_argument("--learning-rate", type=float, default=5e-4)
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    comfyui_process.start(options.comfyui, cpu=not options.gpu)
    comfyui_process.pack()
    import torch

    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
        return compare(options, Path(folder))


def compare(options: argparse.Namespace, folder: Path) -> int:
    """Train by both ways in turn and say how they compare."""
    draw(folder / "train", options.pictures, 0)
    draw(folder / "validation", HELD_OUT, 1)
    wires = load()
    ways = {"wire": train_on_the_wire, "built-in": train_built_in}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    losses: dict[str, list[float]] = {name: [] for name in ways}
    trained: dict[str, int] = {}
    before = validation(wires, folder)
    for number in range(options.rounds):
        for name, way in ways.items():
            clock = StepClock()
            model, clip, trained[name] = way(wires, folder, options, number)
            seconds[name] += clock.stop()
            losses[name].append(validation((model, clip, wires[2]), folder))
            print(
                f"round {number + 1}, {name}: {statistics.median(seconds[name]):.4f} s a step, "
                f"validation loss {losses[name][-1]:.5f} ({before:.5f} before)",
                flush=True,
            )
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    found = {name: statistics.mean(values) for name, values in losses.items()}
    for name in ways:
        print(
            f"{name}: {medians[name]:.4f} s a step, validation loss {found[name]:.5f}, "
            f"{trained[name]:,} trained numbers"
        )
    verdicts = [
        Verdict(
            "a step takes no longer than the built-in node's",
            medians["wire"] / medians["built-in"],
            1.0,
        ),
        Verdict(
            "validation loss after equal steps, as a share of the built-in node's, is lower",
            found["wire"] / found["built-in"],
            1.0,
        ),
    ]
    report = {
        "settings": {k: str(v) if isinstance(v, Path) else v for k, v in vars(options).items()},
        "seconds_a_step": medians,
        "validation_loss": losses,
        "validation_loss_before": before,
        "trained_numbers": trained,
    }
    return conclude(report, verdicts, options.json)


class StepClock:
    """Notes when optimizers take their steps, whoever calls them."""

    def __init__(self) -> None:
        from torch.optim.optimizer import register_optimizer_step_post_hook

        self._times: list[float] = []
        self._hook = register_optimizer_step_post_hook(self._note)

    def _note(self, *_: Any) -> None:
        import torch

        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self._times.append(time.perf_counter())

    def stop(self) -> list[float]:
        """Return the seconds between steps, without the first few, in which caches fill."""
        self._hook.remove()
        spans = [b - a for a, b in zip(self._times, self._times[1:], strict=False)]
        return spans[min(3, len(spans) // 2) :]


def module(name: str) -> Any:
    """Return a module of the pack."""
    return importlib.import_module(f"{comfyui_process.NAME}.{name}")


def load() -> tuple[Any, Any, Any]:
    """Return the miniature as MODEL, CLIP and VAE."""
    models, folder = module("nodes.comfy.miniature"), module("core.miniature").DIFFUSION_PATH
    return models.load_model(folder), models.load_clip(folder), models.load_vae(folder)


def draw(folder: Path, count: int, seed: int) -> None:
    """Draw captioned portraits of one character, 128 x 128."""
    import numpy as np
    from PIL import Image

    folder.mkdir(parents=True)
    person = importlib.import_module("miniature.identity").leading_character()
    rng = np.random.default_rng(seed)
    for number in range(count):
        scene = importlib.import_module("miniature.scene").sample_scene(rng)
        portrait = importlib.import_module("miniature.portrait").render(person, scene)
        Image.fromarray(portrait.image).save(folder / f"{number:03d}.png")
        text = "char1, " + importlib.import_module("miniature.captions").caption(person, scene)
        (folder / f"{number:03d}.txt").write_text(text, encoding="utf-8")


def train_on_the_wire(
    wires: tuple[Any, Any, Any], folder: Path, options: argparse.Namespace, seed: int
) -> tuple[Any, Any, int]:
    """Train as TrainLoRA does; return MODEL and CLIP with the LoRA, and its size."""
    import torch

    training = module("core.training")
    repeats = -(-options.steps * options.batch // options.pictures)
    settings = training.TrainingSettings(
        rank=options.rank,
        alpha=float(options.rank),
        targets="full",
        learning_rate=options.learning_rate,
        batch_size=options.batch,
        steps=options.steps,
        repeats=repeats,  # one epoch: nothing but steps between the first and the last
        resolution=128,
        precision=options.precision,
        validation_share=0.0,
        seed=seed,
    )
    job = training.LoraJob(
        folder / "train", folder / f"wire{seed}.safetensors", samples=None, work=folder / str(seed)
    )
    with torch.inference_mode(False), module("nodes.comfy.denoiser").WireDenoiser(*wires) as wire:
        result = training.train_lora(job, settings, denoiser=wire)
    file = module("core.lora.file").read(result.file)
    size = sum(v.numel() for k, v in file.tensors.items() if not k.endswith(".alpha"))
    return *module("nodes.train.apply_lora").apply_lora(wires[0], wires[1], result.file), size


def train_built_in(
    wires: tuple[Any, Any, Any], folder: Path, options: argparse.Namespace, seed: int
) -> tuple[Any, Any, int]:
    """Train with ComfyUI's TrainLoraNode; return MODEL and CLIP with the LoRA, and its size."""
    import comfy.utils
    import comfy_extras.nodes_train as built_in
    import torch

    comfy.utils.PROGRESS_BAR_ENABLED = False
    model, clip, vae = wires
    paths = sorted((folder / "train").glob("*.png"))
    positive = []
    for path in paths:
        caption = path.with_suffix(".txt").read_text(encoding="utf-8")
        positive += clip.encode_from_tokens_scheduled(clip.tokenize(caption))
    latents = {"samples": vae.encode(pixels_of(paths))}
    torch.manual_seed(seed)
    chosen = {
        "batch_size": options.batch,
        "steps": options.steps,
        "grad_accumulation_steps": 1,
        "learning_rate": options.learning_rate,
        "rank": options.rank,
        "optimizer": "AdamW",
        "loss_function": "MSE",
        "seed": seed,
        "training_dtype": options.precision,
        "lora_dtype": "fp32",
        "algorithm": "LoRA",
        "gradient_checkpointing": False,
        "existing_lora": "[None]",
    }
    node = built_in.TrainLoraNode
    if hasattr(node, "train"):  # before nodes of the third version of ComfyUI's interface
        trained, lora, _, _ = node().train(model, latents, positive, **chosen)
    else:
        declared = node.define_schema().inputs
        values = {each.id: each.default for each in declared if hasattr(each, "default")}
        values |= chosen
        lists = {name: [value] for name, value in values.items()}
        lists |= {"model": [model], "latents": [latents], "positive": [positive]}
        lora = node.execute(**lists).result[0]
        trained = built_in.LoraModelLoader.execute(model, lora, 1.0).result[0]
    return trained, clip, sum(value.numel() for value in lora.values())


def pixels_of(paths: list[Path]) -> Any:
    """Return images as ComfyUI's IMAGE: images x height x width x 3, from 0 to 1."""
    import numpy as np
    import torch
    from PIL import Image

    return torch.from_numpy(np.stack([np.asarray(Image.open(p)) for p in paths])) / 255.0


def validation(wires: tuple[Any, Any, Any], folder: Path) -> float:
    """Return the loss on held-out portraits with fixed noise at fixed timesteps."""
    import torch

    training, cache = module("core.training"), module("core.training.data.cache")
    settings = training.TrainingSettings(resolution=128)
    examples, _ = training.read_examples(folder / "validation")
    items = [(example, example.crop(settings)) for example in examples]
    with torch.inference_mode(False), module("nodes.comfy.denoiser").WireDenoiser(*wires) as wire:
        store = module("core.features").FeatureStore(folder / "validation.sqlite")
        with store as opened:
            features = cache.EncodedFeatures(wire, opened)
            features.add_images(items)
            features.add_captions(sorted({example.caption for example in examples}))
            return module("core.training.loop.validation").validation_loss(
                wire, items, features.latents, features.text,
                timesteps=8, batch_size=8, device=wire.device,
            )  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
