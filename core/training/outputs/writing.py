"""LoRA files of a training: the best, and each checkpoint that was kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ...dataset.facts import DatasetFacts
from ...generation import models
from ...lora import file as lora_file
from ...lora.adapters import Adapters
from ...lora.continuing import Origin
from ...lora.header import LoraCard, metadata
from ...lora.spelling import FileKey
from ..data.examples import Example
from ..denoisers.protocol import Denoiser
from ..job import SUFFIX, Checkpoint, LoraJob
from ..loop.state import load_weights
from ..result import TrainingResult
from ..settings import TrainingSettings
from .card import lora_card


def write_lora(
    file: Path,
    adapters: Adapters,
    denoiser: Denoiser,
    card: LoraCard,
    *,
    magnitudes: Literal["dora_scale", "folded"] = "dora_scale",
    spelling: str = "auto",
) -> None:
    """Write the weights that adapters hold as a LoRA file.

    Args:
        file: Where to.
        adapters: On the denoiser.
        denoiser: Names the layers.
        card: What the file says of itself.
        magnitudes: See :func:`.lora.file.tensors_of`.
        spelling: Of the layers' names, see :class:`.lora.spelling.FileNames`.

    Raises:
        CuratorError: It cannot be written; what was there stays.
    """
    names = names_of(adapters, denoiser, spelling)
    tensors = lora_file.tensors_of(adapters, names, magnitudes=magnitudes)
    lora_file.write(file, tensors, metadata(card, adapters.settings, tensors))


def names_of(adapters: Adapters, denoiser: Denoiser, spelling: str) -> FileKey:
    """Return what a file calls the adapted layers.

    Raises:
        SpellingError: The model's layers have no names in the spelling, or not as one layer each
            where LoKr and LoHa need them so.
    """
    if adapters.settings.kind == "lora":
        return denoiser.file_names(spelling)
    return denoiser.file_names.unbroken(
        ((part, path) for part, path, _ in adapters.layers()), spelling
    )


@dataclass(frozen=True)
class LoraWriter:
    """Writes LoRA files of the weights that a training has kept.

    Attributes:
        job: Where they go.
        settings: Of the training.
        denoiser: Names the layers.
        adapters: Hold the weights while a file is written.
        examples: What was trained with.
        facts: What the dataset says of itself.
        result: What the loop has to say.
        start: What the training went on from.
    """

    job: LoraJob
    settings: TrainingSettings
    denoiser: Denoiser
    adapters: Adapters
    examples: Sequence[Example]
    facts: DatasetFacts
    result: TrainingResult
    start: Origin | None = None

    def kept_weights(self) -> list[tuple[int, Path]]:
        """Return epoch and weights of each checkpoint, the best included, in order."""
        last = self.result.history["epoch"].to_list()[-1]
        found = {
            int(path.stem.removeprefix("epoch-")): path
            for path in self.job.folder.glob(f"epoch-[0-9][0-9][0-9][0-9]{SUFFIX}")
        }
        every = self.settings.checkpoint_every
        # Those of an earlier, longer run in the same folder are not of this one.
        kept = {e: p for e, p in found.items() if every and e % every == 0 and e <= last}
        return sorted({**kept, self.result.best_epoch: self.result.best}.items())

    def write(
        self,
        epoch: int,
        weights: Path,
        thumbnail: bytes,
        *,
        file: Path | None = None,
        write: bool = True,
    ) -> Checkpoint:
        """Put some weights into the adapters and write their LoRA file.

        Args:
            epoch: Of the weights.
            weights: As the loop keeps them.
            thumbnail: For the file's header.
            file: What to write; a file named after the epoch unless given.
            write: Whether to write at all: of several processes only one does.
        """
        target = file or self.job.beside(f"-epoch{epoch:04d}{SUFFIX}")
        load_weights(weights, self.adapters.named_parameters())
        if write:
            card = lora_card(
                self.denoiser,
                self.settings,
                self.examples,
                self.facts,
                self.result,
                title=self.job.output.stem,
                base_model=models.reference(self.job.base),
                thumbnail=thumbnail,
                epoch=epoch,
                targets=self.adapters.placements["denoiser"].kinds,
                says=self.job.base_names,
                continued_from=self.start.to_mapping() if self.start else {},
            )
            write_lora(
                target,
                self.adapters,
                self.denoiser,
                card,
                magnitudes=self.job.magnitudes,
                spelling=self.settings.file_spelling,
            )
        row = self.result.history.filter(self.result.history["epoch"] == epoch).to_dicts()[0]
        return Checkpoint(epoch, target, row["validation_loss"])
