"""What the terminal and TensorBoard show while a LoRA trains."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from character_curator.cli.training_view import TrainingView
from character_curator.training.outputs.tensorboard import tensorboard
from character_curator.training.result import EpochReport, StepReport


def epoch(number, loss, validation):
    return EpochReport(number, 2 * number, loss, validation, 1e-3, 0.5, 8 * bool(number), 2.0)


REPORTS = [epoch(0, None, 0.5), epoch(1, 0.4, 0.3), epoch(2, 0.3, 0.35)]


def watched(terminal):
    """Run a view through two epochs; return what was shown."""
    shown = io.StringIO()
    console = Console(file=shown, force_terminal=terminal, width=160, height=40)
    with TrainingView(console, interval=0.0) as view:
        tell = view.callbacks()
        view.start("Training", 4)
        for step in range(1, 5):
            number = (step + 1) // 2
            tell.on_history(REPORTS[:number])
            tell.on_step(StepReport(number, step, 4, 0.4, 1e-3, 0.5, 4, 1.0))
            view.advance(note=f"epoch {number}, loss 0.4000")
            view._bars.refresh()  # which a thread does ten times a second
        tell.on_history(REPORTS)
        view.finish()
    return shown.getvalue()


def test_a_terminal_shows_a_table_and_a_bar():
    shown = watched(terminal=True)
    for words in ("epoch", "step", "loss", "validation loss", "images/s", "GiB", "left", "4/4"):
        assert words in shown
    lines = [line.split() for line in shown.splitlines()]
    assert ["1", "2", "0.4000", "0.3000", "*", "4.0", "2.0"] in lines  # the best so far
    assert ["2", "4", "0.3000", "0.3500", "4.0", "2.0"] in lines


def test_a_log_file_gets_the_same_as_lines():
    shown = watched(terminal=False)
    assert "Training: 4/4, " in shown
    assert "s left; epoch 2, loss 0.4000, validation 0.3000, 4.0 images/s, " in shown
    assert "\x1b" not in shown


def test_tensorboard_can_read_what_is_written(tmp_path):
    reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    tell = tensorboard(tmp_path)
    for step in (1, 2):
        tell.on_step(StepReport(1, step, 2, 0.5 / step, 1e-3, 0.25, 4, 1.0))
    for report in REPORTS[:2]:
        tell.on_epoch(report)
    events = reader.EventAccumulator(str(tmp_path))
    events.Reload()

    def course(name):
        return [(event.step, pytest.approx(event.value)) for event in events.Scalars(name)]

    assert course("loss/step") == [(1, 0.5), (2, 0.25)]
    assert course("loss/validation") == [(0, 0.5), (2, 0.3)]
    assert course("loss/epoch") == [(2, 0.4)]
