"""Readers of what lies in exported datasets, their versions, portfolios and experiments."""

from __future__ import annotations

import json
import shutil
from functools import cache
from pathlib import Path

from torch.utils.data import DataLoader

from character_curator.captions.history import (
    Changed,
    Step,
    append_step,
    history_file,
    read_history,
)
from character_curator.captions.table import read_table
from character_curator.captions.writing import undo
from character_curator.dataset.checksums import verify
from character_curator.dataset.curated import CuratedDataset, collate
from character_curator.dataset.difference import diff
from character_curator.dataset.difference_page import page as difference_page
from character_curator.dataset.exporting import export
from character_curator.dataset.facts import read_facts
from character_curator.dataset.restoring import restore
from character_curator.dataset.version_list import versions
from character_curator.errors import CuratorError
from character_curator.features import FeatureStore
from character_curator.imageset import ImageSet
from character_curator.portfolio.records import known_versions
from character_curator.portfolio.times import Times
from character_curator.training.data.examples import read_examples
from character_curator.verification import data, documentation, reproduction, sign_off
from character_curator.verification.evidence import read_evidence
from tests.support.fuzzing.mutation import damaged, json_damaged, toml_damaged
from tests.support.fuzzing.targets import Mutation, Target
from tests.support.images import make_images

IN_DATASET: dict[str, Mutation] = {
    "metadata.json": json_damaged, "metadata.jsonl": json_damaged, "facts.json": json_damaged,
    "version.json": json_damaged, "recipe.toml": toml_damaged, "SHA256SUMS": damaged,
    "README.md": damaged, "provenance.parquet": damaged, "dataset.toml": damaged,
    sign_off.SIGN_OFF_FILE: json_damaged,
}  # fmt: skip
"""The files of a dataset that are read again, and how each is damaged."""
_IN_SHORT = {"metadata.json", "facts.json", "SHA256SUMS"}
"""Those that most readers read: of the others only the long form reads damaged ones."""


@cache
def dataset(folder: Path) -> Path:
    """Export two versions of a small dataset, signed; return the place of the newest."""
    images = make_images(folder / "raw", 8, selected=4, size=24)
    for trigger in ("char1", "zoe"):
        export(images, folder / "out", name="small", trigger=trigger,
               recipe={"project": {"name": "small"}, "selection": {"total": 4}})  # fmt: skip
    place = folder / "out"
    sign_off.sign(place, "somebody", sign_off.shown_files(place, None, None))
    return place


def dataset_target(name: str) -> Target:
    """Return the target of a file of a dataset: each reader of datasets is tried."""

    def seeds(folder):
        return [(dataset(folder.parent / "dataset") / name).read_bytes()]

    def read(folder, content):
        place = dataset(folder.parent / "dataset")
        file = place / name
        before = file.read_bytes()
        file.unlink()  # it may be linked to another version's
        file.write_bytes(content)
        try:
            return _read_all(place, folder)
        finally:
            file.unlink(missing_ok=True)
            file.write_bytes(before)

    dear = name not in _IN_SHORT
    return Target(f"dataset {name}", seeds, IN_DATASET[name], read, seconds=30, dear=dear)


def _read_all(place: Path, folder: Path) -> str | None:
    refused: list[str] = []

    def tried(work, *arguments, **options):
        try:
            return work(*arguments, **options)
        except CuratorError as error:
            refused.append(f"{work.__name__}: {error}")
            return None

    tried(_as_a_user, place)
    tried(verify, place)
    tried(read_facts, place)
    tried(lambda: read_facts(place, read_examples(place)[0]))
    tried(read_table, place)
    tried(read_examples, place)
    tried(ImageSet.from_folder, place)
    listed = tried(versions, place)
    if listed is not None:
        str(listed)
    changed = tried(diff, 1, 2, place) if listed is not None else None
    if changed is not None:
        difference_page(changed)
    evidence = tried(read_evidence, place)
    if evidence is not None:
        tried(_checklist, evidence, place)
    copy = folder / "copy"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.rmtree(folder / "copy.versions", ignore_errors=True)
    shutil.copytree(place, copy)
    shutil.copytree(place.parent / "out.versions", folder / "copy.versions")
    tried(restore, copy, 1)
    images = ImageSet.from_folder(place.parent / "raw")
    tried(export, images, copy, name="again", report=False)
    return "; ".join(refused) or None


