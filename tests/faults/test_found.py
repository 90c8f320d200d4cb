"""What fuzzing has found, an example each: small, and never wrong again."""

from __future__ import annotations

import base64
import io
import json
import struct
import zipfile
import zlib
from contextlib import suppress

import numpy as np
import pytest
import torch

from character_curator.analysis.calibration import Calibration, CalibrationError
from character_curator.analysis.decoding import decode
from character_curator.assets.archive import ArchiveError, compared
from character_curator.augmentation.records import _seconds
from character_curator.dataset.checksums import NotADatasetError, read_checksums
from character_curator.dataset.curated import CuratedDataset
from character_curator.dataset.exporting import export
from character_curator.dataset.facts import read_facts
from character_curator.dataset.restoring import restore
from character_curator.dataset.version_record import Parent, new_record, read_record, write_record
from character_curator.errors import CuratorError
from character_curator.generation.reproduce import NoRecordError, reproduce
from character_curator.hashing import json_hash
from character_curator.imageset import ImageSet
from character_curator.json_text import JsonError, parse
from character_curator.lora.file import CheckpointError, read
from character_curator.lora.header import read_origin
from character_curator.parquet import ParquetError, parquet_bytes, read_parquet
from character_curator.portfolio.records import PortfolioRecordError, known_versions
from character_curator.portfolio.times import Times
from character_curator.reading.crops import CropRecord, crop_record
from character_curator.reading.disturbances import (
    Disturbance,
    DisturbanceError,
    DisturbanceRecord,
    disturbed,
)
from character_curator.reading.folders import SourceError
from character_curator.reading.recorded import of_graph, of_parameters, without_syntax
from character_curator.selection.decisions import Decisions, DecisionsFileError
from character_curator.training.data.examples import read_examples
from character_curator.verification.training import (
    check_file,
    check_hyperparameters,
    check_training,
    read_trained,
)
from tests.support.commands import command
from tests.support.fuzzing.images import CROP, RECORD, png_with
from tests.support.fuzzing.limits import bounded
from tests.support.fuzzing.weights import whole
from tests.support.images import drawing, make_images

ENDS_OPENCV = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAABgAAAAYCAIAAABvFaqvAAAACGFjVEwAAAACAAAAAPONk3AAAAAaZmNURAAAAAAAAAAYAAAA"
    "WAAAAAAAAAAAAAAAAQAAlFvYdgAAAMNJREFUeJxjdHCJZqAGYGFmZqGOQUzUMoiZmZlKBjHR0Wv9d65iChaqaCNzmZiZWfAj"
    "rKZATEdWRsCgnpsX8bi05+ZFYg0i6OvOa2chKlmYcMday4VjBA1iYGCAmECFBAkxgQrRDzGBCikbYgK+wG639iLKRZDApjCL"
    "dNn5QvQzMTGz4EE9joEE/QVBhGOt3yW0cM9qrOIMDAxw7xAV/ZPcIxkYGPJ2LkfmooUICxPR0T/FMxbCYMImS8XyaBAWtYPM"
    "IABr/CGBV57T2QAAABpmY1RMAAAAAQAAABgAAAAYAAAAAAAAAAAAAAABAAAPKDKiAAAA3GZkQVQABAACeJxjTNaRY6AGYGFh"
    "YhyuBrEyMlHHIBp67Yn9fEx1MgeT8RvExMLEiIywmgIxHU0lGmJiYUKgB7Zz8Nj5wHYOsmI0hHDRHetZ+B3PwMBwx3oWHhdB"
    "WQRNgYAb1jOxm8XKyMjAwHDebDqRBjEwMEC0oAEWFiaS0xFWLeSkI6xaBp9B0FhzvZJPpCmuV/KxxxqpgY1LPRMLIyME+V0v"
    "ImiK3/UiuHo0hJLXgm4W4zEl6GYxnrzGuC3QHIu21ardEEbY7VKCLmVgYGDcFGxBjDqCYPCV2QDo6yNqIYhWjAAAAABJRU5E"
    "rkJggg=="
)
"""580 bytes of an animated PNG; OpenCV 5.0's decoder ends its process on them."""


