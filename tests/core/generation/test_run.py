"""The generation loop: resume, shards, kills, records and their PNG chunks."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from character_curator.generation import png
from character_curator.generation.backend import request_fingerprint, row_of
from character_curator.generation.diffusers_backend import DiffusersBackend
from character_curator.generation.reproduce import NoRecordError, reproduce
from character_curator.generation.run import BatchSizeError, ForeignFileError, batches, generate
from character_curator.imageset import ImageSet
from character_curator.plan import Plan, Scenario, Subject
from tests.support.full_disk import disk_that_fills

# Batches of 3 on 2 threads: the case in which the row of a batch decides its last bits.
BATCH = 3
SETTINGS = {"steps": 2, "guidance": 3.0, "width": 64, "height": 64, "threads": 2, "device": "cpu"}


def plan_of(seeds=(1, 2), prompt="thing", scenarios=4):
    return Plan(
        subjects=[Subject(name="char1", description="freckled woman", trigger="ohwx")],
        seeds=seeds,
        scenarios=[
            Scenario(
                number=n,
                name=f"scenario {n}",
                prompt=f"{prompt} {n}",
                category="casual",
                negative="bad",
            )
            for n in range(1, scenarios + 1)
        ],
        originals=[
            Scenario(number=1, name="neutral", prompt="plain background", category="original")
        ],
    )


@pytest.fixture(scope="module")
def backend(tiny_sd15):
    return DiffusersBackend(tiny_sd15, **SETTINGS)


@pytest.fixture(scope="module")
def undisturbed(backend, tmp_path_factory):
    return generate(plan_of(), backend, tmp_path_factory.mktemp("whole"), batch_size=BATCH)


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def marks(folder):
    """What changes when a file is written again."""
    return {p.name: (p.stat().st_ino, p.stat().st_mtime_ns) for p in folder.iterdir()}


class Counting:
    """Counts the images that a back end is asked for; padding too."""

    def __init__(self, backend):
        self._backend = backend
        self.batches = 0

    def __getattr__(self, name):
        return getattr(self._backend, name)

    def sample(self, requests, on_step=None):
        self.batches += 1
        return self._backend.sample(requests, on_step)


class StopAt:
    """A watcher who cancels at some call of ``advance``."""

    def __init__(self, call):
        self.left = call
        self.finished = False

    def start(self, stage, total):
        pass

    def advance(self, n=1, note=""):
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt

    def finish(self):
        self.finished = True


def test_rows_describe_the_files_in_the_plans_order(undisturbed):
    rows = undisturbed.table.to_dicts()
    requests = plan_of().requests()
    assert [row["path"] for row in rows] == [r.file_name for r in requests]
    for row, request in zip(rows, requests, strict=True):
        assert {k: row[k] for k in request.as_row()} == request.as_row()
        with Image.open(undisturbed.root / row["path"]) as image:
            assert image.size == (row["width"], row["height"]) == (64, 64)
            assert image.mode == "RGB"
            assert json.loads(image.info["character_curator"])["request"] == row["request"]
            assert image.info["parameters"].startswith(request.prompt)
            assert f"Seed: {request.noise_seed}" in image.info["parameters"]
    assert len({row["hash"] for row in rows}) == len(rows)


def test_the_folder_alone_tells_the_same(undisturbed):
    read = ImageSet.from_folder(undisturbed.root)
    assert read.table.sort("path").equals(undisturbed.table.sort("path"))


def test_a_second_run_makes_nothing(backend, tmp_path):
    counting = Counting(backend)
    first = generate(plan_of(), counting, tmp_path, batch_size=BATCH)
    made, before = counting.batches, marks(tmp_path)
    second = generate(plan_of(), counting, tmp_path, batch_size=BATCH)
    assert made >= 4
    assert counting.batches == made
    assert marks(tmp_path) == before
    assert second.table.equals(first.table)


def test_a_run_that_finds_everything_loads_no_weights(tiny_sd15, undisturbed):
    idle = DiffusersBackend(tiny_sd15, **SETTINGS)
    generate(plan_of(), idle, undisturbed.root, batch_size=BATCH)
    assert "_pipeline" not in vars(idle)


def test_only_what_has_changed_is_made_again(backend, tmp_path, caplog, monkeypatch):
    plan = plan_of()
    generate(plan, backend, tmp_path, batch_size=BATCH)
    before = marks(tmp_path)
    scenarios = [plan.scenarios[0].replace(prompt="else"), *plan.scenarios[1:]]
    renamed = [s.replace(category="other", name="other") for s in scenarios]
    real, told = backend.sample, []
    monkeypatch.setattr(
        backend, "sample", lambda *a, **k: (told.append(caplog.text), real(*a, **k))[1]
    )
    after = generate(plan.replace(scenarios=renamed), backend, tmp_path, batch_size=BATCH)
    assert told[0].count("\n") == 1, "said once, before anything is made"
    assert "2 of 10 images" in told[0]
    assert "settings have changed" in told[0]
    changed = {name for name, mark in marks(tmp_path).items() if mark != before[name]}
    assert changed == {f"char_char1_seed_{seed}_scenario_01_01.png" for seed in (1, 2)}
    assert set(after.table["category"]) == {"other", "original"}


def test_shards_in_another_order_are_one_run(backend, undisturbed, tmp_path):
    parts = [
        generate(plan_of(), backend, tmp_path, batch_size=BATCH, shard=(index, 3))
        for index in (2, 0, 1)
    ]
    assert sorted(map(len, parts)) == [3, 3, 4]
    assert contents(tmp_path) == contents(undisturbed.root)


def test_requests_alone_and_backwards_are_one_run(backend, undisturbed, tmp_path):
    for request in reversed(plan_of().requests()[::3]):
        generate([request], backend, tmp_path, batch_size=BATCH)
    made = contents(tmp_path)
    assert made
    assert made.items() <= contents(undisturbed.root).items()


def test_damaged_files_are_made_again(backend, undisturbed, tmp_path):
    generate(plan_of(), backend, tmp_path, batch_size=BATCH)
    names = sorted(path.name for path in tmp_path.iterdir())
    whole = (tmp_path / names[1]).read_bytes()
    (tmp_path / names[0]).write_bytes(b"")
    (tmp_path / names[1]).write_bytes(whole[:-20])
    (tmp_path / names[2]).write_bytes(b"not an image")
    flipped = bytearray((tmp_path / names[3]).read_bytes())
    flipped[-30] ^= 1
    (tmp_path / names[3]).write_bytes(flipped)
    generate(plan_of(), backend, tmp_path, batch_size=BATCH)
    assert contents(tmp_path) == contents(undisturbed.root)


def test_someone_elses_file_is_never_overwritten(backend, tmp_path):
    mine = tmp_path / plan_of().requests()[-1].file_name
    Image.new("RGB", (8, 8)).save(mine)
    before = mine.read_bytes()
    with pytest.raises(ForeignFileError, match=mine.name):
        generate(plan_of(), backend, tmp_path, batch_size=BATCH)
    assert contents(tmp_path) == {mine.name: before}


@pytest.mark.parametrize("call", [1, 4, 9])
def test_an_interrupt_loses_the_batch_in_flight_at_most(backend, undisturbed, tmp_path, call):
    watcher = StopAt(call)
    with pytest.raises(KeyboardInterrupt):
        generate(plan_of(), backend, tmp_path, batch_size=BATCH, progress=watcher)
    assert watcher.finished
    expected = contents(undisturbed.root)
    assert contents(tmp_path).items() <= expected.items()
    before = marks(tmp_path)
    generate(plan_of(), backend, tmp_path, batch_size=BATCH)
    assert contents(tmp_path) == expected
    assert before.items() <= marks(tmp_path).items()


KILLED = """
import json, sys
from character_curator.generation.diffusers_backend import DiffusersBackend
from character_curator.generation.run import generate
from character_curator.plan import Plan
model, plan, output, batch, settings = sys.argv[1:]
backend = DiffusersBackend(model, **json.loads(settings))
generate(Plan.from_toml(plan), backend, output, batch_size=int(batch))
"""


def test_after_a_kill_no_image_is_lost_and_none_made_twice(tiny_sd15, tmp_path):
    plan, slow = plan_of(seeds=range(4)), SETTINGS | {"steps": 12}
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    arguments = [str(tiny_sd15), plan.to_toml(), str(killed), str(BATCH), json.dumps(slow)]
    process = subprocess.Popen([sys.executable, "-c", KILLED, *arguments])
    while process.poll() is None and len(list(killed.glob("char*.png"))) < 2:
        time.sleep(0.01)
    assert process.poll() is None, "it ended before it could be killed"
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    kept = {p.name: (p.stat().st_ino, p.stat().st_mtime_ns) for p in killed.glob("char*.png")}
    assert 2 <= len(kept) < len(plan.requests())
    # What a kill in the middle of writing leaves behind.
    left = png.temporary_path(killed / plan.requests()[-1].file_name)
    left.write_bytes(b"half an image")

    backend = Counting(DiffusersBackend(tiny_sd15, **slow))
    images = generate(plan, backend, killed, batch_size=BATCH)
    missing = [r for r in plan.requests() if r.file_name not in kept]
    assert backend.batches == len(list(batches(missing, BATCH)))
    assert kept.items() <= marks(killed).items()
    undisturbed = generate(plan, backend, whole, batch_size=BATCH)
    assert contents(killed) == contents(whole)
    assert images.table.equals(undisturbed.table)


REPRODUCED = """
import json, sys
from character_curator.generation.reproduce import reproduce
for path in sys.argv[1:]:
    made = reproduce(path)
    print("RESULT", json.dumps([made.identical, str(made.psnr), list(made.differences)]))
