"""Kill commands at seeded moments, resume, and compare with what was not disturbed.

A chain is one command that is killed, started again, killed again, and so on, and at last let be:
so many kills cost little more than one run. After each kill a reader looks at what is there; in
the end everything is as if nothing had happened.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from tests.support.faults.stages import STAGES, Stage
from tests.support.faults.trees import NUMBERS, contents, differences, faults, rows_of
from tests.support.faults.warm import Ended, Warm

CHAIN = 8
"""Kills in a row, at most, before a command is let be."""


@dataclass
class Chain:
    """What a chain of kills has come to.

    Attributes:
        kills: Where: the last operation on a file, and whether it was begun.
        faults: What was wrong, a sentence each.
    """

    stage: str
    seed: int
    kills: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    seconds: float = 0.0


class Bench:
    """A stage that is prepared, and what comes of it undisturbed.

    Args:
        warm: Runs the commands.
        stage: What is attacked.
        home: A folder for the copies; the command always runs in ``home/work``, as paths go into
            some of what it writes.
    """

    def __init__(self, warm: Warm, stage: Stage, home: Path) -> None:
        self.warm, self.stage = warm, stage
        self.folder, self._prepared = home / "work", home / f"before-{stage.name}"
        stage.prepare(warm, self.folder)
        copy(self.folder, self._prepared)
        started = time.monotonic()
        self.undisturbed = self.run()
        self.seconds = time.monotonic() - started
        assert not self.undisturbed.code, self.undisturbed.told
        self.expected = contents(self.folder)
        self._of_any_version = contents(self.folder, NUMBERS)
        self.rows = {
            path.relative_to(self.folder).as_posix(): set(rows_of(path))
            for path in self.folder.rglob("*.sqlite")
        }
        assert not faults(self.folder, stage.dataset)

    def begin(self) -> None:
        """Make the folder as it was before the command."""
        copy(self._prepared, self.folder)

    def restore(self) -> None:
        """Put back what was there before the command and is gone."""
        subprocess.run(["cp", "-an", f"{self._prepared}/.", self.folder], check=True)

    def run(self, **options) -> Ended:
        """Run the command; see :meth:`.Warm.start`."""
        return self.warm.run(self.stage.command, self.folder, **options)

    def differences(self) -> list[str]:
        """Say in what the folder is not as it is undisturbed."""
        return differences(contents(self.folder), self.expected)

    def harm(self, *, of_any_version: bool = False) -> list[str]:
        """Say what is not as undisturbed; rows that nobody asks for may be lost from a store.

        Args:
            of_any_version: Whether the number of a dataset's version may be another in records.
        """
        if of_any_version:
            said = differences(contents(self.folder, NUMBERS), self._of_any_version)
        else:
            said = self.differences()
        for name, rows in self.rows.items():
            store = self.folder / name
            if f"{name} is another" in said and set(rows_of(store)) <= rows:
                said.remove(f"{name} is another")
        return said

    def chain(self, seed: int, length: int = CHAIN) -> Chain:
        """Kill, resume, and so on; the same seed gives the same moments."""
        made, rng = Chain(self.stage.name, seed), np.random.default_rng(seed)
        started = time.monotonic()
        self.begin()
        for _ in range(length):
            ended, where = self._killed(rng)
            if ended.killed:
                made.kills.append(where)
                made.faults += [f"after {where}: {said}" for said in self._seen(ended)]
                continue
            # It was done before its moment came: one more to compare, and all begins anew.
            made.faults += said_of(ended, "a resumed run")
            made.faults += [f"in the end, after {made.kills}: {s}" for s in self.differences()]
            self.begin()
        made.faults += said_of(self.run(), "the last run")
        made.faults += [f"in the end, after {made.kills}: {said}" for said in self.differences()]
        made.seconds = round(time.monotonic() - started, 1)
        return made

    def _seen(self, ended: Ended) -> list[str]:
        return [*outlived(ended), *faults(self.folder, self.stage.dataset)]

    def _killed(self, rng: np.random.Generator) -> tuple[Ended, str]:
        number = int(rng.integers(len(self.undisturbed.operations)))
        # In two of three cases while something is computed or written: 1 ms to 1 s later.
        later = float(10 ** rng.uniform(-3, 0)) if rng.random() < 2 / 3 else 0.0
        shared = self.stage.workers > 1
        if later and shared:  # it computes little itself: at any time while others do
            number, later = 0, float(rng.uniform(0, self.seconds))
        ended = self.run(kill_before=number, kill_later=later, by_clock=shared)
        last = ended.operations[-1] if ended.operations else "the start"
        return ended, f"{later:.3f} s after {last}" if later else f"before {last}"


def copy(source: Path, target: Path) -> None:
    """Copy a folder with its times and its hard links in the place of another."""
    shutil.rmtree(target, ignore_errors=True)
    subprocess.run(["cp", "-a", source, target], check=True)


def outlived(ended: Ended) -> list[str]:
    """Say who still worked when a command had ended, however it did."""
    return [f"{line} has outlived it" for line in ended.outlived]


def said_of(ended: Ended, who: str) -> list[str]:
    """Say what is wrong with how a command ended that nobody disturbed."""
    if ended.outlived:
        return [f"{who}: {said}" for said in outlived(ended)]
    if ended.code:
        return [f"{who} ended with {ended.code}: {ended.told[-2000:]}"]
    if "Traceback" in ended.told:
        return [f"{who} told a traceback: {ended.told[-2000:]}"]
    return []


def measure(stages, home: Path, notes: Path, kills: int, minutes: float) -> int:
    """Run chains, the stages in turn, until there are so many kills in the notes; go on there."""
    known = [json.loads(line) for line in notes.read_text().splitlines()] if notes.exists() else []
    until = time.monotonic() + 60 * minutes
    with Warm(home / "said") as warm:
        for name in stages:
            mine = [chain for chain in known if chain["stage"] == name]
            count, seed = sum(len(chain["kills"]) for chain in mine), len(mine)
            bench = None
            while count < kills and time.monotonic() < until:
                bench = bench or Bench(warm, STAGES[name], home)
                made = vars(bench.chain(seed))
                known.append(made)
                with notes.open("a") as file:
                    file.write(json.dumps(made) + "\n")
                count, seed = count + len(made["kills"]), seed + 1
                for said in made["faults"]:
                    print(f"{name} {made['seed']}: {said}", flush=True)
    return _report(known)


def _report(known) -> int:
    kills, wrong, seconds = Counter(), Counter(), Counter()
    for chain in known:
        kills[chain["stage"]] += len(chain["kills"])
        wrong[chain["stage"]] += len(chain["faults"])
        seconds[chain["stage"]] += chain["seconds"]
    print("| stage | kills | faults | minutes |\n|---|--:|--:|--:|")
    for name in kills:
        print(f"| {name} | {kills[name]} | {wrong[name]} | {seconds[name] / 60:.1f} |")
    total = kills.total(), wrong.total(), seconds.total() / 60
    print(f"| all | {total[0]} | {total[1]} | {total[2]:.1f} |")
    return int(bool(wrong.total()))


def main() -> int:
    """Run from a shell; see ``--help``."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.support.faults.kills", description=__doc__
    )
    parser.add_argument("home", type=Path, help="folder to work in; it grows to some 50 MB")
    parser.add_argument("--kills", type=int, default=34, help="kills a stage")
    parser.add_argument("--stage", action="append", choices=STAGES, help="only this one (repeat)")
    parser.add_argument(
        "--minutes", type=float, default=600, help="stop then; goes on when called again"
    )
    options = parser.parse_args()
    home = options.home.resolve()
    home.mkdir(parents=True, exist_ok=True)
    return measure(
        options.stage or STAGES, home, home / "kills.jsonl", options.kills, options.minutes
    )


if __name__ == "__main__":
    sys.exit(main())
