"""From plan to dataset in a real ComfyUI, with the miniature and reduced numbers."""

import io
import json
import os
import sqlite3
import zipfile

import numpy as np
import pytest
from PIL import Image

from tests.support.comfyui.graphs import curation, generation, node, stock
from tests.support.comfyui.server import Refused, files
from tests.support.images import drawing, png_bytes


@pytest.fixture(scope="module")
def flow(server):
    """The graph, and its first run."""
    graph = generation("flow/raw") | curation(["3", 0], "flow/dataset")
    return graph, server.run(graph)


def measured(server):
    """How many measurements of images the server's feature store holds."""
    store = server.base / "user" / "character_curator" / "features.sqlite"
    with sqlite3.connect(f"file:{store}?mode=ro", uri=True) as connection:
        return connection.execute(
            "SELECT COUNT(*) FROM feature WHERE analyser != 'text'"
        ).fetchone()[0]


def test_a_graph_leads_from_plan_to_data_set(server, flow):
    _, run = flow
    raw = server.base / "output" / "flow" / "raw"
    dataset = server.base / "output" / "flow" / "dataset"
    assert len(files(raw)) == 6
    images = files(dataset)
    assert len(images) == 3
    assert set(files(dataset, "*.txt")) == {name.replace(".png", ".txt") for name in images}
    caption = (dataset / images[0].replace(".png", ".txt")).read_text()
    assert caption.startswith("portrait of char1 woman, ")
    assert set(json.loads((dataset / "metadata.json").read_text())) == set(images)
    assert {"README.md", "report.html", "dataset.toml"} <= {p.name for p in dataset.iterdir()}
    assert run.outputs["3"]["images"], "a contact sheet is shown"
    assert run.outputs["15"]["images"]
    assert "3 of 6 images" in run.outputs["14"]["text"][0]
    assert run.outputs["14"]["text"][0].endswith("(version 1)")


def test_a_second_queue_runs_nothing(server, flow):
    graph, _ = flow
    assert server.run(graph).cached == set(graph)


def test_a_moved_total_selects_again_and_measures_nothing(server, flow):
    graph, _ = flow
    before = measured(server)
    changed = {**graph, "13": {**graph["13"], "inputs": {**graph["13"]["inputs"], "total": 4}}}
    run = server.run(changed)
    assert set(changed) - run.cached == {"13", "14", "15"}
    assert measured(server) == before
    assert len(files(server.base / "output" / "flow" / "dataset")) == 4
    assert run.outputs["14"]["text"][0].endswith("(version 2)")
    # The dataset of before is kept as a version.
    assert len(files(server.base / "output" / "flow" / "dataset.versions" / "v0001")) == 3


def test_decisions_from_a_file_are_followed_and_a_changed_file_selects_again(server, flow):
    graph, _ = flow
    dataset = server.base / "output" / "flow" / "dataset"
    decided = {**graph["13"]["inputs"], "decisions": "decisions.json"}
    changed = {**graph, "13": {**graph["13"], "inputs": decided}}
    server.run(graph)
    chosen = json.loads((dataset / "metadata.json").read_text())
    vetoed = min(chosen)
    known = chosen[vetoed].get("source_hash") or chosen[vetoed]["hash"]
    file = server.base / "input" / "decisions.json"
    file.parent.mkdir(exist_ok=True)

    def decide(word):
        rows = [{"hash": known, "decision": word}]
        file.write_text(json.dumps({"format": 1, "decisions": rows}))

    decide("veto")
    server.run(changed)
    assert vetoed not in json.loads((dataset / "metadata.json").read_text())
    assert server.run(changed).cached >= set(graph) - {"13", "14", "15"}
    decide("keep")
    assert "13" not in server.run(changed).cached
    assert vetoed in json.loads((dataset / "metadata.json").read_text())
    file.write_text("[]")
    assert "cannot be used" in server.refusal(changed)


def test_a_moved_quality_decodes_nothing(server, flow):
    graph, _ = flow
    before = measured(server)
    changed = {**graph, "11": {**graph["11"], "inputs": {**graph["11"]["inputs"], "minimum": 0.01}}}
    run = server.run(changed)
    assert {"1", "2", "3", "10"} <= run.cached
    assert "11" not in run.cached
    assert measured(server) == before


