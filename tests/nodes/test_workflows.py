"""Every shipped graph runs to its end through the API, with reduced numbers."""

import json
import re
from dataclasses import replace
from pathlib import Path
from urllib.error import HTTPError

import numpy as np
import pytest
from PIL import Image

from tests.support.comfyui.canvas_layout import Column, Node, canvas
from tests.support.comfyui.make_workflows import text_of
from tests.support.comfyui.portraits import draw_folder
from tests.support.comfyui.random_lora import random_lora
from tests.support.comfyui.reduced import PREFIX, RANDOM, api_form, of_type, reduced
from tests.support.comfyui.server import files
from tests.support.comfyui.shipped_blueprints import BLUEPRINTS
from tests.support.comfyui.shipped_graphs import GRAPHS

FOLDER = Path(__file__).resolve().parents[2] / "workflows"
WORKFLOWS = sorted(FOLDER.glob("*.json"))
SUBGRAPHS = FOLDER.parent / "subgraphs"


def read(name):
    return json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))


def with_miniature(graph):
    """Let the miniature take the place of the checkpoint, which is not there."""
    graph = reduced(graph)
    [loader] = of_type(graph, "CheckpointLoaderSimple")
    graph[loader] = {"class_type": PREFIX + "LoadMiniature", "inputs": {}}
    for number in of_type(graph, PREFIX + "SeedBatchGenerate") + of_type(graph, "EmptyLatentImage"):
        graph[number]["inputs"] |= {"width": 128, "height": 128}
    return graph


def with_checkpoint(graph, checkpoint):
    """Let a shipped graph's stock loader load the random weights."""
    graph = reduced(graph, RANDOM)
    [loader] = of_type(graph, "CheckpointLoaderSimple")
    graph[loader]["inputs"]["ckpt_name"] = checkpoint
    return graph


@pytest.fixture(scope="module")
def quick_start(server):
    """The graph that needs nothing but the pack, run to its end."""
    graph = reduced(api_form(read("quick_start"), server))
    return graph, server.run(graph)


def test_the_quick_start_leads_from_a_plan_to_a_image_made_with_the_lora(server, quick_start):
    graph, run = quick_start
    output = server.base / "output" / "char1"
    assert len(files(output / "raw")) == 8
    assert len(files(output / "dataset")) == 4
    assert (server.base / "models" / "loras" / "char1.safetensors").is_file()
    [save] = of_type(graph, "SaveImage")
    assert [image["subfolder"] for image in run.outputs[save]["images"]] == ["char1"]
    [train], [sampler] = of_type(graph, PREFIX + "TrainLoRA"), of_type(graph, "KSampler")
    assert graph[sampler]["inputs"]["model"] == [train, 0]


def test_a_data_set_is_trained_on_and_the_lora_is_evaluated(server, quick_start):
    graph = reduced(api_form(read("train_from_a_dataset"), server))
    [train], [evaluate] = (of_type(graph, PREFIX + n) for n in ("TrainLoRA", "EvaluateLoRA"))
    graph[train]["inputs"]["name"] = "again"
    run = server.run(graph, 400)
    assert (server.base / "models" / "loras" / "again.safetensors").is_file()
    assert run.outputs[evaluate]["images"], "the grid is shown"
    [figures] = of_type(graph, "PreviewAny")
    assert "consisten" in run.outputs[figures]["text"][0].lower()


def test_a_folder_is_curated(server):
    draw_folder(server.base / "input" / "photos")
    graph = reduced(api_form(read("curate_a_folder"), server))
    [export] = of_type(graph, PREFIX + "DatasetExport")
    graph[export]["inputs"]["folder"] = "folder/dataset"
    server.run(graph)
    assert len(files(server.base / "output" / "folder" / "dataset")) == 4


def test_what_a_checkpoint_makes_is_curated(server):
    graph = with_miniature(api_form(read("curate_with_a_checkpoint"), server))
    place(graph, "own")
    server.run(graph)
    assert len(files(server.base / "output" / "own" / "raw")) == 16
    # At so few steps not every image has a face.
    assert 1 <= len(files(server.base / "output" / "own" / "dataset")) <= 4


