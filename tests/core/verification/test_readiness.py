"""The whole checklist through the command line: verdict, files, sign-off, exit codes."""

from __future__ import annotations

import io
import json
import shutil
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import replace

import pytest

from character_curator import pipeline, project
from character_curator.cli import main
from character_curator.dataset import verify
from character_curator.dataset.publish import version_of
from character_curator.dataset.verdict import card_without_verdict, report_without_later
from character_curator.evaluation.summary import Targets
from character_curator.verification import Status, check_readiness, readiness, sign_off
from character_curator.verification.checklist import LINES
from character_curator.verification.samples import samples_folder
from tests.support.small_run import PROJECT


def command(*arguments, check=0):
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = main([str(argument) for argument in arguments])
    assert code == check, out.getvalue() + err.getvalue()
    return out.getvalue(), err.getvalue()


def lenient():
    """Targets that a LoRA of twenty steps reaches."""
    return Targets(consistency=0.0, artefacts=1.0)


def checked(dataset, lora, **options):
    return check_readiness(
        dataset,
        lora,
        samples=2,
        setup=lambda setup: replace(setup, sampling={**setup.sampling, "steps": 2}, grid=()),
        targets=lenient(),
        **options,
    )


def statuses(found):
    return {line.key: line.status for line in found.lines}


def test_ready_only_when_every_line_holds(dataset, lora, monkeypatch):
    monkeypatch.setattr("character_curator.verification.samples.QUALITY_LOSS", 1.0)
    found = checked(dataset, lora, regenerate=1)
    failing = {key for key, status in statuses(found).items() if status is not Status.HOLDS}
    assert failing == {"approval"}
    assert not found.is_ready
    assert found.verdict == "NOT READY FOR PRODUCTION: 24 of 25 lines hold, 1 fails"
    assert [line.key for line in found.lines] == list(LINES)
    command("sign-off", dataset, "--name", "Jane Doe", "--lora", lora)
    found = checked(dataset, lora, regenerate=1)
    assert found.is_ready, found.lines
    assert found.verdict == "READY FOR PRODUCTION: 25 of 25 lines hold"
    # The report says so, with what was found of the LoRA, and is the one that was signed.
    readiness.write_readiness(dataset, found)
    shown = (dataset / "report.html").read_text()
    assert '<strong class="met">READY FOR PRODUCTION</strong>' in shown
    for title in ("Training", "Evaluation"):
        assert f"<h2>{title}: {lora.name}</h2>" in shown
    assert verify(dataset).ok
    line = sign_off.check_approval(dataset, lora, samples_folder(lora))
    assert line.status is Status.HOLDS
    # Test images that have changed since were not shown.
    image = next(samples_folder(lora).glob("*/pictures/char_trigger_*.png"))
    image.write_bytes(image.read_bytes() + b"\0")
    line = sign_off.check_approval(dataset, lora, samples_folder(lora))
    assert f"samples/{image.name}: changed since" in line.faults[0].what


def test_the_command_says_what_is_missing_and_writes_it_down(dataset):
    card = (dataset / "README.md").read_text()
    report = (dataset / "report.html").read_text()
    out, err = command("verify", dataset, "--regenerate", 0, "--json", check=1)
    said = json.loads(out)
    assert said["verdict"] == "NOT READY FOR PRODUCTION"
    assert said["ready"] is False
    assert json.loads((dataset / "verification.json").read_text()) == said
    lines = {line["key"]: line for line in said["lines"]}
    assert lines["images"]["status"] == "holds"
    assert lines["file"]["found"] == "no LoRA file was given"
    assert lines["identical"]["status"] == "not checked"
    words = " ".join(err.split())
    for part in ("LoRA training", "not checked: no LoRA file was given", "--lora FILE",
                 "NOT READY FOR PRODUCTION", "sign-off", "✓ All images present"):  # fmt: skip
        assert part in words
    page = (dataset / "verification.html").read_text()
    assert "NOT READY FOR PRODUCTION" in page
    assert page.count("<section>") == 5
    assert page.count('class="holds">') == sum(x["status"] == "holds" for x in said["lines"])
    assert "character-curator sign-off" in page
    assert "<script" not in page
    assert "http" not in page
    # The card says so, the list of checksums follows it, and the export is what it was.
    text = (dataset / "README.md").read_text()
    assert "> Verification: NOT READY FOR PRODUCTION" in text
    assert card_without_verdict(text) == card
    shown = (dataset / "report.html").read_text()
    assert '<strong class="missed">NOT READY FOR PRODUCTION</strong>' in shown
    assert report_without_later(shown) == report
    assert verify(dataset).ok
    assert not verify(dataset).unlisted


