"""CuratedDataset: read an exported dataset back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from ..json_text import parse
from ..plain_files import plain_text
from ..reading.masks import without_masks
from ..reading.own import is_drawn_by_training
from .checksums import NotADatasetError
from .images import SUFFIXES
from .sidecars import METADATA_FILE, metadata_path

_FORMATS = ("PNG", "JPEG", "MPO", "WEBP")
"""What an export writes, in Pillow's names."""

try:
    from torch.utils.data import Dataset
except ImportError:  # to look at images, torch is not needed
    Dataset = object  # type: ignore[assignment,misc]


class CuratedDataset(Dataset):  # type: ignore[type-arg]
    """Load and use a curated dataset.

    A ``torch.utils.data.Dataset``: give it to a ``DataLoader``, with :func:`collate` (images and
    metadata as lists or stacked) as ``collate_fn``.

    Example:
        >>> dataset = CuratedDataset("char1-dataset")
        >>> image, metadata = dataset[0]
        >>> image.size, metadata["quality_score"], metadata["cluster"]
        ((48, 48), 0.8481, 0)
        >>> len(dataset), len(dataset.filter_by_quality(0.85)), len(dataset.get_by_cluster(1))
        (12, 10, 2)

    Attributes:
        root: The folder.
        metadata: What is known of each image, by file name.
        images: A mapping an image, in the order of the file names: ``filename``, ``path``,
            ``metadata``.
        transform: What is applied to an image when it is read.
    """

    def __init__(
        self, dataset_root: str | Path, transform: Callable[[Image.Image], Any] | None = None
    ) -> None:
        """Read the metadata of a dataset; images are read when they are asked for.

        Args:
            dataset_root: The folder that an export wrote.
            transform: Applied to each image, for instance a torchvision transform.

        Raises:
            NotADatasetError: The folder has no ``metadata.json``, or one that cannot be read.
        """
        self.root = Path(dataset_root)
        self.transform = transform
        self.metadata: dict[str, dict[str, Any]] = self._load_metadata()
        files = {path.relative_to(self.root).as_posix(): path for path in self.root.rglob("*")}
        shown = [
            name
            for name in files
            if name.endswith(SUFFIXES) and not is_drawn_by_training(name, files)
        ]
        self.images: list[dict[str, Any]] = [
            {"filename": name, "path": str(files[name]), "metadata": self.metadata.get(name, {})}
            for name in sorted(without_masks(shown))
            if "/" not in name or name in self.metadata
        ]

    def _load_metadata(self) -> dict[str, dict[str, Any]]:
        try:
            values = parse(plain_text(metadata_path(self.root)))
        except (FileNotFoundError, NotADirectoryError):
            raise NotADatasetError(self.root, METADATA_FILE) from None
        except ValueError as error:
            raise NotADatasetError(self.root, METADATA_FILE, str(error)) from error
        if not isinstance(values, dict) or not all(isinstance(v, dict) for v in values.values()):
            raise NotADatasetError(self.root, METADATA_FILE, "it is no table of tables")
        return values

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Any, dict[str, Any]]:
        """Load an image and its metadata.

        Args:
            index: Position in the order of the file names; negative ones count from the end.

        Returns:
            The image (a PIL image, or what ``transform`` makes of it) and a mapping with
            ``quality_score``, ``seed``, ``cluster``, ``caption``, ….
        """
        entry = self.images[index]
        image: Any = Image.open(entry["path"], formats=_FORMATS)
        if self.transform is not None:
            with image:
                image = self.transform(image)
        return image, entry["metadata"]

    def filter_by_quality(self, min_score: float) -> list[dict[str, Any]]:
        """Return the entries of :attr:`images` with a quality score of ``min_score`` or more.

        Args:
            min_score: Between 0 and 1. An image without a score counts as 0.
        """
        return [entry for entry in self.images if _score(entry["metadata"]) >= min_score]

    def get_by_cluster(self, cluster_id: int) -> list[dict[str, Any]]:
        """Return the entries of :attr:`images` in one cluster."""
        return [e for e in self.images if e["metadata"].get("cluster", -1) == cluster_id]


def _score(known: dict[str, Any]) -> float:
    score = known.get("quality_score")
    return score if isinstance(score, int | float) else 0


def collate(batch: Sequence[tuple[Any, dict[str, Any]]]) -> tuple[Any, list[dict[str, Any]]]:
    """Combine samples into a batch for a ``DataLoader``.

    Returns:
        Images and metadata. Images that are tensors of one shape are stacked to
        ``(batch, …)``; anything else, such as PIL images, stays a list.
    """
    images = [image for image, _ in batch]
    shapes = {getattr(image, "shape", None) for image in images}
    if len(shapes) == 1 and None not in shapes:
        import torch

        if all(isinstance(image, torch.Tensor) for image in images):
            return torch.stack(images), [metadata for _, metadata in batch]
    return images, [metadata for _, metadata in batch]