def test_what_a_checkpoint_makes_is_made_in_waves(server):
    graph = with_miniature(api_form(read("only_what_is_needed"), server))
    place(graph, "needed")
    for kind, values in {
        "CharacterPlan": {"originals": "", "takes": 2},
        "SeedBatchGenerate": {"wave": 6, "limit": 18},
        "BalancedSelect": {"total": 2, "quotas": "seed=1"},
    }.items():
        [number] = of_type(graph, PREFIX + kind)
        graph[number]["inputs"] |= values
    run = server.run(graph)
    [text] = of_type(graph, "PreviewAny")
    # At so few steps few images have a face.
    said = run.outputs[text]["text"][0]
    assert re.match(r"\d+ images in [2-9] waves: ", said)
    assert "nothing is lacking" in said
    assert len(files(server.base / "output" / "needed" / "dataset")) == 2


def test_two_subjects_have_a_dataset_each_and_one_together(server):
    graph = reduced(api_form(read("two_subjects"), server))
    for number in of_type(graph, PREFIX + "CharacterPlan"):
        graph[number]["inputs"] |= {"seeds": "966983", "originals": ""}
    run = server.run(graph)
    output = server.base / "output"
    datasets = [len(files(output / name / "dataset")) for name in ("ada", "ben")]
    assert all(1 <= count <= 3 for count in datasets), "at so few steps not every one has a face"
    both = {path.parent.name for path in (output / "both" / "dataset").rglob("*.png")}
    assert both == {"1_ada", "1_ben"}
    assert len(list((output / "both" / "dataset").rglob("*.png"))) == sum(datasets)
    [table] = of_type(graph, "PreviewAny")
    assert "| images of | images | to ada | to ben |" in run.outputs[table]["text"][0]


def test_photographs_and_disturbed_variations_of_them_become_one_dataset(server):
    draw_folder(server.base / "input" / "photos")
    graph = reduced(api_form(read("augmentation"), server))
    for number in of_type(graph, PREFIX + "CharacterPlan"):
        graph[number]["inputs"]["seeds"] = "966983"
    [train] = of_type(graph, PREFIX + "TrainLoRA")
    graph[train]["inputs"] |= {"name": "augmented", "steps": 2}
    selects = of_type(graph, PREFIX + "BalancedSelect")
    [both] = [n for n in selects if graph[n]["inputs"]["total"] == 4
              and graph[n]["inputs"]["images"] != _chosen_real(graph)]  # fmt: skip
    graph[both]["inputs"]["quotas"] = "kind=scenario:2,disturbed:2"
    for number in of_type(graph, PREFIX + "DatasetExport"):
        name = graph[number]["inputs"]["name"]
        graph[number]["inputs"]["folder"] = f"augmented/{name}"
    run = server.run(graph, 400)
    output = server.base / "output"
    [disturb] = of_type(graph, PREFIX + "DisturbImages")
    assert "4 disturbed copies of 4 of 4 images" in run.outputs[disturb]["text"][0]
    rows = json.loads((output / "augmented" / "combined" / "metadata.json").read_text())
    kinds = [row["type"] for row in rows.values()]
    assert kinds.count("real") == 4
    assert 1 <= kinds.count("scenario") + kinds.count("disturbed") <= 4
    for name, row in rows.items():
        if row["type"] == "real":
            photo = server.base / "input" / "photos" / Path(row["source"]).name
            with (
                Image.open(photo) as given,
                Image.open(output / "augmented" / "combined" / name) as kept,
            ):
                assert np.array_equal(np.asarray(given), np.asarray(kept))
        if row["type"] == "disturbed":
            assert row["disturbance"]["kind"] in ("occlusion", "blur", "noise", "compression")


def _chosen_real(graph):
    """Return the wire of the photographs' clusters."""
    [join] = of_type(graph, PREFIX + "JoinImageSets")
    return graph[graph[join]["inputs"]["first"][0]]["inputs"]["images"]


