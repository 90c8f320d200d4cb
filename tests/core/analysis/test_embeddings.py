"""Embeddings: open_clip's own numbers, and diversity by its definition."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from character_curator.analysis.decoding import read_image
from character_curator.analysis.diversity import mean_pairwise_distance, vendi_score
from character_curator.analysis.embed import embed
from character_curator.analysis.embeddings import ClipModelError, Embedder, text_vectors
from character_curator.features import FeatureStore
from character_curator.imageset import ImageSet
from character_curator.rejection_reasons import Rejection
from tests.support.tiny_analysis import save_clip


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return save_clip(tmp_path_factory.mktemp("models") / "clip")


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    for number, mode in enumerate(["RGB", "RGBA", "L", "RGB", "RGB", "RGB", "RGB"]):
        pixels = rng.integers(0, 256, (50, 40 + 7 * number, 4), dtype=np.uint8)
        image = Image.fromarray(pixels, "RGBA").convert("RGB").convert(mode)
        image.save(tmp_path / f"{number}.png")
    return tmp_path


def test_pixels_reach_the_model_as_from_the_file(folder, clip):
    import open_clip

    model, _, transform = open_clip.create_model_and_transforms(f"local-dir:{clip}")
    embedder = Embedder(clip)
    for path in sorted(folder.iterdir()):
        expected = transform(Image.open(path))
        found = embedder.preprocess(read_image(path))
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)
        with torch.inference_mode():
            vector = model.eval().encode_image(expected[None], normalize=True)[0].numpy()
        np.testing.assert_allclose(embedder.embed_images([read_image(path)])[0], vector, atol=1e-5)


def test_texts_are_embedded_by_the_same_model(clip):
    import open_clip

    model, _, _ = open_clip.create_model_and_transforms(f"local-dir:{clip}")
    tokens = open_clip.get_tokenizer(f"local-dir:{clip}")(["a portrait", "a park"])
    with torch.inference_mode():
        expected = model.eval().encode_text(tokens, normalize=True).numpy()
    found = Embedder(f"local-dir:{clip}").embed_texts(["a portrait", "a park"])
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_known_texts_need_no_model(clip):
    with FeatureStore() as store:
        first = text_vectors(["a portrait", "a park"], Embedder(clip), store)
        assert store.computed["text"] == 2
        np.testing.assert_allclose(first, Embedder(clip).embed_texts(["a portrait", "a park"]))
        again = text_vectors(["a park", "a beach", "a portrait"], Embedder(clip), store)
        assert store.computed["text"] == 3
        np.testing.assert_array_equal(again[[2, 0]], first)
        embedder = Embedder(clip)
        text_vectors(["a beach"], embedder, store)
        assert "_loaded" not in vars(embedder)


def test_the_stage_embeds_what_is_accepted_once(folder, clip):
    (folder / "equal to 0.png").write_bytes((folder / "0.png").read_bytes())
    images = ImageSet.from_folder(folder)
    mask = np.array([name == "3.png" for name in images.table["path"]])
    images = images.reject(mask, Rejection.NO_FACE, "none")
    with FeatureStore() as store:
        found = embed(images, Embedder(clip, batch_size=4), store)
        assert store.computed["embedding"] == 6  # equal files count once
        assert found.table["embedding"].is_null().to_list() == mask.tolist()
        vectors = found.accepted.embeddings()
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=2e-3)
        expected = Embedder(clip).embed_images([read_image(p) for p in found.accepted.paths()])
        np.testing.assert_allclose(vectors, expected, atol=1e-3)
        for path in images.paths():
            path.unlink()
        assert embed(images, Embedder(clip), store).table.equals(found.table)
        assert store.computed["embedding"] == 6
    assert "embedding" not in images.table.columns


def test_other_weights_are_another_model(tmp_path, clip):
    other = save_clip(tmp_path / "other", seed=1)
    assert Embedder(clip).fingerprint == Embedder(f"local-dir:{clip}").fingerprint
    assert Embedder(other).fingerprint != Embedder(clip).fingerprint


def test_an_architecture_takes_a_tag_or_a_file(clip):
    tags = {Embedder("ViT-B-32", tag).fingerprint for tag in ("openai", "laion2b_s34b_b79k")}
    weights = str(clip / "open_clip_model.safetensors")
    tags.add(Embedder("ViT-B-32", weights).fingerprint)
    assert len(tags) == 3
    assert Embedder("ViT-B-32").fingerprint == Embedder("ViT-B-32", "openai").fingerprint


@pytest.mark.parametrize(
    ("model", "tag", "words"),
    [("ViT-B-33", None, "no architecture 'ViT-B-33'.*Similar ones: ViT-B"),
     ("ViT-B-32", "nonsense", "Known: .*openai")],
)  # fmt: skip
def test_unknown_models_are_named(model, tag, words):
    with pytest.raises(ClipModelError, match=words):
        _ = Embedder(model, tag).fingerprint


def test_a_folder_without_a_model_is_named(tmp_path):
    with pytest.raises(ClipModelError, match="open_clip_config"):
        _ = Embedder(tmp_path).fingerprint
    (tmp_path / "open_clip_config.json").write_text("{}")
    with pytest.raises(ClipModelError, match="cannot be loaded"):
        Embedder(tmp_path).embed_texts(["x"])


def test_a_very_slim_image_takes_no_memory(clip):
    tensor = Embedder(clip).preprocess(np.full((1, 60_000, 3), 9, np.uint8))
    assert tensor.shape == (3, 32, 32)


MATRICES = hnp.arrays(
    np.float64, st.tuples(st.integers(2, 12), st.integers(2, 20)), elements=st.floats(-1, 1)
).filter(lambda x: (np.linalg.norm(x, axis=1) > 0.1).all())


@given(MATRICES)
def test_vendi_score_is_its_definition(x):
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    eigenvalues = np.linalg.eigvalsh(unit @ unit.T / len(x))
    eigenvalues = eigenvalues[eigenvalues > 1e-12]
    expected = np.exp(-np.sum(eigenvalues * np.log(eigenvalues)))
    assert vendi_score(x) == pytest.approx(expected, rel=1e-6)
    assert 1 - 1e-9 <= vendi_score(x) <= len(x) + 1e-6


def test_vendi_score_counts_different_images():
    assert vendi_score(np.eye(6)) == pytest.approx(6)
    assert vendi_score(np.repeat(np.eye(3), 40, axis=0)) == pytest.approx(3)
    assert vendi_score(np.ones((5, 3))) == pytest.approx(1)
    assert vendi_score(np.zeros((0, 3))) == 0


@given(MATRICES)
def test_mean_distance_is_that_of_all_pairs(x):
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    pairs = [1 - unit[i] @ unit[j] for i in range(len(x)) for j in range(i)]
    assert mean_pairwise_distance(x) == pytest.approx(np.mean(pairs), abs=1e-9)


def test_one_image_has_no_distance():
    assert mean_pairwise_distance(np.ones((1, 4))) == 0
