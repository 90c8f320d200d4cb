"""The nodes as a real ComfyUI offers them."""

import re
import urllib.request
from pathlib import Path

import pytest
from PIL import Image

from tests.support.comfyui.graphs import NAMES, PREFIX

ROOT = Path(__file__).resolve().parents[2]
LANGUAGES = ("en", "zh")


@pytest.mark.parametrize("name", NAMES)
def test_every_node_is_offered_with_a_tooltip_on_every_input(server, name):
    info = server.get(f"/object_info/{PREFIX}{name}")[PREFIX + name]
    assert info["category"].split("/")[0] == "Character Curator"
    assert info["description"]
    inputs = {**info["input"].get("required", {}), **info["input"].get("optional", {})}
    for entry in inputs.values():
        assert entry[1].get("tooltip"), (name, entry)
    assert all(info["output_tooltips"])


def test_nothing_else_is_offered_and_the_pack_imports_without_a_warning(server):
    offered = [key for key in server.get("/object_info") if key.startswith(PREFIX)]
    assert sorted(offered) == sorted(PREFIX + name for name in NAMES)
    assert "(IMPORT FAILED)" not in server.text()
    assert "Error while calling comfy_entrypoint" not in server.text()


def described(server, name):
    """A node's texts as the server offers them, in the form of a locale file."""
    info = server.get(f"/object_info/{PREFIX}{name}")[PREFIX + name]
    inputs = {**info["input"].get("required", {}), **info["input"].get("optional", {})}
    return {
        "display_name": info["display_name"],
        "description": info["description"],
        "inputs": {key: entry[1]["tooltip"] for key, entry in inputs.items()},
        "outputs": dict(enumerate(info["output_tooltips"])),
    }


@pytest.mark.parametrize("name", NAMES)
def test_the_english_texts_are_those_of_the_nodes(server, name):
    texts = server.get("/i18n")["en"]["nodeDefs"][PREFIX + name]
    offered = described(server, name)
    assert texts["display_name"] == offered["display_name"]
    assert texts["description"] == offered["description"]
    assert {k: v["tooltip"] for k, v in texts["inputs"].items()} == offered["inputs"]
    assert {int(k): v["tooltip"] for k, v in texts["outputs"].items()} == offered["outputs"]


@pytest.mark.parametrize("name", NAMES)
def test_every_text_is_translated(server, name):
    english, chinese = (server.get("/i18n")[code]["nodeDefs"][PREFIX + name] for code in LANGUAGES)
    for group in ("inputs", "outputs"):
        assert set(chinese[group]) == set(english[group])
        for key, texts in chinese[group].items():
            assert texts["name"]
            assert texts["tooltip"] != english[group][key]["tooltip"]
    assert chinese["description"] != english["description"]


@pytest.mark.parametrize("name", NAMES)
def test_every_node_has_a_help_page_that_names_its_inputs(server, name):
    page = (ROOT / "web" / "docs" / f"{PREFIX}{name}.md").read_text(encoding="utf-8")
    for key, tooltip in described(server, name)["inputs"].items():
        assert f"| `{key}` | {tooltip.replace('|', chr(92) + '|')} |" in page
    assert "## Notes" in page


@pytest.mark.parametrize("name", NAMES)
def test_every_help_page_shows_a_image_that_the_server_serves(server, name):
    page = (ROOT / "web" / "docs" / f"{PREFIX}{name}.md").read_text(encoding="utf-8")
    assert f"](images/{name}.jpg)" in page
    url = f"http://127.0.0.1:{server.port}/extensions/character-curator/docs/images/{name}.jpg"
    with urllib.request.urlopen(url, timeout=30) as answer, Image.open(answer) as image:
        assert 300 <= image.width <= 600
        assert image.format == "JPEG"
    assert (ROOT / "web" / "docs" / "images" / f"{name}.jpg").stat().st_size < 100_000


def test_the_registry_is_told_what_it_asks_for():
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    for key in ("PublisherId", "DisplayName", "requires-comfyui"):
        assert re.search(rf'^{key} = "\S.*"$', text, re.M), key
    for key in ("Icon", "Repository"):  # set, or said to be set when it is published
        assert re.search(rf'^(#.* )?{key} = "\S.*"', text, re.M), key
    assert "<svg" in (ROOT / "web" / "icon.svg").read_text(encoding="utf-8")
    lines = (ROOT / ".comfyignore").read_text(encoding="utf-8").splitlines()
    ignored = {line.lstrip("/") for line in lines}
    assert {"tests/", "benchmarks/"} <= ignored
    assert not {"core/", "nodes/", "web/", "locales/", "workflows/"} & ignored
