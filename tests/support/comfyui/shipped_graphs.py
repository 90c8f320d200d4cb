"""What the graphs under workflows/ are made of: columns of nodes, wires, widgets, notes."""

from __future__ import annotations

from dataclasses import replace

from tests.support.comfyui.asset_graphs import GAME_ASSETS
from tests.support.comfyui.augmentation_graph import AUGMENTATION
from tests.support.comfyui.canvas_layout import Column, Node, Subgraph
from tests.support.comfyui.graph_parts import (
    GOLD,
    GREEN,
    GROWS,
    MODELS,
    PURPLE,
    SMALL_TRAINING,
    THRESHOLDS,
    checkpoint_and_plan,
    curate,
    curator,
    export,
    faces,
    generate,
    image,
    sheets,
    told,
)
from tests.support.comfyui.subject_graphs import TWO_SUBJECTS
from tests.support.comfyui.waves_graph import ONLY_WHAT_IS_NEEDED

QUICK_START = (
    Column(
        "1 Describe",
        "From a description to a LoRA, in one graph.\n\nPress Run: nothing is downloaded, and a "
        "CPU takes some minutes.\n\nFor your own checkpoint open the graph "
        "curate_with_a_checkpoint.",
        (
            Node("plan", curator("CharacterPlan"), {"seeds": "966983-966988"}),
        ),
        width=310, note_height=190,
    ),
    Column(
        "2 Generate",
        "",
        (
            Node("models", curator("LoadMiniature")),
            replace(
                generate(
                    steps=20, cfg=2.5, sampler_name="euler", scheduler="normal", width=128,
                    height=128,
                ),
                room=320,
            ),
        ),
        width=310,
    ),
    Column(
        "3 Curate",
        "",
        (
            curate(
                "Curate the generated",
                {"images": ("generate", 0), "plan": ("plan", 0)},
                {
                    "faces": {"minimum_confidence": 0.85, "minimum_identity": 0.6},
                    "quality": {"minimum": 0.74},
                    "cluster": {"clusters": 4},
                    "select": {"total": 12, "quotas": "seed=2\nscenario=2.."},
                    "export": {"captions": "{caption}"},
                },
                (
                    "One certain face (0.85), of the same person (0.6: the base model knows looks, "
                    "not a person), good enough (0.74), grouped by what is shown.\n\nThe first "
                    "and the last are the seed-document thresholds. Moving one measures nothing "
                    "again.",
                    "The best images under the quotas: a proven optimum.\n\nThe dataset is "
                    "*output/char1/dataset*. Open *report.html* in it: every image, and why the "
                    "others were left out.",
                ),
                THRESHOLDS,
            ),
            Node(
                "taken", curator("ContactSheet"),
                {"images": ("curate", 1), "columns": 4, "show": "selected"}, room=290,
                title="What was taken (show: rejected)",
            ),
        ),
        width=310, color=GREEN,
    ),
    Column(
        "4 Train",
        "Writes models/loras/char1.safetensors. Where the validation loss stops falling, more "
        "epochs only memorise.",
        (
            Node(
                "train", curator("TrainLoRA"),
                {**MODELS, "dataset": ("curate", 0), "name": "char1", **SMALL_TRAINING},
            ),
        ),
        width=310, note_height=92, color=GOLD, below=GROWS,
    ),
    Column(
        "5 Use",
        "",
        (
            Node("plot", "PreviewImage", {"images": ("train", 3)}, room=205, title="Losses"),
            Subgraph(
                "pictured", "Images with the LoRA",
                image(
                    None, None, None,
                    "portrait of char1 woman, white dress, warm smile, park background, soft "
                    "daylight, bust",
                    side=128, cfg=2.5,
                    note="**Use the LoRA** in the same graph: TrainLoRA's MODEL and CLIP have "
                    "it.\n\nThe prompt names the trigger word and says nothing of hair, eyes or "
                    "freckles: these come from the LoRA.",
                ),
                takes={
                    "model": [("sampler", "model")],
                    "clip": [("positive", "clip"), ("negative", "clip")],
                    "vae": [("decoded", "vae")],
                },
                gives={"images": ("decoded", 0)},
                shows={
                    "prompt": ("positive", "text"), "count": ("empty", "batch_size"),
                    "steps": ("sampler", "steps"), "cfg": ("sampler", "cfg"),
                },
                inputs={"model": ("train", 0), "clip": ("train", 1), "vae": ("models", 2)},
                tall=10,
            ),
            Node(
                "saved", "SaveImage",
                {"images": ("pictured", 0), "filename_prefix": "char1/with_lora"}, room=195,
            ),
        ),
        width=310, color=PURPLE,
    ),
)  # fmt: skip

