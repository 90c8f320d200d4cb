"""The loop: it learns, keeps the best weights, averages, clips, accumulates and stops in time."""

from __future__ import annotations

import dataclasses
import hashlib

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from character_curator.features import FeatureStore
from character_curator.training import Callbacks, load_weights
from character_curator.training.data.buckets import Size
from character_curator.training.data.cache import EncodedFeatures
from character_curator.training.data.prepare import prepare
from character_curator.training.loop.gradients import add_gradients
from character_curator.training.loop.run import TrainingRun
from character_curator.training.loop.state import StateMismatchError
from character_curator.training.settings import SettingsError
from tests.support.tiny_denoiser import TinyDenoiser, make_examples
from tests.support.training_runs import SETTINGS, assert_same, run, weights
from tests.support.watchers import Cancelled


def test_it_learns_and_says_so(examples, tmp_path):
    settings = SETTINGS.replace(epochs=20, ema_decay=None, save_every=None)
    seen = []
    result, denoiser = run(
        examples, tmp_path / "run", settings, callbacks=Callbacks(on_epoch=seen.append)
    )
    history = result.history
    assert history["epoch"].to_list() == list(range(21)) == [report.epoch for report in seen]
    assert history["validation_loss"][-1] < 0.8 * history["validation_loss"][0]
    losses = dict(zip(history["epoch"], history["validation_loss"], strict=True))
    assert result.best_epoch == min(range(1, 21), key=losses.__getitem__)
    assert result.best_loss == losses[result.best_epoch]
    assert 1 <= result.convergence_epoch <= 20
    assert result.stopped == "completed"
    assert result.steps == history["step"][-1]
    assert set(history["pictures"].to_list()[1:]) == {8}
    assert len(result.held_out) == 2
    best = weights(result.best)
    assert all(torch.equal(best[n], p) for n, p in denoiser.parameters.items())


def test_best_weights_have_the_best_loss(examples, tmp_path):
    result, denoiser = run(examples, tmp_path / "run", SETTINGS.replace(epochs=6))
    again = SETTINGS.replace(epochs=1, ema_decay=None)
    seen = []

    def stop(report):
        seen.append(report.validation_loss)
        raise Cancelled

    with pytest.raises(Cancelled):
        run(examples, tmp_path / "other", again, denoiser, callbacks=Callbacks(on_epoch=stop))
    assert seen == [result.best_loss]


@pytest.mark.parametrize("text", [False, True], ids=["frozen", "trained"])
def test_accumulated_batches_equal_one_large_batch(examples, tmp_path, text):
    settings = SETTINGS.replace(train_text_encoder=text, prior_weight=0.5)
    several = [
        dataclasses.replace(example, prior=i % 3 == 0)
        for i, example in enumerate(e for e in examples if e.size == Size(64, 64))
    ]

    def gradients(batches):
        denoiser = TinyDenoiser()
        denoiser.network.eval()  # dropout is drawn for a batch as a whole
        if text:
            denoiser.text.requires_grad_(True)
        features = EncodedFeatures(denoiser, FeatureStore())
        data = prepare(denoiser, several, settings.replace(validation_share=0), features)
        loss = add_gradients(denoiser, data, batches, settings, denoiser.device, (1, 0))
        found = [*denoiser.network.parameters(), *(denoiser.text.parameters() if text else ())]
        return loss, torch.cat([p.grad.flatten() for p in found])

    large_loss, large = gradients([(0, 1, 2, 3, 4)])
    for split in ([(0,), (1,), (2,), (3,), (4,)], [(0, 1, 2), (3, 4)]):
        loss, accumulated = gradients(split)
        assert loss == pytest.approx(large_loss, rel=1e-5)
        torch.testing.assert_close(accumulated, large, rtol=1e-4, atol=1e-6)
    assert large.abs().max() > 1e-3


def seeded(*parts):
    """A generator of what names it: the first 63 bits of the SHA-256 of the parts."""
    digest = hashlib.sha256("\n".join(map(str, parts)).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)


