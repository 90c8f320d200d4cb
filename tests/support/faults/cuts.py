"""Cut the power at seeded moments of a command, and look at what the disk would hold.

A command is recorded once, call by call. Up to each cut its calls are replayed on a disk that
forgets what was not synced; a reader looks at what is left, and a part of the cuts is resumed to
the end.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np

from tests.support.faults.disk import JOURNAL, STRICT, Disk
from tests.support.faults.kills import Bench, said_of
from tests.support.faults.recording import Call, recorded
from tests.support.faults.stages import STAGES
from tests.support.faults.trees import earlier, faults
from tests.support.faults.warm import Warm

CHANGING = {"write", "writev", "pwrite64", "ftruncate", "fsync", "fdatasync", "rename", "renameat",
            "renameat2", "unlink", "unlinkat", "mkdir", "mkdirat", "rmdir", "link", "linkat",
            "sendfile", "copy_file_range"}  # fmt: skip
CUT = [name for name, stage in STAGES.items() if stage.workers == 1]
"""Stages that are cut: the numbers of open files are those of one process."""


class Recording:
    """A stage that was recorded, to be cut anywhere.

    Args:
        bench: The stage, prepared.
        sync: Without, nothing is synced but by SQLite, and cuts are to show that.
    """

    def __init__(self, bench: Bench, sync: bool = True) -> None:
        self.bench, self.stage = bench, bench.stage
        bench.begin()
        self.earlier = earlier(bench.folder, self.stage.dataset)
        child = bench.warm.start(self.stage.command, bench.folder, held=True, sync=sync)
        ended, self.calls = recorded(child, bench.folder.with_name("calls"))
        assert not ended.code, ended.told
        assert not bench.differences(), "the recorded run ended differently"

    def moments(self, count: int, seed: int) -> list[int]:
        """Return how many calls come before each cut: after those that change something."""
        root = "".join(f"\\x{byte:02x}" for byte in str(self.bench.folder).encode())
        changing = [
            number + 1
            for number, call in enumerate(self.calls)
            if (call.name in CHANGING or "O_CREAT" in str(call.arguments))
            and any(root in argument for argument in call.arguments)
        ]
        rng = np.random.default_rng(seed)
        return sorted(int(number) for number in rng.choice(changing, count))

    def cut(self, count: int, seed: int, resume_every: int) -> list[dict]:
        """Cut so often; return what each cut has come to."""
        made = []
        for kind in (JOURNAL, STRICT):
            self.bench.begin()
            disk, done = Disk(self.bench.folder, kind), 0
            for number, moment in enumerate(self.moments(count // 2, seed)):
                disk.apply(self.calls[done:moment])
                done = moment
                disk.after_a_cut(self.bench.folder, seed * 10_000 + number)
                made.append(self._looked(kind, moment, resume=number % resume_every == 0))
        return made

    def _looked(self, kind: str, moment: int, resume: bool) -> dict:
        said = faults(self.bench.folder, self.stage.dataset)
        for name, digests in self.earlier.items():
            if digests not in earlier(self.bench.folder, [name], every=True).values():
                said.append(f"the earlier version of {name} is gone")
        resumed = resume and not said
        if resumed:
            ended = self.bench.run()
            said += said_of(ended, "a resumed run")
            said += self.bench.harm()
        where = described(self.calls[moment - 1])
        return {"stage": self.stage.name, "kind": kind, "moment": moment, "where": where,
                "resumed": resumed, "faults": said}  # fmt: skip


def described(call: Call) -> str:
    """Return a call as people read it."""
    strings = [part[-60:].decode(errors="replace") for part in call.strings()[:2]]
    shown = strings if call.name not in ("write", "pwrite64", "writev") else [call.arguments[-1]]
    return f"{call.name} {call.arguments[0].split('<')[0]} {shown}"


def measure(stages, home: Path, notes: Path, cuts: int, resume_every: int, minutes: float) -> int:
    """Cut each stage so often, unless that is in the notes."""
    known = [json.loads(line) for line in notes.read_text().splitlines()] if notes.exists() else []
    until = time.monotonic() + 60 * minutes
    with Warm(home / "said") as warm:
        for name in stages:
            if sum(cut["stage"] == name for cut in known) >= cuts or time.monotonic() > until:
                continue
            started = time.monotonic()
            made = Recording(Bench(warm, STAGES[name], home)).cut(cuts, 1, resume_every)
            made[0]["seconds"] = round(time.monotonic() - started, 1)
            known += made
            with notes.open("a") as file:
                file.writelines(json.dumps(cut) + "\n" for cut in made)
            for cut in made:
                if cut["faults"]:
                    print(cut, flush=True)
    return _report(known)


def _report(known) -> int:
    rows = {cut["stage"]: Counter() for cut in known}
    for cut in known:
        rows[cut["stage"]] += Counter(
            cuts=1, resumed=int(cut["resumed"]), faults=int(bool(cut["faults"]))
        )
        rows[cut["stage"]]["seconds"] += cut.get("seconds", 0)
    print("| stage | cuts | resumed to the end | with a fault | minutes |\n|---|--:|--:|--:|--:|")
    total = sum(rows.values(), Counter())
    for name, row in [*rows.items(), ("all", total)]:
        print(f"| {name} | {row['cuts']} | {row['resumed']} | {row['faults']} "
              f"| {row['seconds'] / 60:.1f} |")  # fmt: skip
    return int(bool(total["faults"]))


def main() -> int:
    """Run from a shell; see ``--help``."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.support.faults.cuts", description=__doc__
    )
    parser.add_argument("home", type=Path, help="folder to work in")
    parser.add_argument("--cuts", type=int, default=84, help="cuts a stage")
    parser.add_argument("--resume-every", type=int, default=10, help="which part is resumed")
    parser.add_argument("--stage", action="append", choices=CUT, help="only this one (repeat)")
    parser.add_argument("--minutes", type=float, default=600, help="begin no stage later")
    options = parser.parse_args()
    home = options.home.resolve()
    home.mkdir(parents=True, exist_ok=True)
    return measure(
        options.stage or CUT, home, home / "cuts.jsonl", options.cuts, options.resume_every,
        options.minutes,
    )  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
