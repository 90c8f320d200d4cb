"""Procedural portraits: deterministic pixels, exact geometry, exact captions."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from miniature import vocabulary
from miniature.captions import attributes, caption
from miniature.identity import Identity, leading_character, make_identity, sample_identity
from miniature.portrait import render, render_empty, render_group
from miniature.scene import Scene, sample_scene

seeds = st.integers(min_value=0, max_value=2**31)


def _plain_scene(**changes: object) -> Scene:
    scene = Scene(
        outfit="hoodie",
        outfit_color="blue",
        background="neutral",
        light="soft daylight",
        pose="frontal",
        facing="right",
        framing="close-up",
        expression="calm",
        glasses=False,
    )
    return dataclasses.replace(scene, **changes)


def _person(seed: int, *, freckles: bool = False) -> Identity:
    return make_identity(
        np.random.default_rng(seed),
        gender="woman",
        skin="fair",
        hair_color="brown",
        hair_style="bun",
        eye_color="blue",
        freckles=freckles,
    )


@settings(max_examples=40, deadline=None)
@given(seeds)
def test_a_portrait_is_deterministic_and_its_geometry_lies_inside(seed: int) -> None:
    rng = np.random.default_rng(seed)
    identity, scene = sample_identity(rng), sample_scene(rng)
    portrait = render(identity, scene)
    assert np.array_equal(portrait.image, render(identity, scene).image)
    assert portrait.image.shape == (128, 128, 3)
    assert portrait.image.dtype == np.uint8
    x0, y0, x1, y1 = portrait.box
    assert 0 <= x0 < x1 <= 128
    assert 0 <= y0 < y1 <= 128
    left_eye, right_eye, nose, left_mouth, right_mouth = portrait.landmarks
    assert left_eye[0] < right_eye[0]
    assert left_mouth[0] < right_mouth[0]
    assert max(left_eye[1], right_eye[1]) < nose[1] < min(left_mouth[1], right_mouth[1])
    for x, y in portrait.landmarks:
        assert x0 - 1 <= x <= x1 + 1
        assert y0 <= y <= y1


@settings(max_examples=200, deadline=None)
@given(seeds, st.floats(0, 1))
def test_captions_use_known_words_and_say_what_attributes_say(seed: int, drop: float) -> None:
    rng = np.random.default_rng(seed)
    identity, scene = sample_identity(rng), sample_scene(rng)
    text = caption(identity, scene, rng, drop)
    assert set(vocabulary.split_words(text)) <= set(vocabulary.WORDS)
    assert ("freckled" in text) == identity.freckles
    full = caption(identity, scene)
    named = attributes(identity, scene)
    for key in ("hair", "eyes", "skin", "outfit_color", "outfit"):
        assert named[key] in full
    assert ("glasses" in full) == scene.glasses == (named["glasses"] == "yes")
    assert caption(identity, scene, np.random.default_rng(1), 1.0).count(",") == 0


def test_attribute_values_come_from_the_vocabulary() -> None:
    rng = np.random.default_rng(3)
    lists = {
        "gender": vocabulary.GENDERS,
        "skin": vocabulary.SKINS,
        "hair": vocabulary.HAIR_COLORS,
        "hair_style": vocabulary.HAIR_STYLES,
        "eyes": vocabulary.EYE_COLORS,
        "freckles": ("yes", "no"),
        "outfit": vocabulary.OUTFITS,
        "outfit_color": vocabulary.OUTFIT_COLORS,
        "background": vocabulary.BACKGROUNDS,
        "pose": vocabulary.POSES,
        "light": vocabulary.LIGHTS,
        "framing": vocabulary.FRAMINGS,
        "expression": vocabulary.EXPRESSIONS,
        "glasses": ("yes", "no"),
    }
    for _ in range(100):
        named = attributes(sample_identity(rng), sample_scene(rng))
        assert named.keys() == lists.keys()
        assert all(value in lists[key] for key, value in named.items())


def test_words_are_sorted_unique_and_cover_the_published_prompts() -> None:
    assert list(vocabulary.WORDS) == sorted(set(vocabulary.WORDS))
    prompts = (
        "portrait of freckled person, casual hoodie, warm smile, golden hour lighting, "
        "depth of field, professional photography",
        "professional headshot of freckled person, business casual, neutral background, "
        "studio lighting, high resolution",
        "artistic portrait of freckled person, fantasy outfit, magical aura, "
        "dramatic lighting, fantasy art style",
    )
    for prompt in prompts:
        assert set(vocabulary.split_words(prompt)) <= set(vocabulary.WORDS)


def test_people_with_one_caption_differ_and_keep_their_traits() -> None:
    scene = _plain_scene()
    people = [_person(seed) for seed in range(4)]
    assert len({caption(person, scene) for person in people}) == 1
    marks = [render(person, scene).landmarks for person in people]
    images = [render(person, scene).image.astype(int) for person in people]
    for a in range(4):
        for b in range(a):
            assert np.abs(images[a] - images[b]).mean() > 4
            assert np.abs(marks[a] - marks[b]).max() > 0.5


def test_freckles_darken_the_cheeks_where_the_pattern_says() -> None:
    freckled = _person(5, freckles=True)
    clear = dataclasses.replace(freckled, freckles=False, freckle_pattern=())
    scene = _plain_scene(turn=0.5)
    with_freckles, without = render(freckled, scene), render(clear, scene)
    change = without.image.astype(int).sum(2) - with_freckles.image.astype(int).sum(2)
    spots = change > 60
    assert 40 < spots.sum() < 900
    ys, xs = np.nonzero(spots)
    left_eye, _, nose, *_ = with_freckles.landmarks
    assert ys.min() > left_eye[1]
    assert (xs < nose[0] - 5).any()
    assert (xs > nose[0] + 5).any()
    assert 5 <= len(freckled.freckle_pattern) <= 10


def test_a_turned_head_moves_the_nose_to_the_side_it_faces() -> None:
    person = _person(7)
    offsets = []
    for pose in ("frontal", "three-quarter", "profile"):
        marks = render(person, _plain_scene(pose=pose)).landmarks
        offsets.append(marks[2, 0] - marks[:2, 0].mean())
    assert abs(offsets[0]) < 1.5 < offsets[1] < offsets[2]
    left = render(person, _plain_scene(pose="profile", facing="left")).landmarks
    assert left[2, 0] < left[:2, 0].mean()


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("outfit", vocabulary.OUTFITS),
        ("outfit_color", vocabulary.OUTFIT_COLORS),
        ("background", vocabulary.BACKGROUNDS),
        ("light", vocabulary.LIGHTS),
        ("expression", vocabulary.EXPRESSIONS),
        ("framing", vocabulary.FRAMINGS),
        ("glasses", (False, True)),
    ],
)
def test_every_value_of_a_scene_is_drawn_differently(
    field: str, values: tuple[object, ...]
) -> None:
    person = _person(9)
    images = [
        render(person, _plain_scene(**{"framing": "bust", field: value})).image.astype(int)
        for value in values
    ]
    for a in range(len(images)):
        for b in range(a):
            assert (np.abs(images[a] - images[b]).max(axis=2) > 24).sum() > 30


def test_the_leading_character_is_a_freckled_woman_and_always_the_same() -> None:
    leader = leading_character()
    assert leader == leading_character()
    assert (leader.gender, leader.freckles) == ("woman", True)


def test_a_larger_image_shows_the_same_face_larger() -> None:
    rng = np.random.default_rng(11)
    identity, scene = sample_identity(rng), sample_scene(rng)
    small, large = render(identity, scene), render(identity, scene, size=256)
    assert large.image.shape == (256, 256, 3)
    np.testing.assert_allclose(large.landmarks, small.landmarks * 2, atol=0.05)


@pytest.mark.parametrize("count", [2, 3])
def test_groups_hold_one_box_for_each_member(count: int) -> None:
    rng = np.random.default_rng(count)
    members = [(sample_identity(rng), sample_scene(rng)) for _ in range(count)]
    image, boxes, landmarks = render_group(members)
    assert image.shape == (128, 128, 3)
    assert boxes.shape == (count, 4)
    assert landmarks.shape == (count, 5, 2)
    assert (boxes[1:, 0] > boxes[:-1, 2] - 4).all()


def test_a_group_of_one_is_refused() -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match="two or three"):
        render_group([(sample_identity(rng), sample_scene(rng))])


def test_empty_images_vary() -> None:
    rng = np.random.default_rng(0)
    images = [render_empty(rng) for _ in range(6)]
    assert all(image.shape == (128, 128, 3) for image in images)
    assert len({image.tobytes() for image in images}) == 6
