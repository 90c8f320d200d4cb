"""What may happen to a command beside its end: a full disk, folders that go, clocks, company.

Each is met at seeded operations on files. The command then ends well, or with a named error that
tells what to do; a reader finds nothing half; and when the cause is gone the same command ends as
one that nobody disturbed.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from tests.support.faults.kills import Bench, outlived, said_of
from tests.support.faults.stages import STAGES, Stage
from tests.support.faults.trees import contents, faults
from tests.support.faults.warm import PATIENCE, Ended, Warm

BACKWARDS = """
import time
now, began = time.time, time.time()
time.time = lambda: 2 * began - now() - 86400.0
time.time_ns = lambda: int(time.time() * 1e9)
"""
NOBODY = "import os; os.setgroups([]); os.setresgid(65534, 65534, 65534); " \
         "os.setresuid(65534, 65534, 65534)"  # fmt: skip
"""Root may write everywhere: it becomes somebody who may not."""
SOURCES = {"in", "photos"}
"""Folders of the user's own images: without them a run is of other images."""
OFTEN = {"full disk", "removed folder", "killed worker"}
"""Misfortunes that depend on the moment."""


def full_disk(bench: Bench, rng: np.random.Generator) -> tuple[str, list[str]]:
    """Let the disk be full from an operation on, in the middle of a file."""
    number = int(rng.integers(len(bench.undisturbed.operations)))
    limit = int(rng.choice([0, 100, 1000, 5000, 20000]))
    ended = bench.run(kill_before=number, full=limit)
    return f"full beyond {limit} bytes at {_at(ended, number)}", _named(ended)


def removed_folder(bench: Bench, rng: np.random.Generator) -> tuple[str, list[str]]:
    """Let a folder that the command writes into be gone at an operation."""
    number = int(rng.integers(len(bench.undisturbed.operations)))
    names = sorted({name.split("/")[0] for name in bench.expected if "/" in name} - SOURCES)
    name = str(rng.choice(names))
    ended = bench.run(kill_before=number, remove=name)
    return f"{name} removed at {_at(ended, number)}", _named(ended)


def clock_backwards(bench: Bench, rng: np.random.Generator) -> tuple[str, list[str]]:
    """Let the clock run backwards, a day behind."""
    ended = bench.run(first=BACKWARDS)
    return "a clock that goes backwards", said_of(ended, "a run")


def read_only(bench: Bench, rng: np.random.Generator) -> tuple[str, list[str]]:
    """Let the command be run by somebody who may not write."""
    if os.getuid():
        return "nothing: only root can become somebody else", []
    ended = bench.run(first=NOBODY)
    said = [] if ended.code else ["it ended well and cannot have written"]
    return "a folder that cannot be written", said + _named(ended)


def company(bench: Bench, rng: np.random.Generator) -> tuple[str, list[str]]:
    """Run the same command twice at once, one a moment later."""
    one = bench.warm.start(bench.stage.command, bench.folder)
    time.sleep(float(rng.uniform(0, 1)))
    other = bench.warm.start(bench.stage.command, bench.folder)
    return "two at once", [said for child in (one, other) for said in _named(child.wait())]


def killed_worker(bench: Bench, rng: np.random.Generator) -> tuple[str, list[str]]:
    """Kill one of the processes that share the work, or all of them, as a system short of memory.

    A command that ends well has done that part again: then nothing is different already.
    """
    delay = float(rng.uniform(0, 12))
    while True:
        bench.begin()
        child = bench.warm.start(bench.stage.command, bench.folder)
        until = time.monotonic() + PATIENCE
        while not child.workers() and time.monotonic() < until:
            time.sleep(0.05)
        time.sleep(delay)
        if workers := child.workers():
            break
        assert not child.wait().code  # they were done: sooner, then
        delay /= 2
    met = workers if rng.random() < 1 / 4 else [int(rng.choice(workers))]
    for pid in met:
        os.kill(pid, signal.SIGKILL)
    ended = child.wait()
    said = _named(ended)
    if not ended.code:
        said += [f"it ended well, and {one}" for one in bench.differences()]
    what = f"{len(met)} of {len(workers)} workers killed, {delay:.1f} s after they began"
    return f"{what}; it ended with {ended.code}", said


def every_write(bench: Bench, numbers: Iterable[int] | None = None) -> Iterator[dict]:
    """Let the disk be full from each operation on, and again in the middle of each file.

    What a run leaves decides what the next one does: of equal leftovers it is run once.

    Args:
        bench: The stage.
        numbers: Of the operations; all of them unless given.
    """
    known: dict[str, list[str]] = {}
    operations = bench.undisturbed.operations
    for number in range(len(operations)) if numbers is None else numbers:
        limits = [0, 300, 3000] if operations[number].startswith("write ") else [0]
        for limit in limits:
            bench.begin()
            ended = bench.run(kill_before=number, full=limit)
            said = [*_named(ended), *faults(bench.folder, bench.stage.dataset)]
            if not said:
                left = repr(contents(bench.folder))
                if left not in known:
                    known[left] = [*said_of(bench.run(), "the next run"), *bench.differences()]
                said = known[left]
            yield {"stage": bench.stage.name, "kind": "full at every write", "seed": number,
                   "what": f"full beyond {limit} bytes at {_at(ended, number)}",
                   "code": ended.code, "faults": said}  # fmt: skip


KINDS = {
    "full disk": full_disk, "removed folder": removed_folder, "clock backwards": clock_backwards,
    "read-only folder": read_only, "two at once": company, "killed worker": killed_worker,
}  # fmt: skip


