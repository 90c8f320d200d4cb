"""One self-contained HTML page, and contact sheets."""

from __future__ import annotations

from .contact_sheet import contact_sheet, contact_sheets
from .page import render

__all__ = ["contact_sheet", "contact_sheets", "render"]
