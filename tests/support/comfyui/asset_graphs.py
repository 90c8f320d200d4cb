"""The graph of game assets: prompts times seeds with a LoRA, checked, cut out, packed."""

from __future__ import annotations

from tests.support.comfyui.canvas_layout import Column, Node
from tests.support.comfyui.graph_parts import GOLD, GREEN, GREY, MODELS, curator

SCENARIOS = (
    "armor | armor | blue fantasy armor, serious expression, neutral background, studio lighting, "
    "frontal view, bust\nportrait | portrait | green t-shirt, gentle smile, neutral background, "
    "studio lighting, frontal view, close-up\naction | action | green fantasy armor, serious "
    "expression, neutral background, studio lighting, three-quarter view, bust\nidle | idle | "
    "blue sweater, calm expression, neutral background, studio lighting, frontal view, half body"
)

GAME_ASSETS = (
    Column(
        "1 The character",
        "Run the graph *quick_start* once: it trains the LoRA *char1*.\n\nFor a game of your own "
        "take *Load Checkpoint*, your **LoRA**, and prompts that your checkpoint knows: *in game "
        "armor*, *portrait for UI*, *action pose*, *idle animation frame*. The *template* names "
        "the **trigger word** and no looks.",
        (
            Node("loader", curator("LoadMiniature")),
            Node(
                "models", "LoraLoader",
                {
                    "model": ("loader", 0), "clip": ("loader", 1),
                    "lora_name": "char1.safetensors", "strength_model": 1.0, "strength_clip": 1.0,
                },
            ),
            Node(
                "plan", curator("CharacterPlan"),
                {
                    "seeds": "966983-966986", "scenarios": SCENARIOS, "originals": "",
                    "template": "portrait of {trigger} {class_word}, {scenario}",
                },
            ),
        ),
        width=400, note_height=240,
    ),
    Column(
        "2 Generate",
        "Four kinds of images with four seeds. Each says how it was made; the next queue makes "
        "only what is not there.",
        (
            Node(
                "generate", curator("SeedBatchGenerate"),
                {
                    **MODELS, "vae": ("loader", 2), "plan": ("plan", 0),
                    "folder": "char1/assets_raw", "steps": 20, "cfg": 2.5,
                    "sampler_name": "euler", "scheduler": "normal", "width": 128, "height": 128,
                },
                room=300,
            ),
        ),
        width=400, note_height=110,
    ),
    Column(
        "3 Check",
        "One certain face, of one person, good enough. *ClipCluster* measures how alike the images "
        "are; *categories* of the next node need it.",
        (
            Node(
                "faces", curator("FaceValidate"),
                {
                    "images": ("generate", 0), "minimum_confidence": 0.85,
                    "minimum_identity": 0.6,
                },
            ),
            Node("quality", curator("QualityScore"), {"images": ("faces", 0), "minimum": 0.74}),
            Node(
                "cluster", curator("ClipCluster"), {"images": ("quality", 0), "clusters": 4},
            ),
        ),
        width=400, note_height=130, color=GREEN,
    ),
    Column(
        "4 Pack",
        "*output/char1/assets*: a folder a prompt, *atlas.png* with *atlas.json* (TexturePacker: "
        "Unity, Godot, Phaser, PixiJS), *manifest.json* with the seed of each, and beside it "
        "*assets.zip*.\n\n*figure* cuts out the person around the face, best on a plain "
        "background. For photographs wire BiRefNet or SAM to *masks*, or install rembg and take "
        "*person*.",
        (
            Node(
                "assets", curator("ExportAssets"),
                {
                    "images": ("cluster", 0), "folder": "char1/assets", "name": "char1",
                    "background": "figure", "size": "128", "anchor": "bottom",
                },
                room=420,
            ),
        ),
        width=460, note_height=200, color=GOLD,
    ),
    Column(
        "What was written",
        "How many of each, how alike they are, and the archive's SHA-256: the same images give the "
        "same bytes.",
        (
            Node("told", "PreviewAny", {"source": ("assets", 3)}, room=200, title="Summary"),
            Node(
                "left", curator("ContactSheet"),
                {"images": ("cluster", 0), "columns": 4, "show": "rejected"}, room=260,
            ),
        ),
        width=400, note_height=110, color=GREY,
    ),
)  # fmt: skip