def test_a_deleted_image_is_made_again_and_only_that(server, flow):
    graph, _ = flow
    raw = server.base / "output" / "flow" / "raw"
    server.run(graph)
    gone, *kept = [raw / name for name in files(raw)]
    content = gone.read_bytes()
    times = [path.stat().st_mtime_ns for path in kept]
    gone.unlink()
    run = server.run(graph)
    assert {"1", "2"} <= run.cached
    assert "3" not in run.cached
    assert pixels(gone.read_bytes()).tobytes() == pixels(content).tobytes()
    assert [path.stat().st_mtime_ns for path in kept] == times
    assert server.run(graph).cached == set(graph), "whole again, so nothing runs"


def test_a_node_says_what_it_has_found_damaged(server, flow):
    graph = generation("flow/raw") | curation(["3", 0], "flow/damaged")
    assert "damaged" not in server.run(graph).outputs["14"]["text"][0].split(" in ")[0]
    dataset = server.base / "output" / "flow" / "damaged"
    (dataset / "recipe.toml").write_text("changed")
    run = server.run(graph)
    (told,) = run.outputs["14"]["text"]
    assert f"1 damaged file of the version before in {dataset}: kept as found in" in told


def test_another_prompt_makes_its_images_again(server):
    graph = generation("again", plan_widgets={"seeds": "1", "scenarios": "red hoodie"})
    server.run(graph)
    [name] = files(server.base / "output" / "again")
    path = server.base / "output" / "again" / name
    before = pixels(path.read_bytes())
    changed = generation("again", plan_widgets={"seeds": "1", "scenarios": "white dress"})
    assert server.run(changed).cached == {"1"}
    assert server.run(changed).cached == set(changed)
    assert not np.array_equal(before, pixels(path.read_bytes()))


@pytest.mark.parametrize("sampler", ["euler", "euler_ancestral"])
def test_the_graph_in_an_image_makes_exactly_this_image(server, sampler):
    graph = generation(
        f"promise/{sampler}", plan_widgets={"seeds": "7", "scenarios": "red hoodie\nwhite dress"},
        sampler_name=sampler,
    )  # fmt: skip
    server.run(graph)
    folder = server.base / "output" / "promise" / sampler
    path = folder / files(folder)[1]
    with Image.open(path) as image:
        prompt, workflow = (json.loads(image.info[key]) for key in ("prompt", "workflow"))
        record = json.loads(image.info["character_curator"])
    kinds = {entry["class_type"] for entry in prompt.values()}
    assert kinds == {
        "CharacterCurator_LoadMiniature", "CLIPTextEncode", "EmptyLatentImage", "KSampler",
        "VAEDecode", "SaveImage",
    }  # fmt: skip
    sampled = next(e for e in prompt.values() if e["class_type"] == "KSampler")
    assert sampled["inputs"]["seed"] == record["noise_seed"]
    assert {n["type"] for n in workflow["nodes"]} == kinds
    run = server.run(prompt)
    [saved] = [image for output in run.outputs.values() for image in output["images"]]
    again = server.base / "output" / saved["subfolder"] / saved["filename"]
    assert np.array_equal(pixels(path.read_bytes()), pixels(again.read_bytes()))


def test_a_batch_of_several_makes_the_same_images_up_to_rounding(server):
    plan = {"seeds": "7-8", "scenarios": "red hoodie\nwhite dress"}
    server.run(generation("one", plan_widgets=plan))
    server.run(generation("three", plan_widgets=plan, batch_size=3))
    one, three = (server.base / "output" / name for name in ("one", "three"))
    assert files(one) == files(three)
    for name in files(one):
        first, second = pixels((one / name).read_bytes()), pixels((three / name).read_bytes())
        assert np.abs(first.astype(int) - second.astype(int)).max() <= 2


def test_conditionings_take_the_place_of_prompts(server):
    graph = generation("given", plan_widgets={"seeds": "7", "scenarios": "x"})
    text = "portrait of a woman, red hoodie"
    graph["4"] = stock("CLIPTextEncode", text=text, clip=["1", 1])
    graph["5"] = stock("CLIPTextEncode", text="", clip=["1", 1])
    del graph["3"]["inputs"]["clip"]
    graph["3"]["inputs"] |= {"positive": ["4", 0], "negative": ["5", 0]}
    server.run(graph)
    folder = server.base / "output" / "given"
    with Image.open(folder / files(folder)[0]) as image:
        prompt = json.loads(image.info["prompt"])
    assert [e["inputs"]["text"] for e in prompt.values() if "text" in e["inputs"]] == [text, ""]


