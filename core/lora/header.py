"""What a LoRA file says of itself: kohya's ``ss_*`` keys, ModelSpec 1.0.1, and where it comes from.

ModelSpec: https://github.com/Stability-AI/ModelSpec
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..json_text import parse
from .adapters import LoraSettings
from .families import recognised

if TYPE_CHECKING:
    from torch import Tensor

SPECIFICATION = "1.0.1"
# Every key of a header is spelled in this module alone; these are written and read.
_TRIGGER_PHRASE = "modelspec.trigger_phrase"
_OWN = "character_curator."
_VALIDATION_LOSS = f"{_OWN}validation_loss"


@dataclass(frozen=True)
class LoraCard:
    """What is known of a LoRA besides its weights. Empty fields are left out of the file."""

    title: str
    architecture: str
    """As :attr:`.Denoiser.architecture`, or of the family that the base model is known to be of."""
    version: str = ""
    """The base model's version, in kohya's words; that of the architecture unless given."""
    targets: tuple[str, ...] = ()
    """Ends of the names of the layers that carry adapters, as the model has them."""
    prediction: str = "epsilon"
    """As :attr:`.Denoiser.prediction`."""
    resolution: tuple[int, int] = (512, 512)
    """Width and height of the training, in pixels."""
    trigger_phrase: str = ""
    usage_hint: str = ""
    description: str = ""
    author: str = ""
    license: str = ""
    date: str = ""
    """ISO 8601."""
    tags: tuple[str, ...] = ()
    thumbnail: bytes = b""
    """A small JPEG or PNG, its file's bytes."""
    base_model: str = ""
    """Name of the frozen model."""
    base_model_fingerprint: str = ""
    dataset: str = ""
    """Name of the dataset."""
    dataset_fingerprint: str = ""
    dataset_version: Mapping[str, Any] = field(default_factory=dict)
    """Of the dataset that was trained on: ``number``, ``fingerprint`` of its whole content, and
    ``altered``, how many of its images and captions were not as it was exported."""
    images: int = 0
    """How many images it was trained on."""
    tag_frequency: Mapping[str, int] = field(default_factory=dict)
    """How often each caption, or word of captions, occurs."""
    generation: Sequence[Mapping[str, Any]] = ()
    """The chain to the seeds: a row an image, such as file name, content hash, seed, scenario,
    noise seed."""
    buckets: Mapping[tuple[int, int], int] = field(default_factory=dict)
    """Images in each bucket, by its width and height."""
    steps: int = 0
    """Optimizer steps."""
    epochs: int = 0
    seed: int | None = None
    """Of the training."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Every option of the training."""
    validation_loss: float | None = None
    """Of the file's own weights."""
    comment: str = ""
    """The course of the training, for people."""
    continued_from: Mapping[str, str] = field(default_factory=dict)
    """The LoRA file that the training went on from: ``file``, its name, and ``sha256``."""


@dataclass(frozen=True)
class LoraHeader:
    """What is read of a file's metadata, whoever wrote it. Empty is what it does not say.

    Attributes:
        trigger_phrase: The words that call the subject.
        validation_loss: Of the file's weights.
    """

    trigger_phrase: str = ""
    validation_loss: float | None = None


def read_header(metadata: Mapping[str, str]) -> LoraHeader:
    """Read a file's metadata, as :func:`.file.read` gives it."""
    try:
        loss = float(metadata.get(_VALIDATION_LOSS, "nan"))
    except ValueError:
        loss = math.nan
    return LoraHeader(metadata.get(_TRIGGER_PHRASE, ""), loss if math.isfinite(loss) else None)


_NAMES_OF_MODELS = (
    "modelspec.title", "ss_base_model_version", "ss_sd_model_name", "ss_output_name",
    "modelspec.merged_from",
)  # fmt: skip


def names_in(metadata: Mapping[str, str]) -> dict[str, str]:
    """Return what a model's file says it is called, by the key that says so.

    Args:
        metadata: Of a ``.safetensors`` file of a model, as it stands there.
    """
    return {key: metadata[key] for key in _NAMES_OF_MODELS if metadata.get(key)}


def names_in_file(path: Path) -> dict[str, str]:
    """Return what a model's file says it is called; nothing if it is no safetensors file.

    Args:
        path: The file.
    """
    return names_in(metadata_in_file(path))


