"""The recipe of the miniature's autoencoder, and of the critic that sharpens its decoder."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("diffusers")
pytest.importorskip("transformers")

from miniature.data import renders as render_data  # noqa: E402
from miniature.data.latents import as_images  # noqa: E402
from miniature.recipe.critic import PatchCritic, critic_loss, decoder_loss  # noqa: E402
from miniature.recipe.session import Budget  # noqa: E402
from miniature.recipe.vae import (  # noqa: E402
    SCALING_FACTOR,
    build_vae,
    normalise_latents,
    train_vae,
    unexplained_color,
)
from tests.support.tiny_recipe import TINY_VAE, same_weights  # noqa: E402
from tests.support.watchers import CancelAfter  # noqa: E402


def test_latents_are_normalised_and_images_stay(drawn_shards):
    torch.manual_seed(1)
    vae = build_vae(TINY_VAE, 64).eval()
    images = np.concatenate(
        [
            render_data.read_shard(folder).images
            for folder in render_data.shard_folders(drawn_shards)
        ]
    )
    batch = as_images(images)
    with torch.no_grad():
        before = vae.encode(batch).latent_dist
        decoded = vae.decode(before.mean).sample
    normalise_latents(vae, batch)
    with torch.no_grad():
        after = vae.encode(batch).latent_dist
        scaled = after.mean * SCALING_FACTOR
        assert torch.allclose(scaled.mean((0, 2, 3)), torch.zeros(4), atol=1e-3)
        assert torch.allclose(scaled.std((0, 2, 3)), torch.ones(4), atol=1e-3)
        assert torch.allclose(vae.decode(after.mean).sample, decoded, atol=1e-3)
        ratio = (after.std / before.std) / (after.mean.std((0, 2, 3)) / before.mean.std((0, 2, 3)))[
            None, :, None, None
        ]
        assert torch.allclose(ratio, torch.ones_like(ratio), atol=1e-2)


def test_color_that_the_latents_hold_is_explained():
    generator = torch.Generator().manual_seed(0)
    small = torch.rand(6, 3, 8, 8, generator=generator) * 2 - 1
    images = small.repeat_interleave(8, 2).repeat_interleave(8, 3)
    noise = torch.randn(6, 1, 8, 8, generator=generator)
    all_axes = torch.cat([2 * small, noise], 1)
    one_lost = torch.cat([2 * small[:, :1], 2 * small[:, 2:], noise, noise], 1)
    assert float(unexplained_color(all_axes, images)) < 0.02
    assert float(unexplained_color(one_lost, images)) > 0.2


def test_an_interrupted_vae_run_ends_like_an_undisturbed_one(tmp_path, drawn_shards):
    options = {"budget": Budget(steps=6), "seed": 3, "recipe": TINY_VAE}
    whole = train_vae(drawn_shards, tmp_path / "whole", **options)
    with pytest.raises(KeyboardInterrupt):
        train_vae(
            drawn_shards,
            tmp_path / "parts",
            progress=CancelAfter(41, error=KeyboardInterrupt),
            **options,
        )
    kept = torch.load(tmp_path / "parts" / "vae-state.pt", weights_only=True)
    assert 0 < kept["step"] < 6
    resumed = train_vae(drawn_shards, tmp_path / "parts", **options)
    assert same_weights(whole, resumed)
    other = train_vae(drawn_shards, tmp_path / "other", **{**options, "seed": 4})
    assert not same_weights(whole, other)


def test_the_decoder_alone_leaves_the_latents(tmp_path, drawn_shards):
    torch.manual_seed(5)
    vae = build_vae(TINY_VAE, 64)
    encoder = {name: tensor.clone() for name, tensor in vae.state_dict().items()}
    trained = train_vae(
        drawn_shards,
        tmp_path,
        budget=Budget(steps=2),
        recipe=TINY_VAE,
        decoder_only=True,
        start_from=vae,
        latent_noise=0.05,
    )
    changed = {
        name.split(".")[0]
        for name, tensor in trained.state_dict().items()
        if not torch.equal(tensor, encoder[name])
    }
    assert changed == {"decoder", "post_quant_conv"}


def test_the_critic_and_the_decoder_pull_at_their_own_weights_alone():
    torch.manual_seed(0)
    critic = PatchCritic(channels=(4, 6))
    drawn, noise = torch.rand(2, 3, 32, 32), torch.randn(2, 3, 32, 32)
    decoder = torch.nn.Conv2d(3, 3, 1)
    decoder_loss(critic, decoder(noise)).backward()
    assert decoder.weight.grad is not None
    assert all(parameter.grad is None for parameter in critic.parameters())
    decoder.zero_grad()
    critic_loss(critic, drawn, decoder(noise)).backward()
    assert decoder.weight.grad is None
    assert all(parameter.grad is not None for parameter in critic.parameters())


def test_a_critic_makes_the_decoder_sharper(tmp_path, drawn_shards):
    """Blurred images are what a critic sees through first."""
    torch.manual_seed(0)
    critic = PatchCritic(channels=(8, 12))
    sharp = as_images(render_data.read_shard(render_data.shard_folders(drawn_shards)[0]).images)
    blurred = torch.nn.functional.avg_pool2d(sharp, 5, 1, 2)
    optimizer = torch.optim.Adam(critic.parameters(), 1e-2)
    for _ in range(60):
        optimizer.zero_grad()
        critic_loss(critic, sharp, blurred).backward()
        optimizer.step()
    critic.eval()
    assert float(decoder_loss(critic, sharp)) < float(decoder_loss(critic, blurred)) - 0.2
    strength = torch.zeros(1, requires_grad=True)
    decoder_loss(critic, blurred + strength * (blurred - sharp)).backward()
    assert float(strength.grad) > 0, "less blur is what the critic asks for"


def test_a_decoder_trains_with_a_critic_and_goes_on(tmp_path, drawn_shards):
    def trained(folder, **options):
        torch.manual_seed(0)
        vae, critic = build_vae(TINY_VAE, 64), PatchCritic(channels=(4, 6))
        return train_vae(
            drawn_shards, folder, budget=Budget(steps=4), recipe=TINY_VAE, decoder_only=True,
            start_from=vae, critic=critic, **options,
        )  # fmt: skip

    whole = trained(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path / "parts", progress=CancelAfter(51, error=KeyboardInterrupt))
    assert same_weights(whole, trained(tmp_path / "parts"))
