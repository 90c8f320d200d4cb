"""A file that changes while it is measured: nothing is kept under another file's hash."""

from __future__ import annotations

import cv2
import pytest

from character_curator.analysis import decoding, sweep
from character_curator.analysis.copies import copy_pairs
from character_curator.analysis.decoding import CHANGED, UnreadableImageError, read_image
from character_curator.analysis.pixels import ANALYSER, FINGERPRINT, PixelMeasurement
from character_curator.features import FeatureStore
from character_curator.imageset import ImageSet
from tests.support.tiny_analysis import empty_place, portrait, write_images


@pytest.fixture
def replaced(tmp_path):
    """A set of two images, of which the first is another one since it was listed."""
    folder = write_images(tmp_path / "in", {"a.png": portrait(1), "b.png": portrait(2)})
    images = ImageSet.from_folder(folder)
    before = (folder / "a.png").read_bytes()
    cv2.imwrite(str(folder / "a.png"), empty_place(1))
    return images, folder / "a.png", before


def test_the_measurement_of_another_file_is_not_kept(replaced):
    images, path, before = replaced
    with FeatureStore() as store:
        found = sweep.sweep(images, store)
        assert found.table["rejection_detail"].to_list() == [CHANGED, None]
        assert store.computed == {ANALYSER: 1}
        path.write_bytes(before)
        found = sweep.sweep(images, store)
        assert found.table["rejection"].null_count() == 2
        key = images.table["hash"][0]
        stored = store.get([key], ANALYSER, FINGERPRINT)[key]
        assert PixelMeasurement.from_bytes(stored) == PixelMeasurement.of(read_image(path))


def test_copies_are_looked_for_in_the_file_that_was_listed(replaced):
    images, _, _ = replaced
    with FeatureStore() as store:
        copy_pairs(images, store)
        assert sum(store.computed.values()) == 1


def test_a_crop_of_another_file_is_not_encoded(replaced):
    images, path, _ = replaced
    with pytest.raises(UnreadableImageError, match="have changed"):
        read_image(path, expected=images.table["hash"][0])
    assert read_image(path).shape == decoding.read_hashed(path)[0].shape
