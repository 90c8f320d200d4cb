"""Readers of weights: LoRA files, their headers, models' files and folders, training states."""

from __future__ import annotations

import json
import math

import numpy as np
import torch
from safetensors.torch import save

from character_curator.errors import CuratorError
from character_curator.lora import file as lora_file
from character_curator.lora.families import recognised
from character_curator.lora.header import names_in_file, read_header, read_origin, tensors_hash
from character_curator.training import TrainingSettings
from character_curator.training.finished import read_notes
from character_curator.training.loop.run import STATE
from character_curator.training.loop.state import load_tensors, save_tensors
from character_curator.verification.training import (
    check_file,
    check_hyperparameters,
    check_loss,
    check_training,
    read_trained,
)  # fmt: skip
from tests.support.fuzzing.mutation import altered, damaged, json_damaged
from tests.support.fuzzing.targets import Target
from tests.support.tiny_denoiser import TinyDenoiser, make_examples
from tests.support.training_runs import run

METADATA = {
    "ss_network_dim": "4", "ss_steps": "20", "ss_num_epochs": "2", "ss_sd_model_name": "x",
    "ss_network_args": "{}", "ss_dataset_dirs": '{"small": {"n_repeats": 1}}',
    "modelspec.title": "x", "modelspec.trigger_phrase": "char1",
    "modelspec.hash_sha256": "0x" + "ab" * 32, "modelspec.architecture": "flux-1-dev/lora",
    "character_curator.validation_loss": "0.25",
    "character_curator.generation": '[{"file": "a.png", "hash": "ab", "seed": 1}]',
    "character_curator.settings": '{"rank": 4, "learning_rate": 0.001}',
    "character_curator.dataset_version": '{"number": 2, "fingerprint": "ab", "altered": 1}',
    "character_curator.dataset_fingerprint": "ab",
}  # fmt: skip
SHAPES = {
    "lora_unet_a_to_q.lora_down.weight": (4, 8), "lora_unet_a_to_q.lora_up.weight": (8, 4),
    "lora_unet_a_to_q.alpha": (), "lora_unet_a_to_q.dora_scale": (8, 1),
    "lora_unet_b.lokr_w1": (2, 2), "lora_unet_b.lokr_w2_a": (4, 2), "lora_unet_b.lokr_w2_b": (2, 4),
    "lora_unet_b.alpha": (), "lora_unet_c.hada_w1_a": (4, 2), "lora_unet_c.hada_w1_b": (2, 4),
    "lora_unet_c.hada_w2_a": (4, 2), "lora_unet_c.hada_w2_b": (2, 4), "lora_unet_c.alpha": (),
    "transformer.x.to_k.lora_A.weight": (2, 8), "transformer.x.to_k.lora_B.weight": (8, 2),
}  # fmt: skip


def whole(metadata=METADATA, shapes=SHAPES) -> bytes:
    """Return a safetensors file that holds a layer of every kind."""
    return save({name: torch.ones(shape) for name, shape in shapes.items()}, dict(metadata))


def header_damaged(data: bytes, rng: np.random.Generator) -> bytes:
    """Return a file with another header: other values, texts of metadata, names, shapes, places."""
    size = int.from_bytes(data[:8], "little")
    head = json.loads(data[8 : 8 + size])
    kind = rng.random()
    if kind < 0.15:
        return damaged(data, rng)
    if kind < 0.5:  # what the metadata say, each a text
        told = head["__metadata__"]
        key = list(told)[int(rng.integers(len(told)))]
        try:
            told[key] = json.dumps(altered(json.loads(told[key]), rng))
        except ValueError:
            told[key] = damaged(told[key].encode(), rng).decode("utf-8", "replace")
    elif kind < 0.7:  # a file that is whole, of other tensors
        names = [name for name in head if name != "__metadata__"]
        shapes = {name: tuple(head[name]["shape"]) for name in names}
        for _ in range(int(rng.integers(1, 5))):
            one, other = (names[int(rng.integers(len(names)))] for _ in range(2))
            shapes[one] = shapes.get(other, (0,)) if rng.random() < 0.6 else tuple(
                int(side) for side in rng.integers(0, 4, int(rng.integers(0, 5)))
            )  # fmt: skip
            if rng.random() < 0.4:
                shapes.pop(other, None)
        return whole(head["__metadata__"], shapes)
    else:
        head = altered(head, rng)
    text = json.dumps(head).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + data[8 + size :]


