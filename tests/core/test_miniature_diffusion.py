"""The recipe of the miniature's text-to-image model, at toy sizes."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")
pytest.importorskip("diffusers")
pytest.importorskip("transformers")

from character_curator.miniature import vocabulary  # noqa: E402
from character_curator.miniature.captions import caption  # noqa: E402
from character_curator.miniature.recipe import render_data  # noqa: E402
from character_curator.miniature.recipe.critic import (  # noqa: E402
    PatchCritic,
    critic_loss,
    decoder_loss,
)
from character_curator.miniature.recipe.diffusion import (  # noqa: E402
    DiffusionRecipe,
    build_model,
    denoising_loss,
    face_weights,
    stratified_timesteps,
    tokens,
    train_diffusion,
)
from character_curator.miniature.recipe.export import (  # noqa: E402
    assemble,
    averaged_model,
    write_pipeline,
)
from character_curator.miniature.recipe.latents import (  # noqa: E402
    LatentBatch,
    LatentStream,
    as_pictures,
    encode_shards,
)
from character_curator.miniature.recipe.muon import Muon, orthogonalised  # noqa: E402
from character_curator.miniature.recipe.reading import (  # noqa: E402
    VALUES,
    caption_batch,
    teach_reading,
)
from character_curator.miniature.recipe.session import Budget  # noqa: E402
from character_curator.miniature.recipe.tokenizer import (  # noqa: E402
    POSITIONS,
    read_tokenizer,
    write_tokenizer,
)
from character_curator.miniature.recipe.vae import (  # noqa: E402
    SCALING_FACTOR,
    VaeRecipe,
    build_vae,
    normalise_latents,
    train_vae,
    unexplained_color,
)

TINY_VAE = VaeRecipe(channels=(8, 8, 8, 8), groups=4, batch=4, crop=32)
TINY = DiffusionRecipe(
    channels=(32, 32), heads=2, text_width=32, text_layers=1, text_heads=2, batch=4
)


@pytest.fixture(scope="module")
def tokenizer_folder(tmp_path_factory):
    return write_tokenizer(tmp_path_factory.mktemp("tokenizer"), vocabulary.WORDS)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    render_data.write_shards(folder, count=8, seed=1, shard_size=4, size=64)
    return folder


@pytest.fixture(scope="module")
def latents(tmp_path_factory, pictures):
    torch.manual_seed(0)
    out = tmp_path_factory.mktemp("latents")
    encode_shards(pictures, out, build_vae(TINY_VAE, 64).eval())
    return out


def test_every_word_is_one_token(tokenizer_folder):
    tokenizer = read_tokenizer(tokenizer_folder)
    parts = {part for word in vocabulary.WORDS for part in re.findall("[a-z]+", word)}
    assert len(parts) > 80
    for part in parts:
        assert tokenizer.tokenize(part) == [part + "</w>"]


def test_captions_survive_the_tokenizer(tokenizer_folder):
    tokenizer = read_tokenizer(tokenizer_folder)
    for index in range(50):
        identity, scene, rng = render_data.draw_parameters(5, index)
        text = caption(identity, scene, rng)
        numbers = tokenizer(text).input_ids
        assert len(numbers) <= POSITIONS
        decoded = tokenizer.decode(numbers, skip_special_tokens=True)
        assert re.findall("[a-z]+", decoded) == re.findall("[a-z]+", text.lower())


@settings(max_examples=60, deadline=None)
@given(text=st.text(max_size=200))
def test_any_text_can_be_encoded(tokenizer_folder, text):
    tokenizer = read_tokenizer(tokenizer_folder)
    numbers = tokens(tokenizer, [text])
    assert numbers.shape == (1, POSITIONS)
    assert int(numbers[0, 0]) == tokenizer.bos_token_id
    assert tokenizer.eos_token_id in numbers[0, 1:]
    assert int(numbers.max()) < len(tokenizer)


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


def test_shards_are_reproducible_and_kept(tmp_path, pictures):
    again = render_data.write_shards(tmp_path, count=4, seed=1, first=1, shard_size=4, size=64)
    expected = render_data.read_shard(render_data.shard_folders(pictures)[1])
    shard = render_data.read_shard(again[0])
    assert np.array_equal(shard.images, expected.images)
    assert shard.captions == expected.captions
    stamp = (again[0] / "images.npy").stat().st_mtime_ns
    render_data.write_shards(tmp_path, count=4, seed=1, first=1, shard_size=4, size=64)
    assert (again[0] / "images.npy").stat().st_mtime_ns == stamp


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 2**32), drop=st.floats(0, 1))
def test_shuffled_captions_only_lose_phrases(seed, drop):
    variants = ("portrait of a woman, red hair, park background, soft daylight",)
    text = render_data.shuffled_caption(variants, np.random.default_rng(seed), drop)
    subject, *phrases = text.split(", ")
    assert subject == "portrait of a woman"
    assert set(phrases) <= set(variants[0].split(", ")[1:])
    assert len(set(phrases)) == len(phrases)


def test_stratified_timesteps_cover_the_range():
    drawn = stratified_timesteps(50, 1000, torch.Generator().manual_seed(1))
    assert sorted((drawn // 20).tolist()) == list(range(50))


def test_latents_are_normalised_and_pictures_stay(pictures):
    torch.manual_seed(1)
    vae = build_vae(TINY_VAE, 64).eval()
    images = np.concatenate(
        [render_data.read_shard(folder).images for folder in render_data.shard_folders(pictures)]
    )
    batch = as_pictures(images)
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


def test_colour_that_the_latents_hold_is_explained():
    generator = torch.Generator().manual_seed(0)
    small = torch.rand(6, 3, 8, 8, generator=generator) * 2 - 1
    pictures = small.repeat_interleave(8, 2).repeat_interleave(8, 3)
    noise = torch.randn(6, 1, 8, 8, generator=generator)
    all_axes = torch.cat([2 * small, noise], 1)
    one_lost = torch.cat([2 * small[:, :1], 2 * small[:, 2:], noise, noise], 1)
    assert float(unexplained_color(all_axes, pictures)) < 0.02
    assert float(unexplained_color(one_lost, pictures)) > 0.2


class _StopAfter:
    """A watcher that interrupts training, as Ctrl-C does."""

    def __init__(self, advances: int) -> None:
        self.left = advances

    def start(self, stage: str, total: int) -> None:
        pass

    def advance(self, n: int = 1, note: str = "") -> None:
        self.left -= n
        if self.left < 0:
            raise KeyboardInterrupt

    def finish(self) -> None:
        pass


def _same_weights(first, second):
    pairs = zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def test_an_interrupted_vae_run_ends_like_an_undisturbed_one(tmp_path, pictures):
    options = {"budget": Budget(steps=6), "seed": 3, "recipe": TINY_VAE}
    whole = train_vae(pictures, tmp_path / "whole", **options)
    with pytest.raises(KeyboardInterrupt):
        train_vae(pictures, tmp_path / "parts", progress=_StopAfter(40), **options)
    kept = torch.load(tmp_path / "parts" / "vae-state.pt", weights_only=True)
    assert 0 < kept["step"] < 6
    resumed = train_vae(pictures, tmp_path / "parts", **options)
    assert _same_weights(whole, resumed)
    other = train_vae(pictures, tmp_path / "other", **{**options, "seed": 4})
    assert not _same_weights(whole, other)


def test_the_decoder_alone_leaves_the_latents(tmp_path, pictures):
    torch.manual_seed(5)
    vae = build_vae(TINY_VAE, 64)
    encoder = {name: tensor.clone() for name, tensor in vae.state_dict().items()}
    trained = train_vae(
        pictures,
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


def test_a_critic_makes_the_decoder_sharper(tmp_path, pictures):
    """Blurred pictures are what a critic sees through first."""
    torch.manual_seed(0)
    critic = PatchCritic(channels=(8, 12))
    sharp = as_pictures(render_data.read_shard(render_data.shard_folders(pictures)[0]).images)
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


def test_a_decoder_trains_with_a_critic_and_goes_on(tmp_path, pictures):
    def trained(folder, **options):
        torch.manual_seed(0)
        vae, critic = build_vae(TINY_VAE, 64), PatchCritic(channels=(4, 6))
        return train_vae(
            pictures, folder, budget=Budget(steps=4), recipe=TINY_VAE, decoder_only=True,
            start_from=vae, critic=critic, **options,
        )  # fmt: skip

    whole = trained(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path / "parts", progress=_StopAfter(50))
    assert _same_weights(whole, trained(tmp_path / "parts"))


def test_an_interrupted_diffusion_run_ends_like_an_undisturbed_one(
    tmp_path, latents, tokenizer_folder
):
    options = {"budget": Budget(steps=5), "seed": 3, "recipe": TINY}
    whole = train_diffusion(latents, tmp_path / "whole", tokenizer_folder, **options)
    with pytest.raises(KeyboardInterrupt):
        train_diffusion(
            latents, tmp_path / "parts", tokenizer_folder, progress=_StopAfter(50), **options
        )
    kept = torch.load(tmp_path / "parts" / "diffusion-state.pt", weights_only=True)
    assert 0 < kept["step"] < 5
    resumed = train_diffusion(latents, tmp_path / "parts", tokenizer_folder, **options)
    assert _same_weights(whole.unet, resumed.unet)
    assert _same_weights(whole.text_encoder, resumed.text_encoder)
    averaged = averaged_model(tmp_path / "whole" / "diffusion-state.pt", tokenizer_folder, TINY)
    assert _same_weights(whole.unet, averaged.unet)


def test_latents_know_where_the_face_is(pictures, latents):
    shard = render_data.read_shard(render_data.shard_folders(pictures)[0])
    cells = np.load(render_data.shard_folders(latents)[0] / "faces.npy").astype("f4")
    assert cells.shape == (8, 8, 8)
    for box, cell in zip(shard.boxes, cells, strict=False):
        mask = np.zeros((640, 640))
        x0, y0, x1, y1 = np.round(box * 10).astype(int)
        mask[y0:y1, x0:x1] = 1
        assert np.abs(mask.reshape(8, 80, 8, 80).mean((1, 3)) - cell).max() < 0.02
    assert np.array_equal(cells[4:], cells[:4, :, ::-1]), "mirrored pictures have mirrored faces"
    batch = LatentStream(latents).batch(5, torch.Generator().manual_seed(0), 0.1, 0.1)
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
    pictures = []
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
        pictures.append(result.images)
    assert all(np.array_equal(pictures[0], picture) for picture in pictures)
    write_pipeline(assemble(build_vae(TINY_VAE, 64), model), folder)
    assert (folder / "model_index.json").is_file()


def test_captions_come_with_the_numbers_of_what_they_say():
    texts, numbers = caption_batch(3, 0, 6)
    assert numbers.shape == (6, len(VALUES))
    names = list(VALUES)
    freckled = numbers[:, names.index("freckles")]
    for text, number in zip(texts, freckled, strict=True):
        assert ("freckled" in text) == (VALUES["freckles"][number] == "yes")
    assert caption_batch(3, 2, 4)[0] == texts[2:]


def test_a_text_model_learns_to_read(tokenizer_folder, tmp_path):
    small = DiffusionRecipe(channels=(32,), text_width=96, text_layers=1)
    model = build_model(tokenizer_folder, small)
    right = teach_reading(
        model.text_encoder, model.tokenizer, tmp_path / "reading.pt", budget=Budget(steps=100)
    )
    assert set(right) == set(VALUES)
    assert right["background"] > 0.5
    assert right["freckles"] > 0.75
    again = build_model(tokenizer_folder, small)
    teach_reading(
        again.text_encoder, again.tokenizer, tmp_path / "reading.pt", budget=Budget(steps=100)
    )
    for mine, theirs in zip(
        again.text_encoder.parameters(), model.text_encoder.parameters(), strict=True
    ):
        assert torch.equal(mine, theirs)
