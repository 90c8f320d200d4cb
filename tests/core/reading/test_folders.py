"""Folders, zip files, single files and lists of them: all found, and the rest counted."""

import os
import zipfile

import numpy as np
import pytest
from PIL import Image

from character_curator.dataset import CuratedDataset, export
from character_curator.imageset import EmptyFolderError, ImageSet
from character_curator.reading.folders import SourceError, list_sources
from tests.support.images import drawing, png_bytes


def fill(folder, *names):
    folder.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(names):
        drawing(number).save(folder / name)
    return folder


def test_what_is_no_image_is_counted_and_named(tmp_path):
    fill(tmp_path, "a.png", "b.jpg")
    for number in range(8):
        (tmp_path / f"{number}.mp4").write_bytes(b"x")
    for number in range(4):
        (tmp_path / f"{number}.ZIP").write_bytes(b"x")
    (tmp_path / "README").write_text("x")
    (tmp_path / "a.txt").write_text("a caption")
    (tmp_path / "alone.txt").write_text("of no image")
    (tmp_path / ".hidden").write_text("x")
    assert ImageSet.from_folder(tmp_path).notes[0] == (
        "14 files are no images: .mp4 8, .zip 4, .txt 1, without an ending 1."
    )


def test_a_folder_without_images_says_what_it_holds(tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"x")
    with pytest.raises(EmptyFolderError, match=r"1 file is no image: \.mp4 1"):
        ImageSet.from_folder(tmp_path)


def archive(path, **files):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as made:
        for name, data in files.items():
            made.writestr(name, data)
    return path


def test_a_zip_is_unpacked_once_and_read_as_its_folder_would_be(tmp_path):
    path = archive(
        tmp_path / "photos.zip",
        **{
            "10_zoe woman/a.png": png_bytes(drawing(1)),
            "10_zoe woman/a.txt": "zoë".encode("cp1252"),
            "__MACOSX/10_zoe woman/._a.png": b"x",
            "../out.png": png_bytes(drawing(2)),
            "clip.mp4": b"x",
        },
    )
    images = ImageSet.from_folder(path, unpacked=tmp_path / "work")
    row = images.table.row(0, named=True)
    assert len(images) == 1
    assert (row["path"], row["caption"], row["subject"]) == ("10_zoe woman/a.png", "zoë", "zoe")
    assert images.notes[:2] == (
        "photos.zip: 1 entry was left out: 1 named as no file below a folder is.",
        "1 file is no image: .mp4 1.",
    )
    assert images.root.parent == tmp_path / "work"
    assert not list(tmp_path.glob("out.png"))
    file = images.paths()[0]
    before = file.stat().st_mtime_ns
    again = ImageSet.from_folder(path, unpacked=tmp_path / "work")
    assert again.table.equals(images.table)
    assert file.stat().st_mtime_ns == before


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_what_no_folder_can_hold_costs_its_own_entry_of_a_zip(tmp_path):
    path = tmp_path / "odd.zip"
    with zipfile.ZipFile(path, "w") as made:
        for name in ("a.png", "a.png", "b.png/c.png", "b.png", "n" * 300 + ".png", "d/" * 600):
            made.writestr(name.rstrip("/") or "x", png_bytes(drawing(len(made.namelist()))))
    images = ImageSet.from_folder(path, unpacked=tmp_path / "work")
    assert images.table["path"].to_list() == ["a.png", "b.png"]
    assert images.paths()[0].read_bytes() == png_bytes(drawing(1))
    assert images.notes[0] == (
        "odd.zip: 4 entries were left out: 2 named as no file below a folder is, 2 there twice."
    )


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes")
@pytest.mark.parametrize("name", ["a.tar", "a.zip"])
def test_a_pipe_that_is_called_so_is_not_said_to_be_absent(tmp_path, name):
    os.mkfifo(tmp_path / name)
    with pytest.raises(SourceError, match="is a pipe or a device"):
        ImageSet.from_folder(tmp_path / name)


