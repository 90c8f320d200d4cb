"""Counts in sentences agree with their nouns, everywhere."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import character_curator
from character_curator.counts import how_many, plural, singular, worded

CORE = Path(character_curator.__file__).parent
NODES = CORE.parent / "nodes"
NOUNS = (
    "images", "files", "candidates", "faces", "captions", "records", "steps", "epochs", "waves",
    "versions", "datasets", "folders", "subjects", "projects", "pages", "rows", "people", "pairs",
    "copies", "seeds", "others", "entries", "shards", "workers", "values", "letters", "tokens",
    "tags", "photographs", "blocks", "layers", "tensors", "masks", "objects", "quotas",
    "columns", "samples", "requests", "prompts", "clusters", "faults", "hints", "lines", "options",
    "repeats", "groups", "processes", "validations", "places", "scores", "references", "assets",
)  # fmt: skip
COUNTED = re.compile(
    r" (?:(?!of |the |by |in |as |to |and |at |that )[a-z-]*[a-rt-z] ){0,2}"
    rf"(?:{'|'.join(NOUNS)})\b"
)
LOGGED = re.compile(rf"%[ds,]+{COUNTED.pattern}")
FIXED = re.compile(r"_?[A-Z_]+")


def bare(text):
    """Yield the line of each text that puts a noun in the plural after whatever number."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.JoinedStr):
            for value, after in zip(node.values, node.values[1:], strict=False):
                if isinstance(value, ast.FormattedValue) and isinstance(after, ast.Constant):
                    spec = ast.unparse(value.format_spec)[2:-1] if value.format_spec else ""
                    number = not spec.endswith(("%", "f", "g"))
                    fixed = FIXED.fullmatch(ast.unparse(value.value))
                    fixed = fixed or ast.unparse(value.value).startswith(("worded(", "how_many("))
                    if number and not fixed and COUNTED.match(after.value):
                        yield node.lineno
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            if LOGGED.search(node.value) or re.search(r"[a-z]\(s\)", node.value):
                yield node.lineno
        elif isinstance(node, ast.BinOp | ast.IfExp) and re.search(
            r"'s' \* \(|'' if \w+ == 1 else 's'|'s' if", ast.unparse(node)
        ):
            yield node.lineno


def test_nouns_agree_with_their_counts():
    found = [
        f"{path.relative_to(CORE.parent)}:{line}"
        for path in sorted([*CORE.rglob("*.py"), *NODES.rglob("*.py")])
        for line in bare(path.read_text(encoding="utf-8"))
    ]
    assert found == []


@pytest.mark.parametrize(
    "text",
    [
        'f"{n} images"', 'f"{n:,} accepted images are"', 'f"{n} image(s)"',
        'log.info("%d of the %d files", a, b)', "f\"{n} image{'s' * (n != 1)}\"",
    ],
)  # fmt: skip
def test_a_bare_count_is_found(text):
    assert list(bare(text))


@pytest.mark.parametrize("text", ['f"{n:.0%} of the images"', 'f"{LIMIT} images"', '"two images"'])
def test_what_is_no_count_is_let_be(text):
    assert not list(bare(text))


@pytest.mark.parametrize(
    ("count", "told"), [(0, "0 copies"), (1, "1 copy"), (2, "2 copies"), (1500, "1,500 copies")]
)
def test_one_is_singular(count, told):
    assert how_many(count, "copy") == told


@pytest.mark.parametrize(
    ("one", "many"),
    [
        ("image", "images"), ("image set", "image sets"), ("person", "people"),
        ("other person", "other people"), ("entry", "entries"), ("key", "keys"),
        ("batch", "batches"), ("loss", "losses"), ("y", "ys"),
    ],
)  # fmt: skip
def test_plurals(one, many):
    assert plural(one) == many
    assert singular(many) == one or one.endswith("person")


def test_verbs_agree():
    assert how_many(1, "file was", "files were") == "1 file was"
    assert how_many(3, "file was", "files were") == "3 files were"
    assert worded(1, "lies", "lie") == "lies"
    assert worded(0, "lies", "lie") == "lie"
