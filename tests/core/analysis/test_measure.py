"""The single pass: everything measured once, nothing measured twice."""

import cv2
import numpy as np
import pytest

from character_curator.analysis.decoding import read_image
from character_curator.analysis.embed import embed
from character_curator.analysis.embeddings import Embedder
from character_curator.analysis.face_validation import FaceAnalyser, FaceThresholds, validate_faces
from character_curator.analysis.measure import measure
from character_curator.analysis.quality import (
    QualityAssessment,
    quality_ceiling,
    score_quality,
)
from character_curator.features import FeatureStore
from character_curator.imageset import ImageSet
from tests.support.tiny_analysis import (
    empty_place,
    group,
    needs_miniature_faces,
    portrait,
    save_clip,
    write_images,
)

pytestmark = needs_miniature_faces

GOOD, FLAT, BLURRED = 8, 3, 4
MINIMUM = 0.74


def dull(image, gain=0.1):
    return (image * gain + 100).astype(np.uint8)


def ruled(image):
    """Draw lines across: sharp enough that a face is looked for."""
    image = image.copy()
    image[::16] = 255 - image[::16]
    return image


@pytest.fixture(scope="module")
def images():
    made = {f"good {i}.png": portrait(i) for i in range(GOOD)}
    made |= {f"flat {i}.png": dull(portrait(20 + i)) for i in range(FLAT)}
    made |= {f"blurred {i}.png": cv2.GaussianBlur(portrait(30 + i), (0, 0), 4)
             for i in range(BLURRED)}  # fmt: skip
    made |= {"empty.png": ruled(empty_place(1)), "group.png": group(1)}
    return made


@pytest.fixture
def folder(tmp_path, images):
    write_images(tmp_path / "set", images)
    (tmp_path / "set" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"\0" * 40)
    return tmp_path / "set"


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return save_clip(tmp_path_factory.mktemp("models") / "clip")


def models(clip):
    return FaceAnalyser("miniature", batch_size=3), Embedder(clip, batch_size=3)


def analyse(images, clip, store, *, minimum=MINIMUM, confidence=0.85, single_pass=True):
    analyser, embedder = models(clip)
    thresholds = FaceThresholds(confidence=confidence)
    if single_pass:
        images = measure(images, analyser, embedder, store, thresholds=thresholds,
                         minimum_quality=minimum)  # fmt: skip
    images = validate_faces(images, analyser, store, thresholds)
    images = score_quality(images, store, minimum=minimum)
    return embed(images, embedder, store)


def test_one_pass_leaves_nothing_to_measure(folder, clip):
    images = ImageSet.from_folder(folder)
    analyser, embedder = models(clip)
    with FeatureStore() as store:
        measured = measure(images, analyser, embedder, store)
        computed = dict(store.computed)
        for path in images.paths():
            path.unlink()  # the stages decode nothing
        analyse(images, clip, store)
        assert dict(store.computed) == computed
    # What is blurred or flat beyond help is neither looked through nor embedded.
    assert computed["pixels"] == GOOD + FLAT + BLURRED + 2
    assert computed["faces"] <= GOOD + 2
    assert computed["embedding"] <= computed["identity"] <= GOOD
    assert measured.rejections() == {"unreadable": 1, "low_quality": FLAT + BLURRED}
    assert "raw_sharpness" in measured.table.columns


def test_results_do_not_depend_on_the_pass(folder, clip):
    """Measured together or stage by stage: the same images are accepted, with equal numbers."""
    images = ImageSet.from_folder(folder)
    with FeatureStore() as one, FeatureStore() as two:
        together = analyse(images, clip, one).accepted
        apart = analyse(images, clip, two, single_pass=False).accepted
    columns = ["path", "quality", "face_confidence", "face_box", "identity", "embedding"]
    assert len(together) >= GOOD // 2
    assert together.table.select(columns).equals(apart.table.select(columns))


def test_scores_are_those_of_single_files(folder, clip):
    with FeatureStore() as store:
        found = analyse(ImageSet.from_folder(folder), clip, store)
    assessment = QualityAssessment("miniature", det_size=None)
    accepted = found.accepted
    for path, quality in zip(accepted.paths(), accepted.table["quality"], strict=True):
        assert quality == pytest.approx(assessment.score_quality(path)["quality"], abs=1e-12)
    expected = models(clip)[1].embed_images([read_image(path) for path in accepted.paths()])
    np.testing.assert_allclose(accepted.embeddings(), expected, atol=1e-3)


@pytest.mark.parametrize("moved", [{"minimum": 0.76}, {"minimum": 0.7}, {"minimum": 0.9},
                                   {"confidence": 0.95}, {"confidence": 0.81}])  # fmt: skip
