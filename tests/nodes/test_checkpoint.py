"""A checkpoint of the real SD 1.5 layout, through stock loaders, to stock graphs in the PNGs."""

import io
import json

import numpy as np
import pytest
from PIL import Image

from tests.support.comfyui.graphs import generation, stock
from tests.support.comfyui.server import files

pytestmark = pytest.mark.slow


def test_the_graph_in_an_image_is_stock_and_makes_exactly_this_image(server, checkpoint):
    graph = generation(
        "stock", plan_widgets={"seeds": "7", "scenarios": "red hoodie"}, steps=2, cfg=3.0,
        width=64, height=64,
    )  # fmt: skip
    graph["1"] = stock("CheckpointLoaderSimple", ckpt_name=checkpoint)
    server.run(graph, 600)
    folder = server.base / "output" / "stock"
    data = (folder / files(folder)[0]).read_bytes()
    with Image.open(io.BytesIO(data)) as image:
        prompt = json.loads(image.info["prompt"])
        pixels = np.asarray(image)
        assert json.loads(image.info["character_curator"])["settings"]["model"] == checkpoint
    assert not [n for n in prompt.values() if n["class_type"].startswith("CharacterCurator")]
    run = server.run(prompt, 600)
    [saved] = [image for output in run.outputs.values() for image in output["images"]]
    with Image.open(server.base / "output" / saved["filename"]) as image:
        assert np.array_equal(np.asarray(image), pixels)
    assert pixels.std() > 1, "an image, not a blank"
