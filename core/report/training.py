"""The report's section on a LoRA that was trained on the dataset."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape
from pathlib import Path

from ..plain_files import plain_bytes
from .thumbnails import data_uri, thumbnail

_SHEET_SIDE = 1200


def training_section(
    name: str, facts: Sequence[tuple[str, str]], plot: Path | None, sheet: Path | None
) -> str:
    """Return the section as HTML, with everything embedded.

    Args:
        name: The LoRA file's name.
        facts: What is known of the training: what it is, and its value.
        plot: The loss over the epochs, an SVG file; left out where it is not there.
        sheet: The sheet of sample images; left out where it cannot be read.
    """
    rows = "".join(
        f"<tr><td>{escape(label)}</td><td>{escape(value)}</td></tr>" for label, value in facts
    )
    parts = [f"<section><h2>Training: {escape(name)}</h2><table><tbody>{rows}</tbody></table>"]
    if plot is not None and plot.is_file():
        drawn = base64.b64encode(plain_bytes(plot)).decode()
        parts.append(
            '<p><img class="sheet" alt="Loss over the epochs" '
            f'src="data:image/svg+xml;base64,{drawn}"></p>'
        )
    small = None if sheet is None else thumbnail(sheet, _SHEET_SIDE)
    if small is not None:
        parts.append(
            '<p><img class="sheet" loading="lazy" alt="Sample images" '
            f'width="{small.width}" height="{small.height}" src="{data_uri(small)}"></p>'
        )
    return "".join(parts) + "</section>"
