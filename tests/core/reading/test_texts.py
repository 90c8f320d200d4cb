"""Captions beside images, in every encoding that editors write, or refused by name."""

import os

import pytest

from character_curator.captions.table import read_table
from character_curator.imageset import ImageSet
from character_curator.reading.texts import (
    MOST_BYTES,
    CaptionElsewhereError,
    UnknownEncodingError,
    beside,
    decoded,
    read_text,
)
from character_curator.training.data.examples import NoCaptionsError, read_examples
from tests.support.images import drawing

TEXT = "zoë person, müde Augen, a café – “outside”"


@pytest.mark.parametrize(
    ("data", "encoding"),
    [
        (TEXT.encode(), "UTF-8"),
        (TEXT.encode("utf-8-sig"), "UTF-8 with BOM"),
        (TEXT.encode("utf-16"), "UTF-16"),
        (b"\xfe\xff" + TEXT.encode("utf-16-be"), "UTF-16"),
        (TEXT.encode("utf-16-le"), "UTF-16"),
        (TEXT.encode("utf-16-be"), "UTF-16"),
        (TEXT.encode("utf-32"), "UTF-32"),
        (TEXT.encode("cp1252"), "Windows-1252"),
    ],
)
def test_an_encoding_is_recognised(data, encoding):
    assert decoded(data) == (TEXT, encoding)


@pytest.mark.parametrize("text", ["rote Größe", "süße Füße, café", "Ößterreich größer", "gräßlich"])
def test_two_letters_within_a_word_are_western(text):
    assert decoded(text.encode("latin-1")) == (text, "Windows-1252")


def test_megabytes_are_no_caption(tmp_path):
    write(tmp_path / "a", 1)
    (tmp_path / "a" / "0.txt").write_bytes(b"a, " * (MOST_BYTES // 3 + 1))
    with pytest.raises(UnknownEncodingError, match=r"is no caption: it has 1,048,578 bytes"):
        beside(tmp_path / "a" / "0.png")
    table = read_table(tmp_path / "a")
    assert [row.text for row in table.rows] == [""]
    assert "larger than 1,048,576 bytes, and stays" in " ".join(table.notes)


@pytest.mark.parametrize("codec", ["shift_jis", "gbk", "euc_kr", "big5"])
def test_what_cp1252_would_make_garbage_of_is_refused(codec, tmp_path):
    words = {"shift_jis": "赤い髪の女の子", "gbk": "红发女孩的照片", "big5": "紅髮女孩",
             "euc_kr": "빨간 머리 소녀"}  # fmt: skip
    (tmp_path / "a.txt").write_bytes(words[codec].encode(codec))
    with pytest.raises(UnknownEncodingError, match=r"a\.txt .*Save it as UTF-8"):
        read_text(tmp_path / "a.txt")


@pytest.mark.parametrize("data", [b"\xff\xfea", b"\x00\x01\x02\x03a", b"a\x81b"])
def test_what_is_no_text_is_refused(data):
    assert decoded(data) is None


def test_a_txt_goes_before_a_caption_and_lines_become_one(tmp_path):
    (tmp_path / "a.caption").write_text("second")
    assert beside(tmp_path / "a.png").text == "second"
    (tmp_path / "a.txt").write_text("first,\r\n  of two lines\n")
    assert beside(tmp_path / "a.png").text == "first, of two lines"
    assert beside(tmp_path / "b.png") is None


def write(folder, count=4):
    folder.mkdir()
    codecs = ("utf-8-sig", "cp1252", "utf-16", "utf-8")
    for number in range(count):
        drawing(number).save(folder / f"{number}.png")
        end = "caption" if number == 3 else "txt"
        (folder / f"{number}.{end}").write_bytes(f"zoë, scene {number}".encode(codecs[number]))


def test_a_folder_of_many_encodings_is_read_and_it_is_said(tmp_path):
    write(tmp_path / "a")
    images = ImageSet.from_folder(tmp_path / "a")
    assert images.table["caption"].to_list() == [f"zoë, scene {n}" for n in range(4)]
    assert images.table["caption_file"].to_list() == ["0.txt", "1.txt", "2.txt", "3.caption"]
    said = (
        "4 captions read beside the images (UTF-8 1, UTF-16 1, UTF-8 with BOM 1, Windows-1252 1)."
    )
    assert said in images.notes
    notes = []
    examples, _ = read_examples(tmp_path / "a", notes=notes)
    assert [e.caption for e in examples] == [f"zoë, scene {n}" for n in range(4)]
    assert said in notes


def test_a_caption_that_cannot_be_read_is_named_and_its_image_not_trained_on(tmp_path):
    write(tmp_path / "a")
    (tmp_path / "a" / "1.txt").write_bytes("赤い髪の女の子".encode("shift_jis"))
    notes = []
    examples, skipped = read_examples(tmp_path / "a", caption="another", notes=notes)
    assert [e.path.stem for e in examples] == ["0", "2", "3"]
    assert [(s.path.name, s.reason) for s in skipped] == [
        ("1.png", "its caption 1.txt is empty or in an unknown encoding")
    ]
    assert any("1.txt" in note and "UTF-8" in note for note in notes)
    images = ImageSet.from_folder(tmp_path / "a")
    assert images.table["caption"].to_list()[1] is None
    assert any("1.txt" in note for note in images.notes)


def test_an_empty_caption_is_said(tmp_path):
    write(tmp_path / "a", 1)
    (tmp_path / "a" / "0.txt").write_text(" \n")
    assert any("empty" in note for note in ImageSet.from_folder(tmp_path / "a").notes)


@pytest.mark.skipif(os.name == "nt", reason="links need a right there")
def test_a_link_to_a_file_elsewhere_is_no_caption_and_a_folder_of_links_is_read(tmp_path):
    theirs, photos, links = (tmp_path / name for name in ("theirs", "photos", "links"))
    for folder in (theirs, photos, links):
        folder.mkdir()
    (tmp_path / "key.txt").write_text("of the user")
    drawing(1).save(theirs / "a.png")
    (theirs / "a.txt").symlink_to(tmp_path / "key.txt")
    with pytest.raises(CaptionElsewhereError, match="is a link out of its folder"):
        beside(theirs / "a.png")
    images = ImageSet.from_folder(theirs)
    assert "caption" not in images.table.columns or images.table["caption"].to_list() == [None]
    assert any("is a link out of its folder" in note for note in images.notes)
    assert [row.unread for row in read_table(theirs).rows] == [True]
    with pytest.raises(NoCaptionsError):  # nor is what was given for all put in its place
        read_examples(theirs, caption="given")
    drawing(2).save(photos / "b.png")
    (photos / "b.txt").write_text("own")
    for name in ("b.png", "b.txt"):
        (links / name).symlink_to(photos / name)
    assert beside(links / "b.png").text == "own"
