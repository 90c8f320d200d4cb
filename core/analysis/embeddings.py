"""Embeddings: what an image shows, as one open_clip vector."""

from __future__ import annotations

import difflib
import hashlib
import json
import logging
from collections.abc import Sequence
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..defaults import CLIP_MODEL
from ..errors import CuratorError
from ..miniature import CLIP_PATH
from .decoding import Pixels
from .fingerprints import file_fingerprint, folder_fingerprint

if TYPE_CHECKING:
    from ..features import FeatureStore

log = logging.getLogger(__name__)

FloatArray = NDArray[np.float32]

ANALYSER = "embedding"
TEXTS = "text"
MINIATURE = "miniature"
_LOCAL = "local-dir:"
_CONFIGURATION = "open_clip_config.json"
_SLIMMEST = 8
_UNKNOWN = 2 * 10**9
"""Bytes to count on for weights that open_clip fetches: a ViT-L/14 has 1.7 GB."""


class ClipModelError(CuratorError):
    """An open_clip model is unknown, missing or broken."""


class Embedder:
    """Embeds images and texts with an open_clip model.

    The model loads when it is first needed; the fingerprint needs none.

    Args:
        model: ``miniature``; a folder with ``open_clip_config.json`` and weights (also written
            ``local-dir:FOLDER``); ``hf-hub:OWNER/NAME``; or an architecture that open_clip knows
            (``ViT-B-32``).
        pretrained: For an architecture: the tag of its weights (``openai``,
            ``laion2b_s34b_b79k``) or a weights file. Unless given, ``openai`` where there is such
            a tag, else the first one that open_clip lists.
        device: A torch device; ``auto`` takes CUDA where it is available, else the CPU.
        batch_size: Images that are embedded together.

    Raises:
        ClipModelError: There is no such model, or its weights cannot be had; raised when the
            fingerprint or the model is first needed.
    """

    def __init__(
        self,
        model: str | Path = CLIP_MODEL,
        pretrained: str | None = None,
        device: str = "auto",
        *,
        batch_size: int = 16,
    ) -> None:
        self.model = str(model)
        self.pretrained = pretrained
        self.batch_size = batch_size
        self._device = device

    def __reduce__(self) -> tuple[Any, ...]:
        """Travel as a description; a process loads the model of equal ones once."""
        return _described, (self.model, self.pretrained, self._device, self.batch_size)

    @cached_property
    def _folder(self) -> Path | None:
        """The folder of a local model, or ``None`` for one that open_clip fetches."""
        if self.model == MINIATURE:
            folder = CLIP_PATH
        elif self.model.startswith(_LOCAL):
            folder = Path(self.model[len(_LOCAL) :]).expanduser()
        elif Path(self.model).expanduser().is_dir():
            folder = Path(self.model).expanduser()
        else:
            return None
        if not (folder / _CONFIGURATION).is_file():
            raise ClipModelError(
                f"{folder} is not an open_clip model: it has no {_CONFIGURATION}. Name a folder "
                "that has one with its weights beside it, or an architecture such as ViT-B-32."
            )
        return folder.resolve()

    @cached_property
    def _tag(self) -> str:
        """The pretrained weights of an architecture."""
        import open_clip

        if self.model.startswith("hf-hub:"):
            return ""
        known = open_clip.list_models()
        if self.model not in known:
            close = difflib.get_close_matches(self.model, known, n=8, cutoff=0.4)
            raise ClipModelError(
                f"open_clip knows no architecture '{self.model}', and there is no such folder. "
                f"Similar ones: {', '.join(close or known[:8])}."
            )
        if self.pretrained and Path(self.pretrained).expanduser().is_file():
            return str(Path(self.pretrained).expanduser())
        tags = open_clip.list_pretrained_tags_by_model(self.model)
        if self.pretrained is None and tags:
            return "openai" if "openai" in tags else str(tags[0])
        if self.pretrained not in tags:
            raise ClipModelError(
                f"{self.model} has no pretrained weights '{self.pretrained}', and there is no such "
                f"file. Known: {', '.join(tags) or 'none; name a weights file'}."
            )
        return str(self.pretrained)

    @cached_property
    def fingerprint(self) -> str:
        """What embeddings depend on: the weights and how images are fitted.

        The bytes of a local model; the published name and source of another, so that asking for
        it loads nothing.
        """
        if self._folder:
            return f"{folder_fingerprint(self._folder)} float16/1"
        tag = self._tag
        if tag and Path(tag).is_file():
            return f"{self.model} {file_fingerprint(Path(tag))} float16/1"
        import open_clip

        source = open_clip.get_pretrained_cfg(self.model, tag) if tag else {}
        return f"{self.model} {tag} {json.dumps(source, sort_keys=True, default=str)} float16/1"

    @property
    def bytes(self) -> int:
        """How large its weights are, as far as that is known before they are loaded."""
        if self._folder is None:
            return _UNKNOWN
        return sum(path.stat().st_size for path in self._folder.iterdir() if path.is_file())

    @cached_property
    def device(self) -> Any:
        """The torch device that the model is on."""
        import torch

        if self._device != "auto":
            return torch.device(self._device)
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")

    @cached_property
    def _loaded(self) -> tuple[Any, Any]:
        """The model, and the transform of an image."""
        import open_clip

        options: dict[str, Any] = {}
        name = f"{_LOCAL}{self._folder}" if self._folder else self.model
        if not self._folder and self._tag:
            options["pretrained"] = self._tag
            if (open_clip.get_pretrained_cfg(self.model, self._tag) or {}).get("quick_gelu"):
                options["force_quick_gelu"] = True  # as these weights were trained
        try:
            model, _, transform = open_clip.create_model_and_transforms(
                name, device=self.device, **options
            )
        except Exception as error:  # whatever a network, a disk or a damaged file can do
            raise ClipModelError(
                f"The open_clip model {self.model} {options.get('pretrained', '')} cannot be "
                f"loaded: {error}. Without a network, get its weights on another machine, and name "
                "the file as 'pretrained' or a folder with open_clip_config.json as the model."
            ) from error
        return model.eval(), transform

    def preprocess(self, image: Pixels) -> Any:
        """Fit decoded pixels (BGR, uint8) for the model with its own transform.

        Returns:
            A torch tensor of shape ``(3, s, s)``, equal to what the transform makes of the file
            (where that is turned by EXIF, or has a palette, of the pixels as they are seen).
        """
        from PIL import Image

        image = _not_too_slim(image)
        return self._loaded[1](Image.fromarray(np.ascontiguousarray(image[..., ::-1])))

    def embed(self, inputs: Sequence[Any]) -> FloatArray:
        """Embed images that :meth:`preprocess` has fitted.

        Returns:
            L2-normalised vectors, shape ``(n, d)``.
        """
        import torch

        with torch.inference_mode():
            batch = torch.stack(list(inputs)).to(self.device)
            vectors = self._loaded[0].encode_image(batch).float()
            vectors = torch.nn.functional.normalize(vectors, dim=-1)
            return np.asarray(vectors.cpu().numpy(), dtype=np.float32)

    def embed_images(self, images: Sequence[Pixels]) -> FloatArray:
        """Embed decoded images (BGR, uint8) in batches; shape ``(n, d)``, L2-normalised."""
        inputs = [self.preprocess(image) for image in images]
        step = self.batch_size
        parts = [self.embed(inputs[i : i + step]) for i in range(0, len(inputs), step)]
        return np.concatenate(parts)

    def embed_texts(self, texts: Sequence[str]) -> FloatArray:
        """Embed texts; shape ``(n, d)``, L2-normalised, comparable with images."""
        import open_clip
        import torch

        model = self._loaded[0]
        tokenizer = open_clip.get_tokenizer(
            f"{_LOCAL}{self._folder}" if self._folder else self.model
        )
        with torch.inference_mode():
            vectors = model.encode_text(tokenizer(list(texts)).to(self.device)).float()
            vectors = torch.nn.functional.normalize(vectors, dim=-1)
            return np.asarray(vectors.cpu().numpy(), dtype=np.float32)


