from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import tomlkit
from hypothesis import given
from hypothesis import strategies as st
from images import make_images, picture, png_bytes
from PIL import Image

from character_curator.dataset import CuratedDataset, collate, export, verify
from character_curator.dataset.captions import CaptionError, caption
from character_curator.dataset.checksums import NotADatasetError
from character_curator.dataset.export import NothingSelectedError
from character_curator.dataset.names import export_names
from character_curator.dataset.pictures import SourcesChangedError
from character_curator.dataset.publish import OutputError, versions
from character_curator.imageset import ImageSet, Rejection

TESTS = Path(__file__).parents[1]


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


def published_class():
    """The loader of the published recipe, as it is printed there."""

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


@pytest.mark.parametrize("loader", [published_class(), CuratedDataset], ids=["published", "ours"])
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
    ours, published = CuratedDataset(folder), published_class()(str(folder))
    assert ours.images == published.images
    assert ours.metadata == published.metadata


@pytest.fixture
def hugging_face(tmp_path, monkeypatch):
    """The library, with its caches here, and no network."""
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    return lambda *args, **kwargs: datasets.load_dataset(
        *args, cache_dir=str(tmp_path / "cache"), **kwargs
    )


def test_hugging_face_imagefolder_reads_pictures_and_captions(folder, hugging_face):
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
        picture(i).save(raw / name)
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
    listed = len(result.stdout.splitlines())
    assert listed == len(list(folder.iterdir())) - 1


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
    assert [tuple(pictures.shape) for pictures, _ in batches] == [(n, 3, 48, 48) for n in (5, 5, 2)]
    seen = [m["hash"] for _, metadata in batches for m in metadata]
    assert seen == [entry["metadata"]["hash"] for entry in dataset.images]
    plain = torch.utils.data.DataLoader(CuratedDataset(folder), batch_size=4, collate_fn=collate)
    pictures, _ = next(iter(plain))
    assert isinstance(pictures, list)
    assert pictures[0].size == (48, 48)


