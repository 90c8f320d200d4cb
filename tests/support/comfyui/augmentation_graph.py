"""The graph of an augmentation: photographs, a LoRA of them, variations, copies, one dataset."""

from __future__ import annotations

from dataclasses import replace

from tests.support.comfyui.canvas_layout import Column, Node
from tests.support.comfyui.graph_parts import (
    GOLD,
    GREEN,
    GREY,
    GROWS,
    MODELS,
    SMALL_TRAINING,
    curator,
    generate,
)

SCENARIOS = (
    "variation | warm | gentle smile, park background, golden hour lighting, frontal view\n"
    "variation | cool | calm expression, city background, cool evening light, three-quarter view\n"
    "variation | dramatic | serious expression, neutral background, dramatic lighting, profile "
    "view\nvariation | beach | gentle smile, beach background, soft daylight, three-quarter view"
)
TEMPLATE = "portrait of {trigger} {class_word}, {scenario}"


def _curated(name, images, total, quotas, **faces):
    """The nodes from a set of images to the best of them."""
    return (
        Node(
            f"faces_{name}", curator("FaceValidate"),
            {"images": images, "minimum_confidence": 0.85, **faces},
        ),
        Node(
            f"quality_{name}", curator("QualityScore"),
            {"images": (f"faces_{name}", 0), "minimum": 0.74},
        ),
        Node(
            f"cluster_{name}", curator("ClipCluster"),
            {"images": (f"quality_{name}", 0), "clusters": 4},
        ),
        Node(
            f"select_{name}", curator("BalancedSelect"),
            {"images": (f"cluster_{name}", 0), "total": total, "quotas": quotas},
        ),
    )  # fmt: skip


def _export(name, images, **inputs):
    return Node(
        f"export_{name}", curator("DatasetExport"),
        {"images": images, "name": name, "folder": f"char1/{name}", "trigger": "char1", **inputs},
    )  # fmt: skip


AUGMENTATION = (
    Column(
        "1 Real images",
        "Put images of the person into ComfyUI's folder *input/photos* and queue. They are never "
        "altered.\n\nFor photographs put *Load Checkpoint* in the place of *Load Miniature*, "
        "choose a face pack (buffalo_l) and a CLIP model (ViT-B-32), and set size, steps and cfg "
        "to what your model likes.",
        (
            Node("models", curator("LoadMiniature")),
            Node("load", curator("LoadImageSet"), {"folder": "photos"}, room=330),
        ),
        width=400, note_height=200,
    ),
    Column(
        "2 Curate them",
        "As any images: one certain face, good enough, never two that look the same. 70 at most.",
        _curated("real", ("load", 0), 70, "", minimum_identity=-1.0),
        width=400, note_height=100, color=GREEN,
    ),
    Column(
        "3 Train a LoRA of them",
        "The dataset *output/char1/real*, and *models/loras/char1.safetensors*.",
        (
            _export("real", ("select_real", 0), selection=("select_real", 1),
                    captions="trigger + what varies"),
            Node(
                "train", curator("TrainLoRA"),
                {**MODELS, "dataset": ("export_real", 0), "name": "char1", **SMALL_TRAINING},
            ),
        ),
        width=400, note_height=100, color=GOLD, below=GROWS,
    ),
    Column(
        "4 Vary",
        "Other angles, lights, expressions and backgrounds, with the LoRA: its MODEL and CLIP. "
        "The template names the trigger word.\n\nWrite as many scenes and seeds as make half as "
        "many images again as you want: 300 for 200.",
        (
            Node(
                "plan", curator("CharacterPlan"),
                {
                    "description": "", "scenarios": SCENARIOS, "originals": "",
                    "seeds": "966983-966988", "template": TEMPLATE, "caption": TEMPLATE,
                },
            ),
            replace(
                generate(
                    steps=20, cfg=2.5, sampler_name="euler", scheduler="normal", width=128,
                    height=128, model=("train", 0), clip=("train", 1),
                ),
                room=300,
            ),
        ),
        width=400, note_height=170,
    ),
    Column(
        "5 Disturb",
        "A copy of each: something in front of the face, blur, noise, compression. Each says by "
        "which numbers, and comes again to the byte.\n\nBelow: real images, for step 6 to compare "
        "faces with.",
        (
            Node(
                "disturb", curator("DisturbImages"),
                {"images": ("generate", 0), "strength": 0.4}, room=300,
            ),
            Node(
                "whom", curator("ImageSetToImages"),
                {"images": ("select_real", 0), "which": "selected", "count": 12},
                title="Whom they must show",
            ),
        ),
        width=400, note_height=150,
    ),
    Column(
        "6 Curate both",
        "One face, and that of the real images (0.5 suits the miniature, 0.3 buffalo_l). A copy's "
        "quality is that of its undisturbed image. The quota says how many copies are taken: a "
        "quarter.",
        _curated(
            "both", ("disturb", 0), 16, "kind=scenario:12,disturbed:4", minimum_identity=0.5,
            references=("whom", 0),
        ),
        width=400, note_height=150, color=GREEN,
    ),
    Column(
        "7 One dataset",
        "Real and synthetic together: *output/char1/combined*. Its card has the share of each.",
        (
            Node(
                "join", curator("JoinImageSets"),
                {"first": ("select_real", 0), "second": ("select_both", 0)},
            ),
            Node("cluster_all", curator("ClipCluster"), {"images": ("join", 0), "clusters": 4}),
            _export("combined", ("cluster_all", 0), captions="trigger + what varies"),
        ),
        width=400, note_height=100, color=GREEN,
    ),
    Column(
        "What was taken",
        "",
        (
            Node(
                "taken", curator("ContactSheet"),
                {
                    "images": ("cluster_all", 0), "columns": 4, "show": "selected",
                    "group_by": "kind",
                },
                room=460,
            ),
        ),
        width=460, color=GREY,
    ),
)  # fmt: skip
