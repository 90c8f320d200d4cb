"""Captions in a real ComfyUI: by a tiny tagger, by a CLIP wire, and edited."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.comfyui.graphs import node
from tests.support.comfyui.pack import part
from tests.support.comfyui.portraits import draw_folder
from tests.support.tiny_captioners import tiny_tagger


@pytest.fixture(scope="module")
def photos(server):
    draw_folder(server.base / "input" / "captioned", count=4)
    tiny_tagger(server.base / "models" / "taggers" / "tiny")
    return "captioned"


def graph(photos, **changes):
    widgets = {"images": ["1", 0], "model": "tiny", "existing": "replace", "most": 1}
    return {
        "1": node("LoadImageSet", folder=photos),
        "2": node("CaptionImages", **{**widgets, **changes}),
        "3": node(
            "EditCaptions", images=["2", 0], replace="1girl => a person\n/^/ => photo, ",
            remove="", prune=0.0, add="film grain", trigger="char1",
        ),
        "4": node(
            "DatasetExport", images=["3", 0], folder="captioned/dataset", name="x",
            trigger="char1", captions="trigger + what varies",
        ),
    }  # fmt: skip


def test_captions_lead_from_a_tagger_into_a_dataset(server, photos):
    first = server.run(graph(photos))
    assert first.outputs["2"]["text"][0].startswith("4 captions by tiny; it was asked about 4")
    assert "4 of 4 captions change." in first.outputs["3"]["text"][0]
    texts = sorted((server.base / "output" / "captioned" / "dataset").glob("*.txt"))
    assert len(texts) == 4
    assert {path.read_text() for path in texts} == {"char1, photo, a person, film grain\n"}


def test_a_moved_threshold_asks_nothing_again(server, photos):
    server.run(graph(photos))
    again = server.run(graph(photos, most=2, threshold=0.5))
    assert "it was asked about 0 images" in again.outputs["2"]["text"][0]


def test_captions_that_are_there_are_kept_unless_it_is_said_otherwise(server, photos):
    done = server.run(graph(photos, existing="keep"))
    assert "4 images kept their captions" in done.outputs["2"]["text"][0]


def test_lines_of_replacements():
    module = part("curate.caption_operations")
    make = module.operations
    done = make("a b => c\n\n/x+/ => y, \n", "", 0.5, "k", "", "t", True)
    assert [str(one) for one in done] == [
        "replace 'a b' by 'c'", "replace the pattern 'x+' by 'y, '",
        "prune what 50% of the captions have, but keep 'k'",
        "put the trigger word 't' in front", "take repeated phrases away",
    ]  # fmt: skip
    with pytest.raises(module.ReplacementError, match="has no =>"):
        make("a b", "", 0, "", "", "", False)


@pytest.fixture(scope="module")
def written(comfyui):
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.wires.wire_captions", str(comfyui)],
        capture_output=True, text=True, check=False, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    lines = [line for line in done.stdout.splitlines() if line.startswith("FOUND ")]
    assert lines, done.stderr[-3000:]
    found = json.loads(lines[0].removeprefix("FOUND "))
    if "absent" in found:
        pytest.skip("no text generation in this ComfyUI")
    return found


@pytest.mark.slow
def test_a_clip_wire_writes_what_the_stock_node_writes(written):
    assert written["ours"] == written["stock"]
    assert written["ours"][0] != written["ours"][1], "it follows the image"
    assert all(one["cut"] for one in written["answers"])


@pytest.mark.slow
def test_a_clip_wire_that_cannot_is_refused(written):
    assert "writes no text" in written["clip_l"]
    assert "takes no image" in written["blind"]
    assert "without the layer" in written["headless"]


@pytest.mark.slow
def test_cancel_is_no_images_fault(written):
    assert written["cancelled"] == "InterruptProcessingException"
