"""A folder as people collect it becomes a dataset: formats, captions, colors, and no secrets.

One folder of kohya's form, other programs' images, captions in five encodings, HEIC, AVIF and
JPEG XL, Display P3 and CMYK, through the command line and every reader of the result.
"""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections import Counter
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import replace

import numpy as np
import pytest
import tomlkit
from PIL import Image, ImageCms, PngImagePlugin

from character_curator.cli import main
from character_curator.dataset import CuratedDataset, verify
from character_curator.reading.kinds import add_plugins
from character_curator.training.data.images import read_images
from character_curator.training.job import LoraJob
from miniature.identity import leading_character
from miniature.portrait import render
from miniature.scene import sample_scene
from tests.support.color_profiles import DISPLAY_P3, cmyk_profile, printed, rgb_profile

SECRET = "Jane Doe, 52.0N 13.4E, camera 1234567"
FOLDER = "10_char1 woman"
ENCODED = {
    "utf8": "utf-8", "bom": "utf-8-sig", "western": "cp1252", "wide": "utf-16", "big": "utf-16-be",
}  # fmt: skip
PARAMETERS = (
    "(char1 woman:1.1), café terrace <lora:x:1>\nNegative prompt: blurry\n"
    "Steps: 20, Sampler: Euler a, CFG scale: 7, Seed: 4242"
)
GRAPH = {
    "1": {"class_type": "KSampler", "inputs": {"seed": 77, "positive": ["2", 0]}},
    "2": {"class_type": "CLIPTextEncode", "inputs": {"text": "char1 woman in space"}},
}


def portrait(number):
    scene = sample_scene(np.random.default_rng([9, number]))
    scene = replace(scene, framing="close-up", pose="frontal")
    return Image.fromarray(render(leading_character(), scene).image)


def private_exif():
    exif = Image.Exif()
    exif[0x013B] = SECRET
    exif.get_ifd(0x8825)[2] = (52.0, 0.0, 0.0)
    return exif.tobytes()


def to_press(image):
    """Return an image in the inks that print its colors, and what is then seen."""
    grey = np.asarray(image.convert("L")) / 255
    inks = np.zeros((*grey.shape, 4))
    inks[..., 3] = (1 - grey) * 0.95
    inks[..., 0], inks[..., 1] = 0.1, 0.25
    inks = (inks * 255).round() / 255
    press = Image.fromarray((inks * 255).round().astype(np.uint8), "CMYK")
    return press, printed(inks.reshape(-1, 4)).reshape(*grey.shape, 3) * 255


def srgb_to(image, primaries):
    return ImageCms.profileToProfile(
        image,
        ImageCms.createProfile("sRGB"),
        ImageCms.ImageCmsProfile(io.BytesIO(rgb_profile(*primaries))),
    )


@pytest.fixture(scope="module")
def collected(tmp_path_factory):
    """The folder, and by name what each image shows and (where somebody wrote one) its caption."""
    pytest.importorskip("pillow_heif")
    pytest.importorskip("pillow_jxl")
    add_plugins()
    root = tmp_path_factory.mktemp("collected")
    folder = root / FOLDER
    (folder / "deeper").mkdir(parents=True)
    shown, captions = {}, {}

    def add(name, image, seen=None, caption=None, **options):
        image.save(folder / name, **options)
        shown[f"{FOLDER}/{name}"] = np.asarray(seen if seen is not None else image.convert("RGB"))
        if caption is not None:
            captions[f"{FOLDER}/{name}"] = caption

    for number, (name, codec) in enumerate(ENCODED.items()):
        text = f"char1, naïve smile, scene №{number}" if codec != "cp1252" else "char1, naïve smile"
        add(f"{name}.png", portrait(number), caption=text)
        end = "caption" if name == "utf8" else "txt"
        mark = b"\xfe\xff" if codec == "utf-16-be" else b""
        (folder / f"{name}.{end}").write_bytes(mark + text.encode(codec))
    info = PngImagePlugin.PngInfo()
    info.add_text("parameters", PARAMETERS)
    add("00001-4242.png", portrait(10), pnginfo=info)
    info = PngImagePlugin.PngInfo()
    info.add_text("prompt", json.dumps(GRAPH))
    info.add_text("workflow", json.dumps({"author": SECRET}))
    add("ComfyUI_00001_.png", portrait(11), pnginfo=info)
    lossy = {"quality": 95, "exif": private_exif()}
    add("phone.HEIC", portrait(12), format="HEIF", **lossy)
    add("a.avif", portrait(13), subsampling="4:4:4", **lossy)
    add("deeper/a.jxl", portrait(14), format="JXL", **lossy)
    add("a.jfif", portrait(15), format="JPEG", subsampling=0, **lossy)
    six = portrait(16)
    add("p3.jpg", srgb_to(six, DISPLAY_P3), six, icc_profile=rgb_profile(*DISPLAY_P3), **lossy)
    press, seen = to_press(portrait(17))
    add("press.jpg", press, seen, icc_profile=cmyk_profile(), **lossy)
    add("place.png", portrait(18), exif=private_exif())
    (root / "clip.mp4").write_bytes(b"x")
    (root / "notes.docx").write_bytes(b"x")
    return root, shown, captions


