"""The diffusers back end with the families that are trained by flow matching."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from diffusers import AutoPipelineForText2Image

from character_curator.generation import conditions
from character_curator.generation.diffusers_backend import DiffusersBackend
from character_curator.generation.reproduce import reproduce
from character_curator.generation.run import generate
from character_curator.plan import Plan, Scenario, Subject
from tests.support.tiny_flows import FLOWS

SIZE = {"width": 64, "height": 64, "device": "cpu", "threads": 1}
REQUESTS = Plan(
    subjects=[Subject(name="char1", description="freckled woman")],
    seeds=[1],
    scenarios=[
        Scenario(number=n, name=f"s{n}", prompt="thing " * n, negative="bad") for n in (1, 2)
    ],
).requests()
NO_NEGATIVE = ("tiny_flux2", "tiny_flux2_klein")


def plainly(family, folder, request, guidance):
    """Make an image as the documentation of diffusers does, text in and one image out."""
    pipeline = AutoPipelineForText2Image.from_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)
    if family != "tiny_qwen_image":
        pipeline.vae.to(memory_format=torch.channels_last)
    scale = "true_cfg_scale" if family == "tiny_qwen_image" else "guidance_scale"
    told = {scale: guidance}
    if family not in NO_NEGATIVE:
        told["negative_prompt"] = request.negative_prompt
    with conditions.exact(1):
        image = pipeline(
            prompt=request.prompt, generator=torch.Generator().manual_seed(request.noise_seed),
            num_inference_steps=2, width=64, height=64, output_type="np", **told,
        ).images[0]  # fmt: skip
    return np.clip(255.0 * image, 0, 255).astype(np.uint8)


@pytest.mark.parametrize("family", FLOWS)
def test_every_family_gives_what_its_pipeline_gives_for_the_text(family, request, tmp_path):
    folder = request.getfixturevalue(family)
    backend = DiffusersBackend(folder, steps=2, guidance=3.0, **SIZE)
    expected = plainly(family, folder, REQUESTS[0], 3.0)
    assert np.array_equal(backend.sample(REQUESTS[:1])[0], expected)
    assert not np.array_equal(plainly(family, folder, REQUESTS[0], 1.0), expected)
    # Rows of a batch are independent; where prompts' lengths would matter, there are no batches.
    assert backend.maximum_batch == (1 if family in ("tiny_qwen_image", "tiny_z_image") else None)
    images = generate(REQUESTS, backend, tmp_path, batch_size=2)
    made = reproduce(images.paths()[1])
    assert made.identical, made.differences


def test_qwen_is_guided_by_its_negative_prompt(tiny_qwen_image, caplog):
    images = [
        DiffusersBackend(tiny_qwen_image, steps=2, guidance=guidance, **SIZE).sample(REQUESTS[:1])
        for guidance in (1.0, 3.0, 9.0)
    ]
    assert not np.array_equal(images[0], images[1])
    assert not np.array_equal(images[1], images[2])
    assert not [record for record in caplog.records if "guidance" in record.getMessage()]
