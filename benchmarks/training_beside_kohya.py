"""A training step against kohya's sd-scripts: time, memory, and what equal steps achieve.

Run: SD_SCRIPTS_PATH=CHECKOUT python benchmarks/training_beside_kohya.py [--size 512] [--json FILE]

Both train the same file: Stable Diffusion 1.5 of full size with random weights, in the original
names. Same images, one square bucket, cached latents, adapters on the same 192 layers (a test of
the files' names says so), rank and alpha, AdamW at the same rate, batch, number type, attention of
torch, and threads. Each is a process of its own; they take turns, a step each, and the other first
the next time, while the one that waits sleeps. A step is all that passes from one step to the
next: loaders, logging, and the state that ours saves after an epoch included. Of this model
sd-scripts caches no captions: its step is told as it is, and without its text encoder's forward
pass, which is everything cached on both sides. Then both LoRA files predict the noise of the same
held-out images at the same timesteps with the same noise.

sd-scripts pins older libraries than ours. ``--python`` names an interpreter that has them; else a
virtual environment is made below ``--venv``: the pinned libraries, over all others of the
environment that this runs in, PyTorch among them.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from layouts import sd15
from training_speed import Answer, Way, write_images
from verdicts import Verdict, conclude

SHARE = 0.95
"""Promised: at most this share of sd-scripts' step, everything cached on both sides."""
MEMORY = 1.0
"""Promised: no more than its peak."""
LOSS = 1.0
"""Promised: no higher validation loss than its, after equal steps, to a thousandth."""
LAYERS = ("to_q", "to_k", "to_v", "to_out.0", "proj_in", "proj_out", "ff.net.0.proj", "ff.net.2")
"""What sd-scripts adapts by itself: all that is linear or 1 x 1 in the UNet's transformers."""
PINNED = (
    "accelerate", "transformers", "diffusers", "huggingface-hub", "toml", "voluptuous",
    "imagesize", "ftfy", "einops",
)  # fmt: skip
"""Of its requirements: what its trainer imports, and ours has in another version or not at all."""
FURTHER = ("tokenizers>=0.21,<0.22", "wcwidth")
"""What those want in turn, and ours has in another version or not at all."""
TOKENIZER = "openai_clip-vit-large-patch14"
HELD_OUT = 4


