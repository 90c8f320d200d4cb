"""core's rooms import downwards only, and its modules in no circle."""

from pathlib import Path

from tests.support.import_graph import circle, imports_within, not_downwards

CORE = Path(__file__).parents[2] / "core"

ORDER = {
    "errors": "What every error that a user can cause derives from.",
    "counts": "A number with its noun and its verb.",
    "atomic": "Files are written beside their name and renamed.",
    "damages": "What a run has found damaged, to be said at its end.",
    "engines": "Where work is done: in this process, or in a pool of others.",
    "defaults": "Defaults that several stages share, each once.",
    "options": "What options are: models of settings, and their errors in words.",
    "plain_files": "Files of others, read with care.",
    "leaving": "How the program ends where it is asked to stop.",
    "lazy": "Public names, declared in stubs and loaded at first use.",
    "json_text": "JSON that lies on a disk, read with care.",
    "hashing": "One way to hash a value.",
    "hub": "Names of models on the Hugging Face hub, and what to do when it gives none.",
    "naming": "What files are called, and which noise seed an image gets.",
    "progress": "Who watches a stage while it runs.",
    "toml_lines": "TOML documents, written and looked up.",
    "parquet": "Tables as Parquet, read with care.",
    "rejection_reasons": "Why an image is not in the result.",
    "reading": "What lies in a folder: images of every format, captions, and what files say.",
    "stores": "Object stores: what an address names, as files.",
    "imageset": "The one table that flows through every stage.",
    "features": "What has been measured of which pixels, by which analyser.",
    "feature_parts": "Measurements on their way into the store: parts that workers write.",
    "plan": "Subjects, seeds, scenarios and takes make requests for images.",
    "requests": "A prompt as a request, where no plan stands behind it.",
    "miniature": "Where the embedded models' weights lie.",
    "lora": "What a LoRA is: adapters, their file, its names and its header.",
    "generation": "Requests become images; of the rooms below it knows what a LoRA is.",
    "analysis": "What images show, measured once: faces, quality, embeddings, clusters.",
    "selection": "The balanced subset of what was measured.",
    "growth": "Images in waves: the next goes where the selection is short.",
    "report": "Pages and sheets for people, of what was measured and selected.",
    "dataset": "The exported folder, with its report, and the one reader of such a folder.",
    "training": "A dataset becomes a LoRA file.",
    "captions": "Captions of a folder: edited, checked, and written by models.",
    "evaluation": "What a LoRA file is worth: it generates with it, and analyses the images.",
    "asset_sections": "The section of a project file that makes images for a game.",
    "augmentation_section": "The section [augmentation] of a project file.",
    "engine_section": "The section [engine] of a project file.",
    "project_sections": "The sections of a project file hold the settings of the stages below.",
    "project": "A project file, read and checked.",
    "variations": "The scenes of an augmentation: angles, lights, expressions, backgrounds.",
    "project_parts": "What the stages are given of a project.",
    "project_measuring": "What is measured of a project's images before any are chosen.",
    "project_waves": "A project's images in waves.",
    "project_training": "The LoRA of a project.",
    "project_checks": "What a project asks for and is not there, said before anything is made.",
    "pipeline": "A project through every stage.",
    "portfolio": "Several subjects through the pipeline, beside each other.",
    "assets": "Images of a character for a game: a folder, an atlas, an archive.",
    "augmentation": "Real images, and synthetic variations of them, through the pipeline.",
    "verification": "Whether a dataset and its LoRA are ready, and what is wrong if not.",
    "experiment": "A project's pipeline, and its training with and without curation.",
    "": "The package's own names: what stands in __init__.pyi, of all rooms below.",
    "cli": "The command line, over everything.",
    "__main__": "python -m character_curator.",
}
"""Every room, from the lowest to the highest: none imports one that stands after it."""


def test_no_circle():
    assert circle(imports_within(CORE)) == []


def test_rooms_import_downwards():
    assert [str(found) for found in not_downwards(imports_within(CORE), ORDER)] == []


def test_every_room_is_there():
    names = {path.stem for path in CORE.iterdir() if path.suffix == ".py"}
    names |= {path.parent.name for path in CORE.glob("*/__init__.py")}
    assert names - {"__init__"} == ORDER.keys() - {""}
