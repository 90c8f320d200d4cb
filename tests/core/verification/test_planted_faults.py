"""Every line of the checklist holds for a whole dataset, and falls for the fault that it is for."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import cv2
import numpy as np
import pytest

from character_curator.dataset.checksums import write_checksums
from character_curator.features import FeatureStore
from character_curator.hashing import sealed, unsealed
from character_curator.lora import file as lora_file
from character_curator.miniature import DIFFUSION_PATH
from character_curator.verification import Status, data, documentation, reproduction, training
from character_curator.verification import samples as test_images
from character_curator.verification.evidence import measure, read_evidence
from tests.support.planted_faults import (
    metadata_of,
    pixels_of,
    replace_pixels,
    replace_record,
    write_metadata,
)
from tests.support.tiny_analysis import empty_place


def measured(dataset):
    with FeatureStore() as store:
        return measure(read_evidence(dataset), store)


def first(dataset):
    return sorted(dataset.glob("*.png"))[0]


def assert_fails(line, where, what):
    assert line.status is Status.FAILS, line
    assert any(where in fault.where and what in fault.what for fault in line.faults), line.faults
    assert all(fault.advice.endswith((".", ")")) or "character-curator" in fault.advice
               for fault in line.faults)  # fmt: skip


def test_a_whole_dataset_holds(dataset):
    evidence = measured(dataset)
    again = reproduction.regenerated(evidence, "all")
    lines = [
        data.check_images(evidence),
        data.check_quality(evidence),
        data.check_faces(evidence),
        data.check_seeds(evidence),
        data.check_metadata(evidence),
        documentation.check_parameters(evidence),
        documentation.check_mapping(evidence),
        documentation.check_prompts(evidence),
        documentation.check_version(evidence, 1),
        reproduction.check_regenerate(evidence, again),
        reproduction.check_seed_store(evidence),
        reproduction.check_recipe(evidence),
        reproduction.check_automated(evidence),
        reproduction.check_identical(evidence, again),
    ]
    assert [line.key for line in lines if line.status is not Status.HOLDS] == [], lines
    assert lines[-1].figures == {"identical": 4, "images": 4}


def test_a_missing_image(dataset):
    path = first(dataset)
    path.unlink()
    assert_fails(data.check_images(read_evidence(dataset)), path.name, "missing")
    write_checksums(dataset)
    line = data.check_images(read_evidence(dataset))
    assert_fails(line, path.name, "missing")
    assert_fails(line, "recipe.toml", "asks for 4 images and there are 3")


def test_a_damaged_image(dataset):
    path = first(dataset)
    whole = path.read_bytes()
    path.unlink()
    path.write_bytes(whole[: len(whole) // 2])
    assert_fails(data.check_images(read_evidence(dataset)), path.name, "decoded")


def test_an_altered_pixel(dataset):
    path = first(dataset)
    before = path.read_bytes()
    pixels = pixels_of(path)
    pixels[5, 7, 0] ^= 1
    rows = metadata_of(dataset)
    replace_pixels(path, pixels)
    # Nothing but the image is another: the list and the metadata know it.
    sums = (dataset / "SHA256SUMS").read_text()
    write_metadata(dataset, rows)
    assert_fails(data.check_images(read_evidence(dataset)), path.name, "bytes")
    assert_fails(data.check_metadata(read_evidence(dataset)), path.name, "hash")
    # All hashes follow: then the image does not come again.
    replace_pixels(path, pixels)
    assert (dataset / "SHA256SUMS").read_text() == sums
    evidence = read_evidence(dataset)
    assert data.check_images(evidence).status is Status.HOLDS
    again = reproduction.regenerated(evidence, "all")
    line = reproduction.check_identical(evidence, again)
    assert_fails(line, path.name, "other pixels")
    assert line.figures == {"identical": 3, "images": 4}
    assert before != path.read_bytes()


def test_a_swapped_row(dataset):
    rows = metadata_of(dataset)
    one, other = sorted(rows)[0], sorted(rows)[-1]
    rows[one], rows[other] = rows[other], rows[one]
    for name in (one, other):  # who swaps rows leaves what names the file
        rows[name] |= {"hash": rows[one if name == other else other]["hash"]}
    rows[one]["hash"], rows[other]["hash"] = rows[other]["hash"], rows[one]["hash"]
    rows = {name: {**row} for name, row in rows.items()}
    from character_curator.imageset import content_hash

    for name in (one, other):
        rows[name]["hash"] = content_hash(dataset / name)
        rows[name]["caption"] = (dataset / name).with_suffix(".txt").read_text().strip()
    write_metadata(dataset, rows)
    evidence = measured(dataset)
    assert data.check_images(evidence).status is Status.HOLDS
    line = documentation.check_mapping(evidence)
    assert_fails(line, one, "not of this image: seed")
    assert_fails(line, other, "not of this image: seed")
    assert_fails(documentation.check_parameters(evidence), one, "generation")
    assert_fails(data.check_quality(evidence), one, "metadata.json says")


def test_a_row_that_lacks_a_key(dataset):
    rows = metadata_of(dataset)
    name = next(iter(rows))
    del rows[name]["cluster"]
    rows[name]["quality_score"] = "high"
    write_metadata(dataset, rows)
    line = data.check_metadata(read_evidence(dataset))
    assert_fails(line, name, "no cluster")
    assert_fails(line, name, "quality_score")


def test_a_caption_that_was_taken_away(dataset):
    path = first(dataset).with_suffix(".txt")
    path.unlink()
    assert_fails(documentation.check_prompts(read_evidence(dataset)), path.name, "caption")
    assert_fails(documentation.check_version(read_evidence(dataset), 1), path.name, "missing")


def test_a_score_below_the_threshold(dataset):
    path = first(dataset)
    replace_pixels(path, cv2.GaussianBlur(pixels_of(path), (0, 0), 3))
    line = data.check_quality(measured(dataset))
    assert_fails(line, path.name, "below 0.4")
    assert metadata_of(dataset)[path.name]["quality_score"] > 0.4, "what is recorded is not asked"


def test_an_image_without_a_face(dataset):
    path = first(dataset)
    replace_pixels(path, np.ascontiguousarray(empty_place()[..., ::-1]))
    assert_fails(data.check_faces(measured(dataset)), path.name, "no face")


def test_an_unbalanced_seed(dataset):
    path = first(dataset)
    seed = metadata_of(dataset)[path.name]["seed"]
    rows = metadata_of(dataset)
    del rows[path.name]
    path.unlink()
    path.with_suffix(".txt").unlink()
    write_metadata(dataset, rows)
    line = data.check_seeds(read_evidence(dataset))
    assert_fails(line, f"seed {seed}", "it has 1 image; wanted are 2 (the recipe's quota seed=2)")


def test_without_a_quota_a_seed_may_have_half_to_twice_its_share(dataset):
    evidence = read_evidence(dataset)
    recipe = {**evidence.recipe, "selection": {"total": 4}}
    evidence = replace(evidence, recipe=recipe)
    assert data.check_seeds(evidence).status is Status.HOLDS
    recipe["plan"] = {"seeds": [966983, 966984, 5]}
    assert data.check_seeds(evidence).status is Status.HOLDS, "a third of 4, halved, is 0"
    recipe["plan"] = {"seeds": [966983]}
    assert_fails(data.check_seeds(evidence), "seed 966984", "does not know")


def test_a_recipe_that_does_not_reproduce(dataset):
    path = dataset / "recipe.toml"
    text = path.read_text()
    path.write_text(text.replace("gentle freckled woman", "bald man"))
    evidence = read_evidence(dataset)
    assert_fails(reproduction.check_automated(evidence), first(dataset).name, "another prompt")
    path.write_text(text.replace("steps = 8", "steps = 9"))
    assert_fails(reproduction.check_recipe(read_evidence(dataset)), "[model]", "steps = 9")
    path.write_text(text.replace("966983", "1"))
    assert_fails(
        reproduction.check_seed_store(read_evidence(dataset)), "966983", "not in the recipe"
    )
    path.write_text(text.replace("[plan]", "[plan]\nwhat = 1"))
    assert_fails(reproduction.check_automated(read_evidence(dataset)), "recipe.toml", "what")
    path.write_text("= nothing")
    assert_fails(reproduction.check_recipe(read_evidence(dataset)), "recipe.toml", "can't be read")


def test_a_record_that_does_not_reproduce(dataset):
    path = first(dataset)
    replace_record(path, guidance=3.5)
    evidence = read_evidence(dataset)
    assert documentation.check_parameters(evidence).status is Status.HOLDS
    again = reproduction.regenerated(evidence, "all")
    assert_fails(reproduction.check_identical(evidence, again), path.name, "PSNR")
    assert_fails(reproduction.check_recipe(evidence), "[model]", "made with 3.5")


def test_a_changed_model_file(dataset, tmp_path):
    from safetensors.torch import load_file, save_file

    model = shutil.copytree(DIFFUSION_PATH, tmp_path / "model")
    weights = next((model / "unet").glob("*.safetensors"))
    tensors = load_file(weights)
    name = sorted(tensors)[0]
    tensors[name] = tensors[name] * 1.05
    weights.unlink()
    save_file(tensors, weights)
    evidence = read_evidence(dataset)
    again = reproduction.regenerated(evidence, 1, model=str(model))
    assert_fails(reproduction.check_regenerate(evidence, again), ".png", "model_fingerprint")
    assert_fails(reproduction.check_identical(evidence, again), ".png", "model_fingerprint")
    [gone] = reproduction.regenerated(evidence, 1, model=str(tmp_path / "nothing"))
    assert "no model" in gone.problem


def test_nothing_to_make_again_is_said(dataset):
    evidence = read_evidence(dataset)
    line = reproduction.check_identical(evidence, [])
    assert line.status is Status.UNCHECKED
    replace_record(first(dataset), backend="comfyui")
    evidence = read_evidence(dataset)
    [again] = [a for a in reproduction.regenerated(evidence, "all") if a.needs_wires]
    line = reproduction.check_identical(evidence, [again])
    assert line.status is Status.UNCHECKED
    assert "Verify node" in line.faults[0].advice


def test_real_images_have_no_seeds(dataset):
    rows = {name: {**row, "type": "real"} for name, row in metadata_of(dataset).items()}
    for path in dataset.glob("*.png"):
        pixels = cv2.imread(str(path))
        path.unlink()
        cv2.imwrite(str(path), pixels)
    write_metadata(dataset, rows)
    evidence = read_evidence(dataset)
    assert evidence.generated == ()
    lines = [
        data.check_seeds(evidence),
        documentation.check_mapping(evidence),
        documentation.check_parameters(evidence),
        reproduction.check_seed_store(evidence),
        reproduction.check_regenerate(evidence, []),
        reproduction.check_identical(evidence, []),
    ]
    assert {line.status for line in lines} == {Status.NOT_APPLICABLE}
    assert all("real images" in line.found for line in lines)


def test_a_face_pack_that_is_not_here_is_said(dataset):
    with FeatureStore() as store:
        evidence = measure(read_evidence(dataset), store, faces=str(dataset))
    line = data.check_faces(evidence)
    assert line.status is Status.UNCHECKED
    assert "--faces" in line.faults[0].advice


def lines_of(lora, dataset):
    trained = training.read_trained(lora)
    return {
        line.key: line
        for line in (
            training.check_training(trained),
            training.check_loss(trained),
            training.check_file(trained),
            training.check_checkpoint(trained, read_evidence(dataset)),
            training.check_hyperparameters(trained),
        )
    }


def test_a_whole_lora_holds(lora, dataset):
    found = lines_of(lora, dataset)
    assert {line.status for line in found.values()} == {Status.HOLDS}, found


def test_a_lora_that_does_not_load(lora, dataset):
    whole = lora.read_bytes()
    lora.write_bytes(whole[: len(whole) // 2])
    found = lines_of(lora, dataset)
    assert_fails(found["file"], lora.name, "no whole safetensors file")
    assert_fails(found["training"], lora.name, "not the file that the training wrote")
    trained = training.read_trained(lora)
    tried = test_images.make_samples(
        trained, read_evidence(dataset), test_images.setup_of(dataset), FeatureStore()
    )
    assert_fails(test_images.check_inference(tried, lora.name), lora.name, "safetensors")
    assert test_images.check_samples(tried).status is Status.UNCHECKED


def test_a_lora_of_another_model(lora, dataset):
    content = lora_file.read(lora)
    tensors = {key.replace("lora_unet", "lora_unet_x"): t for key, t in content.tensors.items()}
    lora_file.write(lora, tensors, content.metadata)
    evidence = read_evidence(dataset)
    setup = replace(test_images.setup_of(dataset, count=1), sampling={"steps": 1}, grid=())
    tried = test_images.make_samples(training.read_trained(lora), evidence, setup, FeatureStore())
    assert_fails(test_images.check_inference(tried, lora.name), lora.name, "does not fit")


def test_weights_that_were_changed_after_the_training(lora, dataset):
    content = lora_file.read(lora)
    name = next(key for key in content.tensors if key.endswith("lora_up.weight"))
    tensors = {**content.tensors, name: content.tensors[name] + 1}
    lora_file.write(lora, tensors, content.metadata)
    found = lines_of(lora, dataset)
    assert_fails(found["file"], lora.name, "header")
    assert_fails(found["training"], lora.name, "not the file")


def test_a_lora_that_was_trained_on_something_else(lora, dataset):
    path = first(dataset)
    path.with_suffix(".txt").write_text("somebody else\n")
    assert_fails(lines_of(lora, dataset)["checkpoint"], lora.name, "other captions")
    path.unlink()
    path.with_suffix(".txt").unlink()
    line = lines_of(lora, dataset)["checkpoint"]
    assert_fails(line, lora.name, "3 of its 4 images are here")


def test_a_training_that_diverged_or_was_still_falling(lora, dataset):
    path = lora.with_name("small.work") / "finished.json"
    whole = unsealed(json.loads(path.read_text()))
    spoilt = unsealed(json.loads(path.read_text()))
    spoilt["outcome"] |= {"stopped": "diverged", "message": "The loss became nan."}
    path.write_text(json.dumps(sealed(spoilt)))
    assert_fails(lines_of(lora, dataset)["training"], "finished.json", "became nan")
    for report in whole["outcome"]["history"]:
        report["validation_loss"] = 1 - 0.05 * report["epoch"]
    path.write_text(json.dumps(sealed(whole)))
    assert_fails(lines_of(lora, dataset)["loss"], lora.name, "still falling")
    for report in whole["outcome"]["history"]:
        report["validation_loss"] = 1 + report["epoch"]
    path.write_text(json.dumps(sealed(whole)))
    assert_fails(lines_of(lora, dataset)["loss"], lora.name, "never fell")
    path.unlink()
    found = lines_of(lora, dataset)
    assert {found[key].status for key in ("training", "loss", "checkpoint")} == {Status.UNCHECKED}
    assert "--work" in found["loss"].faults[0].advice


def test_a_state_that_is_damaged(lora, dataset):
    state = lora.with_name("small.work") / "state.safetensors"
    state.write_bytes(state.read_bytes()[:100])
    assert_fails(lines_of(lora, dataset)["checkpoint"], "small.work/state.safetensors", "damaged")


def test_a_lora_without_its_settings(lora, dataset):
    content = lora_file.read(lora)
    plain = {key: v for key, v in content.metadata.items() if not key.startswith("character")}
    lora_file.write(lora, content.tensors, plain)
    found = lines_of(lora, dataset)
    assert_fails(found["hyperparameters"], lora.name, "what it was trained with")
    assert_fails(found["checkpoint"], lora.name, "which dataset")


@pytest.mark.parametrize("key", ["base_model", "steps"])
def test_a_base_model_that_is_another(lora, dataset, key, tmp_path):
    """The header's fingerprint is compared with the model of that name."""
    trained = training.read_trained(lora)
    assert getattr(trained.origin, key)
    other = replace(trained, origin=replace(trained.origin, base_model_fingerprint="0" * 64))
    line = training.check_checkpoint(other, read_evidence(dataset))
    assert_fails(line, "miniature", "not the one that the LoRA was trained on")
