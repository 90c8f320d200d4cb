"""Photographs for the embedded models are said before anything is measured."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np
import polars as pl
import pytest

from character_curator import pipeline, project
from character_curator.analysis.clusters import cluster
from character_curator.analysis.familiarity import is_photographic, unfamiliar
from character_curator.imageset import ImageSet, vector_column
from tests.support.tiny_analysis import portrait, write_images


def photographs():
    from sklearn.datasets import load_sample_images

    found = [image[..., ::-1] for image in load_sample_images().images]
    place = find_spec("skimage")
    names = ("astronaut.png", "chelsea.png", "camera.png", "rocket.jpg") if place else ()
    files = [Path(place.origin).parent / "data" / name for name in names]
    return found + [cv2.imread(str(path)) for path in files if path.is_file()]


def drawings(count=12):
    framings = ("close-up", "bust", "half body")
    return [portrait(n, n, framing=framings[n % 3]) for n in range(count)]


@pytest.fixture
def photo_folder(tmp_path):
    images = {f"{n}.png": np.ascontiguousarray(i) for n, i in enumerate(photographs())}
    return write_images(tmp_path / "photos", images)


def test_most_photographs_and_few_drawings_look_like_photographs():
    assert sum(map(is_photographic, photographs())) >= len(photographs()) * 0.6
    assert sum(map(is_photographic, drawings(40))) <= 8


@pytest.mark.parametrize(
    ("pack", "clip", "options"),
    [
        ("miniature", "miniature", "--faces buffalo_l --clip ViT-B-32:laion2b_s34b_b79k"),
        ("miniature", "ViT-B-32", "--faces buffalo_l"),
        ("/models/pack", "miniature", "--clip ViT-B-32:laion2b_s34b_b79k"),
    ],
)
def test_it_is_said_with_the_command_that_helps(photo_folder, pack, clip, options):
    text = unfamiliar(ImageSet.from_folder(photo_folder), pack, clip)
    assert text.endswith(f"curate ... {options}")
    assert "photographs" in text
    assert ("identity" in text) == (pack == "miniature"), "only what is not known is doubted"
    assert ("clusters" in text) == (clip == "miniature")
    plain = unfamiliar(ImageSet.from_folder(photo_folder), pack, clip, as_command=False)
    assert "curate" not in plain
    assert "real models: " in plain


def test_real_models_and_drawings_and_generated_images_are_no_matter(photo_folder, tmp_path):
    images = ImageSet.from_folder(photo_folder)
    assert unfamiliar(images, "buffalo_l", "ViT-B-32") == ""
    made = images.with_columns(pl.lit("scenario").alias("kind"))
    assert unfamiliar(made, "miniature", "miniature") == ""
    drawn = write_images(tmp_path / "b", {f"{n}.png": i for n, i in enumerate(drawings())})
    assert unfamiliar(ImageSet.from_folder(drawn), "miniature", "miniature") == ""


class Blind:
    """The embedded CLIP, of which nothing but its name counts here: it sees something in all."""

    model = "miniature"

    def embed_texts(self, texts):
        return np.random.default_rng(1).normal(size=(len(texts), 12)).astype(np.float32)


def test_clusters_of_photographs_are_named_by_the_face_alone(photo_folder):
    images = ImageSet.from_folder(photo_folder)
    poses = ["frontal", "profile"] * len(images)
    images = images.with_columns(pl.Series("pose", poses[: len(images)]))
    rng = np.random.default_rng(0)
    images = images.with_columns(vector_column("embedding", rng.normal(size=(len(images), 12))))
    drawn = images.with_columns(pl.lit("scenario").alias("kind"))
    named, others = (
        cluster(some, 3, embedder=Blind()).table["cluster_name"] for some in (images, drawn)
    )
    words = {word for name in named for word in name.split(", ")}
    assert {word.rstrip(" 23") for word in words} <= {"frontal", "profile"}
    assert set(others) != set(named)


def test_a_run_says_it_before_it_measures(photo_folder, tmp_path):
    text = f'source = "{photo_folder.as_posix()}"\n[project]\noutput = "out"\n'
    told = []

    class MeasuringError(Exception):
        pass

    class Watch:
        def start(self, stage, total):
            if stage.startswith("Measuring"):
                raise MeasuringError

        def advance(self, n=1, note=""):
            pass

        def finish(self):
            pass

    with pytest.raises(MeasuringError):
        pipeline.run(project.parse(text), tmp_path, on_notes=told.extend, progress=Watch())
    assert any("seem to be photographs" in note for note in told)
