"""The exported folder: who reads it, and what is in it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import polars as pl
import pytest
import tomlkit
from PIL import Image

from character_curator.dataset import CuratedDataset, collate, export, verify
from character_curator.dataset.checksums import NotADatasetError
from character_curator.dataset.exporting import NothingSelectedError
from character_curator.imageset import ImageSet
from character_curator.rejection_reasons import Rejection
from tests.support.images import drawing, make_images


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return make_images(tmp_path_factory.mktemp("raw"))


@pytest.fixture(scope="module")
def exported(images, tmp_path_factory):
    recipe = {"project": {"name": "Char"}, "quality": {"minimum": 0.74, "unset": None}}
    return export(
        images,
        tmp_path_factory.mktemp("out") / "Gentle Freckled",
        name="Gentle Freckled Character",
        recipe=recipe,
    )


@pytest.fixture(scope="module")
def folder(exported):
    return exported.folder


# --- readers ------------------------------------------------------------------------------------


def seed_document_class():
    """The loader of the seed-document recipe, as it is printed there."""

    class CuratedDataset:
        """Load and use curated synthetic data."""

        def __init__(self, dataset_root):
            self.root = dataset_root
            self.metadata = self._load_metadata()
            self.images = self._index_images()

        def _load_metadata(self):
            """Load JSON metadata file."""
            metadata_path = os.path.join(self.root, "metadata.json")
            with open(metadata_path) as f:
                return json.load(f)

        def _index_images(self):
            """Index all images in dataset."""
            images = []
            for filename in sorted(os.listdir(self.root)):
                if filename.endswith(".png"):
                    images.append(
                        {
                            "filename": filename,
                            "path": os.path.join(self.root, filename),
                            "metadata": self.metadata.get(filename, {}),
                        }
                    )
            return images

        def __len__(self):
            """Return dataset size."""
            return len(self.images)

        def __getitem__(self, idx):
            img_info = self.images[idx]
            image = Image.open(img_info["path"])
            return image, img_info["metadata"]

        def filter_by_quality(self, min_score):
            filtered = []
            for img_info in self.images:
                quality = img_info["metadata"].get("quality_score", 0)
                if quality >= min_score:
                    filtered.append(img_info)
            return filtered

        def get_by_cluster(self, cluster_id):
            cluster_images = []
            for img_info in self.images:
                cluster = img_info["metadata"].get("cluster", -1)
                if cluster == cluster_id:
                    cluster_images.append(img_info)
            return cluster_images

    return CuratedDataset


@pytest.mark.parametrize(
    "loader", [seed_document_class(), CuratedDataset], ids=["document", "ours"]
)
def test_the_published_loader_reads_the_export(loader, folder, images):
    chosen = images.table.filter("selected")
    dataset = loader(str(folder))
    assert len(dataset) == 12
    for i, (image, metadata) in enumerate(dataset):
        row = chosen.row(by_predicate=pl.col("path") == dataset.images[i]["filename"], named=True)
        with Image.open(images.root / row["path"]) as source:
            assert np.array_equal(np.asarray(image), np.asarray(source))
        assert metadata["quality_score"] == row["quality"]
        assert metadata["type"] == row["kind"]
        for key in ("seed", "cluster", "cluster_name", "scenario", "take", "subject", "prompt"):
            assert metadata[key] == row[key]
        assert metadata["generation"]["index"] == json.loads(row["generation"])["index"]
    assert i == 11
    high = dataset.filter_by_quality(min_score=0.85)
    wanted = chosen.filter(pl.col("quality") >= 0.85)["path"].to_list()
    assert 0 < len(wanted) < 12
    assert sorted(entry["filename"] for entry in high) == sorted(wanted)
    cluster = dataset.get_by_cluster(3)
    wanted = chosen.filter(pl.col("cluster") == 3)["path"].to_list()
    assert wanted
    assert sorted(entry["filename"] for entry in cluster) == sorted(wanted)
    assert dataset.get_by_cluster(99) == []


def test_our_loader_gives_what_the_published_one_gives(folder):
    ours, published = CuratedDataset(folder), seed_document_class()(str(folder))
    assert ours.images == published.images
    assert ours.metadata == published.metadata


def test_hugging_face_imagefolder_reads_images_and_captions(folder, hugging_face):
    loaded = hugging_face("imagefolder", data_dir=str(folder))
    assert list(loaded) == ["train"]
    assert_read_like(loaded["train"], folder)


def test_hugging_face_reads_the_folder_by_its_card(folder, hugging_face):
    loaded = hugging_face(str(folder))
    assert list(loaded) == ["train"]
    assert_read_like(loaded["train"], folder)


def assert_read_like(loaded, folder):
    ours = CuratedDataset(folder)
    assert len(loaded) == len(ours)
    by_hash = {metadata["hash"]: (image, metadata) for image, metadata in ours}
    for row in loaded:
        image, metadata = by_hash.pop(row["hash"])
        assert np.array_equal(np.asarray(row["image"]), np.asarray(image))
        assert row["text"] == metadata["caption"]
        assert row["quality_score"] == metadata["quality_score"]
        assert row["seed"] == metadata["seed"]
        assert json.loads(row["generation"]) == metadata["generation"]
    assert not by_hash


def test_hugging_face_reads_names_that_look_like_splits(tmp_path, hugging_face):
    raw = tmp_path / "raw"
    raw.mkdir()
    for i, name in enumerate(["test.png", "my train photo.png", "val-1.png", "eval_test.png"]):
        drawing(i).save(raw / name)
    done = export(ImageSet.from_folder(raw), tmp_path / "test-set", name="x", trigger="char1")
    loaded = hugging_face("imagefolder", data_dir=str(done.folder))
    assert {split: len(rows) for split, rows in loaded.items()} == {"train": 4}


def test_a_kohya_style_reader_finds_captions_and_settings(folder, images):
    settings = tomlkit.parse((folder / "dataset.toml").read_text()).unwrap()
    extension = settings["general"]["caption_extension"]
    assert settings["datasets"][0]["resolution"] == 64
    assert settings["general"]["min_bucket_reso"] <= 64 <= settings["general"]["max_bucket_reso"]
    pairs = {}
    for subset in settings["datasets"][0]["subsets"]:
        assert subset["class_tokens"] == "char1"
        place = folder / subset["image_dir"]
        found = [p for p in place.iterdir() if p.suffix in (".png", ".jpg", ".jpeg", ".webp")]
        for path in found:
            text = path.with_suffix(extension).read_text(encoding="utf-8").splitlines()[0].strip()
            pairs[path.name] = text
    assert len(pairs) == 12
    captions = {r["path"]: r["caption"] for r in images.table.filter("selected").to_dicts()}
    for name, text in pairs.items():
        assert text.startswith(captions[name] + ", ")
        assert text.split(", ")[-1] in ("front view", "three-quarter view", "profile view")


def test_sha256sum_accepts_the_list(folder):
    result = subprocess.run(["sha256sum", "-c", "SHA256SUMS"], cwd=folder, capture_output=True)
    assert result.returncode == 0, result.stderr
    names = [line[66:] for line in (folder / "SHA256SUMS").read_text().splitlines()]
    assert names == sorted(names)
    listed = len(result.stdout.splitlines())
    assert listed == len(list(folder.iterdir())) - 2  # the list itself, and version.json


def test_verify_finds_changes(folder, tmp_path):
    assert verify(folder).ok
    copy = shutil.copytree(folder, tmp_path / "copy")
    names = sorted(p.name for p in copy.glob("*.png"))
    (copy / names[0]).unlink()
    with (copy / names[1]).open("ab") as file:
        file.write(b"x")
    (copy / "new.txt").write_text("mine")
    found = verify(copy)
    assert not found.ok
    assert (found.missing, found.changed) == ((names[0],), (names[1],))
    assert found.unlisted == ("new.txt",)
    with pytest.raises(NotADatasetError, match="SHA256SUMS"):
        verify(tmp_path)
    with pytest.raises(NotADatasetError, match=r"metadata\.json"):
        CuratedDataset(tmp_path / "absent")


def test_is_a_torch_dataset_that_a_loader_batches(folder):
    torch = pytest.importorskip("torch")

    def to_tensor(image):
        return torch.from_numpy(np.array(image)).permute(2, 0, 1) / 255

    dataset = CuratedDataset(folder, transform=to_tensor)
    assert isinstance(dataset, torch.utils.data.Dataset)
    loader = torch.utils.data.DataLoader(dataset, batch_size=5, collate_fn=collate)
    batches = list(loader)
    assert [tuple(images.shape) for images, _ in batches] == [(n, 3, 48, 48) for n in (5, 5, 2)]
    seen = [m["hash"] for _, metadata in batches for m in metadata]
    assert seen == [entry["metadata"]["hash"] for entry in dataset.images]
    plain = torch.utils.data.DataLoader(CuratedDataset(folder), batch_size=4, collate_fn=collate)
    images, _ = next(iter(plain))
    assert isinstance(images, list)
    assert images[0].size == (48, 48)


def test_importing_the_package_imports_no_torch():
    code = (
        "import sys, character_curator.dataset as d; d.export; d.verify; "
        "print('torch' in sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout.strip() == "False", result.stderr


# --- contents -----------------------------------------------------------------------------------


def test_images_are_linked_not_copied(exported, images):
    assert (exported.linked, exported.converted, exported.images) == (12, 0, 12)
    for path in exported.folder.glob("*.png"):
        assert path.samefile(images.root / path.name)


def test_provenance_names_every_candidate(folder, images):
    table = pl.read_parquet(folder / "provenance.parquet")
    assert table["path"].to_list() == images.table["path"].to_list()
    outcomes = dict(table.group_by("outcome").len().iter_rows())
    assert outcomes["selected"] == 12
    assert outcomes["rejected: quota"] == images.rejections()["quota"]
    assert sum(outcomes.values()) == len(images)
    assert table["rejection_detail"].to_list() == images.table["rejection_detail"].to_list()
    assert pl.Binary not in table.dtypes
    names = set(table["file_name"].drop_nulls())
    assert names == {p.name for p in folder.glob("*.png")}


def test_the_recipe_is_kept(folder):
    recipe = tomlkit.parse((folder / "recipe.toml").read_text()).unwrap()
    assert recipe == {"project": {"name": "Char"}, "quality": {"minimum": 0.74}}


def test_the_card_describes_the_composition(folder, images):
    yaml = pytest.importorskip("yaml")
    text = (folder / "README.md").read_text(encoding="utf-8")
    _, head, body = text.split("---\n", 2)
    parsed = yaml.safe_load(head)
    assert parsed["pretty_name"] == "Gentle Freckled Character"
    assert parsed["size_categories"] == ["n<1K"]
    assert "synthetic" in parsed["tags"]
    assert parsed["dataset_info"]["splits"][0]["num_examples"] == 12
    chosen = images.table.filter("selected")
    for column in ("kind", "seed", "framing", "pose"):
        for value, count in chosen[column].value_counts().iter_rows():
            assert f"\n| {value} | {count} |" in body
    assert "| 12 curated images |" in body


def test_the_same_export_has_the_same_bytes(images, exported, tmp_path):
    recipe = tomlkit.parse((exported.folder / "recipe.toml").read_text()).unwrap()
    again = export(images, tmp_path / "x", name="Gentle Freckled Character", recipe=recipe)
    assert (again.folder / "SHA256SUMS").read_bytes() == (
        exported.folder / "SHA256SUMS"
    ).read_bytes()


def test_a_set_without_selection_exports_what_is_accepted(tmp_path):
    images = make_images(tmp_path / "raw", 12, selected=None)
    done = export(images, tmp_path / "out", name="x", report=False)
    assert done.images == len(images.accepted)
    assert not (done.folder / "report.html").exists()
    nothing = images.reject(np.ones(12, bool), Rejection.LOW_QUALITY)
    with pytest.raises(NothingSelectedError, match="low_quality"):
        export(nothing, tmp_path / "none", name="x")
    assert not (tmp_path / "none").exists()


def test_in_comfyuis_folder_the_metadata_has_a_name_that_its_own_nodes_do_not_look_for(
    images, folder, tmp_path
):
    for name in ("custom_nodes", "models"):
        (tmp_path / "ComfyUI" / name).mkdir(parents=True)
    place = tmp_path / "ComfyUI" / "datasets" / "people" / "char1"
    recipe = {"project": {"name": "Char"}, "quality": {"minimum": 0.74, "unset": None}}
    for _ in range(2):
        made = export(images, place, name="Gentle Freckled Character", recipe=recipe)
    assert made.unchanged
    assert not list((tmp_path / "ComfyUI").rglob("metadata.json"))
    assert (place / "curated.json").read_bytes() == (folder / "metadata.json").read_bytes()
    assert "`curated.json`" in (place / "README.md").read_text(encoding="utf-8")
    assert CuratedDataset(place).metadata == CuratedDataset(folder).metadata
    assert verify(place).ok


def test_a_folder_that_is_only_called_datasets_has_the_usual_name(images, tmp_path):
    place = tmp_path / "datasets" / "char1"
    export(images, place, name="Gentle Freckled Character")
    assert (place / "metadata.json").is_file()
