"""Embeddings of captions, joined and chosen."""

import torch

from character_curator.training.denoisers.protocol import TextEmbeddings


def embeddings(tokens: int, value: float) -> TextEmbeddings:
    tensors = {"hidden": torch.full((1, tokens, 2), value), "pooled": torch.full((1, 4), value)}
    return TextEmbeddings(tensors)


def test_captions_of_one_length_are_joined_as_they_are():
    joined = TextEmbeddings.cat([embeddings(3, 1.0), embeddings(3, 2.0)])
    assert joined["hidden"].shape == (2, 3, 2)
    assert joined["hidden"][:, 0, 0].tolist() == [1.0, 2.0]


def test_zeros_follow_the_shorter_captions():
    joined = TextEmbeddings.cat([embeddings(3, 1.0), embeddings(5, 2.0)])
    assert joined["hidden"].shape == (2, 5, 2)
    assert joined["hidden"][0, :3].eq(1).all()
    assert joined["hidden"][0, 3:].eq(0).all()
    assert joined["hidden"][1].eq(2).all()
    assert joined["pooled"].tolist() == [[1.0] * 4, [2.0] * 4]


def test_gradients_reach_every_caption():
    one = embeddings(2, 1.0)
    one["hidden"].requires_grad_()
    TextEmbeddings.cat([one, embeddings(3, 2.0)])["hidden"].sum().backward()
    assert one["hidden"].grad.eq(1).all()


def test_zeros_follow_in_every_dimension_that_the_captions_differ_in():
    one = TextEmbeddings({"layers": torch.ones(1, 2, 3, 4)})
    other = TextEmbeddings({"layers": torch.ones(1, 2, 5, 4)})
    joined = TextEmbeddings.cat([one, other])["layers"]
    assert joined.shape == (2, 2, 5, 4)
    assert joined[0, :, :3].eq(1).all()
    assert joined[0, :, 3:].eq(0).all()
