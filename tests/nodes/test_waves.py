"""Images in waves in a real ComfyUI: GenerateUntil behind the nodes that measure and select."""

import json
import shutil
import time
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from character_curator import project as projects
from character_curator.generation.png import read_record
from character_curator.hashing import unsealed
from character_curator.imageset import ImageSet
from character_curator.project_waves import in_waves as project_in_waves
from tests.support.comfyui.graphs import SCENARIOS, in_waves, stock
from tests.support.comfyui.server import Server, files

WIDGETS = {"seeds": "966983-966984", "takes": 4}
FIXED = 24
"""Images of the whole plan: three scenarios, two seeds, four takes."""
GOAL = {"wave": 4, "gain": 0.01, "total": 6, "quotas": "scenario=2\nseed=3", "quality": 0.8,
        "steps": 4}  # fmt: skip


def graph_of(name, **changes):
    graph = in_waves(name, plan_widgets=WIDGETS, **(GOAL | changes))
    return graph | {"21": stock("PreviewAny", source=["20", 2])}


def said(run):
    return run.outputs["21"]["text"][0]


def ledger(raw):
    return json.loads((raw / "waves.json").read_text())["images"]


def contents(raw):
    """The pixels and the records of the images of a folder, by their names."""
    found = {}
    for name in files(raw):
        data = (raw / name).read_bytes()
        with Image.open(raw / name) as image:
            found[name] = (np.asarray(image).tobytes(), read_record(data))
    return found


@pytest.fixture(scope="module")
def grown(server):
    """The graph, its first run, and the folder of its images."""
    graph = graph_of("waves")
    return graph, server.run(graph), server.base / "output" / "waves" / "raw"


def test_only_what_is_needed_is_made_until_the_quotas_are_met(server, grown):
    _, run, raw = grown
    dataset = server.base / "output" / "waves" / "dataset"
    asked = ledger(raw)
    assert len(asked) == len(files(raw)) < FIXED
    waves = max(entry["wave"] for entry in asked)
    assert waves > 1
    assert said(run).startswith(f"{len(asked)} images in {waves} waves: nothing is lacking, and ")
    chosen = json.loads((dataset / "metadata.json").read_text()).values()
    assert len(chosen) == 6
    for column, each in (("scenario", [2, 2, 2]), ("seed", [3, 3])):
        assert sorted(Counter(row[column] for row in chosen).values()) == each
    records = [read_record((raw / name).read_bytes())["wave"] for name in files(raw)]
    assert {record["number"] for record in records} == set(range(1, waves + 1))
    assert run.outputs["15"]["images"]


def test_a_second_queue_runs_nothing(server, grown):
    graph, _, _ = grown
    assert server.run(graph).cached == set(graph)


class Served:
    """Gives the images that a server has made, and none that it has not."""

    maximum_batch = 1
    conditions: dict = {}  # noqa: RUF012

    def __init__(self, raw):
        self.raw = raw
        self.settings = read_record((raw / files(raw)[0]).read_bytes())["settings"]

    def sample(self, requests, on_step=None):
        return np.stack([np.asarray(Image.open(self.raw / r.file_name)) for r in requests])


def test_a_project_with_the_same_settings_asks_for_the_same_images(grown, tmp_path):
    graph, _, raw = grown
    records = {row["scenario"]: row for _, row in contents(raw).values()}
    texts = [line.rpartition("|")[2].strip() for line in SCENARIOS.splitlines() if line[0] != "#"]
    project = projects.from_mapping(
        {
            "project": {"name": "char1", "output": str(tmp_path)},
            "subjects": [
                {"name": "char1", "trigger": "char1", "class_word": "woman",
                 "description": graph["2"]["inputs"]["description"]},
            ],
            "plan": {"seeds": [966983, 966984], "takes": 4,
                     "template": graph["2"]["inputs"]["template"]},
            "scenarios": [
                {"number": number, "prompt": text, "name": records[number]["scenario_name"],
                 "category": records[number]["category"]}
                for number, text in enumerate(texts, 1)
            ],
            "faces": {"minimum_confidence": 0.0, "minimum_share": 0.0, "minimum_side": 0.0},
            "quality": {"minimum": 0.8},
            "clusters": {"count": 2},
            "duplicates": {"threshold": 1.0},
            "selection": {"total": 6, "quotas": ["scenario=2", "seed=3"]},
            "waves": {"size": 4, "gain": 0.01},
        },
        "test",
    )  # fmt: skip
    images = project_in_waves(project, Served(raw), tmp_path / "raw", tmp_path, tmp_path)
    assert isinstance(images, ImageSet)
    assert (tmp_path / "waves.json").read_text() == (raw / "waves.json").read_text()
    assert images.notes[-1] in said(grown[1])


