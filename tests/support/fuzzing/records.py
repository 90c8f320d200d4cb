"""Readers of what later steps leave: waves, disturbances, packs, shards, archives."""

from __future__ import annotations

import json
import zipfile

import numpy as np
from PIL.PngImagePlugin import PngInfo

from character_curator.assets import pack
from character_curator.assets.archive import compared
from character_curator.augmentation.records import _seconds
from character_curator.dataset import shards
from character_curator.dataset.version_record import new_record, read_record, write_record
from character_curator.growth import ledger
from character_curator.hashing import json_hash
from character_curator.imageset import ImageSet
from character_curator.json_text import parse
from character_curator.plan import Plan, Scenario, Subject
from character_curator.reading.disturbances import (
    DISTURBANCE_KEY,
    DisturbanceError,
    DisturbanceRecord,
    disturbance_record,
    disturbed,
    draw,
)
from tests.support.fuzzing.mutation import damaged, json_damaged
from tests.support.fuzzing.targets import Target
from tests.support.images import drawing, png_bytes

PLAN = Plan(
    subjects=[Subject(name="char1", description="woman")],
    seeds=(1, 2),
    scenarios=[Scenario(number=1, name="scene", prompt="park")],
)


def waves_target() -> Target:
    """Return the target of the notes of waves."""

    def seeds(folder):
        asked = [ledger.Asked(one, 1, ledger.QUOTAS, 0.5, 0.7) for one in PLAN.requests()]
        ledger.write_ledger(folder / "whole.json", asked, {})
        return [(folder / "whole.json").read_bytes()]

    def read(folder, content):
        (folder / "waves.json").write_bytes(content)
        for one in ledger.read_ledger(folder / "waves.json", PLAN, {}):
            json.dumps(one.note(), allow_nan=False)
            assert sum(figure or 0 for figure in (one.usable, one.quality)) < 1e400

    return Target("waves", seeds, json_damaged, read)


def disturbance_target() -> Target:
    """Return the target of the records of disturbed images, which then are disturbed again."""

    def seeds(folder):
        return [
            DisturbanceRecord(
                draw(kind, 0.5, 3, (32, 24)), "a.png", "ab" * 32, (32, 24), "cd" * 32
            ).to_text().encode()
            for kind in ("occlusion", "blur", "noise", "compression")
        ]  # fmt: skip

    def read(folder, content):
        text = content.decode("latin-1")
        info = PngInfo()
        info.add_text(DISTURBANCE_KEY, text)
        place = folder / "in"
        place.mkdir(exist_ok=True)
        drawing(1, 24).save(place / "a.png", pnginfo=info)
        ImageSet.from_folder(place).table.write_json()
        record = disturbance_record(place / "a.png")
        if record is None:
            return "it has no record"
        record.to_text(), record.columns()
        disturbed(np.zeros((24, 32, 3), np.uint8), record.disturbance)
        return None

    return Target("disturbances", seeds, json_damaged, read, (DisturbanceError,))


def pack_target() -> Target:
    """Return the target of what an asset pack notes of its files."""
    note = {"program": "character-curator", "files": {"a/b.png": "ab" * 32, "manifest.json": None}}

    def read(folder, content):
        place = folder / "pack"
        place.mkdir(exist_ok=True)
        (place / "c.png").unlink(missing_ok=True)
        (folder / "mine.txt").write_text("mine")
        (place / pack.NOTE_FILE).write_bytes(content)
        writer = pack._Writer(place, pack._read_note(place))
        writer.announce(["c.png"])
        writer.write("c.png", b"c")
        writer.finish([])
        assert (folder / "mine.txt").read_text() == "mine"

    return Target("asset pack", lambda folder: [json.dumps(note).encode()], json_damaged, read)


def archive_target() -> Target:
    """Return the target of the archives of packs, which are compared."""

    def seeds(folder):
        with zipfile.ZipFile(folder / "whole.zip", "w") as made:
            made.writestr("a/b.png", png_bytes(drawing(1, 16)))
            made.writestr("a/manifest.json", "{}" * 40)
        return [(folder / "whole.zip").read_bytes()]

    def read(folder, content):
        (folder / "other.zip").write_bytes(content)
        compared(folder / "whole.zip", folder / "other.zip")

    return Target("pack archives", seeds, damaged, read)


def index_target() -> Target:
    """Return the target of the index of shards that are there."""
    whole = {
        "__kind__": "wids-shard-index-v1", "wids_version": 1, "name": "x",
        "shardlist": [{"url": "a.tar", "nsamples": 1, "filesize": 3, "sha256": "ab" * 32}],
    }  # fmt: skip

    def read(folder, content):
        (folder / "index.json").write_bytes(content)
        (folder / "a.tar").write_bytes(b"tar")
        found = shards._index_in(folder)
        if found is None:
            return "it is no index"
        for one in found["shardlist"]:
            assert (folder / one["url"]).is_file()
        return None

    return Target("index of shards", lambda folder: [json.dumps(whole).encode()], json_damaged,
                  read)  # fmt: skip


def version_target() -> Target:
    """Return the target of versions' records, sealed again when they are damaged."""

    def seeds(folder):
        write_record(folder, new_record(2, {"a.png": "ab" * 32}, parent=None))
        return [(folder / "version.json").read_bytes()]

    def read(folder, content):
        try:
            values = parse(content)
            values.pop("seal", None)
            content = json.dumps({**values, "seal": json_hash(values)}).encode()
        except (ValueError, AttributeError, TypeError, RecursionError):
            pass
        (folder / "version.json").write_bytes(content)
        record = read_record(folder)
        if record is None:
            return "it is no record"
        f"v{record.number:04d}", (record.edits or 0) + 1
        return None

    return Target("version record", seeds, json_damaged, read)


def augmentation_target() -> Target:
    """Return the target of what an augmentation took, read when it is made again."""
    whole = {"combined": {"fingerprint": "ab"}, "seconds": {"curation_seconds": 1.5}}

    def read(folder, content):
        (folder / "augmentation.json").write_bytes(content)
        found = _seconds(folder / "augmentation.json", "ab", {"curation_seconds": 1.0})
        json.dumps(found, allow_nan=False)

    return Target("augmentation", lambda folder: [json.dumps(whole).encode()], json_damaged, read)


def targets() -> list[Target]:
    """Return the targets of later steps."""
    return [
        waves_target(), disturbance_target(), pack_target(), archive_target(),
        index_target(), version_target(), augmentation_target(),
    ]  # fmt: skip
