"""Flip one bit at seeded places of a store and of a dataset: it is found, or it changes nothing."""

from __future__ import annotations

import argparse
import json
import logging
import shutil
import sqlite3
import sys
import time
from collections import Counter, defaultdict
from contextlib import closing
from pathlib import Path

import numpy as np

from character_curator import CuratedDataset
from character_curator.dataset import verify
from character_curator.dataset.checksums import NotADatasetError
from character_curator.dataset.version_record import read_record
from character_curator.features import FeatureStore
from tests.support.faults.kills import Bench, said_of
from tests.support.faults.stages import STAGES
from tests.support.faults.warm import Warm

FOUND, HARMLESS, WRONG = "found", "harmless", "another result"


def flip(path: Path, place: int, bit: int) -> None:
    """Flip a bit of a file."""
    data = bytearray(path.read_bytes())
    data[place] ^= 1 << bit
    path.unlink()  # it may be a link to somebody's image
    path.write_bytes(data)


def store_places(store: Path, work: Path, count: int, seed: int = 0) -> Counter:
    """Flip bits of a feature store, one at a time; ask it for all that it held.

    Args:
        store: A whole one.
        work: A folder to do it in.
        count: How many places.
        seed: Of the places.
    """
    whole, rng, seen = store.read_bytes(), np.random.default_rng(seed), Counter()
    held: dict[tuple[str, str], dict[str, bytes]] = defaultdict(dict)
    with closing(sqlite3.connect(store)) as connection:
        for analyser, mark, key, value in connection.execute(
            "SELECT analyser, fingerprint, hash, value FROM feature"
        ):
            held[analyser, mark][key] = value
    for _ in range(count):
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)
        path = work / "features.sqlite"
        path.write_bytes(whole)
        flip(path, int(rng.integers(len(whole))), int(rng.integers(8)))
        with FeatureStore(path) as opened:
            found = {key: opened.get(values, *key) for key, values in held.items()}
            noticed = bool(opened.losses)
        if any(found[key].get(name, value) != value for key, values in held.items()
               for name, value in values.items()):  # fmt: skip
            seen[WRONG] += 1
        elif noticed or found != held:  # a value whose key is damaged is absent, and measured again
            seen[FOUND] += 1
        else:
            seen[HARMLESS] += 1
    shutil.rmtree(work, ignore_errors=True)
    return seen


def dataset_places(dataset: Path, work: Path, count: int, seed: int = 0) -> tuple[Counter, list]:
    """Flip bits of a dataset's files, one at a time; verify it, and read it.

    Args:
        dataset: A whole one.
        work: A folder to do it in.
        count: How many places: first a file, then a place in it.
        seed: Of the places.

    Returns:
        How often it was what, and the places that gave another result and were not found.
    """
    rng, seen, wrong = np.random.default_rng(seed), Counter(), []
    names = sorted(p.relative_to(dataset) for p in dataset.rglob("*") if p.is_file())
    expected = _as_read(dataset)
    shutil.rmtree(work, ignore_errors=True)
    shutil.copytree(dataset, work)
    for _ in range(count):
        name = names[int(rng.integers(len(names)))]
        size = (dataset / name).stat().st_size
        place, bit = int(rng.integers(size)), int(rng.integers(8))
        flip(work / name, place, bit)
        if not _is_whole(work):
            seen[FOUND] += 1
        elif _as_read(work) == expected:
            seen[HARMLESS] += 1
        else:
            seen[WRONG] += 1
            wrong.append((name.as_posix(), place, bit))
        shutil.copy2(dataset / name, work / name)
    return seen, wrong


def _is_whole(dataset: Path) -> bool:
    try:
        return verify(dataset).ok and read_record(dataset) is not None
    except NotADatasetError:
        return False


def _as_read(dataset: Path) -> list:
    """Return what a reader has of a dataset."""
    read = CuratedDataset(dataset)
    record = read_record(dataset)
    return [
        *((np.asarray(image).tobytes(), repr(values)) for image, values in read),
        (dataset / "facts.json").read_bytes(), None if record is None else record.fingerprint,
    ]  # fmt: skip


def commands(bench: Bench, count: int, seed: int = 0) -> tuple[Counter, list[str]]:
    """Flip up to 20 bits of the store and one of the dataset, and curate again with both.

    Args:
        bench: Of the stage ``curate``.
        count: How often.
        seed: Of the places.
    """
    rng, seen, said = np.random.default_rng(seed), Counter(), []
    bench.begin()
    bench.run()
    whole = bench.folder.with_name("whole")
    shutil.rmtree(whole, ignore_errors=True)
    shutil.copytree(bench.folder, whole)
    listed = (whole / "out/SHA256SUMS").read_bytes()
    for _ in range(count):
        shutil.rmtree(bench.folder)
        shutil.copytree(whole, bench.folder)
        store = bench.folder / "out.work/features.sqlite"
        places = rng.integers(0, store.stat().st_size, rng.integers(1, 21))
        for place in places:
            flip(store, int(place), int(rng.integers(8)))
        files = sorted(p for p in (bench.folder / "out").iterdir() if p.name != "version.json")
        file = files[int(rng.integers(len(files)))]
        flip(file, int(rng.integers(file.stat().st_size)), int(rng.integers(8)))
        ended = bench.run()
        seen["runs"] += 1
        seen["places in the store"] += len(places)
        seen["places in the dataset"] += 1
        told = said_of(ended, "curating again")
        if (bench.folder / "out/SHA256SUMS").read_bytes() != listed:
            told.append(f"another dataset after a flip in {file.name}")
        if not _is_whole(bench.folder / "out"):
            told.append(f"{file.name} stays damaged")
        if not (bench.folder / "out.versions/v0002").is_dir():
            told.append(f"what was damaged in {file.name} is not kept as a version")
        seen["with a fault"] += bool(told)
        said += told
    return seen, said


def main() -> int:
    """Run from a shell; see ``--help``."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.support.faults.damage", description=__doc__
    )
    parser.add_argument("home", type=Path, help="folder to work in")
    parser.add_argument("--places", type=int, default=1000, help="in the store and in the dataset")
    parser.add_argument("--runs", type=int, default=40, help="of a command on what is damaged")
    options = parser.parse_args()
    home, started = options.home.resolve(), time.monotonic()
    home.mkdir(parents=True, exist_ok=True)
    logging.getLogger("character_curator").setLevel(logging.ERROR)  # each of them is said
    with Warm(home / "said") as warm:
        bench = Bench(warm, STAGES["curate"], home)
        store = store_places(
            bench.folder / "out.work/features.sqlite", home / "store", options.places
        )
        dataset, wrong = dataset_places(bench.folder / "out", home / "dataset", options.places)
        ran, said = commands(bench, options.runs)
    made = {"store": store, "dataset": dataset, "commands": ran, "wrong": wrong, "said": said,
            "seconds": round(time.monotonic() - started, 1)}  # fmt: skip
    print(json.dumps(made, indent=1))
    return int(bool(store[WRONG] or wrong or said))


if __name__ == "__main__":
    sys.exit(main())
