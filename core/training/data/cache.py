"""Latents and text embeddings, computed once and kept in the feature store.

A latent is keyed by the image's bytes, its crop and the frozen weights that made it; an embedding
by its caption and those weights. So another trigger word encodes captions again and no image,
another resolution images and no caption, and a second run nothing at all. Where control images are
shown with a caption, both are encoded as one.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from ...analysis.decoding import Pixels, UnreadableImageError, read_image
from ...errors import CuratorError
from ...features import FeatureStore
from ...progress import Progress, silent
from ..denoisers.protocol import Denoiser, TextEmbeddings
from .buckets import Crop
from .controls import Control
from .examples import Example, Skipped

LATENTS = "training latents"
TEXT = "training text"
_LAYOUT = "1"
MEMORY = 1 << 29

_T = TypeVar("_T")
Item = tuple[Example, Crop]
Tensors = Mapping[str, Tensor]


class LostEncodingError(CuratorError):
    """What was encoded for a training is not in its store any more."""

    def __init__(self, path: object) -> None:
        super().__init__(
            f"The feature store {path} has lost an encoded image or caption. Start the training "
            "again: it is encoded anew, and the training goes on."
        )


class EncodedFeatures:
    """What the frozen parts of a model make of images and captions.

    Everything is encoded singly: in a batch the last bits would depend on the neighbours, and a run
    that was killed while encoding would go on with other bits than one that was not. Beyond
    ``memory`` bytes the values stay on disk and are read when a step wants them.

    Args:
        denoiser: The model.
        store: Where the values are kept.
        memory: How many bytes of them to hold.
    """

    def __init__(self, denoiser: Denoiser, store: FeatureStore, memory: int = MEMORY) -> None:
        self._denoiser, self._store, self._memory = denoiser, store, memory
        self._fingerprint = f"{_LAYOUT} {denoiser.identity}"
        self._held: OrderedDict[tuple[str, str], Tensors] = OrderedDict()
        self._bytes = 0

    def add_images(
        self,
        items: Sequence[Item],
        progress: Progress = silent,
        decoded: Mapping[str, Pixels] | None = None,
    ) -> list[Skipped]:
        """Encode the crops that the store does not know.

        Args:
            items: Images with their crops.
            progress: Told of every image.
            decoded: Pixels that are there already, by the example's hash.

        Returns:
            What could not be read, with the reason; :meth:`latents` must not be asked for those.
        """
        missing = self._missing(LATENTS, {_latent_key(*item): item for item in items})
        skipped: list[Skipped] = []
        if not missing:
            return skipped
        progress.start("Encoding images", len(missing))
        for key, (example, crop) in missing.items():
            try:
                pixels = read_crop(example, crop, (decoded or {}).get(example.hash))
            except UnreadableImageError as error:
                skipped.append(Skipped(example.path, error.reason))
            else:
                with torch.no_grad():
                    latents = self._denoiser.encode_pixels(pixels, None)
                self._put(LATENTS, key, {"latents": latents})
            progress.advance(note=example.path.name)
        progress.finish()
        return skipped

    def add_captions(self, captions: Iterable[str], progress: Progress = silent) -> None:
        """Encode the captions that the store does not know."""
        missing = self._missing(TEXT, {_text_key(caption): caption for caption in captions})
        if not missing:
            return
        progress.start("Encoding captions", len(missing))
        for key, caption in missing.items():
            with torch.no_grad():
                embeddings = self._denoiser.encode_text([caption])
            self._put(TEXT, key, embeddings.tensors)
            progress.advance()
        progress.finish()

    def add_edits(self, edits: Iterable[tuple[str, Item]], progress: Progress = silent) -> None:
        """Encode captions with the control images of their items, where the store lacks them.

        Args:
            edits: A caption and its item each; the item has control images.
            progress: Told of every caption.

        Raises:
            UnreadableImageError: A control image can't be read any more.
        """
        missing = self._missing(
            TEXT, {_edit_key(words, item): (words, item) for words, item in edits}
        )
        if not missing:
            return
        progress.start("Encoding captions with control images", len(missing))
        for key, (caption, (example, crop)) in missing.items():
            shown = [
                read_crop(control, part)
                for control, part in zip(example.controls, crop.controls, strict=True)
            ]
            with torch.no_grad():
                embeddings = self._denoiser.encode_edit(caption, shown)
            self._put(TEXT, key, embeddings.tensors)
            progress.advance(note=example.path.name)
        progress.finish()

    def latents(self, items: Sequence[Item]) -> Tensor:
        """Return the latents of some crops of one size, ``(n, channels, height, width)``, float32.

        Raises:
            LostEncodingError: One of them was never added, or the store has lost it.
        """
        found = self._get(LATENTS, [_latent_key(*item) for item in items])
        return torch.cat([tensors["latents"] for tensors in found]).float()

    def text(self, captions: Sequence[str], items: Sequence[Item] = ()) -> TextEmbeddings:
        """Return the embeddings of some captions.

        Args:
            captions: What was added.
            items: What each is shown with; control images of theirs are part of the embedding.

        Raises:
            LostEncodingError: One of them was never added, or the store has lost it.
        """
        keys = [_text_key(caption) for caption in captions]
        if any(example.controls for example, _ in items):
            keys = [
                _edit_key(caption, item) if item[0].controls else _text_key(caption)
                for caption, item in zip(captions, items, strict=True)
            ]
        found = self._get(TEXT, keys)
        return TextEmbeddings.cat([TextEmbeddings(tensors) for tensors in found])

    def _missing(self, kind: str, wanted: dict[str, _T]) -> dict[str, _T]:
        known = self._store.get(wanted, kind, self._fingerprint)
        return {key: value for key, value in wanted.items() if not _is_whole(known.get(key))}

    def _put(self, kind: str, key: str, tensors: Tensors) -> None:
        # Copies, for safetensors refuses tensors that share memory.
        plain = {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}
        self._store.put({key: save(plain)}, kind, self._fingerprint)

    def _get(self, kind: str, keys: Sequence[str]) -> list[Tensors]:
        absent = [key for key in keys if (kind, key) not in self._held]
        for key, value in self._store.get(absent, kind, self._fingerprint).items():
            self._hold((kind, key), load(value))
        found = []
        for key in keys:
            if (kind, key) not in self._held:
                raise LostEncodingError(self._store.path)
            self._held.move_to_end((kind, key))
            found.append(self._held[kind, key])
        while self._bytes > self._memory and self._held:
            _, dropped = self._held.popitem(last=False)
            self._bytes -= _size(dropped)
        return found

    def _hold(self, key: tuple[str, str], tensors: Tensors) -> None:
        self._held[key] = tensors
        self._bytes += _size(tensors)


def read_crop(example: Example | Control, crop: Crop, image: Pixels | None = None) -> Tensor:
    """Read an image's crop: float32 RGB, ``(1, 3, height, width)``, from -1 to 1.

    Args:
        example: Its file.
        crop: What of it.
        image: Its pixels (as of ``read_image``), if it has been decoded already.

    Raises:
        UnreadableImageError: The file cannot be read, or is another one by now.
    """
    from PIL import Image

    if image is None:
        image = read_image(example.path, expected=example.hash)
    size = (crop.size.width, crop.size.height)
    whole = Image.fromarray(np.ascontiguousarray(image[..., ::-1]))
    part = whole.resize(size, Image.Resampling.LANCZOS, box=crop.box)
    pixels = torch.from_numpy(np.array(part)).permute(2, 0, 1)[None]
    return pixels.float() / 127.5 - 1


def image_sizes(items: Sequence[Item]) -> list[tuple[int, int]]:
    """Return width and height of the whole images that the crops are of."""
    return [(example.size.width, example.size.height) for example, _ in items]


def _latent_key(example: Example, crop: Crop) -> str:
    return f"{example.hash} {crop.key}"


def _text_key(caption: str) -> str:
    return hashlib.sha256(caption.encode("utf-8", "surrogatepass")).hexdigest()


def _edit_key(caption: str, item: Item) -> str:
    example, crop = item
    shown = [
        f"{control.hash} {part.key}"
        for control, part in zip(example.controls, crop.controls, strict=True)
    ]
    return hashlib.sha256("\n".join([_text_key(caption), *shown]).encode()).hexdigest()


def _is_whole(value: bytes | None) -> bool:
    if value is None:
        return False
    try:
        return len(load(value)) > 0
    except SafetensorError:
        return False


def _size(tensors: Tensors) -> int:
    return sum(value.nbytes for value in tensors.values())
