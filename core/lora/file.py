"""The LoRA file: safetensors that ComfyUI, diffusers and kohya's tools load.

LoKr and LoHa are in files of the same kind: :mod:`.lycoris` says what their layers hold.

A layer has three tensors: ``<name>.lora_down.weight``, ``<name>.lora_up.weight`` and the scalar
``<name>.alpha``. Readers multiply by alpha / rank, so alpha also says rsLoRA's scale. Dotted names
have ``lora_A`` and ``lora_B`` and no alpha: most of their readers know none, so that ``lora_B``
holds the scale. DoRA adds ``<name>.dora_scale``. :mod:`.spelling` has the spellings of names.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from .. import atomic
from ..counts import how_many
from ..errors import CuratorError
from ..json_text import parse
from ..plain_files import plain
from . import dora, lycoris
from . import names as layer_names
from .adapters import ADAPTER, Adapters
from .spelling import ALPHA, DORA, DOWN, ENDS, UP, FileKey, Piece, joined, pieces, written

_PICKLES = frozenset({".ckpt", ".pt", ".pth", ".bin", ".pkl", ".pickle"})
_FOLD_ERROR = 1e-5


class CheckpointError(CuratorError):
    """A LoRA file can't be read, or does not fit the model."""


class PickleRefusedError(CheckpointError):
    """A file of Python's pickle format, which can run any program when it is opened."""


class NonFiniteWeightsError(CuratorError):
    """Weights hold NaN or infinity."""


class CheckpointWriteError(CuratorError):
    """A LoRA file can't be written, for instance because the disk is full."""


