"""The nodes as a real ComfyUI offers them."""

import pytest
from graphs import NAMES, PREFIX


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
    assert "IMPORT FAILED" not in server.text()
    assert "Error while calling comfy_entrypoint" not in server.text()
