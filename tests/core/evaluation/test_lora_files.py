"""An evaluation from end to end: the miniature's models, real files, few images."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import polars as pl
import pytest
import torch
from PIL import Image

from character_curator import miniature
from character_curator.analysis.pixels import LostImagesError
from character_curator.evaluation import Setup, evaluate
from character_curator.evaluation.images import NoReferenceError
from character_curator.evaluation.lora_files import names_of
from character_curator.evaluation.threshold import ThresholdRule
from character_curator.features import FeatureStore
from character_curator.generation.diffusers_backend import DiffusersBackend
from character_curator.lora import file as lora_file
from character_curator.lora.adapters import LoraSettings, inject
from character_curator.lora.header import LoraCard, metadata
from character_curator.progress import Progress
from character_curator.training.denoisers.load import load
from tests.support.tiny_analysis import portrait

pytestmark = pytest.mark.skipif(
    not (miniature.DIFFUSION_PATH.is_dir() and miniature.CLIP_PATH.is_dir()),
    reason="the miniature's weights are not here",
)

RECIPE = """
[model]
path = "miniature"
steps = 2
guidance = 2.0
batch_size = 4

[plan]
seeds = [1]
caption = "portrait of {trigger} {class_word}, {scenario}"

[[subjects]]
name = "char1"
trigger = "char1"
class_word = "woman"
description = "freckled woman, wavy red hair"

[faces]
pack = "miniature"

[clip]
model = "miniature"
"""


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dataset")
    for number in range(6):
        cv2.imwrite(str(folder / f"p{number}.png"), portrait(number))
        (folder / f"p{number}.txt").write_text("portrait of char1 woman, red hoodie")
    (folder / "recipe.toml").write_text(RECIPE)
    return folder


@pytest.fixture(scope="module")
def loras(tmp_path_factory):
    """Three files: one without effect, a plain one and a DoRA one of random weights."""
    folder = tmp_path_factory.mktemp("loras")
    denoiser = load("miniature", device="cpu")
    for name, spread, dora in (("nothing", 0.0, False), ("plain", 0.5, False), ("dora", 0.5, True)):
        settings = LoraSettings(rank=2, alpha=2.0, dora=dora)
        adapters = inject({"denoiser": denoiser.module()}, settings)
        torch.manual_seed(0)
        state = {
            key: torch.randn_like(value) * spread if "lora_B" in key else value
            for key, value in adapters.state_dict().items()
        }
        adapters.load_state_dict(state)
        tensors = lora_file.tensors_of(adapters, denoiser.file_key)
        card = LoraCard(name, "stable-diffusion-v1", trigger_phrase="char1")
        lora_file.write(folder / f"{name}.safetensors", tensors, metadata(card, settings, tensors))
        adapters.remove()
    return folder


def setup_of(dataset, **options):
    return Setup.of_dataset(
        dataset, count=4, rule=ThresholdRule(minimum_others=1, **options.pop("rule", {})), **options
    )


@pytest.fixture(scope="module")
def results(dataset, loras, tmp_path_factory):
    output = tmp_path_factory.mktemp("evaluation")
    files = [loras / f"{name}.safetensors" for name in ("nothing", "plain", "dora")]
    return evaluate(files, dataset, setup_of(dataset), output), output, files


class LosesImages(Progress):
    """Takes an evaluation's images away before they are measured."""

    def __init__(self, folder):
        self.folder, self.stages = folder, []

    def start(self, stage, total):
        self.stages.append(stage)
        if self.stages.count("Measuring") == 4:  # the dataset, the base's two series, and these
            shutil.rmtree(self.folder, ignore_errors=True)


def test_images_that_are_lost_before_they_are_measured_are_no_figures(results, dataset, tmp_path):
    _, output, files = results
    shutil.copytree(output, tmp_path / "again")
    (tmp_path / "again/features.sqlite").unlink()
    folder = tmp_path / "again/nothing"
    (folder / "summary.json").unlink()
    with pytest.raises(LostImagesError, match=r"17 of 17 images .* Run the same again"):
        evaluate(
            files[:1], dataset, setup_of(dataset), tmp_path / "again",
            progress=LosesImages(folder / "pictures"),
        )  # fmt: skip
    assert not (folder / "summary.json").exists()


