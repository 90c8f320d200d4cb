"""The graph of images in waves: what a checkpoint makes is measured before more is made."""

from __future__ import annotations

from dataclasses import replace

from tests.support.comfyui.canvas_layout import Column, Node
from tests.support.comfyui.graph_parts import (
    GREEN,
    checkpoint_and_plan,
    curator,
    export,
    faces,
    generate,
    sheets,
)


def _exported():
    """The dataset's node, behind the loop."""
    node = export(plan=("plan", 0), captions="{caption}")
    return replace(
        node, inputs={**node.inputs, "images": ("until", 0), "selection": ("until", 1)}
    )  # fmt: skip


ONLY_WHAT_IS_NEEDED = (
    Column(
        "Only what is needed",
        "Choose **your checkpoint**, describe **your character** in the words that it knows, and "
        "queue.\n\nThe plan says what images there *may* be. How many of each are made follows "
        "from what is found in them. The first run downloads the face pack *buffalo_l* (280 MB, "
        "non-commercial research only) and *ViT-B-32* (600 MB).",
        checkpoint_and_plan(),
        width=460, note_height=230,
    ),
    Column(
        "1 Generate a wave",
        "*wave* 24: first some of every scenario, then 24 at a time, each where the selection is "
        "short or gains most. *limit* 160: never more than that.\n\nWhat is there stays: raise "
        "*total* or change a quota in **3**, queue again, and the set is topped up.",
        (
            generate(
                steps=30, cfg=7.0, sampler_name="dpmpp_2m", scheduler="karras", width=512,
                height=512, limit=160, wave=24,
            ),
        ),
        note_height=210,
    ),
    Column(
        "2 Measure it",
        "After each wave these nodes run again; only new images are measured.\n\nAny node may "
        "stand between generation and selection: what it leaves out is made up for.",
        (
            faces(("generate", 0), pack="buffalo_l", minimum_confidence=0.85),
            Node("quality", curator("QualityScore"), {"images": ("faces", 0), "minimum": 0.74}),
            Node(
                "cluster", curator("ClipCluster"),
                {
                    "images": ("quality", 0), "model": "ViT-B-32",
                    "pretrained": "laion2b_s34b_b79k", "clusters": 6,
                },
            ),
        ),
        note_height=210, color=GREEN,
    ),
    Column(
        "3 Select, and go on until it is met",
        "*total* and *quotas* say what is wanted. **GenerateUntil** looks at what is lacking and "
        "asks for the next wave; it ends when nothing is lacking and another would raise the mean "
        "quality by less than *gain*.\n\nConnect behind it what shall see every image.",
        (
            Node(
                "select", curator("BalancedSelect"),
                {
                    "images": ("cluster", 0), "total": 36,
                    "quotas": "kind=original:9,scenario:27\nseed=3..4\nscenario_name=..6",
                },
            ),
            Node(
                "until", curator("GenerateUntil"),
                {"selection": ("select", 1), "waves": ("generate", 2)},
            ),
            Node("said", "PreviewAny", {"source": ("until", 2)}, room=190, title="How it went"),
        ),
        note_height=210, color=GREEN,
    ),
    Column(
        "4 Export",
        "The dataset is *output/char1/dataset*, for kohya sd-scripts, OneTrainer, ai-toolkit, "
        "Hugging Face datasets, or the graph *train_from_a_dataset*.",
        (_exported(),),
        note_height=210, color=GREEN,
    ),
    sheets(("until", 0)),
)  # fmt: skip
