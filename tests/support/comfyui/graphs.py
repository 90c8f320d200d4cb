"""API graphs for the tests."""

from __future__ import annotations

PREFIX = "CharacterCurator_"

NAMES = [
    "LoadMiniature", "CharacterPlan", "SeedBatchGenerate", "LoadImageSet", "ImagesToImageSet",
    "CropImages", "DisturbImages", "FaceValidate", "CompareSubjects", "QualityScore", "ClipCluster",
    "BalancedSelect", "GenerateUntil", "JoinImageSets", "ContactSheet", "CaptionImages",
    "EditCaptions", "DatasetExport", "ExportAssets", "LoadDataset", "ImageSetToImages", "TrainLoRA",
    "EvaluateLoRA", "Verify",
]  # fmt: skip

SCENARIOS = """\
casual | park | blue hoodie, warm smile, park background, soft daylight, frontal view, bust
lighting | beach | white dress, gentle smile, beach background, golden hour lighting, frontal view
# a comment
studio | black t-shirt, calm expression, neutral background, studio lighting, frontal view"""


def node(name, /, **inputs):
    return {"class_type": PREFIX + name, "inputs": inputs}


def stock(name, /, **inputs):
    return {"class_type": name, "inputs": inputs}


def plan(**changes):
    widgets = {
        "subject": "char1", "trigger": "char1", "class_word": "woman",
        "description": "gentle freckled woman, wavy red hair, green eyes, fair skin",
        "scenarios": SCENARIOS, "originals": "", "seeds": "966983-966984", "takes": 1,
        "template": "portrait of a {description}, {scenario}",
        "caption": "portrait of {trigger} {class_word}, {scenario}",
    }  # fmt: skip
    return node("CharacterPlan", **{**widgets, **changes})


def generation(folder, *, plan_widgets=None, **changes):
    widgets = {
        "model": ["1", 0], "clip": ["1", 1], "vae": ["1", 2], "plan": ["2", 0], "folder": folder,
        "steps": 4, "cfg": 2.5, "sampler_name": "euler", "scheduler": "normal",
        "width": 128, "height": 128, "batch_size": 1, "limit": 0,
    }  # fmt: skip
    return {
        "1": node("LoadMiniature"),
        "2": plan(**(plan_widgets or {})),
        "3": node("SeedBatchGenerate", **{**widgets, **changes}),
    }


def curation(images, folder, *, confidence=0.0, quality=0.0, total=3):
    """Nodes 10 to 16; thresholds so low that unready images pass as well."""
    return {
        "10": node(
            "FaceValidate", images=images, pack="miniature", minimum_confidence=confidence,
            minimum_share=0.0, minimum_side=0.0, minimum_identity=-1.0,
        ),
        "11": node("QualityScore", images=["10", 0], minimum=quality),
        "12": node("ClipCluster", images=["11", 0], model="miniature", clusters=2),
        "13": node(
            "BalancedSelect", images=["12", 0], total=total, quotas="scenario=1..", duplicates=1.0,
        ),
        "14": node(
            "DatasetExport", images=["13", 0], selection=["13", 1], plan=["2", 0], folder=folder,
            name="char1", trigger="", captions="{caption}",
        ),
        "15": node(
            "ContactSheet", images=["13", 0], show="selected", group_by="auto", limit=50,
            columns=5, side=64,
        ),
    }  # fmt: skip


def in_waves(folder, *, wave=6, gain=0.01, total=9, quotas="scenario=3", quality=0.6, **changes):
    """Nodes 1 to 3 and 10 to 14 and 20, GenerateUntil, in front of the export."""
    graph = generation(f"{folder}/raw", wave=wave, **changes)
    graph |= curation(["3", 0], f"{folder}/dataset", quality=quality, total=total)
    graph["13"]["inputs"]["quotas"] = quotas
    graph["20"] = node("GenerateUntil", selection=["13", 1], waves=["3", 2], gain=gain)
    for number in ("14", "15"):
        graph[number]["inputs"]["images"] = ["20", 0]
    graph["14"]["inputs"]["selection"] = ["20", 1]
    return graph


def training(**changes):
    """Nodes 1 and 2: TrainLoRA on the miniature and the folder ``faces`` of the input folder."""
    widgets = {
        "model": ["1", 0], "clip": ["1", 1], "vae": ["1", 2], "folder": "faces", "name": "mini",
        "preset": "as set here", "rank": 4, "alpha": 4.0, "learning_rate": 2e-3, "epochs": 2,
        "steps": 0, "batch_size": 2, "resolution": 128, "targets": "attention",
        "train_text_encoder": False, "seed": 0, "validation_share": 0.3, "sample_every": 1,
        "sample_prompts": "portrait of char1 woman", "sample_steps": 2, "sample_cfg": 2.5,
        "options": "validation_timesteps = 2",
    }  # fmt: skip
    return {"1": node("LoadMiniature"), "2": node("TrainLoRA", **{**widgets, **changes})}


def image(first, model, clip, name, *, text="portrait of char1 woman"):
    """A stock graph of one image, its nodes numbered from ``first``; the miniature's VAE."""
    numbers = [str(first + i) for i in range(6)]
    positive, negative, empty, sampled, decoded, saved = numbers
    return {
        positive: stock("CLIPTextEncode", text=text, clip=clip),
        negative: stock("CLIPTextEncode", text="", clip=clip),
        empty: stock("EmptyLatentImage", width=128, height=128, batch_size=1),
        sampled: stock(
            "KSampler", model=model, seed=5, steps=4, cfg=2.5, sampler_name="euler",
            scheduler="normal", positive=[positive, 0], negative=[negative, 0],
            latent_image=[empty, 0], denoise=1.0,
        ),
        decoded: stock("VAEDecode", samples=[sampled, 0], vae=["1", 2]),
        saved: stock("SaveImage", images=[decoded, 0], filename_prefix=name),
    }  # fmt: skip
