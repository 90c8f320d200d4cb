"""What widgets offer is what core's models say."""

import pytest

from character_curator import project_sections
from character_curator.asset_sections import AssetsSection
from character_curator.options import option
from character_curator.training import TrainingSettings
from tests.support.comfyui.graphs import NAMES, PREFIX

FIELDS = [
    *(("TrainLoRA", TrainingSettings, name, name) for name in (
        "rank", "alpha", "learning_rate", "epochs", "batch_size", "resolution", "targets",
        "train_text_encoder", "seed", "validation_share", "gradient_checkpointing",
    )),
    *(("FaceValidate", project_sections.FacesSection, name, name) for name in (
        "pack", "minimum_confidence", "minimum_share", "minimum_side",
    )),
    ("QualityScore", project_sections.QualitySection, "minimum", "minimum"),
    ("ClipCluster", project_sections.ClustersSection, "count", "clusters"),
    ("ClipCluster", project_sections.ClipSection, "model", "model"),
    ("BalancedSelect", project_sections.SelectionSection, "total", "total"),
    ("BalancedSelect", project_sections.DuplicatesSection, "threshold", "duplicates"),
    ("DatasetExport", project_sections.DatasetSection, "captions", "captions"),
    *(("ExportAssets", AssetsSection, name, name) for name in (
        "background", "trim", "anchor", "atlas", "padding", "extrude",
    )),
    ("CharacterPlan", project_sections.PlanSection, "takes", "takes"),
]  # fmt: skip


@pytest.mark.parametrize(("node", "model", "field", "name"), FIELDS)
def test_a_widget_has_the_fields_default_and_keeps_its_limits(server, node, model, field, name):
    info = server.get(f"/object_info/{PREFIX}{node}")[PREFIX + node]["input"]
    said = {**info["required"], **info.get("optional", {})}[name][1]
    described = option(model, field)
    assert said["default"] == described.default
    if described.kind in ("whole", "number"):
        assert said["min"] >= described.least
        assert said["max"] <= described.most


@pytest.mark.parametrize("node", NAMES)
def test_a_node_is_found_by_other_words_where_a_search_knows_them(server, node):
    info = server.get(f"/object_info/{PREFIX}{node}")[PREFIX + node]
    if "search_aliases" not in info:
        pytest.skip("no words for the search in this ComfyUI")
    assert len(info["search_aliases"]) >= 2
