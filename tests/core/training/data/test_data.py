"""What is trained on: reading, buckets and crops, the caches, the settings."""

from __future__ import annotations

import hashlib
import json
import shutil
import sqlite3
import subprocess
import sys
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from character_curator.features import FeatureStore
from character_curator.training import PRESETS, TrainingSettings, as_prior, read_examples
from character_curator.training.data.buckets import Size, bucket_sizes, choose_bucket, crop_to
from character_curator.training.data.cache import (
    LATENTS,
    TEXT,
    EncodedFeatures,
    LostEncodingError,
    read_crop,
)
from character_curator.training.data.examples import (
    NoCaptionsError,
    TooFewImagesError,
    TrainingFolderError,
)
from character_curator.training.data.prepare import prepare
from character_curator.training.settings import SettingsError
from tests.support.tiny_denoiser import TinyDenoiser, draw_image, make_examples

sides = st.integers(40, 3000)


# Reading


def test_reads_captions_faces_and_sizes(tmp_path):
    draw_image(tmp_path / "b.png", 1, (70, 50))
    draw_image(tmp_path / "a.jpg", 2)
    draw_image(tmp_path / "c.png", 3)
    (tmp_path / "a.txt").write_text("char1,\n a hat \n")
    records = {
        "b.png": {"caption": "char1, a scarf", "face_box": [1, 2, 30, 40]},
        "a.jpg": {"caption": "not this"},
    }
    (tmp_path / "metadata.json").write_text(json.dumps(records))
    examples, skipped = read_examples(tmp_path)
    assert [(e.path.name, e.caption) for e in examples] == [
        ("a.jpg", "char1, a hat"),
        ("b.png", "char1, a scarf"),
    ]
    assert examples[1].size == Size(70, 50)
    assert examples[1].face == (1, 2, 30, 40)
    assert examples[1].hash == hashlib.sha256((tmp_path / "b.png").read_bytes()).hexdigest()
    assert [(s.path.name, s.reason) for s in skipped] == [("c.png", "no caption")]
    examples, skipped = read_examples(tmp_path, caption="person", prior=True)
    assert [e.caption for e in examples] == ["char1, a hat", "char1, a scarf", "person"]
    assert all(e.prior for e in examples)
    assert not skipped
    assert as_prior(examples[:1])[0].prior


def test_reads_an_exported_dataset(tmp_path):
    from character_curator.dataset import CuratedDataset, export
    from tests.support.images import make_images

    export(make_images(tmp_path / "pictures"), tmp_path / "dataset", name="char1", trigger="char1")
    examples, skipped = read_examples(tmp_path / "dataset")
    known = CuratedDataset(tmp_path / "dataset").metadata
    assert {e.path.name: (e.caption, e.hash) for e in examples} == {
        name: (values["caption"], values["hash"]) for name, values in known.items()
    }
    assert {e.face for e in examples} == {(10.0, 8.0, 40.0, 42.0)}
    assert not skipped


