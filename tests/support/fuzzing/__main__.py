"""Fuzz every reader: ``python -m tests.support.fuzzing --minutes 10``; prints a table of counts.

Exits with 1 where something was neither read nor refused by a documented error; the example that
did it is kept beside, and ``--target NAME --first N --examples 1`` reads it again.
"""

from __future__ import annotations

import argparse
import faulthandler
import os
import sys
import tempfile
from collections import Counter
from pathlib import Path

from tests.support.fuzzing.every import targets
from tests.support.fuzzing.targets import HEADING, Found, try_target


def main() -> int:
    """Fuzz for so long, print what came of it, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=5.0, help="altogether (%(default)s)")
    parser.add_argument("--examples", type=int, default=10**9, help="at most, of each reader")
    parser.add_argument("--target", default="", help="only those whose name has this in it")
    parser.add_argument("--seed", type=int, default=0, help="of the damage (%(default)s)")
    parser.add_argument("--first", type=int, default=0, help="number of the first example")
    parser.add_argument("--keep", type=Path, default=Path("fuzz-faults"), help="where faults go")
    options = parser.parse_args()
    chosen = [target for target in targets() if options.target in target.name]
    told = os.fdopen(os.dup(1), "w", buffering=1)
    faulthandler.enable(told)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # what libraries of C say of damaged images
    print(HEADING, file=told)
    every: list[Found] = []
    with tempfile.TemporaryDirectory() as folder:
        for target in chosen:
            found = try_target(
                target, Path(folder), options.examples, seed=options.seed, first=options.first,
                seconds=options.minutes * 60 / len(chosen), told=told,
            )  # fmt: skip
            every.append(found)
            print(found, file=told)
            for number, fault, data in found.faults:
                options.keep.mkdir(parents=True, exist_ok=True)
                (options.keep / f"{target.name}-{options.seed}-{number}".replace(" ", "-")
                 ).write_bytes(data)  # fmt: skip
                print(f"  example {number}:\n{fault}", file=told)
    counted = Counter[str]()
    for found in every:
        counted += found.outcomes
    wrong, minutes = counted["wrong"], sum(found.seconds for found in every) / 60
    print(
        f"{counted.total():,} examples of {len(every)} readers in {minutes:.1f} minutes: "
        f"{counted['read']:,} read, {counted.total() - counted['read'] - wrong:,} refused by a "
        f"documented error, {wrong:,} wrong.",
        file=told,
    )
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