CHECKPOINT = (
    Column(
        "Curate with a checkpoint",
        "Choose **your checkpoint**, describe **your character** in the words that it knows, and "
        "queue.\n\nThe first run downloads the face pack *buffalo_l* (280 MB, non-commercial "
        "research only) and *ViT-B-32* (600 MB). Both stay in their libraries' caches.",
        checkpoint_and_plan(),
        width=460, note_height=210,
    ),
    Column(
        "1 Generate",
        "160 images of 512x512. Any MODEL, CLIP and VAE will do: set the size, steps and cfg "
        "that your model likes (SDXL: 1024).\n\nCancel whenever you like: the next queue goes on "
        "where it was.",
        (
            generate(
                steps=30, cfg=7.0, sampler_name="dpmpp_2m", scheduler="karras", width=512,
                height=512,
            ),
        ),
        note_height=210,
    ),
    Column(
        "2 Curate",
        "Exactly one certain face; sharp, contrasty and lit well enough; grouped by what CLIP "
        "sees.\n\nThe thresholds are the seed-document recipe's. Look at the sheet of the rejected "
        "before trusting them for another style.",
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
        "3 Select and export",
        "The 40 best: each seed alike, a quarter originals, no cluster above 10.\n\nThe dataset "
        "is *output/char1/dataset*, for kohya sd-scripts, OneTrainer, ai-toolkit, Hugging Face "
        "datasets, or the graph *train_from_a_dataset*.",
        (
            Node(
                "select", curator("BalancedSelect"),
                {
                    "images": ("cluster", 0), "total": 40,
                    "quotas": "kind=original:10,scenario:30\nseed=4\ncluster=4..10",
                },
            ),
            export(plan=("plan", 0), captions="{caption}"),
            told(),
        ),
        note_height=210, color=GREEN,
    ),
    sheets(("select", 0)),
)  # fmt: skip

FOLDER = (
    Column(
        "Curate a folder of images",
        "Put your images into ComfyUI's folder *input/photos* (subfolders too) and queue.\n\n"
        "Files that cannot be read stay in the set, with the reason.",
        (Node("load", curator("LoadImageSet"), {"folder": "photos"}, room=420),),
        note_height=170,
    ),
    Column(
        "1 Curate",
        "Exactly one face, of one person: *minimum_identity* is the least similarity to the centre "
        "of the set, and 0.3 fits insightface's packs. Better: connect *Load Image* with a good "
        "image of the person to *references*, and set it to -1, which takes the pack's own.\n\n"
        "The pack *dlib* downloads nothing. For drawings like the miniature's, set *pack* and "
        "*model* to *miniature*.",
        (
            faces(
                ("load", 0), pack="buffalo_l", minimum_confidence=0.85, minimum_identity=0.3,
            ),
            Node("quality", curator("QualityScore"), {"images": ("faces", 0), "minimum": 0.74}),
            Node(
                "cluster", curator("ClipCluster"),
                {
                    "images": ("quality", 0), "model": "ViT-B-32",
                    "pretrained": "laion2b_s34b_b79k", "clusters": 6,
                },
            ),
        ),
        width=400, note_height=260, color=GREEN,
    ),
    Column(
        "2 Select and export",
        "The 30 best, spread over what they show, never two that look the same.\n\nQuotas may name "
        "any column: *pose=frontal:50%*, *framing=close-up:10..*, *cluster=3..8*. The dataset is "
        "*output/char1/dataset*.",
        (
            Node(
                "select", curator("BalancedSelect"),
                {"images": ("cluster", 0), "total": 30, "quotas": "cluster=3..8",
                 "duplicates": 0.95},
            ),
            export(trigger="char1", captions="trigger + what varies"),
            told(),
        ),
        width=400, note_height=220, color=GREEN,
    ),
    sheets(("select", 0)),
)  # fmt: skip

