"""What an export makes of images from anywhere: formats, names, captions."""

from __future__ import annotations

import hashlib
import struct
import subprocess
import unicodedata
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageCms, ImageOps
from PIL.PngImagePlugin import PngInfo

from character_curator.dataset import CuratedDataset, export, verify
from character_curator.dataset.captions import CaptionError, caption
from character_curator.dataset.images import Placed, SourcesChangedError
from character_curator.dataset.names import export_names
from character_curator.dataset.records import column_types, record
from character_curator.imageset import ImageSet, Rejection
from tests.support.images import drawing, make_images, png_bytes


def test_every_format_becomes_a_png_that_shows_the_same(tmp_path):
    raw = tmp_path / "raw"
    raw.mkdir()
    base = drawing(1)
    base.save(raw / "plain.png")
    base.save(raw / "lossless.webp", lossless=True)
    base.save(raw / "table.bmp")
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    Image.fromarray(np.asarray(base)[:24]).save(raw / "turned.jpg", exif=exif, quality=95)
    base.convert("CMYK").save(raw / "press.jpg", quality=95)
    deep = np.linspace(0, 65535, 48 * 48).reshape(48, 48).astype(np.uint16)
    Image.fromarray(deep).save(raw / "deep.png")
    base.save(raw / "moving.webp", save_all=True, append_images=[drawing(2)], lossless=True)
    with_alpha = base.convert("RGBA")
    with_alpha.putalpha(128)
    with_alpha.save(raw / "alpha.png")
    images = ImageSet.from_folder(raw)
    assert images.table["rejection"].null_count() == len(images) == 8
    done = export(images, tmp_path / "out", name="real")
    assert done.converted == 7
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
    seen = Image.alpha_composite(Image.new("RGBA", base.size, "white"), with_alpha).convert("RGB")
    assert np.array_equal(np.asarray(read["alpha.png"][0]), np.asarray(seen))
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
        drawing(i).save(raw / name)
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


def digest(text):
    return hashlib.sha256(text.encode()).hexdigest()[:8]


@pytest.mark.parametrize(
    ("later", "first"),
    [
        ("x", "x"),
        ("X", "x"),
        # Some file systems take these for one name each, and others do not.
        ("ﬁt", "fit"),
        ("ｘ", "x"),
        ("strasse", "straße"),
        ("É", "e\u0301"),
    ],
)
def test_of_images_with_one_name_the_first_path_keeps_it(later, first):
    later, first = f"b/{later}.jpg", f"a/{first}.png"
    composed = [unicodedata.normalize("NFC", Path(path).stem) for path in (later, first)]
    names = [f"{composed[0]}~{digest(later)}.png", "y.png", f"{composed[1]}.png"]
    assert export_names([later, "y.png", first]) == names


def test_an_earlier_export_may_lie_among_the_images():
    raw = ["a/x.png", "b/x.png"]
    earlier = [f"0/{name}" for name in export_names(raw)]
    names = export_names([*raw, *earlier])
    assert len(set(names)) == 4
    assert names[2:] == ["x.png", f"x~{digest('b/x.png')}.png"]


@pytest.mark.parametrize("letter", ["n", "ß"])
def test_long_names_that_collide_stay_short(letter):
    paths = [f"{folder}/{letter * 90}.png" for folder in "abc"]
    names = export_names(paths)
    assert len(set(names)) == 3
    assert max(len(name.encode()) for name in names) <= 184


def test_sources_that_changed_or_vanished_stop_the_export(tmp_path):
    images = make_images(tmp_path / "raw", 12, selected=6)
    chosen = images.table.filter("selected")["path"].to_list()
    (images.root / chosen[0]).unlink()
    (images.root / chosen[1]).write_bytes(png_bytes(drawing(99)))
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


@pytest.mark.parametrize(
    "strategy",
    ["everything", "a {nothing}", "open {brace", "{prompt:>2000000000}", "{seed:{caption}}"],
)
def test_unknown_caption_strategies_say_what_exists(strategy, tmp_path):
    with pytest.raises(CaptionError):
        export(make_images(tmp_path / "raw", 4), tmp_path / "out", name="x", captions=strategy)
    assert not (tmp_path / "out").exists()


def test_a_trigger_word_of_megabytes_is_refused(tmp_path):
    images = make_images(tmp_path / "raw", 4)
    for trigger in ("y" * 3_000_000, {"char1": "y" * 3_000_000}):
        with pytest.raises(CaptionError, match="3,000,000 letters"):
            export(images, tmp_path / "out", name="x", trigger=trigger)


OWN = {**ROW, "caption": "a photo of ohwx, smiling", "caption_file": "a.txt"}


