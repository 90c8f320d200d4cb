"""Select 70 of a million images exactly: seconds and peak memory.

Run: python benchmarks/selection_scale.py [--rows 1000000] [--case four|five|infeasible|clumps]
     [--json FILE]
"""

from __future__ import annotations

import argparse
import resource
import sys
import time
from pathlib import Path

import numpy as np
import polars as pl
from verdicts import Verdict, conclude

from character_curator.imageset import SCHEMA, ImageSet
from character_curator.selection import Quota, select

CATEGORIES = {"casual": 8, "professional": 6, "lighting": 12, "pose": 14, "style": 12}


def candidates(rows: int, random: np.random.Generator) -> ImageSet:
    """Draw images as a large run would leave them: ten seeds, eight clusters, five categories."""
    scenario = random.random(rows) < 0.74
    category = random.choice(list(CATEGORIES), rows)
    drawn = pl.DataFrame(
        {
            "path": [f"char_char1_{i:07}.png" for i in random.permutation(rows)],
            "seed": 966983 + random.integers(0, 10, rows),
            "kind": np.where(scenario, "scenario", "original"),
            "category": pl.Series(category).set(pl.Series(~scenario), None),
            "cluster": random.integers(0, 8, rows).astype(np.int32),
            "scenario_name": [f"scenario {k}" for k in random.integers(0, 52, rows)],
            "quality": random.beta(6, 3, rows),
        }
    )
    absent = [
        pl.lit(None, dtype=kind).alias(name)
        for name, kind in SCHEMA.items()
        if name not in drawn.columns
    ]
    return ImageSet(drawn.with_columns(absent), Path())


def quotas(case: str) -> list[Quota]:
    """Return the seed-document recipe's quotas, or a harder set."""
    stated = [
        Quota("seed", exact=7),
        Quota("kind", exact={"original": 18, "scenario": 52}),
        Quota("cluster", minimum=8, maximum=10),
        Quota("category", exact=CATEGORIES),
    ]
    if case == "five":
        stated.append(Quota("scenario_name", maximum=3))
    return stated


def near_duplicates(images: ImageSet, case: str, random: np.random.Generator) -> np.ndarray:
    """Return one pair to a hundred images: anywhere, or all among the best images."""
    count = len(images) // 100
    if case == "clumps":
        best = np.argsort(-images.table["quality"].to_numpy())[: count // 2]
        return np.stack([random.choice(best, count), random.choice(best, count)], axis=1)
    return random.integers(0, len(images), (count, 2))


def peak_megabytes() -> float:
    """Return the most memory this process has held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> int:
    """Measure one case, print what was found and the verdicts, and write JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--case", choices=["four", "five", "infeasible", "clumps"], default="four")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    arguments = parser.parse_args()
    random = np.random.default_rng(0)
    images = candidates(arguments.rows, random)
    if arguments.case == "infeasible":
        images = images.with_columns(
            pl.when(pl.col("cluster") == 3).then(4).otherwise("cluster").alias("cluster")
        )
        stated = quotas("four")
        stated[2] = Quota("cluster", minimum=8, maximum=9)
    else:
        stated = quotas(arguments.case)
    pairs = near_duplicates(images, arguments.case, random)
    before = peak_megabytes()
    wall, processor = time.perf_counter(), time.process_time()
    found = select(images, 70, stated, conflicts=pairs)
    wall, processor = time.perf_counter() - wall, time.process_time() - processor
    print("\n".join(found.sentences()))
    print(
        f"{arguments.case}: {arguments.rows:,} rows, {len(pairs):,} pairs, {len(stated)} quotas: "
        f"{wall:.2f} s elapsed, {processor:.2f} s of processor time, "
        f"{found.considered:,} rows in the model, peak {peak_megabytes():,.0f} MB "
        f"({before:,.0f} MB before)"
    )
    report = {
        "case": arguments.case,
        "rows": arguments.rows,
        "pairs": len(pairs),
        "seconds (clock, processor)": [wall, processor],
        "peak MB": peak_megabytes(),
        "proof": found.proof(),
    }
    verdicts = [
        Verdict("seconds on the clock", wall, 10),
        Verdict("peak memory in GB", peak_megabytes() / 1024, 2),
        Verdict("gap to the optimum", found.gap, 0),
    ]
    return conclude(report, verdicts, arguments.json)


if __name__ == "__main__":
    sys.exit(main())
