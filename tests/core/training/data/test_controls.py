"""Control images: found by their names, cut like their images, encoded with their captions."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import pytest
import torch

from character_curator.features import FeatureStore
from character_curator.training import TrainingSettings, read_examples
from character_curator.training.data.buckets import Size
from character_curator.training.data.cache import EncodedFeatures, read_crop
from character_curator.training.data.controls import ControlImagesError, control_paths
from character_curator.training.data.images import read_images
from character_curator.training.data.prepare import prepare
from character_curator.training.job import LoraJob
from character_curator.training.settings import SettingsError
from tests.support.tiny_denoiser import TinyDenoiser, draw_image, make_dataset
from tests.support.training_runs import assert_same, run
from tests.support.watchers import CancelAfter, Cancelled

SETTINGS = TrainingSettings(
    resolution=64, bucket_step=16, batch_size=2, epochs=3, validation_share=0.3,
    caption_dropout=0.5, save_every=1,
)  # fmt: skip


@pytest.fixture
def dataset(tmp_path):
    return make_dataset(tmp_path / "images", 4)


@pytest.fixture
def controls(tmp_path):
    folder = tmp_path / "controls"
    folder.mkdir()
    for number in range(3):
        draw_image(folder / f"p{number}.jpg", 40 + number, (96, 64) if number == 0 else (64, 128))
    draw_image(folder / "p1_1.png", 50)
    return folder


def test_a_folder_of_control_images_is_matched_by_name(dataset, controls):
    examples, skipped = read_examples(dataset, controls=controls)
    names = {e.path.name: [c.path.name for c in e.controls] for e in examples}
    assert names == {"p0.png": ["p0.jpg"], "p1.png": ["p1.jpg", "p1_1.png"], "p2.png": ["p2.jpg"]}
    assert [(s.path.name, s.reason) for s in skipped] == [("p3.png", "no control image")]
    first = examples[0].controls[0]
    assert first.size == Size(96, 64)
    assert first.hash == hashlib.sha256((controls / "p0.jpg").read_bytes()).hexdigest()


def test_pairs_in_one_folder_are_no_images_of_their_own(dataset):
    for number in (0, 1, 2, 3):
        draw_image(dataset / f"p{number}_control.png", 60 + number)
        (dataset / f"p{number}_control.txt").write_text("a control image")
    draw_image(dataset / "p2_control_1.png", 70)
    examples, skipped = read_examples(dataset, controls=dataset)
    assert {e.path.name: [c.path.name for c in e.controls] for e in examples} == {
        "p0.png": ["p0_control.png"],
        "p1.png": ["p1_control.png"],
        "p2.png": ["p2_control.png", "p2_control_1.png"],
        "p3.png": ["p3_control.png"],
    }
    assert not skipped
    assert len(read_examples(dataset)[0]) == 8, "without the option nothing is a control image"


def test_pairs_beside_images_to_validate_with_are_found(dataset, tmp_path):
    other = make_dataset(tmp_path / "other", 1)
    for folder in (dataset, other):
        draw_image(folder / "p0_control.png", 60)
    job = LoraJob(dataset, tmp_path / "a.safetensors", validation=other, control_images=dataset)
    images = read_images(job)
    assert images.validation is not None
    assert [e.controls[0].path.parent for e in images.validation] == [other]


def test_a_damaged_control_image_is_said(dataset, controls):
    (controls / "p2.jpg").write_bytes(b"no image")
    examples, skipped = read_examples(dataset, controls=controls)
    assert len(examples) == 2
    assert any(s.path.name == "p2.png" and "p2.jpg" in s.reason for s in skipped)


def test_no_control_image_at_all_is_an_error(dataset, tmp_path):
    with pytest.raises(ControlImagesError, match="NAME_control"):
        read_examples(dataset, controls=dataset)
    with pytest.raises(ControlImagesError, match="cannot be read"):
        read_examples(dataset, controls=tmp_path / "nowhere")


def test_images_in_folders_have_theirs_in_folders_of_the_same_names(tmp_path):
    images = tmp_path / "images"
    for name in ("3_char1/a.png", "3_char1/b.png", "c.png"):
        (images / name).parent.mkdir(parents=True, exist_ok=True)
        draw_image(images / name, 1)
    controls = images / "controls"  # below the images, and no images of their own
    for name in ("3_char1/a.png", "b.png", "c_control.png"):
        (controls / name).parent.mkdir(parents=True, exist_ok=True)
        draw_image(controls / name, 2)
    examples, skipped = read_examples(images, caption="char1", controls=controls)
    shown = {e.path.name: e.controls[0].path.relative_to(controls).as_posix() for e in examples}
    assert shown == {"a.png": "3_char1/a.png", "b.png": "b.png", "c.png": "c_control.png"}
    assert not skipped


def test_names_that_go_on_are_other_names(tmp_path):
    for name in ("p1.png", "p10.png", "p1_control2.png"):
        draw_image(tmp_path / name, 1)
    images = [tmp_path / "p1.png"]
    assert control_paths(images, tmp_path, tmp_path) == {}


def test_one_of_the_same_size_is_cut_alike_and_another_keeps_its_shape(dataset, controls):
    examples, _ = read_examples(dataset, controls=controls)
    low = replace(examples[0], face=(10.0, 50.0, 30.0, 64.0))
    first, second = low.crop(SETTINGS), examples[1].crop(SETTINGS)
    assert first.box[3] == 64
    assert (first.controls[0].box, first.controls[0].size) == (first.box, first.size)
    tall = second.controls[0].size
    assert tall.height > 1.5 * tall.width
    assert tall.width * tall.height <= 64 * 64


def test_a_caption_is_encoded_with_its_control_images_once(dataset, controls, tmp_path):
    examples, _ = read_examples(dataset, controls=controls)
    denoiser = TinyDenoiser()
    with FeatureStore(tmp_path / "features.sqlite") as store:
        data = prepare(denoiser, examples, SETTINGS, EncodedFeatures(denoiser, store))
        item = data.items[0]
        example, crop = item
        shown = [read_crop(c, p) for c, p in zip(example.controls, crop.controls, strict=True)]
        for words in (example.caption, ""):
            found = data.text([words], [item])["hidden"]
            with torch.no_grad():
                assert torch.equal(found, denoiser.encode_edit(words, shown)["hidden"])
                assert not torch.equal(found, denoiser.encode_text([words])["hidden"])
        again = TinyDenoiser()
        prepare(again, examples, SETTINGS, EncodedFeatures(again, store))
    assert again.calls["pixels"] == again.calls["text"] == 0


def test_control_images_change_what_is_learned_and_a_run_goes_on_with_them(
    dataset, controls, tmp_path
):
    examples, _ = read_examples(dataset, controls=controls)
    plain, _ = run(read_examples(dataset)[0][:3], tmp_path / "plain", SETTINGS)
    whole, _ = run(examples, tmp_path / "whole", SETTINGS)
    assert_same(plain.last, whole.last, same=False)
    with pytest.raises(Cancelled):
        run(examples, tmp_path / "cut", SETTINGS, progress=CancelAfter(2, "Training"))
    resumed, _ = run(examples, tmp_path / "cut", SETTINGS)
    assert_same(whole.last, resumed.last)


def test_a_run_does_not_go_on_with_other_control_images(dataset, controls, tmp_path):
    from character_curator.training.loop.state import StateMismatchError

    run(read_examples(dataset, controls=controls)[0], tmp_path / "run", SETTINGS)
    draw_image(controls / "p2.jpg", 99)
    with pytest.raises(StateMismatchError, match="pictures"):
        run(
            read_examples(dataset, controls=controls)[0],
            tmp_path / "run",
            SETTINGS.replace(epochs=4),
        )


def test_text_encoders_are_not_trained_with_control_images(dataset, controls):
    examples, _ = read_examples(dataset, controls=controls)
    denoiser = TinyDenoiser()
    with pytest.raises(SettingsError, match="train_text_encoder"):
        prepare(
            denoiser,
            examples,
            SETTINGS.replace(train_text_encoder=True),
            EncodedFeatures(denoiser, FeatureStore()),
        )