TRAIN = (
    Column(
        "Train from a dataset",
        "A dataset that *DatasetExport* wrote: here that of the graph *quick_start*, with the "
        "miniature that made it. Queue that graph first.\n\nFor your own, replace *Load Miniature* "
        "by *Load Checkpoint*, set *resolution* to 512 (SDXL: 1024), the learning rate to 0.0001, "
        "and sizes and cfg to what the model likes.",
        (
            Node("models", curator("LoadMiniature")),
            Node("dataset", curator("LoadDataset"), {"folder": "char1/dataset"}),
        ),
        width=400, note_height=200,
    ),
    Column(
        "1 Train",
        "*steps* or *epochs* say how long; the best checkpoint is kept, by the validation loss. "
        "Everything beside the usual goes into *options*: *dora = true*, *min_snr_gamma = 5*, "
        "*patience = 10*.\n\nA finished training is not repeated.",
        (
            Node(
                "train", curator("TrainLoRA"),
                {
                    **MODELS, "dataset": ("dataset", 0), "name": "char1", **SMALL_TRAINING,
                },
            ),
        ),
        width=400, note_height=190, color=GOLD, below=GROWS,
    ),
    Column(
        "2 Look",
        "Where the validation loss has its minimum, the LoRA is kept.\n\nThe figures are those of "
        "the evaluation, beside the base model's.",
        (
            Node("plot", "PreviewImage", {"images": ("train", 3)}, room=280, title="Losses"),
            Node("figures", "PreviewAny", {"source": ("evaluate", 1)}, room=280, title="Figures"),
        ),
        width=440, note_height=130, color=GOLD,
    ),
    Column(
        "3 Evaluate",
        "Each prompt with each seed, with and without the LoRA: how often it is the character, how "
        "many images have faults, whether the prompt is still followed, and whether the bare "
        "class word makes the character too (it must not).\n\nWithout prompts: the seed document's "
        "three.",
        (
            Node(
                "evaluate", curator("EvaluateLoRA"),
                {
                    **MODELS, "dataset": ("dataset", 0), "lora_name": ("train", 2),
                    "folder": "char1/evaluation", "cfg": 2.5, "width": 128, "height": 128,
                    "class_word": "woman",
                    "prompts": "portrait of {who}, white dress, warm smile, park background, "
                    "soft daylight, frontal view, bust\nportrait of {who}, casual blue hoodie, "
                    "beach background, golden hour lighting, close-up\nportrait of {who}, black "
                    "t-shirt, gentle smile, neutral background, studio lighting, close-up",
                },
            ),
        ),
        width=440, note_height=190, color=PURPLE, below=GROWS,
    ),
)  # fmt: skip

USE = (
    Column(
        "Use the LoRA",
        "Stock nodes only. Choose the **checkpoint** that the LoRA was trained on, and the "
        "**LoRA**: *TrainLoRA* writes it into *models/loras*.\n\n*strength_model* between 0.6 and "
        "1.0 is usual.",
        (
            Node(
                "models", "CheckpointLoaderSimple",
                {"ckpt_name": "v1-5-pruned-emaonly-fp16.safetensors"},
            ),
            Node(
                "lora", "LoraLoader",
                {
                    "model": ("models", 0), "clip": ("models", 1),
                    "lora_name": "char1.safetensors", "strength_model": 1.0, "strength_clip": 1.0,
                },
            ),
        ),
        note_height=190,
    ),
    *image(
        ("lora", 0), ("lora", 1), ("models", 2),
        "photo of char1 woman, white dress, at the beach, golden hour",
        prefix="char1/with_lora", side=512, cfg=7.0, steps=30,
        negative="blurry, deformed, several people, text",
        note="Begin with the **trigger word** and the class word (*char1 woman*), then say what "
        "is to vary. The looks need no words any more.",
    ),
)  # fmt: skip

GRAPHS = {
    "quick_start": QUICK_START,
    "curate_with_a_checkpoint": CHECKPOINT,
    "only_what_is_needed": ONLY_WHAT_IS_NEEDED,
    "curate_a_folder": FOLDER,
    "train_from_a_dataset": TRAIN,
    "use_the_lora": USE,
    "two_subjects": TWO_SUBJECTS,
    "augmentation": AUGMENTATION,
    "game_assets": GAME_ASSETS,
}
"""Each shipped graph, by the name of its file."""
