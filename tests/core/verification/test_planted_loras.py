"""LoRAs that are trained wrong, each diagnosed rightly, and the demo's, which is ready.

``CURATOR_DEMO=FOLDER`` names a finished demo; otherwise one is made first, which takes minutes.
"""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import pytest

from character_curator import cli, pipeline, project, project_parts
from character_curator.evaluation.threshold import ThresholdRule
from character_curator.miniature import DIFFUSION_PATH
from character_curator.training import LoraJob
from character_curator.training.finished import train_once
from character_curator.verification import troubleshoot
from character_curator.verification.diagnosis import COLLAPSE, QUALITY, SUBJECT
from character_curator.verification.samples import setup_of

pytestmark = pytest.mark.slow

DEMO = Path(__file__).parents[3] / "core" / "demo.toml"


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """The demo's run, its LoRA included."""
    if os.environ.get("CURATOR_DEMO"):
        made = Path(os.environ["CURATOR_DEMO"])
        return Path(shutil.copytree(made, tmp_path_factory.mktemp("demo") / "output"))
    if not DIFFUSION_PATH.is_dir():
        pytest.skip("the miniature's weights are not here")
    folder = tmp_path_factory.mktemp("demo")
    pipeline.run(project_parts.with_output(project.read(DEMO), folder))
    return folder


@pytest.fixture
def dataset(demo, tmp_path):
    """A copy of the demo's dataset, to be spoilt."""
    return Path(shutil.copytree(demo / "dataset", tmp_path / "dataset"))


def diagnosed(dataset, lora):
    setup = setup_of(dataset, "char1", base="miniature", count=16)
    setup = replace(setup, rule=ThresholdRule(0.48), with_class=False)
    return troubleshoot(lora, dataset, setup=setup)


def trained(dataset, **changes):
    settings = project.read(DEMO).training.settings().replace(steps=250, **changes)
    lora = dataset.parent / "char1.safetensors"
    train_once(LoraJob(dataset, lora, samples=None), settings)
    return diagnosed(dataset, lora)


def causes(found, issue):
    [diagnosis] = [d for d in found.diagnoses if d.issue == issue]
    return [cause.name for cause in diagnosis.causes]


def replace_image(path, pixels):
    path.unlink()
    assert cv2.imwrite(str(path), pixels)


def test_the_demos_own_is_healthy(demo):
    lora = demo / "lora" / "gentle-freckled-character.safetensors"
    assert diagnosed(demo / "dataset", lora).diagnoses == ()


def test_blurred_images(dataset):
    for path in dataset.glob("*.png"):
        replace_image(path, cv2.GaussianBlur(cv2.imread(str(path)), (0, 0), 2))
    assert "training images of low quality" in causes(trained(dataset), QUALITY)


def test_two_people(demo, dataset, tmp_path):
    text = DEMO.read_text().replace(
        "gentle freckled woman, wavy red hair, green eyes, fair skin",
        "old bearded man, short black hair, brown eyes, dark skin",
    )
    parsed = project_parts.with_output(project.parse(text), tmp_path / "other")
    plan = parsed.plan.model_copy(update={"seeds": (11,)})
    others = pipeline.generate(parsed.model_copy(update={"plan": plan})).paths()
    for path, other in zip(sorted(dataset.glob("*.png"))[::2], others, strict=False):
        replace_image(path, cv2.imread(str(other)))
    assert "the training images show more than one person" in causes(trained(dataset), SUBJECT)


def test_one_image_repeated(dataset):
    names = sorted(dataset.glob("*.png"))
    one, caption = cv2.imread(str(names[10])), names[10].with_suffix(".txt").read_text()
    for number, path in enumerate(names):
        copy = one.copy()
        copy[0, 0] = number  # the same image, saved again and again
        replace_image(path, copy)
        path.with_suffix(".txt").write_text(caption)
    assert "the training images lack diversity" in causes(trained(dataset), COLLAPSE)


def test_a_rank_that_overfits(dataset):
    for number, path in enumerate(sorted(dataset.glob("*.png"))):
        if number % 9:
            path.unlink()
            path.with_suffix(".txt").unlink()
    # Without validation the last weights are kept, however far they have gone.
    found = trained(dataset, rank=64, alpha=64.0, validation_share=0.0)
    assert found.diagnoses
    for diagnosis in found.diagnoses:
        if diagnosis.issue in (SUBJECT, COLLAPSE):
            assert "overfitting" in causes(found, diagnosis.issue)


def test_the_demos_own_is_ready_once_a_person_has_signed(demo, capsys):
    dataset, lora = demo / "dataset", demo / "lora" / "gentle-freckled-character.safetensors"
    words = ["verify", str(dataset), "--lora", str(lora), "--regenerate", "all", "--json"]
    assert cli.main(words) == 1
    said = json.loads(capsys.readouterr().out)
    assert [line["key"] for line in said["lines"] if line["status"] != "holds"] == ["approval"]
    figures = {line["key"]: line["figures"] for line in said["lines"]}
    assert figures["identical"] == {"identical": 70, "images": 70}
    assert cli.main(["sign-off", str(dataset), "--name", "Jane", "--lora", str(lora)]) == 0
    capsys.readouterr()
    assert cli.main(words) == 0
    assert json.loads(capsys.readouterr().out)["verdict"] == "READY FOR PRODUCTION"
    assert "READY FOR PRODUCTION" in (dataset / "README.md").read_text()
