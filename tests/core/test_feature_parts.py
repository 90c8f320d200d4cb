"""Measurements that workers write as parts, and the store that takes them."""

import pytest

from character_curator.damages import collected_damage
from character_curator.errors import WriteError
from character_curator.feature_parts import merge_parts, write_part
from character_curator.features import FeatureStore

ROWS = {("pixels", "1"): {"b": b"two", "a": b"one"}, ("faces", "x"): {"a": b"\x00\xff"}}


def _held(store):
    return {
        (analyser, fingerprint, key): value
        for analyser, fingerprint in (("pixels", "1"), ("faces", "x"))
        for key, value in store.get(["a", "b", "c"], analyser, fingerprint).items()
    }


WHOLE = {
    ("pixels", "1", "a"): b"one", ("pixels", "1", "b"): b"two", ("faces", "x", "a"): b"\x00\xff",
}  # fmt: skip


def test_parts_end_in_the_store_and_are_gone(tmp_path):
    store = FeatureStore(tmp_path / "features.sqlite")
    name = write_part(tmp_path / "parts", ROWS)
    assert [path.name for path in (tmp_path / "parts").iterdir()] == [name]
    assert merge_parts(store, tmp_path / "parts") == 3
    assert _held(store) == WHOLE
    assert list((tmp_path / "parts").iterdir()) == []
    assert store.computed == {"pixels": 2, "faces": 1}


def test_the_same_rows_are_the_same_part(tmp_path):
    other = {key: dict(reversed(items.items())) for key, items in reversed(ROWS.items())}
    assert write_part(tmp_path, ROWS) == write_part(tmp_path, other)
    assert len(list(tmp_path.iterdir())) == 1
    assert write_part(tmp_path / "none", {("pixels", "1"): {}}) == ""
    assert not (tmp_path / "none").exists()


def test_merging_goes_on_after_a_kill(tmp_path):
    """The rows are in the store and the part is not yet gone: merged again, nothing changes."""
    store = FeatureStore(tmp_path / "features.sqlite")
    name = write_part(tmp_path / "parts", ROWS)
    data = (tmp_path / "parts" / name).read_bytes()
    merge_parts(store, tmp_path / "parts")
    (tmp_path / "parts" / name).write_bytes(data)
    write_part(tmp_path / "parts", {("pixels", "1"): {"c": b"three"}})
    merge_parts(store, tmp_path / "parts")
    assert _held(store) == {**WHOLE, ("pixels", "1", "c"): b"three"}
    assert list((tmp_path / "parts").iterdir()) == []


@pytest.mark.parametrize("damage", [b"", b"PAR1 nothing", "flipped"])
def test_a_damaged_part_is_set_aside_and_told_of(tmp_path, caplog, damage):
    store = FeatureStore(tmp_path / "features.sqlite")
    write_part(tmp_path / "parts", {("pixels", "1"): {"c": b"three"}})
    bad = tmp_path / "parts" / write_part(tmp_path / "parts", ROWS)
    data = bytearray(bad.read_bytes())
    if damage == "flipped":
        data[data.index(b"two")] ^= 1
        damage = bytes(data)
    bad.write_bytes(damage)
    with collected_damage() as found:
        assert merge_parts(store, tmp_path / "parts") == 1
    assert [(one.what, one.where) for one in found] == [
        ("parts of measurements", str(tmp_path / "parts"))
    ]
    assert _held(store) == {("pixels", "1", "c"): b"three"}
    assert [path.name for path in (tmp_path / "parts").iterdir()] == [bad.stem + ".damaged"]
    assert "measured again" in caplog.text


def test_a_store_that_cannot_be_written_keeps_the_parts(tmp_path):
    write_part(tmp_path / "parts", ROWS)

    class Full(FeatureStore):
        def put(self, items, analyser, fingerprint):
            raise WriteError(self.path, OSError(28, "No space left on device"))

    with pytest.raises(WriteError):
        merge_parts(Full(tmp_path / "features.sqlite"), tmp_path / "parts")
    assert merge_parts(FeatureStore(tmp_path / "features.sqlite"), tmp_path / "parts") == 3


def test_no_folder_is_no_parts(tmp_path):
    assert merge_parts(FeatureStore(), tmp_path / "absent") == 0
