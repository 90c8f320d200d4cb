"""The seed-document recipe's whole portfolio: 1,500 raw images, 70 chosen, a LoRA, the checklist.

Run: python benchmarks/full_portfolio.py [--folder FOLDER] [--json FILE]

The demo's character and scenarios, each drawn more often: 10 seeds with 150 images each. The run
continues where it was, so that it may be stopped. Afterwards the deployment checklist is gone
through with every image made again. Promised: the recipe's composition to the image (7 of each of
10 seeds, 18 originals and 52 scenarios, 8 clusters of 8 to 10, five categories), no quality below
0.74, every image again to the byte, and every line of the checklist but a person's approval.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

from verdicts import Verdict, conclude

RAW, CHOSEN, SEEDS = 1500, 70, 10
COMPOSITION = {
    "original": 18, "casual": 8, "professional": 6, "lighting": 12, "pose": 14, "style": 12,
}  # fmt: skip
OTHERS = "quota"
TAKES = {"pose": 5, "3": 7}
"""How often what the demo draws twice (poses) and three times is drawn; else three times as often:
150 images a seed."""


def main() -> int:
    """Run the benchmark and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=Path("portfolio-1500"))
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    project = options.folder / "project.toml"
    project.write_text(portfolio_of(demo()), encoding="utf-8")
    started = time.monotonic()
    curator("run", str(project))
    seconds = {"run": time.monotonic() - started}
    output = options.folder / "output"
    [lora] = (output / "lora").glob("*.safetensors")
    started = time.monotonic()
    words = ("--lora", str(lora), "--regenerate", "all", "--json")
    lines = json.loads(curator("verify", str(output / "dataset"), *words))["lines"]
    seconds["verify"] = time.monotonic() - started
    return conclude(*judged(output, lines, seconds), options.json)


def demo() -> str:
    """Return the demo's project."""
    import character_curator

    return (Path(character_curator.__file__).parent / "demo.toml").read_text(encoding="utf-8")


def portfolio_of(text: str) -> str:
    """Return the demo's project with 150 images of each seed."""
    parts = re.split(r"(?=^\[\[(?:originals|scenarios|subjects)\]\])", text, flags=re.MULTILINE)
    return "".join(part if part.startswith("[[subjects") else more(part) for part in parts)


def more(part: str) -> str:
    """Return the section of a scenario with the takes of the portfolio."""
    category = re.search(r'^category = "(\w+)"\n', part, flags=re.MULTILINE)
    if category is None:
        return part
    found = re.search(r"^takes = (\d)\n", part, flags=re.MULTILINE)
    takes = found[1] if found else "1"
    drawn = TAKES.get(category[1]) or TAKES.get(takes) or 3 * int(takes)
    part = part.replace(found[0], "") if found else part
    return part.replace(category[0], f"{category[0]}takes = {drawn}\n")


def curator(*words: str) -> str:
    """Run the command line and return what it says to machines; its own words pass through."""
    command = [sys.executable, "-m", "character_curator", *words]
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False).stdout


def judged(output: Path, lines: list[dict], seconds: dict) -> tuple[dict, list[Verdict]]:
    """Return what was found, and whether it keeps what is promised."""
    import polars as pl

    from character_curator.imageset import ImageSet

    table = ImageSet.read(output / "images.parquet").table
    chosen = table.filter(pl.col("selected"))
    categories = Counter(chosen["category"])
    off = sum(abs(categories[name] - count) for name, count in COMPOSITION.items())
    clusters = Counter(chosen["cluster"]).values()
    missing = [line for line in lines if line["status"] != "holds" and line["key"] != "approval"]
    for line in missing:
        print(f"{line['title']}: {line['status']}. {line['found']}")
    again = {line["key"]: line["figures"] for line in lines}.get("identical") or {}
    report = {
        "seconds": seconds,
        "raw": len(table),
        "candidates": table.filter(pl.col("selected") | (pl.col("rejection") == OTHERS)).height,
        "categories": dict(categories),
        "clusters": sorted(clusters),
        "quality": [float(chosen["quality"].min()), float(chosen["quality"].mean())],
        "lines": {line["key"]: line["status"] for line in lines},
    }
    print(json.dumps(report, indent=1))
    return report, [
        Verdict("raw images are missing", RAW - len(table), 0),
        Verdict("chosen images are missing", abs(CHOSEN - len(chosen)), 0),
        Verdict(
            "images too many or too few of a seed",
            sum(abs(n - CHOSEN // SEEDS) for n in Counter(chosen["seed"]).values()),
            0,
        ),
        Verdict("images too many or too few of a category", off, 0),
        Verdict("clusters", len(clusters), 8, at_least=True),
        Verdict("the largest cluster", max(clusters), 10),
        Verdict("the smallest cluster", min(clusters), 8, at_least=True),
        Verdict("the least quality", float(chosen["quality"].min()), 0.74, at_least=True),
        Verdict("images made again to the byte", again.get("identical", 0), CHOSEN, at_least=True),
        Verdict("lines of the checklist that do not hold, without a person's", len(missing), 0),
    ]


if __name__ == "__main__":
    sys.exit(main())
