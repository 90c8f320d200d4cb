"""A way to train, in a process of its own that takes a step whenever it is told to.

Started by ``training_speed.py`` and ``training_beside_kohya.py``. It reads lines from its standard
input: each asks for one step. It answers with lines of JSON: first what it has to say once it is
ready, then what each step took, by the clock and of the processor, in seconds, and the most memory
held so far, in MB.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from memory import peak

Moment = tuple[float, float]


def now() -> Moment:
    """Return seconds by the clock and of the processor."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter(), time.process_time()


class Orders:
    """Waits for the next order, and answers the one before.

    Args:
        device: Whose memory is told.
    """

    def __init__(self, device: str) -> None:
        self._cuda = device.startswith("cuda")
        self._start: Moment | None = None
        self._answers = sys.stdout
        sys.stdout = sys.stderr  # libraries may print

    def next(self, **facts: Any) -> None:
        """Answer, then wait; ends the process when nobody asks for more."""
        if self._start is not None:
            clock, work = (end - start for start, end in zip(self._start, now(), strict=True))
            facts |= {"clock": clock, "processor": work}
        held = torch.cuda.max_memory_allocated() / 1e6 if self._cuda else peak()
        print(json.dumps(facts | {"peak": held}), file=self._answers, flush=True)
        if not sys.stdin.readline():
            sys.exit()
        self._start = now()


class Watch:
    """Times the stages of a training before its first step; keeps the protocol of a Progress."""

    def __init__(self) -> None:
        self.stages: dict[str, float] = {}
        self._stage, self._total, self._start = "", 0, 0.0

    def start(self, stage: str, total: int) -> None:
        """A stage begins."""
        self._stage, self._total, self._start = stage, total, time.perf_counter()

    def advance(self, n: int = 1, note: str = "") -> None:
        """Nothing to note."""

    def finish(self) -> None:
        """A stage is over: note the seconds that each of its things took."""
        self.stages[self._stage] = (time.perf_counter() - self._start) / self._total


def ours(options: argparse.Namespace, orders: Orders) -> None:
    """Train with ``character_curator.training``: all from the end of a step to the next counts."""
    from character_curator.cli.memory import kept_while_training
    from character_curator.lora import file as lora_file
    from character_curator.lora.adapters import inject
    from character_curator.training import Callbacks, TrainingSettings, joined, read_examples, train
    from character_curator.training.denoisers.load import load

    settings = TrainingSettings(
        rank=options.rank, alpha=options.rank,
        targets=tuple(options.targets.split(",")) if options.targets else "attention",
        learning_rate=options.learning_rate,
        batch_size=options.batch, steps=options.steps, resolution=options.size,
        bucket_step=options.bucket_step, crop="centre", validation_share=0.0,
        precision=options.precision,
    )  # fmt: skip
    half = options.precision == "bf16"
    dtype = "bfloat16" if half else "float32"
    denoiser = load(options.model, device=options.device, dtype=dtype, config=options.config)
    adapters = inject({"denoiser": denoiser.module()}, settings.adapters(), seed=0)
    examples, _ = read_examples(options.pictures)
    watch = Watch()

    def ready(report: Any) -> None:
        if report.epoch == 0:
            orders.next(once=watch.stages)

    def stepped(report: Any) -> None:
        if options.keep is None or report.step < options.steps:
            orders.next()

    told = Callbacks(on_step=stepped, on_epoch=ready)
    with kept_while_training() as memory:
        train(
            denoiser,
            adapters.named_parameters(),
            examples,
            settings,
            options.work,
            callbacks=joined(memory, told),
            progress=watch,
        )
    if options.keep is not None:
        tensors = lora_file.tensors_of(adapters, denoiser.file_names())
        lora_file.write(options.keep, tensors, {})


def diffusers(options: argparse.Namespace, orders: Orders) -> None:
    """Train as the example of diffusers does, with the same adapters."""
    from diffusers import StableDiffusionPipeline
    from diffusers.utils import logging as of_diffusers
    from diffusers_way import DiffusersWay
    from peft import LoraConfig, inject_adapter_in_model
    from transformers.utils import logging as of_transformers

    of_diffusers.disable_progress_bar()
    of_transformers.disable_progress_bar()
    half = options.precision == "bf16"
    pipeline = StableDiffusionPipeline.from_pretrained(
        options.model, dtype=torch.bfloat16 if half else torch.float32,
        safety_checker=None, requires_safety_checker=False,
    )  # fmt: skip
    pipeline.to(options.device)
    for part in (pipeline.unet, pipeline.vae, pipeline.text_encoder):
        part.requires_grad_(False)
        part.eval()
    pipeline.unet.train()
    config = LoraConfig(
        r=options.rank, lora_alpha=options.rank,
        target_modules=["to_q", "to_k", "to_v", "to_out.0"],
    )  # fmt: skip
    inject_adapter_in_model(config, pipeline.unet)
    trained = [p for p in pipeline.unet.parameters() if p.requires_grad]
    for parameter in trained:
        parameter.data = parameter.data.float()
    way = DiffusersWay(
        pipeline, trained, options.pictures, resolution=options.size, batch_size=options.batch,
        learning_rate=1e-4, autocast=half,
    )  # fmt: skip
    orders.next()
    for _ in range(options.steps):
        way.step()
        orders.next()


WAYS: dict[str, Callable[[argparse.Namespace, Orders], None]] = {
    "ours": ours,
    "diffusers": diffusers,
}


def main() -> None:
    """Run one way."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("way", choices=tuple(WAYS))
    for name in ("model", "pictures", "work"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    for name in ("size", "batch", "rank", "steps", "bucket-step"):
        parser.add_argument(f"--{name}", type=int, required=True)
    parser.add_argument("--targets", help="layers, with commas between them (attention)")
    parser.add_argument("--learning-rate", type=float, default=1e-4)
    parser.add_argument("--config", type=Path, help="of a model in one file")
    parser.add_argument("--keep", type=Path, help="write what was trained here")
    parser.add_argument("--precision", required=True)
    parser.add_argument("--device", required=True)
    options = parser.parse_args()
    WAYS[options.way](options, Orders(options.device))


if __name__ == "__main__":
    main()
