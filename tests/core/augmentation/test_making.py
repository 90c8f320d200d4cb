"""An augmentation on disk: real images as they are, variations beside them, and its recipe."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import polars as pl
import pytest
from PIL import Image

from character_curator import cli, project
from character_curator.augmentation.making import (
    AugmentationError,
    make_augmentation,
    synthetic_quotas,
)
from character_curator.dataset import verify
from character_curator.generation.reproduce import reproduce
from character_curator.project import ProjectFileError
from character_curator.project_parts import plan_of
from character_curator.reading.disturbances import disturbance_record, rgb_pixels
from character_curator.variations import AXES, evenly, variations_of
from character_curator.verification.data import check_images, check_metadata
from character_curator.verification.documentation import check_mapping
from character_curator.verification.evidence import read_evidence
from character_curator.verification.reproduction import check_automated
from tests.support.small_augmentation import PROJECT, draw
from tests.support.watchers import CancelAfter


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Six photographs, one of them as a phone writes it, augmented once."""
    base = tmp_path_factory.mktemp("augmented")
    photos = draw(base / "photos", 6)
    with Image.open(photos / "000.png") as image:
        image.save(photos / "000.jpg", quality=95, exif=_exif())
    (photos / "000.png").unlink()
    (base / "ada.toml").write_text(PROJECT, encoding="utf-8")
    before = hashes(photos)
    return base, make_augmentation(project.read(base / "ada.toml"), base), before


def _exif():
    exif = Image.Exif()
    exif[0x010F] = "a phone"
    return exif


def hashes(folder):
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != "version.json"
    }


def metadata_of(made):
    return json.loads((made.combined.folder / "metadata.json").read_text(encoding="utf-8"))


def test_real_images_are_neither_altered_nor_lost(made):
    base, augmentation, before = made
    assert hashes(base / "photos") == before
    real = {n: row for n, row in metadata_of(augmentation).items() if row["type"] == "real"}
    assert len(real) == augmentation.real == 5
    for name, row in real.items():
        with (
            Image.open(augmentation.combined.folder / name) as kept,
            Image.open(base / "photos" / row["source"].removeprefix("ada/")) as given,
        ):
            assert np.array_equal(np.asarray(kept), np.asarray(given.convert("RGB")))
        if row["source"].endswith(".png"):
            assert row["hash"] in before.values()
        assert row["subject"] == "ada"
        assert "adax" in row["caption"]


def test_shares_and_recipe_are_in_the_metadata_and_in_the_card(made):
    base, augmentation, _ = made
    rows = metadata_of(augmentation).values()
    kinds = [row["type"] for row in rows]
    assert sorted(set(kinds)) == ["disturbed", "real", "scenario"]
    assert (kinds.count("scenario"), kinds.count("disturbed")) == (3, 3)
    facts = json.loads((augmentation.combined.folder / "facts.json").read_text())
    shares = facts["composition"]["kinds"]
    assert shares["real"] == {"images": 5, "share": round(5 / 11, 4)}
    assert shares["disturbed"] == {"images": 3, "share": round(3 / 11, 4)}
    card = (augmentation.combined.folder / "README.md").read_text(encoding="utf-8")
    assert "| Real, as they are | 5 | 45.5% |" in card
    assert "| Synthetic, disturbed | 3 | 27.3% |" in card
    for kind in {row["disturbance"]["kind"] for row in rows if "disturbance" in row}:
        assert f"– by {kind} | " in card
    for row in rows:
        if row["type"] != "real":
            assert row["angle"] in ("frontal view", "three-quarter view")
            assert row["generation"]["settings"]["loras"][0]["weight"] == 1.0
    record = augmentation.as_mapping()
    assert record["composition"] == facts["composition"]
    assert record["lora"]["trained_here"]
    assert record["cost"] == pytest.approx(sum(record["seconds"].values()), abs=0.5)
    recipe = project.parse(
        (augmentation.combined.folder / "recipe.toml").read_text(encoding="utf-8")
    )
    given = project.read(base / "ada.toml")
    assert recipe.augmentation == given.augmentation
    assert plan_of(recipe).requests() == plan_of(given).requests()


