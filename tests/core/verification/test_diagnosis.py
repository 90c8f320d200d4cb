"""Each issue is diagnosed from the figures that show it, with the cause that was measured."""

from __future__ import annotations

import json
import math
import shlex
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from character_curator import cli
from character_curator.evaluation.advice import Finding
from character_curator.verification.commands import Retold
from character_curator.verification.diagnosis import (
    COLLAPSE,
    QUALITY,
    SUBJECT,
    diagnose,
    uncovered,
)
from character_curator.verification.symptoms import (
    LoraFigures,
    Making,
    Symptoms,
    TrainingSetFigures,
    _between_seeds,
    _end_of,
)

# The demo's, as measured.
HEALTHY = Symptoms(
    TrainingSetFigures(
        images=70, quality=0.86, low=0, strangers=0.0, alike=0.0, vendi=7.7, distance=0.58,
        clusters=8, captions=17,
    ),
    LoraFigures(
        images=60, consistency=1.0, identity=0.77, quality=0.84, artefacts=0.02, vendi=6.8,
        distance=0.61, memorised=0.0, seeds=0.80, base_vendi=6.5, base_distance=0.58,
        base_artefacts=0.06, base_quality=0.84,
    ),
    Making(
        rank=16, learning_rate=2e-3, steps=400, passes=45.0, dropout=0.0, still_falling=False,
        rising=0.0, sampling_steps=20, guidance=2.5, dtype="float32",
    ),
    {"rank": 16, "alpha": 16.0, "learning_rate": 2e-3, "steps": 400, "targets": "full"},
    "miniature",
)  # fmt: skip
RECIPE = {"plan": {}, "selection": {"total": 70}}


def changed(part, **figures):
    return replace(HEALTHY, **{part: replace(getattr(HEALTHY, part), **figures)})


def found(symptoms, recipe=RECIPE):
    retold = Retold(
        Path("data/char1"), Path("char1.safetensors"), "miniature", symptoms.settings, recipe
    )
    return diagnose(symptoms, retold)


def commands(diagnoses):
    texts = [c.advice for d in diagnoses for c in d.causes] + [d.otherwise for d in diagnoses]
    return [
        text[text.index("character-curator ") :] for text in texts if "character-curator " in text
    ]


def causes(diagnoses):
    [diagnosis] = diagnoses
    return diagnosis.issue, [cause.name for cause in diagnosis.causes]


def test_a_healthy_lora_has_no_issue():
    assert found(HEALTHY) == ()


def with_set(symptoms, **figures):
    return replace(symptoms, training_set=replace(symptoms.training_set, **figures))


def test_two_people_do_not_look_like_the_subject():
    symptoms = with_set(changed("lora", consistency=0.4, identity=0.45), strangers=0.5)
    issue, named = causes(found(symptoms))
    assert issue == SUBJECT
    assert named == ["the training images show more than one person"]
    [diagnosis] = found(symptoms)
    assert "40% of 60 images are the character, wanted are 95%" in diagnosis.symptom
    assert "50% of their faces" in diagnosis.causes[0].measured
    assert "minimum_identity = 0.5 under [faces]" in diagnosis.causes[0].advice


def test_little_training_does_not_look_like_the_subject():
    symptoms = changed("lora", consistency=0.5)
    symptoms = replace(
        symptoms, making=replace(symptoms.making, steps=50, passes=6.0, rank=8, still_falling=True)
    )
    issue, named = causes(found(symptoms))
    assert (issue, named) == (SUBJECT, ["too little training", "a low rank"])
    assert any("--steps 100" in text for text in commands(found(symptoms)))
    assert any("--rank 16" in text for text in commands(found(symptoms)))


def test_low_quality_and_few_images_are_named_too():
    symptoms = with_set(changed("lora", consistency=0.5), low=3, images=12)
    named = causes(found(symptoms))[1]
    assert named == ["training images of low quality", "few training images"]


def test_one_image_repeated_collapses():
    symptoms = with_set(
        changed("lora", vendi=1.05, seeds=0.99, memorised=0.6), alike=1.0, vendi=1.0, captions=1,
        images=40, clusters=1,
    )  # fmt: skip
    issue, named = causes(found(symptoms))
    assert issue == COLLAPSE
    assert named == ["the training images lack diversity", "captions that repeat themselves"]
    [diagnosis] = found(symptoms)
    for part in ("60 images are worth 1.1 different ones", "60% repeat a training image",
                 "0.990 similar"):  # fmt: skip
        assert part in diagnosis.symptom
    assert "100% have a near-duplicate" in diagnosis.causes[0].measured


def test_a_rank_that_overfits_collapses():
    symptoms = changed("lora", memorised=0.3)
    symptoms = replace(symptoms, making=replace(symptoms.making, rank=64, passes=400.0, rising=0.1))
    issue, named = causes(found(symptoms))
    assert (issue, named) == (COLLAPSE, ["overfitting"])
    [diagnosis] = found(symptoms)
    for part in ("rank 64", "learning rate 0.002", "400 passes", "10% above its best", "30%"):
        assert part in diagnosis.causes[0].measured
    [command] = [text for text in commands(found(symptoms)) if "--rank 32" in text][:1]
    for part in ("--learning-rate 0.001", "--dropout 0.05", "char1-slower.safetensors"):
        assert part in command