def test_a_damaged_zip_and_a_bomb_are_refused(tmp_path):
    (tmp_path / "a.zip").write_bytes(b"PK\x03\x04 no more")
    with pytest.raises(SourceError, match="cannot be unpacked"):
        ImageSet.from_folder(tmp_path / "a.zip", unpacked=tmp_path / "work")
    bomb = archive(tmp_path / "b.zip", **{"a.png": bytes(60_000_000)})
    with pytest.raises(SourceError, match=r"a\.png claims 60,000,000 bytes"):
        ImageSet.from_folder(bomb, unpacked=tmp_path / "work")
    assert list((tmp_path / "work").iterdir()) == []


def test_a_single_file_is_a_set_of_one(tmp_path):
    fill(tmp_path, "a.png", "b.png")
    assert ImageSet.from_folder(tmp_path / "a.png").table["path"].to_list() == ["a.png"]
    (tmp_path / "a.mp4").write_bytes(b"x")
    with pytest.raises(SourceError, match=r"no image that can be read \(\.mp4\)"):
        ImageSet.from_folder(tmp_path / "a.mp4")


def test_several_sources_are_one_set_and_say_nothing_of_what_lies_above(tmp_path):
    first = fill(tmp_path / "private" / "one", "a.png", "deep.png")
    second = fill(tmp_path / "private" / "two", "a.png")
    Image.fromarray(np.zeros((9, 9, 3), np.uint8)).save(second / "black.png")
    path = archive(tmp_path / "more.zip", **{"z.png": png_bytes(drawing(9))})
    images = ImageSet.from_folder(
        [first, second, path, first / "a.png"], unpacked=tmp_path / "private" / "work"
    )
    assert all(file.is_file() for file in images.paths())
    assert images.table["source"].to_list() == [
        "one/a.png", "one/deep.png", "two/a.png", "two/black.png", "more.zip/z.png",
    ]  # fmt: skip
    done = export(images, tmp_path / "out", name="x")
    assert {m["source"] for _, m in CuratedDataset(done.folder)} == set(images.table["source"])
    assert b"private" not in (done.folder / "provenance.parquet").read_bytes()
    assert len(list(done.folder.glob("*.png"))) == 5


def test_a_picture_that_is_called_as_a_mask_is_an_image_of_its_own(tmp_path):
    (tmp_path / "masks").mkdir()
    (tmp_path / "_controls").mkdir()
    colors = np.random.default_rng(0).integers(0, 255, (40, 40, 3), np.uint8)
    picture = Image.fromarray(colors).resize((64, 64))
    for name in ("a", "b", "c", "d", "e"):
        picture.save(tmp_path / f"{name}.png")
    picture.save(tmp_path / "a-masklabel.jpg")
    ramp = np.tile(np.arange(0, 256, 4, np.uint8), (64, 1))
    two = np.stack([ramp, 255 - ramp, ramp // 2], axis=-1)  # from green to red
    Image.fromarray(two).save(tmp_path / "b-masklabel.jpg", quality=90)
    picture.save(tmp_path / "_controls" / "b.png")
    picture.save(tmp_path / "masks" / "c.png")
    clear = Image.new("RGBA", (64, 64), (255, 255, 255, 0))
    clear.putalpha(Image.fromarray(ramp))
    clear.save(tmp_path / "masks" / "d.png")
    Image.fromarray(ramp).convert("RGB").save(tmp_path / "d-masklabel.png")
    (tmp_path / "e-masklabel.png").write_bytes(b"no image")
    listing = list_sources([tmp_path])
    assert listing.names == (
        "a-masklabel.jpg", "a.png", "b.png", "c.png", "d.png", "e.png", "masks/c.png",
    )  # fmt: skip
    assert sorted(listing.masks) == ["b.png", "d.png", "e.png"]
    (note,) = listing.notes
    assert "images of their own: 2 files of" in note
    assert note.endswith("(a-masklabel.jpg, masks/c.png).")
    done = export(ImageSet.from_folder(tmp_path), tmp_path.with_name("out"), name="x")
    assert "a-masklabel~.png" in {m["filename"] for m in CuratedDataset(done.folder).images}
