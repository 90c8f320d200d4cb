"""Every widget that takes a path keeps inside the folders that graphs may use."""

import pytest

from tests.support.comfyui.graphs import NAMES, PREFIX, curation, generation, node, stock
from tests.support.comfyui.random_lora import random_lora

TEXTS = {
    "CharacterPlan": {
        "subject", "trigger", "class_word", "description", "scenarios", "originals", "seeds",
        "template", "caption", "negative_prompt",
    },
    "ImagesToImageSet": {"subject", "caption"},
    "BalancedSelect": {"quotas"},
    "CaptionImages": {"prompt", "categories", "exclude"},
    "EditCaptions": {"replace", "remove", "keep", "add", "trigger"},
    "DatasetExport": {"name", "trigger", "captions", "license", "background"},
    "CropImages": {"aspect"},
    "DisturbImages": {"kinds"},
    "ExportAssets": {"name", "size", "categories"},
    "TrainLoRA": {"sample_prompts", "trigger", "options"},
    "EvaluateLoRA": {"prompts", "seeds", "trigger", "class_word"},
    "Verify": {"approved_by", "approved_fingerprint"},
}  # fmt: skip
"""Texts that are no paths; DatasetExport's name is a title, its background a color."""
PATHS = [
    ("CharacterPlan", "plan_file"), ("SeedBatchGenerate", "folder"), ("LoadImageSet", "folder"),
    ("ImagesToImageSet", "folder"), ("CropImages", "pack"), ("CropImages", "folder"),
    ("DisturbImages", "folder"), ("ExportAssets", "folder"), ("ExportAssets", "clip_model"),
    ("ExportAssets", "clip_pretrained"),
    ("FaceValidate", "pack"), ("ClipCluster", "model"),
    ("ClipCluster", "pretrained"), ("BalancedSelect", "decisions"), ("DatasetExport", "folder"),
    ("LoadDataset", "folder"), ("CaptionImages", "model"),
    ("TrainLoRA", "name"), ("TrainLoRA", "folder"), ("TrainLoRA", "control_images"),
    ("TrainLoRA", "mask_files"),
    ("EvaluateLoRA", "folder"),
    ("EvaluateLoRA", "lora_name"), ("EvaluateLoRA", "pack"), ("EvaluateLoRA", "clip_model"),
    ("EvaluateLoRA", "pretrained"), ("Verify", "folder"), ("Verify", "lora_name"),
    ("Verify", "pack"), ("Verify", "clip_model"), ("Verify", "pretrained"),
]  # fmt: skip


def test_every_text_widget_is_known_to_be_a_path_or_none(server):
    """A new widget must be put into one of the lists above."""
    for name in NAMES:
        info = server.get(f"/object_info/{PREFIX}{name}")[PREFIX + name]
        inputs = {**info["input"].get("required", {}), **info["input"].get("optional", {})}
        texts = {key for key, entry in inputs.items() if entry[0] == "STRING"}
        paths = {widget for owner, widget in PATHS if owner == name}
        assert texts == TEXTS.get(name, set()) | paths, name


@pytest.fixture(scope="module")
def graph(server):
    """A graph with every node that has such a widget; what it stands on is made once."""
    from PIL import Image

    (server.base / "input").mkdir(exist_ok=True)
    Image.new("RGB", (16, 16), "red").save(server.base / "input" / "red.png")
    plan = {"seeds": "1", "scenarios": "red hoodie\nwhite dress"}
    made = generation("paths/raw", plan_widgets=plan, steps=1, limit=2)
    made |= curation(["3", 0], "paths/dataset", total=2)
    made["13"]["inputs"]["quotas"] = ""
    server.run(made)
    wires = {"model": ["1", 0], "clip": ["1", 1], "vae": ["1", 2], "dataset": ["21", 0]}
    made["20"] = node("LoadImageSet", folder="paths/raw")
    made["21"] = node("LoadDataset", folder="paths/dataset", minimum_quality=0.0)
    made["22"] = stock("LoadImage", image="red.png")
    made["23"] = node("ImagesToImageSet", images=["22", 0], folder="paths/images", subject="x")
    made["27"] = node("CropImages", **defaults(server, "CropImages"), images=["23", 0])
    made["24"] = node("TrainLoRA", **defaults(server, "TrainLoRA"), **wires)
    evaluation = {
        "lora_name": random_lora(server, 64), "width": 128, "height": 128, "steps": 1,
        "prompts": "portrait of {who}", "seeds": "1", "leakage": False,
    }  # fmt: skip
    made["25"] = node("EvaluateLoRA", **(defaults(server, "EvaluateLoRA") | evaluation), **wires)
    made["26"] = node(
        "Verify", **(defaults(server, "Verify") | {"regenerate": 0, "samples": 1}),
        dataset=["21", 0],
    )  # fmt: skip
    made["28"] = node("CaptionImages", images=["20", 0], model="", existing="keep")
    made["29"] = node("DisturbImages", **defaults(server, "DisturbImages"), images=["20", 0])
    made["30"] = node(
        "ExportAssets", **defaults(server, "ExportAssets"), images=["20", 0],
        categories="near = a face\nfar = a whole person",
    )  # fmt: skip
    return made


def defaults(server, name):
    """A node's required widgets with the values that the page gives them."""
    info = server.get(f"/object_info/{PREFIX}{name}")[PREFIX + name]
    return {
        key: entry[1]["default"]
        for key, entry in info["input"]["required"].items()
        if "default" in entry[1]
    }


@pytest.mark.parametrize("path", ["../../outside", "/etc/outside"])
@pytest.mark.parametrize(("name", "widget"), PATHS, ids=lambda value: value)
def test_a_path_outside_is_refused(server, graph, name, widget, path):
    [number] = [n for n, entry in graph.items() if entry["class_type"] == PREFIX + name]
    own = dict(graph[number]["inputs"]) | {widget: path}
    if (name, widget) == ("TrainLoRA", "folder"):
        del own["dataset"]
    wanted = {number}
    while True:  # only what leads to this node
        wires = [
            value[0]
            for n in wanted
            for value in (own if n == number else graph[n]["inputs"]).values()
            if isinstance(value, list)
        ]
        if wanted >= set(wires):
            break
        wanted |= set(wires)
    asked = {n: graph[n] for n in wanted} | {
        number: {"class_type": PREFIX + name, "inputs": own},
        "90": stock("PreviewAny", source=[number, 0]),
    }
    # A LoRA is looked for by its name in the list of models/loras, never by a path.
    why = "There is no LoRA" if widget == "lora_name" else "outside the folders"
    assert why in server.refusal(asked)
    assert not (server.base.parent / "outside").exists()
