"""How fast images are made with one thread and two, alone and beside other programs.

Run: python benchmarks/shared_processors.py [--seconds 20] [--json FILE]

Batches of 8 by the embedded model (128 px, 20 steps), each case in a process of its own on the
first two processors: threads that spin briefly while they wait for each other and then sleep, as
the command line's do, and threads that spin for long, as they do where nobody says otherwise. The
program beside it is a loop that keeps one processor busy. The cases take turns, twice, so that a
drift of the machine hits them all.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from verdicts import Verdict, conclude

BATCH = 8
BRIEFLY, LONG = {"GOMP_SPINCOUNT": "3000"}, {"GOMP_SPINCOUNT": "300000"}
"""Turns that a waiting thread spins: the command line's, and GNU's default."""
CASES: dict[str, tuple[int, int, dict[str, str]]] = {
    "one thread, alone": (1, 0, BRIEFLY),
    "two threads, alone": (2, 0, BRIEFLY),
    "two that spin long, alone": (2, 0, LONG),
    "one thread, beside one program": (1, 1, BRIEFLY),
    "two threads, beside one program": (2, 1, BRIEFLY),
    "two that spin long, beside one program": (2, 1, LONG),
}


def rate(seconds: float, threads: int) -> float:
    """Return images a second of this process."""
    import torch

    from character_curator.generation.diffusers_backend import DiffusersBackend
    from character_curator.plan import Request

    torch.set_num_threads(threads)
    backend = DiffusersBackend("miniature", width=128, height=128, guidance=2.5)
    batch = [
        Request("char1", 1, "scenario", 1, take, "", "", "portrait of a woman", "", "", take)
        for take in range(BATCH)
    ]
    backend.sample(batch)
    made, start = 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        backend.sample(batch)
        made += BATCH
    return made / (time.perf_counter() - start)


def in_a_process(seconds: float, threads: int, others: int, waiting: dict[str, str]) -> float:
    """Run :func:`rate` in a new process, with so many busy programs beside it."""
    names = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "OMP_NUM_THREADS")
    clean = {key: value for key, value in os.environ.items() if key not in names}
    two = ",".join(map(str, sorted(os.sched_getaffinity(0))[:2]))
    pinned = ["taskset", "-c", two, sys.executable]
    busy = [subprocess.Popen([*pinned, "-c", "while True: pass"]) for _ in range(others)]
    try:
        done = subprocess.run(
            [*pinned, __file__, "--seconds", str(seconds), "--threads", str(threads)],
            env=clean | waiting, stdout=subprocess.PIPE, text=True, check=True,
        )  # fmt: skip
    finally:
        for process in busy:
            process.kill()
            process.wait()
    return float(done.stdout.splitlines()[-1])


def main() -> int:
    """Measure all cases, print the table; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--seconds", type=float, default=20, help="of each turn (%(default)s)")
    parser.add_argument("--threads", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if options.threads:
        print(rate(options.seconds, options.threads))
        return 0
    rates: dict[str, list[float]] = {name: [] for name in CASES}
    for _ in range(2):
        for name, case in CASES.items():
            rates[name].append(in_a_process(options.seconds, *case))
    mean = {name: sum(values) / len(values) for name, values in rates.items()}
    for name, value in mean.items():
        turns = ", ".join(f"{one:.2f}" for one in rates[name])
        print(f"{name:36} {value:6.2f} images/s ({turns})")
    report: dict[str, Any] = {"images a second": mean, "turns": rates}
    beside = mean["two threads, beside one program"]
    verdicts = [
        Verdict("alone: two threads over one",
                mean["two threads, alone"] / mean["one thread, alone"], 1.4, at_least=True),
        Verdict("alone: briefly over long",
                mean["two threads, alone"] / mean["two that spin long, alone"], 0.95,
                at_least=True),
        Verdict("beside one program: two threads over one alone",
                beside / mean["one thread, alone"], 0.6, at_least=True),
        Verdict("beside one program: briefly over long",
                beside / mean["two that spin long, beside one program"], 1.2, at_least=True),
    ]  # fmt: skip
    return conclude(report, verdicts, options.json)


if __name__ == "__main__":
    raise SystemExit(main())
