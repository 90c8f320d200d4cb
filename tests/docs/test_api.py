"""docs/api.md is what the docstrings say."""

from __future__ import annotations

import re

import character_curator
from docs import make_api


def test_the_page_is_as_its_maker_makes_it():
    assert make_api.PAGE.read_text(encoding="utf-8") == make_api.page(), "python docs/make_api.py"


def test_the_page_has_every_public_name():
    headings = re.findall(r"^## (\w+)$", make_api.page(), re.M)
    public = {name for name in character_curator.__all__ if not name.startswith("__")}
    assert set(headings) == public
    assert headings == sorted(public, key=str.lower)


def test_a_section_of_the_page_says_what_the_docstring_says():
    page = make_api.page()
    section = page[page.index("## select\n") : page.index("## Subject\n")]
    for part in (
        "    total: int,\n", ") -> Selection\n", "**Args**\n", "- `total`: How many to select.\n",
        "- `NoCandidatesError`: No accepted image.\n", ">>> best.optimal, best.met\n",
    ):  # fmt: skip
        assert part in section
    assert "``" not in re.sub(r"```\w*", "", page), "reST literals are left"
    assert not re.search(r":\w+:`", page), "reST roles are left"