def counted(predicted, target, settings, snr, time):
    """What each element's error counts, by torch's own functions."""
    delta = {
        "constant": settings.huber_delta,
        "exponential": settings.huber_delta ** (time / 1000),
        "snr": (1 - settings.huber_delta) / (1 + snr**-0.5) ** 2 + settings.huber_delta,
    }[settings.huber_schedule]
    options = {"reduction": "none"}
    if settings.loss == "huber":
        return 2 * F.huber_loss(predicted, target, delta=delta, **options)
    if settings.loss == "smooth_l1":
        return 2 * F.smooth_l1_loss(predicted, target, beta=delta, **options)
    return F.mse_loss(predicted, target, **options)


def defined_loss(denoiser, examples, settings, moment):
    """The loss of one step on whole images of one size, written down row by row."""
    total = 0.0
    for i, example in enumerate(examples):
        source = seeded("row", settings.seed, *moment, i)
        pixels = torch.from_numpy(np.array(Image.open(example.path))).permute(2, 0, 1)[None]
        clean = denoiser.encode_pixels(pixels / 127.5 - 1, None)
        time = denoiser.sample_timesteps(1, source)
        noise = torch.randn(clean.shape, generator=source)
        noise = noise + settings.noise_offset * torch.randn((1, 4, 1, 1), generator=source)
        dropped = float(torch.rand((), generator=source)) < settings.caption_dropout
        text = denoiser.encode_text(["" if dropped else example.caption])
        alpha = denoiser.alphas[time]
        noisy = alpha.sqrt() * clean + (1 - alpha).sqrt() * noise
        target = {
            "epsilon": noise,
            "v_prediction": alpha.sqrt() * noise - (1 - alpha).sqrt() * clean,
            "flow": noise - clean,
        }[denoiser.prediction]
        predicted = denoiser.predict(noisy, time, text, [(64, 64)])
        snr = float(alpha / (1 - alpha))
        error = counted(predicted, target, settings, snr, float(time))
        left, top, right, bottom = (int(edge) // 8 for edge in example.face)
        mask = torch.ones(8, 8)
        mask[top:bottom, left:right] = settings.face_weight
        loss = float((error * mask / mask.mean()).mean())
        if denoiser.prediction != "flow":
            capped = min(snr, settings.min_snr_gamma)
            loss *= capped / (snr if denoiser.prediction == "epsilon" else snr + 1)
        total += loss * (settings.prior_weight if example.prior else 1)
    return total / len(examples)


@pytest.mark.parametrize("moment", [(1, 0), (2, 3)])
@pytest.mark.parametrize("seed", [0, 7])
@pytest.mark.parametrize(
    ("prediction", "loss", "schedule"),
    [
        ("epsilon", "mse", "constant"),
        ("v_prediction", "mse", "constant"),
        ("flow", "mse", "constant"),
        ("epsilon", "huber", "constant"),
        ("epsilon", "smooth_l1", "snr"),
        ("v_prediction", "huber", "snr"),
        ("v_prediction", "smooth_l1", "exponential"),
        ("flow", "huber", "exponential"),
        ("flow", "smooth_l1", "constant"),
    ],
)
def test_the_loss_of_a_step_is_the_one_defined(tmp_path, moment, seed, prediction, loss, schedule):
    settings = SETTINGS.replace(seed=seed, loss=loss, huber_schedule=schedule, huber_delta=0.4,
        prior_weight=0.25, caption_dropout=0.5, noise_offset=0.3,
        face_weight=3.0, min_snr_gamma=2.0, validation_share=0,
    )  # fmt: skip
    examples = [
        dataclasses.replace(example, prior=i % 3 == 1)
        for i, example in enumerate(make_examples(tmp_path / "pictures", 8))
    ]
    denoiser = TinyDenoiser(prediction)
    denoiser.network.eval()  # dropout is drawn for a batch as a whole
    data = prepare(denoiser, examples, settings, EncodedFeatures(denoiser, FeatureStore()))
    with torch.no_grad():
        expected = defined_loss(denoiser, examples, settings, moment)
    for batches in ([tuple(range(8))], [(0, 1, 2), (3, 4, 5, 6, 7)]):
        loss = add_gradients(denoiser, data, batches, settings, denoiser.device, moment)
        assert loss == pytest.approx(expected, rel=1e-5)


def test_dropout_within_adapters_depends_on_seed_moment_and_batch(examples):
    several = [example for example in examples if example.size == Size(64, 64)]
    settings = SETTINGS.replace(validation_share=0)

    def seeds(moment, batches, **changes):
        """The state of the generator that each batch's dropout begins with."""
        denoiser, found = TinyDenoiser(), []
        changed = settings.replace(**changes)
        data = prepare(denoiser, several, changed, EncodedFeatures(denoiser, FeatureStore()))
        denoiser.network.dropout.register_forward_pre_hook(
            lambda *_: found.append(torch.initial_seed())
        )
        add_gradients(denoiser, data, batches, changed, denoiser.device, moment)
        return found

    plain = seeds((1, 0), [(0, 1), (2,)])
    assert plain == [
        seeded("dropout", 0, 1, 0, 0).initial_seed(),
        seeded("dropout", 0, 1, 0, 2).initial_seed(),
    ]
    others = [seeds((2, 0), [(0, 1)]), seeds((1, 1), [(0, 1)]), seeds((1, 0), [(0, 1)], seed=5)]
    assert len({*plain, *(found[0] for found in others)}) == 5


def test_gradients_are_clipped(examples, tmp_path):
    settings = SETTINGS.replace(clip_norm=1e-3, epochs=1)
    denoiser = TinyDenoiser()
    features = EncodedFeatures(denoiser, FeatureStore())
    data = prepare(denoiser, examples, settings, features)
    tried = TrainingRun(denoiser, denoiser.parameters, data, settings, tmp_path)
    report = tried.take_step(data.steps(1, settings)[0])
    norm = torch.linalg.vector_norm(
        torch.cat([p.grad.flatten() for p in denoiser.parameters.values()])
    )
    assert float(norm) == pytest.approx(1e-3, rel=1e-3)
    assert report.gradient_norm > 1e-2


def test_average_follows_its_definition(examples, tmp_path):
    settings = SETTINGS.replace(epochs=1, accumulation=1)
    denoiser = TinyDenoiser()
    expected = {n: p.detach().clone() for n, p in denoiser.parameters.items()}
    taken = []

    def average(report):
        decay = min(0.95, (1 + len(taken)) / (10 + len(taken)))
        taken.append(report)
        for name, parameter in denoiser.parameters.items():
            expected[name] = decay * expected[name] + (1 - decay) * parameter.detach()

    result, _ = run(
        examples, tmp_path / "run", settings, denoiser, callbacks=Callbacks(on_step=average)
    )
    torch.testing.assert_close(weights(result.last), expected)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "flow"])
