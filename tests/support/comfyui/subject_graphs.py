"""The graph of two subjects: a dataset of each, a combined one, nobody taken for another."""

from __future__ import annotations

from tests.support.comfyui.canvas_layout import Column, Node
from tests.support.comfyui.graph_parts import DESCRIPTION, GREEN, GREY, MODELS, curator

SCENARIOS = (
    "casual | park | casual blue hoodie, warm smile, park background, soft daylight, frontal view, "
    "bust\nlighting | beach | white shirt, gentle smile, beach background, golden hour lighting, "
    "close-up\npose | studio | black t-shirt, neutral background, studio lighting, three-quarter "
    "view, close-up"
)
SEEDS = "966983-966986"


def _plan(name, class_word, description):
    return Node(
        f"plan_{name}", curator("CharacterPlan"),
        {
            "subject": name, "trigger": name, "class_word": class_word,
            "description": description, "scenarios": SCENARIOS, "seeds": SEEDS,
        },
    )  # fmt: skip


def _generate(name):
    return Node(
        f"generate_{name}", curator("SeedBatchGenerate"),
        {
            **MODELS, "plan": (f"plan_{name}", 0), "folder": f"{name}/raw", "steps": 20,
            "cfg": 2.5, "sampler_name": "euler", "scheduler": "normal", "width": 128,
            "height": 128,
        },
        room=300,
    )  # fmt: skip


def _faces(name):
    return Node(
        f"faces_{name}",
        curator("FaceValidate"),
        {"images": (f"generate_{name}", 0), "minimum_confidence": 0.85, "minimum_identity": 0.6},
    )


def _dataset(name, output, title, note):
    """The column from a subject's images to its dataset."""
    return Column(
        title,
        note,
        (
            Node(
                f"quality_{name}", curator("QualityScore"),
                {"images": ("compare", output), "minimum": 0.74},
            ),
            Node(
                f"cluster_{name}", curator("ClipCluster"),
                {"images": (f"quality_{name}", 0), "clusters": 3},
            ),
            Node(
                f"select_{name}", curator("BalancedSelect"),
                {"images": (f"cluster_{name}", 0), "total": 8, "quotas": "seed=2"},
            ),
            Node(
                f"export_{name}", curator("DatasetExport"),
                {
                    "images": (f"select_{name}", 0), "selection": (f"select_{name}", 1),
                    "plan": (f"plan_{name}", 0), "folder": f"{name}/dataset", "name": name,
                    "captions": "{caption}",
                },
            ),
        ),
        width=400, note_height=150, color=GREEN,
    )  # fmt: skip


TWO_SUBJECTS = (
    Column(
        "1 Describe two",
        "Two characters in the same scenes. Each has a name and a trigger word of its own.\n\nFor "
        "your own checkpoint, put *Load Checkpoint* in the place of *Load Miniature*, choose a "
        "face pack and a CLIP model for photographs, and set size, steps and cfg to what the "
        "model likes.",
        (
            _plan("ada", "woman", DESCRIPTION),
            _plan("ben", "man", "man, short black hair, brown eyes, brown skin"),
        ),
        width=400, note_height=190,
    ),
    Column(
        "2 Generate",
        "16 images of each. Cancel whenever you like: the next queue goes on where it was.",
        (Node("models", curator("LoadMiniature")), _generate("ada"), _generate("ben")),
        width=400, note_height=100,
    ),
    Column(
        "3 Tell them apart",
        "Each image with one certain face is compared with both. One that is nearer to the other "
        "is left out as *other_subject*. More subjects go into *third* to *fifth*.",
        (
            _faces("ada"),
            _faces("ben"),
            Node(
                "compare", curator("CompareSubjects"),
                {"first": ("faces_ada", 0), "second": ("faces_ben", 0)},
            ),
        ),
        width=400, note_height=150, color=GREEN,
    ),
    _dataset("ada", 0, "4 Ada", "Its own thresholds, number and quotas. *output/ada/dataset*."),
    _dataset("ben", 1, "5 Ben", "Its own thresholds, number and quotas. *output/ben/dataset*."),
    Column(
        "6 Both",
        "What was chosen of both, as one dataset: *output/both/dataset*, a folder a subject for "
        "kohya, with its trigger word.",
        (
            Node(
                "together", curator("CompareSubjects"),
                {"first": ("select_ada", 0), "second": ("select_ben", 0)},
            ),
            Node(
                "cluster_both", curator("ClipCluster"),
                {"images": ("together", 5), "clusters": 4},
            ),
            Node(
                "export_both", curator("DatasetExport"),
                {
                    "images": ("cluster_both", 0), "folder": "both/dataset", "name": "both",
                    "captions": "{caption}", "layout": "kohya",
                },
            ),
        ),
        width=400, note_height=150, color=GREEN,
    ),
    Column(
        "What was taken",
        "The table: how similar the images in the datasets are to each subject, and by how much "
        "the worst is nearer to its own.",
        (
            Node("table", "PreviewAny", {"source": ("together", 6)}, room=160, title="Table"),
            Node(
                "taken", curator("ContactSheet"),
                {"images": ("cluster_both", 0), "columns": 4, "show": "selected"}, room=460,
            ),
        ),
        width=460, note_height=110, color=GREY,
    ),
)  # fmt: skip