def _as_a_user(place: Path) -> None:
    found = CuratedDataset(place)
    found.filter_by_quality(0.5)
    found.get_by_cluster(1)
    for batch in DataLoader(found, batch_size=2, collate_fn=collate):
        assert len(batch) == 2


def _checklist(evidence, place: Path) -> None:
    data.check_seeds(evidence)
    data.check_metadata(evidence)
    data.check_quality(evidence)
    data.check_images(evidence)
    documentation.check_parameters(evidence)
    documentation.check_mapping(evidence)
    documentation.check_prompts(evidence)
    documentation.check_version(evidence, 2)
    reproduction.check_seed_store(evidence)
    reproduction.check_recipe(evidence)
    reproduction.check_automated(evidence)
    sign_off.check_approval(place, None, None)


def history_target() -> Target:
    """Return the target of what was done to captions, which is then taken back."""

    def seeds(folder):
        make_images(folder / "in", 2, selected=2, size=8)
        changes = {"a.txt": Changed("a.png", b"one", None, "one", "")}
        for number in (1, 2):
            append_step(folder / "in", Step(number, "2026-01-01", ("said",), changes))
        return [history_file(folder / "in").read_bytes()]

    def read(folder, content):
        history_file(folder / "in").write_bytes(content)
        read_history(folder / "in")
        undo(folder / "in")
        outside = {path.name for path in folder.iterdir()} - {"in"}
        assert not outside, outside

    return Target("caption edits", seeds, json_damaged, read)


def portfolio_target() -> Target:
    """Return the target of a portfolio's record and of the times that its images took."""
    record = {
        "format": 1, "name": "x", "version": 2, "margin": 0.1, "subjects": {}, "combined": {},
        "versions": [{"version": 1, "datasets": {"a": {"version": 1, "fingerprint": "ab"}}}],
    }  # fmt: skip

    def read(folder, content):
        (folder / "portfolio.json").write_bytes(content)
        (folder / "times.jsonl").write_bytes(content)
        seconds, unknown = Times(folder / "times.jsonl").of(["a.png"])
        assert unknown in (0, 1)
        assert seconds == seconds
        for version in known_versions(folder / "portfolio.json"):
            assert isinstance(version["version"], int)

    def seeds(folder):
        return [json.dumps(record).encode()]

    return Target("portfolio", seeds, json_damaged, read)


def experiment_target() -> Target:
    """Return the target of an experiment's plan and results."""
    from character_curator.experiment.runs import known_result

    whole = {"arm": "all", "seed": 1, "pictures": 3, "identity": 0.5}

    def read(folder, content):
        (folder / "result.json").write_bytes(content)
        known_result(folder)

    return Target("experiment", lambda folder: [json.dumps(whole).encode()], json_damaged, read)


def table_target() -> Target:
    """Return the target of image sets in Parquet."""

    def seeds(folder):
        images = make_images(folder / "raw", 3, selected=2, size=8)
        images.write(folder / "whole.parquet")
        return [(folder / "whole.parquet").read_bytes()]

    def read(folder, content):
        (folder / "images.parquet").write_bytes(content)
        found = ImageSet.read(folder / "images.parquet")
        len(found.accepted), found.rejections(), found.paths()

    return Target("image set", seeds, damaged, read)


def store_target() -> Target:
    """Return the target of the store of measurements: what is whole is the same, or not there."""
    whole = {f"{number:02x}" * 32: bytes([number]) * 40 for number in range(40)}

    def seeds(folder):
        with FeatureStore(folder / "whole.sqlite") as store:
            store.put(whole, "x", "1")
        return [(folder / "whole.sqlite").read_bytes()]

    def read(folder, content):
        for path in folder.glob("features*"):
            path.unlink()
        (folder / "features.sqlite").write_bytes(content)
        with FeatureStore(folder / "features.sqlite") as store:
            found = store.get(whole, "x", "1")
            assert all(whole[key] == value for key, value in found.items())
            store.put({"ff" * 32: b"new"}, "x", "1")
            assert store.get(["ff" * 32], "x", "1")

    return Target("feature store", seeds, damaged, read)


def targets() -> list[Target]:
    """Return the targets of folders."""
    return [
        *map(dataset_target, IN_DATASET), history_target(), portfolio_target(),
        experiment_target(), table_target(), store_target(),
    ]  # fmt: skip