def test_a_few_images_learnt_by_heart_do_not_look_like_the_subject():
    """As measured of 8 images, rank 64, 150 steps of 8, without validation."""
    symptoms = with_set(changed("lora", consistency=0.875, identity=0.69), images=8)
    symptoms = replace(symptoms, making=replace(symptoms.making, rank=64, steps=150, passes=150.0))
    assert causes(found(symptoms)) == (SUBJECT, ["few training images", "overfitting"])


def test_blurred_images_make_poor_ones():
    symptoms = with_set(changed("lora", artefacts=0.9, quality=0.5), quality=0.55, low=70)
    issue, named = causes(found(symptoms))
    assert (issue, named) == (QUALITY, ["training images of low quality"])
    [diagnosis] = found(symptoms)
    assert "0.55 on average, below 0.8" in diagnosis.causes[0].measured
    assert "minimum = 0.8 under [quality]" in diagnosis.causes[0].advice


def test_a_poor_base_and_its_sampling_are_named():
    symptoms = changed("lora", artefacts=0.3, base_artefacts=0.4)
    symptoms = replace(symptoms, making=replace(symptoms.making, dtype="float16"))
    issue, named = causes(found(symptoms))
    assert issue == QUALITY
    assert named == [
        "the base model draws poor images itself", "few sampling steps", "a low guidance scale",
        "half precision, which little GPU memory asks for",
    ]  # fmt: skip


def test_a_loss_of_quality_alone_is_an_issue():
    [diagnosis] = found(changed("lora", quality=0.7))
    assert diagnosis.issue == QUALITY
    assert "mean quality 0.70 beside 0.86" in diagnosis.symptom


def test_without_a_measured_cause_that_is_said():
    [diagnosis] = found(changed("lora", consistency=0.9))
    assert diagnosis.causes == ()
    assert "None of its usual causes was measured" in diagnosis.sentences()[1]


def test_a_folder_is_curated_by_its_command():
    symptoms = with_set(changed("lora", consistency=0.4), strangers=0.5)
    recipe = {"source": "my photos", "selection": {"total": 30}}
    [diagnosis] = found(symptoms, recipe)
    line = diagnosis.causes[0].advice.split(": ", 1)[1]
    assert shlex.split(line)[:5] == [
        "character-curator", "curate", "my photos", "--output", "data/char1",
    ]  # fmt: skip
    assert "--min-identity 0.5" in line


@pytest.mark.parametrize(
    "symptoms",
    [
        with_set(changed("lora", consistency=0.4), strangers=0.5, low=2, images=9),
        changed("lora", memorised=0.5),
        with_set(changed("lora", artefacts=0.5, base_artefacts=0.5), quality=0.5),
    ],
)
@pytest.mark.parametrize("recipe", [RECIPE, {"source": "photos", "selection": {"total": 9}}])
def test_every_command_is_understood(symptoms, recipe):
    lines = commands(found(symptoms, recipe))
    assert lines
    for line in lines:
        words = shlex.split(line.split(" (")[0].rstrip("."))
        if "PROJECT.toml" in words or words[1] == "verify":
            words = [word.rstrip("),") for word in words[:5]]
        options = cli.parser().parse_args(words[1:])
        assert callable(options.command)


def test_what_is_diagnosed_is_not_said_twice():
    diagnoses = found(changed("lora", consistency=0.4))
    findings = [
        Finding("character consistency", 0.4, "at least 0.95", ()),
        Finding("leakage", 0.5, "at most 0.1", ()),
    ]
    assert [f.figure for f in uncovered(findings, diagnoses)] == ["leakage"]
    assert [f.figure for f in uncovered(findings, ())] == ["character consistency", "leakage"]


def test_unknown_figures_are_null_in_json():
    symptoms = changed("lora", seeds=math.nan, identity=math.nan)
    values = json.loads(json.dumps(symptoms.as_mapping(), allow_nan=False))
    assert values["lora"]["seeds"] is None
    assert found(symptoms) == ()


def test_similarity_between_seeds_is_of_one_prompt_alone():
    table = pl.DataFrame(
        {"series": ["grid", "grid", "grid", "base"], "prompt": ["a", "a", "b", "a"]}
    )
    vectors = np.array([[1, 0], [0.6, 0.8], [0, 1], [1, 0]], dtype=np.float32)
    assert _between_seeds(table, vectors) == pytest.approx(0.6)
    assert math.isnan(_between_seeds(table.filter(pl.col("prompt") == "b"), vectors[2:3]))


def test_how_a_loss_ended():
    def history(losses):
        return pl.DataFrame({"epoch": range(len(losses)), "validation_loss": losses})

    assert _end_of(None) == (None, None)
    assert _end_of(history([1.0, 0.9])) == (None, None)
    falling, rising = _end_of(history([1 - 0.05 * i for i in range(11)]))
    assert falling is True
    assert rising == 0
    falling, rising = _end_of(history([1.0, 0.5, 0.5, 0.5, 0.5, 0.5, 0.55]))
    assert falling is False
    assert rising == pytest.approx(0.1)
