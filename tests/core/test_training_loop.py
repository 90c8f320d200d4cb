"""The loop: same seed, same weights; kill and resume; what stops a run and what it leaves."""

from __future__ import annotations

import dataclasses
import json
import os
import resource
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from character_curator.errors import CuratorError, MissingDependencyError
from character_curator.features import FeatureStore
from character_curator.training import Callbacks, TrainingSettings, load_weights, train
from character_curator.training.buckets import Size
from character_curator.training.cache import EncodedFeatures
from character_curator.training.data import prepare
from character_curator.training.examples import TooFewPicturesError
from character_curator.training.gradients import add_gradients
from character_curator.training.result import DivergedError
from character_curator.training.run import TrainingRun
from character_curator.training.settings import SettingsError
from character_curator.training.state import (
    StateMismatchError,
    StateWriteError,
    load_tensors,
    pack_optimizer,
    save_tensors,
    unpack_optimizer,
)
from tests.tiny_denoiser import TinyDenoiser, make_examples

ROOT = Path(__file__).resolve().parents[2]
SETTINGS = TrainingSettings(
    epochs=4,
    batch_size=2,
    accumulation=2,
    learning_rate=5e-3,
    resolution=64,
    schedule="cosine",
    warm_up=2,
    min_snr_gamma=5.0,
    noise_offset=0.05,
    face_weight=2.0,
    caption_dropout=0.2,
    ema_decay=0.95,
    validation_share=0.2,
    validation_timesteps=4,
    save_every=1,
)
SIZES = ((64, 64), (64, 128))


class Cancelled(Exception):
    pass


class CancelAfter:
    """A watcher who cancels the training after some steps."""

    def __init__(self, steps: int) -> None:
        self.left, self.stage = steps, ""

    def start(self, stage: str, total: int) -> None:
        self.stage = stage

    def advance(self, n: int = 1, note: str = "") -> None:
        if self.stage == "Training":
            self.left -= n
            if self.left <= 0:
                raise Cancelled

    def finish(self) -> None:
        pass


@pytest.fixture
def examples(tmp_path):
    return make_examples(tmp_path / "pictures", 10, SIZES)


def run(examples, folder, settings=SETTINGS, denoiser=None, **options):
    denoiser = denoiser or TinyDenoiser()
    return train(denoiser, denoiser.parameters, examples, settings, folder, **options), denoiser


def weights(path: Path) -> dict[str, torch.Tensor]:
    return load_file(path)


def assert_same(first: Path, second: Path, same: bool = True) -> None:
    a, b = weights(first), weights(second)
    assert a.keys() == b.keys()
    assert all(torch.equal(a[name], b[name]) for name in a) is same


def test_it_learns_and_says_so(examples, tmp_path):
    settings = dataclasses.replace(SETTINGS, epochs=20, ema_decay=None, save_every=None)
    seen = []
    result, denoiser = run(
        examples, tmp_path / "run", settings, callbacks=Callbacks(on_epoch=seen.append)
    )
    history = result.history
    assert history["epoch"].to_list() == list(range(21)) == [report.epoch for report in seen]
    assert history["validation_loss"][-1] < 0.8 * history["validation_loss"][0]
    losses = dict(zip(history["epoch"], history["validation_loss"], strict=True))
    assert result.best_epoch == min(range(1, 21), key=losses.__getitem__)
    assert result.best_loss == losses[result.best_epoch]
    assert 1 <= result.convergence_epoch <= 20
    assert result.stopped == "completed"
    assert result.steps == history["step"][-1]
    assert set(history["pictures"].to_list()[1:]) == {8}
    assert len(result.held_out) == 2
    best = weights(result.best)
    assert all(torch.equal(best[n], p) for n, p in denoiser.parameters.items())


def test_best_weights_have_the_best_loss(examples, tmp_path):
    result, denoiser = run(examples, tmp_path / "run", dataclasses.replace(SETTINGS, epochs=6))
    again = dataclasses.replace(SETTINGS, epochs=1, ema_decay=None)
    seen = []

    def stop(report):
        seen.append(report.validation_loss)
        raise Cancelled

    with pytest.raises(Cancelled):
        run(examples, tmp_path / "other", again, denoiser, callbacks=Callbacks(on_epoch=stop))
    assert seen == [result.best_loss]


