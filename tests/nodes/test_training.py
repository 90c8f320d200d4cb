"""TrainLoRA in a real ComfyUI, on the miniature, with reduced numbers."""

import hashlib
import json
import time

import numpy as np
import pytest
from PIL import Image
from safetensors import safe_open
from safetensors.numpy import load_file

from tests.support.comfyui.graphs import image, node, plan, stock, training
from tests.support.comfyui.portraits import draw_folder
from tests.support.comfyui.server import Refused


@pytest.fixture(scope="module", autouse=True)
def faces(server):
    return draw_folder(server.base / "input" / "faces")


@pytest.fixture(scope="module")
def trained(server):
    """Train and use the LoRA in one graph: by its MODEL output, and by the stock LoraLoader."""
    graph = training(train_text_encoder=True)
    graph |= image(10, ["2", 0], ["2", 1], "by_the_node")
    graph["20"] = stock(
        "LoraLoader", model=["1", 0], clip=["1", 1], lora_name=["2", 2],
        strength_model=1.0, strength_clip=1.0,
    )  # fmt: skip
    graph |= image(30, ["20", 0], ["20", 1], "by_the_loader")
    graph |= image(40, ["1", 0], ["1", 1], "by_the_base")
    graph["50"] = stock("PreviewImage", images=["2", 3])
    return graph, server.run(graph, 600)


def lora(server, name="mini"):
    return server.base / "models" / "loras" / f"{name}.safetensors"


def pixels(server, run, number):
    [saved] = run.outputs[number]["images"]
    with Image.open(server.base / "output" / saved["filename"]) as image:
        return np.asarray(image.convert("RGB"))


def works(server, name="mini"):
    """The work folders of a LoRA's trainings."""
    home = server.base / "user" / "character_curator" / "training" / name
    return [path for path in home.iterdir() if path.is_dir()]


def finished(folder):
    return json.loads((folder / "finished.json").read_text())["outcome"]["message"]


def test_a_lora_is_trained_and_used_in_the_same_graph(server, trained):
    _, run = trained
    base, own = pixels(server, run, "45"), pixels(server, run, "15")
    assert own.std() > 1, "an image, not a blank"
    assert not np.array_equal(own, base), "the LoRA has an effect"
    with Image.open(lora(server).with_suffix(".samples.png")) as sheet:
        assert sheet.width > 300
    assert run.outputs["2"]["images"], "samples are shown"
    assert "2 epochs are done" in run.outputs["2"]["text"][0]
    assert run.outputs["50"]["images"], "the plot is an IMAGE"


def test_the_stock_loader_makes_the_same_image_of_the_file(server, trained):
    _, run = trained
    assert np.array_equal(pixels(server, run, "15"), pixels(server, run, "35"))
    assert "lora key not loaded" not in server.text()
    assert "NOT LOADED" not in server.text()


def test_the_file_has_kohyas_keys_and_says_what_it_is(server, trained):
    with safe_open(lora(server), "np") as file:
        keys, metadata = set(file.keys()), file.metadata()
    parts = {key.split("_")[1] for key in keys}
    assert parts == {"unet", "te"}
    assert "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_q.alpha" in keys
    assert metadata["modelspec.architecture"] == "stable-diffusion-v1/lora"
    assert metadata["ss_network_dim"] == "4"
    assert metadata["ss_sd_model_name"] == "CharacterCurator_LoadMiniature"
    assert json.loads(metadata["ss_tag_frequency"])


def test_only_the_lora_is_in_the_list_of_loras(server, trained):
    info = server.get("/object_info/LoraLoader")["LoraLoader"]
    names = info["input"]["required"]["lora_name"][0]
    assert "mini.safetensors" in names
    assert not [name for name in names if "state" in name or "last" in name]


def test_a_second_queue_runs_nothing(server, trained):
    graph, _ = trained
    assert server.run(graph).cached == set(graph)


