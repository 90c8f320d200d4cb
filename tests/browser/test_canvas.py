"""What a user does in the page: open a shipped graph, press Run, drop an image, read help."""

import json
from pathlib import Path

import pytest

from tests.support.comfyui.reduced import REDUCED, api_form

ROOT = Path(__file__).resolve().parents[2]
WORKFLOWS = sorted((ROOT / "workflows").glob("*.json"))
PREFIX = "CharacterCurator_"


def graph_of(path):
    return json.loads(path.read_text(encoding="utf-8"))


def all_nodes(graph):
    """Those of the graph, and of its subgraphs."""
    inside = graph.get("definitions", {}).get("subgraphs", ())
    return graph["nodes"] + [node for definition in inside for node in definition["nodes"]]


@pytest.mark.parametrize("place", ["on the canvas", "in a subgraph"])
def test_a_node_that_is_missing_is_shown(canvas, place):
    graph = graph_of(ROOT / "workflows" / "quick_start.json")
    number = 0 if place == "on the canvas" else -1
    all_nodes(graph)[number]["type"] = PREFIX + "NoSuchNode"
    canvas.open(graph)
    assert canvas.missing() == 1
    canvas.dismiss()


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_shipped_graph_opens_and_no_node_is_missing(canvas, path):
    graph = graph_of(path)
    canvas.open(graph)
    assert canvas.missing() == 0
    assert canvas.types() == sorted(node["type"] for node in all_nodes(graph))


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_the_page_queues_the_graph_that_the_file_holds(canvas, server, path):
    """No widget has slipped: each value arrives under its own name."""
    graph = graph_of(path)
    canvas.open(graph)
    sent = canvas.page.evaluate("window.app.graphToPrompt().then(made => made.output)")
    expected = api_form(graph, server)
    assert set(sent) == set(expected)
    for number, node in expected.items():
        inputs = sent[number]["inputs"]
        inputs.pop("preview", None)  # the page's own, on PreviewAny
        assert inputs == node["inputs"], node["class_type"]


def test_a_subgraph_shows_the_widgets_of_its_nodes_with_their_values(canvas):
    canvas.open(graph_of(ROOT / "workflows" / "quick_start.json"))
    shown = dict(
        canvas.page.evaluate(
            "window.app.graph.nodes.filter(node => node.isSubgraphNode?.())"
            ".flatMap(node => node.widgets.map(widget => [widget.name, widget.value]))"
        )
    )
    assert shown.pop("prompt").startswith("portrait of char1 woman, ")
    assert shown == {
        "minimum_identity": 0.6, "minimum_quality": 0.74, "clusters": 4, "total": 12,
        "quotas": "seed=2\nscenario=2..", "folder": "char1/dataset", "count": 4, "steps": 20,
        "cfg": 2.5,
    }  # fmt: skip


@pytest.fixture(scope="module")
def quick_start(canvas, server):
    """The quick start with small numbers, opened and run to its end by the button Run."""
    canvas.open(graph_of(ROOT / "workflows" / "quick_start.json"))
    canvas.change(REDUCED)
    canvas.page.evaluate(
        "kind => { window.shown = 0; const node = window.app.graph.nodes.find("
        "n => n.type === kind); window.app.api.addEventListener('executed', event => {"
        " window.shown += String(event.detail.node) === String(node.id) }); }",
        PREFIX + "SeedBatchGenerate",
    )
    done = server.wait(canvas.queue(), 400)
    assert done.status == "success", done.error
    return done


def test_run_leads_the_quick_start_to_its_end_and_images_appear(canvas, quick_start):
    canvas.page.wait_for_function("window.shown > 1")  # while the node ran, and its result
    for kind in ("SeedBatchGenerate", "ContactSheet", "TrainLoRA"):
        canvas.wait_for_images(PREFIX + kind)
    canvas.wait_for_images("PreviewImage")
    canvas.wait_for_images("SaveImage")


def test_a_generated_image_dropped_on_the_page_opens_the_graph_that_makes_it(
    canvas, quick_start, server
):
    image = min((server.base / "output" / "char1" / "raw").glob("*.png"))
    canvas.drop(image)
    assert canvas.missing() == 0
    assert canvas.types() == sorted([
        PREFIX + "LoadMiniature", "CLIPTextEncode", "CLIPTextEncode", "EmptyLatentImage",
        "KSampler", "VAEDecode", "SaveImage",
    ])  # fmt: skip
    done = server.wait(canvas.queue(), 300)
    assert done.status == "success", done.error


def test_the_help_of_a_node_opens_with_its_image(canvas):
    canvas.open(graph_of(ROOT / "workflows" / "curate_a_folder.json"))
    shown = canvas.help(PREFIX + "FaceValidate")
    assert "rejects images with no face" in shown.inner_text()
    image = shown.locator("img").first
    image.wait_for()
    assert image.evaluate("image => image.decode().then(() => image.naturalWidth)") > 100