def test_without_prompts_and_conditionings_the_message_says_what_to_connect(server):
    graph = generation("none")
    del graph["3"]["inputs"]["clip"]
    run = server.wait(server.queue(graph))
    assert run.status == "error"
    assert "Connect 'clip'" in run.error


def test_cancel_loses_one_image_at_most_and_the_next_run_goes_on(server):
    folder = server.base / "output" / "cancelled"
    plan = {"seeds": "1-3", "scenarios": "red hoodie"}
    graph = generation("cancelled", plan_widgets=plan, steps=24)
    number = server.queue(graph)
    while len(files(folder)) < 1:
        assert number not in server.get(f"/history/{number}"), "done before it could be cancelled"
    server.post("/interrupt")
    assert server.wait(number).interrupted
    made = {name: (folder / name).stat().st_mtime_ns for name in files(folder)}
    assert 1 <= len(made) < 3
    assert not list(folder.glob(".*.tmp"))
    server.run(graph)
    assert len(files(folder)) == 3
    assert all((folder / name).stat().st_mtime_ns == time for name, time in made.items())


def test_images_go_through_a_set_and_back(server):
    values = np.random.default_rng(0).integers(0, 256, (2, 40, 48, 3), dtype=np.uint8)
    for number, value in enumerate(values):
        Image.fromarray(value).save(server.base / "input" / f"there_{number}.png")
    graph = {
        "1": stock("LoadImage", image="there_0.png"),
        "2": stock("LoadImage", image="there_1.png"),
        "3": stock("ImageBatch", image1=["1", 0], image2=["2", 0]),
        "4": node("ImagesToImageSet", images=["3", 0], folder="back", subject="x", caption="hi"),
        "5": node("ImageSetToImages", images=["4", 0], which="all", first=0, count=10),
        "6": stock("SaveImage", images=["5", 0], filename_prefix="back_again"),
    }
    run = server.run(graph)
    assert len(files(server.base / "output" / "back")) == 2
    saved = [server.base / "output" / image["filename"] for image in run.outputs["6"]["images"]]
    for value, path in zip(values, saved, strict=True):
        assert np.array_equal(value, pixels(path.read_bytes()))


def test_a_folder_is_listed_again_when_a_file_is_added(server):
    folder = server.base / "input" / "mine" / "deep"
    folder.mkdir(parents=True)
    Image.new("RGB", (32, 32), "red").save(folder / "a.png")
    (folder / "b.png").write_text("no image")
    graph = {
        "1": node("LoadImageSet", folder="mine"),
        "2": node(
            "ContactSheet", images=["1", 0], show="rejected: unreadable", group_by="auto",
            limit=10, columns=2, side=32,
        ),
    }  # fmt: skip
    server.run(graph)
    assert server.run(graph).cached == {"1", "2"}
    Image.new("RGB", (32, 32), "blue").save(folder / "c.png")
    assert server.run(graph).cached == set()


def test_damage_to_what_was_unpacked_is_said_by_the_node_that_lists_it(server):
    path = server.base / "input" / "packed.zip"
    with zipfile.ZipFile(path, "w") as made:
        for number in range(2):
            made.writestr(f"{number}.png", png_bytes(drawing(number)))
    graph = {
        "1": node("LoadImageSet", folder="packed.zip"),
        "2": stock("PreviewAny", source=["1", 2]),
        "3": node("ImageSetToImages", images=["1", 0], which="all", first=0, count=10),
        "4": node("ImagesToImageSet", images=["3", 0], folder="unpacked", subject="x"),
        "5": node(
            "ContactSheet", images=["4", 0], show="all", group_by="auto", limit=9, columns=1,
            side=32,
        ),
    }  # fmt: skip
    first = server.run(graph)
    assert "damaged" not in str(first.outputs)
    (unpacked,) = (server.base / "temp" / "character_curator").glob("packed-*")
    written = server.base / "output" / "unpacked"
    name = files(written)[0]
    content = (written / name).read_bytes()
    (written / name).write_bytes(content[:90])
    (unpacked / "1.png").unlink()
    os.utime(path)  # or nothing would be listed again
    run = server.run(graph)
    told = f"1 damaged unpacked file in {unpacked}: unpacked again"
    assert told in run.outputs["2"]["text"][0]
    assert told in run.outputs["1"]["text"]
    assert run.outputs["1"]["images"]
    assert run.outputs["4"]["text"] == [f"1 damaged image in {written}: written again"]
    assert (written / name).read_bytes() == content
    assert (unpacked / "1.png").read_bytes() == png_bytes(drawing(1))


