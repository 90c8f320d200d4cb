"""Places and sources as a stranger may name them: named errors, before hours are spent."""

from __future__ import annotations

import errno
import os
import sys
from contextlib import redirect_stderr
from io import StringIO
from pathlib import Path

import pytest

from character_curator.cli import captions, main
from character_curator.cli.output import write_json
from character_curator.reading.folders import SourceError, list_sources
from tests.support.commands import CURATE, command


@pytest.mark.parametrize(
    "arguments",
    [("curate", "in", "--output", "a"), ("captions", "frequencies", "a"), ("versions", "a")],
    ids=lambda arguments: arguments[0],
)
def test_links_in_a_circle_are_a_named_error(tmp_path, monkeypatch, arguments):
    monkeypatch.chdir(tmp_path)
    Path("a").symlink_to("b")
    Path("b").symlink_to("a")
    Path("in").mkdir()
    _, err = command(*arguments, check=2)
    assert "Error: " in err


@pytest.mark.parametrize("source", ["", "no-such-folder"])
def test_a_source_that_is_none(tmp_path, monkeypatch, source):
    monkeypatch.chdir(tmp_path)
    _, err = command("curate", source, "--output", "out", check=2)
    wanted = "there is no such folder" if source else "No source is named"
    assert wanted in " ".join(err.split())


def test_an_empty_list_of_sources_is_none():
    with pytest.raises(SourceError, match="the list is empty"):
        list_sources([])


def test_a_place_that_is_taken_is_refused_before_anything_is_measured(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.png").write_bytes(b"no image")
    _, err = command("curate", tmp_path / "in", "--output", tmp_path / "in", *CURATE, check=2)
    assert "so that nothing of yours is moved" in " ".join(err.split())
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a disk that is full")
def test_a_standard_output_on_a_full_disk_is_a_named_error(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "stdout", open("/dev/full", "w"))  # noqa: SIM115
    (tmp_path / "a.png").write_bytes(b"")
    with redirect_stderr(StringIO()) as err:
        assert main(["captions", "frequencies", str(tmp_path), "--json"]) == 2
    assert "The standard output: no space" in " ".join(err.getvalue().split())
    sys.stdout.close()  # which would fail if anything were left to write


def test_a_library_that_cannot_be_loaded_is_a_named_error(tmp_path, monkeypatch):
    (tmp_path / "a.png").write_bytes(b"")
    missing = "libGL.so.1: cannot open shared object file"

    def fail(*_):
        raise ImportError(missing, name="cv2")

    monkeypatch.setattr(captions, "_frequencies", fail)
    _, err = command("captions", "frequencies", tmp_path, check=2)
    wanted = f"BrokenLibraryError: The library cv2 cannot be loaded: {missing}. Install it again"
    assert wanted in " ".join(err.split())


def test_a_reader_of_the_result_that_is_gone_is_no_error(monkeypatch):
    read, write = os.pipe()
    os.close(read)
    monkeypatch.setattr(sys, "stdout", open(write, "w"))  # noqa: SIM115
    write_json({"a": 1})
    sys.stdout.close()


def test_a_current_folder_that_is_gone_is_said(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    _, err = command("curate", "in", "--output", "out", check=2)
    assert "The current folder, which is gone" in " ".join(err.split())


@pytest.fixture
def closed(monkeypatch):
    """Close folders of a name, to root too."""
    scan = os.scandir

    def refuse(path="."):
        if Path(os.fsdecode(path)).name == "closed":
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return scan(path)

    listed = os.listdir
    monkeypatch.setattr(os, "scandir", refuse)
    monkeypatch.setattr(
        os, "listdir", lambda path=".": [e.name for e in refuse(path)] if path else listed(path)
    )


@pytest.mark.usefixtures("closed")
@pytest.mark.parametrize(
    "arguments",
    [
        ("curate", "closed", "--output", "out"), ("captions", "lint", "closed"),
        ("export", "closed", "--output", "out"),
        ("train", "closed", "--base", "miniature", "--output", "x.safetensors"),
    ],
    ids=lambda arguments: arguments[0],
)  # fmt: skip
def test_a_folder_that_may_not_be_read_is_a_named_error(tmp_path, monkeypatch, arguments):
    monkeypatch.chdir(tmp_path)
    Path("closed").mkdir()
    _, err = command(*arguments, check=2)
    assert "Permission denied" in err.replace("permission", "Permission")


@pytest.mark.usefixtures("closed")
def test_a_folder_below_that_may_not_be_read_is_said(tmp_path):
    (tmp_path / "a" / "closed").mkdir(parents=True)
    (tmp_path / "a" / "x.png").write_bytes(b"")
    listing = list_sources([tmp_path])
    assert listing.names == ("a/x.png",)
    assert "1 folder below" in listing.notes[0]
    assert listing.notes[0].endswith("and nothing in there was: a/closed.")


@pytest.mark.parametrize("command_", [("captions", "lint"), ("export",)], ids=str)
def test_a_name_that_no_file_system_takes_is_a_named_error(command_):
    more = ("--output", "out") if command_ == ("export",) else ()
    _, err = command(*command_, "x" * 300, *more, check=2)
    assert "Error: " in err


@pytest.mark.parametrize(
    ("error", "name"),
    [
        (RuntimeError("can't start new thread"), "TooFewThreadsError"),
        (BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable"), "TooFewThreadsError"),
        (ImportError("libx.so: failed to map segment from shared object"), "TooLittleMemoryError"),
        (
            ImportError("libx.so: cannot allocate memory in static TLS block"),
            "TooLittleMemoryError",
        ),
        (ImportError("libx.so: no such file"), "BrokenLibraryError"),
    ],
)
def test_what_a_limit_refuses_is_called_by_its_name(tmp_path, monkeypatch, error, name):
    def refused(*_):
        raise error

    monkeypatch.setattr(captions, "_frequencies", refused)
    _, err = command("captions", "frequencies", tmp_path, check=2)
    assert name in err
