"""Masks: found where trainers keep them, cut like their images, and what they do to the loss."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from character_curator.features import FeatureStore
from character_curator.hashing import content_hash
from character_curator.training import TrainingSettings, read_examples
from character_curator.training.data.cache import EncodedFeatures
from character_curator.training.data.examples import TooFewImagesError
from character_curator.training.data.images import read_images
from character_curator.training.data.masks import Mask, MasksError, MaskWeights
from character_curator.training.data.prepare import prepare
from character_curator.training.finished import course_key
from character_curator.training.job import LoraJob
from character_curator.training.loop.gradients import add_gradients
from character_curator.training.loop.state import StateMismatchError
from tests.support.tiny_denoiser import TinyDenoiser, make_dataset, make_examples
from tests.support.training_runs import run
from tests.support.watchers import CancelAfter, Cancelled

SETTINGS = TrainingSettings(
    resolution=64, bucket_step=16, batch_size=2, epochs=3, validation_share=0, save_every=1,
)  # fmt: skip


def write_mask(path, size=(64, 64), left=True):
    """White on one half."""
    values = np.zeros((size[1], size[0]), np.uint8)
    half = size[0] // 2
    values[:, slice(None, half) if left else slice(half, None)] = 255
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(values).save(path)
    return path


@pytest.fixture
def dataset(tmp_path):
    return make_dataset(tmp_path / "images", 4)


@pytest.mark.parametrize("name", ["{}-masklabel.png", "masks/{}.png", "_controls/{}.png"])
def test_masks_are_found_where_trainers_keep_them_and_are_no_images(dataset, name):
    for i in range(4):
        write_mask(dataset / name.format(f"p{i}"), (64, 64) if i % 2 else (96, 64))
    notes = []
    examples, skipped = read_examples(dataset, masks="beside", notes=notes)
    assert [e.path.name for e in examples] == ["p0.png", "p1.png", "p2.png", "p3.png"]
    assert [e.mask.path for e in examples] == [dataset / name.format(f"p{i}") for i in range(4)]
    assert skipped == []
    assert "Masks weigh the loss of 4 of 4 images." in notes
    silent, told = read_examples(dataset, notes=notes), notes[-1]
    assert all(example.mask is None for example in silent[0])
    assert told.startswith("4 masks lie beside the images and do not weigh the loss")


def test_a_folder_of_masks_and_transparent_images(dataset, tmp_path):
    masks = tmp_path / "elsewhere"
    write_mask(masks / "p1.png")
    notes = []
    examples, _ = read_examples(dataset, masks=masks, notes=notes)
    assert [e.mask and e.mask.path for e in examples] == [None, masks / "p1.png", None, None]
    assert notes[-1] == ("Masks weigh the loss of 1 of 4 images; 3 have none and count as a whole.")
    with Image.open(dataset / "p2.png") as image:
        clear = image.convert("RGBA")
    clear.putalpha(Image.open(write_mask(tmp_path / "a.png", (96, 64))))
    clear.save(dataset / "p2.png")
    examples, _ = read_examples(dataset, masks="beside")
    assert [e.mask and e.mask.alpha for e in examples] == [None, None, True, None]
    assert np.asarray(examples[2].mask.read())[0, [0, 95]].tolist() == [255, 0]


def test_masks_that_cannot_be_used_leave_their_image_out(dataset):
    write_mask(dataset / "p0-masklabel.png", (64, 96))
    Image.new("L", (64, 64)).save(dataset / "p1-masklabel.png")
    (dataset / "p2-masklabel.png").write_bytes(b"no image")
    write_mask(dataset / "p3-masklabel.png", (128, 128))
    examples, skipped = read_examples(dataset, masks="beside")
    assert [e.path.name for e in examples] == ["p3.png"]
    reasons = {s.path.name: s.reason for s in skipped}
    assert "another shape" in reasons["p0.png"]
    assert "black all over" in reasons["p1.png"]
    assert "can't be read" in reasons["p2.png"]


def test_without_any_mask_the_training_is_refused(dataset, tmp_path):
    with pytest.raises(MasksError, match="No image"):
        read_examples(dataset, masks="beside")
    with pytest.raises(MasksError, match="no folder of masks"):
        read_examples(dataset, masks=tmp_path / "none")
    Image.new("L", (64, 64)).save(dataset / "p1-masklabel.png")
    with pytest.raises((MasksError, TooFewImagesError), match="black all over"):
        read_examples(dataset, masks="beside")
    job = LoraJob(dataset, tmp_path / "a.safetensors", masks=tmp_path / "none")
    with pytest.raises(MasksError):
        read_images(job)


def masked_examples(folder, count=2, size=(64, 64), left=True):
    examples = make_examples(folder, count, (size,))
    found = []
    for example in examples:
        path = write_mask(folder / f"m{left}" / example.path.name, size, left)
        found.append(replace(example, mask=Mask(path, content_hash(path))))
    return found


@pytest.mark.parametrize("crop", ["centre", "face"])
def test_a_mask_is_cut_like_its_image_and_averaged_over_latent_cells(tmp_path, crop):
    size = (112, 64)
    example = replace(make_examples(tmp_path / "i", 1, (size,))[0], face=(70.0, 8.0, 110.0, 60.0))
    rng = np.random.default_rng(0)
    values = rng.integers(0, 256, (64, 112), dtype=np.uint8)
    path = tmp_path / "mask.png"
    Image.fromarray(values).save(path)
    example = replace(example, mask=Mask(path, content_hash(path)))
    settings = SETTINGS.replace(crop=crop, resolution=48)
    cut = example.crop(settings)
    left, top, right, bottom = cut.box
    # Independently: every pixel of the crop once more, then the mean of each 8 x 8 block.
    part = Image.fromarray(values).resize((cut.size.width, cut.size.height),
                                          Image.Resampling.BILINEAR, box=cut.box)  # fmt: skip
    blocks = np.asarray(part, float).reshape(cut.size.height // 8, 8, cut.size.width // 8, 8)
    expected = blocks.mean((1, 3)) / 255
    latent = (cut.size.height // 8, cut.size.width // 8)
    found = MaskWeights()([(example, cut)], latent)
    assert found.shape == (1, 1, *latent)
    assert np.abs(found[0, 0].numpy() - expected).max() < 1e-5
    # What lies at an edge of the image's part lies at that edge of the mask's.
    shade = np.zeros((64, 112), np.uint8)
    shade[:, : round((left + right) / 2)] = 255
    Image.fromarray(shade).save(path)
    example = replace(example, mask=Mask(path, content_hash(path)))
    half = MaskWeights()([(example, cut)], latent)[0, 0]
    assert half[:, 0].min() > 0.99
    assert half[:, -1].max() < 0.01
    assert top >= 0
    assert bottom <= 64


class Watched(TinyDenoiser):
    """Keeps what it predicted, with the gradient of the loss by it."""

    def predict(self, *arguments):
        self.predicted = super().predict(*arguments)
        if self.predicted.requires_grad:
            self.predicted.retain_grad()
        return self.predicted


def gradient(examples, **changes):
    """The gradient of a step's loss by the prediction, and by the first layer's weights."""
    settings = SETTINGS.replace(**changes)
    denoiser = Watched()
    denoiser.network.eval()
    data = prepare(denoiser, examples, settings, EncodedFeatures(denoiser, FeatureStore()))
    batch = tuple(range(len(data.items)))
    add_gradients(denoiser, data, [batch], settings, denoiser.device, (1, 0))
    by_weights = {name: p.grad.clone() for name, p in denoiser.network.named_parameters()}
    return denoiser.predicted.grad.abs(), by_weights


@pytest.mark.parametrize("changes", [{}, {"face_weight": 3.0}, {"loss": "huber"}])
def test_outside_of_the_mask_the_gradient_is_zero_where_the_weight_is(tmp_path, changes):
    examples = masked_examples(tmp_path / "i")
    found, _ = gradient(examples, unmasked_weight=0.0, **changes)
    assert found[..., 4:].max() == 0
    assert found[..., :4].min() > 0
    softer, _ = gradient(examples, unmasked_weight=0.25, **changes)
    assert softer[..., 4:].min() > 0
    if not changes:
        plain, _ = gradient([replace(e, mask=None) for e in examples])
        # Inside over outside is as the weights say, and their mean is 1.
        assert torch.allclose(softer[..., :4] / plain[..., :4], torch.tensor(1.6), rtol=1e-4)
        assert torch.allclose(softer[..., 4:] / plain[..., 4:], torch.tensor(0.4), rtol=1e-4)


def test_a_weight_of_one_leaves_masks_without_effect(tmp_path):
    examples = masked_examples(tmp_path / "i")
    _, masked = gradient(examples, unmasked_weight=1.0)
    _, plain = gradient([replace(e, mask=None) for e in examples])
    for name, value in plain.items():
        assert torch.allclose(masked[name], value, rtol=1e-5, atol=1e-8)


def test_an_image_without_a_mask_counts_as_a_whole_beside_one_with(tmp_path):
    first, second = masked_examples(tmp_path / "i")
    found, _ = gradient([first, replace(second, mask=None)], unmasked_weight=0.0)
    rows = sorted(found[..., 4:].flatten(1).max(1).values.tolist())
    assert rows[0] == 0
    assert rows[1] > 0


def test_what_a_mask_hides_in_a_crop_teaches_nothing(tmp_path):
    example = masked_examples(tmp_path / "i", 1, (64, 64))[0]
    Image.new("L", (64, 64)).save(example.mask.path)
    example = replace(example, mask=Mask(example.mask.path, content_hash(example.mask.path)))
    found, _ = gradient([example], unmasked_weight=0.0)
    assert torch.isfinite(found).all()
    assert found.max() == 0


def test_a_run_does_not_go_on_with_other_masks(tmp_path):
    left = masked_examples(tmp_path / "i", 4)
    right = masked_examples(tmp_path / "i", 4, left=False)
    assert course_key("m", left, SETTINGS) != course_key("m", right, SETTINGS)
    plain = [replace(example, mask=None) for example in left]
    assert len({course_key("m", e, SETTINGS) for e in (left, right, plain)}) == 3
    with pytest.raises(Cancelled):
        run(left, tmp_path / "run", SETTINGS, progress=CancelAfter(2, "Training"))
    with pytest.raises(StateMismatchError, match="pictures"):
        run(right, tmp_path / "run", SETTINGS)
