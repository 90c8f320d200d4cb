"""Widgets that core's models describe: default, limits, choices and tooltip come from a field."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from comfy_api.latest import io

if TYPE_CHECKING:
    from pydantic import BaseModel


def widget(model: type[BaseModel], field: str, name: str | None = None, **own: Any) -> Any:
    """Return the widget of a model's field.

    Args:
        model: One of core's models.
        field: The field's name.
        name: What the widget is called, where saved graphs know it by another name.
        own: What the canvas wants otherwise: a ``tooltip`` that speaks of the canvas, the ``step``
            of the arrows, a largest number where the field has none, a default for saved graphs.
    """
    from ...core.options import option

    described = option(model, field)
    values: dict[str, Any] = {"default": described.default, "tooltip": described.text}
    if described.kind in ("whole", "number"):
        number = int if described.kind == "whole" else float
        limits = {"min": described.least, "max": described.most}
        values |= {key: number(limit) for key, limit in limits.items() if math.isfinite(limit)}
    kinds = {"flag": io.Boolean, "whole": io.Int, "number": io.Float, "choice": io.Combo}
    if described.kind == "choice":
        values["options"] = list(described.choices)
    kind: Any = io.Combo if "options" in own else kinds.get(described.kind, io.String)
    return kind.Input(name or field, **(values | own))
