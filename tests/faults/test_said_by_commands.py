"""What each command says of damage: once, with its place; in ``--json``; and ``--quiet`` nothing.

Each case is a command that has ended well, a file that is damaged then, and the same command again.
"""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from character_curator.counts import singular
from tests.support.commands import CURATE, command, draw_people, own_logging
from tests.support.faults.stages import STAGES, Stage
from tests.support.tiny_analysis import needs_miniature_faces

pytestmark = needs_miniature_faces


def flip(path: Path) -> None:
    """Change a byte in the middle."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0x55
    path.write_bytes(data)


def cut(path: Path) -> None:
    """Cut the end off."""
    path.write_bytes(path.read_bytes()[:-40])


def change_a_figure(path: Path) -> None:
    """Make a digit another, so that the text is still one of its kind."""
    text = path.read_text(encoding="utf-8")
    place = next(i for i in range(len(text) // 2, len(text)) if text[i].isdigit())
    other = "1" if text[place] != "1" else "2"
    path.write_text(text[:place] + other + text[place + 1 :], encoding="utf-8")


def spoil_values(path: Path) -> None:
    """Make a value of a store another, without SQLite's noticing."""
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE feature SET checksum = x'00' WHERE analyser = 'pixels'")


DIFF = Stage(
    "diff", ("diff", "1", "2", "--dataset", "out"), STAGES["restore"].files,
    STAGES["restore"].before,
)  # fmt: skip
FREQUENCIES = Stage(
    "frequencies", ("captions", "frequencies", "in"), lambda folder: _captioned(folder / "in")
)


def _captioned(folder: Path) -> None:
    draw_people(folder, 1)
    (folder / "metadata.json").write_text('{"p0.png": {"caption": "a face"}}')


CURATED = ("curate", "--faces", "miniature", "--clip", "miniature", *CURATE)


@dataclass(frozen=True)
class Case:
    """What is damaged, and what of it is said.

    Attributes:
        stage: The command.
        file: What is damaged; the first of that pattern.
        spoil: How.
        what: The kind of damage that is said, as far as it names it.
        where: The file or folder that is said, within the folder.
        again: Whether the command is run once before the damage; that of a stage may be what
            changes something.
    """

    stage: Stage
    file: str
    spoil: Callable[[Path], None]
    what: str
    where: str
    again: bool = True

    def __str__(self) -> str:
        return f"{self.stage.name}-{self.what.replace(' ', '_')}"


S = STAGES
CASES = [
    Case(S["curate"], "out.work/features.sqlite", spoil_values, "measurements (pixels)",
         "out.work/features.sqlite"),
    Case(S["curate"], "out/report.html", flip, "files of the version before", "out"),
    Case(S["curate"], "out/version.json", change_a_figure, "records of versions",
         "out/version.json"),
    Case(S["zip"], "out.work/unpacked/*/p0.png", cut, "unpacked files", "out.work/unpacked/mine"),
    Case(S["restore"], "out.versions/v0001/report.html", flip, "files of version 1",
         "out.versions/v0001"),
    Case(DIFF, "out/report.html", flip, "files of version 2", "out", again=False),
    Case(FREQUENCIES, "in/metadata.json", cut, "tables of images", "in/metadata.json"),
]  # fmt: skip
LONGER = [
    Case(S["generate"], "out/raw/*.png", flip, "images", "out/raw"),
    Case(S["train"], "lora/char.safetensors", flip, "LoRA files", "lora/char.safetensors"),
    Case(S["train"], "lora/char-epoch0001.safetensors", flip, "files of trainings",
         "lora/char-epoch0001.safetensors"),
    Case(S["train"], "lora/char.work/finished.json", change_a_figure, "notes of trainings",
         "lora/char.work/finished.json"),
    Case(S["run"], "out/features.sqlite", spoil_values, "measurements (pixels)",
         "out/features.sqlite"),
    Case(S["waves"], "out/waves.json", change_a_figure, "notes of waves", "out/waves.json"),
    Case(S["evaluate"], "lora/char.evaluation/base/*.png", flip, "images",
         "lora/char.evaluation/base"),
    Case(S["evaluate"], "out/p*.png", cut, "training images", "out"),
    Case(S["before-after"], "out/before-after/runs/*/result.json", change_a_figure,
         "results of runs", "out/before-after/runs"),
    Case(S["portfolio"], "out/work/ada/settled.json", change_a_figure, "notes of datasets",
         "out/work/ada/settled.json"),
    Case(S["portfolio"], "out/portfolio/ada/report.html", flip, "files of the version before",
         "out/portfolio/ada"),
    Case(S["caption"], "out.work/features.sqlite", lambda path: _spoil_captions(path),
         "measurements (captions)", "out.work/features.sqlite"),
    Case(S["augment"], "out/disturbed/*.png", flip, "disturbed copies", "out/disturbed"),
    Case(S["assets"], "out/assets/hero/atlas.png", flip, "files of the pack", "out/assets/hero"),
]  # fmt: skip


