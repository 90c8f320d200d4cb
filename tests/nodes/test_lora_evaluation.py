"""EvaluateLoRA in a real ComfyUI, on the miniature, with reduced numbers."""

import json

import numpy as np
import polars as pl
import pytest
from PIL import Image

from tests.support.comfyui.graphs import node, training
from tests.support.comfyui.portraits import draw_folder
from tests.support.comfyui.server import files

PROMPTS = "portrait of {who}, red hoodie, park background\nportrait of char1 woman, white shirt"


def evaluation(folder, **changes):
    widgets = {
        "model": ["1", 0], "clip": ["1", 1], "vae": ["1", 2], "dataset": ["4", 0],
        "lora_name": ["2", 2], "folder": folder, "prompts": PROMPTS, "seeds": "1-2", "steps": 3,
        "cfg": 2.5, "sampler_name": "euler", "scheduler": "normal", "width": 128, "height": 128,
        "pack": "miniature", "clip_model": "miniature", "leakage": False, "trigger": "char1",
        "class_word": "woman",
    }  # fmt: skip
    return node("EvaluateLoRA", **{**widgets, **changes})


@pytest.fixture(scope="module")
def evaluated(server):
    draw_folder(server.base / "input" / "judged")
    graph = training(name="judged", folder="judged", epochs=1, rank=2, sample_every=0)
    graph["3"] = node("LoadImageSet", folder="judged")
    graph["4"] = node(
        "DatasetExport", images=["3", 0], folder="judged/dataset", name="char1", trigger="char1",
        captions="trigger",
    )  # fmt: skip
    graph["5"] = evaluation("judged/evaluation")
    return graph, server.run(graph, 900)


def images(server, folder):
    place = server.base / "output" / "judged" / folder
    return {path.name: path for path in sorted(place.rglob("char_*.png"))}


def pixels(path):
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def test_every_prompt_is_made_with_every_seed_by_lora_and_base(server, evaluated):
    _, run = evaluated
    made = images(server, "evaluation")
    assert len(made) == 8
    assert sum("trigger" in name for name in made) == 4
    table = pl.read_parquet(
        server.base / "output" / "judged" / "evaluation" / "judged" / "pictures.parquet"
    )
    own = table.filter(pl.col("series") == "trigger")
    assert set(own["prompt"]) == {
        "portrait of char1 woman, red hoodie, park background",
        "portrait of char1 woman, white shirt",
    }
    assert own["rating"].is_between(1, 5).all()
    assert run.outputs["5"]["images"], "the grid is shown"


def test_the_figures_stand_beside_the_base_models(server, evaluated):
    _, run = evaluated
    text = run.outputs["5"]["text"][0]
    for figure in ("character consistency", "artefacts", "adherence (CLIP)", "diversity"):
        assert figure in text
    assert "leakage" not in text, "was not asked for"
    folder = server.base / "output" / "judged" / "evaluation" / "judged"
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["trigger"] == "char1"
    assert summary["series"]["trigger"]["pictures"] == 4


def test_a_second_queue_runs_nothing_and_a_deleted_image_is_made_again(server, evaluated):
    graph, _ = evaluated
    assert server.run(graph).cached == set(graph)
    gone, *kept = images(server, "evaluation").values()
    content = pixels(gone)
    times = [path.stat().st_mtime_ns for path in kept]
    gone.unlink()
    run = server.run(graph)
    assert set(graph) - run.cached == {"5"}
    assert np.array_equal(pixels(gone), content)
    assert [path.stat().st_mtime_ns for path in kept] == times


def test_the_trained_model_in_place_of_the_file_makes_the_same_images(server, evaluated):
    graph, _ = evaluated
    graph = {
        **graph,
        "5": evaluation("judged/wired", trained_model=["2", 0], trained_clip=["2", 1]),
    }
    server.run(graph, 600)
    by_file, by_wire = images(server, "evaluation"), images(server, "wired")
    assert by_file.keys() == by_wire.keys()
    for name in by_file:
        assert np.array_equal(pixels(by_file[name]), pixels(by_wire[name]))


def test_a_lora_that_is_not_there_is_told(server, evaluated):
    graph, _ = evaluated
    run = server.wait(
        server.queue({**graph, "5": evaluation("judged/none", lora_name="no.safetensors")})
    )
    assert "There is no LoRA 'no.safetensors'" in run.error
    assert not files(server.base / "output" / "judged" / "none")
