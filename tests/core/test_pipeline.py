"""The whole way, as a user goes it: commands, folders, kills, and what is left on disk."""

import io
import json
import os
import shutil
import signal
import struct
import subprocess
import sys
import time
import zlib
from contextlib import redirect_stderr, redirect_stdout

import numpy as np
import polars as pl
import pytest
from PIL import Image

from character_curator.cli import main
from miniature.identity import leading_character, sample_identity
from miniature.portrait import render
from miniature.scene import sample_scene
from tests.support.small_run import EVERYTHING_PASSES

PROJECT = (
    """\
[project]
name = "small"
output = "out"

[model]
steps = 4
batch_size = 4

[plan]
seeds = [966983, 966984]
takes = 2
template = "portrait of a {description}, {scenario}"

[[subjects]]
name = "char1"
trigger = "char1"
description = "freckled woman, wavy red hair, green eyes, fair skin"

[[originals]]
number = 1
name = "studio"
prompt = "neutral background, studio lighting, frontal view, close-up"

[[scenarios]]
number = 26
name = "park"
category = "casual"
prompt = "green hoodie, park background, soft daylight, frontal view, close-up"

[[scenarios]]
number = 33
name = "bar"
category = "professional"
prompt = "black blazer, bar background, golden hour lighting, frontal view, bust"

"""
    + EVERYTHING_PASSES
    + """[selection]
total = 2
"""
)