def test_same_seed_same_weights(examples, tmp_path):
    state = torch.get_rng_state()
    first, _ = run(examples, tmp_path / "a")
    torch.manual_seed(99)
    second, _ = run(list(reversed(examples)), tmp_path / "b")
    assert_same(first.best, second.best)
    assert_same(first.last, second.last)
    other, _ = run(examples, tmp_path / "c", dataclasses.replace(SETTINGS, seed=1))
    assert_same(first.last, other.last, same=False)
    torch.set_rng_state(state)


def test_random_state_of_the_process_is_left_alone(examples, tmp_path):
    denoiser = TinyDenoiser()
    before = torch.get_rng_state()
    run(examples, tmp_path / "a", denoiser=denoiser)
    assert torch.equal(before, torch.get_rng_state())
    assert denoiser.network.training


@pytest.mark.parametrize("after", [1, 2, 3, 4, 7])
def test_cancel_and_resume_to_the_same_bits(examples, tmp_path, after):
    whole, _ = run(examples, tmp_path / "whole")
    settings = dataclasses.replace(SETTINGS, save_every=None)
    with pytest.raises(Cancelled):
        run(examples, tmp_path / "cut", settings, progress=CancelAfter(after))
    assert (tmp_path / "cut" / "state.safetensors").exists()
    resumed, denoiser = run(examples, tmp_path / "cut", settings)
    assert denoiser.calls["pixels"] == denoiser.calls["text"] == 0
    for name in ("state.safetensors", "last.safetensors", "best.safetensors"):
        assert_same(tmp_path / "whole" / name, tmp_path / "cut" / name)
    columns = ["epoch", "step", "loss", "validation_loss", "learning_rate", "gradient_norm"]
    assert resumed.history.select(columns).equals(whole.history.select(columns))
    assert resumed.best_epoch == whole.best_epoch


def test_sigkill_and_resume_to_the_same_bits(examples, tmp_path):
    whole, _ = run(examples, tmp_path / "whole")
    script = textwrap.dedent(
        """
        import os, signal, sys
        from pathlib import Path
        import torch
        torch.set_num_threads(int(sys.argv[2]))
        from tests.core.test_training_loop import SETTINGS, SIZES, run
        from tests.tiny_denoiser import make_examples
        from character_curator.training import Callbacks
        root = Path(sys.argv[1])
        def die(report):
            if report.step == 5:
                os.kill(os.getpid(), signal.SIGKILL)
        run(make_examples(root / "pictures", 10, SIZES), root / "killed",
            callbacks=Callbacks(on_step=die))
        """
    )
    ended = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path), str(torch.get_num_threads())],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    resumed, _ = run(examples, tmp_path / "killed")
    assert_same(tmp_path / "whole" / "state.safetensors", tmp_path / "killed" / "state.safetensors")
    assert_same(whole.best, resumed.best)


@pytest.mark.parametrize(
    ("optimizer", "library", "rate"),
    [("prodigy", "prodigyopt", 1.0), ("adamw8bit", "bitsandbytes", 5e-3)],
)
def test_optimizers_of_libraries_resume_to_the_same_bits(
    examples, tmp_path, optimizer, library, rate
):
    pytest.importorskip(library)
    settings = dataclasses.replace(SETTINGS, optimizer=optimizer, learning_rate=rate)
    run(examples, tmp_path / "whole", settings)
    with pytest.raises(Cancelled):
        run(examples, tmp_path / "cut", settings, progress=CancelAfter(5))
    run(examples, tmp_path / "cut", settings)
    assert_same(tmp_path / "whole" / "state.safetensors", tmp_path / "cut" / "state.safetensors")


class NestingAdamW(torch.optim.AdamW):
    """Keeps part of its state in a table within, as 8-bit optimizers do."""

    def state_dict(self):
        packed = super().state_dict()
        state = {
            index: {"step": values.pop("step"), "inner": values, "bits": 8}
            for index, values in ((i, dict(v)) for i, v in packed["state"].items())
        }
        return {**packed, "state": state}

    def load_state_dict(self, packed):
        state = {i: {"step": v["step"], **v["inner"]} for i, v in packed["state"].items()}
        super().load_state_dict({**packed, "state": state})