def test_importing_the_package_imports_no_torch():
    code = (
        "import sys, character_curator.dataset as d; d.export; d.verify; "
        "print('torch' in sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout.strip() == "False", result.stderr


# --- contents -----------------------------------------------------------------------------------


def test_pictures_are_linked_not_copied(exported, images):
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


# --- pictures from anywhere ---------------------------------------------------------------------


def test_every_format_becomes_a_png_that_shows_the_same(tmp_path):
    raw = tmp_path / "raw"
    raw.mkdir()
    base = picture(1)
    base.save(raw / "plain.png")
    base.save(raw / "lossless.webp", lossless=True)
    base.save(raw / "table.bmp")
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    Image.fromarray(np.asarray(base)[:24]).save(raw / "turned.jpg", exif=exif, quality=95)
    base.convert("CMYK").save(raw / "press.jpg", quality=95)
    deep = np.linspace(0, 65535, 48 * 48).reshape(48, 48).astype(np.uint16)
    Image.fromarray(deep).save(raw / "deep.png")
    base.save(raw / "moving.webp", save_all=True, append_images=[picture(2)], lossless=True)
    with_alpha = base.convert("RGBA")
    with_alpha.putalpha(128)
    with_alpha.save(raw / "alpha.png")
    images = ImageSet.from_folder(raw)
    assert images.table["rejection"].null_count() == len(images) == 8
    done = export(images, tmp_path / "out", name="real")
    assert done.converted == 6
    dataset = CuratedDataset(done.folder)
    read = {metadata["source"]: (image, metadata) for image, metadata in dataset}
    pixels = np.asarray(base)
    for name in ("plain.png", "lossless.webp", "table.bmp", "moving.webp"):
        assert np.array_equal(np.asarray(read[name][0]), pixels), name
    with Image.open(raw / "turned.jpg") as source:
        turned = np.rot90(np.asarray(source), -1)
    assert np.array_equal(np.asarray(read["turned.jpg"][0]), turned)
    assert read["turned.jpg"][0].size == (24, 48)
    assert read["turned.jpg"][1]["width"] == 24
    assert read["press.jpg"][0].mode == "RGB"
    assert np.abs(np.asarray(read["press.jpg"][0]).astype(int) - pixels).mean() < 6
    grey = np.asarray(read["deep.png"][0].convert("RGB"))[..., 0]
    assert np.array_equal(grey, np.rint(deep / 257).astype(np.uint8))
    assert read["alpha.png"][0].mode == "RGBA"
    for image, metadata in read.values():
        exported_bytes = Path(image.filename).read_bytes()
        assert metadata["hash"] == hashlib.sha256(exported_bytes).hexdigest()
        source_hash = hashlib.sha256((raw / metadata["source"]).read_bytes()).hexdigest()
        assert metadata.get("source_hash", metadata["hash"]) == source_hash


def test_odd_names_from_subfolders(tmp_path, hugging_face):
    names = [
        "a/portrait.png",
        "b/portrait.jpg",
        "b/Portrait.webp",
        "with space 😀 [1].png",
        "n" * 240 + ".png",
        "n" * 239 + "m.png",
        "tail .png",
        "ünï__code.png",
    ]
    raw = tmp_path / "raw"
    for i, name in enumerate(names):
        (raw / name).parent.mkdir(parents=True, exist_ok=True)
        picture(i).save(raw / name)
    images = ImageSet.from_folder(raw)
    done = export(images, tmp_path / "out", name="odd", trigger="char1")
    assert verify(done.folder).ok
    check = subprocess.run(["sha256sum", "-c", "SHA256SUMS"], cwd=done.folder, capture_output=True)
    assert check.returncode == 0
    assert len(CuratedDataset(done.folder)) == len(names)
    assert len(hugging_face("imagefolder", data_dir=str(done.folder))["train"]) == len(names)
    exported = {p.name for p in done.folder.glob("*.png")}
    assert "portrait.png" in exported
    assert (done.folder / "metadata.json").read_bytes().isascii()
    assert "with space 😀 _1_.png" in exported
    for name in exported:
        assert (done.folder / name).with_suffix(".txt").is_file()


@given(
    st.lists(
        st.text(st.characters(exclude_categories=["Cs"], exclude_characters="/\x00"), min_size=1)
        .filter(lambda s: s not in (".", ".."))
        .map(lambda s: s + ".png"),
        unique=True,
        max_size=8,
    ),
    st.randoms(),
)
def test_names_are_safe_unique_and_do_not_depend_on_order(paths, random):
    names = export_names(paths)
    assert len({name.casefold() for name in names}) == len(paths)
    for name in names:
        assert name.endswith(".png")
        assert len(name.encode()) <= 200
        assert not set(name) & set('<>:"/\\|?*[]\n\r\t')
        assert not name.startswith((".", "__", " "))
    shuffled = list(paths)
    random.shuffle(shuffled)
    assert dict(zip(shuffled, export_names(shuffled), strict=True)) == dict(
        zip(paths, names, strict=True)
    )


def test_sources_that_changed_or_vanished_stop_the_export(tmp_path):
    images = make_images(tmp_path / "raw", 12, selected=6)
    chosen = images.table.filter("selected")["path"].to_list()
    (images.root / chosen[0]).unlink()
    (images.root / chosen[1]).write_bytes(png_bytes(picture(99)))
    with pytest.raises(SourcesChangedError) as caught:
        export(images, tmp_path / "out", name="x")
    assert chosen[0] in str(caught.value)
    assert chosen[1] in str(caught.value)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["raw"]


# --- captions -----------------------------------------------------------------------------------

ROW = {
    "subject": "char1",
    "caption": "char1 person, red hoodie, in profile",
    "prompt": "portrait, red hoodie",
    "framing": "close-up",
    "pose": "profile",
    "scenario_name": "red_hoodie",
}


@pytest.mark.parametrize(
    ("strategy", "trigger", "row", "wanted"),
    [
        ("trigger + what varies", None, ROW, "char1 person, red hoodie, in profile, close-up"),
        (
            "trigger + what varies",
            "ohwx",
            {**ROW, "caption": None, "pose": "frontal"},
            "ohwx, portrait, red hoodie, close-up, front view",
        ),
        ("trigger + what varies", "ohwx", {"pose": "three-quarter"}, "ohwx, three-quarter view"),
        ("prompt", "ohwx", ROW, "portrait, red hoodie"),
        ("trigger + prompt", "ohwx", ROW, "ohwx, portrait, red hoodie"),
        ("trigger + caption", None, ROW, "char1 person, red hoodie, in profile"),
        ("trigger", "ohwx", ROW, "ohwx"),
        ("photo of {trigger}, {category}, {pose}", "ohwx", ROW, "photo of ohwx, profile"),
        ("trigger + prompt", "a", {"prompt": "two\nlines"}, "a, two lines"),
    ],
)
def test_captions(strategy, trigger, row, wanted):
    assert caption(row, trigger, strategy) == wanted


@pytest.mark.parametrize("strategy", ["everything", "a {nothing}", "open {brace"])
def test_unknown_caption_strategies_say_what_exists(strategy, tmp_path):
    with pytest.raises(CaptionError):
        export(make_images(tmp_path / "raw", 4), tmp_path / "out", name="x", captions=strategy)
    assert not (tmp_path / "out").exists()


# --- versions and interruption ------------------------------------------------------------------


def test_exporting_again_keeps_the_version_before(tmp_path):
    images = make_images(tmp_path / "raw", 12, selected=6)
    output = tmp_path / "set"
    first = export(images, output, name="x")
    assert (first.version, first.previous, first.unchanged) == (1, None, False)
    sums = (output / "SHA256SUMS").read_bytes()
    same = export(images, output, name="x")
    assert (same.version, same.previous, same.unchanged) == (1, None, True)
    second = export(images, output, name="y")
    assert (second.version, second.previous) == (2, tmp_path / "set.versions" / "v0001")
    assert (second.previous / "SHA256SUMS").read_bytes() == sums
    assert verify(second.previous).ok
    assert verify(output).ok
    third = export(images, output, name="z")
    assert third.version == 3
    assert [p.name for p in versions(output)] == ["v0001", "v0002"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["raw", "set", "set.versions"]


def test_a_folder_of_someone_else_is_not_touched(tmp_path):
    images = make_images(tmp_path / "raw", 4)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("precious")
    (tmp_path / "file").write_text("a file")
    for name in ("mine", "file", "raw"):
        with pytest.raises(OutputError):
            export(images, tmp_path / name, name="x")
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "precious"
    (tmp_path / "empty").mkdir()
    assert export(images, tmp_path / "empty", name="x").version == 1


def test_two_exports_to_one_place_do_not_mix(tmp_path):
    images = make_images(tmp_path / "raw", 4)

    class Second:
        error: Exception | None = None

        def start(self, stage, total):
            try:
                export(images, tmp_path / "out", name="second")
            except OutputError as error:
                self.error = error

        def advance(self, n=1, note=""):
            pass

        def finish(self):
            pass

    watcher = Second()
    done = export(images, tmp_path / "out", name="first", progress=watcher)
    assert "is running" in str(watcher.error)
    assert verify(done.folder).ok
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out", "raw"]


def test_a_cancel_leaves_nothing(tmp_path):
    images = make_images(tmp_path / "raw", 12, selected=6)

    class Cancel:
        def start(self, stage, total):
            assert total == 6

        def advance(self, n=1, note=""):
            raise KeyboardInterrupt

        def finish(self):
            pass

    with pytest.raises(KeyboardInterrupt):
        export(images, tmp_path / "out", name="x", progress=Cancel())
    assert sorted(p.name for p in tmp_path.iterdir()) == ["raw"]


KILLED = """
import os, sys
sys.path.insert(0, {tests!r})
from pathlib import Path
from character_curator.dataset.export import export
from character_curator.imageset import ImageSet
place, at = Path({place!r}), {at}
images = ImageSet.read(place / "images.parquet")
count, renames = 0, []
def watch(event, arguments):
    # Every step that changes the file system; the process ends before the step numbered 'at'.
    global count
    if event == "open":
        changes = ".tmp-" in str(arguments[0]) and (arguments[2] or 0) & (os.O_WRONLY | os.O_RDWR)
    else:
        changes = event in ("os.rename", "os.link", "os.mkdir", "os.remove", "shutil.rmtree")
    if changes and str(arguments[0]).startswith(str(place)):
        count += 1
        if event == "os.rename":
            renames.append(count)
        if count == at:
            os._exit(9)
sys.addaudithook(watch)
export(images, place / "set", name="new")
print(count, *renames)
"""


def run_killed(place, at):
    code = KILLED.format(tests=str(TESTS), place=str(place), at=at)
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)


def test_killed_before_any_step_nothing_is_half_done(tmp_path):
    (tmp_path / "base").mkdir()
    images = make_images(tmp_path / "base" / "raw", 6, selected=2)
    images.write(tmp_path / "base" / "images.parquet")
    base = tmp_path / "base"
    old = export(images, base / "set", name="old")
    old_sums = (old.folder / "SHA256SUMS").read_bytes()
    whole = shutil.copytree(base, tmp_path / "whole")
    ImageSet(images.table, whole / "raw").write(whole / "images.parquet")
    undisturbed = run_killed(whole, 0)
    assert undisturbed.returncode == 0, undisturbed.stderr
    steps, *renames = map(int, undisturbed.stdout.split())
    assert len(renames) == 3  # the list of checksums, the old folder, the new folder
    new_sums = (whole / "set" / "SHA256SUMS").read_bytes()
    assert new_sums != old_sums
    absent = 0
    # Halfway, before each of the renames that make a dataset whole and move it, and at the end.
    for at in [steps // 2, *renames, steps]:
        place = shutil.copytree(base, tmp_path / f"at-{at}")
        ImageSet(images.table, place / "raw").write(place / "images.parquet")
        assert run_killed(place, at).returncode == 9
        final = place / "set"
        if final.exists():
            assert verify(final).ok
            assert not verify(final).unlisted
            assert (final / "SHA256SUMS").read_bytes() in (old_sums, new_sums)
        else:
            absent += 1
        kept = ImageSet.read(place / "images.parquet")
        done = export(kept, final, name="new")
        assert (final / "SHA256SUMS").read_bytes() == new_sums
        assert verify(final).ok
        assert done.version == 2
        assert [(p / "SHA256SUMS").read_bytes() for p in versions(final)] == [old_sums]
        left = sorted(p.name for p in place.iterdir())
        assert left == ["images.parquet", "raw", "set", "set.versions"]
    assert absent == 1


def test_a_full_disk_is_said_and_nothing_is_left(tmp_path):
    images = make_images(tmp_path / "raw", 6, selected=3)
    images.write(tmp_path / "images.parquet")
    # The kernel refuses to let a file grow beyond 2 kB, as it refuses on a full disk.
    code = f"""
import resource, sys
from character_curator.dataset.export import export
from character_curator.dataset.publish import DiskFullError
from character_curator.imageset import ImageSet
images = ImageSet.read({str(tmp_path / "images.parquet")!r})
resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
try:
    export(images, {str(tmp_path / "out")!r}, name="x")
except DiskFullError as error:
    print(error)
"""
    pytest.importorskip("resource")
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "The disk is full" in result.stdout, result.stderr
    assert sorted(p.name for p in tmp_path.iterdir()) == ["images.parquet", "raw"]
