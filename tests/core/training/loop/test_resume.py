"""The same seed gives the same weights, and so does a run that was killed and goes on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import torch

from character_curator.training.loop import state as state_module
from character_curator.training.loop.origin import course_options
from character_curator.training.loop.state import (
    StateMismatchError,
    load_tensors,
    pack_optimizer,
    save_tensors,
    unpack_optimizer,
)
from character_curator.training.result import Callbacks
from character_curator.training.settings import LATER
from tests.support.tiny_denoiser import TinyDenoiser
from tests.support.training_runs import SETTINGS, assert_same, run
from tests.support.watchers import CancelAfter, Cancelled

ROOT = Path(__file__).resolve().parents[4]


def test_same_seed_same_weights(examples, tmp_path):
    state = torch.get_rng_state()
    first, _ = run(examples, tmp_path / "a")
    torch.manual_seed(99)
    second, _ = run(list(reversed(examples)), tmp_path / "b")
    assert_same(first.best, second.best)
    assert_same(first.last, second.last)
    other, _ = run(examples, tmp_path / "c", SETTINGS.replace(seed=1))
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
    settings = SETTINGS.replace(save_every=None)
    with pytest.raises(Cancelled):
        run(examples, tmp_path / "cut", settings, progress=CancelAfter(after, "Training"))
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
        from tests.support.training_runs import SETTINGS, SIZES, run
        from tests.support.tiny_denoiser import make_examples
        from character_curator.training import Callbacks
        root = Path(sys.argv[1])
        def die(report):
            if report.step == 5:
                os.kill(os.getpid(), signal.SIGKILL)
        run(make_examples(root / "images", 10, SIZES), root / "killed",
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
    [
        ("prodigy", "prodigyopt", 1.0),
        ("adamw8bit", "bitsandbytes", 5e-3),
        ("adafactor", "transformers", 5e-3),
        ("schedulefree", "schedulefree", 5e-3),
    ],
)
def test_optimizers_of_libraries_resume_to_the_same_bits(
    examples, tmp_path, optimizer, library, rate
):
    pytest.importorskip(library)
    changes = {"schedule": "constant", "ema_decay": None} if optimizer == "schedulefree" else {}
    settings = SETTINGS.replace(optimizer=optimizer, learning_rate=rate, **changes)
    whole, _ = run(examples, tmp_path / "whole", settings)
    assert whole.history["validation_loss"][-1] < whole.history["validation_loss"][0]
    with pytest.raises(Cancelled):
        run(examples, tmp_path / "cut", settings, progress=CancelAfter(5, "Training"))
    run(examples, tmp_path / "cut", settings)
    for name in ("state", "last", "best"):
        file = f"{name}.safetensors"
        assert_same(tmp_path / "whole" / file, tmp_path / "cut" / file)


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
    constant = SETTINGS.replace(schedule="constant", epochs=2)
    longer = constant.replace(epochs=4)
    run(examples, tmp_path / "a", constant)
    extended, _ = run(examples, tmp_path / "a", longer)
    whole, _ = run(examples, tmp_path / "b", longer)
    assert_same(extended.last, whole.last)
    assert_same(extended.best, whole.best)


def test_steps_end_a_run_within_an_epoch(examples, tmp_path):
    settings = SETTINGS.replace(steps=5, epochs=1)
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
        run(examples, tmp_path / "cut", settings, progress=CancelAfter(3, "Training"))
    resumed, _ = run(examples, tmp_path / "cut", settings)
    assert_same(resumed.last, result.last)


@pytest.mark.parametrize(
    ("change", "named"),
    [({"seed": 7}, "seed"), ({"epochs": 9}, "epochs"), ({"learning_rate": 1.0}, "learning_rate")],
    ids=["seed", "epochs of a falling rate", "rate"],
)
def test_another_run_is_refused_with_what_differs(examples, tmp_path, change, named):
    run(examples, tmp_path / "run")
    with pytest.raises(StateMismatchError, match=f"different are: {named}"):
        run(examples, tmp_path / "run", SETTINGS.replace(**change))


def test_other_images_are_refused(examples, tmp_path):
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
        assert json.loads(header["__metadata__"]["facts"])["version"] == 2


def test_a_flipped_bit_is_found_in_every_file_of_a_run(examples, tmp_path):
    run(examples, tmp_path / "run")
    files = sorted((tmp_path / "run").glob("*.safetensors"))
    assert {"best.safetensors", "last.safetensors", "state.safetensors"} <= {f.name for f in files}
    rng = np.random.default_rng(0)
    for path in files:
        whole = path.read_bytes()
        tensors, facts = load_tensors(path)
        for place in (len(whole) - 1, len(whole) // 2, *rng.integers(0, len(whole), 20)):
            data = bytearray(whole)
            data[place] ^= 1 << int(rng.integers(8))
            path.write_bytes(data)
            try:
                same, told = load_tensors(path)
            except StateMismatchError:
                continue
            # Only what stands between the values may have changed.
            assert told == facts
            assert same.keys() == tensors.keys()
            assert all(torch.equal(same[name], value) for name, value in tensors.items())
        path.write_bytes(whole)
    path = tmp_path / "run" / "state.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\x7f")
    with pytest.raises(StateMismatchError, match="damaged"):
        run(examples, tmp_path / "run")


@pytest.mark.parametrize("key", ["origin", "optimizer", "epoch", "history", "sums", "patience"])
def test_a_state_without_one_of_its_facts_is_refused(examples, tmp_path, key):
    run(examples, tmp_path / "run")
    path = tmp_path / "run" / "state.safetensors"
    tensors, facts = load_tensors(path)
    del facts[key], facts["version"]
    save_tensors(path, tensors, facts)
    with pytest.raises(StateMismatchError, match="not whole"):
        run(examples, tmp_path / "run")


def test_a_state_of_the_version_before_is_taken_up(examples, tmp_path, monkeypatch):
    settings = SETTINGS.replace(schedule="constant")
    run(examples, tmp_path / "whole", settings.replace(epochs=5))
    monkeypatch.setattr(state_module, "VERSION", 1)
    run(examples, tmp_path / "run", settings)
    monkeypatch.undo()
    run(examples, tmp_path / "run", settings.replace(epochs=5))
    assert_same(tmp_path / "whole" / "last.safetensors", tmp_path / "run" / "last.safetensors")


@pytest.mark.parametrize("epoch", [0, 2, 4])
def test_what_goes_with_a_saved_state_is_there_after_a_kill(examples, tmp_path, epoch):
    """A kill comes when the state is saved and the epoch's checkpoint and samples are not."""
    settings = SETTINGS.replace(epochs=4, checkpoint_every=2, sample_every=2, patience=None)

    def watched(folder, stop=None):
        def draw(number):
            if number == stop:
                raise Cancelled
            weights = load_tensors(folder / "state.safetensors")[0]
            save_tensors(folder / f"sample-{number}.safetensors", weights, {})

        def kept(number, path):
            if number == stop:
                path.unlink()

        return Callbacks(on_sample=draw, on_checkpoint=kept)

    whole, cut = tmp_path / "whole", tmp_path / "cut"
    run(examples, whole, settings, callbacks=watched(whole))
    with pytest.raises(Cancelled):
        run(examples, cut, settings, callbacks=watched(cut, epoch))
    run(examples, cut, settings, callbacks=watched(cut))
    names = {path.name for path in whole.glob("*.safetensors")}
    assert {"epoch-0002.safetensors", "epoch-0004.safetensors", "sample-0.safetensors"} <= names
    assert {path.name for path in cut.glob("*.safetensors")} == names
    for name in names:
        assert_same(whole / name, cut / name)