def test_assets_of_a_lora_are_packed(server):
    graph = reduced(api_form(read("game_assets"), server))
    [loader] = of_type(graph, "LoraLoader")
    graph[loader]["inputs"] |= {"lora_name": random_lora(server, 64), "strength_model": 0.01}
    [plan] = of_type(graph, PREFIX + "CharacterPlan")
    scenarios = graph[plan]["inputs"]["scenarios"].split("\n")[:2]
    graph[plan]["inputs"] |= {"scenarios": "\n".join(scenarios)}
    [generate] = of_type(graph, PREFIX + "SeedBatchGenerate")
    graph[generate]["inputs"]["steps"] = 8
    run = server.run(graph)
    folder = server.base / "output" / "char1" / "assets"
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    assert 1 <= manifest["count"] <= 4, "at so few steps not every one has a face"
    assert {entry["seed"] for entry in manifest["assets"]} <= {966983, 966984}
    assert {entry["file"].partition("/")[0] for entry in manifest["assets"]} <= {
        "armor", "portrait",
    }  # fmt: skip
    assert (folder / "atlas.json").is_file()
    assert folder.with_name("assets.zip").is_file()
    [told] = of_type(graph, "PreviewAny")
    assert "Archive: " in run.outputs[told]["text"][0]


@pytest.mark.slow
def test_a_checkpoint_of_the_real_layout_generates_what_the_graph_curates(server, checkpoint):
    """Random weights draw no faces, so that what is curated is a folder of portraits."""
    draw_folder(server.base / "input" / "photos")
    graph = with_checkpoint(api_form(read("curate_with_a_checkpoint"), server), checkpoint)
    place(graph, "checkpoint")
    graph["99"] = {"class_type": PREFIX + "LoadImageSet", "inputs": {"folder": "photos"}}
    [generate] = of_type(graph, PREFIX + "SeedBatchGenerate")
    [faces] = of_type(graph, PREFIX + "FaceValidate")
    assert graph[faces]["inputs"]["images"] == [generate, 0]
    graph[faces]["inputs"]["images"] = ["99", 0]
    server.run(graph, 600)
    [name] = files(server.base / "output" / "checkpoint" / "raw")
    with Image.open(server.base / "output" / "checkpoint" / "raw" / name) as image:
        assert np.asarray(image).std() > 1, "an image, not a blank"
        assert image.size == (64, 64)
    assert len(files(server.base / "output" / "checkpoint" / "dataset")) == 4


def place(graph, folder):
    """Let a graph write below a folder of its own."""
    for name, part in (("SeedBatchGenerate", "raw"), ("DatasetExport", "dataset")):
        for number in of_type(graph, PREFIX + name):
            graph[number]["inputs"]["folder"] = f"{folder}/{part}"


def lora_changes_the_image(server, graph, lora):
    """Run a graph with and without the LoRA, and compare."""
    [loader] = of_type(graph, "LoraLoader")
    pixels = {}
    for strength in (0.0, 1.0):
        graph[loader]["inputs"] |= {"lora_name": lora, "strength_model": strength}
        run = server.run(graph, 600)
        [saved] = [image for output in run.outputs.values() for image in output["images"]]
        path = server.base / "output" / saved["subfolder"] / saved["filename"]
        with Image.open(path) as image:
            pixels[strength] = np.asarray(image).astype(int)
    assert "lora key not loaded" not in server.text()
    return np.abs(pixels[0.0] - pixels[1.0]).max() > 8


def test_a_lora_is_used_with_stock_nodes_alone(server):
    graph = api_form(read("use_the_lora"), server)
    assert not [node for node in graph.values() if node["class_type"].startswith(PREFIX)]
    assert lora_changes_the_image(server, with_miniature(graph), random_lora(server, 64))


@pytest.mark.slow
def test_a_lora_is_used_with_a_checkpoint_of_the_real_layout(server, checkpoint):
    graph = with_checkpoint(api_form(read("use_the_lora"), server), checkpoint)
    assert lora_changes_the_image(server, graph, random_lora(server, 320))


