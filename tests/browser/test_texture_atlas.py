"""A game engine shows what lies in an atlas: Phaser in a real browser, pixel for pixel.

Phaser is not a part of this repository: it is the file that PHASER_PATH names, or comes from npm.
"""

from __future__ import annotations

import base64
import io
import json
import os
import shutil
import subprocess
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from character_curator.asset_sections import AtlasRules
from character_curator.assets.atlas import packed, page_image, page_json
from character_curator.assets.sprites import bled
from miniature.identity import sample_identity
from miniature.portrait import render
from miniature.scene import sample_scene

pytestmark = pytest.mark.slow

CELL = 96
PAGE = """async ({json, texture, names, cell, columns}) => {
  const image = new Image();
  image.src = texture;
  await image.decode();
  const height = cell * Math.ceil(names.length / columns);
  return await new Promise(done => {
    const game = new Phaser.Game({
      type: Phaser.CANVAS, width: cell * columns, height, transparent: true, roundPixels: false,
      audio: {noAudio: true}, banner: false,
      scene: {create() {
        this.textures.addAtlas('atlas', image, json);
        names.forEach((name, i) => this.add.image(
          cell * (i % columns), cell * Math.floor(i / columns), 'atlas', name).setOrigin(0, 0));
        const sizes = names.map(name => {
          const frame = this.textures.getFrame('atlas', name);
          return [frame.realWidth, frame.realHeight, frame.trimmed];
        });
        this.game.events.once('postrender', () =>
          done({shown: this.game.canvas.toDataURL('image/png'), sizes}));
      }},
    });
  });
}"""


@pytest.fixture(scope="module")
def phaser(tmp_path_factory):
    """The text of the engine."""
    if given := os.environ.get("PHASER_PATH"):
        return Path(given).read_text(encoding="utf-8")
    if shutil.which("npm") is None:
        pytest.skip("neither PHASER_PATH nor npm")
    folder = tmp_path_factory.mktemp("phaser")
    got = subprocess.run(["npm", "pack", "phaser@3"], cwd=folder, capture_output=True, timeout=300)
    if got.returncode:
        pytest.skip("npm has no phaser: no network")
    with tarfile.open(next(folder.glob("phaser-*.tgz"))) as archive:
        return archive.extractfile("package/dist/phaser.min.js").read().decode()


@pytest.fixture(scope="module")
def page(phaser):
    """A page of a browser with the engine."""
    driver = pytest.importorskip("playwright.sync_api")
    path = os.environ.get("CHROMIUM_PATH") or shutil.which("chromium")
    if path is None:
        pytest.skip("no browser")
    with driver.sync_playwright() as made:
        browser = made.chromium.launch(executable_path=path, args=["--no-sandbox"])
        opened = browser.new_page()
        opened.set_content("<body></body>")
        opened.add_script_tag(content=phaser)
        yield opened
        browser.close()


def write_images(folder, count=9):
    """Write drawn people with round, soft-edged, partly transparent outlines, each of a size."""
    rng = np.random.default_rng(0)
    images = {}
    for number in range(count):
        side = int(rng.integers(40, CELL))
        drawn = render(sample_identity(rng), sample_scene(rng), size=side, supersample=1).image
        y, x = np.mgrid[0:side, 0:side] / side - (0.5, 0.45)[number % 2]
        alpha = np.clip((0.36 - np.hypot(x, y)) * side * 60, 0, 255).astype(np.uint8)
        pixels = bled(np.dstack([drawn, alpha]))
        name = f"folder {number % 3}/image_{number}.png"
        (folder / name).parent.mkdir(exist_ok=True)
        Image.fromarray(pixels).save(folder / name)
        images[name] = ((side, side), Image.fromarray(alpha).getbbox())
    return images


@pytest.mark.parametrize("side", [512, 128])
def test_phaser_shows_every_image_of_every_page(page, side, tmp_path):
    images = write_images(tmp_path)
    rules = AtlasRules(atlas_size=side)
    atlas = packed(images, rules)
    assert (len(atlas.pages) > 1) == (side == 128)
    seen = set()
    for number in range(len(atlas.pages)):
        data = json.loads(page_json(atlas, number))
        buffer = io.BytesIO()
        page_image(atlas, number, tmp_path, rules).save(buffer, "PNG")
        texture = "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
        names = list(data["frames"])
        given = {"json": data, "texture": texture, "names": names, "cell": CELL, "columns": 3}
        found = page.evaluate(PAGE, given)
        shown = Image.open(io.BytesIO(base64.b64decode(found["shown"].partition(",")[2])))
        for place, name in enumerate(names):
            expected = np.asarray(Image.open(tmp_path / name)).astype(int)
            height, width = expected.shape[:2]
            assert found["sizes"][place] == [width, height, True]
            left, top = CELL * (place % 3), CELL * (place // 3)
            got = np.asarray(shown.crop((left, top, left + CELL, top + CELL))).astype(int)
            assert not got[height:].any()
            assert not got[:, width:].any()
            got = got[:height, :width]
            assert np.array_equal(got[..., 3], expected[..., 3]), name
            solid = expected[..., 3] == 255
            assert solid.any()
            assert np.array_equal(got[solid], expected[solid]), name
            # A canvas holds colors times their opacity, in 8 bits.
            times = expected[..., 3:] / 255
            assert np.abs(got[..., :3] * times - expected[..., :3] * times).max() <= 1
        seen |= set(names)
    assert seen == images.keys()