def test_other_conditions_are_said(examples, tmp_path, caplog):
    settings = SETTINGS.replace(schedule="constant")
    run(examples, tmp_path / "run", settings)
    assert not caplog.records
    threads = torch.get_num_threads()
    torch.set_num_threads(threads + 1)
    try:
        run(examples, tmp_path / "run", settings.replace(epochs=5))
    finally:
        torch.set_num_threads(threads)
    assert f"threads: {threads} -> {threads + 1}" in caplog.text


def test_a_training_that_began_before_an_option_was_there_goes_on(examples, tmp_path):
    """States name the options of their day; one that came later is not said at its default."""
    whole, _ = run(examples, tmp_path / "whole")
    with pytest.raises(Cancelled):
        run(examples, tmp_path / "cut", progress=CancelAfter(5, "Training"))
    path = tmp_path / "cut" / "state.safetensors"
    tensors, facts = load_tensors(path)
    assert not LATER & facts["origin"]["settings"].keys()
    resumed, _ = run(examples, tmp_path / "cut")
    assert_same(whole.last, resumed.last)
    assert course_options(SETTINGS.replace(adapter="loha"))["adapter"] == "loha"
    facts["origin"]["settings"]["adapter"] = "lokr"
    save_tensors(path, tensors, facts)
    with pytest.raises(StateMismatchError, match="different are: adapter"):
        run(examples, tmp_path / "cut")


def test_the_same_state_is_the_same_bytes(tmp_path):
    tensors = {name: torch.arange(3.0) for name in ("b", "a")}
    kept = set()
    for number in range(20):  # the library orders what a file says of itself by chance
        save_tensors(tmp_path / f"{number}", tensors, {"epoch": 1})
        kept.add((tmp_path / f"{number}").read_bytes())
    assert len(kept) == 1
    found, facts = load_tensors(tmp_path / "0")
    assert facts["epoch"] == 1
    assert torch.equal(found["a"], tensors["a"])
