"""Images that workers of Ray measure, one of which is killed: each row of the store is the same."""

from __future__ import annotations

import importlib.util
from contextlib import closing

import pytest

from character_curator.analysis.face_analyser import FaceAnalyser
from character_curator.analysis.sweep import sweep
from character_curator.engines.ray_engine import RayEngine
from character_curator.feature_parts import parts_of, write_part
from character_curator.features import FeatureStore
from character_curator.imageset import ImageSet
from character_curator.miniature import FACE_PACK_PATH
from character_curator.progress import silent
from tests.support.ray_processes import KillsAWorker
from tests.support.tiny_analysis import (
    empty_place,
    group,
    needs_miniature_faces,
    portrait,
    write_images,
)

pytestmark = [
    needs_miniature_faces,
    pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed"),
]


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    kinds = (portrait, portrait, portrait, group, empty_place)
    folder = write_images(
        tmp_path_factory.mktemp("in"), {f"{n:02}.png": kinds[n % 5](n) for n in range(39)}
    )
    (folder / "39.png").write_bytes((folder / "00.png").read_bytes()[:-40])
    return ImageSet.from_folder(folder)


@pytest.fixture(scope="module")
def here(images, tmp_path_factory):
    return _measured(images, tmp_path_factory.mktemp("here") / "features.sqlite")


def _measured(images, path, engine=None, progress=silent):
    with FeatureStore(path) as store:
        found = sweep(
            images, store, analyser=FaceAnalyser(FACE_PACK_PATH), every_face=True,
            progress=progress, engine=engine,
        )  # fmt: skip
        rows = store._connection.execute("SELECT * FROM feature ORDER BY 1, 2, 3").fetchall()
        parts = parts_of(store)
    assert not parts.exists() or not list(parts.iterdir())
    return rows, found.table["rejection_detail"].to_list()


@pytest.mark.slow
@pytest.mark.parametrize("parts", [False, True])
def test_every_row_is_the_same_though_a_worker_is_killed(images, here, tmp_path, caplog, parts):
    progress = KillsAWorker(after=5)
    with closing(RayEngine(2, parts=parts)) as engine:
        apart = _measured(images, tmp_path / "features.sqlite", engine, progress)
    assert progress.done == progress.total > 35
    assert "another does that part again" in caplog.text
    assert len({row[0] for row in here[0]}) == 4
    assert apart == here


def test_what_a_caller_left_as_parts_is_not_measured_again(images, here, tmp_path):
    """A caller that was killed before it merged them: the next one has what they hold."""
    rows = {}
    left = sorted({row[2] for row in here[0]})[:20]
    for analyser, fingerprint, key, value, _ in here[0]:
        if key in left:
            rows.setdefault((analyser, fingerprint), {})[key] = value
    with FeatureStore(tmp_path / "features.sqlite") as store:
        write_part(parts_of(store), rows)
        write_part(
            parts_of(store), {key: dict(list(items.items())[:3]) for key, items in rows.items()}
        )
    watch = KillsAWorker(after=1000)
    assert _measured(images, tmp_path / "features.sqlite", progress=watch) == here
    assert 0 < watch.total <= 20
