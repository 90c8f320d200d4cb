"""Images are measured alike, to the byte, wherever that is done."""

from __future__ import annotations

import logging
from contextlib import closing

import polars as pl
import pytest

from character_curator.analysis.embeddings import Embedder
from character_curator.analysis.face_analyser import FaceAnalyser
from character_curator.analysis.measuring import always
from character_curator.analysis.sweep import chunk_size, sweep
from character_curator.engines.processes import Processes
from character_curator.features import FeatureStore
from character_curator.imageset import ImageSet
from character_curator.miniature import FACE_PACK_PATH
from tests.support.killers import KillsOnce
from tests.support.tiny_analysis import (
    empty_place,
    group,
    needs_miniature_faces,
    portrait,
    save_clip,
    write_images,
)

pytestmark = needs_miniature_faces


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Forty images: one face, several, none, and one that cannot be read."""
    kinds = (portrait, portrait, portrait, group, empty_place)
    folder = write_images(
        tmp_path_factory.mktemp("in"), {f"{n:02}.png": kinds[n % 5](n) for n in range(39)}
    )
    (folder / "39.png").write_bytes((folder / "00.png").read_bytes()[:-40])
    return ImageSet.from_folder(folder)


class Counter:
    """Watches, and counts."""

    def __init__(self):
        self.total = self.done = 0

    def start(self, stage, total):
        self.total = total

    def advance(self, n=1, note=""):
        self.done += n

    def finish(self):
        pass


def _measured(images, path, engine=None, detect=always, embedder=None):
    analyser = FaceAnalyser(FACE_PACK_PATH)
    counter = Counter()
    with FeatureStore(path) as store:
        found = sweep(
            images, store, analyser=analyser, embedder=embedder, detect=detect, every_face=True,
            progress=counter, engine=engine,
        )  # fmt: skip
        assert counter.done == counter.total > 0
        rows = store._connection.execute("SELECT * FROM feature ORDER BY 1, 2, 3").fetchall()
    return rows, found.table["rejection_detail"].to_list()


def test_in_processes_of_which_one_is_killed_it_is_the_same(images, tmp_path, caplog):
    here = _measured(images, tmp_path / "here")
    with closing(Processes(2)) as engine, caplog.at_level(logging.WARNING):
        detect = KillsOnce(tmp_path / "killed")
        apart = _measured(images, tmp_path / "apart", engine, detect)
    assert (tmp_path / "killed").exists()
    assert "SIGKILL" in caplog.text
    assert len({row[0] for row in here[0]}) == 4
    assert apart == here


@pytest.mark.parametrize(("count", "workers", "size"), [
    (5, 1, 16), (1000, 1, 125), (9000, 1, 128),  # alone
    (3, 2, 2), (16, 2, 4), (40, 2, 4), (200, 2, 12), (9000, 2, 128), (40, 16, 3), (1, 16, 1),
])  # fmt: skip
def test_few_images_are_shared_by_all_who_work(count, workers, size):
    assert chunk_size(count, workers) == size


def test_what_is_known_makes_no_difference(images, tmp_path):
    """Batches of other images, as when a run goes on."""
    embedder = Embedder("miniature")  # embeddings of this one differ with the size of a batch
    whole = _measured(images, tmp_path / "whole", embedder=embedder)
    for part in (pl.col("path") < "05", pl.col("path").str.contains("[369]"), pl.lit(True)):
        rows, _ = _measured(images.filter(part), tmp_path / "parts", embedder=embedder)
    assert rows == whole[0]


@pytest.mark.slow
def test_embeddings_are_the_same_too(images, tmp_path):
    embedder = Embedder(save_clip(tmp_path / "clip"))
    here = _measured(images, tmp_path / "here", embedder=embedder)
    with closing(Processes(2)) as engine:
        assert _measured(images, tmp_path / "apart", engine, embedder=embedder) == here