@dataclass(frozen=True)
class LoraFile:
    """The content of a LoRA file."""

    tensors: Mapping[str, Tensor]
    metadata: Mapping[str, str]

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the layers, sorted."""
        return tuple(sorted({name for name, _ in self._kinds()}))

    @property
    def kind(self) -> lycoris.AdapterKind:
        """What its layers are.

        Raises:
            CheckpointError: They are of several kinds.
        """
        kinds = sorted({kind for _, kind in self._kinds()})
        if len(kinds) > 1:
            raise CheckpointError(
                f"The file holds layers of several kinds: {', '.join(kinds)}. ComfyUI's LoraLoader "
                "applies it; nothing else can be done with it here."
            )
        return kinds[0] if kinds else "lora"

    def _kinds(self) -> Iterator[tuple[str, lycoris.AdapterKind]]:
        """Yield name and kind of the layer that each tensor of weights belongs to."""
        ends = tuple(end for pair in ENDS.values() for end in pair)
        for key in self.tensors:
            name, _, last = key.rpartition(".")
            kind = lycoris.kind_of(last)
            if kind is not None:
                yield name, kind
            elif key.endswith(ends):
                yield _stem(key), "lora"

    def factors(self, name: str) -> dict[str, Tensor]:
        """Return a LoKr's or LoHa's layer: its factors by name, and ``alpha`` if it is there.

        Raises:
            CheckpointError: It is not whole.
        """
        known = (*(f for of_kind in lycoris.FACTORS.values() for f in of_kind), "alpha")
        found = {f: self.tensors[f"{name}.{f}"] for f in known if f"{name}.{f}" in self.tensors}
        self._alpha(name)
        for factor, value in found.items():
            if factor != "alpha" and value.dim() < 2:
                raise _not_whole(name, f"its {factor} has the shape {tuple(value.shape)}")
            other = {"_a": "_b", "_b": "_a"}.get(factor[-2:])
            if other is not None and factor[:-2] + other not in found:
                raise _not_whole(name, f"it has {factor} and no {factor[:-2] + other}")
        return found

    def layer(self, name: str) -> tuple[Tensor, Tensor, float, Tensor | None]:
        """Return a layer's down and up weights, its scale, and its ``dora_scale``.

        Raises:
            CheckpointError: It is not whole.
        """
        ends = ENDS[layer_names.is_kohya(name)]
        if missing := [end for end in ends if name + end not in self.tensors]:
            raise _not_whole(name, f"it has no {missing[0].lstrip('.')}")
        down, up = (self.tensors[name + end] for end in ends)
        if down.dim() < 2 or up.dim() < 2 or up.shape[1] != down.shape[0]:
            raise _not_whole(name, f"its shapes are {tuple(down.shape)} and {tuple(up.shape)}")
        alpha = self._alpha(name)
        scale = 1.0 if alpha is None else alpha / down.shape[0]
        return down, up, scale, self.tensors.get(f"{name}.dora_scale")

    def _alpha(self, name: str) -> float | None:
        alpha = self.tensors.get(f"{name}.alpha")
        if alpha is None:
            return None
        if alpha.numel() != 1 or not math.isfinite(alpha.item()):
            raise _not_whole(name, f"its alpha is no number, but {alpha.numel()}")
        return float(alpha)

    def rank(self, name: str) -> int | None:
        """Return a layer's rank; None of a LoKr's whose factors are both whole."""
        factors = self.factors(name)
        if lycoris.kind_of(next(iter(factors), "")) is None:
            return self.layer(name)[0].shape[0]
        return lycoris.rank(factors)

    def is_silent(self, name: str) -> bool:
        """Whether a layer adds nothing: one of the factors of a product is zero."""
        factors = self.factors(name)
        if lycoris.kind_of(next(iter(factors), "")) is None:
            return not all(tensor.any() for tensor in self.layer(name)[:2])
        return not all(tensor.any() for end, tensor in factors.items() if end != "alpha")

    @property
    def is_dora(self) -> bool:
        """Whether any layer is a DoRA layer."""
        return any(key.endswith(".dora_scale") for key in self.tensors)


def _not_whole(name: str, reason: str) -> CheckpointError:
    return CheckpointError(
        f"The layer '{name}' of the LoRA file is not whole: {reason}. Get the file again."
    )


def tensors_of(
    adapters: Adapters,
    file_key: FileKey,
    *,
    dtype: torch.dtype = torch.float32,
    magnitudes: Literal["dora_scale", "folded"] = "dora_scale",
) -> dict[str, Tensor]:
    """Return the tensors of a LoRA file.

    Args:
        adapters: What was trained.
        file_key: How the file calls a layer.
        dtype: Number type of the file.
        magnitudes: How DoRA is written. ``dora_scale``: small, exact in ComfyUI; diffusers'
            ``load_lora_weights`` leaves it out, unless it gets :func:`for_diffusers`. ``folded``:
            as plain LoRA of the rank that it takes, exact in every reader, and about as large as
            the adapted weights themselves.
    """
    tensors: dict[str, Tensor] = {}
    with torch.no_grad():
        for part, path, layer in adapters.layers():
            if adapters.settings.kind != "lora":
                factors = lycoris.to_file(layer, ADAPTER)
                name = _unbroken(pieces(file_key, part, path))
                tensors |= {f"{name}.{end}": value for end, value in factors.items()}
                continue
            down = layer.lora_A[ADAPTER].weight.float()
            up = layer.lora_B[ADAPTER].weight.float()
            alpha = layer.scaling[ADAPTER] * down.shape[0]
            parts: dict[str, Tensor] = {}
            if ADAPTER in layer.lora_magnitude_vector:
                weight = layer.get_base_layer().weight
                update = layer.scaling[ADAPTER] * _product(up, down).reshape(weight.shape)
                magnitude = layer.lora_magnitude_vector[ADAPTER].weight
                scale = dora.scale_of(magnitude, weight, update)
                if magnitudes == "folded":
                    up, down = _folded(scale, weight, update)
                    # diffusers mistakes alphas that differ from one layer to the next.
                    alpha = float(adapters.settings.rank)
                    up = up * (down.shape[0] / alpha)
                else:
                    parts[DORA] = scale
            parts |= {DOWN: down, UP: up, ALPHA: torch.tensor(float(alpha))}
            for piece in pieces(file_key, part, path):
                tensors |= written(piece, parts)
    # Alpha is one number: in half precision rsLoRA's would lose digits for nothing.
    return {
        key: value.detach()
        .to("cpu", torch.float32 if key.endswith(".alpha") else dtype)
        .clone(memory_format=torch.contiguous_format)
        for key, value in sorted(tensors.items())
    }


def write(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write a LoRA file: it is there whole, or what was there before is left.

    The same tensors and metadata give the same bytes.

    Args:
        path: Ends with ``.safetensors``.
        tensors: As from :func:`tensors_of`.
        metadata: As from :func:`.header.metadata`.

    Raises:
        NonFiniteWeightsError: A tensor holds NaN or infinity; nothing is written.
        CheckpointWriteError: The disk is full, or the folder can't be written to.
    """
    for key, tensor in tensors.items():
        if not torch.isfinite(tensor).all():
            raise NonFiniteWeightsError(
                f"{path} is not written: the weights of '{key}' hold NaN or infinity. Go back to "
                "the last good checkpoint and train with a lower learning rate."
            )
    data = to_bytes(tensors, metadata)
    try:
        atomic.write_bytes(Path(path), data)
    except OSError as error:
        raise CheckpointWriteError(
            f"{path} ({len(data) / 2**20:.1f} MiB) can't be written: {error.strerror or error}. "
            "What was there before is unharmed. Make room or choose another folder."
        ) from error