def test_every_disturbed_image_of_the_dataset_comes_again(made):
    _, augmentation, _ = made
    folder = augmentation.combined.folder
    disturbed = [n for n, row in metadata_of(augmentation).items() if row["type"] == "disturbed"]
    for name in disturbed:
        assert disturbance_record(folder / name).generation is not None
    found = reproduce(folder / disturbed[0])
    assert found.identical
    assert found.request.subject == "ada"
    assert verify(folder).ok
    evidence = read_evidence(folder)
    for check in (check_mapping, check_images, check_metadata, check_automated):
        line = check(evidence)
        assert not line.faults, line
    assert "11 images of 11 that the recipe asks for" in check_images(evidence).found


def test_a_row_that_tells_of_another_disturbance_is_found(made, tmp_path):
    _, augmentation, _ = made
    folder = shutil.copytree(augmentation.combined.folder, tmp_path / "set")
    rows = json.loads((folder / "metadata.json").read_text())
    name = next(n for n, row in rows.items() if row["type"] == "disturbed")
    rows[name]["disturbance"]["seed"] += 1
    (folder / "metadata.json").write_text(json.dumps(rows))
    (fault,) = check_mapping(read_evidence(folder)).faults
    assert "another disturbance" in str(fault)


def elsewhere(made, folder):
    """Return the same project and photographs in another folder."""
    shutil.copytree(made[0] / "photos", folder / "photos")
    shutil.copy(made[0] / "ada.toml", folder)
    return project.read(folder / "ada.toml")


def shown(folder):
    """Return what a dataset shows and says, but for where this machine keeps its LoRA."""
    pixels = {p.name: rgb_pixels(p).tobytes() for p in folder.glob("*.png")}
    texts = {p.name: p.read_text(encoding="utf-8") for p in folder.glob("*.t*t")}
    texts |= {name: (folder / name).read_text() for name in ("recipe.toml", "facts.json")}
    rows = json.loads((folder / "metadata.json").read_text(encoding="utf-8"))
    for row in rows.values():
        if row["type"] != "real":
            row["generation"]["settings"]["loras"][0].pop("path")
            row["generation"]["conditions"].pop("threads")
            row.pop("hash")
            row.get("disturbance", {}).pop("source_hash", None)
    return pixels, texts, rows


def test_stopped_anywhere_it_goes_on_and_is_the_same_in_another_folder(made, tmp_path):
    parsed = elsewhere(made, tmp_path)
    raw, combined = tmp_path / "out" / "raw", tmp_path / "out" / "augmentation" / "combined"

    for stage in ("Training", "Generating", "Disturbing"):
        watcher = CancelAfter(2, stage, KeyboardInterrupt)
        with pytest.raises(KeyboardInterrupt):
            make_augmentation(parsed, tmp_path, progress=watcher)
        assert not combined.exists()
    kept = {path: path.stat().st_mtime_ns for path in raw.glob("char_*.png")}
    assert len(kept) == 8
    again = make_augmentation(parsed, tmp_path)
    assert shown(combined) == shown(made[1].combined.folder)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.png")}
    assert kept.items() <= before.items()
    once_more = make_augmentation(parsed, tmp_path)
    assert (once_more.combined.unchanged, once_more.combined.version) == (True, 1)
    after = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.png")}
    assert after == before
    assert once_more.as_mapping() == again.as_mapping()