def test_every_prediction_and_bf16(examples, tmp_path, prediction):
    settings = SETTINGS.replace(precision="bf16", epochs=8, accumulation=1)
    result, denoiser = run(examples, tmp_path / "run", settings, TinyDenoiser(prediction))
    assert result.history["validation_loss"][-1] < result.history["validation_loss"][0]
    assert {p.dtype for p in denoiser.parameters.values()} == {torch.float32}


def test_prior_images_go_along_one_each(examples, tmp_path):
    priors = make_examples(tmp_path / "priors", 3, prior=True)
    result, _ = run([*examples, *priors], tmp_path / "run")
    assert result.history["pictures"].to_list()[1:] == [16] * 4
    assert len(result.held_out) == 2


def test_early_stop_at_the_plateau(examples, tmp_path):
    settings = SETTINGS.replace(epochs=50, patience=2, min_improvement=0.5, ema_decay=None)
    result, _ = run(examples, tmp_path / "run", settings)
    assert result.stopped == "plateau"
    assert result.history["epoch"][-1] < 50
    again, denoiser = run(examples, tmp_path / "run", settings)
    assert denoiser.calls["predict"] == 0
    assert again.stopped == "plateau"


def test_checkpoints_and_samples_on_the_way(examples, tmp_path):
    settings = SETTINGS.replace(checkpoint_every=2, sample_every=2)
    kept, sampled = [], []
    denoiser = TinyDenoiser()

    def sample(epoch):
        torch.manual_seed(5)
        assert not denoiser.network.training
        sampled.append((epoch, {n: p.detach().clone() for n, p in denoiser.parameters.items()}))

    callbacks = Callbacks(on_sample=sample, on_checkpoint=lambda *seen: kept.append(seen))
    result, _ = run(examples, tmp_path / "run", settings, denoiser, callbacks=callbacks)
    assert [epoch for epoch, _ in sampled] == [0, 2, 4]
    assert [(epoch, path.name) for epoch, path in kept] == [
        (2, "epoch-0002.safetensors"),
        (4, "epoch-0004.safetensors"),
    ]
    torch.testing.assert_close(weights(kept[0][1]), sampled[1][1])
    plain, _ = run(examples, tmp_path / "plain")
    assert_same(result.last, plain.last)