def pixels(root, table):
    return np.stack([np.asarray(Image.open(root / path)) for path in table["path"]])


def test_every_file_has_its_table_sheet_and_summary(results):
    evaluations, output, files = results
    assert [e.file for e in evaluations] == files
    for evaluation in evaluations:
        table = pl.read_parquet(evaluation.folder / "pictures.parquet")
        counts = dict(table.group_by("series").len().iter_rows())
        assert counts == {"trigger": 4, "class": 4, "grid": 9, "base": 4, "base class": 4}
        assert all((output / path).is_file() for path in table["path"])
        wanted = {
            "prompt", "noise_seed", "face_count", "one_face", "identity_similarity", "quality",
            "adherence", "artefact", "artefact_reason", "nearest_training", "nearest_distance",
            "is_character", "rating", "rating_name",
        }  # fmt: skip
        assert wanted <= set(table.columns)
        with Image.open(evaluation.folder / "sheet.png") as image:
            assert image.width > 9 * 128
        summary = json.loads((evaluation.folder / "summary.json").read_text())
        assert summary["series"]["grid"]["pictures"] == 9
        assert summary["identity_threshold"]["source"] == evaluation.threshold.source
        assert summary["trigger"] == "char1"


def test_series_differ_in_nothing_but_how_the_person_is_named(results):
    table = results[0][1].table
    rows = {
        name: table.filter(pl.col("series") == name).sort("scenario")
        for name in ("trigger", "class", "base", "base class")
    }
    for part in rows.values():
        assert part["noise_seed"].to_list() == rows["trigger"]["noise_seed"].to_list()
        assert part["caption"].to_list() == rows["trigger"]["caption"].to_list()
    assert all("char1 woman" in text for text in rows["trigger"]["prompt"])
    assert all("wavy red hair" in text for text in rows["base"]["prompt"])
    assert rows["class"]["prompt"].to_list() == rows["base class"]["prompt"].to_list()
    assert all("char1" not in text for text in rows["class"]["prompt"])
    assert all("char1" not in text for text in rows["trigger"]["caption"])


def test_a_lora_without_effect_is_the_base_model(results):
    evaluations, output, _ = results
    nothing, plain, dora = (e.table for e in evaluations)
    base = pixels(output, nothing.filter(pl.col("series") == "base class"))
    same = pixels(output, nothing.filter(pl.col("series") == "class"))
    assert np.abs(base.astype(int) - same.astype(int)).max() <= 1
    assert evaluations[0].summary.leakage == evaluations[0].summary.base_leakage
    for table in (plain, dora):
        other = pixels(output, table.filter(pl.col("series") == "class"))
        assert np.abs(base.astype(int) - other.astype(int)).max() > 10


def test_figures_are_those_of_the_tables(results):
    for evaluation in results[0]:
        table, figures = evaluation.table, evaluation.summary
        own = table.filter(pl.col("series") == "trigger")
        similarity = own["identity_similarity"].to_list()
        passing = [s is not None and s >= evaluation.threshold.value for s in similarity]
        assert figures.trigger.consistency.count == sum(passing)
        good = own["rejection"].is_null()  # nothing is rejected here: artefacts are told
        assert good.all()
        failed = [
            count != 1 or confidence < 0.85 or quality < 0.74
            for count, confidence, quality in zip(
                own["face_count"], own["face_confidence"].fill_null(0), own["quality"].fill_null(0),
                strict=True,
            )
        ]  # fmt: skip
        assert own["artefact"].to_list() == failed
        assert figures.trigger.artefacts.count == sum(failed)


