"""How the shipped graphs look on a screen of 1920 x 1080, drawn and in HTML nodes."""

import json
from pathlib import Path

import pytest

from tests.support.comfyui.canvas_measures import inside, measure, overlaps, smallest_text
from tests.support.comfyui.canvas_page import CanvasPage
from tests.support.comfyui.reduced import REDUCED

WORKFLOWS = sorted((Path(__file__).resolve().parents[2] / "workflows").glob("*.json"))
QUICK_START = next(path for path in WORKFLOWS if path.stem == "quick_start")
LEAST_TEXT = 10
"""Pixels on the screen, of the letters of the quick start's notes when it opens."""


@pytest.fixture(scope="module")
def page(server, chromium):
    """A page of its own, whose rendering is changed."""
    opened = CanvasPage(chromium, server)
    yield opened
    opened.render(newer=False)
    opened.close()


@pytest.fixture(params=["drawn", "html"])
def rendering(page, request):
    """Each of the page's renderings."""
    newer = request.param == "html"
    if not page.render(newer):
        pytest.skip("no newer rendering in this frontend")
    return newer


def opened(page, path, newer):
    """Open a graph; return its nodes and frames, all of them in the wanted rendering."""
    page.open(json.loads(path.read_text(encoding="utf-8")))
    nodes, frames = measure(page)
    assert {node.html for node in nodes} == {newer}
    return nodes, frames


def faults(nodes, frames):
    """Return what is not where it should be."""
    found = [f"{one} lies on {other}" for one, other in overlaps(nodes)]
    found += [f"{node.name}: {part} stands out" for node in nodes for part in node.outgrown()]
    return found + [
        f"{node.name} is in no frame"
        for node in nodes
        if not any(inside(node.box, frame, slack=1) for frame in frames)
    ]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_nothing_lies_on_another_or_stands_out(page, rendering, path):
    nodes, frames = opened(page, path, rendering)
    assert faults(nodes, frames) == []
    assert sum(len(node.parts) for node in nodes) > len(nodes), "widgets are measured"


def test_the_quick_start_opens_so_large_that_its_notes_can_be_read(page, rendering):
    opened(page, QUICK_START, rendering)
    assert smallest_text(page) >= LEAST_TEXT


def test_the_subgraphs_of_the_quick_start_are_laid_out_too(page, rendering):
    nodes, _ = opened(page, QUICK_START, rendering)
    names = [node.name for node in nodes]
    entered = 0
    for name in names:
        if page.enter(name):
            entered += 1
            within, frames = measure(page)
            assert faults(within, frames) == [], name
            page.leave()
    assert entered == 2


def settled(page):
    """Measure when nothing moves any more: on a busy machine the page lays nodes out late."""
    before = None
    for _ in range(30):
        page.page.wait_for_timeout(1000)
        nodes, frames = measure(page)
        now = [node.box for node in nodes]
        if now == before:
            break
        before = now
    return nodes, frames


@pytest.fixture
def after_a_run(page, server, rendering):
    """The quick start with small numbers, run in this rendering, as a user does who has chosen it.

    Changed to the other rendering with its results, the newest frontend makes nodes higher.
    """
    page.open(json.loads(QUICK_START.read_text(encoding="utf-8")))
    # Another name than the other tests': their training would be found, and shown at once.
    page.change({**REDUCED, TRAIN: {**REDUCED[TRAIN], "name": "rendered"}})
    done = server.wait(page.queue(), 400)
    assert done.status == "success", done.error
    return done


TRAIN = "CharacterCurator_TrainLoRA"


def test_after_a_run_each_image_is_shown_once_and_nothing_lies_on_another(page, after_a_run):
    nodes, frames = settled(page)
    assert faults(nodes, frames) == []
    showing = {node.type: (node.images, node.results) for node in nodes if node.results}
    assert set(showing) == {
        "CharacterCurator_SeedBatchGenerate", "CharacterCurator_ContactSheet", TRAIN,
        "PreviewImage", "SaveImage",
    }  # fmt: skip
    assert all(images == results for images, results in showing.values()), showing
