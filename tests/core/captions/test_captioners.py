"""Models that write captions: tiny ones of each kind, through the same code as large ones."""

from __future__ import annotations

import io
import json
from contextlib import redirect_stderr, redirect_stdout

import cv2
import numpy as np
import onnxruntime
import pytest
from PIL import Image

from character_curator.captions import caption_folder, captioner, read_table, taggers, undo
from character_curator.captions.captioners import CaptionerError, CaptionerNotFoundError
from character_curator.captions.making import make_captions
from character_curator.captions.settings import (
    CaptionSettings,
    CaptionSettingsError,
    caption_settings,
)
from character_curator.captions.taggers import Tagger, square
from character_curator.captions.vision_language import FLORENCE_TASK, PROMPTS, VisionLanguageModel
from character_curator.cli import main
from character_curator.features import FeatureStore
from tests.support.tiny_captioners import TAGS, tiny_blip, tiny_florence, tiny_qwen_vl, tiny_tagger

BLUE, RED = (250, 10, 10), (10, 10, 250)


@pytest.fixture(scope="module")
def tagger(tmp_path_factory):
    return tiny_tagger(tmp_path_factory.mktemp("tagger"))


@pytest.fixture(scope="module")
def qwen(tmp_path_factory):
    return tiny_qwen_vl(tmp_path_factory.mktemp("qwen"))


@pytest.fixture(scope="module")
def florence(tmp_path_factory):
    return tiny_florence(tmp_path_factory.mktemp("florence"))