def test_a_state_with_tables_within_goes_to_disk_and_back(tmp_path):
    def optimizer():
        torch.manual_seed(0)
        parameter = torch.nn.Parameter(torch.randn(3, 4))
        return parameter, NestingAdamW([{"params": [parameter], "lr": 0.1, "peak_lr": 0.1}])

    def step(parameter, chosen):
        parameter.grad = torch.ones_like(parameter)
        chosen.step()

    first, chosen = optimizer()
    step(first, chosen)
    tensors, plain = pack_optimizer(chosen)
    save_tensors(tmp_path / "state.safetensors", tensors, {"optimizer": plain})
    tensors, facts = load_tensors(tmp_path / "state.safetensors")
    second, other = optimizer()
    second.data.copy_(first.data)
    unpack_optimizer(other, tensors, facts["optimizer"])
    for _ in range(2):
        step(first, chosen)
        step(second, other)
    assert torch.equal(first, second)


def test_a_finished_run_is_not_trained_again(examples, tmp_path):
    first, _ = run(examples, tmp_path / "run")
    again, denoiser = run(examples, tmp_path / "run")
    assert denoiser.calls == {"pixels": 0, "text": 0, "predict": 0}
    assert again.history.equals(first.history)
    anew, denoiser = run(examples, tmp_path / "run", resume=False)
    assert denoiser.calls["predict"] > 0
    assert_same(first.last, anew.last)


def test_more_epochs_go_on_where_the_rate_is_constant(examples, tmp_path):
    constant = dataclasses.replace(SETTINGS, schedule="constant", epochs=2)
    longer = dataclasses.replace(constant, epochs=4)
    run(examples, tmp_path / "a", constant)
    extended, _ = run(examples, tmp_path / "a", longer)
    whole, _ = run(examples, tmp_path / "b", longer)
    assert_same(extended.last, whole.last)
    assert_same(extended.best, whole.best)


@pytest.mark.parametrize(
    ("change", "named"),
    [({"seed": 7}, "seed"), ({"epochs": 9}, "epochs"), ({"learning_rate": 1.0}, "learning_rate")],
    ids=["seed", "epochs of a falling rate", "rate"],
)
def test_another_run_is_refused_with_what_differs(examples, tmp_path, change, named):
    run(examples, tmp_path / "run")
    with pytest.raises(StateMismatchError, match=f"different are: {named}"):
        run(examples, tmp_path / "run", dataclasses.replace(SETTINGS, **change))


def test_other_pictures_are_refused(examples, tmp_path):
    run(examples, tmp_path / "run")
    with pytest.raises(StateMismatchError, match="pictures"):
        run(examples[:-1], tmp_path / "run")


def test_damaged_state_is_refused(examples, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "state.safetensors").write_bytes(b"nothing that was ever saved")
    with pytest.raises(StateMismatchError, match="damaged"):
        run(examples, tmp_path / "run")


def test_state_is_not_pickle(examples, tmp_path):
    run(examples, tmp_path / "run")
    for path in (tmp_path / "run").glob("*.safetensors"):
        data = path.read_bytes()
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
        assert json.loads(header["__metadata__"]["facts"])["version"] == 1


@pytest.mark.parametrize("text", [False, True], ids=["frozen", "trained"])
def test_accumulated_batches_equal_one_large_batch(examples, tmp_path, text):
    settings = dataclasses.replace(SETTINGS, train_text_encoder=text, prior_weight=0.5)
    several = [
        dataclasses.replace(example, prior=i % 3 == 0)
        for i, example in enumerate(e for e in examples if e.size == Size(64, 64))
    ]

    def gradients(batches):
        denoiser = TinyDenoiser()
        denoiser.network.eval()  # dropout is drawn for a batch as a whole
        if text:
            denoiser.text.requires_grad_(True)
        features = EncodedFeatures(denoiser, FeatureStore())
        data = prepare(
            denoiser, several, dataclasses.replace(settings, validation_share=0), features
        )
        loss = add_gradients(denoiser, data, batches, settings, denoiser.device, (1, 0))
        found = [*denoiser.network.parameters(), *(denoiser.text.parameters() if text else ())]
        return loss, torch.cat([p.grad.flatten() for p in found])

    large_loss, large = gradients([(0, 1, 2, 3, 4)])
    for split in ([(0,), (1,), (2,), (3,), (4,)], [(0, 1, 2), (3, 4)]):
        loss, accumulated = gradients(split)
        assert loss == pytest.approx(large_loss, rel=1e-5)
        torch.testing.assert_close(accumulated, large, rtol=1e-4, atol=1e-6)
    assert large.abs().max() > 1e-3


