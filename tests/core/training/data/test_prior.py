"""Prior-preservation images: captions of the class, and the images that go with them."""

from dataclasses import replace

import pytest

from character_curator import project_training
from character_curator.atomic import write_text
from character_curator.project import parse
from character_curator.training.data.images import read_images, read_prior
from character_curator.training.data.prior import NobodyNamedError, class_captions, make_prior
from character_curator.training.job import LoraJob

WOMAN = {"char1 woman": "a woman", "char1": "a woman"}


@pytest.mark.parametrize(
    ("caption", "expected"),
    [
        ("portrait of char1 woman, red dress", "portrait of a woman, red dress"),
        ("char1, red dress", "a woman, red dress"),
        ("photo of a char1 woman", "photo of a woman"),
        ("photo of an char1", "photo of a woman"),
        ("char10 and char1 woman", "char10 and a woman"),
    ],
)
def test_a_caption_becomes_one_of_the_class(caption, expected):
    assert class_captions([caption], WOMAN) == (expected,)


def test_captions_come_once_and_those_about_others_not_at_all():
    captions = ["char1 woman, hat", "a dog", "char1 woman, coat", "char1, hat"]
    assert class_captions(captions, WOMAN) == ("a woman, hat", "a woman, coat")


def test_several_subjects_become_somebody_of_their_own_class():
    people = {**WOMAN, "rex dog": "a dog"}
    assert class_captions(["char1 woman with rex dog"], people) == ("a woman with a dog",)


@pytest.mark.parametrize("people", [WOMAN, {}])
def test_captions_that_name_nobody_are_an_error(people):
    with pytest.raises(NobodyNamedError, match="trigger word"):
        class_captions(["portrait of somebody"], people)


@pytest.fixture(scope="module")
def backend():
    from character_curator.generation.diffusers_backend import DiffusersBackend

    return DiffusersBackend("miniature", steps=2, width=64, height=64, guidance=1.0)


def test_images_of_the_class_carry_their_captions(tmp_path, backend):
    captions = ["portrait of char1 woman, red dress", "portrait of char1 woman, blue shirt"]
    folder = tmp_path / "prior"
    made = make_prior(captions, WOMAN, backend, folder, 3, batch_size=2)
    examples, skipped = read_prior(made)
    assert not skipped
    assert all(example.prior for example in examples)
    said = sorted(example.caption for example in examples)
    blue, red = "portrait of a woman, blue shirt", "portrait of a woman, red dress"
    assert said == [blue, red, red], "captions take turns"
    assert len({example.hash for example in examples}) == 3, "each with noise of its own"
    times = {path: path.stat().st_mtime_ns for path in folder.glob("*.png")}
    make_prior(captions, WOMAN, backend, folder, 3, batch_size=2)
    assert {path: path.stat().st_mtime_ns for path in folder.glob("*.png")} == times


PROJECT = """
[project]
output = "{output}"
[model]
path = "miniature"
steps = 2
width = 64
height = 64
batch_size = 2
[plan]
seeds = [1]
[[subjects]]
name = "char1"
trigger = "char1"
class_word = "woman"
description = "woman"
[[scenarios]]
number = 1
name = "dress"
prompt = "red dress"
[training]
{training}
"""


def test_a_project_makes_as_many_as_it_says(tmp_path):
    dataset = tmp_path / "dataset"
    dataset.mkdir()
    (dataset / "a.txt").write_text("portrait of char1 woman, red dress")
    text = PROJECT.format(output=tmp_path.as_posix(), training="prior_pictures = 2")
    assert len(read_prior(project_training.prior_of(parse(text), dataset))[0]) == 2


def test_what_was_made_before_is_not_trained_on(tmp_path, backend):
    captions = ["portrait of char1 woman, red dress", "portrait of char1 woman, blue shirt"]
    folder = tmp_path / "prior"
    make_prior(captions, WOMAN, backend, folder, 4, batch_size=2)
    fewer = make_prior(captions, WOMAN, backend, folder, 2, batch_size=2)
    assert len(list(folder.glob("*.png"))) == 4
    job = LoraJob(tmp_path, tmp_path / "a.safetensors", prior=fewer)
    assert sorted(e.path.name for e in read_prior(job.prior)[0]) == sorted(fewer.names)
    others = make_prior(captions, WOMAN, backend, folder, 2, seed=7, batch_size=2)
    assert not set(others.names) & set(fewer.names)
    write_text(tmp_path / "a.txt", captions[0])
    (tmp_path / "a.png").write_bytes((folder / others.names[0]).read_bytes())
    images = read_images(replace(job, prior=others))
    assert sorted(e.path.name for e in images.prior) == sorted(others.names)


def test_a_folder_goes_before_making_any(tmp_path):
    text = PROJECT.format(output=tmp_path.as_posix(), training='prior_pictures = 2\nprior = "mine"')
    assert project_training.prior_of(parse(text), tmp_path, tmp_path) == tmp_path / "mine"
    none = parse(PROJECT.format(output=tmp_path.as_posix(), training=""))
    assert project_training.prior_of(none, tmp_path) is None


def test_every_caption_has_a_turn_before_one_has_two_and_the_seed_is_that_of_the_noise(
    tmp_path, backend
):
    scenes = ("red dress", "blue shirt", "park")
    captions = [f"portrait of char1 woman, {scene}" for scene in scenes]
    made = []
    for seed in (0, 1):
        images = make_prior(captions, WOMAN, backend, tmp_path / f"{seed}", 4, seed=seed)
        made.append(read_prior(images)[0])
    said = sorted(example.caption for example in made[0])
    wanted = [f"portrait of a woman, {scene}" for scene in (*scenes, scenes[0])]
    assert said == sorted(wanted)
    assert len({example.hash for examples in made for example in examples}) == 8