def test_a_finished_training_is_not_repeated_by_a_server_that_knows_nothing_of_it(server, trained):
    graph, run = trained
    files = [lora(server), lora(server).with_suffix(".samples.png"), *works(server)[0].iterdir()]
    before = [path.stat().st_mtime_ns for path in files]
    # As after a restart: ComfyUI's cache is empty.
    server.post("/free", {"unload_models": True, "free_memory": True})
    time.sleep(1)
    again = server.run(graph)
    assert "2" not in again.cached
    assert [path.stat().st_mtime_ns for path in files] == before
    assert np.array_equal(pixels(server, again, "15"), pixels(server, run, "15"))


def test_a_deleted_file_is_written_again_without_training(server, trained):
    graph, _ = trained
    server.run(graph)
    content = lora(server).read_bytes()
    state = works(server)[0] / "best.safetensors"
    time_of_state = state.stat().st_mtime_ns
    lora(server).unlink()
    run = server.run(graph)
    assert "2" not in run.cached
    assert lora(server).read_bytes() == content
    assert state.stat().st_mtime_ns == time_of_state


def test_a_cancelled_training_goes_on_to_the_same_weights(server):
    widgets = {"epochs": 3, "rank": 2}
    server.run(training(**widgets, name="whole"), 600)
    graph = training(**widgets, name="cut")
    number = server.queue(graph)
    home = server.base / "user" / "character_curator" / "training" / "cut"
    while not list(home.glob("*/samples/epoch-0001-*.png")):
        assert number not in server.get(f"/history/{number}"), "done before it could be cancelled"
        time.sleep(0.05)
    server.post("/interrupt")
    assert server.wait(number).interrupted
    assert not lora(server, "cut").exists()
    [folder] = works(server, "cut")
    assert (folder / "state.safetensors").exists()
    begun = (folder / "samples" / "epoch-0000-00.png").stat().st_mtime_ns
    server.run(graph, 600)
    assert (folder / "samples" / "epoch-0000-00.png").stat().st_mtime_ns == begun, "not from anew"
    one, other = load_file(lora(server, "whole")), load_file(lora(server, "cut"))
    assert one.keys() == other.keys()
    assert all(np.array_equal(one[key], other[key]) for key in one)


def test_a_longer_training_goes_on_and_a_shorter_one_begins_anew(server):
    graph = {name: training(name="length", rank=2, epochs=int(name)) for name in ("1", "2")}
    server.run(graph["1"], 600)
    [folder] = works(server, "length")
    begun = (folder / "samples" / "epoch-0000-00.png").stat().st_mtime_ns
    first = load_file(lora(server, "length"))
    assert "1 epoch is done" in finished(folder)
    server.run(graph["2"], 600)
    assert works(server, "length") == [folder]
    assert (folder / "samples" / "epoch-0000-00.png").stat().st_mtime_ns == begun
    assert "2 epochs are done" in finished(folder)
    server.post("/free", {"unload_models": True, "free_memory": True})
    time.sleep(1)
    server.run(graph["1"], 600)
    assert len(works(server, "length")) == 2
    again = load_file(lora(server, "length"))
    assert all(np.array_equal(first[key], again[key]) for key in first)


def test_a_training_goes_on_from_a_lora_of_the_list(server, trained):
    first, content = load_file(lora(server)), lora(server).read_bytes()
    graph = training(
        name="further", continue_from="mini.safetensors", rank=16, alpha=1.0, targets="full",
        train_text_encoder=True, epochs=1, learning_rate=1e-9,
    )  # fmt: skip
    run = server.run(graph, 600)
    assert "Goes on from mini.safetensors" in run.outputs["2"]["text"][0]
    assert "rank (4)" in run.outputs["2"]["text"][0]
    further = load_file(lora(server, "further"))
    assert further.keys() == first.keys()
    assert all(np.allclose(further[key], first[key], rtol=1e-3, atol=1e-6) for key in first)
    with safe_open(lora(server, "further"), "np") as file:
        origin = json.loads(file.metadata()["character_curator.continued_from"])
    assert origin == {
        "file": "mini.safetensors", "sha256": hashlib.sha256(content).hexdigest(),
    }  # fmt: skip
    assert "2" in server.run(graph).cached
    assert len(works(server, "further")) == 1
    server.run(training(name="further", train_text_encoder=True, epochs=1), 600)
    assert len(works(server, "further")) == 2, "a new LoRA is another training"