def test_identity_adherence_and_neighbours_are_the_models_own(results, dataset):
    """Measured again with the libraries' plain calls."""
    from character_curator.analysis.embeddings import Embedder
    from miniature.measure.faces import find_faces, load_pack

    evaluation, output = results[0][0], results[1]
    embedder = Embedder("miniature")
    table = evaluation.table.filter(pl.col("series") == "base")
    images = [cv2.imread(str(output / path)) for path in table["path"]]
    vectors = embedder.embed_images(images)
    texts = embedder.embed_texts(table["caption"].to_list())
    expected = (vectors * texts).sum(axis=1)
    np.testing.assert_allclose(table["adherence"], expected, atol=2e-3)
    training = embedder.embed_images([cv2.imread(str(p)) for p in sorted(dataset.glob("*.png"))])
    np.testing.assert_allclose(
        table["nearest_distance"], 1 - (vectors @ training.T).max(axis=1), atol=2e-3
    )
    analysis = load_pack(miniature.FACE_PACK_PATH)
    counts = [len(find_faces(analysis, image[..., ::-1])) for image in images]
    assert table["face_count"].to_list() == counts


def test_an_evaluation_goes_on_and_makes_nothing_twice(results, dataset, monkeypatch):
    evaluations, output, files = results

    def refuse(*_, **__):
        raise AssertionError("an image was made again")

    monkeypatch.setattr(DiffusersBackend, "sample", refuse)
    again = evaluate(files[:1], dataset, setup_of(dataset), output)
    assert again[0].summary == evaluations[0].summary


def test_a_back_end_a_store_and_metadata_may_be_given(dataset, tmp_path):
    setup = replace(setup_of(dataset, with_class=False, grid=()), batch_size=2)
    asked = []

    def backend(lora):
        asked.append(lora)
        return setup.backend()  # the trained model is there already, and no file

    trained = Path("trained.safetensors")
    with FeatureStore(tmp_path / "kept.sqlite") as store:
        [found] = evaluate(
            [trained],
            dataset,
            setup,
            tmp_path / "out",
            backend=backend,
            store=store,
            metadata={trained: {"who": "me"}},
        )
        assert sum(store.computed.values()), "it measures into the store that it was given"
    assert asked == [None, trained]
    assert found.metadata == {"who": "me"}
    assert not (tmp_path / "out" / "features.sqlite").exists()
    assert found.table.filter(pl.col("series") == "trigger").height == 4


def test_a_training_can_score_its_checkpoints(results, dataset):
    from character_curator.evaluation import scorer
    from character_curator.training.job import Checkpoint

    evaluations, output, files = results
    score = scorer(dataset, setup_of(dataset), output)
    assert score(Checkpoint(3, files[0], 0.1)) == evaluations[0].summary.score


def test_a_given_threshold_is_taken(results, dataset):
    _, output, files = results
    low = evaluate(files[:1], dataset, setup_of(dataset, rule={"value": -1.0}), output)[0]
    assert low.threshold.source == "given"
    faces = low.table.filter(pl.col("series") == "trigger")["face_count"] == 1
    assert low.summary.trigger.consistency.count == faces.sum()


def test_reference_images_are_the_identity(results, dataset):
    _, output, files = results
    setup = setup_of(dataset)
    own = evaluate(files[:1], dataset, setup, output)[0]
    face = dataset / "p2.png"
    given = evaluate(files[:1], dataset, setup, output, references=[face])[0]
    summary = json.loads((given.folder / "summary.json").read_text())
    assert summary["identity_reference"] == "references"
    # Against the face itself, by the pack's plain calls.
    from miniature.measure.faces import find_faces, load_pack

    analysis = load_pack(miniature.FACE_PACK_PATH)
    reference = find_faces(analysis, cv2.imread(str(face))[..., ::-1])[0].normed_embedding
    rows = given.table.filter(pl.col("identity_similarity").is_not_null())
    assert len(rows)
    for row in rows.head(5).iter_rows(named=True):
        found = find_faces(analysis, cv2.imread(str(output / row["path"]))[..., ::-1])
        assert row["identity_similarity"] == pytest.approx(
            float(found[0].normed_embedding @ reference), abs=5e-3
        )
    assert own.table["path"].to_list() == given.table["path"].to_list()
    with pytest.raises(NoReferenceError, match="cannot be read"):
        evaluate(files[:1], dataset, setup, output, references=[dataset / "nobody.png"])


def test_files_of_one_name_get_folders_of_their_own(tmp_path):
    files = [tmp_path / a / "lora.safetensors" for a in "ab"] + [tmp_path / "base.safetensors"]
    assert names_of(files) == ["lora", "lora-2", "base-2"]


