"""What a dataset says of itself that a LoRA's header passes on: trigger word, origin, identity."""

from __future__ import annotations

import hashlib
import json
import re
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..training.data.examples import Example

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


# Key in the header: key in metadata.json.
_CHAIN = {
    "subject": "subject",
    "seed": "seed",
    "kind": "type",
    "scenario": "scenario",
    "take": "take",
    "noise_seed": "noise_seed",
    "request": "request",
    "quality": "quality_score",
}


@dataclass(frozen=True)
class DatasetFacts:
    """What is known of a training set besides its images. Empty is what is not known.

    Attributes:
        name: The folder's name.
        trigger: The word that calls the subject.
        license: Identifier of the licence.
        fingerprint: See :func:`fingerprint`.
        generation: A row an image, in the order of the examples: its file's name and content
            hash, and where it was generated, subject, seed, scenario, take, noise seed, the
            request's fingerprint, and the fingerprint of the model that made it.
        captions: How often each caption occurs.
    """

    name: str = ""
    trigger: str = ""
    license: str = ""
    fingerprint: str = ""
    generation: tuple[Mapping[str, Any], ...] = ()
    captions: Mapping[str, int] | None = None


def read_facts(
    folder: Path | str, examples: Sequence[Example], *, trigger: str | None = None
) -> DatasetFacts:
    """Read what a folder of images says of itself.

    Args:
        folder: An exported dataset, or any folder of images, of which little is known.
        examples: What was read from it.
        trigger: The trigger word, if it is known better than the dataset knows it.
    """
    root = Path(folder).expanduser()
    known = _metadata(root)
    generation = []
    for example in examples:
        values = known.get(example.path.name, {})
        row = {"file": example.path.name, "hash": example.hash}
        row |= {key: values[name] for key, name in _CHAIN.items() if values.get(name) is not None}
        settings = (values.get("generation") or {}).get("settings") or {}
        if model := settings.get("model_fingerprint"):
            row["model"] = model
        generation.append(row)
    return DatasetFacts(
        name=root.resolve().name,
        trigger=_trigger(root) if trigger is None else trigger,
        license=_license(root),
        fingerprint=fingerprint(examples),
        generation=tuple(generation),
        captions=dict(Counter(example.caption for example in examples)),
    )


def fingerprint(examples: Sequence[Example]) -> str:
    """Return the identity of a training set: SHA-256 of its sorted content hashes and captions."""
    lines = sorted(f"{example.hash} {example.caption}" for example in examples)
    return hashlib.sha256("\n".join(lines).encode("utf-8", "surrogatepass")).hexdigest()


def without_trigger(examples: Sequence[Example], trigger: str) -> int:
    """Count the captions that a trigger word (or one of several, after commas) is not in."""
    words = [word.strip() for word in trigger.split(",") if word.strip()]
    if not words:
        return 0
    pattern = re.compile("|".join(rf"(?<!\w){re.escape(word)}(?!\w)" for word in words))
    return sum(not pattern.search(example.caption) for example in examples if not example.prior)


def _metadata(root: Path) -> dict[str, dict[str, Any]]:
    try:
        values = json.loads((root / "metadata.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    if not isinstance(values, dict):
        return {}
    return {name: value for name, value in values.items() if isinstance(value, dict)}


def _trigger(root: Path) -> str:
    try:
        table = tomllib.loads((root / "dataset.toml").read_text(encoding="utf-8"))
        return str(table["datasets"][0]["subsets"][0]["class_tokens"])
    except (OSError, ValueError, LookupError, TypeError):
        return ""


def _license(root: Path) -> str:
    try:
        card = (root / "README.md").read_text(encoding="utf-8")
    except (OSError, ValueError):
        return ""
    head = card.split("\n---", 1)[0] if card.startswith("---") else ""
    found = re.search(r"^license: *(\S+)$", head, re.M)
    return found.group(1) if found else ""
