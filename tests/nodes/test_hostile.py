"""A server goes on after what would have ended it, and says in words what was wrong."""

import pytest

from tests.support.comfyui.graphs import generation, node, plan, stock
from tests.support.comfyui.random_lora import random_lora
from tests.support.comfyui.server import files


def asked(number, entry):
    return {number: entry, "90": stock("PreviewAny", source=[number, 0])}


@pytest.mark.parametrize(
    ("widgets", "says"),
    [
        ({"seeds": "1\ud800"}, "half of a character"),
        ({"description": "a\udcff"}, "half of a character"),
        ({"seeds": "y" * 1_000_000}, "neither a number nor a range"),
        ({"plan_file": "x" * 300}, "no path that can be used"),
        ({"plan_file": "a\ud800.toml"}, "no path that can be used"),
    ],
    ids=["half", "other half", "long", "long name", "half a name"],
)
def test_a_text_that_no_terminal_takes_ends_a_graph_and_not_the_server(server, widgets, says):
    run = server.wait(server.queue(asked("1", plan(**widgets))), 60)
    assert run.status == "error"
    assert says in run.error or "half of a character" in run.error
    assert len(run.error) < 5000
    assert server.run(asked("1", plan(seeds="1"))).outputs


def test_a_file_whose_name_is_no_text_is_named_in_an_error(server):
    folder = server.base / "input" / "odd"
    folder.mkdir()
    (folder / "a\udcff.png").write_bytes(b"no image")
    graph = {
        "1": node("LoadImageSet", folder="odd"),
        "2": node("ImageSetToImages", images=["1", 0], which="all", first=0, count=1),
        "90": stock("PreviewAny", source=["2", 0]),
    }
    run = server.wait(server.queue(graph), 60)
    assert run.status == "error"
    run.error.encode()
    assert server.run(asked("1", plan(seeds="1"))).outputs


def test_values_that_are_no_numbers_are_an_error_and_no_black_images(server):
    graph = generation("numbers", steps=1, limit=1, plan_widgets={"seeds": "1"})
    graph["4"] = stock(
        "LoraLoader", model=["1", 0], clip=["1", 1], lora_name=random_lora(server, 64, 1e30),
        strength_model=1.0, strength_clip=0.0,
    )  # fmt: skip
    graph["3"]["inputs"]["model"] = ["4", 0]
    run = server.wait(server.queue(graph), 120)
    assert run.status == "error"
    assert "The model gives values that are no numbers (NaN)" in run.error
    assert files(server.base / "output" / "numbers") == []