def test_gradients_are_clipped(examples, tmp_path):
    settings = dataclasses.replace(SETTINGS, clip_norm=1e-3, epochs=1)
    denoiser = TinyDenoiser()
    features = EncodedFeatures(denoiser, FeatureStore())
    data = prepare(denoiser, examples, settings, features)
    tried = TrainingRun(denoiser, denoiser.parameters, data, settings, tmp_path)
    report = tried.take_step(data.steps(1, settings)[0])
    norm = torch.linalg.vector_norm(
        torch.cat([p.grad.flatten() for p in denoiser.parameters.values()])
    )
    assert float(norm) == pytest.approx(1e-3, rel=1e-3)
    assert report.gradient_norm > 1e-2


def test_average_follows_its_definition(examples, tmp_path):
    settings = dataclasses.replace(SETTINGS, epochs=1, accumulation=1)
    denoiser = TinyDenoiser()
    expected = {n: p.detach().clone() for n, p in denoiser.parameters.items()}
    taken = []

    def average(report):
        decay = min(0.95, (1 + len(taken)) / (10 + len(taken)))
        taken.append(report)
        for name, parameter in denoiser.parameters.items():
            expected[name] = decay * expected[name] + (1 - decay) * parameter.detach()

    result, _ = run(
        examples, tmp_path / "run", settings, denoiser, callbacks=Callbacks(on_step=average)
    )
    torch.testing.assert_close(weights(result.last), expected)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "flow"])
def test_every_prediction_and_bf16(examples, tmp_path, prediction):
    settings = dataclasses.replace(SETTINGS, precision="bf16", epochs=8, accumulation=1)
    result, denoiser = run(examples, tmp_path / "run", settings, TinyDenoiser(prediction))
    assert result.history["validation_loss"][-1] < result.history["validation_loss"][0]
    assert {p.dtype for p in denoiser.parameters.values()} == {torch.float32}


def test_prior_pictures_go_along_one_each(examples, tmp_path):
    priors = make_examples(tmp_path / "priors", 3, prior=True)
    result, _ = run([*examples, *priors], tmp_path / "run")
    assert result.history["pictures"].to_list()[1:] == [16] * 4
    assert len(result.held_out) == 2


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
    settings = dataclasses.replace(SETTINGS, validation_share=share)
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


def test_early_stop_at_the_plateau(examples, tmp_path):
    settings = dataclasses.replace(
        SETTINGS, epochs=50, patience=2, min_improvement=0.5, ema_decay=None
    )
    result, _ = run(examples, tmp_path / "run", settings)
    assert result.stopped == "plateau"
    assert result.history["epoch"][-1] < 50
    again, denoiser = run(examples, tmp_path / "run", settings)
    assert denoiser.calls["predict"] == 0
    assert again.stopped == "plateau"


def test_disk_full_leaves_the_last_good_checkpoint(examples, tmp_path):
    folder = tmp_path / "run"
    with FeatureStore() as store:
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

        def fill(report):
            if report.epoch == 2:
                resource.setrlimit(resource.RLIMIT_FSIZE, (1024, limits[1]))

        try:
            with pytest.raises(StateWriteError, match="last good one is still there"):
                run(examples, folder, store=store, callbacks=Callbacks(on_epoch=fill))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
            signal.signal(signal.SIGXFSZ, before)
        assert not list(folder.glob(".*"))
        resumed, _ = run(examples, folder, store=store)
    whole, _ = run(examples, tmp_path / "whole")
    assert_same(resumed.last, whole.last)