def test_an_exported_data_set_is_read_back(server, flow):
    graph = {
        "1": node("LoadDataset", folder="flow/dataset", minimum_quality=0.0),
        "2": node("ImageSetToImages", images=["1", 1], which="all", first=0, count=10),
        "3": stock("SaveImage", images=["2", 0], filename_prefix="read_back"),
        "4": stock("PreviewAny", source=["2", 1]),
    }
    dataset = server.base / "output" / "flow" / "dataset"
    run = server.run(graph)
    assert len(run.outputs["3"]["images"]) == len(files(dataset))
    caption = (dataset / files(dataset, "*.txt")[0]).read_text().strip()
    assert run.outputs["4"]["text"][0] == caption


@pytest.mark.parametrize("folder", ["../../outside", "/etc/outside", "", "."])
def test_nothing_is_written_outside_the_output_folder(server, folder):
    run = server.wait(server.queue(generation(folder)))
    assert run.status == "error"
    assert "folder" in run.error
    assert not (server.base.parent / "outside").exists()


@pytest.mark.parametrize("folder", ["../..", "/etc"])
def test_nothing_is_read_outside_comfyuis_folders(server, folder):
    graph = {
        "1": node("LoadImageSet", folder=folder),
        "2": node(
            "ContactSheet", images=["1", 0], show="all", group_by="auto", limit=1, columns=1,
            side=32,
        ),
    }  # fmt: skip
    run = server.wait(server.queue(graph))
    assert run.status == "error"
    assert "outside the folders" in run.error or "No image in" in run.error


def test_a_link_out_of_the_input_folder_is_not_followed(server, tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "secret.png")
    (server.base / "input" / "link").symlink_to(tmp_path)
    graph = {
        "1": node("LoadImageSet", folder="link"),
        "2": node("ImageSetToImages", images=["1", 0], which="all", first=0, count=1),
        "3": stock("PreviewImage", images=["2", 0]),
    }
    run = server.wait(server.queue(graph))
    assert "outside the folders" in run.error


def test_widgets_out_of_range_are_refused(server):
    with pytest.raises(Refused):
        server.queue(generation("refused", batch_size=0))


def pixels(data):
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image.convert("RGB"))


def offered_datasets(server):
    """What ComfyUI's own node offers to read, or None where there is no such node."""
    node = "LoadTrainingDataset"
    info = server.get("/object_info").get(node)
    return info and info["input"]["required"]["folder_name"][1].get("options")


def test_a_data_set_in_comfyuis_own_folder_is_read_by_us_and_not_offered_as_one_of_its(
    server, flow
):
    place = server.base / "datasets"
    (place / "latents").mkdir(parents=True)
    (place / "latents" / "metadata.json").write_text("{}")
    if offered_datasets(server) is None:
        pytest.skip("no folder of datasets in this ComfyUI")
    assert offered_datasets(server) == ["latents"]
    graph, _ = flow
    moved = {**graph, "14": {**graph["14"], "inputs": {**graph["14"]["inputs"]}}}
    moved["14"]["inputs"]["folder"] = str(place / "in_datasets")
    server.run(moved)
    images = files(place / "in_datasets")
    assert len(images) == 3
    named = json.loads((place / "in_datasets" / "curated.json").read_text())
    assert set(named) == set(images)
    server.run({
        "1": node("LoadDataset", folder="in_datasets", minimum_quality=0.0),
        "2": stock("PreviewAny", source=["1", 0]),
    })  # fmt: skip
    assert offered_datasets(server) == ["latents"]
