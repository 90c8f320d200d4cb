"""Adapters that go on from a LoRA file: its layers, ranks, scales and weights become theirs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from ..counts import how_many
from ..imageset import content_hash
from . import lycoris
from .adapters import ADAPTER, Adapters, LoraSettings, inject
from .file import CheckpointError, LoraFile, read, restore, whole
from .spelling import FileKey, Piece, pieces
from .targets import can_carry, place, place_at


@dataclass(frozen=True)
class Origin:
    """The LoRA file that a training goes on from.

    Attributes:
        name: Of the file, without its folder.
        sha256: Of its bytes.
        file: Its content.
    """

    name: str
    sha256: str
    file: LoraFile

    @staticmethod
    def of(path: Path, *, allow_pickle: bool = False) -> Origin:
        """Read a file to go on from.

        Raises:
            PickleRefusedError: It is a pickle.
            CheckpointError: It is missing or broken, or holds no adapters.
        """
        file = read(path, allow_pickle=allow_pickle)
        if not file.names:
            raise CheckpointError(f"{path} holds no layer of a LoRA, LoKr or LoHa to go on from.")
        return Origin(Path(path).name, content_hash(Path(path)), file)

    def to_mapping(self) -> dict[str, str]:
        """Return what a header says of it."""
        return {"file": self.name, "sha256": self.sha256}

    def shape(self) -> dict[str, Any]:
        """Return kind, rank and alpha, by the names of the training's options.

        Where layers differ in them, most layers' are named; each keeps its own.

        Raises:
            CheckpointError: The file's layers are of several kinds.
        """
        file = self.file
        found = Counter(_rank_and_alpha(file, name) for name in file.names)
        rank, alpha = found.most_common(1)[0][0]
        shape = {
            "adapter": file.kind, "rank": rank, "alpha": alpha, "dora": file.is_dora,
            "rslora": False,
        }  # fmt: skip
        if file.kind == "lokr":
            first = Counter(_first_factor(file, name) for name in file.names)
            shape["lokr_factor"] = first.most_common(1)[0][0]
            shape["lokr_decompose_both"] = any(key.endswith(".lokr_w1_a") for key in file.tensors)
        return shape

    def adapters(
        self, modules: Mapping[str, torch.nn.Module], settings: LoraSettings, *file_keys: FileKey
    ) -> Adapters:
        """Place adapters on the file's layers of a model, with the file's weights.

        Args:
            modules: By part, as for :func:`.adapters.inject`.
            settings: Of this file's :meth:`shape`; its layers go before ``targets``.
            file_keys: How files may call the model's layers; it is the first that fits.

        Raises:
            CheckpointError: The file is of another model, or of text encoders that are not to
                be trained.
        """
        file_key, paths = self._paths(modules, settings, file_keys)
        first = place(modules["denoiser"], settings.targets)
        if paths["denoiser"] != first.paths:
            settings = replace(settings, targets=paths["denoiser"])
        placed = {part: place_at(modules[part], found) for part, found in paths.items()}
        made = inject(modules, settings, placements=placed)
        try:
            for part, path, layer in made.layers():
                _reshape(layer, self.file, pieces(file_key, part, path))
            restore(made, self.file, file_key)
        except CheckpointError:
            made.remove()
            raise
        return made

    def _paths(
        self,
        modules: Mapping[str, torch.nn.Module],
        settings: LoraSettings,
        file_keys: Sequence[FileKey],
    ) -> tuple[FileKey, dict[str, tuple[str, ...]]]:
        """Return the spelling of the file, and the paths of its layers by part."""
        names = set(self.file.names)
        strange: list[str] = []
        for file_key in file_keys:
            found, known = _named(modules, names, file_key)
            missing = sorted(names - known)
            if not missing:
                break
            strange = missing if not strange or len(missing) < len(strange) else strange
        else:
            raise CheckpointError(
                f"{self.name} has {len(strange):,} of {how_many(len(names), 'layer')} that the "
                f"model does not have, or calls otherwise (first: {strange[0]}). Go on from a LoRA "
                "of this model."
            )
        has_text = any(paths for part, paths in found.items() if part != "denoiser")
        if has_text != (settings.text_encoder and len(modules) > 1):
            does, switch = ("adapts", "on") if has_text else ("does not adapt", "off")
            raise CheckpointError(
                f"{self.name} {does} the text encoder: switch train_text_encoder {switch}."
            )
        kept = {part: paths for part, paths in found.items() if paths or part == "denoiser"}
        return file_key, kept


def _named(
    modules: Mapping[str, torch.nn.Module], names: set[str], file_key: FileKey
) -> tuple[dict[str, tuple[str, ...]], set[str]]:
    """Return the paths of a file's layers in a spelling, by part, and which names are theirs."""
    found: dict[str, tuple[str, ...]] = {}
    known: set[str] = set()
    for part, module in modules.items():
        paths = []
        for path, layer in module.named_modules():
            if not can_carry(layer):
                continue
            own = {piece.name for piece in pieces(file_key, part, path)}
            if own <= names:
                paths.append(path)
                known |= own
        found[part] = tuple(paths)
    return found, known


def _rank_and_alpha(file: LoraFile, name: str) -> tuple[int, float]:
    if file.kind == "lora":
        down, _, scale, _ = file.layer(name)
        return down.shape[0], scale * down.shape[0]
    values = file.factors(name)
    inner = lycoris.rank(values)
    if inner is None:  # whole factors: what was asked for is in alpha, if anywhere
        rank = max(1, round(float(values.get("alpha", 1.0))))
        return rank, float(rank)
    return inner, lycoris.scale(values) * inner


def _first_factor(file: LoraFile, name: str) -> int:
    values = file.factors(name)
    return len(values["lokr_w1"] if "lokr_w1" in values else values["lokr_w1_a"])


def _reshape(layer: Any, file: LoraFile, places: Sequence[Piece]) -> None:
    """Give a layer of peft the shapes and the scale of a file's.

    Raises:
        CheckpointError: It is of a layer of another size.
    """
    weight, name = layer.get_base_layer().weight, places[0].name
    rank, _ = _rank_and_alpha(file, name)
    if file.kind != "lora":
        lycoris.replace(layer, ADAPTER, file.factors(name), trainable=True)
        layer.r[ADAPTER], layer.alpha[ADAPTER] = rank, rank * layer.scaling[ADAPTER]
        try:
            with torch.no_grad():
                layer.get_delta_weight(ADAPTER)
        except RuntimeError as error:
            raise _other_size(name, weight) from error
        return
    down, up, scale, _ = whole(file, places)
    for table, value in ((layer.lora_A, down), (layer.lora_B, up)):
        own = table[ADAPTER].weight
        if own.dim() != value.dim():
            raise _other_size(name, weight)
        outer = slice(1, None) if table is layer.lora_A else slice(1)
        if own.shape[outer] != value.shape[outer]:
            raise _other_size(name, weight)
        table[ADAPTER].weight = torch.nn.Parameter(value.to(own.device, torch.float32))
    layer.r[ADAPTER], layer.lora_alpha[ADAPTER] = rank, scale * rank
    layer.scaling[ADAPTER] = scale


def _other_size(name: str, weight: torch.Tensor) -> CheckpointError:
    return CheckpointError(
        f"'{name}' is of a layer of another size in the file; the model's is "
        f"{tuple(weight.shape)}. Go on from a LoRA of this model."
    )
