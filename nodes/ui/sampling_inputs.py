"""The widgets that say how a node samples its images: those of a KSampler, and their size."""

from __future__ import annotations

from typing import Any

import comfy.samplers
from comfy_api.latest import io

from .widgets import widget


def sampling_inputs(sampler: str | None = None, scheduler: str | None = None) -> list[Any]:
    """Return the inputs steps, cfg, sampler_name, scheduler, width and height, in this order.

    Saved graphs hold a node's values by their place, so that the order never changes.

    Args:
        sampler: What ``sampler_name`` is in a new node; None leaves it to the first of the list.
        scheduler: The same for ``scheduler``.
    """
    from ...core.defaults import MINIATURE_GUIDANCE
    from ...core.project_sections import ModelSection

    return [
        widget(ModelSection, "steps", max=1000, tooltip="As in a KSampler."),
        io.Float.Input(
            "cfg", default=7.0, min=0.0, max=100.0, step=0.1,
            tooltip=f"As in a KSampler. The miniature likes {MINIATURE_GUIDANCE}.",
        ),
        io.Combo.Input(
            "sampler_name", options=list(comfy.samplers.KSampler.SAMPLERS),
            default=sampler, tooltip="As in a KSampler.",
        ),
        io.Combo.Input(
            "scheduler", options=list(comfy.samplers.KSampler.SCHEDULERS),
            default=scheduler, tooltip="As in a KSampler.",
        ),
        *(
            io.Int.Input(
                side, default=512, min=64, max=16384, step=8,
                tooltip="In pixels. The miniature makes 128.",
            )
            for side in ("width", "height")
        ),
    ]  # fmt: skip