def test_a_checkpoint_goes_back_into_its_parameters(examples, tmp_path):
    run(examples, tmp_path / "run", SETTINGS.replace(checkpoint_every=2))
    path = tmp_path / "run" / "epoch-0002.safetensors"
    denoiser = TinyDenoiser(seed=3)
    assert load_weights(path, denoiser.parameters) == 2
    kept = weights(path)
    assert all(torch.equal(kept[name], p) for name, p in denoiser.parameters.items())
    with pytest.raises(StateMismatchError, match="other adapters"):
        load_weights(path, dict(denoiser.text.named_parameters()))


def begun(examples, folder, **changes):
    """A run that has taken no step yet; the validation losses are the test's."""
    settings = SETTINGS.replace(**changes)
    denoiser = TinyDenoiser()
    data = prepare(denoiser, examples, settings, EncodedFeatures(denoiser, FeatureStore()))
    return TrainingRun(denoiser, denoiser.parameters, data, settings, folder)


def test_a_resumed_run_knows_its_best_epoch_and_how_long_it_has_waited(examples, tmp_path):
    first = begun(examples, tmp_path, epochs=9, patience=2)
    for loss in (1.0, 0.5, 0.9):
        first.finish_epoch(loss)
    resumed = begun(examples, tmp_path, epochs=9, patience=2)
    assert resumed.resume()
    assert resumed.stopped is None
    resumed.finish_epoch(0.7)
    assert resumed.stopped == "plateau"
    result = resumed.result()
    assert (result.best_epoch, result.best_loss) == (1, 0.5)


def test_of_equal_losses_the_earlier_epoch_is_the_best(examples, tmp_path):
    run = begun(examples, tmp_path)
    for loss in (1.0, 0.5, 0.5):
        run.finish_epoch(loss)
    assert run.result().best_epoch == 1


def test_the_loss_of_an_epoch_is_the_mean_over_its_images(examples, tmp_path):
    settings = SETTINGS.replace(epochs=2, batch_size=3, accumulation=1)
    steps = []
    result, _ = run(examples, tmp_path, settings, callbacks=Callbacks(on_step=steps.append))
    assert len({step.pictures for step in steps}) > 1
    for epoch in (1, 2):
        own = [step for step in steps if step.epoch == epoch]
        mean = sum(s.loss * s.pictures for s in own) / sum(s.pictures for s in own)
        assert result.history["loss"][epoch] == pytest.approx(mean)


def test_the_last_epoch_is_validated_whenever_it_comes(examples, tmp_path):
    result, _ = run(examples, tmp_path, SETTINGS.replace(epochs=4, validate_every=3))
    losses = result.history["validation_loss"].to_list()
    assert [loss is not None for loss in losses] == [True, False, False, True, True]


def test_the_validation_loss_is_that_of_squares_whatever_is_trained(examples, tmp_path):
    first = {}
    for loss in ("mse", "huber", "smooth_l1"):
        result, _ = run(examples, tmp_path / loss, SETTINGS.replace(loss=loss, epochs=1))
        first[loss] = result.history["validation_loss"][0]
    assert first["mse"] == first["huber"] == first["smooth_l1"]


def test_a_schedule_of_the_ratio_does_not_suit_a_flow(examples, tmp_path):
    settings = SETTINGS.replace(loss="huber", huber_schedule="snr")
    with pytest.raises(SettingsError, match="predicts a flow"):
        run(examples, tmp_path, settings, TinyDenoiser("flow"))
