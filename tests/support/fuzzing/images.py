"""Readers of images, of what they say of themselves, and of zip and tar files of them."""

from __future__ import annotations

import io
import json
import struct
import tarfile
import zipfile
import zlib

import numpy as np
from PIL import Image, PngImagePlugin

from character_curator.analysis.decoding import decode_ahead
from character_curator.errors import CuratorError
from character_curator.generation import reproduce
from character_curator.imageset import ImageSet
from character_curator.reading.crops import CROP_KEY, crop_record
from character_curator.reading.kinds import known_formats
from character_curator.reading.recorded import PARAMETERS_KEY
from tests.support.fuzzing.mutation import damaged, json_damaged
from tests.support.fuzzing.targets import Target
from tests.support.images import drawing

SUFFIXES = {
    "PNG": ".png", "JPEG": ".jpg", "MPO": ".jpg", "WEBP": ".webp", "BMP": ".bmp", "DIB": ".dib",
    "TIFF": ".tif", "GIF": ".gif", "AVIF": ".avif", "JPEG2000": ".jp2", "PPM": ".ppm",
    "TGA": ".tga", "PCX": ".pcx", "PSD": ".psd", "SGI": ".sgi", "QOI": ".qoi", "HEIF": ".heic",
    "JXL": ".jxl",
}  # fmt: skip
_MORE = {
    "TIFF": [{"compression": kind} for kind in ("tiff_lzw", "tiff_deflate", "packbits", "jpeg")],
    "JPEG": [{"progressive": True, "exif": b"Exif\0\0MM\0*\0\0\0\x08\0\0\0\0\0\0"}],
    "GIF": [{"save_all": True, "append_images": [drawing(2, 24)]}],
    "PNG": [{"save_all": True, "append_images": [drawing(2, 24)]}],
    "WEBP": [{"lossless": True}],
}
"""Further ways in which formats are written."""


def image_target(kind: str) -> Target:
    """Return the target of a format: listing, header, whole decoding, the record of a crop."""

    def seeds(folder):
        if kind == "PSD":
            return [_psd()]
        image, made = drawing(1, 24), []
        for options in ({}, *_MORE.get(kind, ())):
            buffer = io.BytesIO()
            image.save(buffer, kind, **options)
            made.append(buffer.getvalue())
        return made

    def read(folder, data):
        path = folder / f"image{SUFFIXES[kind]}"
        path.write_bytes(data)
        images = ImageSet.from_folder(folder)
        assert len(images) == 1
        for one in decode_ahead([path], lambda pixels: pixels.shape):
            assert one.image is not None or one.reason
        crop_record(path)
        return one.reason or images.table["rejection_detail"][0]

    return Target(f"image {kind}", seeds, damaged, read)


def _psd() -> bytes:
    """Return a PSD of 24 x 24 pixels: Pillow reads these, and writes none."""
    head = b"8BPS" + struct.pack(">H6xHIIHH", 1, 3, 24, 24, 8, 3) + struct.pack(">III", 0, 0, 0)
    pixels = np.asarray(drawing(1, 24).convert("RGB")).transpose(2, 0, 1)
    return head + struct.pack(">H", 0) + pixels.tobytes()


RECORD = {
    "version": 1, "subject": "char1", "kind": "scenario", "seed": 7, "scenario": 2, "take": 1,
    "scenario_name": "park", "category": "casual", "prompt": "a woman in a park",
    "negative_prompt": "bad", "trigger": "char1", "caption": "char1, park", "noise_seed": 99,
    "fingerprint": "ab" * 32,
    "request": {"subject": "char1", "seed": 7},
    "settings": {"backend": "diffusers", "model": "/none", "scheduler": {"class": "x"},
                 "steps": 4, "guidance": 2.5, "width": 24, "height": 24, "dtype": "float32",
                 "loras": []},
    "batch": {"size": 2, "row": 1, "requests": ["a", "b"]},
    "conditions": {"device": {"kind": "cpu"}, "versions": {"torch": "2"}, "model": "ab" * 32},
}  # fmt: skip
"""A record as generated images have it, and more."""
CROP = {
    "source": "a.png", "source_hash": "ab" * 32, "source_size": [64, 64], "box": [0, 0, 24, 24],
    "size": [24, 24], "generation": RECORD,
}  # fmt: skip
A1111 = """a (woman:1.2) <lora:x:1> in [a park]
Negative prompt: bad, (worse)
Steps: 20, Sampler: Euler a, CFG scale: 7, Seed: 1234567890, Size: 512x512, Model: x"""
GRAPH = {
    "1": {"class_type": "KSampler", "inputs": {"seed": 5, "positive": ["2", 0],
                                               "negative": ["3", 0], "steps": 20}},
    "2": {"class_type": "CLIPTextEncode", "inputs": {"text": ["4", 0], "clip": ["5", 1]}},
    "3": {"class_type": "CLIPTextEncode", "inputs": {"text": "bad"}},
    "4": {"class_type": "PrimitiveString", "inputs": {"value": "a woman"}},
    "5": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "x"}},
}  # fmt: skip
"""What ComfyUI writes into an image."""


def png_with(key: str, text: bytes, *, compressed: bool = False) -> bytes:
    """Return a PNG with a text chunk of any bytes."""
    buffer = io.BytesIO()
    drawing(1, 24).save(buffer, "PNG")
    data = buffer.getvalue()
    kind, body = b"tEXt", key.encode() + b"\0" + text
    if compressed:
        kind, body = b"zTXt", key.encode() + b"\0\0" + zlib.compress(text)
    chunk = struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
    return data[:33] + chunk + data[33:]


