"""The chain from a LoRA to the version of the dataset that it was trained on."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from character_curator import pipeline, project, restore, versions
from character_curator.dataset.version_record import fingerprint_in
from character_curator.lora import file as lora_file
from character_curator.lora.header import metadata_in_file
from character_curator.training import LoraJob, finished
from character_curator.training.data.images import read_images
from character_curator.training.outputs.card import _version
from character_curator.verification import Status, documentation, training
from character_curator.verification.evidence import read_evidence
from tests.support.small_run import PROJECT, SETTINGS

OTHER = PROJECT.replace("portrait of {trigger} {class_word}, {scenario}", "{trigger}, {scenario}")


@pytest.fixture
def run(whole, tmp_path) -> Path:
    """A copy of the run: its LoRA was trained on version 1, and version 2 has other captions."""
    folder = Path(shutil.copytree(whole, tmp_path / "run"))
    made = pipeline.run(project.parse(OTHER), folder).exported
    assert (made.version, made.unchanged) == (2, False)
    return folder / "out"


def checkpoint(out: Path, dataset: Path):
    trained = training.read_trained(out / "small.safetensors")
    return training.check_checkpoint(trained, read_evidence(dataset))


def test_the_header_names_the_version(whole):
    out = whole / "out"
    origin = training.read_trained(out / "small.safetensors").origin
    assert origin.version == 1
    assert origin.version_fingerprint == fingerprint_in(out / "dataset")
    assert origin.altered == 0
    told = json.loads(
        metadata_in_file(out / "small.safetensors")["character_curator.dataset_version"]
    )
    assert told == {"number": 1, "fingerprint": origin.version_fingerprint}
    line = checkpoint(out, out / "dataset")
    assert line.status is Status.HOLDS
    assert "of version 1," in line.found


def test_another_version_is_named_with_its_number(run):
    (fault,) = checkpoint(run, run / "dataset").faults
    assert "trained on version 1 of the dataset, and this is version 2" in fault.what
    assert f"restore {run / 'dataset'} 1" in fault.advice
    # The version that it names, and one that is equal to it, hold.
    assert checkpoint(run, run / "dataset.versions" / "v0001").status is Status.HOLDS
    restore(run / "dataset", 1)
    line = checkpoint(run, run / "dataset")
    assert line.status is Status.HOLDS
    assert line.figures["version"] == 1
    (found, *others) = versions(run / "dataset").lines
    assert [lora.file.name for lora in found.loras] == ["small.safetensors"]
    assert not any(line.loras for line in others)


def test_a_version_that_is_not_kept_is_named_by_what_the_header_says(run):
    shutil.rmtree(run / "dataset.versions")
    (fault,) = checkpoint(run, run / "dataset").faults
    assert "version 1 of 'dataset'" in fault.what
    assert "which is not kept here" in fault.what


def test_a_lora_of_before_headers_named_versions_is_found_by_its_images(run):
    file = run / "small.safetensors"
    content = lora_file.read(file)
    says = {k: v for k, v in content.metadata.items() if not k.endswith(".dataset_version")}
    lora_file.write(file, content.tensors, says)
    line = checkpoint(run, run / "dataset")
    assert "trained on version 1 of the dataset, and this is version 2" in line.faults[0].what


def test_a_version_that_was_changed_since(whole, tmp_path):
    out = Path(shutil.copytree(whole / "out", tmp_path / "out"))
    next((out / "dataset").glob("*.txt")).write_text("somebody else\n")
    (fault,) = checkpoint(out, out / "dataset").faults
    assert "trained on version 1, whose images or captions were changed since" in fault.what


def test_what_is_not_as_exported_is_counted_in_the_header_and_said(dataset, tmp_path):
    images = sorted(dataset.glob("*.png"))
    images[0].unlink()
    images[1].with_suffix(".txt").write_text("by hand\n")
    read = read_images(LoraJob(dataset, tmp_path / "x.safetensors"))
    assert read.facts.version.altered == 2
    assert _version(read.facts)["altered"] == 2
    assert any("2 of the images or captions are not as exported" in note for note in read.notes)


def test_a_folder_that_is_no_dataset_has_no_version(dataset, tmp_path):
    for name in ("version.json", "SHA256SUMS"):
        (dataset / name).unlink()
    read = read_images(LoraJob(dataset, tmp_path / "x.safetensors"))
    assert read.facts.version is None
    assert _version(read.facts) == {}


def test_a_new_version_with_the_same_images_trains_nothing_anew(dataset, tmp_path):
    job = LoraJob(dataset, tmp_path / "x.safetensors")
    read = read_images(job)
    later = replace(read.facts, version=replace(read.facts.version, number=9, fingerprint="f"))
    one, other = (
        finished._inputs(job, SETTINGS, replace(read, facts=facts), "model", [])
        for facts in (read.facts, later)
    )
    assert one == other
    more = replace(read, facts=replace(read.facts, trigger="another"))
    assert finished._inputs(job, SETTINGS, more, "model", []) != one


def test_a_record_that_is_of_other_files_is_a_fault(dataset):
    path = dataset / "version.json"
    assert documentation.check_version(read_evidence(dataset), 1).status is Status.HOLDS
    path.write_text(path.read_text().replace('"number": 1', '"number": 5'))
    line = documentation.check_version(read_evidence(dataset), 1)
    assert [fault.where for fault in line.faults] == ["version.json"]
    path.unlink()  # of before there were records
    assert documentation.check_version(read_evidence(dataset), 1).status is Status.HOLDS