@pytest.mark.slow
def test_a_killed_process_goes_on_to_the_same(made, tmp_path):
    parsed = elsewhere(made, tmp_path)
    command = [sys.executable, "-m", "character_curator", "augment", tmp_path / "ada.toml"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    raw = tmp_path / "out" / "raw"
    deadline = time.monotonic() + 300
    while not list(raw.glob("char_*.png")) and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    again = make_augmentation(parsed, tmp_path)
    assert shown(again.combined.folder) == shown(made[1].combined.folder)


def test_a_synthetic_copy_of_a_real_image_is_turned_away(made):
    from character_curator.analysis.embed import embed
    from character_curator.analysis.embeddings import Embedder
    from character_curator.augmentation.making import _reject_memorised
    from character_curator.features import FeatureStore
    from character_curator.imageset import ImageSet

    base, _, _ = made
    images = ImageSet.from_folder(base / "photos")
    embedder = Embedder("miniature")
    with FeatureStore() as store:
        real = embed(images, embedder, store)
    real = real.filter(pl.int_range(pl.len()) < 2)
    work = base / "work"
    from character_curator.progress import silent

    found = _reject_memorised(images, real, embedder, work, 0.9999, silent)
    assert found.table["rejection"].to_list()[:2] == ["duplicate"] * 2
    assert found.table["rejection"].to_list()[2:] == [None] * 4
    assert "000.jpg" in found.table["rejection_detail"][0]


def test_scenes_vary_evenly():
    text = PROJECT.split("angles =")[0] + PROJECT.split("backgrounds =")[1].split("\n", 1)[1]
    text = text.replace("total = 6", "total = 200").replace("candidates = 8\n", "")
    parsed = project.parse(text)
    scenes = variations_of(parsed)
    assert len(scenes) == 108  # every combination, with two seeds
    assert len(plan_of(parsed).requests()) == 216
    many = project.parse(text.replace("seeds = [1, 2]", "seeds = [1, 2, 3, 4, 5]"))
    assert len(plan_of(many).requests()) == 300  # half as many again as are wanted
    few = evenly((("a", "b", "c"), ("d", "e", "f"), ("g", "h", "i"), ("j", "k", "l", "m")), 36)
    assert len(set(few)) == 36
    for axis in range(4):
        values = [one[axis] for one in few]
        counts = [values.count(v) for v in set(values)]
        assert max(counts) - min(counts) <= 1
    assert set(scenes[1]) == set(AXES)


def test_quotas_say_how_many_are_disturbed():
    quotas = synthetic_quotas(project.parse(PROJECT))
    assert quotas[0] == "kind=scenario:3,disturbed:3"
    assert "angle=2.." in quotas


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("[augmentation]", "[portfolio]\n\n[augmentation]"), "not both"),
        (('source = "photos"', ""), "real images of 'ada'"),
        (("disturbed = 0.5", 'disturbances = ["fog"]'), "there is no 'fog'"),
        (("angles = [", 'angles = ["frontal view", '), "none twice"),
        (("[training]", "[training]\nbogus = 1"), "bogus"),
        (("[plan]", '[[originals]]\nnumber = 1\nname = "o"\nprompt = "x"\n\n[plan]'), "are real"),
    ],
)
def test_a_faulty_project_is_refused(change, said):
    assert change[0] in PROJECT
    with pytest.raises(ProjectFileError, match=said):
        project.parse(PROJECT.replace(*change))


def test_what_is_missing_is_said_before_anything_is_done(tmp_path):
    text = PROJECT.split("[training]")[0].replace(
        "total = 6", 'total = 6\nlora = "gone.safetensors"'
    )
    (tmp_path / "a.toml").write_text(text, encoding="utf-8")
    draw(tmp_path / "photos", 1)
    with pytest.raises(AugmentationError, match="There is no LoRA file"):
        make_augmentation(project.read(tmp_path / "a.toml"), tmp_path)
    assert not (tmp_path / "out").exists()
    with pytest.raises(ProjectFileError, match="no section"):
        make_augmentation(project.parse('source = "photos"'), tmp_path)


def test_the_other_commands_say_which_one_it_is(tmp_path, capsys):
    (tmp_path / "a.toml").write_text(PROJECT, encoding="utf-8")
    assert cli.main(["generate", str(tmp_path / "a.toml")]) == 2
    assert "character-curator augment" in " ".join(capsys.readouterr().err.split())
