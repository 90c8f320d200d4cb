"""docs/errors.md lists every error that a user can cause, as the code says it."""

from __future__ import annotations

import re

from character_curator.errors import CuratorError
from docs import make_errors


def test_the_page_is_as_its_maker_makes_it():
    page = make_errors.PAGE.read_text(encoding="utf-8")
    assert page == make_errors.page(), "python docs/make_errors.py"


def test_every_error_is_on_the_page():
    import character_curator.cli  # noqa: F401  which knows most parts

    known, waiting = set(), [CuratorError]
    while waiting:
        one = waiting.pop()
        known.add(one)
        waiting += one.__subclasses__()
    names = {one.__name__ for one in known if one.__module__.startswith("character_curator")}
    assert len(names) > 5
    assert names <= set(re.findall(r"^\| \[`(\w+)`\]", make_errors.page(), re.M))


def test_each_error_says_what_to_do():
    """An error's message ends with a sentence, and says more than what is wrong."""
    for error in make_errors.found():
        assert error.what, error.name
        assert error.what.endswith((".", "…")), error.name


def test_what_differs_is_in_braces():
    page = make_errors.page()
    assert "More than 20,000,000 pairs of images are at least {threshold} alike." in page
    assert "There is no LoRA file to read at {path}: {strerror}." in page
    assert "{_" not in page


def test_no_message_guesses_its_cause():
    table = make_errors.PAGE.read_text(encoding="utf-8")
    guesses = re.findall(r"[^.|]*\b(?:probably|perhaps|possibly|may be failing)\b[^.|]*", table)
    assert not guesses