@pytest.fixture
def photos(tmp_path):
    """A blue image, a red one with a caption, a damaged one."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for name, color in (("blue", BLUE), ("red", RED)):
        cv2.imwrite(str(folder / f"{name}.png"), np.full((40, 40, 3), color, np.uint8))
    (folder / "red.txt").write_text("char1, by hand\n")
    (folder / "damaged.png").write_bytes(b"no image")
    return folder


def noise(*sides):
    rng = np.random.default_rng(0)
    return [rng.integers(0, 255, (h, w, 3), np.uint8) for h, w in sides]


def tags_of(folder, color, **settings):
    model = Tagger(folder, CaptionSettings(**settings))
    return model.caption(model.find([np.full((20, 30, 3), color, np.uint8)])[0])


class Counting:
    """A model that counts what it is asked, and fails on images of one size."""

    name, fingerprint, batch, stops = "counting", "1", 2, (KeyError,)
    failing = (7, 7)

    def __init__(self):
        self.asked = 0

    def find(self, images):
        if any(image.shape[:2] == self.failing for image in images):
            raise ValueError("seven is too odd")
        self.asked += len(images)
        return [b"%dx%d" % image.shape[:2] for image in images]

    def caption(self, found):
        return found.decode()

    def remark(self, found):
        return ""


class Watcher:
    """Counts the steps of a stage."""

    total = done = 0

    def start(self, stage, total):
        self.total = total

    def advance(self, n=1, note=""):
        self.done += n

    def finish(self):
        pass


# --- taggers ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "found"),
    [
        ({}, "1girl, blue background, >_<"),
        ({"threshold": 0.9}, "1girl, blue background"),
        ({"underscores": True}, "1girl, blue_background, >_<"),
        ({"order": "alphabet"}, "1girl, >_<, blue background"),
        ({"order": "model", "categories": "general, rating"},
         "general, 1girl, blue background, >_<"),
        ({"categories": "character", "character_threshold": 0.7}, "char1"),
        ({"categories": "character", "threshold": 0.1}, ""),
        ({"categories": "Artist"}, "some artist"),
        ({"categories": "rating"}, "general"),
        ({"exclude": "Blue background, x"}, "1girl, >_<"),
        ({"most": 1}, "1girl"),
    ],
)  # fmt: skip
def test_tags_follow_the_settings(tagger, settings, found):
    assert tags_of(tagger, BLUE, **settings) == found


def test_tags_follow_the_image(tagger):
    """What is blue in the file is blue for the model: channels are in the order of training."""
    assert "red background" in tags_of(tagger, RED)
    assert "red background" not in tags_of(tagger, BLUE)


def test_other_layouts_of_the_same_model(tmp_path, tagger):
    wanted = Tagger(tagger, CaptionSettings()).find(noise((20, 30), (30, 20)))
    logits = tiny_tagger(tmp_path / "logits", logits=True)
    assert Tagger(logits, CaptionSettings()).find(noise((20, 30), (30, 20))) == wanted
    single = tiny_tagger(tmp_path / "single", count=1)
    assert Tagger(single, CaptionSettings()).find(noise((20, 30), (30, 20))) == wanted
    named = tmp_path / "named"
    named.mkdir()
    (named / "wd.onnx").write_bytes((tagger / "model.onnx").read_bytes())
    (named / "wd.csv").write_bytes((tagger / "selected_tags.csv").read_bytes())
    model = captioner(named / "wd.onnx")
    assert (model.name, model.find(noise((20, 30), (30, 20)))) == ("wd", wanted)


def test_an_image_stands_on_a_white_square():
    made = square(np.zeros((10, 30, 3), np.uint8), 30)
    assert made.dtype == np.float32
    assert made[0, 0].tolist() == [255] * 3
    assert made[15, 15].tolist() == [0] * 3
    assert (made[:10] == 255).all()
    assert (made[10:20] == 0).all()
    assert square(np.zeros((64, 64, 3), np.uint8), 32).shape == (32, 32, 3)


def test_the_square_around_a_line_of_pixels_is_no_larger_than_any_image(monkeypatch):
    monkeypatch.setattr(taggers, "MAX_PIXELS", 100**2)
    made = square(np.zeros((2, 3000, 3), np.uint8), 60)
    assert made.shape == (60, 60, 3)
    assert (made[30, 5:55] < 250).all()
    assert (made[:25] == 255).all()


def test_waiting_threads_sleep(tagger):
    options = Tagger(tagger, CaptionSettings())._session.get_session_options()
    key = "session.intra_op.allow_spinning"
    assert options.get_session_config_entry(key) == "0"
    with pytest.raises(RuntimeError):
        onnxruntime.SessionOptions().get_session_config_entry(key)


def test_what_a_tagger_cannot_be(tmp_path, tagger):
    with pytest.raises(CaptionerError, match="category"):
        tags_of(tagger, BLUE, categories="generals")
    lone = tmp_path / "lone"
    lone.mkdir()
    (lone / "model.onnx").write_bytes(b"no model")
    with pytest.raises(CaptionerError, match="no list of its tags"):
        captioner(lone)
    (lone / "selected_tags.csv").write_text("a,b\n1,2\n")
    with pytest.raises(CaptionerError, match="columns name and category"):
        captioner(lone)
    (lone / "selected_tags.csv").write_text("name,category\na,0\n")
    with pytest.raises(CaptionerError, match="cannot be loaded"):
        captioner(lone).find(noise((8, 8)))
    (lone / "model.onnx").write_bytes((tagger / "model.onnx").read_bytes())
    with pytest.raises(CaptionerError, match=f"1 tag, and model.onnx gives {len(TAGS)}"):
        captioner(lone).find(noise((8, 8)))


# --- vision-language models ---------------------------------------------------------------------


def test_qwen_says_what_transformers_says(qwen):
    """Beside transformers' own way from a conversation to an answer."""
    import torch
    from transformers import AutoModelForImageTextToText, AutoProcessor

    images = noise((40, 60), (90, 30))
    model = captioner(qwen, CaptionSettings(max_tokens=12))
    assert isinstance(model, VisionLanguageModel)
    assert model.prompt == PROMPTS["prose"]
    found = [json.loads(one) for one in model.find(images)]
    processor = AutoProcessor.from_pretrained(qwen)
    reference = AutoModelForImageTextToText.from_pretrained(qwen, dtype=torch.float32).eval()
    for image, one in zip(images, found, strict=True):
        content = [{"type": "image", "image": Image.fromarray(image[..., ::-1].copy())},
                   {"type": "text", "text": PROMPTS["prose"]}]  # fmt: skip
        inputs = processor.apply_chat_template(
            [{"role": "user", "content": content}], add_generation_prompt=True, tokenize=True,
            return_dict=True, return_tensors="pt",
        )  # fmt: skip
        output = reference.generate(**inputs, max_new_tokens=12, do_sample=False)
        answer = processor.decode(output[0, inputs["input_ids"].shape[1] :],
                                  skip_special_tokens=True)  # fmt: skip
        assert one == {"text": answer, "cut": True}
    assert found[0]["text"] != found[1]["text"]


def test_florence_is_given_its_task(florence):
    model = captioner(florence, CaptionSettings(max_tokens=12))
    assert model.prompt == FLORENCE_TASK
    images = noise((40, 60), (90, 30))
    together = model.find(images)
    assert together == [model.find([image])[0] for image in images]
    assert together[0] != together[1]
    asked = CaptionSettings(max_tokens=12, prompt="CAPTION")
    assert captioner(florence, asked).prompt == "<CAPTION>"
    assert captioner(florence, asked).fingerprint != model.fingerprint
    assert captioner(florence, asked).find(images) != together


def test_blip_is_given_the_image_alone(tmp_path):
    model = captioner(tiny_blip(tmp_path), CaptionSettings(max_tokens=8))
    assert model.prompt == ""
    said = [model.caption(one) for one in model.find(noise((40, 60), (90, 30)))]
    assert set(" ".join(said).split()) <= {"a", "red", "coat", "the"}


@pytest.mark.parametrize(
    ("answer", "cut", "caption"),
    [
        ("The image shows a person in a\n red coat.", False, "a person in a red coat."),
        ("<think>Hm. A coat?</think>\n'A person in a coat'", False, "A person in a coat"),
        ("A coat. A park. And th", True, "A coat. A park."),
        ("a coat, a pa", True, "a coat, a pa"),
        ("A \x1bcoat\ufffd", False, "A coat"),
        ("Imagery of coats", False, "Imagery of coats"),
    ],
)
def test_an_answer_becomes_a_caption(qwen, answer, cut, caption):
    model = VisionLanguageModel(qwen, CaptionSettings())
    found = json.dumps({"text": answer, "cut": cut}).encode()
    assert model.caption(found) == caption
    assert bool(model.remark(found)) == cut


