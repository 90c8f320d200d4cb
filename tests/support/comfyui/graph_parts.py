"""What several of the graphs under workflows/ have: nodes, wires, columns, subgraphs."""

from __future__ import annotations

from tests.support.comfyui.canvas_layout import Column, Node, Subgraph

BLUE, GREEN, GOLD, PURPLE, GREY = "#3f789e", "#3a7d44", "#a1812f", "#7a4b8f", "#666666"

DESCRIPTION = "gentle freckled woman, wavy red hair, green eyes, fair skin"


GROWS = 230
"""What a node with a text field grows by when it shows an image; nothing may stand below it."""

SMALL_TRAINING = {
    "preset": "as set here",
    "rank": 16, "alpha": 16.0, "learning_rate": 2e-3, "steps": 120, "batch_size": 4,
    "resolution": 128, "targets": "full", "train_text_encoder": True, "validation_share": 0.1,
    "sample_every": 0, "sample_cfg": 2.5, "options": 'schedule = "cosine"\nvalidate_every = 5',
}  # fmt: skip
"""What suits the miniature: a few minutes on a CPU."""


def curator(name):
    return f"CharacterCurator_{name}"


MODELS = {"model": ("models", 0), "clip": ("models", 1), "vae": ("models", 2)}
"""The wires of a loader."""


def checkpoint_and_plan():
    """The nodes that a graph for somebody's own checkpoint begins with."""
    return (
        Node(
            "models", "CheckpointLoaderSimple",
            {"ckpt_name": "v1-5-pruned-emaonly-fp16.safetensors"},
        ),
        Node(
            "plan", curator("CharacterPlan"),
            {
                "description": DESCRIPTION,
                "template": "photo of a {description}, {scenario}",
                "caption": "photo of {trigger} {class_word}, {scenario}",
                "scenarios": "casual | park | casual blue hoodie, warm smile, in a park, soft "
                "daylight\ncasual | cafe | knitted sweater, laughing, in a cafe, window light\n"
                "lighting | beach | white dress, gentle smile, at the beach, golden hour\n"
                "lighting | night | leather jacket, serious, city street at night, neon "
                "lights\npose | profile | black t-shirt, studio, profile view\n"
                "pose | full body | denim jacket, standing, in a garden, full body",
                "originals": "studio | gray t-shirt, neutral background, studio lighting, "
                "frontal view, close-up\nstudio soft | gray t-shirt, neutral background, soft "
                "light, frontal view, close-up",
                "negative_prompt": "blurry, deformed, several people, text",
                "seeds": "966983-966992", "takes": 2,
            },
            tall=60,
        ),
    )  # fmt: skip


def generate(**sampling):
    """The node that makes the plan's images."""
    inputs = {**MODELS, "plan": ("plan", 0), "folder": "char1/raw", **sampling}
    return Node("generate", curator("SeedBatchGenerate"), inputs, room=300)


def export(**inputs):
    """The node that writes the selection as a dataset."""
    selected = {"images": ("select", 0), "selection": ("select", 1)}
    inputs = {**selected, "folder": "char1/dataset", "name": "char1", **inputs}
    return Node("export", curator("DatasetExport"), inputs)


def told():
    """The node that shows what was written, and where little passes what each threshold costs."""
    return Node("told", "PreviewAny", {"source": ("export", 2)}, room=190, title="What was written")


def faces(images, **inputs):
    return Node("faces", curator("FaceValidate"), {"images": images, **inputs})


def sheets(images):
    """The column that shows what was taken and what was not."""
    columns = {"images": images, "columns": 4}
    return Column(
        "What was taken, and what was not",
        "Set *show* of the lower sheet to one reason, such as *rejected: low_quality*, to see "
        "whether its threshold is right.",
        (
            Node("taken", curator("ContactSheet"), {**columns, "show": "selected"}, room=330),
            Node("left", curator("ContactSheet"), {**columns, "show": "rejected"}, room=330),
        ),
        width=460, note_height=110, color=GREY,
    )  # fmt: skip


def image(model, clip, vae, prompt, *, prefix="", side, cfg, steps=20, note="", negative=""):
    """The columns that make images with stock nodes; without a prefix they are not saved."""
    prompts = Column(
        "Prompt",
        note,
        (
            Node("positive", "CLIPTextEncode", {"text": prompt, "clip": clip}, title="Prompt"),
            Node(
                "negative", "CLIPTextEncode", {"text": negative, "clip": clip},
                title="Negative prompt",
            ),
            Node("empty", "EmptyLatentImage", {"width": side, "height": side, "batch_size": 4}),
        ),
        width=360, note_height=170, color=PURPLE,
    )  # fmt: skip
    saved = Node(
        "saved", "SaveImage", {"images": ("decoded", 0), "filename_prefix": prefix}, room=340,
    )  # fmt: skip
    sampled = Column(
        "Images",
        "",
        (
            Node(
                "sampler", "KSampler",
                {
                    "model": model, "positive": ("positive", 0), "negative": ("negative", 0),
                    "latent_image": ("empty", 0), "seed": 42, "steps": steps, "cfg": cfg,
                    "sampler_name": "euler", "scheduler": "normal",
                },
            ),
            Node("decoded", "VAEDecode", {"samples": ("sampler", 0), "vae": vae}),
            *([saved] if prefix else []),
        ),
        width=400, color=PURPLE,
    )  # fmt: skip
    return prompts, sampled


def curate(title, wires, steps, notes, shows, *, takes=None, gives=None, **described):
    """The nodes from a set of images to a dataset, behind one.

    Args:
        title: Its name.
        wires: Those of ``images``, and of ``plan`` where there is one.
        steps: Further inputs of the nodes, by their keys.
        notes: Of its two columns.
        shows: Widgets on it.
        takes: Inputs beside images and plan.
        gives: Outputs beside dataset and images.
        described: Its category and description.
    """
    first = (
        Node("faces", curator("FaceValidate"), steps["faces"]),
        Node("quality", curator("QualityScore"), {"images": ("faces", 0), **steps["quality"]}),
        Node("cluster", curator("ClipCluster"), {"images": ("quality", 0), **steps["cluster"]}),
    )
    chosen = {"images": ("cluster", 0), **steps["select"]}
    then = (Node("select", curator("BalancedSelect"), chosen), export(**steps["export"]))
    columns = [
        Column("Curate", notes[0], first, width=400, note_height=220, color=GREEN),
        Column("Select and export", notes[1], then, width=400, note_height=220, color=GREEN),
    ]
    if gives:
        columns.append(sheets(("select", 0)))
    return Subgraph(
        "curate",
        title,
        tuple(columns),
        takes={
            "images": [("faces", "images")],
            "plan": [("export", "plan")],
            **(takes or {}),
        },
        gives={"dataset": ("export", 0), "images": ("select", 0), **(gives or {})},
        shows=shows,
        inputs=wires,
        **described,
    )


THRESHOLDS = {
    "minimum_identity": ("faces", "minimum_identity"),
    "minimum_quality": ("quality", "minimum"),
    "clusters": ("cluster", "clusters"),
    "total": ("select", "total"),
    "quotas": ("select", "quotas"),
    "folder": ("export", "folder"),
}
"""What people set most while they curate."""
