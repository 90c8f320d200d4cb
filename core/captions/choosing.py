"""Which model that writes captions a name or a folder stands for."""

from __future__ import annotations

from pathlib import Path

from ..hub import is_hub_name, not_given
from .captioners import TAGS_FILE, Captioner, CaptionerNotFoundError
from .settings import CaptionSettings
from .taggers import Tagger
from .vision_language import VisionLanguageModel

SHORT_NAMES = {
    "wd-eva02-large-tagger-v3": "SmilingWolf/wd-eva02-large-tagger-v3",
    "wd-vit-large-tagger-v3": "SmilingWolf/wd-vit-large-tagger-v3",
    "wd-vit-tagger-v3": "SmilingWolf/wd-vit-tagger-v3",
    "wd-swinv2-tagger-v3": "SmilingWolf/wd-swinv2-tagger-v3",
    "wd-convnext-tagger-v3": "SmilingWolf/wd-convnext-tagger-v3",
    "florence-2-base": "florence-community/Florence-2-base",
    "florence-2-large": "florence-community/Florence-2-large",
}
"""Public models by the names that people call them, and where they are on the hub."""

_TAGGER_FILES = ("model.onnx", TAGS_FILE)
_NOT_NEEDED = ("*.gguf", "*.msgpack", "*.h5", "*.ot", "*.onnx", "*.onnx_data", "*.pth", "*.tflite")


def captioner(model: str | Path, settings: CaptionSettings | None = None) -> Captioner:
    """Return the model of a name or folder; its weights are loaded when it is first asked.

    Args:
        model: A folder or an ``.onnx`` file of a tagger (with ``selected_tags.csv``); the folder of
            a vision-language model of transformers; one of :data:`SHORT_NAMES`; or an id of the
            Hugging Face hub, which downloads it once.
        settings: What it is told.

    Raises:
        CaptionerNotFoundError: There is no such model here, and the hub does not give it.
    """
    chosen = settings or CaptionSettings()
    name = str(model)
    place = Path(name).expanduser()
    if not place.exists():
        place = _downloaded(name)
    # Some taggers have a config.json too, of the library that they were trained with.
    is_tagger = (place / TAGS_FILE).is_file() or not (place / "config.json").is_file()
    if place.is_file() or (is_tagger and any(place.glob("*.onnx"))):
        return Tagger(place, chosen, name=_title(name))
    if not (place / "config.json").is_file():
        raise CaptionerNotFoundError(
            f"{place} holds no model that writes captions: neither an .onnx file with {TAGS_FILE} "
            "(a tagger), nor config.json (a vision-language model of transformers)."
        )
    return VisionLanguageModel(place, chosen, name=_title(name))


def _title(name: str) -> str:
    path = Path(name)
    return (path.resolve().name if path.exists() else name).removesuffix(".onnx")


def _downloaded(name: str) -> Path:
    known = SHORT_NAMES.get(name.lower(), name)
    if not is_hub_name(known):
        raise CaptionerNotFoundError(
            f"There is no model at '{name}'. Give the folder of a tagger (an .onnx file and "
            f"{TAGS_FILE}) or of a vision-language model, an id of the Hugging Face hub "
            f"('owner/name'), or one of: {', '.join(SHORT_NAMES)}."
        )
    from huggingface_hub import hf_hub_download, snapshot_download

    try:
        if "tagger" in known.lower():
            files = [Path(hf_hub_download(known, file)) for file in _TAGGER_FILES]
            return files[0].parent
        return Path(snapshot_download(known, ignore_patterns=list(_NOT_NEEDED)))
    except Exception as error:  # the hub's client raises a different class in each version
        raise CaptionerNotFoundError(not_given(known, error)) from error