def test_corrupted_files_are_left_out_with_their_reason(tmp_path):
    examples = make_examples(tmp_path, 4)
    for example in examples:
        example.path.with_suffix(".txt").write_text("char1")
    data = examples[0].path.read_bytes()
    examples[0].path.write_bytes(data[: len(data) // 2])
    examples[1].path.write_bytes(b"")
    found, skipped = read_examples(tmp_path)
    assert [e.path for e in found] == [e.path for e in examples[2:]]
    assert [s.reason for s in skipped] == ["the file is truncated", "the file is empty (0 bytes)"]


def test_no_captions_is_an_error_of_its_own(tmp_path):
    make_examples(tmp_path, 2)
    with pytest.raises(NoCaptionsError, match=r"IMAGE\.txt"):
        read_examples(tmp_path)


def test_no_images_and_no_folder(tmp_path):
    with pytest.raises(TooFewImagesError):
        read_examples(tmp_path)
    with pytest.raises(TrainingFolderError, match="cannot be read"):
        read_examples(tmp_path / "absent")


# Buckets and crops


def test_buckets_of_512():
    sizes = bucket_sizes(512)
    assert {Size(512, 512), Size(448, 576), Size(576, 448), Size(384, 640)} <= {*sizes}
    assert all(s.width * s.height <= 512 * 512 for s in sizes)
    assert all(s.width % 64 == s.height % 64 == 0 for s in sizes)
    assert all(0.5 <= s.aspect <= 2 for s in sizes)


@given(sides, sides, st.sampled_from([128, 512, 768, 1024]), st.booleans())
def test_bucket_is_never_enlarged_without_leave(width, height, resolution, upscale):
    size = Size(width, height)
    bucket = choose_bucket(size, resolution, 64, upscale=upscale)
    assert bucket.width % 64 == bucket.height % 64 == 0
    assert bucket.width * bucket.height <= resolution**2
    if upscale:
        nearest = min(abs(np.log(b.aspect / size.aspect)) for b in bucket_sizes(resolution))
        assert abs(np.log(bucket.aspect / size.aspect)) == pytest.approx(nearest)
    elif min(width, height) >= 64:
        assert bucket.width <= width
        assert bucket.height <= height


@pytest.mark.parametrize(
    ("size", "bucket"),
    [
        # 512x512 and 576x448 are equally far from 1.1339 to 1, the root of their aspects' product.
        (Size(1133, 1000), Size(512, 512)),
        (Size(1138, 1000), Size(576, 448)),
        (Size(1000, 1133), Size(512, 512)),
        (Size(1000, 1138), Size(448, 576)),
    ],
)
def test_upright_and_lying_images_change_buckets_at_the_same_ratio(size, bucket):
    assert choose_bucket(size, 512) == bucket


@settings(max_examples=50)
@given(sides, sides, st.tuples(*[st.floats(0, 1) for _ in range(4)]), st.booleans())
def test_crop_covers_its_bucket_and_keeps_a_face_that_fits(width, height, edges, aware):
    size = Size(width, height)
    x0, x1 = sorted(e * width for e in edges[:2])
    y0, y1 = sorted(e * height for e in edges[2:])
    bucket = choose_bucket(size, 512)
    crop = crop_to(size, bucket, (x0, y0, x1, y1) if aware else None)
    left, top, right, bottom = crop.box
    assert 0 <= left < right <= width
    assert 0 <= top < bottom <= height
    assert (right - left) / (bottom - top) == pytest.approx(bucket.aspect)
    assert right - left == pytest.approx(width) or bottom - top == pytest.approx(height)
    if not aware:
        assert left == pytest.approx(width - right, abs=1e-6)
        assert top == pytest.approx(height - bottom, abs=1e-6)
        return
    for low, high, first, last in ((left, right, x0, x1), (top, bottom, y0, y1)):
        if last - first <= high - low:
            assert low <= first + 1e-6
            assert high >= last - 1e-6


def test_box_in_the_crop():
    crop = crop_to(Size(400, 200), Size(64, 64), (300, 50, 400, 150))
    assert crop.box == (200, 0, 400, 200)
    assert crop.place((300, 50, 400, 150)) == (32, 16, 64, 48)
    assert crop.place((100, 50, 250, 150)) == (0, 16, 16, 48)
    assert crop.place((0, 0, 200, 200)) is None


def test_crop_of_pixels(tmp_path):
    example = make_examples(tmp_path, 1, ((128, 64),))[0]
    pixels = np.asarray(Image.open(example.path)).astype(float) / 127.5 - 1
    settings = TrainingSettings(resolution=64, crop="centre")
    crop = crop_to(example.size, Size(64, 64))
    read = read_crop(example, crop)
    assert read.shape == (1, 3, 64, 64)
    np.testing.assert_allclose(read[0].permute(1, 2, 0), pixels[:, 32:96], atol=1e-6)
    assert example.crop(settings) != example.crop(TrainingSettings(resolution=128))


# Caches


def encode(examples, denoiser, path, settings):
    items = [(example, example.crop(settings)) for example in examples]
    with FeatureStore(path) as store:
        features = EncodedFeatures(denoiser, store)
        features.add_images(items)
        features.add_captions([example.caption for example in examples])
        computed = (store.computed[LATENTS], store.computed[TEXT])
        return computed, features.latents(items[:2]), features.text(["char1, image 1"])


def test_everything_is_encoded_once(tmp_path):
    examples = make_examples(tmp_path / "p", 4)
    settings = TrainingSettings(resolution=64)
    path = tmp_path / "features.sqlite"
    first, latents, text = encode(examples, TinyDenoiser(), path, settings)
    assert first == (4, 4)
    second, again, text_again = encode(examples, TinyDenoiser(), path, settings)
    assert second == (0, 0)
    assert torch.equal(latents, again)
    assert torch.equal(text["hidden"], text_again["hidden"])
    direct = TinyDenoiser()
    with torch.no_grad():
        crops = [read_crop(e, e.crop(settings)) for e in examples[:2]]
        assert torch.equal(latents, torch.cat([direct.encode_pixels(c, None) for c in crops]))
        assert torch.equal(text["hidden"], direct.encode_text(["char1, image 1"])["hidden"])


def test_what_changes_is_encoded_anew_and_nothing_else(tmp_path):
    examples = make_examples(tmp_path / "p", 4, ((128, 96),))
    settings = TrainingSettings(resolution=64)
    path = tmp_path / "features.sqlite"

    def computed(examples=examples, seed=0, settings=settings):
        return encode(examples, TinyDenoiser(seed=seed), path, settings)[0]

    assert computed() == (4, 4)
    moved = [tmp_path / "elsewhere" / e.path.name for e in examples]
    shutil.copytree(tmp_path / "p", tmp_path / "elsewhere")
    renamed = [replace(e, path=p) for e, p in zip(examples, moved, strict=True)]
    assert computed(renamed) == (0, 0)
    assert computed([replace(e, caption=e.caption + "!") for e in examples[:1]] + examples) == (
        0,
        1,
    )
    assert computed(settings=settings.replace(crop="centre")) == (4, 0)
    assert computed(settings=settings.replace(resolution=128)) == (4, 0)
    assert computed(seed=1) == (4, 4)
    draw_image(examples[0].path, 77, (128, 96))
    changed = replace(examples[0], hash=hashlib.sha256(examples[0].path.read_bytes()).hexdigest())
    assert computed([changed, *examples[1:]]) == (1, 0)


def test_damaged_values_are_encoded_anew(tmp_path):
    examples = make_examples(tmp_path / "p", 2)
    settings = TrainingSettings(resolution=64)
    path = tmp_path / "features.sqlite"
    encode(examples, TinyDenoiser(), path, settings)
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE feature SET value = X'00010203' WHERE analyser = ?", (LATENTS,))
    computed, _, _ = encode(examples, TinyDenoiser(), path, settings)
    assert computed == (2, 0)


def test_memory_is_bounded(tmp_path):
    examples = make_examples(tmp_path / "p", 6)
    settings = TrainingSettings(resolution=64)
    items = [(example, example.crop(settings)) for example in examples]
    one = 4 * 8 * 8 * 4
    features = EncodedFeatures(TinyDenoiser(), FeatureStore(), memory=3 * one)
    features.add_images(items)
    whole = features.latents(items)
    for i, item in enumerate(items):
        assert torch.equal(features.latents([item])[0], whole[i])
        assert features._bytes <= 3 * one


def test_what_was_used_last_is_held_longest(tmp_path):
    items = [
        (example, example.crop(TrainingSettings(resolution=64)))
        for example in make_examples(tmp_path / "p", 3)
    ]
    path = tmp_path / "features.sqlite"
    features = EncodedFeatures(TinyDenoiser(), FeatureStore(path), memory=2 * 4 * 8 * 8 * 4)
    features.add_images(items)
    for used in (0, 1, 0, 2):
        features.latents([items[used]])
    with sqlite3.connect(path) as connection:
        connection.execute("DELETE FROM feature")
    features.latents([items[0], items[2]])
    with pytest.raises(LostEncodingError, match="lost an encoded image"):
        features.latents([items[1]])


def prepared(examples, **options):
    settings = TrainingSettings(resolution=64, validation_share=0.25)
    features = EncodedFeatures(TinyDenoiser(), FeatureStore())
    return prepare(TinyDenoiser(), examples, settings, features, **options)


def test_prior_images_are_never_validated_with(tmp_path):
    prior = make_examples(tmp_path / "prior", 12, prior=True)
    data = prepared([*make_examples(tmp_path / "own", 4), *prior])
    assert [example.prior for example, _ in data.validation] == [False]
    assert sum(example.prior for example, _ in data.items) == 12


def test_an_example_is_shown_as_often_as_its_folder_says(tmp_path):
    examples = [
        replace(example, repeats=times)
        for example, times in zip(make_examples(tmp_path / "own", 4), (1, 2, 3, 4), strict=True)
    ]
    data = prepared(examples)
    settings = TrainingSettings(resolution=64, validation_share=0.25, repeats=2)
    shown = Counter(i for step in data.steps(1, settings) for batch in step for i in batch)
    assert shown == {i: 2 * e.repeats for i, (e, _) in enumerate(data.items)}


def test_what_has_the_bytes_of_a_validation_image_is_not_trained_on(tmp_path):
    examples = make_examples(tmp_path / "own", 6)
    shutil.copytree(tmp_path / "own", tmp_path / "elsewhere")
    copies = [replace(e, path=tmp_path / "elsewhere" / e.path.name) for e in examples[:2]]
    data = prepared(examples, validation=copies)
    assert [example.path for example, _ in data.validation] == [e.path for e in copies]
    assert [example.path for example, _ in data.items] == [e.path for e in examples[2:]]


def test_a_value_that_was_never_added_is_named():
    with pytest.raises(LostEncodingError, match="lost an encoded image or caption"):
        EncodedFeatures(TinyDenoiser(), FeatureStore()).text(["unknown"])


# Settings


def test_the_published_recipe():
    preset = PRESETS["seed-document"]
    adapters = preset.adapters()
    assert (adapters.rank, adapters.alpha, adapters.dropout) == (8, 8.0, 0.05)
    assert adapters.layers == ("to_q", "to_v")
    assert (preset.learning_rate, preset.epochs, preset.optimizer) == (1e-4, 100, "adamw")


def test_settings_survive_json():
    settings = TrainingSettings.from_mapping({"rank": 4, "patience": 3, "targets": ["to_q"]})
    again = TrainingSettings.from_mapping(json.loads(json.dumps(settings.to_mapping())))
    assert again == settings
    assert (again.rank, again.targets) == (4, ("to_q",))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"rank": 0}, "rank is 0"),
        ({"epochs": 2.5}, "epochs is 2.5: give a whole number"),
        ({"learning_rate": float("nan")}, "learning_rate"),
        ({"learning_rate": 0}, "learning_rate"),
        ({"optimizer": "sgd"}, "adamw, adamw8bit, prodigy"),
        ({"validation_share": 1.0}, "validation_share"),
        ({"betas": (0.9, 1.0)}, "betas"),
        ({"targets": ()}, "targets"),
        ({"batch_size": "2"}, "batch_size is '2'"),
        ({"lr": 1e-3}, "No training option 'lr'"),
        ({"adapter": "lycoris"}, "lora, lokr, loha"),
        ({"adapter": "lokr", "dora": True}, "dora is of LoRA alone"),
        ({"adapter": "loha", "rslora": True}, "rslora is of LoRA alone"),
    ],
    ids=lambda value: str(value)[:24],
)
def test_senseless_settings_are_named(values, message):
    with pytest.raises(SettingsError, match=message):
        TrainingSettings.from_mapping(values)


def test_unknown_preset():
    with pytest.raises(SettingsError, match="seed-document"):
        TrainingSettings.from_mapping({}, "nothing")


def test_importing_settings_does_not_import_torch():
    code = (
        "import sys, character_curator.training as t; t.TrainingSettings; t.read_examples;"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
