"""The rooms of nodes import downwards only, and their modules in no circle."""

from pathlib import Path

from tests.support.import_graph import circle, imports_within, not_downwards

NODES = Path(__file__).parents[2] / "nodes"

ORDER = {
    "ui": "Widgets, paths and progress: what nodes show, whichever stage they belong to.",
    "comfy": "What adapts ComfyUI's models and graphs to core; it knows of no node.",
    "plan": "CharacterPlan.",
    "curate": "Faces, quality, clusters and selection, and the image sets that they pass on.",
    "generate": "SeedBatchGenerate; it shows its images as the sheets of curation do.",
    "export": "DatasetExport.",
    "train": "TrainLoRA and ApplyLoRA.",
    "evaluate": "EvaluateLoRA and Verify: they apply a LoRA, generate and measure.",
    "": "The list of all nodes.",
}
"""Every room, from the lowest to the highest: none imports one that stands after it."""


def test_no_circle():
    assert circle(imports_within(NODES)) == []


def test_rooms_import_downwards():
    assert [str(found) for found in not_downwards(imports_within(NODES), ORDER)] == []


def test_every_room_is_there():
    assert {path.parent.name for path in NODES.glob("*/__init__.py")} == ORDER.keys() - {""}
