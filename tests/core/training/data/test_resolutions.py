"""Several resolutions in one run: what is encoded, in which order it is shown, what is said."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import pytest

from character_curator.features import FeatureStore
from character_curator.training import TrainingSettings
from character_curator.training.data.buckets import Size
from character_curator.training.data.cache import EncodedFeatures
from character_curator.training.data.prepare import prepare
from character_curator.training.settings import SettingsError
from tests.support.tiny_denoiser import TinyDenoiser, make_examples
from tests.support.training_runs import assert_same, run
from tests.support.watchers import CancelAfter, Cancelled

SETTINGS = TrainingSettings(
    resolutions=(64, 32, 48), bucket_step=16, batch_size=2, epochs=3, validation_share=0.2,
    validation_timesteps=2, save_every=1,
)  # fmt: skip


@pytest.fixture
def mixed(tmp_path):
    """Five images of 64 pixels, and one of 48."""
    large = make_examples(tmp_path / "large", 5)
    return [*large, *make_examples(tmp_path / "small", 1, ((48, 48),))]


def prepared(examples, settings=SETTINGS):
    denoiser = TinyDenoiser()
    return prepare(
        denoiser, examples, settings, EncodedFeatures(denoiser, FeatureStore())
    ), denoiser


def test_an_image_has_a_crop_for_each_resolution_that_it_is_large_enough_for(mixed):
    assert [c.size for c in mixed[0].crops(SETTINGS)] == [Size(32, 32), Size(48, 48), Size(64, 64)]
    assert [c.size for c in mixed[-1].crops(SETTINGS)] == [Size(32, 32), Size(48, 48)]
    enlarged = mixed[-1].crops(SETTINGS.replace(upscale=True))
    assert [c.size.width for c in enlarged] == [32, 48, 64]
    assert mixed[0].crop(SETTINGS).size == Size(64, 64)


def test_an_epoch_shows_each_image_once_at_each_and_a_batch_is_of_one_size(mixed):
    data, denoiser = prepared(mixed)
    assert denoiser.calls["pixels"] == 5 * 3 + 2, "each is encoded once for each resolution"
    for epoch in (1, 2):
        shown = Counter()
        for step in data.steps(epoch, SETTINGS):
            for batch in step:
                assert len({data.items[i][1].size for i in batch}) == 1
                shown.update(batch)
        assert shown == Counter(range(len(data.items)))


def test_the_order_is_that_of_the_seed_and_not_the_resolutions(mixed):
    data, _ = prepared(mixed)
    again, _ = prepared(mixed)
    assert data.steps(1, SETTINGS) == again.steps(1, SETTINGS)
    assert data.steps(1, SETTINGS) != data.steps(2, SETTINGS)
    sizes = [data.items[batch[0]][1].size for (batch,) in data.steps(1, SETTINGS)]
    assert sizes != sorted(sizes)
    assert sizes != sorted(sizes, reverse=True)
    single = SETTINGS.replace(batch_size=1)
    images = [data.items[batch[0]][0].hash for (batch,) in data.steps(1, single)]
    runs = sum(a != b for a, b in pairwise(images))
    assert runs > len(set(images)), "the sizes of an image do not follow each other"


def test_an_image_is_held_out_at_every_resolution(mixed):
    data, _ = prepared(mixed)
    trained = {example.hash for example, _ in data.items}
    held_out = {example.hash for example, _ in data.validation}
    assert not trained & held_out
    assert len(held_out) == 1
    assert len(data.validation) in (2, 3)


def test_how_many_images_of_each_is_said(mixed):
    data, _ = prepared(mixed, SETTINGS.replace(validation_share=0))
    assert data.resolutions(SETTINGS) == (
        "Resolutions: of 6 images, 6 at 32, 6 at 48, 5 at 64. 1 is too small for all of them and "
        "was not enlarged."
    )
    alone, _ = prepared(mixed, SETTINGS.replace(resolutions=None, resolution=64))
    assert alone.resolutions(SETTINGS.replace(resolutions=None)) == ""


@pytest.mark.parametrize("after", [1, 5])
def test_a_run_goes_on_to_the_same_bits(mixed, tmp_path, after):
    whole, _ = run(mixed, tmp_path / "whole", SETTINGS)
    assert whole.resolutions.startswith("Resolutions: of 5 images")
    assert len(whole.held_out) == 1
    with pytest.raises(Cancelled):
        run(mixed, tmp_path / "cut", SETTINGS, progress=CancelAfter(after, "Training"))
    resumed, denoiser = run(mixed, tmp_path / "cut", SETTINGS)
    assert denoiser.calls["pixels"] == 0
    assert_same(whole.last, resumed.last)
    assert_same(whole.best, resumed.best)


def test_one_in_a_list_is_one(mixed, tmp_path):
    plain = SETTINGS.replace(resolutions=None, resolution=64)
    listed = SETTINGS.replace(resolutions=(64,))
    assert [c.size for c in mixed[0].crops(listed)] == [mixed[0].crop(plain).size]


def test_resolutions_are_checked():
    assert TrainingSettings(resolutions=[512, 768]).sides == (512, 768)
    assert TrainingSettings(resolution=640).sides == (640,)
    for wrong in ((), (0,), (512, "a"), 512):
        with pytest.raises(SettingsError, match="resolutions"):
            TrainingSettings(resolutions=wrong)