def interpreter(checkout: Path, venv: Path) -> Path:
    """Return a Python that has the requirements of sd-scripts, made if it is not there yet."""
    python = venv / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    if python.is_file() and (venv / "whole").is_file():
        return python
    shutil.rmtree(venv, ignore_errors=True)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(venv)], check=True)
    ask = [str(python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
    site = Path(subprocess.run(ask, check=True, capture_output=True, text=True).stdout.strip())
    # Looked through after its own: what is not pinned, PyTorch above all, is the same for both.
    ours = [path for path in sys.path if path.endswith("site-packages")]
    site.joinpath("zz_of_the_benchmark.pth").write_text("\n".join(ours) + "\n")
    lines = (checkout / "requirements.txt").read_text(encoding="utf-8").splitlines()
    wanted = [re.sub(r"\[.*?\]", "", line).strip() for line in lines]
    pins = [line for line in wanted if re.split(r"[=<>]", line)[0] in PINNED]
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target"]
    subprocess.run([*install, str(site), *pins, *FURTHER], check=True)
    (venv / "whole").touch()
    return python


def write_model(root: Path) -> tuple[Path, Path]:
    """Write the model as a folder and as one file; returns both."""
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
    from tests.support.single_files import save_single_file

    sd15().save_pretrained(root / "folder")
    return root / "folder", save_single_file(root / "folder", root / "sd15.safetensors")


def kohya_arguments(options: argparse.Namespace, root: Path, file: Path) -> list[str]:
    """Return what sd-scripts is told."""
    from character_curator.miniature import DIFFUSION_PATH

    shutil.copytree(root / "pictures", root / "kohya/1_pictures")
    # The files that its older transformers wants; the folder has them in one.
    shutil.copytree(DIFFUSION_PATH / "tokenizer", root / "tokenizers" / TOKENIZER)
    given = {
        "pretrained_model_name_or_path": file, "tokenizer_cache_dir": root / "tokenizers",
        "train_data_dir": root / "kohya", "caption_extension": ".txt",
        "resolution": options.size, "train_batch_size": options.batch,
        "network_module": "networks.lora", "network_dim": options.rank,
        "network_alpha": options.rank, "optimizer_type": "AdamW",
        "learning_rate": options.learning_rate, "lr_scheduler": "constant",
        "max_train_steps": options.warm + options.steps + 1, "max_grad_norm": 1.0, "seed": 0,
        "mixed_precision": "no" if options.precision == "fp32" else "bf16",
        "max_data_loader_n_workers": 0, "output_dir": root, "output_name": "kohya-lora",
        "save_model_as": "safetensors", "save_precision": "float",
    }  # fmt: skip
    flags = ("cache_latents", "network_train_unet_only", "sdpa")
    named = [part for name, value in given.items() for part in (f"--{name}", str(value))]
    return [*named, *(f"--{name}" for name in flags)]


def measure(
    options: argparse.Namespace, root: Path, folder: Path, file: Path
) -> dict[str, list[Answer]]:
    """Take steps of both trainers in turns; return what each timed step took, by trainer."""
    python = options.python or interpreter(options.sd_scripts, options.venv)
    given = {
        "model": file, "config": folder, "pictures": root / "pictures", "size": options.size,
        "batch": options.batch, "rank": options.rank, "bucket-step": 64,
        "steps": options.warm + options.steps + 1, "precision": options.precision,
        "device": "cpu", "targets": ",".join(LAYERS), "keep": root / "ours-lora.safetensors",
        "learning-rate": options.learning_rate, "work": root / "ours",
    }  # fmt: skip
    ours = [part for name, value in given.items() for part in (f"--{name}", str(value))]
    here = Path(__file__).parent
    commands = {
        "ours": [sys.executable, str(here / "training_ways.py"), "ours", *ours],
        "sd-scripts": [
            str(python), str(here / "kohya_way.py"), str(options.sd_scripts),
            *kohya_arguments(options, root, file),
        ],
    }  # fmt: skip
    names = tuple(commands)
    taken: dict[str, list[Answer]] = {name: [] for name in names}
    for group in [names[:1], names[1:]] if options.apart else [names]:
        ways = {name: Way(commands[name]) for name in group}
        try:
            for step in range(options.warm + options.steps):
                for name in group if step % 2 == 0 else group[::-1]:
                    taken[name].append(ways[name].step())
                    print(f"step {step + 1}, {name}: {taken[name][-1]['clock']:.2f} s", flush=True)
            for way in ways.values():
                way.finish()
        finally:
            for way in ways.values():
                way.end()
    return {name: steps[options.warm :] for name, steps in taken.items()}


def validation_losses(options: argparse.Namespace, root: Path, folder: Path, file: Path) -> Any:
    """Return the loss of the model alone and of both LoRA files on held-out images."""
    from character_curator.features import FeatureStore
    from character_curator.lora import file as lora_file
    from character_curator.lora.adapters import LoraSettings, inject
    from character_curator.training import TrainingSettings, read_examples
    from character_curator.training.data.cache import EncodedFeatures
    from character_curator.training.denoisers.load import load
    from character_curator.training.loop.validation import validation_loss

    denoiser = load(file, config=folder, device="cpu", dtype="float32")
    settings = TrainingSettings(resolution=options.size, crop="centre")
    examples, _ = read_examples(root / "held-out")
    items = [(example, example.crop(settings)) for example in examples]
    found = {}
    with FeatureStore(root / "validation.sqlite") as store:
        features = EncodedFeatures(denoiser, store)
        features.add_images(items)
        features.add_captions(sorted({example.caption for example in examples}))
        lora = LoraSettings(
            rank=options.rank, alpha=float(options.rank), targets=LAYERS, dropout=0.0
        )
        for name in ("base", "ours", "sd-scripts"):
            adapters = inject({"denoiser": denoiser.module()}, lora)
            path = root / {"ours": "ours-lora", "sd-scripts": "kohya-lora"}.get(name, "")
            if name != "base":  # it fails unless the files name the same layers
                read = lora_file.read(path.with_suffix(".safetensors"))
                lora_file.restore(adapters, read, denoiser.file_key)
            found[name] = validation_loss(
                denoiser, items, features.latents, features.text,
                timesteps=4, batch_size=1, device=denoiser.device,
            )  # fmt: skip
            adapters.remove()
    return found


def spread(values: Sequence[float]) -> str:
    """Return median, least and largest of some seconds, for people."""
    return f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def conclusions(
    options: argparse.Namespace, taken: Mapping[str, Sequence[Answer]], losses: Mapping[str, float]
) -> tuple[dict[str, Any], list[Verdict]]:
    """Return the figures, and what is promised of them."""
    kinds = ("clock", "processor")
    seconds = {
        name: {kind: [answer[kind] for answer in answers] for kind in kinds}
        for name, answers in taken.items()
    }
    seconds["sd-scripts without text"] = {
        kind: [a[kind] - a["text"][number] for a in taken["sd-scripts"]]
        for number, kind in enumerate(kinds)
    }
    peaks = {name: max(a["peak"] for a in answers) for name, answers in taken.items()}
    report: dict[str, Any] = {
        "pixels, batch, rank, precision": [
            options.size, options.batch, options.rank, options.precision,
        ],
        "threads": torch.get_num_threads(),
        "load of the machine, processors": [round(os.getloadavg()[0], 2), os.cpu_count()],
        "steps of each": options.steps,
        "one after the other": options.apart,
        **{
            f"{name}, s a step by the {kind}": spread(values)
            for name, of in seconds.items()
            for kind, values in of.items()
        },
        "peak MB": {name: round(value) for name, value in peaks.items()},
        "validation loss": {name: round(value, 6) for name, value in losses.items()},
    }  # fmt: skip
    medians = {
        name: {kind: statistics.median(values) for kind, values in of.items()}
        for name, of in seconds.items()
    }
    verdicts = [
        Verdict(f"step / {name}, {kind}", medians["ours"][kind] / medians[name][kind], limit)
        for name, limit in (("sd-scripts", SHARE), ("sd-scripts without text", SHARE))
        for kind in kinds
    ]
    verdicts.append(Verdict("peak memory / its", peaks["ours"] / peaks["sd-scripts"], MEMORY))
    share = losses["ours"] / losses["sd-scripts"]
    verdicts.append(Verdict("validation loss / its", round(share, 3), LOSS))
    return report, verdicts


def main() -> int:
    """Measure, print and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    checkout = os.environ.get("SD_SCRIPTS_PATH")
    parser.add_argument(
        "--sd-scripts", type=Path, default=checkout, required=checkout is None, metavar="CHECKOUT"
    )
    parser.add_argument("--python", type=Path, help="interpreter that has its requirements")
    parser.add_argument(
        "--venv", type=Path, default=Path(tempfile.gettempdir()) / "venv-of-sd-scripts",
        help="where such a one is made (%(default)s)",
    )  # fmt: skip
    parser.add_argument("--size", type=int, default=512, help="side in pixels (%(default)s)")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--steps", type=int, default=8, help="timed (%(default)s)")
    parser.add_argument("--warm", type=int, default=1, help="steps before those (%(default)s)")
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--learning-rate", type=float, default=1e-4)
    parser.add_argument("--pictures", type=int, default=8)
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    parser.add_argument("--apart", action="store_true", help="one after the other")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    options = parser.parse_args()
    options.sd_scripts = options.sd_scripts.resolve()
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        write_images(root / "pictures", options.pictures, options.size)
        write_images(root / "held-out", HELD_OUT, options.size, first=options.pictures)
        folder, file = write_model(root)
        taken = measure(options, root, folder, file)
        losses = validation_losses(options, root, folder, file)
    report, verdicts = conclusions(options, taken, losses)
    for name, figure in report.items():
        print(f"  {name:46} {figure}", flush=True)
    return conclude(report, verdicts, options.json)


if __name__ == "__main__":
    sys.exit(main())