def metadata_in_file(path: Path) -> dict[str, str]:
    """Return a file's metadata, without its tensors; nothing if it is no safetensors file.

    Args:
        path: The file.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            return file.metadata() or {}
    except (SafetensorError, OSError):
        return {}


@dataclass(frozen=True)
class LoraOrigin:
    """What a file's metadata say of its training. Empty, or ``None``, is what they do not say.

    Attributes:
        base_model: Name of the frozen model.
        base_model_fingerprint: Identity of its weights.
        dataset: Name of the dataset's folder.
        dataset_fingerprint: Identity of the images and captions; see
            :func:`.dataset.facts.fingerprint`.
        version: Number of the dataset's version that it was trained on.
        version_fingerprint: Of that version's whole content.
        altered: How many images and captions of that version were not as it was exported.
        images: Content hash of each image, by its file's name, those held out included.
        settings: Every option of the training.
        rank: Of the adapters.
        steps: Optimizer steps.
        epochs: Epochs up to these weights.
        tensors_hash: SHA-256 of the tensors, as ModelSpec has it.
    """

    base_model: str = ""
    base_model_fingerprint: str = ""
    dataset: str = ""
    dataset_fingerprint: str = ""
    version: int | None = None
    version_fingerprint: str = ""
    altered: int = 0
    images: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    rank: int | None = None
    steps: int | None = None
    epochs: int | None = None
    tensors_hash: str = ""


def read_origin(metadata: Mapping[str, str]) -> LoraOrigin:
    """Read what a file's metadata say of its training, whoever wrote them."""
    rows = _json_of(metadata, f"{_OWN}generation")
    named = [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []
    folders, settings = _json_of(metadata, "ss_dataset_dirs"), _json_of(metadata, f"{_OWN}settings")
    version = _json_of(metadata, f"{_OWN}dataset_version")
    version = version if isinstance(version, dict) else {}
    return LoraOrigin(
        base_model=metadata.get("ss_sd_model_name", ""),
        base_model_fingerprint=metadata.get("ss_new_sd_model_hash", ""),
        dataset=next(iter(folders), "") if isinstance(folders, dict) else "",
        dataset_fingerprint=metadata.get(f"{_OWN}dataset_fingerprint", ""),
        version=_whole(version.get("number")),
        version_fingerprint=str(version.get("fingerprint", "")),
        altered=_whole(version.get("altered")) or 0,
        images={str(row["file"]): str(row["hash"]) for row in named if {"file", "hash"} <= {*row}},
        settings=settings if isinstance(settings, dict) else {},
        rank=_whole_of(metadata, "ss_network_dim"),
        steps=_whole_of(metadata, "ss_steps"),
        epochs=_whole_of(metadata, "ss_num_epochs"),
        tensors_hash=metadata.get("modelspec.hash_sha256", "").removeprefix("0x"),
    )


def tensors_hash(metadata: Mapping[str, str], tensors: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 of tensors as :attr:`LoraOrigin.tensors_hash` says it.

    Args:
        metadata: The file's.
        tensors: The file's.
    """
    return _hashes(metadata, tensors)["sshs_model_hash"]


def _json_of(metadata: Mapping[str, str], key: str) -> Any:
    try:
        return parse(metadata.get(key, "null"))
    except ValueError:
        return None


def _whole(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _whole_of(metadata: Mapping[str, str], key: str) -> int | None:
    text = metadata.get(key, "")
    return int(text) if text.isdecimal() and len(text) < 20 else None


def metadata(
    card: LoraCard, lora: LoraSettings, tensors: Mapping[str, Tensor] | None = None
) -> dict[str, str]:
    """Return a file's metadata; all values are strings, as the format wants it.

    Args:
        card: What is known of the LoRA.
        lora: Shape of the adapters.
        tensors: The file's, for the hashes that galleries look models up by.
    """
    arguments = {
        "rslora": lora.rslora, "dora": lora.dora, "dropout": lora.dropout,
        "target_modules": list(card.targets or lora.layers), "text_encoder": lora.text_encoder,
    }  # fmt: skip
    if lora.kind != "lora":
        arguments |= {"algo": lora.kind, "factor": lora.factor or -1}
    values: dict[str, Any] = {
        "ss_v2": card.architecture.startswith("stable-diffusion-v2"),
        "ss_base_model_version": card.version or _version(card.architecture),
        "ss_network_module": "networks.lora" if lora.kind == "lora" else "lycoris.kohya",
        "ss_network_dim": lora.rank,
        # Readers of this key divide by the rank: it says rsLoRA's scale too.
        "ss_network_alpha": lora.scale * lora.rank if _has_alphas(tensors) else float(lora.rank),
        "ss_network_args": arguments,
        "ss_output_name": card.title,
        "ss_sd_model_name": card.base_model,
        "ss_new_sd_model_hash": card.base_model_fingerprint,
        "ss_num_train_images": card.images or "",
        "ss_num_epochs": card.epochs or "",
        "ss_steps": card.steps or "",
        "ss_seed": card.seed,
        "ss_resolution": f"({card.resolution[0]}, {card.resolution[1]})",
        "ss_tag_frequency": {card.dataset or "dataset": dict(card.tag_frequency)}
        if card.tag_frequency
        else "",
        "ss_dataset_dirs": {card.dataset: {"n_repeats": 1, "img_count": card.images}}
        if card.dataset
        else "",
        "ss_bucket_info": _bucket_info(card.buckets) if card.buckets else "",
        "ss_training_comment": card.comment,
        "modelspec.sai_model_spec": SPECIFICATION,
        "modelspec.architecture": f"{card.architecture}/lora",
        "modelspec.implementation": "diffusers",
        "modelspec.title": card.title,
        "modelspec.resolution": f"{card.resolution[0]}x{card.resolution[1]}",
        "modelspec.description": card.description,
        "modelspec.author": card.author,
        "modelspec.date": card.date,
        _TRIGGER_PHRASE: card.trigger_phrase,
        "modelspec.usage_hint": card.usage_hint,
        "modelspec.tags": ", ".join(card.tags),
        "modelspec.license": card.license,
        "modelspec.thumbnail": _data_uri(card.thumbnail) if card.thumbnail else "",
        "modelspec.prediction_type": {"v_prediction": "v"}.get(card.prediction, card.prediction)
        if card.prediction != "flow"
        else "",
        _VALIDATION_LOSS: card.validation_loss,
        f"{_OWN}dataset_fingerprint": card.dataset_fingerprint,
        f"{_OWN}dataset_version": dict(card.dataset_version) or "",
        f"{_OWN}generation": [dict(row) for row in card.generation] or "",
        f"{_OWN}settings": dict(card.settings) or "",
        f"{_OWN}continued_from": dict(card.continued_from) or "",
    }
    filled = {key: _text(value) for key, value in values.items() if value not in ("", None)}
    return filled if tensors is None else filled | _hashes(filled, tensors)


def _version(architecture: str) -> str:
    family = recognised(architecture).family
    return architecture if family is None else family.version


def _has_alphas(tensors: Mapping[str, Tensor] | None) -> bool:
    """Whether a file's readers find the scale beside its weights, not in them."""
    return tensors is None or any(key.endswith(".alpha") for key in tensors)


def _text(value: Any) -> str:
    return (
        value
        if isinstance(value, str)
        else (
            json.dumps(value, ensure_ascii=False, sort_keys=True)
            if isinstance(value, (dict, list))
            else str(value)
        )
    )


def _bucket_info(buckets: Mapping[tuple[int, int], int]) -> dict[str, Any]:
    table = {
        str(n): {"resolution": list(size), "count": count}
        for n, (size, count) in enumerate(buckets.items())
    }
    return {"buckets": table}


def _data_uri(image: bytes) -> str:
    kind = "png" if image.startswith(b"\x89PNG") else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(image).decode()}"


def _hashes(filled: Mapping[str, str], tensors: Mapping[str, Tensor]) -> dict[str, str]:
    """Return the hashes of the AddNet extension and of ModelSpec, as kohya's scripts do."""
    from .file import to_bytes

    # The old hash lies in the header's reach: it is taken of a file with the ss_ keys alone.
    data = to_bytes(tensors, {k: v for k, v in filled.items() if k.startswith("ss_")})
    content = data[8 + int.from_bytes(data[:8], "little") :]
    digest = hashlib.sha256(content).hexdigest()
    legacy = hashlib.sha256(data[0x100000:0x110000]).hexdigest()[:8]
    return {
        "sshs_model_hash": digest,
        "sshs_legacy_hash": legacy,
        "modelspec.hash_sha256": f"0x{digest}",
    }