def lora_target() -> Target:
    """Return the target of LoRA files, and of what is said of them."""

    def read(folder, data):
        path = folder / "a.safetensors"
        path.write_bytes(data)
        names_in_file(path)
        trained = read_trained(path)
        for check in (check_training, check_loss, check_file, check_hyperparameters):
            assert check(trained).key
        file = lora_file.read(path)
        header = read_header(file.metadata)
        assert header.validation_loss is None or math.isfinite(header.validation_loss)
        read_origin(file.metadata)
        tensors_hash(file.metadata, file.tensors)
        assert recognised("flux-1-dev", dict(file.metadata))
        refused = []
        for work in (lambda: file.kind, *(
            work for name in file.names
            for work in (lambda n=name: file.rank(n), lambda n=name: file.is_silent(n))
        )):  # fmt: skip
            try:
                work()
            except CuratorError as error:
                refused.append(str(error))
        return "; ".join(refused) or None

    def seeds(folder):
        ends = ("a_to_q", "unet_b", "unet_c", "transformer")
        kinds = [{n: shape for n, shape in SHAPES.items() if end in n} for end in ends]
        return [whole(), *(whole(shapes=kind) for kind in kinds)]

    return Target("LoRA file", seeds, header_damaged, read, whole_is_refused=True)


def pickle_target() -> Target:
    """Return the target of LoRA files that are pickles, where they are allowed."""
    import io

    buffer = io.BytesIO()
    torch.save({name: torch.ones(shape) for name, shape in SHAPES.items()}, buffer)

    def read(folder, data):
        path = folder / "a.pt"
        path.write_bytes(data)
        lora_file.read(path, allow_pickle=True)

    return Target("LoRA pickle", lambda folder: [buffer.getvalue()], damaged, read)


def state_target() -> Target:
    """Return the target of training states: damage is always found."""
    tensors = {"parameter.a": torch.ones(4, 4), "average.a": torch.zeros(4, 4)}
    facts = {"epoch": 3, "origin": {"model": "ab"}, "history": [1.5, None]}

    def seeds(folder):
        save_tensors(folder / "whole.safetensors", tensors, facts)
        return [(folder / "whole.safetensors").read_bytes()]

    def read(folder, data):
        (folder / "state.safetensors").write_bytes(data)
        found, told = load_tensors(folder / "state.safetensors")
        assert all(torch.equal(found[name], tensors[name]) for name in tensors)
        assert {key: told[key] for key in facts} == facts

    return Target("training state", seeds, both, read)


def both(data: bytes, rng: np.random.Generator) -> bytes:
    """Damage a file as bytes, or its header."""
    return (damaged if rng.random() < 0.4 else header_damaged)(data, rng)


def resumed_target() -> Target:
    """Return the target of a training that goes on from a damaged state."""
    settings = TrainingSettings(epochs=2, batch_size=2, resolution=64, learning_rate=1e-3)
    begun = settings.model_copy(update={"epochs": 1})

    def seeds(folder):
        examples = make_examples(folder / "in", 2)
        run(examples, folder / "run", begun)
        return [(folder / "run" / STATE).read_bytes()]

    def read(folder, data):
        for path in (folder / "run").iterdir():
            if path.is_file():
                path.unlink()
        (folder / "run" / STATE).write_bytes(data)
        run(make_examples(folder / "in", 2), folder / "run", settings, TinyDenoiser())

    return Target("resumed training", seeds, both, read, seconds=60, dear=True)


def notes_target() -> Target:
    """Return the target of what a finished training has noted."""
    whole_notes = {
        "inputs": "ab", "file": "ab", "held_out": ["a.png"], "skipped": [["a.png", "why"]],
        "outcome": {"checkpoints": [{"epoch": 1, "file": "x", "validation_loss": 1.0,
                                     "score": None}],
                    "plot": "p.png", "samples": None, "best_epoch_by_evaluation": None,
                    "kept_epoch": 1, "best_epoch": 1, "warnings": [], "steps": 4, "epochs": 1,
                    "skipped": [{"file": "a", "reason": "b"}], "stopped": "epochs",
                    "message": "It ended."},
    }  # fmt: skip

    def read(folder, data):
        (folder / "a.safetensors").write_bytes(whole())
        work = folder / "a.work"
        work.mkdir(exist_ok=True)
        (work / "finished.json").write_bytes(data)
        read_notes(work)
        trained = read_trained(folder / "a.safetensors", work)
        for check in (check_training, check_loss, check_file, check_hyperparameters):
            assert check(trained).key

    return Target("notes of a training", lambda folder: [json.dumps(whole_notes).encode()],
                  json_damaged, read)  # fmt: skip


def targets() -> list[Target]:
    """Return the targets of weights."""
    return [lora_target(), pickle_target(), state_target(), resumed_target(), notes_target()]