def test_checkpoints_and_samples_on_the_way(examples, tmp_path):
    settings = dataclasses.replace(SETTINGS, checkpoint_every=2, sample_every=2)
    kept, sampled = [], []
    denoiser = TinyDenoiser()

    def sample(epoch):
        torch.manual_seed(5)
        assert not denoiser.network.training
        sampled.append((epoch, {n: p.detach().clone() for n, p in denoiser.parameters.items()}))

    callbacks = Callbacks(on_sample=sample, on_checkpoint=lambda *seen: kept.append(seen))
    result, _ = run(examples, tmp_path / "run", settings, denoiser, callbacks=callbacks)
    assert [epoch for epoch, _ in sampled] == [0, 2, 4]
    assert [(epoch, path.name) for epoch, path in kept] == [
        (2, "epoch-0002.safetensors"),
        (4, "epoch-0004.safetensors"),
    ]
    torch.testing.assert_close(weights(kept[0][1]), sampled[1][1])
    plain, _ = run(examples, tmp_path / "plain")
    assert_same(result.last, plain.last)


def test_a_checkpoint_goes_back_into_its_parameters(examples, tmp_path):
    run(examples, tmp_path / "run", dataclasses.replace(SETTINGS, checkpoint_every=2))
    path = tmp_path / "run" / "epoch-0002.safetensors"
    denoiser = TinyDenoiser(seed=3)
    assert load_weights(path, denoiser.parameters) == 2
    kept = weights(path)
    assert all(torch.equal(kept[name], p) for name, p in denoiser.parameters.items())
    with pytest.raises(StateMismatchError, match="other adapters"):
        load_weights(path, dict(denoiser.text.named_parameters()))


def test_other_conditions_are_said(examples, tmp_path, caplog):
    settings = dataclasses.replace(SETTINGS, schedule="constant")
    run(examples, tmp_path / "run", settings)
    assert not caplog.records
    threads = torch.get_num_threads()
    torch.set_num_threads(threads + 1)
    try:
        run(examples, tmp_path / "run", dataclasses.replace(settings, epochs=5))
    finally:
        torch.set_num_threads(threads)
    assert f"threads: {threads} -> {threads + 1}" in caplog.text


def test_steps_end_a_run_within_an_epoch(examples, tmp_path):
    settings = dataclasses.replace(SETTINGS, steps=5, epochs=1)
    per_epoch = 2
    result, _ = run(examples, tmp_path / "run", settings)
    assert result.steps == 5
    assert result.history["step"].to_list() == [0, per_epoch, 2 * per_epoch, 5]
    assert result.history["pictures"].to_list()[1:] == [8, 8, 4]
    assert result.message == "All 5 steps are done."
    assert result.history["validation_loss"].null_count() == 0
    again, denoiser = run(examples, tmp_path / "run", settings)
    assert denoiser.calls["predict"] == 0
    assert again.history.equals(result.history)
    with pytest.raises(Cancelled):
        run(examples, tmp_path / "cut", settings, progress=CancelAfter(3))
    resumed, _ = run(examples, tmp_path / "cut", settings)
    assert_same(resumed.last, result.last)


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


def test_nothing_to_train(examples, tmp_path):
    with pytest.raises(CuratorError, match="targets"):
        train(TinyDenoiser(), {}, examples, SETTINGS, tmp_path)


def test_one_picture_only(examples, tmp_path):
    with pytest.raises(TooFewPicturesError, match="1 usable picture, and 2 are needed"):
        run(examples[:1], tmp_path / "run")


def test_picture_that_became_unreadable_is_left_out(examples, tmp_path):
    examples[0].path.write_bytes(b"no picture")
    result, _ = run(examples, tmp_path / "run")
    assert [(s.path, s.reason) for s in result.skipped] == [
        (examples[0].path, "not a picture, whatever its name says")
    ]
    assert result.history["pictures"].to_list()[1:] == [7] * 4


def test_missing_library_is_named(examples, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    monkeypatch.setitem(sys.modules, "bitsandbytes.optim", None)
    with pytest.raises(MissingDependencyError, match="pip install bitsandbytes"):
        run(examples, tmp_path / "run", dataclasses.replace(SETTINGS, optimizer="adamw8bit"))


def test_bucket_step_must_suit_the_model(examples, tmp_path):
    with pytest.raises(SettingsError, match="multiple of 8"):
        run(examples, tmp_path / "run", dataclasses.replace(SETTINGS, bucket_step=12))
