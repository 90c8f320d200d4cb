"""What stops the training loop, what it leaves then, and what it refuses to begin with."""

from __future__ import annotations

import sys

import pytest
import torch

from character_curator.errors import MissingDependencyError
from character_curator.features import FeatureStore
from character_curator.training import Callbacks, TrainingSettings, train
from character_curator.training.data.examples import TooFewImagesError
from character_curator.training.loop.loop import NothingToTrainError
from character_curator.training.loop.state import StateWriteError
from character_curator.training.result import DivergedError
from character_curator.training.settings import SettingsError
from tests.support.full_disk import disk_that_fills
from tests.support.tiny_denoiser import TinyDenoiser
from tests.support.training_runs import SETTINGS, assert_same, run, weights


class _Breaks(TinyDenoiser):
    """Predicts NaN from some call of a training step on."""

    def __init__(self, healthy: int) -> None:
        super().__init__()
        self.healthy = healthy

    def predict(self, *args):
        found = super().predict(*args)
        if torch.is_grad_enabled():
            self.healthy -= 1
        return found if self.healthy >= 0 else found * float("nan")


@pytest.mark.parametrize(
    ("share", "epoch"), [(0.2, 3), (0.0, 2)], ids=["validated", "not validated"]
)
def test_nan_stops_and_keeps_the_last_good_weights(examples, tmp_path, share, epoch):
    settings = SETTINGS.replace(validation_share=share)
    result, denoiser = run(examples, tmp_path / "run", settings, _Breaks(9))
    assert result.stopped == "diverged"
    assert f"The loss became nan in epoch {epoch}" in result.message
    assert "learning rate" in result.message
    assert result.best_epoch in range(1, epoch)
    assert all(torch.isfinite(value).all() for value in weights(result.best).values())
    assert all(torch.isfinite(p).all() for p in denoiser.parameters.values())


def test_nan_before_anything_was_kept(examples, tmp_path):
    with pytest.raises(DivergedError, match="epoch 1, step 2"):
        run(examples, tmp_path / "run", denoiser=_Breaks(2))


def test_disk_full_leaves_the_last_good_checkpoint(examples, tmp_path):
    folder = tmp_path / "run"
    with FeatureStore() as store:
        with disk_that_fills() as fill:

            def on_epoch(report):
                if report.epoch == 2:
                    fill()

            with pytest.raises(StateWriteError, match="last good one is still there"):
                run(examples, folder, store=store, callbacks=Callbacks(on_epoch=on_epoch))
        assert not list(folder.glob(".*"))
        resumed, _ = run(examples, folder, store=store)
    whole, _ = run(examples, tmp_path / "whole")
    assert_same(resumed.last, whole.last)


@pytest.mark.parametrize(
    ("name", "value"),
    [("rank", 0), ("rank", "8"), ("rslora", "yes"), ("betas", 0.9), ("betas", ["a", "b"]),
     ("targets", []), ("optimizer", "sgd"), ("dropout", 1), ("steps", 0), ("learning_rate", 0),
     ("nonsense", 1)],
)  # fmt: skip
def test_every_fault_names_its_option(name, value):
    with pytest.raises(SettingsError) as raised:
        TrainingSettings.from_mapping({name: value})
    assert raised.value.option == name
    assert name in str(raised.value)
    assert set(TrainingSettings.faults({name: value, "seed": 3})) == {name}


@pytest.mark.parametrize(
    ("values", "option"),
    [
        ({"schedule": "cosine"}, "schedule"),
        ({"ema_decay": 0.9}, "ema_decay"),
        ({"betas": (0.0, 0.9)}, "betas"),
    ],
)
def test_what_does_not_go_with_a_schedule_free_optimizer_is_named(values, option):
    values = {"optimizer": "schedulefree", **values}
    with pytest.raises(SettingsError, match="averages its weights itself") as raised:
        TrainingSettings.from_mapping(values)
    assert raised.value.option == option
    assert set(TrainingSettings.faults(values)) == {option}


def test_nothing_to_train(examples, tmp_path):
    with pytest.raises(NothingToTrainError, match="targets"):
        train(TinyDenoiser(), {}, examples, SETTINGS, tmp_path)


def test_one_image_only(examples, tmp_path):
    with pytest.raises(TooFewImagesError, match="1 usable image, and 2 are needed"):
        run(examples[:1], tmp_path / "run")


def test_image_that_became_unreadable_is_left_out(examples, tmp_path):
    examples[0].path.write_bytes(b"no image")
    result, _ = run(examples, tmp_path / "run")
    assert [(s.path, s.reason) for s in result.skipped] == [
        (examples[0].path, "its bytes have changed since the folder was read")
    ]
    assert result.history["pictures"].to_list()[1:] == [7] * 4


@pytest.mark.parametrize(
    ("optimizer", "library"),
    [("adamw8bit", "bitsandbytes"), ("prodigy", "prodigyopt"), ("schedulefree", "schedulefree")],
)
def test_missing_library_is_named(examples, tmp_path, monkeypatch, optimizer, library):
    monkeypatch.setitem(sys.modules, library, None)
    monkeypatch.setitem(sys.modules, f"{library}.optim", None)
    settings = SETTINGS.replace(optimizer=optimizer, schedule="constant", ema_decay=None)
    with pytest.raises(MissingDependencyError, match=f"pip install {library}"):
        run(examples, tmp_path / "run", settings)


def test_bucket_step_must_suit_the_model(examples, tmp_path):
    with pytest.raises(SettingsError, match="multiple of 8"):
        run(examples, tmp_path / "run", SETTINGS.replace(bucket_step=12))