def test_weights_of_another_layout_are_refused(tmp_path, qwen):
    """They would be random, and so would the captions."""
    from safetensors.torch import load_file, save_file

    for path in qwen.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    weights = load_file(qwen / "model.safetensors")
    renamed = {name.replace("visual", "vision"): value for name, value in weights.items()}
    save_file(renamed, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(CaptionerError, match="weights are not in its files"):
        captioner(tmp_path).find(noise((40, 40)))


def test_no_model(tmp_path, monkeypatch):
    with pytest.raises(CaptionerNotFoundError, match="no model at 'nothing'"):
        captioner("nothing")
    with pytest.raises(CaptionerNotFoundError, match="holds no model"):
        captioner(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(CaptionerError, match="model_type"):
        captioner(tmp_path).prompt  # noqa: B018


@pytest.mark.parametrize("given", [{"threshold": 2}, {"order": "x"}, {"thresholds": 1}])
def test_settings_are_checked(given):
    with pytest.raises(CaptionSettingsError, match=next(iter(given))):
        caption_settings(given)


# --- many images --------------------------------------------------------------------------------


def test_what_was_said_is_not_asked_again(tmp_path):
    paths = []
    for number in range(5):
        paths.append(tmp_path / f"{number}.png")
        Image.new("RGB", (10 + number, 9)).save(paths[-1])
    model = Counting()
    with FeatureStore(tmp_path / "f.sqlite") as store:
        first = make_captions(paths[:3], model, store=store)
    with FeatureStore(tmp_path / "f.sqlite") as store:
        watcher = Watcher()
        made = make_captions(paths, model, store=store, progress=watcher)
    assert model.asked == 5
    assert (watcher.total, watcher.done) == (5, 5), "a rate and a time left need all of them"
    assert [one.text for one in first] == ["9x10", "9x11", "9x12"]
    assert [one.fresh for one in made] == [False] * 3 + [True] * 2


def test_one_image_that_fails_takes_no_other_along(tmp_path):
    for name, side in (("a", 8), ("b", 7), ("c", 9)):
        Image.new("RGB", (side, side)).save(tmp_path / f"{name}.png")
    (tmp_path / "d.png").write_bytes(b"")
    made = make_captions(sorted(tmp_path.glob("*.png")), Counting())
    assert [one.text for one in made] == ["8x8", "", "9x9", ""]
    assert made[1].reason == "counting failed: ValueError: seven is too odd"
    assert "empty" in made[3].reason


def test_a_model_that_fails_on_all_is_an_error(tmp_path):
    Image.new("RGB", (7, 7)).save(tmp_path / "a.png")
    with pytest.raises(CaptionerError, match=r"seven is too odd.*each of 1 image"):
        make_captions([tmp_path / "a.png"], Counting())


@pytest.mark.parametrize(
    ("existing", "texts"),
    [
        ("keep", {"blue.png": "char1, 1girl"}),
        ("replace", {"blue.png": "char1, 1girl", "red.png": "char1, 1girl"}),
        ("append", {"blue.png": "char1, 1girl", "red.png": "char1, by hand, 1girl"}),
    ],
)
def test_captions_that_are_there(photos, tagger, existing, texts):
    settings = CaptionSettings(existing=existing, most=1)
    table = read_table(photos, trigger="char1")
    run = caption_folder(table, captioner(tagger, settings), settings=settings)
    assert {change.image: change.after for change in run.edit.changes} == texts
    assert run.failed == {"damaged.png": "not an image, whatever its name says"}
    assert run.kept == (existing == "keep")


def test_the_command(photos, tagger):
    def command(*arguments, check):
        out, err = io.StringIO(), io.StringIO()
        with redirect_stdout(out), redirect_stderr(err):
            code = main(["caption", str(photos), "--model", str(tagger), *arguments, "--json"])
        assert code == check, out.getvalue() + err.getvalue()
        return json.loads(out.getvalue()), err.getvalue()

    said, _ = command("--threshold", "3", check=2)
    assert "threshold" in said["message"]
    shown, _ = command("--preview", "--trigger", "char1", "--most", "1", check=1)
    assert (shown["written"], shown["asked"], shown["kept"]) == (False, 1, 1)
    assert not (photos / "blue.txt").exists()
    done, text = command("--trigger", "char1", "--most", "2", check=1)
    assert (done["asked"], done["known"], done["written"]) == (0, 1, True)
    assert list(done["failed"]) == ["damaged.png"]
    assert (photos / "blue.txt").read_text() == "char1, 1girl, blue background\n"
    assert (photos / "red.txt").read_text() == "char1, by hand\n"
    assert "--existing replace" in text
    undo(photos)
    assert not (photos / "blue.txt").exists()
