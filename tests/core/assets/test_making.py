"""The assets of a project on disk: whole, the same to the byte, and mended where they are not."""

import hashlib
import json
import shutil
import zipfile

import numpy as np
import polars as pl
import pytest
from PIL import Image

from character_curator import project
from character_curator.assets import making
from character_curator.assets.archive import ArchiveError, compared
from character_curator.assets.making import make_assets
from character_curator.assets.pack import AssetPackError, NoAssetsError
from character_curator.cli import main
from character_curator.dataset import export, verify
from character_curator.dataset.masks import MaskError
from character_curator.imageset import ImageSet
from character_curator.project_parts import recipe_of
from tests.support.small_assets import PROJECT, contents, write_project
from tests.support.texture_atlas import read_atlas
from tests.support.watchers import CancelAfter, Cancelled


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    """The folder of a project whose assets are made, and what came of them; to be read only."""
    folder = tmp_path_factory.mktemp("first")
    return folder, make_assets(write_project(folder), folder)


@pytest.fixture
def copied(first, tmp_path):
    """A copy of it, and the project."""
    shutil.copytree(first[0], tmp_path / "copy")
    return tmp_path / "copy", project.parse(PROJECT)


def test_every_asset_is_in_the_folder_of_its_prompt(first):
    folder, made = first
    assert made.pack.files == (
        "armor/ada_armor_966983.png", "portrait/ada_portrait_966983.png",
        "armor/ada_armor_966984.png", "portrait/ada_portrait_966984.png",
    )  # fmt: skip
    assert made.folders == {"armor": 2, "portrait": 2}
    for name in made.pack.files:
        with Image.open(made.pack.folder / name) as image:
            assert image.mode == "RGBA"
            assert all(side & (side - 1) == 0 for side in image.size)
            assert image.getchannel("A").getextrema() == (0, 255)  # the background is away
            assert not image.info.keys() - {"transparency"}
    assert (folder / "out" / "assets" / "sheet.jpg").is_file()


def test_a_reader_of_the_format_gets_every_asset_back(first):
    pack = first[1].pack
    found = read_atlas(pack.folder / "atlas.json")
    assert found.keys() == set(pack.files)
    for name, image in found.items():
        assert image.tobytes() == Image.open(pack.folder / name).tobytes()
    assert any(frame.size != (frame.box[2], frame.box[3]) for frame in pack.atlas.frames)


def test_the_manifest_has_a_seed_record_of_each(first):
    folder, made = first
    manifest = json.loads((made.pack.folder / "manifest.json").read_text())
    assert manifest["count"] == 4
    assert (
        manifest["lora"]["sha256"]
        == hashlib.sha256((folder / "ada.safetensors").read_bytes()).hexdigest()
    )
    assert manifest["lora"]["trigger"] == "adax woman"
    (how,) = manifest["generation"]
    assert how["settings"]["model_fingerprint"]
    assert how["settings"]["loras"][0]["weight"] == 0.5
    assert {"character-curator", "pillow", "rectpack"} <= manifest["tools"].keys()
    for entry in manifest["assets"]:
        data = (made.pack.folder / entry["file"]).read_bytes()
        assert entry["sha256"] == hashlib.sha256(data).hexdigest()
        assert entry["seed"] in (966983, 966984)
        assert (
            entry["noise_seed"]
            == making.asset_plan(project.parse(PROJECT), folder / "ada.safetensors")
            .requests()[manifest["assets"].index(entry)]
            .noise_seed
        )
        assert "fantasy armor" in entry["prompt"] or "t-shirt" in entry["prompt"]
        assert entry["quality"] >= 0
    assert str(folder) not in json.dumps(manifest)


