"""Titles and labels on a contact sheet are one line, whatever they are made of."""

import numpy as np
import pytest
from PIL import Image

from character_curator.report.contact_sheet import contact_sheet


@pytest.mark.parametrize("text", ["a\nb\r\nc", "one\u2028two", "x" * 1_000_000, " \t\n"])
def test_a_title_of_several_lines_or_without_end(tmp_path, text):
    path = tmp_path / "a.png"
    Image.new("RGB", (8, 8), "red").save(path)
    sheet = contact_sheet([(text, [(path, text)])], title=text, columns=3)
    assert np.asarray(sheet).shape[1] > 100
