"""A headless Chromium on the page of a real ComfyUI."""

from __future__ import annotations

import os
import shutil

import pytest

HOW = (
    "no Chromium: install it (Debian: apt-get install chromium), or set CHROMIUM_PATH to one; and "
    "python -m pip install playwright"
)


@pytest.fixture(scope="session")
def chromium():
    """A running browser."""
    playwright = pytest.importorskip("playwright.sync_api", reason=HOW)
    names = ("chromium", "chromium-browser", "google-chrome")
    path = os.environ.get("CHROMIUM_PATH") or next(filter(None, map(shutil.which, names)), None)
    if path is None:
        pytest.skip(HOW)
    from tests.support.comfyui.canvas_page import FLAGS

    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=path, args=list(FLAGS))
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def canvas(server, chromium):
    """ComfyUI's page, opened once."""
    from tests.support.comfyui.canvas_page import CanvasPage

    opened = CanvasPage(chromium, server)
    yield opened
    opened.close()