def test_the_archive_holds_the_pack_and_bears_no_date(first):
    pack = first[1].pack
    with zipfile.ZipFile(pack.archive) as archive:
        names = archive.namelist()
        assert names == sorted(names)
        assert {entry.date_time for entry in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
        assert {entry.external_attr >> 16 for entry in archive.infolist()} == {0o100644}
        for name in names:
            assert archive.read(name) == (pack.folder.parent / name).read_bytes()
    listed = {name for name in contents(pack.folder) if name != ".pack.json"}
    assert {name.removeprefix("hero/") for name in names} == listed
    assert verify(pack.folder).ok
    assert pack.digest == hashlib.sha256(pack.archive.read_bytes()).hexdigest()


def test_consistency_is_that_of_the_faces(first):
    made = first[1]
    found = made.consistency.identity_mapping()
    assert found["against"] == "pack"
    assert -1 <= found["least"] <= found["mean"] <= 1
    assert found["folders"].keys() == {"armor", "portrait"}
    vectors = made.images.accepted.embeddings()
    pairs = (vectors @ vectors.T)[np.triu_indices(4, 1)]
    assert made.consistency.clip == pytest.approx(pairs.mean(), abs=1e-3)
    assert 1 <= made.consistency.vendi <= 4


def test_the_faces_of_the_projects_dataset_are_what_it_is_compared_with(copied):
    folder, _ = copied
    own = project.parse(
        PROJECT.replace('lora = "ada.safetensors"\n', "")
        + '\n[training]\nfile = "../ada.safetensors"\n'
    )
    alone = make_assets(own, folder)
    assert alone.consistency.against == "pack"
    assert alone.consistency.same is None
    export(alone.images, folder / "out" / "dataset", name="hero")
    found = make_assets(own, folder).consistency
    assert found.against == "dataset"
    # The images are those of the dataset: all but one in twenty are as like it as its own.
    assert found.identity == pytest.approx(alone.consistency.identity)
    assert found.threshold == pytest.approx(np.quantile(found.identity, 0.05))
    assert (found.same.count, found.same.total) == (3, 4)


def test_from_nothing_and_elsewhere_the_archive_is_the_same(first, tmp_path):
    _, made = first
    # Interrupted while images are made, and again while they are cut out.
    elsewhere = tmp_path / "else where"
    wanted = write_project(elsewhere)
    for stage, after in (("Generating", 2), ("Cutting assets", 3)):
        with pytest.raises(Cancelled):
            make_assets(wanted, elsewhere, progress=CancelAfter(after, stage))
    assert not (elsewhere / "out" / "assets" / "hero.zip").exists()
    again = make_assets(wanted, elsewhere)
    assert again.pack.digest == made.pack.digest
    assert not again.pack.mended
    assert contents(again.pack.folder) == contents(made.pack.folder)


def test_a_second_run_writes_nothing(copied):
    folder, wanted = copied
    pack = folder / "out" / "assets" / "hero"
    before = {path: path.stat().st_mtime_ns for path in pack.rglob("*.png")}
    again = make_assets(wanted, folder)
    assert again.pack.made == again.pack.mended == again.pack.removed == ()
    assert {path: path.stat().st_mtime_ns for path in pack.rglob("*.png")} == before


def test_a_damaged_file_is_made_again_and_said(copied, first, caplog):
    folder, wanted = copied
    pack = folder / "out" / "assets" / "hero"
    asset, raw = pack / "armor" / "ada_armor_966983.png", folder / "out" / "assets" / "raw"
    asset.write_bytes(asset.read_bytes()[:-40])
    (pack / "atlas.json").unlink()
    damaged = raw / "char_ada_seed_966984_scenario_02_01.png"
    damaged.write_bytes(damaged.read_bytes()[:400])
    (pack / "SHA256SUMS").write_text("changed")
    again = make_assets(wanted, folder)
    assert set(again.pack.mended) == {"armor/ada_armor_966983.png", "atlas.json", "SHA256SUMS"}
    assert "3 files were" in caplog.text
    assert "made again" in caplog.text
    assert again.pack.digest == first[1].pack.digest
    assert contents(pack) == contents(first[1].pack.folder)


def test_what_belongs_to_an_engine_stays_and_what_was_the_packs_goes(copied):
    folder, wanted = copied
    pack = folder / "out" / "assets" / "hero"
    (pack / "armor" / "ada_armor_966983.png.import").write_text("[remap]")
    fewer = wanted.assets.replace(prompts=wanted.assets.prompts[:1], atlas=False)
    again = make_assets(wanted.replace(assets=fewer), folder)
    assert set(again.pack.removed) == {
        "atlas.json", "atlas.png", "portrait/ada_portrait_966983.png",
        "portrait/ada_portrait_966984.png",
    }  # fmt: skip
    assert not (pack / "portrait").exists()
    assert (pack / "armor" / "ada_armor_966983.png.import").is_file()
    with zipfile.ZipFile(again.pack.archive) as archive:
        assert not [name for name in archive.namelist() if name.endswith(".import")]


def test_a_file_of_somebody_elses_is_not_written_over(copied):
    folder, wanted = copied
    pack = folder / "out" / "assets" / "hero"
    (pack / ".pack.json").unlink()
    with pytest.raises(AssetPackError, match="is not of this pack"):
        make_assets(wanted, folder)


def test_a_note_that_leads_elsewhere_removes_nothing(copied):
    folder, wanted = copied
    pack = folder / "out" / "assets" / "hero"
    note = json.loads((pack / ".pack.json").read_text())
    note["files"] |= {"../../../ada.safetensors": None, str(folder / "hero.toml"): None}
    (pack / ".pack.json").write_text(json.dumps(note))
    make_assets(wanted, folder)
    assert (folder / "ada.safetensors").is_file()
    assert (folder / "hero.toml").is_file()


def test_categories_that_a_person_names_are_the_folders(copied):
    folder, wanted = copied
    named = {"far": "portrait of a person, half body", "near": "portrait of a person, close-up"}
    made = make_assets(wanted.replace(assets=wanted.assets.replace(categories=named)), folder)
    table = made.images.table
    embedded = made.images.embeddings()
    from character_curator import Embedder

    texts = Embedder("miniature").embed_texts(list(named.values()))
    best = [list(named)[i] for i in np.argmax(embedded @ texts.T, axis=1)]
    assert table["tag"].to_list() == best
    assert made.folders == dict(sorted(table["tag"].value_counts().rows()))
    manifest = json.loads((made.pack.folder / "manifest.json").read_text())
    assert {entry["file"].partition("/")[0] == entry["tag"] for entry in manifest["assets"]} == {
        True
    }
    by_prompt = wanted.assets.replace(categories=named, folders="prompt", background="keep")
    made = make_assets(wanted.replace(assets=by_prompt), folder)
    assert made.folders == {"armor": 2, "portrait": 2}
    # A kept background is kept to the pixel.
    raw = Image.open(made.images.paths()[0]).convert("RGBA")
    assert Image.open(made.pack.folder / made.pack.files[0]).tobytes() == raw.tobytes()


def test_what_is_not_good_enough_is_left_out_with_its_reason(copied):
    folder, wanted = copied
    quality = make_assets(wanted, folder).images.table["quality"]
    limit = float(quality.sort()[2])
    strict = wanted.replace(assets=wanted.assets.replace(minimum_quality=limit))
    made = make_assets(strict, folder)
    assert len(made.pack.files) == (quality >= limit).sum()
    manifest = json.loads((made.pack.folder / "manifest.json").read_text())
    assert {one["rejection"] for one in manifest["left_out"]} == {"low_quality"}
    with pytest.raises(NoAssetsError, match="low quality 4"):
        make_assets(strict.replace(assets=strict.assets.replace(minimum_quality=1.0)), folder)


def test_masks_of_a_folder(copied):
    folder, wanted = copied
    masks = folder / "masks"
    masks.mkdir()
    given = wanted.replace(assets=wanted.assets.replace(background="masks", size=None))
    with pytest.raises(MaskError, match=r"no mask of char_ada_seed_966983_scenario_01_01"):
        make_assets(given, folder)
    for path in (folder / "out" / "assets" / "raw").glob("*.png"):
        mask = Image.new("L", (128, 128))
        if "966983_scenario_01" not in path.name:
            mask.paste(255, (20, 30, 60, 90))
        mask.save(masks / path.name)
    made = make_assets(given, folder)
    assert made.pack.empty == (0,)
    assert [Image.open(made.pack.folder / name).size for name in made.pack.files] == [(40, 60)] * 3


def test_the_command_says_what_it_did(first, copied, capsys):
    folder, _ = copied
    assert main(["assets", str(folder / "hero.toml"), "--json"]) == 0
    out, err = capsys.readouterr()
    told = json.loads(out)
    assert told["archive"]["sha256"] == first[1].pack.digest
    assert told["written"] == {"made": 0, "mended": [], "removed": []}
    assert told["folders"] == {"armor": 2, "portrait": 2}
    assert "Identity against the pack" in err
    # 'run' of a project that makes nothing else does the same.
    assert main(["run", str(folder / "hero.toml"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["fingerprint"] == told["fingerprint"]


def test_an_archive_that_was_changed_is_found(copied, capsys):
    folder, _ = copied
    archive = folder / "out" / "assets" / "hero.zip"
    kept = folder / "kept.zip"
    shutil.copy(archive, kept)
    with zipfile.ZipFile(kept) as source, zipfile.ZipFile(archive, "w") as target:
        for entry in source.infolist():
            if entry.filename != "hero/atlas.png":
                data = source.read(entry)
                target.writestr(entry, data[::-1] if entry.filename.endswith("toml") else data)
    found = compared(kept, archive)
    assert not found.identical
    assert found.missing == ("hero/atlas.png",)
    assert found.changed == ("hero/recipe.toml",)
    archive.write_bytes(b"PK")
    assert main(["assets", str(folder / "hero.toml"), "--verify"]) == 2
    with pytest.raises(ArchiveError, match="cannot be read"):
        compared(kept, archive)


def test_a_lora_that_is_not_there_is_said_before_anything_is_made(tmp_path):
    wanted = write_project(tmp_path)
    (tmp_path / "ada.safetensors").unlink()
    with pytest.raises(AssetPackError, match=r"no LoRA file .*Check the name 'lora'"):
        make_assets(wanted, tmp_path)
    own = project.parse(PROJECT.replace('lora = "ada.safetensors"\n', "") + "\n[training]\n")
    with pytest.raises(AssetPackError, match="make it first with 'character-curator run'"):
        make_assets(own, tmp_path)
    nobody = project.parse("[assets]\n")
    with pytest.raises(AssetPackError, match="nothing describes the character"):
        make_assets(nobody, tmp_path)
    assert not list(tmp_path.glob("out/assets/raw/*"))


def test_a_dataset_stays_the_same_whatever_is_made_with_it():
    wanted = project.parse(PROJECT)
    assert recipe_of(wanted) == recipe_of(wanted.model_copy(update={"assets": None}))


def test_prompts_are_as_the_lora_was_trained():
    wanted = project.parse(PROJECT.replace(PROJECT[PROJECT.index("template") :], ""))
    lora = making.asset_plan(wanted, object()).requests()
    assert [one.prompt for one in lora[:4]] == [
        "adax woman, in game armor", "adax woman, portrait for UI", "adax woman, action pose",
        "adax woman, idle animation frame",
    ]  # fmt: skip


def test_the_table_of_all_candidates_is_there(first):
    folder, made = first
    table = ImageSet.read(folder / "out" / "assets" / "images.parquet").table
    assert table.height == 4
    assert table.select(pl.col("rejection").is_null().all()).item()
    report = json.loads((folder / "out" / "assets" / "report.json").read_text())
    assert report == json.loads(json.dumps(made.as_mapping()))
