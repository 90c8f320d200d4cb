"""The recipe of the miniature's text-to-image model: its data, its training and its export."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")
pytest.importorskip("diffusers")
pytest.importorskip("transformers")

from miniature.data import renders as render_data  # noqa: E402
from miniature.data.latents import LatentBatch, LatentStream  # noqa: E402
from miniature.recipe.diffusion import (  # noqa: E402
    build_model,
    denoising_loss,
    face_weights,
    stratified_timesteps,
    tokens,
    train_diffusion,
)
from miniature.recipe.export import assemble, averaged_model, write_pipeline  # noqa: E402
from miniature.recipe.muon import Muon, orthogonalised  # noqa: E402
from miniature.recipe.session import Budget  # noqa: E402
from miniature.recipe.vae import build_vae  # noqa: E402
from tests.support.tiny_recipe import TINY, TINY_VAE, same_weights  # noqa: E402
from tests.support.watchers import CancelAfter  # noqa: E402


def test_orthogonalised_brings_singular_values_together():
    matrix = torch.randn(24, 60, generator=torch.Generator().manual_seed(0))
    for case in (matrix, matrix.T):
        result = orthogonalised(case, steps=5)
        values = torch.linalg.svdvals(result)
        assert result.shape == case.shape
        assert 0.5 < float(values.min()) <= float(values.max()) < 1.3
        # It turns the singular values, not the singular vectors.
        left, _, right = torch.linalg.svd(case, full_matrices=False)
        core = left.T @ result @ right.T
        assert float((core - torch.diag(core.diagonal())).abs().max()) < 1e-4


def test_muon_learns_with_matrices_and_the_rest():
    torch.manual_seed(0)
    network = torch.nn.Sequential(
        torch.nn.Conv2d(3, 16, 3, padding=1), torch.nn.SiLU(), torch.nn.Conv2d(16, 3, 3, padding=1)
    )
    optimizer = Muon(network, 2e-2, adam_lr=1e-2)
    kinds = {group["kind"]: len(group["params"]) for group in optimizer.param_groups}
    assert kinds == {"muon": 1, "adam": 3}
    before = [p.detach().clone() for p in network.parameters()]
    x = torch.randn(8, 3, 8, 8)
    losses = []
    for _ in range(30):
        loss = (network(x) - x.flip(1)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]
    assert all(not torch.equal(a, b) for a, b in zip(before, network.parameters(), strict=True))


def test_shards_are_reproducible_and_kept(tmp_path, drawn_shards):
    again = render_data.write_shards(tmp_path, count=4, seed=1, first=1, shard_size=4, size=64)
    expected = render_data.read_shard(render_data.shard_folders(drawn_shards)[1])
    shard = render_data.read_shard(again[0])
    assert np.array_equal(shard.images, expected.images)
    assert shard.captions == expected.captions
    stamp = (again[0] / "images.npy").stat().st_mtime_ns
    render_data.write_shards(tmp_path, count=4, seed=1, first=1, shard_size=4, size=64)
    assert (again[0] / "images.npy").stat().st_mtime_ns == stamp


def test_stratified_timesteps_cover_the_range():
    drawn = stratified_timesteps(50, 1000, torch.Generator().manual_seed(1))
    assert sorted((drawn // 20).tolist()) == list(range(50))


def test_an_interrupted_diffusion_run_ends_like_an_undisturbed_one(
    tmp_path, latent_shards, tokenizer_folder
):
    options = {"budget": Budget(steps=5), "seed": 3, "recipe": TINY}
    whole = train_diffusion(latent_shards, tmp_path / "whole", tokenizer_folder, **options)
    with pytest.raises(KeyboardInterrupt):
        train_diffusion(
            latent_shards,
            tmp_path / "parts",
            tokenizer_folder,
            progress=CancelAfter(51, error=KeyboardInterrupt),
            **options,
        )
    kept = torch.load(tmp_path / "parts" / "diffusion-state.pt", weights_only=True)
    assert 0 < kept["step"] < 5
    resumed = train_diffusion(latent_shards, tmp_path / "parts", tokenizer_folder, **options)
    assert same_weights(whole.unet, resumed.unet)
    assert same_weights(whole.text_encoder, resumed.text_encoder)
    averaged = averaged_model(tmp_path / "whole" / "diffusion-state.pt", tokenizer_folder, TINY)
    assert same_weights(whole.unet, averaged.unet)


def test_latents_know_where_the_face_is(drawn_shards, latent_shards):
    shard = render_data.read_shard(render_data.shard_folders(drawn_shards)[0])
    cells = np.load(render_data.shard_folders(latent_shards)[0] / "faces.npy").astype("f4")
    assert cells.shape == (8, 8, 8)
    for box, cell in zip(shard.boxes, cells, strict=False):
        mask = np.zeros((640, 640))
        x0, y0, x1, y1 = np.round(box * 10).astype(int)
        mask[y0:y1, x0:x1] = 1
        assert np.abs(mask.reshape(8, 80, 8, 80).mean((1, 3)) - cell).max() < 0.02
    assert np.array_equal(cells[4:], cells[:4, :, ::-1]), "mirrored images have mirrored faces"
    batch = LatentStream(latent_shards).batch(5, torch.Generator().manual_seed(0), 0.1, 0.1)
    assert batch.latents.shape == (5, 4, 8, 8)
    assert batch.faces.shape == (5, 1, 8, 8)
    assert len(batch.captions) == 5


@settings(max_examples=60)
@given(seed=st.integers(0, 2**16), share=st.floats(0.1, 0.9))
def test_the_face_carries_its_share_of_the_loss(seed, share):
    generator = torch.Generator().manual_seed(seed)
    scale = torch.rand(6, 1, 1, 1, generator=generator)
    faces = torch.rand(6, 1, 8, 8, generator=generator) * scale
    faces[0] = 0
    weights = face_weights(faces, share)
    torch.testing.assert_close(weights.mean((1, 2, 3)), torch.ones(6))
    assert torch.equal(weights[0], torch.ones(1, 8, 8)), "nothing to prefer without a face"
    for k in range(1, 6):
        inside = (faces[k : k + 1] > 0.5 * scale[k]).float()
        sharp = face_weights(inside, share)
        carried = float((sharp * inside).sum() / sharp.sum())
        assert carried == pytest.approx(max(share, float(inside.mean())), abs=1e-5)


def test_the_loss_falls_when_the_noise_is_known(tokenizer_folder):
    model = build_model(tokenizer_folder, TINY)
    alphas = torch.linspace(0.99, 0.01, 1000)
    numbers = tokens(model.tokenizer, ["portrait of a woman", "", "portrait of a man", ""])
    latents = torch.randn(4, 4, 8, 8)
    batch = LatentBatch(latents, [], torch.rand(4, 1, 8, 8))

    def loss(network):
        generator = torch.Generator().manual_seed(2)
        with torch.no_grad():
            value = denoising_loss(
                network, model.text_encoder, batch, numbers, alphas, generator, TINY
            )
        return float(value)

    class Oracle:
        def __call__(self, noisy, timesteps, encoder_hidden_states):
            signal = alphas[timesteps][:, None, None, None]
            noise = (noisy - signal.sqrt() * latents) / (1 - signal).sqrt()
            return type("Output", (), {"sample": noise})

    assert loss(Oracle()) < 1e-6 < loss(model.unet)


def test_the_exported_folder_loads_as_stable_diffusion(tmp_path, tokenizer_folder):
    from diffusers import AutoPipelineForText2Image, StableDiffusionPipeline

    torch.manual_seed(0)
    model = build_model(tokenizer_folder, TINY)
    vae = build_vae(TINY_VAE, 64)
    folder = write_pipeline(assemble(vae, model), tmp_path / "diffusion")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["diffusion"]
    for name in ("vocab.json", "merges.txt"):
        written = (folder / "tokenizer" / name).read_text(encoding="utf-8")
        source = (tokenizer_folder / name).read_text(encoding="utf-8")
        assert (json.loads(written) == json.loads(source)) if "json" in name else written == source
    images = []
    for loader, options in (
        (StableDiffusionPipeline, {}),
        (StableDiffusionPipeline, {"torch_dtype": torch.float32}),
        (AutoPipelineForText2Image, {"torch_dtype": torch.float32}),
    ):
        pipeline = loader.from_pretrained(folder, **options)
        pipeline.set_progress_bar_config(disable=True)
        result = pipeline(
            "portrait of a freckled woman",
            num_inference_steps=2,
            guidance_scale=2.5,
            height=64,
            width=64,
            output_type="np",
            generator=torch.Generator().manual_seed(0),
        )
        assert result.images.shape == (1, 64, 64, 3)
        assert np.isfinite(result.images).all()
        images.append(result.images)
    assert all(np.array_equal(images[0], image) for image in images)
    write_pipeline(assemble(build_vae(TINY_VAE, 64), model), folder)
    assert (folder / "model_index.json").is_file()
