"""A run's resumable state in one safetensors file; never pickle.

Tensors are stored by name, everything else as JSON in the file's header, so that one rename makes
both valid at once and a kill can never part them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from ... import atomic
from ...errors import CuratorError
from ...json_text import parse
from ...lora.file import to_bytes
from .ema import copy_into

VERSION = 2
_WITHOUT_CHECKSUM = 1
"""The version whose files have none."""


class StateWriteError(CuratorError):
    """A checkpoint cannot be written, for instance because the disk is full."""

    def __init__(self, path: Path, reason: object) -> None:
        kept = f" The last good one is still there: {path}." if path.exists() else ""
        super().__init__(
            f"The checkpoint {path.name} cannot be written to {path.parent}: "
            f"{getattr(reason, 'strerror', None) or reason}.{kept} Free "
            "some space on that disk and start the training again: it goes on from there."
        )


class StateMismatchError(CuratorError):
    """A folder holds the state of another training run, or something unreadable.

    Attributes:
        damaged: The file that is not as it was written; ``None`` where it is another run's.
    """

    def __init__(self, message: str, damaged: Path | None = None) -> None:
        self.damaged = damaged
        super().__init__(message)


def save_tensors(path: Path, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
    """Write tensors and facts atomically; the same ones give the same bytes.

    Raises:
        StateWriteError: The disk is full or the folder cannot be written; what was there stays.
    """
    plain = {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}
    text = json.dumps({"version": VERSION, **facts})
    metadata = {"facts": text, "checksum": _checksum(plain, text)}
    try:
        atomic.write_bytes(path, to_bytes(plain, metadata))
    except OSError as error:
        raise StateWriteError(path, error) from error


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what :func:`save_tensors` wrote.

    Raises:
        StateMismatchError: The file is damaged or of another version.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            facts = parse(metadata["facts"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        version = facts["version"]
        # Where there is a checksum it counts, whatever version a damaged file claims to be of.
        has_checksum = version == VERSION or "checksum" in metadata
        if has_checksum and metadata["checksum"] != _checksum(tensors, metadata["facts"]):
            raise ValueError("its checksum is another")
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise StateMismatchError(
            f"{path} is no checkpoint of this trainer, or is damaged ({error}). Delete it, or "
            "choose another folder, to start from the beginning.",
            path,
        ) from error
    if version not in (VERSION, _WITHOUT_CHECKSUM):
        raise StateMismatchError(
            f"{path} is of version {version}, and {VERSION} is known. Delete it, or "
            "choose another folder, to start from the beginning."
        )
    return tensors, facts


def _checksum(tensors: Mapping[str, Tensor], facts: str) -> str:
    """Return what tells whether a file still holds what was written: of its tensors and facts."""
    digest = hashlib.blake2b(facts.encode(), digest_size=16)
    for name in sorted(tensors):
        value = tensors[name].detach().cpu().contiguous()
        digest.update(f"\n{name} {value.dtype} {tuple(value.shape)}\n".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def load_weights(path: Path, parameters: Mapping[str, nn.Parameter]) -> int:
    """Put the weights of a run's checkpoint into its parameters; return their epoch.

    Raises:
        StateMismatchError: The file is damaged, or of other adapters.
    """
    weights, facts = load_tensors(path)
    if {n: v.shape for n, v in weights.items()} != {n: p.shape for n, p in parameters.items()}:
        raise StateMismatchError(
            f"The checkpoint {path} is of other adapters: use the rank, the layers and the base "
            "model that it was trained with."
        )
    copy_into(parameters, weights)
    return int(facts["epoch"])


def pack_optimizer(optimizer: torch.optim.Optimizer) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Divide an optimizer's state into tensors by name and plain values."""
    packed = optimizer.state_dict()
    tensors: dict[str, Tensor] = {}
    plain: dict[str, Any] = {"state": {}, "groups": []}
    for index, values in packed["state"].items():
        plain["state"][str(index)] = _divide(values, f"optimizer.state.{index}.", tensors)
    for number, group in enumerate(packed["param_groups"]):
        plain["groups"].append(_divide(group, f"optimizer.group.{number}.", tensors))
    return tensors, plain


def unpack_optimizer(
    optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor], plain: Mapping[str, Any]
) -> None:
    """Give an optimizer of the same parameters the state that :func:`pack_optimizer` divided."""
    state = {
        int(index): _joined(values, f"optimizer.state.{index}.", tensors)
        for index, values in plain["state"].items()
    }
    groups = [
        _joined(group, f"optimizer.group.{number}.", tensors)
        for number, group in enumerate(plain["groups"])
    ]
    for group in groups:
        for name, value in group.items():
            if isinstance(value, list) and name != "params":  # JSON knows no tuples
                group[name] = tuple(value)
    optimizer.load_state_dict({"state": state, "param_groups": groups})


def _divide(values: Mapping[str, Any], prefix: str, tensors: dict[str, Tensor]) -> dict[str, Any]:
    """Move tensors, those in mappings within (as of 8-bit optimizers) too, into a flat table."""
    plain: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Tensor):
            tensors[prefix + name] = value
        elif isinstance(value, Mapping):
            plain[name] = _divide(value, f"{prefix}{name}.", tensors)
        else:
            plain[name] = value
    return plain


def _joined(plain: Mapping[str, Any], prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """Put back together what :func:`_divide` divided."""
    names = (name.removeprefix(prefix) for name in tensors if name.startswith(prefix))
    values: dict[str, Any] = {name: tensors[prefix + name] for name in names if "." not in name}
    for name, value in plain.items():
        nested = isinstance(value, Mapping)
        values[name] = _joined(value, f"{prefix}{name}.", tensors) if nested else value
    return values