def text_target(name: str, key: str, text: str, mutate) -> Target:
    """Return the target of a text chunk: the columns of the table, and making it again."""

    def read(folder, data):
        path = folder / "image.png"
        path.write_bytes(png_with(key, data, compressed=len(data) % 5 == 0))
        images = ImageSet.from_folder(folder)
        assert len(images) == 1
        images.table.write_parquet(io.BytesIO())
        images.table["prompt"].to_list()
        crop_record(path)
        if key in (PARAMETERS_KEY, CROP_KEY):
            from character_curator.generation.png import read_record

            if read_record(path.read_bytes()) is None and crop_record(path) is None:
                return
            try:
                reproduce.reproduce(path, source=folder)
            except CuratorError:
                return

    return Target(name, lambda folder: [text.encode()], mutate, read)


def zip_target() -> Target:
    """Return the target of zip files of images."""

    def seeds(folder):
        made = []
        for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2):
            buffer = io.BytesIO()
            with zipfile.ZipFile(buffer, "w", method) as archive:
                archive.writestr("a/b.png", png_with("x", b"y"))
                archive.writestr("a/b.txt", "a caption")
                archive.writestr("notes.md", "# none " * 50)
            made.append(buffer.getvalue())
        return made

    return Target("zip", seeds, damaged, _unpacks("in.zip"))


def tar_target() -> Target:
    """Return the target of tar files of images; half the time headers have right checksums."""

    def seeds(folder):
        made = []
        for mode, kind in (("w", tarfile.PAX_FORMAT), ("w", tarfile.GNU_FORMAT),
                           ("w:gz", tarfile.PAX_FORMAT)):  # fmt: skip
            buffer = io.BytesIO()
            with tarfile.open(fileobj=buffer, mode=mode, format=kind) as archive:
                for name, data in (
                    ("a/b.png", png_with("x", b"y")), ("a/b.txt", b"a caption"),
                    ("c.png", png_with("x", b"z")), ("c.json", b'{"caption": "words"}'),
                    ("n" * 120 + ".md", b"# none"),
                ):  # fmt: skip
                    member = tarfile.TarInfo(name)
                    member.size = len(data)
                    archive.addfile(member, io.BytesIO(data))
            made.append(buffer.getvalue())
        return made

    def mutate(data, rng):
        if rng.random() < 0.5 or len(data) < 1024 or data[:2] == b"\x1f\x8b":
            return damaged(data, rng)
        block = int(rng.integers(len(data) // 512)) * 512
        header = bytearray(damaged(data[block : block + 512], rng)[:512].ljust(512, b"\0"))
        header[148:156] = b" " * 8
        header[148:156] = b"%06o\0 " % sum(header)
        return data[:block] + bytes(header) + data[block + 512 :]

    return Target("tar", seeds, mutate, _unpacks("in.tar"))


def _unpacks(name):
    """Return what unpacks a file of that name, and insists that nothing is written beside it."""

    def read(folder, data):
        import shutil

        (folder / name).write_bytes(data)
        shutil.rmtree(folder / "unpacked", ignore_errors=True)
        ImageSet.from_folder(folder / name, unpacked=folder / "unpacked")
        outside = {path.name for path in folder.iterdir()} - {name, "unpacked"}
        assert not outside, outside
        assert not any(path.is_symlink() for path in (folder / "unpacked").rglob("*"))

    return read


def chunk_target() -> Target:
    """Return the target of PNG chunks whose checksums are right."""

    def mutate(data, rng):
        chunks, place = [], 8
        while place + 12 <= len(data):
            size = struct.unpack(">I", data[place : place + 4])[0]
            chunks.append((data[place + 4 : place + 8], data[place + 8 : place + 8 + size]))
            place += size + 12
        one = int(rng.integers(len(chunks)))
        kind, body = chunks[one]
        kinds = (kind, b"tEXt", b"iTXt", b"zTXt", b"eXIf", b"iCCP", b"PLTE", b"tRNS", b"acTL",
                 b"fcTL", b"fdAT", b"gAMA", b"cHRM", b"sRGB", b"pHYs")  # fmt: skip
        chunks[one] = (kinds[int(rng.integers(len(kinds)))], damaged(body, rng))
        if rng.random() < 0.3:
            chunks.insert(one, (kinds[int(rng.integers(len(kinds)))], damaged(body, rng)))
        whole = data[:8]
        for kind, body in chunks:
            check = struct.pack(">I", zlib.crc32(kind + body))
            whole += struct.pack(">I", len(body)) + kind + body + check
        return whole

    def seeds(folder):
        info = PngImagePlugin.PngInfo()
        info.add_text("parameters", A1111)
        info.add_itxt("prompt", json.dumps(GRAPH), zip=True)
        buffer = io.BytesIO()
        palette = drawing(1, 24).convert("P")
        palette.save(buffer, "PNG", pnginfo=info, transparency=3, gamma=0.45)
        exif = Image.Exif()
        exif[0x9286] = b"UNICODE\0" + A1111.encode("utf-16-be")
        other = io.BytesIO()
        drawing(1, 24).save(other, "PNG", exif=exif, icc_profile=b"no profile" * 20)
        return [buffer.getvalue(), other.getvalue()]

    return Target("PNG chunks", seeds, mutate, image_target("PNG").read)


def targets() -> list[Target]:
    """Return the targets of images."""
    own = json.dumps(RECORD)
    return [
        *(image_target(kind) for kind in known_formats() if kind in SUFFIXES),
        chunk_target(),
        text_target("generation record", PARAMETERS_KEY, own, json_damaged),
        text_target("crop record", CROP_KEY, json.dumps(CROP), json_damaged),
        text_target("A1111 parameters", "parameters", A1111, damaged),
        text_target("ComfyUI graph", "prompt", json.dumps(GRAPH), json_damaged),
        zip_target(),
        tar_target(),
    ]