@pytest.fixture(scope="module")
def dataset(collected, tmp_path_factory):
    output = tmp_path_factory.mktemp("made") / "set"
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.chdir(output.parent)
        code = main(
            ["curate", str(collected[0]), "--output", output.name, "--total", "14",
             "--clusters", "2", "--min-quality", "0", "--json"]
        )  # fmt: skip
    assert code == 0, err.getvalue()
    return output, json.loads(out.getvalue()), err.getvalue()


def test_it_is_said_what_was_read(dataset):
    notes = dataset[1]["notes"]
    assert "2 files are no images: .docx 1, .mp4 1." in notes
    assert (
        "5 captions read beside the images (UTF-8 1, UTF-16 2, UTF-8 with BOM 1, Windows-1252 1)."
        in notes
    )
    assert f"Folder '{FOLDER}': 14 images, 10 repeats, trigger 'char1', class 'woman'." in notes
    assert "1 image of A1111: prompt read, and of 1 the seed." in notes
    assert "1 image of ComfyUI: prompt read, and of 1 the seed." in notes
    assert "Note: 5 captions read" in dataset[2]


def test_every_image_is_there_with_the_colors_that_people_see(dataset, collected):
    found = {}
    for image, metadata in CuratedDataset(dataset[0]):
        assert image.mode == "RGB"
        assert "icc_profile" not in image.info
        found[metadata["source"]] = np.asarray(image).astype(int)
    assert found.keys() == collected[1].keys()
    for name, pixels in collected[1].items():
        off = np.abs(found[name] - pixels).mean()
        assert off == 0 if name.endswith(".png") else off < 3, (name, off)


def test_captions_are_the_users_own(dataset, collected):
    said = {m["source"]: m["caption"] for _, m in CuratedDataset(dataset[0])}
    for name, text in collected[2].items():
        assert said[name] == text
    assert said[f"{FOLDER}/00001-4242.png"].startswith("char1 woman, café terrace")
    assert said[f"{FOLDER}/ComfyUI_00001_.png"].startswith("char1 woman in space")
    assert said[f"{FOLDER}/a.avif"].startswith("char1")
    seeds = {m["source"]: m.get("seed") for _, m in CuratedDataset(dataset[0])}
    assert seeds[f"{FOLDER}/00001-4242.png"] == 4242
    assert seeds[f"{FOLDER}/ComfyUI_00001_.png"] == 77


def test_nothing_private_is_published(dataset):
    assert verify(dataset[0]).ok
    for path in dataset[0].rglob("*"):
        data = path.read_bytes() if path.is_file() else b""
        for word in (b"Jane Doe", b"1234567", b"workflow\0", b"Exif", b"parameters\0"):
            assert word not in data, (path, word)
        assert str(dataset[0].parent).encode() not in data, path
    for image, _ in CuratedDataset(dataset[0]):
        assert not image.getexif()


def test_kohya_reads_it(dataset):
    settings = tomlkit.parse((dataset[0] / "dataset.toml").read_text()).unwrap()
    (subset,) = settings["datasets"][0]["subsets"]
    assert (subset["class_tokens"], subset["num_repeats"]) == ("char1", 10)
    place = dataset[0] / subset["image_dir"]
    files = [p for p in place.iterdir() if p.suffix == ".png"]
    assert len(files) == 14
    for path in files:
        text = path.with_suffix(settings["general"]["caption_extension"])
        assert "char1" in text.read_text(encoding="utf-8").splitlines()[0]