@pytest.mark.parametrize(
    ("strategy", "trigger", "wanted"),
    [
        ("trigger + what varies", None, "a photo of ohwx, smiling"),
        ("trigger + what varies", "ohwx", "a photo of ohwx, smiling"),
        ("trigger + what varies", "zoe", "zoe, a photo of ohwx, smiling"),
        ("trigger + caption", "ohwx", "a photo of ohwx, smiling"),
        ("trigger", "zoe", "zoe"),
        ("{trigger}, {varies}", "zoe", "zoe, a photo of ohwx, smiling"),
    ],
)
def test_a_caption_that_somebody_has_written_is_kept(strategy, trigger, wanted):
    assert caption(OWN, trigger, strategy) == wanted


def test_a_phrase_within_a_word_is_not_said_yet():
    row = {"caption": "robust armour", "framing": "bust"}
    assert caption(row, "ohwx") == "ohwx, robust armour, bust"


# --- records ------------------------------------------------------------------------------------


def test_what_is_no_number_is_left_out_of_a_record():
    row = {"path": "a.png", "quality": float("nan"), "yaw": float("inf"), "seed": 3}
    values = record(row, "a.png", "x", Placed("h", "linked", 4, 4)).values
    assert "quality_score" not in values
    assert "yaw" not in values
    assert values["seed"] == 3


@pytest.mark.parametrize("numbers", [(1, 2.5), (2.5, 1)])
def test_a_column_of_whole_and_broken_numbers_is_of_broken_ones(numbers):
    assert column_types([{"a": number} for number in numbers]) == {"a": "float64"}


def test_a_turned_png_becomes_upright_and_a_profile_is_left_out(tmp_path):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    exif = Image.Exif()
    exif[0x0112] = 6
    raw = tmp_path / "raw"
    raw.mkdir()
    wide = drawing(1).crop((0, 0, 48, 24))
    wide.save(raw / "turned.png", exif=exif)
    wide.save(raw / "profiled.webp", lossless=True, icc_profile=profile)
    wide.convert("CMYK").save(raw / "press.jpg", icc_profile=profile)
    done = export(ImageSet.from_folder(raw), tmp_path / "out", name="x")
    with Image.open(done.folder / "press.png") as image:
        assert "icc_profile" not in image.info, "it is of another mode"
    with Image.open(done.folder / "turned.png") as image:
        assert np.array_equal(np.asarray(image), np.rot90(np.asarray(wide), -1))
    with Image.open(done.folder / "profiled.png") as image:
        assert "icc_profile" not in image.info, "its pixels are sRGB"
        assert np.array_equal(np.asarray(image), np.asarray(wide))


def test_a_trigger_for_each_subject_and_no_rejected_image(tmp_path):
    images = make_images(tmp_path / "raw", 4, selected=4)
    bad = np.array([True, False, False, False])
    images = images.reject(bad, Rejection.LOW_QUALITY, "blurred")
    assert images.table["selected"][0]
    done = export(images, tmp_path / "out", name="x", trigger={"char1": "ohwx"}, captions="trigger")
    assert done.images == 3
    texts = [path.read_text() for path in done.folder.glob("*.txt")]
    assert texts == ["ohwx\n"] * 3


@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize("turned", range(1, 9))
def test_width_and_height_are_those_of_the_upright_image(tmp_path, turned, own):
    exif = Image.Exif()
    exif[0x0112] = turned
    info = PngInfo()
    if own:
        info.add_text("character_curator", "{}")
    wide = drawing(1).crop((0, 0, 48, 24))
    wide.save(tmp_path / "a.jpg", exif=exif)
    wide.save(tmp_path / "b.png", exif=exif, pnginfo=info)
    for path, *size in ImageSet.from_folder(tmp_path).table[["path", "width", "height"]].rows():
        with Image.open(tmp_path / path) as image:
            assert tuple(size) == ImageOps.exif_transpose(image).size


@pytest.mark.parametrize("damaged", [False, True])
def test_a_profile_that_changes_nothing_is_not_published(tmp_path, damaged):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    if damaged:
        profile = profile[:60]
    (tmp_path / "raw").mkdir()
    chunk = b"Adas own screen\0\0" + zlib.compress(profile)
    data = png_bytes(drawing(1))
    body = b"iCCP" + chunk
    body = struct.pack(">I", len(chunk)) + body + struct.pack(">I", zlib.crc32(body))
    (tmp_path / "raw" / "a.png").write_bytes(data[:33] + body + data[33:])
    done = export(ImageSet.from_folder(tmp_path / "raw"), tmp_path / "out", name="x")
    assert (done.linked, done.cleaned, done.converted) == (0, 1, 0)
    assert (done.folder / "a.png").read_bytes() == data


def test_images_are_called_as_every_system_takes_it():
    paths = ["CON.jpg", "-rf.png", "a\u202egnp.jpg", "b . .jpg", "c-masklabel.png", "c.png"]
    assert export_names(paths) == [
        "CON~.png", "_rf.png", "a_gnp.png", "b.png", "c-masklabel~.png", "c.png",
    ]  # fmt: skip
