"""Images in a store, measured by workers: also by those who do not have the caller's copies."""

from __future__ import annotations

import importlib.util
import shutil

import pytest

from character_curator.analysis.sweep import sweep
from character_curator.engines.here import Here
from character_curator.features import FeatureStore
from character_curator.imageset import ImageSet
from tests.support.commands import curate, draw_people
from tests.support.images import drawing

OF_THE_PLACE = {"recipe.toml", "report.html", "version.json", "SHA256SUMS"}


class Elsewhere(Here):
    """Works as on another machine, on which there are no copies yet."""

    remote = True

    def __init__(self, cache):
        super().__init__()
        self._cache = cache

    def map(self, work, chunks, *, tell=None):
        for chunk in chunks:
            shutil.rmtree(self._cache)
            yield from super().map(work, [chunk], tell=tell)


def test_a_worker_without_the_copies_downloads_what_it_measures(store, tmp_path):
    (tmp_path / "in").mkdir()
    for number in range(3):
        drawing(number).save(tmp_path / "in" / f"{number}.png")
    store.put(tmp_path / "in", "s3://apart/in")
    images = ImageSet.from_folder("s3://apart/in")
    with FeatureStore(tmp_path / "features.sqlite") as features:
        found = sweep(images, features, engine=Elsewhere(tmp_path / "cache"))
        assert features.computed["pixels"] == 3
    assert len(found.accepted) == 3
    assert len(list((tmp_path / "cache").rglob("*.png"))) == 3


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed")
def test_workers_of_ray_make_the_dataset_of_a_folder(store, tmp_path):
    photos = draw_people(tmp_path / "photos", 8)
    store.put(photos, "s3://cluster/photos")
    curate(photos, tmp_path / "local" / "set", work=tmp_path / "work")
    shutil.rmtree(tmp_path / "work")
    curate(
        "s3://cluster/photos", "s3://cluster/sets/set", "--engine", "ray", "--workers", 2,
        work=tmp_path / "work",
    )  # fmt: skip
    folder = tmp_path / "local" / "set"
    here = {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*.*")}
    there = store.files("s3://cluster/sets/set")
    assert {name for name in here if here[name] != there.get(name)} <= OF_THE_PLACE
    assert there.keys() >= here.keys()