def test_what_can_not_be_gone_on_from_is_said(server, trained):
    run = server.wait(server.queue(training(continue_from="mini.safetensors")))
    assert "from the file that it writes" in run.error
    assert "nowhere" in server.refusal(training(continue_from="nowhere.safetensors"))
    run = server.wait(server.queue(training(name="b", continue_from="mini.safetensors")))
    assert "switch train_text_encoder on" in run.error


def others():
    """Nodes 3 to 5: a dataset of other women, made in the graph as the help page says."""
    prompt = "portrait of a {description}, {scenario}"
    return {
        "3": plan(
            subject="others", trigger="", description="woman", seeds="7-8", template=prompt,
            caption=prompt,
        ),
        "4": node(
            "SeedBatchGenerate", model=["1", 0], clip=["1", 1], vae=["1", 2], plan=["3", 0],
            folder="others/raw", steps=2, cfg=2.5, sampler_name="euler", scheduler="normal",
            width=128, height=128, batch_size=1, limit=0,
        ),
        "5": node(
            "DatasetExport", images=["4", 0], plan=["3", 0], folder="others/dataset",
            name="others", trigger="", captions="{caption}",
        ),
    }  # fmt: skip


def test_others_of_the_class_are_trained_with(server):
    settings = {"rank": 2, "epochs": 1, "name": "prior"}
    server.run(training(**settings), 600)
    [alone] = works(server, "prior")
    first = load_file(lora(server, "prior"))
    server.run(training(**settings, prior=["5", 0]) | others(), 600)
    [beside] = set(works(server, "prior")) - {alone}
    outcomes = [
        json.loads((folder / "finished.json").read_text())["outcome"] for folder in (alone, beside)
    ]
    # Four of the six images are trained with, two a step; with each goes one of the others.
    assert [outcome["steps"] for outcome in outcomes] == [2, 4]
    assert outcomes[0]["held_out"] == outcomes[1]["held_out"] == 2
    second = load_file(lora(server, "prior"))
    assert any(not np.array_equal(first[key], second[key]) for key in first)
    texts = (server.base / "output" / "others" / "dataset").glob("*.txt")
    captions = {path.read_text().strip() for path in texts}
    assert len(captions) == 3
    assert all(caption.startswith("portrait of a woman, ") for caption in captions)


def test_after_a_failed_training_the_model_makes_the_image_that_it_made(server):
    base = {"1": training()["1"]} | image(40, ["1", 0], ["1", 1], "before")
    before = pixels(server, server.run(base), "45")
    failing = training(name="failing", learning_rate=1e9, options="clip_norm = 1e9\nepochs = 20")
    run = server.wait(server.queue(failing), 600)
    assert run.status == "error"
    assert "Lower the learning rate" in run.error
    assert not lora(server, "failing").exists()
    base |= image(40, ["1", 0], ["1", 1], "after")
    assert np.array_equal(pixels(server, server.run(base), "45"), before)


@pytest.mark.parametrize("name", ["../outside", "/etc/outside", " "])
def test_nothing_is_written_outside_the_folder_of_loras(server, name):
    run = server.wait(server.queue(training(name=name)))
    assert run.status == "error"
    assert "outside the folders" in run.error or "needs a name" in run.error


@pytest.mark.parametrize("options", ["dora: yes", "drop = 0.5", "schedule = 'zigzag'"])
def test_a_wrong_option_is_refused_before_anything_runs(server, options):
    with pytest.raises(Refused):
        server.queue(training(options=options))


def test_without_a_dataset_the_message_says_what_to_wire(server):
    run = server.wait(server.queue(training(folder="")))
    assert "wire 'dataset'" in run.error
