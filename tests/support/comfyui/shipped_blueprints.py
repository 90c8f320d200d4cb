"""What the subgraphs under subgraphs/ are made of: ComfyUI's library of nodes offers them."""

from __future__ import annotations

from tests.support.comfyui.canvas_layout import Column, Node, Subgraph
from tests.support.comfyui.graph_parts import GOLD, GROWS, PURPLE, THRESHOLDS, curate, curator

CURATE = curate(
    "Curate images to a dataset",
    {},
    {
        "faces": {"pack": "buffalo_l", "minimum_confidence": 0.85, "minimum_identity": 0.3},
        "quality": {"minimum": 0.74},
        "cluster": {"model": "ViT-B-32", "pretrained": "laion2b_s34b_b79k", "clusters": 6},
        "select": {"total": 30, "quotas": "cluster=3..8", "duplicates": 0.95},
        "export": {"trigger": "char1", "captions": "trigger + what varies"},
    },
    (
        "Exactly one face, of one person: *minimum_identity* is the least similarity to "
        "*references*, or to the centre of the set.\n\nThe first run downloads *buffalo_l* "
        "(280 MB, non-commercial research only) and *ViT-B-32* (600 MB). For drawings "
        "like the miniature's, set *pack* and *model* to *miniature*.",
        "The best under the quotas, never two that look the same.\n\nQuotas may name any column: "
        "*pose=frontal:50%*, *framing=close-up:10..*, *cluster=3..8*.",
    ),
    {
        "pack": ("faces", "pack"),
        **THRESHOLDS,
        "name": ("export", "name"),
        "trigger": ("export", "trigger"),
    },
    takes={"references": [("faces", "references")]},
    gives={"taken": ("taken", 0), "left_out": ("left", 0)},
    category="Character Curator",
    description="From an image set to a dataset: faces, quality, groups, the best balanced subset.",
)

TRAIN = Subgraph(
    "train",
    "Train a LoRA and evaluate it",
    (
        Column(
            "Train",
            "Trains on the wired model and writes *models/loras/NAME.safetensors*. The best "
            "checkpoint is kept, by the validation loss.\n\nCancel keeps the training; the next "
            "queue goes on.",
            (Node("train", curator("TrainLoRA"), {"name": "char1"}),),
            width=400,
            note_height=170,
            color=GOLD,
            below=GROWS,
        ),
        Column(
            "Evaluate",
            "Each prompt with each seed, with and without the LoRA: how often it is the character, "
            "how many images have faults, and whether the bare class word makes the character "
            "too.",
            (
                Node(
                    "evaluate",
                    curator("EvaluateLoRA"),
                    {"lora_name": ("train", 2), "folder": "char1/evaluation"},
                ),
            ),
            width=440,
            note_height=170,
            color=PURPLE,
            below=GROWS,
        ),
    ),
    takes={
        "model": [("train", "model"), ("evaluate", "model")],
        "clip": [("train", "clip"), ("evaluate", "clip")],
        "vae": [("train", "vae"), ("evaluate", "vae")],
        "dataset": [("train", "dataset"), ("evaluate", "dataset")],
        "prior": [("train", "prior")],
    },
    gives={
        "MODEL": ("train", 0), "CLIP": ("train", 1), "lora_name": ("train", 2),
        "plot": ("train", 3), "samples": ("train", 4), "grid": ("evaluate", 0),
        "figures": ("evaluate", 1),
    },
    shows={
        "name": ("train", "name"), "preset": ("train", "preset"), "rank": ("train", "rank"),
        "alpha": ("train", "alpha"), "learning_rate": ("train", "learning_rate"),
        "epochs": ("train", "epochs"), "steps": ("train", "steps"),
        "batch_size": ("train", "batch_size"), "resolution": ("train", "resolution"),
        "sample_prompts": ("train", "sample_prompts"), "width": ("evaluate", "width"),
        "height": ("evaluate", "height"), "cfg": ("evaluate", "cfg"),
    },
    category="Character Curator",
    description="Trains a LoRA of a dataset on the wired model, and measures what it is worth.",
)  # fmt: skip

BLUEPRINTS = {subgraph.title: subgraph for subgraph in (CURATE, TRAIN)}
"""Each shipped subgraph, by the name of its file."""