def test_a_damaged_animation_does_not_end_the_process():
    reason, pixels = decode(ENDS_OPENCV)
    assert reason or pixels.shape == (24, 24, 3)


@pytest.mark.parametrize("side", [2**31 - 1, 2**31, 2**32 - 1])
def test_an_image_that_claims_to_be_wider_than_any(tmp_path, side):
    buffer = io.BytesIO()
    drawing(1, 24).save(buffer, "JPEG2000")
    data = buffer.getvalue()
    header = data.index(b"ihdr") + 4
    wide = data[: header + 4] + struct.pack(">I", side) + data[header + 8 :]
    (tmp_path / "a.jp2").write_bytes(wide)
    images = ImageSet.from_folder(tmp_path)
    assert images.rejections() in ({"unreadable": 1}, {})


@pytest.mark.parametrize(
    "packing", [zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2, zipfile.ZIP_STORED]
)
def test_a_zip_with_damaged_contents(tmp_path, packing):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", packing) as archive:
        archive.writestr("a.png", png_with("x", b"y" * 999))
    data = bytearray(buffer.getvalue())
    data[45:60] = b"\xff" * 15
    (tmp_path / "a.zip").write_bytes(data)
    with pytest.raises(SourceError, match="Pack it again"):
        ImageSet.from_folder(tmp_path / "a.zip", unpacked=tmp_path / "work")
    with pytest.raises(ArchiveError, match="Make the assets again"):
        compared(tmp_path / "a.zip", tmp_path / "a.zip")


@pytest.mark.parametrize("decision", [{}, [], None, 1])
def test_a_decision_that_is_no_word(decision):
    text = json.dumps({"format": 1, "decisions": [{"hash": "ab" * 32, "decision": decision}]})
    with pytest.raises(DecisionsFileError, match="neither"):
        Decisions.parse(text)


@pytest.mark.parametrize("curve", ["[[0.1, NaN]]", "[[0.1, 1e308], [0.2, 1e309]]", "[[0, 1e308]]"])
def test_a_calibration_of_no_numbers(tmp_path, curve):
    text = f'{{"format": 1, "confidence": {curve}, "identity": null}}'
    (tmp_path / "calibration.json").write_text(text)
    with pytest.raises(CalibrationError):
        Calibration.read(tmp_path)


def test_a_number_beyond_all_numbers_is_no_strict_json():
    assert parse("[1e999]") == [float("inf")]
    with pytest.raises(JsonError, match="1e999"):
        parse("[1e999]", strict=True)


def test_a_crop_of_infinite_size():
    for value in (float("inf"), float("nan"), None, "x", []):
        text = json.dumps({**CROP, "box": [value, 0, 1, 1]})
        assert CropRecord.from_text(text) is None
    assert CropRecord.from_text(json.dumps(CROP)) is not None
    assert CropRecord.from_text("[]") is None


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dataset")
    images = make_images(folder / "raw", 8, selected=4, size=16)
    return export(images, folder / "out", name="small", report=False).folder


def with_metadata(dataset, tmp_path, change):
    values = json.loads((dataset / "metadata.json").read_text())
    for row in values.values():
        row.update(change)
    for path in dataset.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "metadata.json").write_text(json.dumps(values))
    return tmp_path


@pytest.mark.parametrize("box", [["a", 0, 1, 1], [None] * 4, [{}, 0, 1, 1], [0, 0, 1e999, 1]])
def test_the_box_of_a_face_that_is_none(dataset, tmp_path, box):
    found, _ = read_examples(with_metadata(dataset, tmp_path, {"face_box": box}))
    assert [example.face for example in found] == [None] * 4


@pytest.mark.parametrize("generation", ["text", 5, [1], {"settings": "x"}])
def test_a_generation_that_is_no_table(dataset, tmp_path, generation):
    folder = with_metadata(dataset, tmp_path, {"generation": generation})
    facts = read_facts(folder, read_examples(folder)[0])
    assert len(facts.generation) == 4


@pytest.mark.parametrize("data", [b"0.5", b"[]", b'{"a.png": 5}', b"\xff\xfe\xfb", b"{"])
def test_metadata_that_are_no_table_of_tables(tmp_path, data):
    (tmp_path / "metadata.json").write_bytes(data)
    with pytest.raises(NotADatasetError, match="can't be used"):
        CuratedDataset(tmp_path)


