"""Fixtures of the recipe's tests."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="session")
def tokenizer_folder(tmp_path_factory):
    """The folder of a tokenizer of the miniature's words; to be read only."""
    from miniature import vocabulary
    from miniature.recipe.tokenizer import write_tokenizer

    return write_tokenizer(tmp_path_factory.mktemp("tokenizer"), vocabulary.WORDS)


@pytest.fixture(scope="session")
def drawn_shards(tmp_path_factory):
    """The folder of eight drawn portraits in the layout of the recipe's data; to be read only."""
    from miniature.data import renders as render_data

    folder = tmp_path_factory.mktemp("pictures")
    render_data.write_shards(folder, count=8, seed=1, shard_size=4, size=64)
    return folder


@pytest.fixture(scope="session")
def latent_shards(tmp_path_factory, drawn_shards):
    """The folder of the portraits' latents, from an autoencoder of random weights."""
    import torch

    from miniature.data.latents import encode_shards
    from miniature.recipe.vae import build_vae
    from tests.support.tiny_recipe import TINY_VAE

    torch.manual_seed(0)
    out = tmp_path_factory.mktemp("latents")
    encode_shards(drawn_shards, out, build_vae(TINY_VAE, 64).eval())
    return out
