"""Tar files and shards of WebDataset: what is read, what is left out, what is refused."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
import tracemalloc
from contextlib import nullcontext

import pytest

from character_curator.imageset import ImageSet
from character_curator.naming import expanded
from character_curator.reading.folders import SourceError, unpack
from tests.support.commands import command
from tests.support.images import drawing, png_bytes


def shard(path, entries, mode="w", special=()):
    """Write a tar file of names and bytes, in order, and then special members."""
    with tarfile.open(path, mode) as made:
        for name, data in entries:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            made.addfile(member, io.BytesIO(data))
        for member in special:
            made.addfile(member)
    return path


def image(number):
    return png_bytes(drawing(number))


def special(name, kind, target=""):
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, target
    return member


@pytest.mark.parametrize(("end", "mode"), [("tar", "w"), ("tar.gz", "w:gz")])
def test_a_shard_is_read_with_its_captions(tmp_path, end, mode):
    path = shard(
        tmp_path / f"part-000.{end}",
        [
            ("0001.png", image(1)), ("0001.txt", "zoë".encode("cp1252")),
            ("0002.json", json.dumps({"caption": "of a JSON", "url": "x"}).encode()),
            ("0002.png", image(2)),
            ("0003.orig.png", image(3)), ("0003.txt", b"of the key"),
            ("deep/0004.png", image(4)), ("deep/0004.cls", b"7"),
            ("0005.png", image(5)), ("0005.json", b"{}"),
        ],
        mode,
    )  # fmt: skip
    images = ImageSet.from_folder(path, unpacked=tmp_path / "work")
    captions = dict(images.table.select("path", "caption").iter_rows())
    assert captions == {
        "0001.png": "zoë", "0002.png": "of a JSON", "0003.orig.png": "of the key",
        "deep/0004.png": None, "0005.png": None,
    }  # fmt: skip
    assert len(images.accepted) == 5
    assert "2 files are no images: .cls 1, .json 1." in images.notes[0] or any(
        ".cls 1" in note and ".json 1" in note for note in images.notes
    )
    before = images.paths()[0].stat().st_mtime_ns
    assert ImageSet.from_folder(path, unpacked=tmp_path / "work").paths()[0].stat().st_mtime_ns == (
        before
    )


def test_what_leads_elsewhere_and_what_is_twice_is_left_out_and_counted(tmp_path):
    secret = tmp_path / "secret.png"
    secret.write_bytes(image(9))
    path = shard(
        tmp_path / "odd.tar",
        [
            ("a.png", image(1)), ("../out.png", image(2)), ("x/../../out.png", image(2)),
            ("a.png", image(3)), ("A.PNG", image(3)), ("/abs.png", image(4)),
            ("._a.png", b"hidden"),
        ],
        special=[
            special("link.png", tarfile.SYMTYPE, str(secret)),
            special("hard.png", tarfile.LNKTYPE, "a.png"),
            special("pipe.png", tarfile.FIFOTYPE),
            special("disk.png", tarfile.BLKTYPE),
        ],
    )  # fmt: skip
    images = ImageSet.from_folder(path, unpacked=tmp_path / "work")
    assert images.table["path"].to_list() == ["a.png", "abs.png"]
    assert images.paths()[0].read_bytes() == image(1)
    assert images.notes[0] == (
        "odd.tar: 8 entries were left out: 4 links or devices, "
        "2 named as no file below a folder is, 2 there twice."
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["odd.tar", "secret.png", "work"]


def test_damage_and_bombs_are_refused(tmp_path):
    whole = shard(tmp_path / "a.tar", [(f"{n}.png", image(n)) for n in range(4)]).read_bytes()
    second = whole.index(b"2.png")
    cases = {
        "short": whole[: second + 700],
        "cut": whole[: second + 100],
        "header": whole[:second] + b"\xff" * 300 + whole[second + 300 :],
        "none": b"no tar at all" * 100,
    }
    for name, data in cases.items():
        (tmp_path / f"{name}.tar").write_bytes(data)
        with pytest.raises(SourceError, match=r"cannot be unpacked.*Pack it again"):
            ImageSet.from_folder(tmp_path / f"{name}.tar", unpacked=tmp_path / "work")
    bomb = shard(tmp_path / "bomb.tar.gz", [("a.png", bytes(60_000_000))], "w:gz")
    with pytest.raises(SourceError, match=r"a\.png claims 60,000,000 bytes"):
        ImageSet.from_folder(bomb, unpacked=tmp_path / "work")
    assert list((tmp_path / "work").iterdir()) == []


def test_what_no_file_can_hold_costs_its_own_entry(tmp_path):
    path = shard(
        tmp_path / "odd.tar",
        [
            ("n" * 300 + ".png", image(1)), ("d/" * 600 + "a.png", image(1)),
            ("a.png", image(1)), ("a.json", b'{"caption": "\\ud800", "text": "whole"}'),
            ("b.png", image(2)), ("b.json", b'{"caption": "\\ud800", "score": NaN}'),
        ],
    )  # fmt: skip
    images = ImageSet.from_folder(path, unpacked=tmp_path / "work")
    assert images.table.select("path", "caption").rows() == [("a.png", "whole"), ("b.png", None)]
    assert images.notes[:2] == (
        "odd.tar: 2 entries were left out: 2 named as no file below a folder is.",
        "1 file is no image: .json 1.",
    )


def header(name, kind, size=0):
    member = tarfile.TarInfo(name)
    member.type, member.size = kind, size
    return member.tobuf(tarfile.USTAR_FORMAT)


@pytest.mark.parametrize("kind", ["of an entry", "of all", "its name", "one after the other"])
def test_what_is_said_of_an_entry_is_read_in_bounded_memory(tmp_path, kind):
    million = bytes(1 << 20)
    types = {"of an entry": tarfile.XHDTYPE, "of all": tarfile.XGLTYPE}
    if kind == "one after the other":
        said = b"9001 comment=" + b"x" * 8987 + b"\n"
        data = (header("x", tarfile.XGLTYPE, len(said)) + said.ljust(9216, b"\0")) * 120
    else:
        data = header("x", types.get(kind, tarfile.GNUTYPE_LONGNAME), 40 << 20) + million * 40
    whole = shard(tmp_path / "a.tar", [("a.png", image(1))]).read_bytes()
    with gzip.open(tmp_path / "bomb.tgz", "wb", 1) as file:
        file.write(data + whole)
    tracemalloc.start()
    with pytest.raises(SourceError, match="longer than any that is one"):
        ImageSet.from_folder(tmp_path / "bomb.tgz", unpacked=tmp_path / "work")
    assert tracemalloc.get_traced_memory()[1] < 20 << 20
    tracemalloc.stop()


def test_more_files_than_can_be_in_it_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("character_curator.reading.folders._ENTRIES", 100)
    for count, refused in ((100, False), (101, True)):
        path = shard(tmp_path / f"{count}.tgz", [(f"{n}.cls", b"") for n in range(count)], "w:gz")
        with pytest.raises(SourceError, match="more than 100 files") if refused else nullcontext():
            unpack(path, tmp_path / "work")


def test_several_shards_are_one_set(tmp_path):
    folder = tmp_path / "shards"
    folder.mkdir()
    for number in range(3):
        shard(
            folder / f"part-{number:03d}.tar",
            [(f"{number}.png", image(number)), (f"{number}.txt", b"x")],
        )
    names = ["part-000.tar/0.png", "part-001.tar/1.png", "part-002.tar/2.png"]
    by_braces = ImageSet.from_folder(folder / "part-{000..002}.tar", unpacked=tmp_path / "w")
    assert by_braces.table["source"].to_list() == names
    by_folder = ImageSet.from_folder(folder, unpacked=tmp_path / "w")
    assert by_folder.table["source"].to_list() == names
    with pytest.raises(SourceError, match=r"There is no file .*part-003\.tar"):
        ImageSet.from_folder(folder / "part-{000..003}.tar", unpacked=tmp_path / "w")


def test_braces_are_those_of_a_shell():
    assert expanded("a-{08..11}.tar") == ["a-08.tar", "a-09.tar", "a-10.tar", "a-11.tar"]
    assert expanded("a-{2..0}") == ["a-2", "a-1", "a-0"]
    assert expanded("{a,b}{1..2}") == ["a1", "a2", "b1", "b2"]
    assert expanded("s3://b/{x}") == ["s3://b/{x}"]
    with pytest.raises(ValueError, match="more than 100,000"):
        expanded("{0..999}{0..999}")


def test_training_and_captions_read_shards(tmp_path, monkeypatch):
    monkeypatch.setenv("CURATOR_CACHE", str(tmp_path / "cache"))
    from character_curator.training.data.examples import read_examples

    folder = tmp_path / "shards"
    folder.mkdir()
    for number in range(2):
        shard(folder / f"{number}.tar", [("a.png", image(number)), ("a.txt", b"words")])
    examples, skipped = read_examples(folder)
    assert [one.caption for one in examples] == ["words", "words"]
    assert skipped == []
    out, _ = command("captions", "frequencies", folder / "{0..1}.tar", "--json")
    assert '"images": 2' in out