def test_a_score_that_is_no_number_counts_as_none(dataset, tmp_path):
    folder = with_metadata(dataset, tmp_path, {"quality_score": "high"})
    assert CuratedDataset(folder).filter_by_quality(0.1) == []


@pytest.mark.parametrize("name", ["../evil", "/etc/passwd", "a/../../x", "", "a//b", "x" * 300])
def test_a_list_of_checksums_leads_nowhere_else(tmp_path, name):
    place = tmp_path / "in" / "out"
    place.mkdir(parents=True)
    digest = "ab" * 32
    (place / "SHA256SUMS").write_text(f"{digest}  a.png\n")
    assert read_checksums(place) == {"a.png": digest}
    (place / "SHA256SUMS").write_text(f"{digest}  {name}\n")
    with pytest.raises(NotADatasetError, match="can't be used"):
        read_checksums(place)


def test_a_version_from_elsewhere_writes_nothing_outside(dataset, tmp_path):
    """The file that a list names above its folder is there, and its checksum is right."""
    place = tmp_path / "a" / "b" / "out"
    old = place.with_name("out.versions") / "v0001"
    for folder in (place, old):
        folder.mkdir(parents=True)
        for path in dataset.iterdir():
            (folder / path.name).write_bytes(path.read_bytes())
    import hashlib

    evil = old / ".." / ".." / "evil.txt"
    evil.write_text("x")
    with (old / "SHA256SUMS").open("a") as file:
        file.write(f"{hashlib.sha256(b'x').hexdigest()}  ../../evil.txt\n")
    before = {path for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(CuratorError):
        restore(place, 1)
    after = {path for path in tmp_path.rglob("*") if path.is_file()}
    assert after == before


def test_notes_of_a_training_that_are_of_another_form(tmp_path):
    (tmp_path / "a.safetensors").write_bytes(whole())
    (tmp_path / "a.work").mkdir()
    for key in ("checkpoints", "skipped"):
        for value in (5, [1], [[]], [{}], "x", None):
            notes = {"inputs": "x", "file": "y", "outcome": {key: value}}
            (tmp_path / "a.work" / "finished.json").write_text(json.dumps(notes))
            assert check_training(read_trained(tmp_path / "a.safetensors")).key == "training"


@pytest.mark.parametrize("number", ["x", None, 1.5, True, [], float("nan")])
def test_the_number_of_a_portfolios_version_that_is_none(tmp_path, number):
    record = {"format": 1, "versions": [{"version": number, "datasets": {}}]}
    (tmp_path / "portfolio.json").write_text(json.dumps(record))
    with pytest.raises(PortfolioRecordError):
        known_versions(tmp_path / "portfolio.json")


@pytest.mark.parametrize("value", ["NaN", '"\\ud800"'])
def test_a_list_of_versions_that_could_not_be_written_again(tmp_path, value):
    listed = f'[{{"version": 1, "datasets": {{"a": {value}}}}}]'
    (tmp_path / "portfolio.json").write_text(f'{{"format": 1, "versions": {listed}}}')
    with pytest.raises(PortfolioRecordError):
        known_versions(tmp_path / "portfolio.json")


@pytest.mark.parametrize(
    "change",
    [{"tools": [1]}, {"tools": "x"}, {"models": [1]}, {"restored": "1"}, {"restored": 10**400},
     {"parent": {"number": "x", "fingerprint": "y"}}, {"parent": []}, {"edits": -1},
     {"number": True}, {"number": 1.5}],
)  # fmt: skip
def test_a_record_of_a_version_that_somebody_has_sealed(tmp_path, change):
    write_record(tmp_path, new_record(2, {"a.png": "0" * 64}, parent=Parent(1, "x"), restored=1))
    assert read_record(tmp_path) is not None
    values = json.loads((tmp_path / "version.json").read_text()) | change
    del values["seal"]
    values["seal"] = json_hash(values)
    (tmp_path / "version.json").write_text(json.dumps(values))
    assert read_record(tmp_path) is None


def test_pickles_that_are_cut_or_changed(tmp_path):
    torch.save({"a": torch.ones(2, 2)}, tmp_path / "whole.pt")
    data = (tmp_path / "whole.pt").read_bytes()
    start = data.index(b"\x80\x02") + 2
    for number, wrong in enumerate((b"h\x43.", b"Q.", b"\x80\x02Q.", b"(lp0\n.", b"")):
        (tmp_path / "a.pt").write_bytes(data[:start] + wrong + data[start + len(wrong) :])
        (tmp_path / "b.pt").write_bytes(b"\x80\x02" + wrong)
        for name in ("a.pt", "b.pt"):
            with suppress(CheckpointError):  # the first bytes of some are as they were
                read(tmp_path / name, allow_pickle=True)
        assert number < 5


def test_a_factor_without_sides_is_not_whole(tmp_path):
    tensors = {"lora_unet_b.lokr_w1": (2, 2), "lora_unet_b.lokr_w2_a": (4, 2),
               "lora_unet_b.lokr_w2_b": ()}  # fmt: skip
    (tmp_path / "a.safetensors").write_bytes(whole(shapes=tensors))
    with pytest.raises(CheckpointError, match="not whole"):
        read(tmp_path / "a.safetensors").rank("lora_unet_b")


def test_a_lora_file_with_half_a_layer_is_a_line_of_the_checklist(tmp_path):
    (tmp_path / "a.safetensors").write_bytes(whole(shapes={"lora_unet_b.lokr_w2_a": (4, 2)}))
    trained = read_trained(tmp_path / "a.safetensors")
    line = check_file(trained)
    assert any("not whole" in fault.what for fault in line.faults)
    assert check_hyperparameters(trained).key == "hyperparameters"


def test_numbers_of_thousands_of_digits():
    digits = "9" * 5000
    assert of_parameters(f"a\nSteps: 20, Seed: {digits}, Size: 8x8").seed is None
    assert of_parameters("a\nSteps: 20, Seed: 12, Size: 8x8").seed == 12
    assert read_origin({"ss_steps": digits}).steps is None


def test_a_graph_in_which_every_way_leads_to_every_node():
    keys = ("text", "positive", "prompt", "string", "value", "seed", "noise_seed", "int")
    nodes = {
        str(number): {"class_type": "x", "inputs": {key: [str(number + 1), 0] for key in keys}}
        for number in range(60)
    }
    with bounded(seconds=5):
        assert of_graph(json.dumps(nodes)) is None
        nodes["59"]["inputs"] = {"text": "a woman", "seed": 5}
        found = of_graph(json.dumps(nodes))
    assert (found.prompt, found.seed) == ("a woman", 5)


def test_brackets_within_each_other_end():
    assert without_syntax("((a woman:1.2))") == "a woman"
    with bounded(seconds=8):
        without_syntax("(" * 100_000 + "a" + ")" * 100_000)


def test_a_table_on_which_polars_panics(tmp_path):
    data = parquet_bytes(ImageSet.from_rows([{"path": "a"}] * 40, tmp_path).table)
    refused = 0
    for place in range(4, len(data), 97):
        changed = data[:place] + bytes(8) + data[place + 8 :]
        try:
            read_parquet(changed)
        except ParquetError as error:
            assert "\n" not in str(error)  # noqa: PT017  most of them say nothing wrong
            refused += 1
    assert refused


def test_a_damaged_jpeg_xl_is_no_crop(tmp_path):
    (tmp_path / "a.jxl").write_bytes(b"\xff\x0aE\x06\x00\x14\x88\x02\x00X" + b"\x05" * 40)
    assert crop_record(tmp_path / "a.jxl") is None


def test_an_image_with_a_record_and_damaged_pixels_cannot_be_compared(tmp_path):
    data = png_with("character_curator", json.dumps(RECORD).encode())
    start = data.index(b"IDAT")
    size = struct.unpack(">I", data[start - 4 : start])[0]
    body = b"IDAT" + b"\xff" * size
    broken = data[:start] + body + struct.pack(">I", zlib.crc32(body)) + data[start + 8 + size :]
    (tmp_path / "a.png").write_bytes(broken)
    with pytest.raises(NoRecordError, match="can't be decoded"):
        reproduce(tmp_path / "a.png")


@pytest.mark.parametrize(
    ("key", "value"),
    [("size", "[1e400, 3]"), ("seed", "1e999"), ("strength", "1" + "0" * 400), ("strength", "NaN"),
     ("strength", "Infinity"), ("values", "[1]"), ("source", '"\\ud800"')],
)  # fmt: skip
def test_a_disturbance_of_infinite_numbers_is_none(key, value):
    whole = {
        "kind": '"blur"', "strength": "0.5", "seed": "1", "values": "{}", "source": '"a"',
        "source_hash": '"b"', "size": "[10, 10]", "pixels": '"x"',
    }  # fmt: skip
    texts = [
        "{" + ", ".join(f'"{name}": {text}' for name, text in values.items()) + "}"
        for values in (whole, {**whole, key: value})
    ]
    assert DisturbanceRecord.from_text(texts[0]) is not None
    assert DisturbanceRecord.from_text(texts[1]) is None


@pytest.mark.parametrize("seconds", ["NaN", "1e400", "Infinity", "1" + "0" * 400, '"x"', "{}"])
def test_times_that_are_none_are_not_known(tmp_path, seconds):
    path = tmp_path / "times.jsonl"
    path.write_text(f'{{"image": "a.png", "seconds": {seconds}}}\n')
    assert Times(path).of(["a.png"]) == (0, 1)


@pytest.mark.parametrize("number", ["1e400", "NaN", "1" + "0" * 400, "null", "[]"])
def test_a_version_of_no_number_has_no_record(tmp_path, number):
    values = {"format": 1, "number": json.loads(number), "time": "", "fingerprint": ""}
    values["seal"] = json_hash(values)
    (tmp_path / "version.json").write_text(json.dumps(values).replace("Infinity", "1e400"))
    assert read_record(tmp_path) is None


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        ("occlusion", {"shape": "rectangle", "box": [0, 0, 4, 4], "color": [10**30, 0, 0]}),
        ("occlusion", {"shape": "ellipse", "box": [0, 0, 10**12, 4], "color": [0, 0, 0]}),
        ("occlusion", {"shape": "rectangle", "box": [4, 4, 0, 0], "color": [0, 0, 0]}),
        ("noise", {"seed": 1, "colored": True, "deviation": 1e300}),
        ("noise", {"seed": 1, "colored": True, "deviation": 1e30}),
        ("compression", {"quality": "x" * 100_000}),
        ("blur", {"way": "motion", "length": 3, "angle": 1e400}),
    ],
)
def test_a_disturbance_that_is_never_drawn_is_refused(kind, values):
    with pytest.raises(DisturbanceError, match="'t be made from") as caught:
        disturbed(np.zeros((8, 8, 3), np.uint8), Disturbance(kind, 0.5, 1, values))
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize("seconds", ["NaN", "Infinity", '"inf"', "true", "1e400"])
def test_what_an_augmentation_took_is_a_number(tmp_path, seconds):
    path = tmp_path / "augmentation.json"
    known = '{"combined": {"fingerprint": "ab"}, "seconds": {"curation_seconds": %s}}'
    path.write_text(known % seconds)
    found = _seconds(path, "ab", {"curation_seconds": 2.0})
    assert found in ({"curation_seconds": 2.0}, {"curation_seconds": 1.0})
    path.write_text(known % "7.5")
    assert _seconds(path, "ab", {"curation_seconds": 2.0}) == {"curation_seconds": 7.5}


def test_the_time_of_a_version_is_no_command_to_a_terminal(tmp_path):
    export(make_images(tmp_path / "in", 2, selected=2, size=8), tmp_path / "out", name="x")
    values = json.loads((tmp_path / "out" / "version.json").read_text())
    values |= {"time": "\x1b[2J[red]now"}
    del values["seal"]
    values["seal"] = json_hash(values)
    (tmp_path / "out" / "version.json").write_text(json.dumps(values))
    _, told = command("versions", tmp_path / "out")
    assert "\x1b[2J" not in told
    assert "[red]" in told
