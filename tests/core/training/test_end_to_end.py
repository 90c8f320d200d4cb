"""Real diffusers models, tiny, from images to trained adapters."""

from __future__ import annotations

import pytest
import torch

from character_curator.lora.adapters import inject
from character_curator.training import Callbacks, TrainingSettings, train
from character_curator.training.denoisers.load import load, of_pipeline
from tests.support.tiny_denoiser import make_examples
from tests.support.tiny_models import save_flux, save_sd15, save_sdxl

SETTINGS = TrainingSettings(
    rank=4,
    alpha=4.0,
    dropout=0.1,
    epochs=2,
    batch_size=2,
    accumulation=2,
    learning_rate=2e-3,
    resolution=64,
    bucket_step=16,
    min_snr_gamma=5.0,
    face_weight=2.0,
    caption_dropout=0.1,
    validation_share=0.3,
    validation_timesteps=2,
)
SIZES = ((64, 64), (96, 64))


class Cancelled(Exception):
    pass


@pytest.fixture(scope="module")
def sd15(tmp_path_factory):
    return save_sd15(tmp_path_factory.mktemp("sd15"))


def run(model, folder, settings=SETTINGS, whole=False, **options):
    denoiser = load(model, device="cpu")
    if whole:  # a pipeline from elsewhere keeps all its parts
        denoiser = of_pipeline(denoiser.pipeline, denoiser.identity)
    modules = {"denoiser": denoiser.module(), **denoiser.text_modules()}
    adapters = inject(modules, settings.adapters(), seed=settings.seed)
    examples = make_examples(folder.parent / "pictures", 7, SIZES)
    before = adapters.state_dict()
    result = train(denoiser, adapters.named_parameters(), examples, settings, folder, **options)
    return result, adapters, before


def test_killed_run_ends_in_the_same_weights(sd15, tmp_path):
    whole, adapters, before = run(sd15, tmp_path / "whole")

    def stop(report):
        if report.step == 2:
            raise Cancelled

    with pytest.raises(Cancelled):
        run(sd15, tmp_path / "cut", callbacks=Callbacks(on_step=stop))
    resumed, again, _ = run(sd15, tmp_path / "cut")
    trained, same = adapters.state_dict(), again.state_dict()
    assert all(torch.equal(trained[name], same[name]) for name in trained)
    assert resumed.history["loss"].equals(whole.history["loss"])
    assert all(not torch.equal(trained[name], before[name]) for name in trained)
    losses = whole.history["validation_loss"]
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("text", [False, True])
def test_steps_are_taken_without_what_only_encodes(sd15, tmp_path, text):
    settings = SETTINGS.replace(train_text_encoder=text)
    expected = {"unet", "text_encoder"} if text else {"unet"}
    denoiser = load(sd15, device="cpu")
    modules = {"denoiser": denoiser.module(), **denoiser.text_modules()}
    adapters = inject(modules, settings.adapters(), seed=settings.seed)
    examples = make_examples(tmp_path / "pictures", 7, SIZES)
    held = []

    def look(_):
        parts = denoiser._pipeline.components
        held.append({name for name in ("unet", "vae", "text_encoder")
                     if not any(p.is_meta for p in parts[name].parameters())})  # fmt: skip

    train(
        denoiser, adapters.named_parameters(), examples, settings, tmp_path / "run",
        callbacks=Callbacks(on_step=look),
    )  # fmt: skip
    assert held
    assert all(names == expected for names in held)
    _, same, _ = run(sd15, tmp_path / "again", settings, whole=True)
    trained, again = adapters.state_dict(), same.state_dict()
    assert all(torch.equal(trained[name], again[name]) for name in trained)


def test_gradient_checkpointing_changes_no_weight(sd15, tmp_path):
    plain, first, _ = run(sd15, tmp_path / "plain")
    settings = SETTINGS.replace(gradient_checkpointing=True)
    saved, second, _ = run(sd15, tmp_path / "saved", settings)
    for name, value in first.state_dict().items():
        torch.testing.assert_close(second.state_dict()[name], value, rtol=1e-4, atol=1e-6)
    assert saved.history["loss"].to_list()[1:] == pytest.approx(plain.history["loss"].to_list()[1:])


def test_the_deterministic_mode_lasts_as_long_as_the_training(sd15, tmp_path):
    during = []
    callbacks = Callbacks(
        on_step=lambda _: during.append(torch.are_deterministic_algorithms_enabled())
    )
    settings = SETTINGS.replace(epochs=1, deterministic=True)
    _, first, _ = run(sd15, tmp_path / "first", settings, callbacks=callbacks)
    _, second, _ = run(sd15, tmp_path / "second", settings)
    assert during
    assert all(during)
    assert not torch.are_deterministic_algorithms_enabled()
    trained, same = first.state_dict(), second.state_dict()
    assert all(torch.equal(trained[name], same[name]) for name in trained)


@pytest.mark.parametrize(("save", "prediction"), [(save_sdxl, "epsilon"), (save_flux, "flow")])
def test_other_layouts_train_with_their_text_encoders(tmp_path, save, prediction):
    settings = SETTINGS.replace(train_text_encoder=True, precision="bf16", ema_decay=0.9)
    result, adapters, before = run(save(tmp_path / "model"), tmp_path / "run", settings)
    trained = adapters.state_dict()
    assert all(torch.isfinite(value).all() for value in trained.values())
    for part in ("denoiser", "te1"):
        moved = [
            n for n in adapters.named_parameters(part) if not torch.equal(trained[n], before[n])
        ]
        assert moved
    losses = result.history["validation_loss"]
    assert losses[-1] < losses[0]