def command(*arguments, check=0):
    """Run a command in this process; return what it wrote to stdout and to stderr."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = main([str(argument) for argument in arguments])
    assert code == check, out.getvalue() + err.getvalue()
    return out.getvalue(), err.getvalue()


def process(*arguments, check=0):
    """Run a command in a process of its own; return what it wrote to stdout and to stderr."""
    done = subprocess.run(
        [sys.executable, "-m", "character_curator", *map(str, arguments)],
        capture_output=True,
        text=True,
    )
    assert done.returncode == check, done.stdout + done.stderr
    return done.stdout, done.stderr


def portraits(folder, count, seed=0):
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    people = [leading_character(), sample_identity(rng)]
    for i in range(count):
        scene = sample_scene(rng)
        Image.fromarray(render(people[0], scene).image).save(folder / f"good{i:02d}.png")


def header_only_png(path, side):
    def chunk(kind, data):
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    head = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0" * 1000))
        + chunk(b"IEND", b"")
    )  # fmt: skip


@pytest.fixture(scope="module")
def messy(tmp_path_factory):
    """A folder of portraits among everything that goes wrong in folders."""
    folder = tmp_path_factory.mktemp("messy") / "my images 💡"
    portraits(folder, 10)
    portrait = Image.open(folder / "good00.png")
    good = {f"good{i:02d}.png" for i in range(10)}

    def add(name, image, **options):
        image.save(folder / name, **options)
        good.add(name)

    rng = np.random.default_rng(5)
    other = Image.fromarray(render(leading_character(), sample_scene(rng)).image)
    add("name with spaces 😀.png", other)
    add("n" * 196 + ".png", portrait.transpose(Image.Transpose.FLIP_LEFT_RIGHT))
    add("grey.png", portrait.convert("L"))
    add("rgba.png", portrait.convert("RGBA"))
    add("cmyk.jpg", portrait.convert("CMYK"), quality=95)
    exif = Image.Exif()
    exif[0x0112] = 6
    add("rotated.jpg", portrait.transpose(Image.Transpose.ROTATE_90), exif=exif, quality=95)
    frames = [portrait, portrait.transpose(Image.Transpose.FLIP_LEFT_RIGHT)]
    frames[0].save(folder / "animated.webp", save_all=True, append_images=frames[1:], lossless=True)
    good.add("animated.webp")
    deep = np.asarray(portrait.convert("L")).astype(np.uint16) * 257
    Image.fromarray(deep).save(folder / "deep.png")
    good.add("deep.png")
    Image.new("RGB", (1, 1)).save(folder / "tiny.png")
    whole = (folder / "good01.png").read_bytes()
    (folder / "truncated.png").write_bytes(whole[: len(whole) // 2])
    (folder / "zero.png").write_bytes(b"")
    (folder / "text.png").write_text("This is a letter, not an image.")
    header_only_png(folder / "huge.png", 20_000)
    (folder / "loop").symlink_to(folder)
    (folder / "self.png").symlink_to(folder / "self.png")
    (folder / "forbidden.png").write_bytes(whole)
    (folder / "forbidden.png").chmod(0)
    return folder, good


def test_a_messy_folder_is_curated(messy, tmp_path):
    folder, good = messy
    out, err = command("curate", folder, "--output", tmp_path / "set", "--total", 6,
                       "--clusters", 2, "--min-quality", 0.2, "--json")  # fmt: skip
    result = json.loads(out)
    assert result["chosen"] == 6
    found = next((tmp_path / "set").rglob("provenance*.parquet"), None)
    assert found is not None
    table = pl.read_parquet(found)
    reasons = dict(table.select("path", "rejection").iter_rows())
    details = dict(table.select("path", "rejection_detail").iter_rows())
    unreadable = {name for name, reason in reasons.items() if reason == "unreadable"}
    bad = {"truncated.png", "zero.png", "text.png", "huge.png", "self.png"}
    if not os.access(folder / "forbidden.png", os.R_OK):  # root reads everything
        bad.add("forbidden.png")
    assert unreadable == bad, details
    assert all(details[name] for name in bad), "each says what is wrong with it"
    assert reasons["tiny.png"] == "no_face"
    assert good <= set(reasons)
    assert "unreadable" in err, "the summary tells of them"
    assert "2000" in details["huge.png"] or "pixel" in details["huge.png"].lower()


def test_an_empty_folder_is_an_error_that_says_so(tmp_path):
    (tmp_path / "empty").mkdir()
    _, err = process("curate", tmp_path / "empty", "--output", tmp_path / "set", check=2)
    assert "No image" in err
    assert not (tmp_path / "set").exists()
    out, _ = command("curate", tmp_path / "empty", "--output", tmp_path / "set", "--json", check=2)
    assert json.loads(out)["error"] == "EmptyFolderError"


def facts(folder):
    metadata = json.loads((folder / "out" / "dataset" / "metadata.json").read_text())
    pixels = {
        name.name: np.asarray(Image.open(name)).tobytes()
        for name in sorted((folder / "out" / "raw").glob("*.png"))
    }
    return metadata, pixels


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    (folder / "p.toml").write_text(PROJECT)
    command("run", folder / "p.toml")
    return folder


def test_a_second_run_measures_and_makes_nothing(undisturbed):
    raw = undisturbed / "out" / "raw"
    before = {path: path.stat().st_mtime_ns for path in raw.iterdir()}
    moved = PROJECT.replace("minimum = 0.0\n", "minimum = 0.05\n", 1)
    (undisturbed / "moved.toml").write_text(moved)
    out, _ = command("run", undisturbed / "moved.toml", "--json")
    assert json.loads(out)["computed"] == {}
    assert {path: path.stat().st_mtime_ns for path in raw.iterdir()} == before


@pytest.mark.parametrize("images", [1, 9])
def test_a_killed_run_goes_on(undisturbed, tmp_path, images):
    (tmp_path / "p.toml").write_text(PROJECT)
    killed = subprocess.Popen(
        [sys.executable, "-m", "character_curator", "run", "p.toml", "--quiet"], cwd=tmp_path
    )
    raw = tmp_path / "out" / "raw"
    while killed.poll() is None and len(list(raw.glob("*.png"))) < images:
        time.sleep(0.02)
    killed.send_signal(signal.SIGKILL)
    assert killed.wait() == -signal.SIGKILL, "it ended before it could be killed"
    made = {path: path.stat().st_mtime_ns for path in raw.glob("*.png")}
    assert len(made) >= images
    command("run", tmp_path / "p.toml")
    assert {path: path.stat().st_mtime_ns for path in made} == made, "none is made twice"
    assert facts(tmp_path) == facts(undisturbed)


def test_a_image_comes_again_in_a_new_process(undisturbed):
    image = next((undisturbed / "out" / "raw").glob("*scenario_26_01.png"))
    out, _ = process("reproduce", image, "--json")
    assert json.loads(out)["identical"] is True


def test_decisions_are_followed_after_a_rename(undisturbed, tmp_path):
    table = pl.read_parquet(undisturbed / "out" / "images.parquet")
    [kept] = table.filter(pl.col("rejection") == "quota").sort("path").rows(named=True)[:1]
    [vetoed] = table.filter("selected").sort("path").rows(named=True)[:1]
    renamed = {path.name: f"{i}.png" for i, path in enumerate(
        sorted((undisturbed / "out" / "raw").glob("*.png")), 100)}  # fmt: skip
    (tmp_path / "photos").mkdir()
    for old, new in renamed.items():
        shutil.copy(undisturbed / "out" / "raw" / old, tmp_path / "photos" / new)
    rows = [
        {"hash": kept["hash"], "decision": "keep"},
        {"hash": vetoed["hash"], "decision": "veto"},
    ]
    (tmp_path / "d.json").write_text(json.dumps({"format": 1, "decisions": rows}))
    given = ["curate", tmp_path / "photos", "--output", tmp_path / "set", "--total", 4,
             "--min-quality", 0.0, "--min-confidence", 0.0, "--clusters", 2,
             "--work", undisturbed / "decided", "--decisions", tmp_path / "d.json"]  # fmt: skip
    out, err = command(*given, "--json")
    assert json.loads(out)["selection"]["decisions"] == {
        "kept": 1, "vetoed": 1, "idle": 0, "unknown": 0,
    }  # fmt: skip
    assert "1 kept, 1 vetoed" in err
    names = json.loads((tmp_path / "set" / "metadata.json").read_text())
    assert renamed[kept["path"]] in names
    assert renamed[vetoed["path"]] not in names
    recipe = (tmp_path / "set" / "recipe.toml").read_text()
    assert 'decisions = "decisions.json"' in recipe
    assert (tmp_path / "set" / "decisions.json").is_file()
    (tmp_path / "d.json").write_text("[]")
    _, err = command(*given, check=2)
    assert "d.json cannot be used" in " ".join(err.split())


def test_shards_make_the_same_set(undisturbed, tmp_path):
    (tmp_path / "p.toml").write_text(PROJECT)
    for shard in ("3/3", "1/3", "2/3"):
        command("generate", tmp_path / "p.toml", "--shard", shard)
    pixels = {
        path.name: np.asarray(Image.open(path)).tobytes()
        for path in sorted((tmp_path / "out" / "raw").glob("*.png"))
    }
    assert pixels == facts(undisturbed)[1]


def test_a_fault_in_the_project_names_its_line(tmp_path):
    (tmp_path / "p.toml").write_text(PROJECT.replace("steps = 4", "steps = 0"))
    _, err = command("run", tmp_path / "p.toml", check=2)
    assert "line 6" in err
    assert "model.steps" in err
