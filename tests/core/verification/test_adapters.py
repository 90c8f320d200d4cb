"""What is verified of a LoRA file is verified of LoKr's and LoHa's."""

from __future__ import annotations

import pytest
import torch

from character_curator.lora import file as lora_file
from character_curator.training import LoraJob, TrainingSettings, train_lora
from character_curator.verification.training import (
    check_file,
    check_hyperparameters,
    read_trained,
)
from tests.support.tiny_denoiser import make_dataset

SETTINGS = TrainingSettings(
    rank=2, steps=2, batch_size=2, learning_rate=1e-2, resolution=64, bucket_step=16,
    validation_share=0.3, validation_timesteps=1,
)  # fmt: skip


@pytest.mark.parametrize("adapter", ["lora", "lokr", "loha"])
def test_a_file_of_every_kind_is_whole_and_says_what_it_was_trained_with(
    adapter, tiny_sd15, tmp_path
):
    make_dataset(tmp_path / "set")
    job = LoraJob(tmp_path / "set", tmp_path / "a.safetensors", base=tiny_sd15, samples=None)
    train_lora(job, SETTINGS.replace(adapter=adapter, lokr_factor=4))
    trained = read_trained(job.output)
    line = check_file(trained)
    assert line.faults == ()
    assert f"{len(trained.content.names)} layers" in line.found
    assert [fault.what for fault in check_hyperparameters(trained).faults] == []
    silent = {
        key: tensor if key.endswith(".alpha") else torch.zeros_like(tensor)
        for key, tensor in trained.content.tensors.items()
    }
    lora_file.write(job.output, silent, trained.content.metadata)
    faults = [fault.what for fault in check_file(read_trained(job.output)).faults]
    assert "every weight is zero: it changes no image" in faults
