import sqlite3
import subprocess
import sys
from contextlib import closing

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from character_curator.features import (
    FeatureStore,
    FeatureStoreError,
    decode_array,
    decode_arrays,
    encode_array,
    encode_arrays,
)
from tests.support.full_disk import disk_that_fills


@given(
    st.dictionaries(
        st.tuples(st.sampled_from("ab"), st.sampled_from("xy"), st.text(max_size=3)),
        st.binary(max_size=20),
        max_size=30,
    )
)
def test_a_store_is_a_dictionary(items):
    with FeatureStore() as store:
        for (analyser, fingerprint, key), value in items.items():
            store.put({key: value}, analyser, fingerprint)
        for analyser in "ab":
            for fingerprint in "xy":
                expected = {
                    k: v for (a, f, k), v in items.items() if (a, f) == (analyser, fingerprint)
                }
                assert store.get([*expected, "absent"], analyser, fingerprint) == expected


def test_it_counts_what_was_computed_and_keeps_it(tmp_path):
    path = tmp_path / "new" / "features.sqlite"
    many = {f"{i:064x}": bytes([i % 256]) for i in range(1200)}
    with FeatureStore(path) as store:
        store.put(many, "faces", "f1")
        assert store.computed == {"faces": 1200}
    with FeatureStore(path) as store:
        assert store.get(many, "faces", "f1") == many
        assert store.get(many, "faces", "f2") == {}
        assert not store.computed


def test_two_processes_write_at_once(tmp_path):
    path = tmp_path / "features.sqlite"
    code = (
        "import sys; from character_curator.features import FeatureStore\n"
        "s = FeatureStore(sys.argv[1])\n"
        "for i in range(100): s.put({sys.argv[2] + str(i): b'v'}, 'a', 'f')\n"
    )
    runs = [subprocess.Popen([sys.executable, "-c", code, str(path), name]) for name in "pq"]
    assert [run.wait(60) for run in runs] == [0, 0]
    with FeatureStore(path) as store:
        assert len(store.get([f"{n}{i}" for n in "pq" for i in range(100)], "a", "f")) == 200


def test_what_is_no_store_is_set_aside_and_said(tmp_path, caplog):
    path = tmp_path / "features.sqlite"
    path.write_bytes(b"this is no database, whatever the name" * 100)
    with FeatureStore(path) as store:
        store.put({"h": b"value"}, "a", "f")
        assert store.losses == 1
    assert (tmp_path / "features.sqlite.damaged-1").read_bytes().startswith(b"this")
    assert "features.sqlite.damaged-1" in caplog.text
    with FeatureStore(path) as store:
        assert store.get(["h"], "a", "f") == {"h": b"value"}


