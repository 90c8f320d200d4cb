"""A million candidates through selection, provenance, report and reload: seconds and memory a step.

Run: python benchmarks/million_rows.py [--rows 1000000] [--json FILE]

The rows are what a large run would leave: prompts, hashes, scores, clusters, and embeddings of 64
numbers in half precision. There are no files behind them, so that the report shows blanks. Of
each step the peak of memory is what the process held at most while it lasted.
"""

from __future__ import annotations

import argparse
import gc
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import polars as pl
import selection_scale
from memory import peak
from verdicts import Verdict, conclude

from character_curator.dataset.formats import write_provenance
from character_curator.imageset import ImageSet
from character_curator.parquet import read_parquet
from character_curator.report import render
from character_curator.selection import select

T = TypeVar("T")
BYTES_A_ROW = 4000
"""The most memory that a step may hold for each row, the table itself included."""
DIMENSIONS = 64


class Steps:
    """Measures one step after another."""

    def __init__(self) -> None:
        self.figures: dict[str, list[float]] = {}

    def __call__(self, name: str, work: Callable[[], T]) -> T:
        """Run a step; note its seconds and the peak of memory in MB."""
        gc.collect()
        with suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
        begun = time.perf_counter()
        found = work()
        self.figures[name] = [round(time.perf_counter() - begun, 1), round(peak())]
        print(f"  {name:28} {self.figures[name][0]:8} s  {self.figures[name][1]:8,} MB", flush=True)
        return found


def candidates(rows: int) -> ImageSet:
    """Draw a table as a large run would leave it."""
    random = np.random.default_rng(0)
    images = selection_scale.candidates(rows, random)
    vectors = random.integers(0, 2**14, (rows, DIMENSIONS), np.uint16).tobytes()
    size = DIMENSIONS * 2
    return images.with_columns(
        pl.Series("hash", [f"{number:064x}" for number in range(rows)]),
        pl.Series("prompt", [f"a woman in place {n % 999}, light {n % 7}" for n in range(rows)]),
        pl.Series("embedding", [vectors[n * size : (n + 1) * size] for n in range(rows)]),
        pl.lit(512, pl.Int32).alias("width"),
        pl.lit(512, pl.Int32).alias("height"),
    )


def main() -> int:
    """Run every step, print the figures and the verdicts, and write JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--json", type=Path, help="also write the figures here")
    options = parser.parse_args()
    step, rows, before = Steps(), options.rows, peak()
    print(f"{rows:,} rows:")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        images = step("the table", lambda: candidates(rows))
        step("write the image set", lambda: images.write(folder / "images.parquet"))
        images = step("read it again", lambda: ImageSet.read(folder / "images.parquet"))
        random = np.random.default_rng(1)
        pairs = selection_scale.near_duplicates(images, "four", random)
        quotas = selection_scale.quotas("four")
        chosen = step("select 70", lambda: select(images, 70, quotas, conflicts=pairs))
        table = chosen.images.table
        names = {path: f"{k}.png" for k, path in enumerate(table.filter("selected")["path"])}
        place = folder / "provenance.parquet"
        step("write the provenance", lambda: write_provenance(chosen.images, names, place))
        again = step("read the provenance", lambda: read_parquet(place))
        same = again["path"].to_list() == table["path"].to_list()
        selected = int((again["outcome"] == "selected").sum())
        page = step(
            "the report", lambda: render(chosen.images, name="x", names=names, selection=chosen)
        )
    report: dict[str, Any] = {
        "rows": rows,
        "steps (seconds, peak MB)": step.figures,
        "MB of the report": round(len(page) / 2**20, 1),
    }
    largest = max(memory for _, memory in step.figures.values()) - before
    verdicts = [
        Verdict("bytes of memory a row at most", largest * 2**20 / rows, BYTES_A_ROW),
        Verdict("rows reloaded as they were", float(same), 1, at_least=True),
        Verdict("of them selected", selected, 70, at_least=True),
        Verdict("MB of the report", len(page) / 2**20, 25),
    ]
    return conclude(report, verdicts, options.json)


if __name__ == "__main__":
    sys.exit(main())