def _spoil_captions(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE feature SET checksum = x'00' WHERE analyser = 'captions'")


@pytest.fixture(scope="module")
def ended(tmp_path_factory):
    """Return a function that returns the folder of a stage that has ended, made once."""
    made: dict[tuple[str, bool], Path] = {}

    def folder_of(stage: Stage, again: bool) -> Path:
        key = stage.name, again
        if key not in made:
            made[key] = tmp_path_factory.mktemp(stage.name)
            stage.files(made[key])
            with pytest.MonkeyPatch.context() as patch:
                patch.chdir(made[key])
                for one in (*stage.before, *([stage.command] if again else [])):
                    command(*one, "--quiet")
        return made[key]

    return folder_of


@pytest.fixture
def own_process(monkeypatch):
    """Log as a process of its own does: nothing but the command has set up where that goes."""
    monkeypatch.setenv("COLUMNS", "2000")  # nothing is wrapped
    with own_logging():
        yield


def _check(case: Case, ended, tmp_path, monkeypatch) -> None:
    prepared = ended(case.stage, case.again)
    told = []
    for options in (["--json"], ["--json", "--quiet"]):
        # The same place each time, for results that name it.
        folder = tmp_path / "x"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(prepared, folder)
        case.spoil(sorted(folder.glob(case.file))[0])
        monkeypatch.chdir(folder)
        told.append(command(*case.stage.command, *options))
    (out, said), (quiet_out, quiet_said) = told
    found = json.loads(out)["damage"]
    (named,) = [one for one in found if one["what"].startswith(case.what)]
    assert named["where"].removeprefix(f"{folder}/").startswith(case.where)
    assert named["count"] >= 1
    assert json.loads(quiet_out)["damage"] == found
    assert quiet_said == ""
    notes = [line for line in said.splitlines() if "damage" in line.lower() or "Note" in line]
    assert [line for line, times in Counter(notes).items() if times > 1] == []
    assert said.count("Damage found (the notes above say more):") == 1
    at_last = said[said.index("Damage found") :]
    what = named["what"] if named["count"] != 1 else singular(named["what"])
    summed = f"{named['count']} damaged {what} in {named['where']}: {named['then']}"
    assert at_last.count(summed) == 1
    assert "WARNING" not in said


@pytest.mark.parametrize("case", CASES, ids=str)
def test_damage_is_said_once_with_its_place(case, ended, own_process, tmp_path, monkeypatch):
    _check(case, ended, tmp_path, monkeypatch)


@pytest.mark.slow
@pytest.mark.parametrize("case", LONGER, ids=str)
def test_damage_is_said_by_the_longer_commands(case, ended, own_process, tmp_path, monkeypatch):
    _check(case, ended, tmp_path, monkeypatch)


@pytest.mark.slow
def test_damage_is_the_same_whoever_measures(tmp_path):
    told = {}
    for workers in (1, 2):
        folder = draw_people(tmp_path / "x" / "in", 8)
        command(*CURATED, "--output", folder / "../out", folder, "--quiet")
        spoil_values(tmp_path / "x" / "out.work" / "features.sqlite")
        cut(folder / "p2.png")
        out, said = command(
            *CURATED, "--output", folder / "../out", folder, "--workers", workers, "--json"
        )
        told[workers] = json.loads(out)
        assert said.count("Damage found") == 1
        shutil.rmtree(tmp_path / "x")
    assert told[1]["damage"]
    assert told[1].pop("seconds")
    assert told[2].pop("seconds")
    assert told[2] == told[1]