def test_every_shipped_graph_is_run_by_a_test_above():
    assert {path.stem for path in WORKFLOWS} == set(GRAPHS)
    own = Path(__file__).read_text(encoding="utf-8")
    assert [name for name in GRAPHS if f'read("{name}")' not in own] == []


@pytest.mark.parametrize("name", GRAPHS)
def test_a_shipped_graph_is_as_its_maker_makes_it_from_the_nodes_of_today(server, name):
    assert text_of(name, server) == (FOLDER / f"{name}.json").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", BLUEPRINTS)
def test_a_shipped_subgraph_is_as_its_maker_makes_it_from_the_nodes_of_today(server, name):
    assert text_of(name, server) == (SUBGRAPHS / f"{name}.json").read_text(encoding="utf-8")
    assert {path.stem for path in SUBGRAPHS.iterdir()} == set(BLUEPRINTS)


@pytest.mark.parametrize("name", BLUEPRINTS)
def test_a_shipped_subgraph_is_offered_by_the_library_of_nodes(server, name):
    try:
        offered = server.get("/global_subgraphs")
    except HTTPError:
        pytest.skip("no library of subgraphs in this ComfyUI")
    [number] = [number for number, entry in offered.items() if entry["name"] == name]
    assert offered[number]["info"]["node_pack"] == "custom_nodes.character-curator"
    served = json.loads(server.get(f"/global_subgraphs/{number}")["data"])
    [node] = served["nodes"]
    [definition] = served["definitions"]["subgraphs"]
    assert node["type"] == definition["id"]
    assert definition["description"]


def beside(subgraph, nodes, wires, server):
    """Return an API graph of nodes, and of a shipped subgraph that is wired to them."""
    columns = (Column("", "", (*nodes, replace(subgraph, inputs=wires))),)
    made = canvas(columns, lambda kind: server.get(f"/object_info/{kind}")[kind])
    return reduced(api_form(made, server))


def test_the_subgraph_for_curating_makes_a_dataset(server):
    draw_folder(server.base / "input" / "photos")
    load = Node("load", PREFIX + "LoadImageSet", {"folder": "photos"})
    graph = beside(
        BLUEPRINTS["Curate images to a dataset"], [load], {"images": ("load", 0)}, server
    )
    [export] = of_type(graph, PREFIX + "DatasetExport")
    graph[export]["inputs"]["folder"] = "subgraph/dataset"
    server.run(graph)
    assert len(files(server.base / "output" / "subgraph" / "dataset")) == 4


def test_the_subgraph_for_training_trains_and_evaluates(server, quick_start):
    nodes = [
        Node("models", PREFIX + "LoadMiniature"),
        Node("dataset", PREFIX + "LoadDataset", {"folder": "char1/dataset"}),
    ]
    wires = {name: ("models", slot) for slot, name in enumerate(("model", "clip", "vae"))}
    wires["dataset"] = ("dataset", 0)
    graph = beside(BLUEPRINTS["Train a LoRA and evaluate it"], nodes, wires, server)
    [train], [evaluate] = (of_type(graph, PREFIX + n) for n in ("TrainLoRA", "EvaluateLoRA"))
    graph[train]["inputs"] |= {"name": "subgraph", "resolution": 128}
    graph[evaluate]["inputs"] |= {"width": 128, "height": 128}
    run = server.run(graph, 400)
    assert (server.base / "models" / "loras" / "subgraph.safetensors").is_file()
    assert run.outputs[evaluate]["images"], "the grid is shown"


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_shipped_graph_is_listed_with_its_image_and_explains_each_step(server, path):
    assert path.stem in server.get("/workflow_templates")["character-curator"]
    workflow = json.loads(path.read_text(encoding="utf-8"))
    notes = [node for node in workflow["nodes"] if node["type"] == "MarkdownNote"]
    assert len(notes) >= 2
    assert workflow["groups"]
    with Image.open(path.with_suffix(".jpg")) as image:
        assert min(image.size) >= 384
    assert path.with_suffix(".jpg").stat().st_size < 150_000