def test_moved_thresholds_measure_nothing(folder, clip, moved):
    images = ImageSet.from_folder(folder)
    with FeatureStore(folder.parent / "features.sqlite") as store:
        analyse(images, clip, store)
    for path in images.paths():
        path.unlink()
    with FeatureStore(folder.parent / "features.sqlite") as store:
        analyse(images, clip, store, **moved)
        assert dict(store.computed) == {}


def test_what_a_lower_threshold_lets_in_is_measured_then(folder, clip):
    images = ImageSet.from_folder(folder)
    with FeatureStore() as store:
        strict = analyse(images, clip, store, minimum=0.97)
        assert strict.rejections()["low_quality"] >= GOOD
        before = dict(store.computed)
        loose = analyse(images, clip, store, minimum=0.0)
        assert store.computed["pixels"] == before["pixels"]
        assert store.computed["faces"] > before.get("faces", 0)
        assert not loose.accepted.table["embedding"].null_count()
        assert len(loose.accepted) > GOOD // 2


class Stopped(Exception):
    pass


class StopAfter:
    """A watcher whose user cancels."""

    def __init__(self, steps):
        self.left = steps

    def start(self, stage, total):
        self.total = total

    def advance(self, n=1, note=""):
        self.left -= n
        if self.left < 0:
            raise Stopped

    def finish(self):
        pass


@pytest.mark.parametrize("steps", [0, 1, 7])
def test_cancelled_and_continued(folder, clip, steps):
    images = ImageSet.from_folder(folder)
    analyser, embedder = models(clip)
    path = folder.parent / "features.sqlite"
    with FeatureStore(path) as store, pytest.raises(Stopped):
        measure(images, analyser, embedder, store, progress=StopAfter(steps))
    first = dict(store.computed)
    assert first.get("pixels", 0) >= steps
    with FeatureStore(path) as store:
        measure(images, analyser, embedder, store)
        second = dict(store.computed)
        resumed = analyse(images, clip, store)
    with FeatureStore() as store:
        whole = analyse(images, clip, store)
        for name in ("pixels", "faces", "identity", "embedding"):
            assert first.get(name, 0) + second.get(name, 0) == store.computed[name]
    assert resumed.table.equals(whole.table)


def test_equal_files_are_measured_once(tmp_path, clip):
    write_images(tmp_path, {f"{i}.png": portrait(0) for i in range(5)})
    with FeatureStore() as store:
        found = analyse(ImageSet.from_folder(tmp_path), clip, store)
        assert store.computed == {"pixels": 1, "faces": 1, "identity": 1, "embedding": 1}
    assert found.table["embedding"].n_unique() == 1
    assert found.table["embedding"].null_count() == 0


def test_a_file_that_vanishes_is_unreadable_and_asked_again(tmp_path, clip):
    write_images(tmp_path, {"a.png": portrait(0), "b.png": portrait(1)})
    images = ImageSet.from_folder(tmp_path)
    data = (tmp_path / "a.png").read_bytes()
    (tmp_path / "a.png").unlink()
    with FeatureStore() as store:
        assert analyse(images, clip, store).table["rejection"].to_list() == ["unreadable", None]
        (tmp_path / "a.png").write_bytes(data)
        assert analyse(images, clip, store).table["rejection"].to_list() == [None, None]


def test_what_fails_by_a_little_is_measured_for_thresholds_that_may_come_down(tmp_path, clip):
    """By no more than the reach of 0.05, in quality and in the face's confidence alike."""
    write_images(tmp_path, {"a.png": portrait(0)})
    images = ImageSet.from_folder(tmp_path)
    with FeatureStore() as store:
        row = analyse(images, clip, store, minimum=0.0, confidence=0.0).table.row(0, named=True)
    analyser, embedder = models(clip)

    def measured(minimum=0.0, confidence=0.0):
        with FeatureStore() as store:
            thresholds = FaceThresholds(confidence=confidence)
            measure(images, analyser, embedder, store, thresholds=thresholds,
                    minimum_quality=minimum)  # fmt: skip
            return set(store.computed)

    everything = {"pixels", "faces", "identity", "embedding"}
    quality, score = row["quality"], row["face_confidence"]
    assert measured(minimum=quality + 0.04) == everything
    assert measured(confidence=score + 0.04) == everything
    assert measured(confidence=score + 0.06) == {"pixels", "faces"}
    ceiling = float(quality_ceiling(row["raw_sharpness"], row["raw_contrast"]))
    assert "faces" in measured(minimum=ceiling + 0.04)
    assert measured(minimum=ceiling + 0.06) == {"pixels"}