def test_a_missing_file_is_told_before_anything_is_made(dataset, tmp_path):
    with pytest.raises(lora_file.CheckpointError, match="no LoRA file"):
        evaluate([tmp_path / "x.safetensors"], dataset, setup_of(dataset), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def run_command(*arguments, capsys):
    from character_curator import cli

    code = cli.main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return code, captured


def test_the_command_tells_figures_threshold_and_the_best(results, dataset, capsys):
    _, output, files = results
    code, said = run_command(
        "evaluate", files[0], "--checkpoints", files[1], "--dataset", dataset, "--count", 4,
        "--output", output, "--json", "--identity-threshold", "0.3", capsys=capsys,
    )  # fmt: skip
    assert code == 0
    result = json.loads(said.out)
    rows = {row["name"]: row for row in result["checkpoints"]}
    assert list(rows) == ["nothing", "plain", "base model"]
    assert result["identity_threshold"]["value"] == 0.3
    assert result["best_by_validation_loss"] is None
    scores = {name: rows[name]["score"] for name in ("nothing", "plain")}
    assert scores[result["best_by_evaluation"]] == max(scores.values())
    for text in ("character consistency", "Identity threshold 0.300 (given)", "sheet.png"):
        assert text in said.err


def test_a_training_may_choose_its_checkpoint_by_evaluation(dataset, tmp_path, capsys):
    output = tmp_path / "a.safetensors"
    code, said = run_command(
        "train", dataset, "--base", "miniature", "--output", output, "--rank", 2, "--targets",
        "to_q,to_v", "--batch", 8, "--resolution", 128, "--bucket-step", 32, "--lr", 1e-3,
        "--epochs", 2, "--validation-timesteps", 1, "--checkpoint-every", 1, "--no-samples",
        "--evaluate", 2, "--prefer", "evaluation", "--json", capsys=capsys,
    )  # fmt: skip
    assert code == 0
    result = json.loads(said.out)
    scores = {c["epoch"]: c["score"] for c in result["checkpoints"]}
    assert scores.keys() == {1, 2}
    assert result["kept_epoch"] == result["best_epoch_by_evaluation"]
    assert scores[result["kept_epoch"]] == max(scores.values())
    for words in ("Best by validation: epoch", "Best by evaluation: epoch", "The file holds epoch"):
        assert words in said.err
    assert (tmp_path / "a.evaluation" / "a-epoch0002" / "sheet.png").exists()
    code, said = run_command(
        "train", dataset, "--base", "miniature", "--output", output, "--prefer", "evaluation",
        "--json", capsys=capsys,
    )  # fmt: skip
    assert code == 2
    assert "--evaluate" in json.loads(said.out)["message"]


def test_the_command_takes_prompts_and_seeds(results, dataset, tmp_path, capsys):
    (tmp_path / "prompts.txt").write_text("char1 woman, at the beach\nphoto of {who}, park\n")
    code, said = run_command(
        "evaluate", results[2][0], "--dataset", dataset, "--prompts", tmp_path / "prompts.txt",
        "--count", 4, "--seeds", "7,8", "--no-leakage", "--output", tmp_path / "out", "--json",
        "--steps", 1, capsys=capsys,
    )  # fmt: skip
    assert code == 0
    table = pl.read_parquet(json.loads(said.out)["evaluations"][0]["table"])
    own = table.filter(pl.col("series") == "trigger")
    assert own.select("prompt", "noise_seed").rows() == [
        ("char1 woman, at the beach", 7), ("char1 woman, at the beach", 8),
        ("photo of char1 woman, park", 7), ("photo of char1 woman, park", 8),
    ]  # fmt: skip
    assert set(table["series"]) == {"trigger", "grid", "base"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--dataset", "."], "Nothing to evaluate"),
        (["absent.safetensors", "--dataset", "."], "no LoRA file"),
    ],
)
def test_the_command_says_what_to_mend(arguments, message, capsys):
    code, said = run_command("evaluate", *arguments, "--json", capsys=capsys)
    assert code == 2
    assert message in json.loads(said.out)["message"]
