"""Workers who do not see the caller's folders are found out, and nothing is taken for damaged."""

import pytest

from character_curator.analysis.sweep import sweep
from character_curator.engines import sharing
from character_curator.engines.here import Here
from character_curator.engines.sharing import NotSharedError, check_unseen, unseen
from character_curator.features import FeatureStore
from character_curator.generation.diffusers_backend import DiffusersBackend
from character_curator.generation.run import generate
from character_curator.imageset import ImageSet
from character_curator.plan import Plan, Scenario, Subject
from tests.support.images import drawing

PLAN = Plan(
    subjects=[Subject(name="char1", description="woman", trigger="ohwx")],
    seeds=(1,),
    scenarios=[Scenario(number=1, name="one", prompt="thing", category="casual")],
)


class Elsewhere(Here):
    """Works as on another machine, whose disk is another one."""

    remote = True

    def __init__(self, before, after):
        super().__init__()
        self._before, self._after = before, after

    def map(self, work, chunks, *, tell=None):
        self._before()
        for result in super().map(work, chunks, tell=tell):
            self._after()
            yield result


def test_an_image_that_a_worker_does_not_see_is_not_unreadable(tmp_path):
    (tmp_path / "in").mkdir()
    drawing(1).save(tmp_path / "in" / "a.png")
    images, path = ImageSet.from_folder(tmp_path / "in"), tmp_path / "in" / "a.png"
    engine = Elsewhere(lambda: path.rename(tmp_path / "b"), lambda: (tmp_path / "b").rename(path))
    with FeatureStore(tmp_path / "features.sqlite") as store:
        with pytest.raises(NotSharedError, match=r"a\.png is seen here, and not by the worker on"):
            sweep(images, store, engine=engine)
        assert len(sweep(images, store).accepted) == 1


def test_an_image_that_is_gone_everywhere_is_unreadable(tmp_path):
    (tmp_path / "in").mkdir()
    drawing(1).save(tmp_path / "in" / "a.png")
    images = ImageSet.from_folder(tmp_path / "in")
    (tmp_path / "in" / "a.png").unlink()
    with FeatureStore(tmp_path / "features.sqlite") as store:
        found = sweep(images, store, engine=Elsewhere(lambda: None, lambda: None))
    assert found.rejections() == {"unreadable": 1}


def test_an_image_that_is_written_elsewhere_is_named(tiny_sd15, tmp_path, monkeypatch):
    monkeypatch.setattr(sharing, "PATIENCE", 0.3)
    backend = DiffusersBackend(tiny_sd15, steps=1, width=64, height=64, device="cpu")
    made = tmp_path / "raw"
    engine = Elsewhere(lambda: None, lambda: [path.unlink() for path in made.glob("*.png")])
    with pytest.raises(NotSharedError, match=r"png is seen by the worker that wrote it, and not"):
        generate(PLAN, backend, made, batch_size=1, engine=engine)
    assert len(generate(PLAN, backend, made, batch_size=1)) == 1


def test_what_is_there_is_no_matter(tmp_path):
    (tmp_path / "a").touch()
    assert unseen([tmp_path / "a"]) == ()
    check_unseen(unseen([tmp_path / "b"]))
