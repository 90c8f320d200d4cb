"""What identifies the models on a node's wires, so that images of other weights are made again.

Two things are hashed: the part of the graph that leads to the wires (loaders, LoRAs, patches, with
all their widgets), and the weights themselves, by values spread over every tensor. The first sees
what is no weight; the second sees a file that was replaced under the same name.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import torch

Prompt = Mapping[str, Mapping[str, Any]]

_SAMPLES = 257
_FOLDERS = ("checkpoints", "diffusion_models")
"""ComfyUI's kinds of folders that models are loaded from."""
_known: WeakKeyDictionary[Any, str] = WeakKeyDictionary()


def is_link(value: Any) -> bool:
    """Whether an input of an API graph is a wire: ``[node id, output]``, as ComfyUI itself has it.

    A widget that holds a list of two texts is none.
    """
    is_pair = isinstance(value, list) and len(value) == 2
    return is_pair and isinstance(value[0], str) and isinstance(value[1], int | float)


def graph_identity(prompt: Prompt, link: Any) -> str:
    """Hash the part of a graph that leads to a wire; node ids and titles do not matter.

    Each node is looked at once, however many ways lead to it and however long they are.
    """
    if not is_link(link):
        return json.dumps(link, sort_keys=True, default=str)
    known: dict[str, tuple[Any, Any]] = {}  # what a node is, without which output is taken
    begun, left = set(), [link[0]]
    while left:
        number = left[-1]
        node = prompt.get(number, {})
        inputs = node.get("inputs", {})
        before = [] if number in begun else [v[0] for v in inputs.values() if is_link(v)]
        begun.add(number)
        new = [one for one in before if one not in begun]  # ComfyUI runs no circles
        left += new
        if not new:
            left.pop()
            told = {k: _hashed(known, v) if is_link(v) else v for k, v in inputs.items()}
            known.setdefault(number, (node.get("class_type"), told))
    return _hashed(known, link)


def _hashed(known: Mapping[str, tuple[Any, Any]], link: Sequence[Any]) -> str:
    text = json.dumps([*known.get(link[0], ()), link[1]], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def model_name(graph: Prompt, link: Any) -> str:
    """Return the file or loader at the beginning of a MODEL wire."""
    while is_link(link) and link[0] in graph:
        node = graph[link[0]]
        named = [node["inputs"].get(key) for key in ("ckpt_name", "unet_name", "model_path")]
        for name in named:
            if isinstance(name, str):
                return name
        following = node["inputs"].get("model")
        if not is_link(following):
            return str(node["class_type"])
        link = following
    return "unknown"


def model_says(name: str) -> dict[str, str]:
    """Return what a model's file says of itself, by the key; nothing if it is no safetensors file.

    Args:
        name: Of the file, as a loader's list calls it.
    """
    import folder_paths

    from ...core.lora.header import names_in_file

    found = (folder_paths.get_full_path(kind, name) for kind in _FOLDERS)
    path = next((path for path in found if path is not None), None)
    return {} if path is None else names_in_file(Path(path))


def weights_identity(patcher: Any) -> str:
    """Hash the weights of a ``ModelPatcher`` and the patches (LoRAs) on it.

    Args:
        patcher: Of a MODEL, or ``CLIP.patcher``, or ``VAE.patcher``.
    """
    model = patcher.model
    if model not in _known:
        _known[model] = digest(unpatched_weights(patcher))
    return hashlib.sha256(f"{_known[model]} {digest(patcher.patches)}".encode()).hexdigest()


def wires_identity(
    prompt: Prompt, inputs: Mapping[str, Any], given: Mapping[str, Any], conditionings: Any
) -> str:
    """Hash everything on a node's wires that decides images.

    Args:
        prompt: The queued graph.
        inputs: The node's, as the graph has them.
        given: MODEL, VAE and CLIP by the names of their inputs; None is left out.
        conditionings: What is given in place of prompts.
    """
    parts = [digest(conditionings)]
    for name, value in given.items():
        if value is not None:
            patcher = value if name == "model" else value.patcher
            parts += [graph_identity(prompt, inputs.get(name)), weights_identity(patcher)]
    return hashlib.sha256(" ".join(parts).encode()).hexdigest()


def unpatched_weights(patcher: Any) -> dict[str, Any]:
    """Return a model's weights as they were before ComfyUI loaded it, by their names.

    A loaded model may have LoRAs in its weights and patches in place of its parts. ComfyUI keeps
    aside what it replaces and puts that back when it unloads the model; here it is only read.
    """
    found = dict(patcher.model_state_dict())
    kept = {name: weight for name, (weight, _) in patcher.hook_backup.items()}
    # A hook may have changed a weight that a patch had changed before: the patch's is the older.
    kept |= {name: entry.weight for name, entry in patcher.backup.items()}
    kept |= getattr(patcher, "backup_buffers", {})  # of ComfyUIs that load weights bit by bit
    for name, weight in kept.items():
        if name in found:  # buffers that are in no file are not
            found |= _named(weight, name)
    for name, part in patcher.object_patches_backup.items():
        found = {key: old for key, old in found.items() if not f"{key}.".startswith(f"{name}.")}
        found |= _named(part, name)
    return found


def _named(part: Any, name: str) -> dict[str, Any]:
    """Return the tensors of a module or tensor by the names that the whole model's have."""
    if isinstance(part, torch.nn.Module):
        return part.state_dict(prefix=f"{name}.")
    if hasattr(part, "state_dict"):  # a quantised weight: its integers and its scales
        return part.state_dict(name)
    return {name: part} if isinstance(part, torch.Tensor) else {}


def digest(value: Any) -> str:
    """Hash a tree of tensors, numbers and texts; of a tensor, values spread over it."""
    found = hashlib.sha256()
    _update(found, value)
    return found.hexdigest()


def _update(found: Any, value: Any) -> None:
    if isinstance(value, torch.Tensor):
        found.update(f"{tuple(value.shape)} {value.dtype}".encode())
        found.update(_values(value))
    elif isinstance(value, Mapping):
        for key in sorted(value, key=str):
            found.update(str(key).encode())
            _update(found, value[key])
    elif isinstance(value, Sequence) and not isinstance(value, str | bytes):
        found.update(f"[{len(value)}]".encode())
        for entry in value:
            _update(found, entry)
    elif isinstance(value, str | bytes | int | float | type(None)):
        found.update(repr(value).encode())
    else:
        found.update(type(value).__qualname__.encode())
        if hasattr(value, "weights"):  # ComfyUI's weight adapters
            _update(found, value.weights)


def _values(tensor: torch.Tensor) -> bytes:
    flat = tensor.detach().reshape(-1)
    if not flat.numel():
        return b""
    at = torch.linspace(0, flat.numel() - 1, min(_SAMPLES, flat.numel()), dtype=torch.float64)
    chosen = flat[at.long().to(flat.device)]
    return chosen.to(device="cpu", dtype=torch.float64).numpy().tobytes()