def to_bytes(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> bytes:
    """Return the bytes of a safetensors file, its metadata in the order of their keys."""
    from safetensors.torch import save

    plain = save(dict(tensors))
    size = int.from_bytes(plain[:8], "little")
    # The library writes metadata in an order that differs from one process to the next.
    head = {"__metadata__": dict(sorted(metadata.items())), **parse(plain[8 : 8 + size])}
    text = json.dumps(head, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + plain[8 + size :]


def read(path: Path, *, allow_pickle: bool = False) -> LoraFile:
    """Read a LoRA file.

    Args:
        path: Of the file.
        allow_pickle: Also read tensors from a pickle; torch refuses what is not a tensor in it.

    Raises:
        PickleRefusedError: It is a pickle.
        CheckpointError: It is missing or broken.
    """
    from safetensors import SafetensorError, safe_open

    path = Path(path)
    try:
        with open(path, "rb", opener=plain) as file:
            start = file.read(9)
    except OSError as error:
        raise CheckpointError(
            f"There is no LoRA file to read at {path}: {error.strerror}."
        ) from error
    # A safetensors file begins with any eight bytes, the length of its header, and then a brace.
    marked = start[:2] == b"PK" or start[:1] == b"\x80"
    if path.suffix.lower() in _PICKLES or (marked and start[8:9] != b"{"):
        if allow_pickle:
            return _read_pickle(path)
        raise PickleRefusedError(
            f"{path} is a pickle, which could run any program when opened. Use a .safetensors "
            "file; or allow pickles (--allow-pickle) if you trust where this one comes from."
        )
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {key: file.get_tensor(key) for key in sorted(file.keys())}
            return LoraFile(tensors, file.metadata() or {})
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(f"{path} is no whole safetensors file: {error}") from error


def _read_pickle(path: Path) -> LoraFile:
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except MemoryError:
        raise
    except Exception as error:  # of what is damaged its unpickler raises whatever it stumbles over
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise CheckpointError(f"{path} holds no plain tensors, or is damaged: {reason}") from error
    tensors = content.get("state_dict", content) if isinstance(content, dict) else None
    if not isinstance(tensors, dict) or not all(isinstance(t, Tensor) for t in tensors.values()):
        raise CheckpointError(f"{path} holds no table of tensors by name.")
    return LoraFile(dict(sorted(tensors.items())), {})


def restore(adapters: Adapters, file: LoraFile, *file_keys: FileKey) -> None:
    """Put the weights of a file into adapters, to go on training from them.

    Scales that differ are evened out in the up weights.

    Args:
        adapters: Where to.
        file: Whose.
        file_keys: How files may call the layers; it is the first that fits.

    Raises:
        CheckpointError: The file's layers, ranks or kind are not those of the adapters.
    """
    names = _spelled(adapters, file, file_keys)
    if file.kind != adapters.settings.kind:
        raise CheckpointError(
            f"The file is a {file.kind}, the adapters are {adapters.settings.kind}: the settings "
            "must say the same."
        )
    if file.kind != "lora":
        _restore_lycoris(names, file)
        return
    with torch.no_grad():
        for layer, places in names:
            name = places[0].name
            down, up, scale, magnitude = whole(file, places)
            own_down, own_up = layer.lora_A[ADAPTER].weight, layer.lora_B[ADAPTER].weight
            has_own = ADAPTER in layer.lora_magnitude_vector
            fits = down.shape == own_down.shape and up.shape == own_up.shape
            if not fits or has_own != (magnitude is not None):
                kind = "without DoRA" if magnitude is None else "with DoRA"
                raise CheckpointError(
                    f"'{name}' is of rank {down.shape[0]} {kind} in the file, the adapters are "
                    "not: the settings must say the same."
                )
            own_down.copy_(down)
            own_up.copy_(up * (scale / layer.scaling[ADAPTER]))
            if magnitude is not None:
                weight = layer.get_base_layer().weight
                update = scale * _product(up.float(), down.float()).reshape(weight.shape)
                own = layer.lora_magnitude_vector[ADAPTER].weight
                own.copy_(dora.magnitude_of(magnitude.to(weight.device), weight, update.to(weight)))


def _spelled(
    adapters: Adapters, file: LoraFile, file_keys: Sequence[FileKey]
) -> list[tuple[Any, tuple[Piece, ...]]]:
    """Return each adapted layer and its pieces in a file, in the spelling that the file has."""
    there = set(file.names)
    strange: list[str] = []
    for file_key in file_keys:
        layers = [(layer, pieces(file_key, part, path)) for part, path, layer in adapters.layers()]
        wanted = {piece.name for _, places in layers for piece in places}
        if wanted == there:
            return layers
        strange = sorted(wanted ^ there) if not strange or wanted & there else strange
    raise CheckpointError(
        f"The file and the adapters differ in {how_many(len(strange), 'layer')} (first: "
        f"{strange[0]}). Use the base model and the layers that the file was trained with."
    )


def whole(file: LoraFile, places: Sequence[Piece]) -> tuple[Tensor, Tensor, float, Tensor | None]:
    """Return a layer's weights as :meth:`LoraFile.layer`, whatever pieces the file has it in."""
    if len(places) == 1:
        return file.layer(places[0].name)
    layers = {piece: file.layer(piece.name) for piece in places}
    both = joined([(piece, down, scale * up) for piece, (down, up, scale, _) in layers.items()])
    if both is None:
        raise CheckpointError(
            f"'{places[0].name}' and {len(places) - 1} more are one layer of this model, but were "
            "trained as several, whose rank it would exceed. Train on a model of diffusers' layout."
        )
    ordered = [layers[piece] for piece in sorted(places, key=lambda piece: piece.start)]
    magnitudes = [magnitude for *_, magnitude in ordered if magnitude is not None]
    all_rows = torch.cat(magnitudes) if len(magnitudes) == len(ordered) else None
    return both[0], both[1], 1.0, all_rows


def _unbroken(places: Sequence[Piece]) -> str:
    """Return the name of a layer that a file has in one piece.

    Raises:
        CheckpointError: It would be several: factors of LoKr and LoHa can't be parted.
    """
    if len(places) == 1:
        return places[0].name
    raise CheckpointError(
        f"'{places[0].name}' and {len(places) - 1} more are one layer of this model, which only a "
        "LoRA can hold in pieces. Choose another file_spelling than diffusers."
    )


def _restore_lycoris(layers: Sequence[tuple[Any, Sequence[Piece]]], file: LoraFile) -> None:
    for layer, places in layers:
        name = _unbroken(places)
        values = file.factors(name)
        if not lycoris.fits(layer, ADAPTER, values):
            shapes = ", ".join(f"{key} {tuple(v.shape)}" for key, v in values.items() if v.dim())
            raise CheckpointError(
                f"'{name}' is of other factors in the file than the adapters are ({shapes}): the "
                "settings must say the same rank, factor and decomposition."
            )
        lycoris.restore(layer, ADAPTER, values)


def for_diffusers(pipeline: Any, file: LoraFile) -> dict[str, Tensor]:
    """Return a file's weights as ``load_lora_weights`` takes them, magnitudes of DoRA included.

    Args:
        pipeline: That is to load them; its frozen weights tell the magnitudes.
        file: In the names of :mod:`.names`.

    Raises:
        CheckpointError: The file names a layer that the pipeline lacks.
    """
    layers = layer_names.of_pipeline(pipeline)
    tensors: dict[str, Tensor] = {}
    for name in file.names:
        if name not in layers:
            raise CheckpointError(
                f"The model has no layer '{name}': use the LoRA's own base model."
            )
        path, module = layers[name]
        down, up, scale, magnitude = file.layer(name)
        weight = module.weight.detach().cpu()
        tensors[f"{path}.lora_A.weight"] = down.float()
        tensors[f"{path}.lora_B.weight"] = scale * up.float()
        if magnitude is not None:
            update = scale * _product(up.float(), down.float()).reshape(weight.shape)
            tensors[f"{path}.lora_magnitude_vector"] = dora.magnitude_of(magnitude, weight, update)
    return tensors


def _product(up: Tensor, down: Tensor) -> Tensor:
    return up.flatten(1) @ down.flatten(1)


def _folded(scale: Tensor, weight: Tensor, update: Tensor) -> tuple[Tensor, Tensor]:
    added = dora.difference(scale, weight, update)
    up, down = dora.low_rank(added.flatten(1), _FOLD_ERROR)
    if weight.dim() == 2:
        return up, down
    return up[:, :, None, None], down.reshape(-1, *weight.shape[1:])


def _stem(key: str) -> str:
    return next(key.removesuffix(e) for pair in ENDS.values() for e in pair if key.endswith(e))