"""


def test_a_new_process_reproduces_identical_pixels(undisturbed):
    paths = [str(path) for path in undisturbed.paths()[::4]]
    result = subprocess.run(
        [sys.executable, "-c", REPRODUCED, *paths], capture_output=True, text=True, check=True
    )
    lines = [line for line in result.stdout.splitlines() if line.startswith("RESULT")]
    assert [json.loads(line[6:]) for line in lines] == [[True, "inf", []]] * len(paths)


def test_an_altered_image_is_not_identical(backend, undisturbed, tmp_path):
    with Image.open(undisturbed.paths()[0]) as image:
        pixels = np.array(image)
    pixels[5, 5, 1] ^= 8
    record, _ = json.loads(undisturbed.table["generation"][0]), None
    png.write(tmp_path / "altered.png", pixels, record)
    made = reproduce(tmp_path / "altered.png", backend)
    assert not made.identical
    assert made.psnr == pytest.approx(10 * np.log10(255**2 * pixels.size / 64))
    assert made.differences == ()
    png.write(tmp_path / "small.png", pixels[:32], record)
    made = reproduce(tmp_path / "small.png", backend)
    assert np.isnan(made.psnr)
    assert "64x32" in made.differences[0]


def test_other_conditions_are_named(tiny_sd15, undisturbed):
    other = DiffusersBackend(tiny_sd15, **SETTINGS | {"steps": 3, "threads": 1})
    made = reproduce(undisturbed.paths()[0], other)
    assert set(made.differences) == {"steps: 2 -> 3", "threads: 2 -> 1"}
    assert 0 < made.psnr < 60


def test_a_image_without_a_record_says_so(tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "plain.png")
    Image.new("RGB", (8, 8)).save(tmp_path / "photo.jpg")
    for name, message in (
        ("plain.png", "no generation record"),
        ("photo.jpg", "not a whole PNG"),
        ("absent.png", "can't be read"),
    ):
        with pytest.raises(NoRecordError, match=message):
            reproduce(tmp_path / name)


@given(
    st.lists(st.tuples(st.integers(0, 99), st.integers(0, 50), st.integers(1, 3)), unique=True),
    st.integers(1, 9),
)
def test_batches_are_full_and_hold_every_request_once_at_its_row(keys, size):
    base = plan_of().requests()[0]
    requests = [replace(base, seed=s, scenario=n, take=t) for s, n, t in keys]
    dealt = list(batches(requests, size))
    assert all(len(batch) == size and any(batch) for batch in dealt)
    placed = [(row, r) for batch in dealt for row, r in enumerate(batch) if r is not None]
    assert sorted(map(repr, requests)) == sorted(repr(r) for _, r in placed)
    assert all(row == row_of(r, size) for row, r in placed)


@pytest.mark.parametrize("size", [3, 4, 7, 8])
def test_the_published_plan_wastes_hardly_a_row(size):
    requests = plan_of(seeds=range(966983, 966993), scenarios=52).requests()
    assert len(list(batches(requests, size))) <= -(-len(requests) // size) + 2


@pytest.mark.parametrize(
    "change",
    [{"prompt": "x"}, {"negative_prompt": "x"}, {"seed": 9}, {"noise_seed": 9}, {"take": 9}],
)
def test_a_fingerprint_sees_what_changes_the_image(change):
    request = plan_of().requests()[0]
    settings = {"steps": 2, "model": "/here", "loras": [{"path": "/here", "weight": 1.0}]}
    moved = {"steps": 2, "model": "/there", "loras": [{"path": "/there", "weight": 1.0}]}
    mark = request_fingerprint(request, settings)
    assert request_fingerprint(replace(request, **change), settings) != mark
    assert request_fingerprint(replace(request, caption="x", category="x"), moved) == mark
    assert request_fingerprint(request, settings | {"steps": 3}) != mark
    assert request_fingerprint(request, settings | {"loras": [{"weight": 0.5}]}) != mark
    # Of a single file, where its configurations come from; a scheduler's own decides the image.
    assert request_fingerprint(request, settings | {"config": "somewhere"}) == mark
    one, other = (
        request_fingerprint(request, settings | {"scheduler": {"class": "D", "config": config}})
        for config in ({"spacing": "leading"}, {"spacing": "trailing"})
    )
    assert one != other


def test_a_fingerprint_stays_as_it_was_recorded():
    """Images that are there are not made again by a later version."""
    scheduler = {"class": "DDIMScheduler", "config": {"timestep_spacing": "leading"}}
    mark = request_fingerprint(
        plan_of().requests()[0], {"steps": 2, "model": "/here", "scheduler": scheduler}
    )
    assert mark == "f582bfd679f9b615f5796e8ad7121f199eecc7aea789db551c98165129ef0af2"


@settings(max_examples=200)
@given(st.data())
def test_any_cut_or_flipped_bit_is_noticed(data):
    pixels = np.arange(8 * 8 * 3, dtype=np.uint8).reshape(8, 8, 3)
    whole = png.encode(pixels, {"prompt": "花子 🎨", "noise_seed": 1})
    assert png.read_record(whole) == {"prompt": "花子 🎨", "noise_seed": 1}
    cut = data.draw(st.integers(0, len(whole) - 1))
    with pytest.raises(png.DamagedPngError):
        png.read_record(whole[:cut])
    flipped = bytearray(whole)
    flipped[cut] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(png.DamagedPngError):
        png.read_record(bytes(flipped))


def test_two_that_write_one_image_do_not_meet(tmp_path, monkeypatch):
    path, pixels, done = tmp_path / "a.png", np.zeros((8, 8, 3), np.uint8), []
    replace = type(path).replace

    def replaced(source, target):
        if not done:  # another process is faster by a moment
            done.append("it")
            png.write(path, pixels, {})
        return replace(source, target)

    monkeypatch.setattr(type(path), "replace", replaced)
    written = png.write(path, pixels, {})
    assert contents(tmp_path) == {"a.png": written}


def test_a_full_disk_is_named_and_leaves_the_old_image(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(b"old")
    pixels = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    with disk_that_fills() as fill:
        fill()
        with pytest.raises(png.OutputError, match=r"disk is full.*again"):
            png.write(path, pixels, {})
    assert contents(tmp_path) == {"a.png": b"old"}


def test_an_impossible_output_folder_is_named(backend, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(png.OutputError, match="file"):
        generate(plan_of(), backend, tmp_path / "file")
    assert "Permission" in str(
        png.output_error(tmp_path, PermissionError(errno.EACCES, "Permission denied"))
    )


def test_a_batch_of_none_is_an_error(backend, tmp_path):
    with pytest.raises(BatchSizeError, match="one image at least"):
        generate(plan_of(), backend, tmp_path, batch_size=0)