KOHYA = """
import argparse, json, sys
sys.path.insert(0, sys.argv[1])
import torch
from library import config_util, strategy_base

class Tokens(strategy_base.TokenizeStrategy):
    def tokenize(self, text):
        return [torch.zeros(1, 77, dtype=torch.long)]

strategy_base.TokenizeStrategy.set_strategy(Tokens())
options = argparse.Namespace(prior_loss_weight=1.0, debug_dataset=False)
sanitizer = config_util.ConfigSanitizer(True, True, False, True)
user = config_util.load_user_config("dataset.toml")
blueprint = config_util.BlueprintGenerator(sanitizer).generate(user, options)
group = config_util.generate_dataset_group_by_blueprint(blueprint.dataset_group)
group = group[0] if isinstance(group, tuple) else group
group.set_current_strategies()
(dataset,) = group.datasets
found = {info.absolute_path: info.caption for info in dataset.image_data.values()}
shapes = {tuple(step["images"].shape) for step in (group[i] for i in range(len(group)))}
print(json.dumps([found, len(group), sorted(shapes)]))
"""


@pytest.mark.skipif(
    not os.environ.get("SD_SCRIPTS_PATH"),
    reason="SD_SCRIPTS_PATH names no checkout of sd-scripts (SD_SCRIPTS_PYTHON its interpreter)",
)
def test_sd_scripts_itself_reads_it(dataset, collected):
    python = os.environ.get("SD_SCRIPTS_PYTHON", sys.executable)
    run = subprocess.run(
        [python, "-c", KOHYA, os.environ["SD_SCRIPTS_PATH"]],
        cwd=dataset[0], capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr[-3000:]
    found, steps, shapes = json.loads(run.stdout.splitlines()[-1])
    assert (len(found), steps, shapes) == (14, 140, [[1, 3, 128, 128]])
    for path, caption in found.items():
        text = (dataset[0] / path).with_suffix(".txt").read_text(encoding="utf-8").strip()
        assert caption == text
    assert set(collected[2].values()) <= set(found.values())


def test_hugging_face_reads_it(dataset, collected, hugging_face):
    rows = hugging_face(str(dataset[0]))["train"]
    assert len(rows) == 14
    said = dict(zip(rows["source"], rows["text"], strict=True))
    assert all(said[name] == text for name, text in collected[2].items())


def test_our_trainer_reads_it(dataset, tmp_path):
    images = read_images(LoraJob(dataset[0], tmp_path / "x.safetensors"))
    assert len(images.examples) == 14
    assert images.skipped == ()
    assert Counter(e.repeats for e in images.examples) == {10: 14}
    assert images.facts.trigger == "char1"
    assert [s.class_word for s in images.facts.subjects] == ["woman"]


def test_our_trainer_reads_the_folder_as_it_is(collected, tmp_path):
    images = read_images(LoraJob(collected[0], tmp_path / "x.safetensors"))
    assert len(images.examples) == 14
    said = {e.path.name: e.caption for e in images.examples}
    assert said["western.png"] == "char1, naïve smile"
    assert said["phone.HEIC"] == "char1 woman"
    assert images.facts.trigger == "char1"


def test_a_trigger_of_ones_own_is_put_in_front(collected, tmp_path):
    out = io.StringIO()
    folder = collected[0] / FOLDER
    with redirect_stdout(out), redirect_stderr(io.StringIO()):
        code = main(
            ["curate", str(folder / "a.avif"), str(folder / "bom.png"),
             "--output", str(tmp_path / "set"), "--total", "2", "--clusters", "1", "--trigger",
             "ohwx", "--layout", "kohya", "--min-quality", "0"]
        )  # fmt: skip
    assert code == 0
    texts = {p.stem: p.read_text(encoding="utf-8") for p in (tmp_path / "set").rglob("*.txt")}
    assert texts["bom"] == "ohwx, char1, naïve smile, scene №1\n"
    assert texts["a"].startswith("ohwx, ")
    assert (tmp_path / "set" / "10_ohwx woman" / "bom.png").is_file()
