import subprocess
import sys

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


def test_a_foreign_file_is_a_clear_error(tmp_path):
    path = tmp_path / "features.sqlite"
    path.write_bytes(b"this is no database, whatever the name" * 100)
    with pytest.raises(FeatureStoreError, match="Move the file away"):
        FeatureStore(path)
    assert path.read_bytes().startswith(b"this"), "nothing is overwritten"


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
