"""The rooms of nodes import downwards only, and their modules in no circle."""

import ast
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


NOTHING_KEPT = {
    "JoinImageSets": "tables alone",
    "CompareSubjects": "tables alone",
    "EditCaptions": "tables alone",
    "ContactSheet": "images, of which those that cannot be read are said by whoever lists them",
    "ImageSetToImages": "images, and it refuses those that cannot be read",
    "CharacterPlan": "a plan that somebody has written, and it refuses what cannot be read",
    "LoadMiniature": "weights that come with the program",
}
"""Nodes that read nothing that an earlier run has kept, and what they do read."""


def test_every_node_that_reads_what_is_kept_says_what_was_damaged():
    said = {}
    for path in NODES.rglob("*.py"):
        for found in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(found, ast.ClassDef) and "io.ComfyNode" in map(ast.unparse, found.bases):
                (execute,) = [
                    one for one in found.body
                    if isinstance(one, ast.FunctionDef) and one.name == "execute"
                ]  # fmt: skip
                said[found.name] = any(
                    ast.unparse(one).startswith("says_damage(") for one in execute.decorator_list
                )
    assert len(said) > 20
    assert {name for name, does in said.items() if not does} == NOTHING_KEPT.keys()
