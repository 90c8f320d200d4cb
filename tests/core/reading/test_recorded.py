"""What other programs write into images: prompt and seed, and no more."""

import json

import pytest
from PIL import Image, PngImagePlugin

from character_curator.imageset import ImageSet
from character_curator.reading.recorded import of_graph, of_parameters, without_syntax
from tests.support.images import drawing

PARAMETERS = (
    "photo of (zoe woman:1.2), [smiling], <lora:zoe:0.8> studio\nBREAK red hat\n"
    "Negative prompt: blurry, (bad hands)\n"
    "Steps: 30, Sampler: DPM++ 2M Karras, CFG scale: 6, Seed: 123456789, Size: 512x512"
)
GRAPH = {
    "3": {
        "class_type": "KSampler",
        "inputs": {"seed": 987654321, "positive": ["6", 0], "negative": ["7", 0]},
    },
    "6": {"class_type": "CLIPTextEncode", "inputs": {"text": ["9", 0], "clip": ["4", 1]}},
    "7": {"class_type": "CLIPTextEncode", "inputs": {"text": "blurry", "clip": ["4", 1]}},
    "9": {"class_type": "PrimitiveString", "inputs": {"value": "photo of zoe woman in space"}},
}


def test_a1111():
    found = of_parameters(PARAMETERS)
    assert found.seed == 123456789
    assert found.prompt.startswith("photo of (zoe woman:1.2)")
    assert found.negative_prompt == "blurry, (bad hands)"
    assert found.caption == "photo of zoe woman, smiling, studio, red hat"
    assert of_parameters("only a prompt").prompt == "only a prompt"
    assert of_parameters("only a prompt").seed is None


def test_comfyui():
    found = of_graph(json.dumps(GRAPH))
    assert (found.prompt, found.negative_prompt) == ("photo of zoe woman in space", "blurry")
    assert found.seed == 987654321


def test_comfyui_with_a_noise_node_and_a_guider():
    graph = {
        "1": {"inputs": {"noise": ["2", 0], "guider": ["3", 0]}},
        "2": {"class_type": "RandomNoise", "inputs": {"noise_seed": 5}},
        "3": {"class_type": "BasicGuider", "inputs": {"conditioning": ["4", 0]}},
        "4": {"inputs": {"conditioning": ["5", 0], "guidance": 3.5}},
        "5": {"class_type": "CLIPTextEncode", "inputs": {"text": "a fox"}},
    }
    found = of_graph(json.dumps(graph))
    assert (found.prompt, found.seed) == ("a fox", 5)


@pytest.mark.parametrize(
    "graph",
    ["", "{", "[]", "{}", '{"3": 1}', '{"3": {"inputs": 5}}',
     '{"3": {"inputs": {"positive": ["3", 0]}}}'],
)  # fmt: skip
def test_malformed_graphs_give_nothing(graph):
    assert of_graph(graph) is None


def test_a_seed_of_64_bits_is_not_cut_to_another():
    graph = {"1": {"inputs": {"seed": 2**63 + 5, "positive": "a fox"}}}
    assert of_graph(json.dumps(graph)).seed is None
    assert of_graph(json.dumps(graph)).prompt == "a fox"


@pytest.mark.parametrize(
    ("prompt", "words"),
    [
        ("((a:1.3)), b", "a, b"),
        (r"smile \(anime\)", "smile (anime)"),
        ("a,, b , ", "a, b"),
        ("(a, b:0.5), c", "a, b, c"),
    ],
)
def test_a_prompt_as_words(prompt, words):
    assert without_syntax(prompt) == words


def test_a_folder_of_both_fills_the_columns(tmp_path):
    info = PngImagePlugin.PngInfo()
    info.add_text("parameters", PARAMETERS)
    drawing(1).save(tmp_path / "a.png", pnginfo=info)
    info = PngImagePlugin.PngInfo()
    info.add_text("prompt", json.dumps(GRAPH))
    info.add_text("workflow", '{"nodes": []}')
    drawing(2).save(tmp_path / "b.png", pnginfo=info)
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0x9286] = b"UNICODE\0" + PARAMETERS.encode("utf-16-be")
    drawing(3).save(tmp_path / "c.jpg", exif=exif)
    (tmp_path / "b.txt").write_text("my own words")
    images = ImageSet.from_folder(tmp_path)
    assert images.table["seed"].to_list() == [123456789, 987654321, 123456789]
    assert images.table["kind"].to_list() == ["real"] * 3
    assert images.table["caption"].to_list() == [
        "photo of zoe woman, smiling, studio, red hat", "my own words",
        "photo of zoe woman, smiling, studio, red hat",
    ]  # fmt: skip
    assert "2 images of A1111: prompt read, and of 2 the seed." in images.notes