@pytest.fixture(scope="module")
def cancelled(server, grown):
    """The folder of a run that was cancelled in its second wave and queued again."""
    _, _, raw = grown
    again = server.base / "output" / "cancelled" / "raw"
    changed = graph_of("cancelled")
    number = server.queue(changed)
    while not (again.is_dir() and len(files(again)) > 6):  # in the second wave
        time.sleep(0.01)
    server.post("/interrupt")
    assert server.wait(number).interrupted
    assert len(files(again)) < len(files(raw))
    server.run(changed)
    return again


def test_cancelled_in_a_wave_and_queued_again_it_makes_the_same_images(grown, cancelled):
    _, _, raw = grown
    assert contents(cancelled) == contents(raw)
    assert ledger(cancelled) == ledger(raw)


def test_more_is_wanted_and_what_is_there_stays(server, cancelled):
    def state(name):
        path = cancelled / name
        return path.read_bytes(), path.stat().st_mtime_ns

    before = {name: state(name) for name in files(cancelled)}
    waves = max(entry["wave"] for entry in ledger(cancelled))
    run = server.run(graph_of("cancelled", total=12, quotas="scenario=4\nseed=6"))
    assert "Selected 12 of" in said(run)
    assert "scenario: 4 each of 3 values - met" in said(run)
    assert max(entry["wave"] for entry in ledger(cancelled)) > waves
    assert len(files(cancelled)) > len(before)
    assert {name: state(name) for name in before} == before


def test_a_set_that_was_made_at_once_is_topped_up(server):
    """And none of it is good enough: the waves go on where a selection alone would give up."""
    plain = graph_of("old", wave=0, limit=2, quality=1.0)
    del plain["20"], plain["21"]
    for number in ("14", "15"):
        plain[number]["inputs"]["images"] = ["13", 0]
    plain["14"]["inputs"]["selection"] = ["13", 1]
    assert "None of the 2 images can be selected" in server.refusal(plain)
    graph = graph_of("old", limit=5, quality=1.0)
    assert "None of the 5 images can be selected" in server.refusal(graph)
    graph = graph_of("old", limit=16)
    graph["15"]["inputs"]["images"] = ["13", 0]
    run = server.run(graph)
    asked = ledger(server.base / "output" / "old" / "raw")
    assert [entry["wave"] for entry in asked[:5]] == [0, 0, 1, 1, 1]
    assert "scenario: 2 each of 3 values - met" in said(run)
    assert "in front of GenerateUntil, and not run again with each wave: ContactSheet (15)." in (
        said(run)
    )


def test_a_plan_that_is_made_at_once_and_another_selection_are_refused(server):
    graph = graph_of("refused", wave=0, limit=3, quality=0.0)
    assert "its 'wave' is 0" in server.refusal(graph)
    other = graph_of("refused", limit=3, quality=0.0)
    other["4"] = {**other["3"], "inputs": {**other["3"]["inputs"], "folder": "refused/other"}}
    other["20"]["inputs"]["waves"] = ["4", 2]
    assert "does not come from the images of" in server.refusal(other)


def test_damaged_notes_of_waves_are_said_and_written_again(server, grown):
    _, _, raw = grown
    place = server.base / "output" / "notes" / "raw"
    shutil.copytree(raw, place)
    for name in files(place)[4:]:
        (place / name).unlink()
    notes = place / "waves.json"

    notes.write_text(notes.read_text().replace('"wave": 2', '"wave": 1'))
    with pytest.raises(ValueError, match="seal"):
        unsealed(json.loads(notes.read_text()))
    told = f"1 damaged note of waves in {notes}: taken for absent"
    run = server.run(graph_of("notes"))
    assert told in "\n".join(run.outputs["3"]["text"])
    assert "scenario: 2 each of 3 values - met" in said(run)
    assert unsealed(json.loads(notes.read_text()))


@pytest.mark.slow
def test_a_server_that_is_killed_in_a_wave_makes_the_same_images(comfyui, tmp_path, grown):
    _, _, raw = grown
    graph = graph_of("killed")
    bases = [tmp_path / name for name in ("first", "second")]
    for base in bases:
        base.mkdir()
    first = Server(comfyui, bases[0])
    first.queue(graph)
    half = bases[0] / "output" / "killed" / "raw"
    while not (half.is_dir() and len(files(half)) > 6):
        time.sleep(0.01)
    first.process.kill()
    first.process.wait()
    assert len(files(half)) < len(files(raw))
    shutil.copytree(half, bases[1] / "output" / "killed" / "raw")
    second = Server(comfyui, bases[1])
    try:
        second.run(graph)
    finally:
        second.stop()
    whole = bases[1] / "output" / "killed" / "raw"
    assert contents(whole) == contents(raw)
    assert ledger(whole) == ledger(raw)
