"""Where little passes in a graph, it is said what each threshold costs, and which would do."""

import pytest
from PIL import Image

from tests.support.comfyui.graphs import node
from tests.support.comfyui.portraits import draw_folder


@pytest.fixture(scope="module")
def graph(server):
    """A graph with a least quality that no portrait reaches."""
    draw_folder(server.base / "input" / "strict", count=4)
    return {
        "1": node("LoadImageSet", folder="strict"),
        "2": node("FaceValidate", images=["1", 0], pack="miniature", minimum_confidence=0.1,
                  minimum_share=0.01, minimum_side=16.0, minimum_identity=-1.0),
        "3": node("QualityScore", images=["2", 0], minimum=0.999),
        "4": node("ClipCluster", images=["3", 0], model="miniature", clusters=2),
        "5": node("BalancedSelect", images=["4", 0], total=3, quotas="", duplicates=1.0),
        "6": node("DatasetExport", images=["5", 0], selection=["5", 1], folder="strict/set",
                  name="char1", trigger="char1", captions="{caption}"),
    }  # fmt: skip


def test_where_nothing_passes_the_error_says_what_would(server, graph):
    (server.base / "output" / "rejected.jpg").unlink(missing_ok=True)
    said = server.refusal(graph)
    assert "None of the 4 images can be selected" in said
    assert "minimum quality 0.999: 4 below it" in said
    assert "--" not in said
    sheet = server.base / "output" / "rejected.jpg"
    assert str(sheet) in said
    with Image.open(sheet) as image:
        assert image.width > 5 * 256


def test_where_little_passes_the_export_says_it_too(server, graph):
    few = {**graph, "3": node("QualityScore", images=["2", 0], minimum=0.1)}
    few["5"] = node("BalancedSelect", images=["4", 0], total=30, quotas="", duplicates=1.0)
    said = server.run(few).outputs["6"]["text"][0]
    assert "Fewer pass than the 30 that were wanted." in said
    assert "None of them is below minimum quality 0.1" in said
    enough = {**few, "5": node("BalancedSelect", images=["4", 0], total=1, quotas="",
                               duplicates=1.0)}  # fmt: skip
    assert "Fewer pass" not in server.run(enough).outputs["6"]["text"][0]
