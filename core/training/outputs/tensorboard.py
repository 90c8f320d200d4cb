"""The course of a run for TensorBoard, where that is installed."""

from __future__ import annotations

from pathlib import Path

from ...errors import MissingDependencyError
from ..result import Callbacks, EpochReport, StepReport


def tensorboard(folder: Path) -> Callbacks:
    """Return who writes losses, learning rate and gradient norm to TensorBoard's event files.

    Args:
        folder: What ``tensorboard --logdir`` is given.

    Raises:
        MissingDependencyError: TensorBoard is not installed.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise MissingDependencyError(
            "tensorboard", "Writing a TensorBoard", "pip install tensorboard"
        ) from None
    writer = SummaryWriter(str(folder))

    def on_step(report: StepReport) -> None:
        writer.add_scalar("loss/step", report.loss, report.step)
        writer.add_scalar("learning rate", report.learning_rate, report.step)
        writer.add_scalar("gradient norm", report.gradient_norm, report.step)

    def on_epoch(report: EpochReport) -> None:
        if report.loss is not None:
            writer.add_scalar("loss/epoch", report.loss, report.step)
        if report.validation_loss is not None:
            writer.add_scalar("loss/validation", report.validation_loss, report.step)
        writer.flush()

    return Callbacks(on_step=on_step, on_epoch=on_epoch)