@lru_cache(maxsize=2)
def _described(model: str, pretrained: str | None, device: str, batch_size: int) -> Embedder:
    return Embedder(model, pretrained, device, batch_size=batch_size)


def text_vectors(
    texts: Sequence[str], embedder: Embedder, store: FeatureStore | None = None
) -> FloatArray:
    """Embed texts; with a store, what it knows needs no model.

    Returns:
        Shape ``(n, d)``, L2-normalised.
    """
    if store is None:
        return embedder.embed_texts(texts)
    keys = [hashlib.sha256(text.encode()).hexdigest() for text in texts]
    found = store.get(keys, TEXTS, embedder.fingerprint)
    missing = {key: text for key, text in zip(keys, texts, strict=True) if key not in found}
    if missing:
        vectors = embedder.embed_texts(list(missing.values()))
        new = {
            key: np.asarray(vector, dtype="<f4").tobytes()
            for key, vector in zip(missing, vectors, strict=True)
        }
        store.put(new, TEXTS, embedder.fingerprint)
        found |= new
    return np.stack([np.frombuffer(found[key], dtype="<f4") for key in keys])


def _not_too_slim(image: Pixels) -> Pixels:
    """Cut the ends off an image of more than 8 : 1: its centre square is all that is seen."""
    height, width = image.shape[:2]
    longest = _SLIMMEST * min(height, width)
    top, left = max(0, (height - longest) // 2), max(0, (width - longest) // 2)
    return image[top : top + longest, left : left + longest]
