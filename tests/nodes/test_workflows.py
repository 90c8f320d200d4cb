"""Every shipped graph runs to its end, with reduced numbers."""

import json
from pathlib import Path

import pytest
from comfy_server import files

WORKFLOWS = sorted((Path(__file__).resolve().parents[2] / "workflows").glob("*.json"))
REDUCED = {
    "CharacterCurator_CharacterPlan": {"seeds": "966983-966984"},
    "CharacterCurator_SeedBatchGenerate": {"steps": 4},
    "CharacterCurator_FaceValidate": {"minimum_confidence": 0.0, "minimum_share": 0.0},
    "CharacterCurator_QualityScore": {"minimum": 0.0},
    "CharacterCurator_BalancedSelect": {"total": 4},
}
WIDGETS = ("INT", "FLOAT", "STRING", "BOOLEAN", "COMBO")


def api_form(workflow, server):
    """Return a canvas graph as the canvas queues it."""
    links = {link[0]: [str(link[1]), link[2]] for link in workflow["links"]}
    graph = {}
    for node in workflow["nodes"]:
        if node["type"] in ("Note", "MarkdownNote"):
            continue
        definition = server.get(f"/object_info/{node['type']}")[node["type"]]
        assert definition["display_name"]
        values = iter(node["widgets_values"])
        inputs = {}
        for group in ("required", "optional"):
            for name, entry in definition["input"].get(group, {}).items():
                if isinstance(entry[0], list) or entry[0] in WIDGETS:
                    inputs[name] = next(values)
                    if entry[1].get("control_after_generate"):
                        next(values)
        assert list(values) == []
        wires = {slot["name"]: links[slot["link"]] for slot in node["inputs"] if slot["link"]}
        inputs |= wires
        inputs |= REDUCED.get(node["type"], {})
        graph[str(node["id"])] = {"class_type": node["type"], "inputs": inputs}
    return graph


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_shipped_graph_is_listed_and_runs_to_its_end(server, path):
    assert path.stem in server.get("/workflow_templates")["character-curator"]
    workflow = json.loads(path.read_text(encoding="utf-8"))
    assert any(node["type"] == "MarkdownNote" for node in workflow["nodes"])
    run = server.run(api_form(workflow, server))
    if path.stem == "quick_start":
        assert len(files(server.base / "output" / "char1" / "dataset")) == 4
        assert run.outputs


def test_there_are_graphs():
    assert WORKFLOWS


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_shipped_graph_has_a_thumbnail(path):
    assert path.with_suffix(".jpg").is_file()