def test_a_kill_while_it_is_set_aside_leaves_no_log_to_the_next(tmp_path, monkeypatch):
    path = tmp_path / "features.sqlite"
    path.write_bytes(b"this is no database")
    path.with_name("features.sqlite-wal").write_bytes(b"nor is this its log")
    replace, done = type(path).replace, []

    def killed(source, target):
        if done:
            raise KeyboardInterrupt
        done.append(source.name)
        replace(source, target)

    monkeypatch.setattr(type(path), "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        FeatureStore(path)
    assert done == ["features.sqlite-wal"]
    assert path.exists()


def filled(path, count=200):
    """Make a store of values of several lengths; return them."""
    rng = np.random.default_rng(0)
    many = {f"{i:064x}": rng.bytes(20 + 37 * (i % 30)) for i in range(count)}
    with FeatureStore(path) as store:
        store.put(many, "faces", "f1")
        store.put({key: value[::-1] for key, value in many.items()}, "faces", "f2")
    return many


@pytest.mark.parametrize("times", [25, pytest.param(1000, marks=pytest.mark.slow)])
def test_damage_is_never_believed(tmp_path, times):
    path = tmp_path / "features.sqlite"
    many = filled(path)
    whole = path.read_bytes()
    assert not list(tmp_path.glob("*-wal")), "nothing waits beside the file"
    rng = np.random.default_rng(1)
    lost = set_aside = 0
    for _ in range(times):
        data = bytearray(whole)
        for place in rng.integers(0, len(data), rng.integers(1, 21)):
            data[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(data)
        with FeatureStore(path) as store:
            found = store.get(many, "faces", "f1")
            assert found == {key: many[key] for key in found}, "absent or right"
            lost += len(many) - len(found)
            set_aside += any(tmp_path.glob("*.damaged-*"))
            store.put(many, "faces", "f1")
        with FeatureStore(path) as store:
            assert store.get(many, "faces", "f1") == many
        for file in tmp_path.glob("*.damaged-*"):
            file.unlink()
    assert lost > times, "values were hit"
    assert set_aside > times // 25, "and so was what holds them together"


@pytest.mark.parametrize(
    "place", ["a keyword", "a name", "version that writes", "version that reads"]
)
def test_damage_of_what_describes_the_file_is_damage(tmp_path, caplog, place):
    path = tmp_path / "features.sqlite"
    many = filled(path)
    data = bytearray(path.read_bytes())
    places = {
        "a keyword": data.index(b"CREATE TABLE feature") + 8,
        "a name": data.index(b"fingerprint TEXT") + 3,
        "version that writes": 18,
        "version that reads": 19,
    }
    data[places[place]] = 0xE2  # SQLite repeats it in a message that is no text then
    path.write_bytes(data)
    with FeatureStore(path) as store:
        store.get(many, "faces", "f1")
        store.put(many, "faces", "f1")
        assert store.get(many, "faces", "f1") == many
    assert "begun anew" in caplog.text
    assert list(tmp_path.glob("*.damaged-1"))


def test_one_flipped_bit_is_counted_and_said_once(tmp_path, caplog):
    path = tmp_path / "features.sqlite"
    many = filled(path)
    key, value = next((k, v) for k, v in many.items() if len(v) > 500)
    data = bytearray(path.read_bytes())
    data[data.index(value[:100]) + 50] ^= 1
    path.write_bytes(data)
    with FeatureStore(path) as store:
        for _ in range(2):
            assert many.keys() - store.get(many, "faces", "f1").keys() == {key}
        assert store.damaged == {"faces": 1}
        assert caplog.text.count("1 damaged value (faces)") == 1
        store.put({key: value}, "faces", "f1")
        assert store.get(many, "faces", "f1") == many


def test_a_value_under_another_key_is_not_believed(tmp_path):
    path = tmp_path / "features.sqlite"
    many = filled(path, 4)
    first, second = list(many)[:2]
    with closing(sqlite3.connect(path)) as opened, opened:
        opened.execute("DELETE FROM feature WHERE hash = ?", (second,))
        opened.execute("UPDATE feature SET hash = ? WHERE hash = ?", (second, first))
    with FeatureStore(path) as store:
        assert store.get([first, second], "faces", "f1") == {}


def test_a_store_of_an_earlier_version_is_read(tmp_path):
    path = tmp_path / "features.sqlite"
    with closing(sqlite3.connect(path)) as opened, opened:
        opened.execute(
            "CREATE TABLE feature (analyser TEXT NOT NULL, fingerprint TEXT NOT NULL, "
            "hash TEXT NOT NULL, value BLOB NOT NULL, "
            "PRIMARY KEY (analyser, fingerprint, hash)) WITHOUT ROWID"
        )
        opened.execute("INSERT INTO feature VALUES ('a', 'f', 'h', X'0102')")
    for _ in range(2):
        with FeatureStore(path) as store:
            assert store.get(["h"], "a", "f") == {"h": b"\1\2"}
            assert not store.losses


def test_what_is_said_fits_the_cause(tmp_path, monkeypatch):
    path = tmp_path / "features.sqlite"
    filled(path, 4)
    monkeypatch.setattr("character_curator.features._PATIENCE", 0.1)
    with FeatureStore(path) as store, closing(sqlite3.connect(path)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(FeatureStoreError, match="Another program holds it"):
            store.put({"h": b"v"}, "a", "f")
    with pytest.raises(FeatureStoreError, match="Choose a folder"):
        FeatureStore(tmp_path)
    with FeatureStore(path) as store, disk_that_fills() as fill:
        fill()
        with pytest.raises(FeatureStoreError) as told:
            store.put({"h": bytes(100_000)}, "a", "f")
    assert "damaged" not in str(told.value)
    assert len(list(tmp_path.iterdir())) <= 3, "nothing was set aside"


def test_no_pickle_comes_back():
    with pytest.raises(ValueError, match=r"[Oo]bject"):
        encode_array(np.array([{}], dtype=object))


def test_arrays_round_trip():
    array = np.arange(6, dtype=np.float16).reshape(2, 3)
    assert np.array_equal(decode_array(encode_array(array)), array)
    packed = decode_arrays(encode_arrays(boxes=array, scores=np.zeros(0)))
    assert np.array_equal(packed["boxes"], array)
    assert packed["scores"].shape == (0,)


def test_what_is_stored_last_is_kept():
    with FeatureStore() as store:
        for value in (b"damaged", b"whole"):
            store.put({"h": value}, "a", "f")
        assert store.get(["h"], "a", "f") == {"h": b"whole"}


def test_somebodys_file_is_not_taken_for_a_damaged_store(tmp_path):
    path = tmp_path / "photo.png"
    path.write_bytes(b"\x89PNG precious")
    with pytest.raises(FeatureStoreError, match="another kind, and stays as it is"):
        FeatureStore(path)
    assert [(one.name, one.read_bytes()) for one in tmp_path.iterdir()] == [
        ("photo.png", b"\x89PNG precious")
    ]
