"""How an image becomes an asset: cut out, trimmed, sized, without a rim of its background."""

import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError

from character_curator.asset_sections import AssetsSection, SpriteRules
from character_curator.assets.sprites import bled, read_source, sprite_of


def person(width=40, height=60, box=(10, 20, 25, 50)):
    """A red rectangle on blue, and the mask of the rectangle."""
    image = Image.new("RGBA", (width, height), (0, 0, 200, 255))
    image.paste((200, 0, 0, 255), box)
    mask = Image.new("L", image.size)
    mask.paste(255, box)
    return image, mask


@pytest.mark.parametrize(
    ("rules", "size", "at"),
    [
        ({}, (15, 30), (0, 0)),
        ({"trim": False}, (40, 60), (10, 20)),
        ({"size": "power-of-two"}, (16, 32), (0, 1)),
        ({"size": "power-of-two", "anchor": "bottom"}, (16, 32), (0, 2)),
        ({"size": "power-of-two", "trim": False}, (64, 64), (22, 22)),
        ({"size": "48"}, (48, 48), (16, 9)),
        ({"size": "48x40", "anchor": "bottom"}, (48, 40), (16, 10)),
    ],
)
def test_what_is_left_lies_where_it_is_to(rules, size, at):
    image, mask = person()
    made = sprite_of(image, mask, SpriteRules(**rules))
    assert made.image.size == size
    assert made.image.getchannel("A").getbbox() == (*at, at[0] + 15, at[1] + 30)
    assert made.image.getpixel(at) == (200, 0, 0, 255)
    assert made.source == (40, 60)
    assert made.scale == 1


def test_a_fixed_size_is_never_left():
    image, mask = person()
    made = sprite_of(image, mask, SpriteRules(size="16x16"))
    assert made.image.size == (16, 16)
    assert made.scale == pytest.approx(16 / 30)
    assert made.image.getchannel("A").getbbox() == (4, 0, 12, 16)
    # Scaled by its opacity: no pixel has taken on a color of the background.
    seen = np.asarray(made.image)[..., 3] > 0
    assert (np.asarray(made.image)[seen][:, 2] == 0).all()


def test_a_kept_background_stays_to_the_pixel(tmp_path):
    image, _ = person()
    image.convert("RGB").save(tmp_path / "a.png")
    made = sprite_of(read_source(tmp_path / "a.png"), None, SpriteRules())
    assert made.box == (0, 0, 40, 60)
    assert made.image.tobytes() == image.tobytes()


def test_an_images_own_transparency_counts():
    image, mask = person()
    image.putalpha(mask)
    assert sprite_of(image, None, SpriteRules()).image.size == (15, 30)
    half = Image.new("L", image.size)
    half.paste(255, (0, 0, 40, 35))
    assert sprite_of(image, half, SpriteRules()).image.size == (15, 15)


def test_nothing_is_left_of_a_black_mask():
    image, _ = person()
    faint = Image.new("L", image.size, 5)
    assert sprite_of(image, faint, SpriteRules()) is None


def test_what_surrounds_the_subject_has_its_color_and_nothing_else_has_any():
    pixels = np.full((40, 40, 4), (0, 0, 200, 0), np.uint8)
    pixels[5:8, 5:30] = pixels[5:30, 5:8] = (200, 0, 0, 255)  # a corner, with room in its box
    found = bled(pixels)
    assert found[10, 10].tolist() == [200, 0, 0, 0]
    assert found[25, 25].tolist() == [0, 0, 0, 0]
    assert not found[:5].any()
    assert not found[:, :5].any()
    assert not found[30:].any()
    assert (found[pixels[..., 3] > 0] == (200, 0, 0, 255)).all()


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        ({"size": "big"}, "is no size"),
        ({"size": "4"}, "from 8 to 16384"),
        ({"atlas_size": 1000}, "power of two"),
        ({"prompts": [{"name": "a b", "prompt": "x"}, {"name": "a-b", "prompt": "y"}]}, "same"),
        ({"categories": {"one": "a person"}}, "two at least"),
        ({"categories": {"one": "a person", "two": " "}}, "no text"),
        ({"folders": "category"}, "needs [assets.categories]"),
    ],
)
def test_what_cannot_be_is_refused(keys, says):
    with pytest.raises(ValidationError, match=says.replace("[", r"\[")):
        AssetsSection(**keys)


def test_the_documents_prompts_are_the_default():
    assert [prompt.prompt for prompt in AssetsSection().prompts] == [
        "in game armor", "portrait for UI", "action pose", "idle animation frame",
    ]  # fmt: skip
