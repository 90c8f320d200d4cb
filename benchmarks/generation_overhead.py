"""What the generation loop costs beside the bare call of the pipeline, with the same batches.

Run: python benchmarks/generation_overhead.py [--model miniature] [--size 128] [--steps 20]
                                              [--batch 8] [--batches 4] [--rounds 5] [--json FILE]

The two ways take turns in one process, a round each (and the other first the next time), on the
same pipeline, prompts and noise. The bare way calls it, batch by batch, and leaves the pixels in
memory. The loop is ``generate`` as ``character-curator run`` calls it: it looks for what is there,
encodes PNG files with their records, waits until they are on the disk, hashes them and makes the
table. Processor time and time by the clock are told; the first is what a busy machine leaves
comparable. Pixels of both ways are compared: they are the same.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from verdicts import Verdict, conclude

from character_curator.generation import conditions
from character_curator.generation.diffusers_backend import DiffusersBackend, quantise
from character_curator.generation.prompts import guidance_arguments
from character_curator.generation.run import batches, generate
from character_curator.plan import Plan, Request, Scenario, Subject
from character_curator.reading.opening import opened

OVERHEAD = 0.03
"""Promised: at most this share of the bare call."""


def requests_of(batch: int, count: int) -> list[Request]:
    """Return requests that fill so many batches."""
    plan = Plan(
        subjects=[Subject(name="char1", description="freckled woman, wavy red hair, green eyes")],
        seeds=range(1, batch * count + 1),
        template="portrait of a {description}, {scenario}",
        scenarios=[Scenario(number=1, name="park", prompt="green hoodie, park, soft daylight")],
    )
    return list(plan.requests())


def bare(backend: DiffusersBackend, requests: Sequence[Request], batch: int) -> list[Any]:
    """Call the pipeline as diffusers' own examples do; returns its tensors."""
    pipeline, settings = backend._pipeline, backend.settings
    found = []
    for part in batches(requests, batch):
        full = [request for request in part if request is not None]
        with conditions.exact():
            found.append(
                pipeline(
                    prompt=[request.prompt for request in full],
                    negative_prompt=[request.negative_prompt for request in full],
                    generator=[torch.Generator().manual_seed(r.noise_seed) for r in full],
                    num_inference_steps=settings["steps"],
                    **guidance_arguments(pipeline, settings["guidance"]),
                    width=settings["width"],
                    height=settings["height"],
                    output_type="pt",
                ).images
            )
    return found


def timed(run: Callable[[], Any]) -> tuple[float, float, Any]:
    """Return seconds by the clock, seconds of the processor, and what was made."""
    clock, processor = time.perf_counter(), time.process_time()
    made = run()
    return time.perf_counter() - clock, time.process_time() - processor, made


def main() -> int:
    """Measure both ways, print the table; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--model", default="miniature")
    parser.add_argument("--size", type=int, default=128, help="pixels a side (%(default)s)")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--batches", type=int, default=4, help="of each turn (%(default)s)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    backend = DiffusersBackend(
        options.model, width=options.size, height=options.size, steps=options.steps, guidance=2.5
    )
    requests = requests_of(options.batch, options.batches)
    bare(backend, requests[: options.batch], options.batch)
    clocks: dict[str, list[float]] = {"bare": [], "loop": []}
    processors: dict[str, list[float]] = {"bare": [], "loop": []}
    equal = True
    for turn in range(options.rounds):
        with tempfile.TemporaryDirectory() as folder:
            ways: dict[str, Callable[[], Any]] = {
                "bare": lambda: bare(backend, requests, options.batch),
                "loop": lambda: generate(requests, backend, folder, batch_size=options.batch),
            }
            made = {}
            for name in list(ways)[:: 1 if turn % 2 == 0 else -1]:
                clock, processor, made[name] = timed(ways[name])
                clocks[name].append(clock)
                processors[name].append(processor)
            equal &= same(made["bare"], made["loop"], requests, options.batch)
    for name in clocks:
        print(
            f"{name:5} {statistics.median(clocks[name]):8.2f} s, processor "
            f"{statistics.median(processors[name]):8.2f} s, median of {options.rounds} turns of "
            f"{options.batches} batches of {options.batch}"
        )
    print(f"pixels: {'the same' if equal else 'NOT THE SAME'}")
    by_clock = [a / b - 1 for a, b in zip(clocks["loop"], clocks["bare"], strict=True)]
    by_processor = [a / b - 1 for a, b in zip(processors["loop"], processors["bare"], strict=True)]
    for name, values in (("clock", by_clock), ("processor", by_processor)):
        print(f"overhead by the {name}: " + ", ".join(f"{value:+.1%}" for value in values))
    verdicts = [
        Verdict("overhead of the loop, by the clock", statistics.median(by_clock), OVERHEAD),
        Verdict("overhead of the loop, of the processor", statistics.median(by_processor),
                OVERHEAD),
        Verdict("pixels that are not the same", float(not equal), 0),
    ]  # fmt: skip
    report = {"clock": clocks, "processor": processors, "threads": torch.get_num_threads()}
    return conclude(report, verdicts, options.json)


def same(tensors: Sequence[Any], images: Any, requests: Sequence[Request], batch: int) -> bool:
    """Return whether the files hold the pixels that the bare way has made."""
    paths = dict(zip(images.table["path"], images.paths(), strict=True))
    for part, tensor in zip(batches(requests, batch), tensors, strict=True):
        pixels = quantise(tensor.float().cpu().numpy().transpose(0, 2, 3, 1))
        full = [request for request in part if request is not None]
        for request, own in zip(full, pixels, strict=True):
            with opened(paths[request.file_name]) as image:
                if not np.array_equal(np.asarray(image), own):
                    return False
    return True


if __name__ == "__main__":
    raise SystemExit(main())
