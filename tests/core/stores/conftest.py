"""A server of objects that this folder's tests share, each with a bucket of its own."""

from __future__ import annotations

import pytest

from tests.support.object_store import server, use_store


@pytest.fixture(scope="package")
def running():
    """A real server, started once."""
    pytest.importorskip("moto")
    pytest.importorskip("s3fs")
    with server() as store:
        yield store


@pytest.fixture
def store(running, tmp_path, monkeypatch):
    """The server, found through the environment; copies lie in a folder of the test."""
    use_store(monkeypatch, running, tmp_path / "cache")
    return running