def test_a_second_verification_replaces_the_first(dataset):
    wanted = ("verify", dataset, "--regenerate", 0, "--json")
    one, other = (json.loads(command(*wanted, check=1)[0]) for _ in "12")
    assert one["fingerprint"] == other["fingerprint"]
    assert one["summary"] == other["summary"]
    assert (dataset / "README.md").read_text().count("> Verification:") == 1


def test_an_edited_card_is_left_alone(dataset):
    path = dataset / "README.md"
    path.write_text(path.read_text() + "More words.\n")
    edited = path.read_text()
    readiness.write_readiness(dataset, check_readiness(dataset, regenerate=0))
    assert path.read_text() == edited
    assert verify(dataset).changed == ("README.md",)


def test_a_verified_dataset_is_the_same_dataset(whole, tmp_path):
    """Running the project again makes no new version, and keeps verdict and sign-off."""
    folder = shutil.copytree(whole, tmp_path / "run")
    dataset = folder / "out" / "dataset"
    readiness.write_readiness(dataset, check_readiness(dataset, regenerate=0))
    command("sign-off", dataset, "--name", "Jane")
    again = pipeline.run(project.parse(PROJECT), folder).exported
    assert again.unchanged
    assert (dataset / "verification.json").is_file()
    assert (dataset / "sign-offs.json").is_file()


def test_a_folder_that_is_no_dataset(tmp_path):
    out, _ = command("verify", tmp_path, "--json", check=2)
    assert json.loads(out)["error"] == "NotADatasetError"


@pytest.mark.parametrize("name", ["", "  "])
def test_nobody_can_not_sign(dataset, name):
    out, _ = command("sign-off", dataset, "--name", name, "--json", check=2)
    assert "needs the name" in json.loads(out)["message"]
    assert not (dataset / "sign-offs.json").exists()


def test_a_lora_that_nobody_has_seen_can_not_be_signed(dataset, lora):
    out, _ = command("sign-off", dataset, "--name", "J", "--lora", lora, "--json", check=2)
    assert "character-curator verify" in json.loads(out)["message"]


def approval(dataset):
    return sign_off.check_approval(dataset, None, None)


def test_a_sign_off_holds_for_exactly_what_was_shown(dataset):
    assert approval(dataset).status is Status.FAILS
    assert "nobody has signed" in approval(dataset).found
    command("sign-off", dataset, "--name", "Jane Doe")
    line = approval(dataset)
    assert line.status is Status.HOLDS
    assert "Jane Doe" in line.found
    image = sorted(dataset.glob("*.png"))[0]
    data = image.read_bytes()
    image.unlink()
    assert f"{image.name}: gone since" in approval(dataset).faults[0].what
    image.write_bytes(data + b"\0")
    assert f"{image.name}: changed since" in approval(dataset).faults[0].what
    image.write_bytes(data)
    (dataset / "more.png").write_bytes(data)
    assert "more.png: not shown then" in approval(dataset).faults[0].what


@pytest.mark.parametrize("key", ["name", "time", "shown", "seal"])
def test_an_edited_sign_off(dataset, key):
    command("sign-off", dataset, "--name", "Jane Doe")
    path = dataset / "sign-offs.json"
    records = json.loads(path.read_text())
    records[0][key] = {} if key == "shown" else "somebody"
    path.write_text(json.dumps(records))
    assert approval(dataset).status is Status.FAILS
    assert "edited after it was signed" in approval(dataset).faults[0].what
    # A new one is added beside it, and counts.
    command("sign-off", dataset, "--name", "John")
    assert approval(dataset).status is Status.HOLDS
    assert len(json.loads(path.read_text())) == 2


def test_a_list_of_sign_offs_that_is_damaged(dataset):
    (dataset / "sign-offs.json").write_text("[")
    assert "can't be read" in approval(dataset).faults[0].what


def test_versions_are_counted(dataset, tmp_path):
    assert version_of(dataset) == 1
    (tmp_path / "dataset.versions" / "v0003").mkdir(parents=True)
    assert version_of(dataset) == 4
    assert version_of(tmp_path / "dataset.versions" / "v0003") == 3
