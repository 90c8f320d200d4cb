"""Values of widgets are looked at before a node runs: what a file or a wire may say of them."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from tests.support.comfyui.pack import part


@pytest.fixture(scope="module")
def values():
    return part("ui.widget_values")


def widget(kind, **known):
    named = {"id": "it", "min": None, "max": None, "multiline": False, "options": ["a", "b"]}
    return SimpleNamespace(**{**named, **known}, get_io_type=lambda: kind)


@pytest.mark.parametrize(
    ("kind", "value", "known", "found"),
    [
        ("INT", 7, {}, 7),
        ("INT", 7.0, {}, 7),
        ("INT", 2**63 - 1, {}, 2**63 - 1),
        ("FLOAT", 1, {"min": 0.0, "max": 1.0}, 1),
        ("FLOAT", 1e308, {}, 1e308),
        ("STRING", "a\nb", {}, "a\nb"),
        ("STRING", 0.5, {}, "0.5"),
        ("STRING", "x" * 100_000, {}, "x" * 100_000),
        ("STRING", "x" * 1_000_000, {"multiline": True}, "x" * 1_000_000),
        ("BOOLEAN", 1, {}, True),
        ("BOOLEAN", np.bool_(True), {}, True),
        ("INT", np.int64(7), {"max": 9}, 7),
        ("FLOAT", np.float32(0.5), {}, 0.5),
        ("FLOAT", torch.tensor(0.5), {}, 0.5),
        ("COMBO", "b", {}, "b"),
        ("MODEL", None, {}, None),
    ],
)
def test_what_a_widget_may_hold(values, kind, value, known, found):
    got = values.widget_value(widget(kind, **known), value)
    assert got == found
    assert type(got) is type(found)


@pytest.mark.parametrize(
    ("kind", "value", "known", "says"),
    [
        ("INT", math.nan, {}, "a whole number from .* and nan came"),
        ("INT", math.inf, {"min": 0, "max": 5}, "from 0 to 5, and inf came"),
        ("INT", 0.5, {}, "a whole number"),
        ("INT", 2**63, {}, "a number beyond 64 bits came"),
        ("INT", -(2**63) - 1, {}, "a number beyond 64 bits came"),
        ("INT", 6, {"min": 0, "max": 5}, "and 6 came"),
        ("INT", "7", {}, "and '7' came"),
        ("INT", None, {}, "and nothing came"),
        ("FLOAT", math.nan, {}, "a number, and nan"),
        ("FLOAT", math.nan, {"min": 0.0, "max": 1.0}, "from 0.0 to 1.0, and nan"),
        ("FLOAT", -math.inf, {"max": 1.0}, "a number, and -inf"),
        ("FLOAT", 10**400, {}, "a number beyond 64 bits came"),
        ("FLOAT", np.float64("nan"), {}, "a number, and nan"),
        ("FLOAT", torch.zeros(2), {}, r"something else \(Tensor\)"),
        ("FLOAT", [1.0], {}, r"something else \(list\)"),
        ("STRING", None, {}, "a text, and nothing"),
        ("STRING", math.nan, {}, "a text, and nan"),
        ("STRING", 10**4000, {}, "a text, and a number beyond"),
        ("BOOLEAN", "false", {}, "true or false, and 'false'"),
        ("BOOLEAN", 2, {}, "true or false"),
        ("COMBO", "c", {}, r"one of its choices \(a, b\), and 'c'"),
        ("COMBO", ["a"], {}, "something else"),
        ("COMBO", "\ud800", {}, r"'\\ud800'"),
    ],
)
def test_what_a_widget_may_not_hold(values, kind, value, known, says):
    with pytest.raises(values.WidgetError, match=f"^'it' needs .*{says}.*Set the widget anew"):
        values.widget_value(widget(kind, **known), value)


@pytest.mark.parametrize(("lines", "most"), [(False, "100,000"), (True, "1,000,000")])
def test_a_text_beyond_measure(values, lines, most):
    with pytest.raises(values.LongTextError, match=f"10,000,000 letters, and takes {most} at"):
        values.widget_value(widget("STRING", multiline=lines), "x" * 10_000_000)
