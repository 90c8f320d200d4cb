"""Damaged and odd input for every reader: read, or refused by a named error; soon, and in bounds.

The long form takes ``CURATOR_FUZZ_EXAMPLES`` of each reader (2,000 unless set), at most for
``CURATOR_FUZZ_MINUTES`` altogether (20), from the seed ``CURATOR_FUZZ_SEED`` (0).
"""

from __future__ import annotations

import os
import time
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from character_curator.json_text import JsonError
from character_curator.json_text import parse as parse_json
from character_curator.project import ProjectFileError, parse
from character_curator.reading.recorded import of_graph, of_parameters
from character_curator.reading.texts import decoded
from character_curator.selection import Quota
from character_curator.selection.quotas import ContradictoryQuotaError, QuotaSyntaxError
from character_curator.toml_lines import TomlError, line_of, tables
from tests.support.fuzzing.every import targets
from tests.support.fuzzing.limits import TooLargeError, TooSlowError, bounded
from tests.support.fuzzing.targets import try_target

pytestmark = pytest.mark.skipif(os.name == "nt", reason="limits are held with signals")
EXAMPLES = int(os.environ.get("CURATOR_FUZZ_EXAMPLES", 2000))
MINUTES = float(os.environ.get("CURATOR_FUZZ_MINUTES", 20))
SEED = int(os.environ.get("CURATOR_FUZZ_SEED", 0))
EVERY = targets()
QUICK = 0.08
"""Seconds that each reader gets in the short form."""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """The folder in which readers keep what they prepare."""
    return tmp_path_factory.mktemp("fuzz")


@pytest.mark.parametrize("target", [one for one in EVERY if not one.dear], ids=str)
def test_it_is_read_or_refused(target, place):
    found = try_target(target, place, 25, seconds=QUICK)
    assert not found.faults, found.faults[0][:2]
    assert found.outcomes.total() >= 1


@pytest.mark.slow
@pytest.mark.parametrize("target", EVERY, ids=str)
def test_it_is_read_or_refused_many_times(target, place):
    seconds = MINUTES * 60 / len(EVERY)
    found = try_target(target, place, EXAMPLES, seconds=seconds, seed=SEED, first=25)
    assert not found.faults, found.faults[0][:2]


ODD = st.text(alphabet=st.characters(codec="utf-8") | st.sampled_from("=:.,%0123456789 "))
NESTED = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner,
                                                                max_size=3),
    max_leaves=8,
)  # fmt: skip


@settings(max_examples=60)
@given(st.one_of(ODD, st.text("ab=:.,%0129 ", max_size=12)))
def test_any_text_is_a_quota_or_none(text):
    try:
        quota = Quota.parse(text)
    except (QuotaSyntaxError, ContradictoryQuotaError):
        return
    assert str(quota)


@settings(max_examples=40)
@given(st.one_of(ODD, st.binary(max_size=60), st.integers(1, 6000).map(lambda n: "[" * n)))
def test_any_text_is_json_or_none(text):
    with suppress(JsonError):
        parse_json(text, strict=True)


@settings(max_examples=40)
@given(ODD, st.integers(1, 3000))
def test_any_text_is_a_project_or_none(text, deep):
    for one in (text, f"a = {text}", f"[project]\nname = {'[' * deep}", f"x = {'9' * deep}"):
        line_of(one, ["project", "name"])
        with suppress(TomlError):
            tables(one)
        with pytest.raises(ProjectFileError):
            parse(one)


@settings(max_examples=40)
@given(ODD, NESTED, st.integers(0, 9))
def test_what_other_programs_wrote_is_understood_or_not(text, graph, digits):
    import json

    seed = "9" * 10**digits if digits < 5 else "9" * digits
    found = of_parameters(f"{text}\nSteps: 20, Seed: {seed}, Size: 8x8")
    assert found.seed is None or 0 <= found.seed < 2**63
    of_graph(json.dumps({"1": {"class_type": "KSampler", "inputs": graph}, "2": graph}))


@settings(max_examples=60)
@given(st.binary(max_size=40))
def test_any_bytes_are_a_caption_or_none(data):
    found = decoded(data)
    assert found is None or "\x00" not in found[0]


def test_a_psd_is_read(tmp_path):
    """Pillow writes none, so that it is only here."""
    (target,) = (one for one in EVERY if one.name == "image PSD")
    assert target.read(tmp_path, next(iter(target.seeds(tmp_path)))) is None


def test_the_limits_hold():
    with pytest.raises(TooSlowError), bounded(seconds=0.05):
        time.sleep(5)
    with pytest.raises((TooLargeError, MemoryError)), bounded(megabytes=20):
        assert bytearray(b"x") * (1 << 26)