def meets(stage: Stage, kind: str) -> bool:
    """Whether a misfortune can happen to a stage: only one with workers can lose some."""
    return stage.workers > 1 or kind != "killed worker"


def tried(bench: Bench, kind: str, seed: int) -> dict:
    """Meet a misfortune, look, and run again without."""
    rng = np.random.default_rng(seed)
    bench.begin()
    what, said = KINDS[kind](bench, rng)
    said = [*said, *faults(bench.folder, bench.stage.dataset)]
    if kind == "removed folder":
        # What the user had there is gone too, and is not made again by this command.
        bench.restore()
    said += said_of(bench.run(), "the next run")
    if kind != "removed folder" or not bench.stage.before:
        if kind == "removed folder":
            # A run that went on without the folder has made a version, which is kept as any other,
            # and has measured into a store that nobody sees.
            harm = bench.harm(of_any_version=True)
            said += [one for one in harm if not _KEPT.search(one)]
        else:
            said += bench.differences()
    return {"stage": bench.stage.name, "kind": kind, "seed": seed, "what": what, "faults": said}


_KEPT = re.compile(r"\.versions(/.*)? is left over|/version\.json is another")


def _at(ended: Ended, number: int) -> str:
    return ended.operations[min(number, len(ended.operations) - 1)]


def _named(ended: Ended) -> list[str]:
    """Say what is wrong with how a command ended that may end with an error."""
    if ended.outlived:
        return outlived(ended)
    if "Traceback" in ended.told:
        return [f"a traceback: {ended.told[-2500:]}"]
    if ended.code not in (0, 2):
        return [f"it ended with {ended.code}: {ended.told[-1000:]}"]
    if ended.code and "Error: " not in ended.told:
        return [f"no named error: {ended.told[-1000:]}"]
    return []


def measure(stages, kinds, home: Path, notes: Path, times: int, minutes: float) -> int:
    """Meet each misfortune so often in each stage, unless that is in the notes."""
    known = [json.loads(line) for line in notes.read_text().splitlines()] if notes.exists() else []
    until = time.monotonic() + 60 * minutes
    with Warm(home / "said") as warm:
        for name in stages:
            bench = None
            for kind in kinds:
                done = sum((one["stage"], one["kind"]) == (name, kind) for one in known)
                often = times if kind in OFTEN else min(times, 2)
                if not meets(STAGES[name], kind):
                    continue
                for seed in range(done, often):
                    if time.monotonic() > until:
                        return _report(known)
                    bench = bench or Bench(warm, STAGES[name], home)
                    made = tried(bench, kind, seed)
                    known.append(made)
                    with notes.open("a") as file:
                        file.write(json.dumps(made) + "\n")
                    if made["faults"]:
                        print(made, flush=True)
    return _report(known)


def walk(stages, home: Path, notes: Path, minutes: float) -> int:
    """Fill the disk at every operation of each stage that the notes do not have yet."""
    known = [json.loads(line) for line in notes.read_text().splitlines()] if notes.exists() else []
    until = time.monotonic() + 60 * minutes
    with Warm(home / "said") as warm:
        for name in stages:
            done = {one["seed"] for one in known if one["stage"] == name}
            bench = Bench(warm, STAGES[name], home)
            # The last one may have been met with some of its sizes only.
            numbers = range(max(done, default=0), len(bench.undisturbed.operations))
            for made in every_write(bench, numbers):
                if time.monotonic() > until:
                    break
                known.append(made)
                with notes.open("a") as file:
                    file.write(json.dumps(made) + "\n")
                if made["faults"]:
                    print(made, flush=True)
    print("| stage | full disks | named errors | with a fault |\n|---|--:|--:|--:|")
    for name in dict.fromkeys(one["stage"] for one in known):
        mine = [one for one in known if one["stage"] == name]
        print(f"| {name} | {len(mine)} | {sum(one['code'] == 2 for one in mine)} "
              f"| {sum(bool(one['faults']) for one in mine)} |")  # fmt: skip
    return int(any(one["faults"] for one in known))


def _report(known) -> int:
    times = Counter(one["kind"] for one in known)
    wrong = Counter(one["kind"] for one in known if one["faults"])
    print("| what | times | with a fault |\n|---|--:|--:|")
    for kind in times:
        print(f"| {kind} | {times[kind]} | {wrong[kind]} |")
    return int(bool(wrong))


def main() -> int:
    """Run from a shell; see ``--help``."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.support.faults.misfortunes", description=__doc__
    )
    parser.add_argument("home", type=Path, help="folder to work in")
    parser.add_argument("--times", type=int, default=20, help="a stage, where moments differ")
    parser.add_argument("--stage", action="append", choices=STAGES, help="only this one (repeat)")
    parser.add_argument("--kind", action="append", choices=KINDS, help="only this one (repeat)")
    parser.add_argument(
        "--every-write", action="store_true", help="a full disk at every write, and nothing else"
    )
    parser.add_argument(
        "--minutes", type=float, default=600, help="stop then; goes on if called again"
    )
    options = parser.parse_args()
    home = options.home.resolve()
    home.mkdir(parents=True, exist_ok=True)
    if options.every_write:
        stages = options.stage or STAGES
        return walk(stages, home, home / "every-write.jsonl", options.minutes)
    return measure(
        options.stage or STAGES, options.kind or KINDS, home, home / "misfortunes.jsonl",
        options.times, options.minutes,
    )  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
