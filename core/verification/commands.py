"""The commands that an advice tells to run next, whole, with the options of what was done."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..training.settings import TrainingSettings


@dataclass(frozen=True)
class Retold:
    """What was done, for commands that do it again with a change.

    Attributes:
        dataset: Folder of the dataset.
        lora: The LoRA file.
        base: The base model; empty leaves it to the command's default.
        settings: Options of the training.
        recipe: The dataset's recipe.
    """

    dataset: Path
    lora: Path
    base: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    recipe: Mapping[str, Any] = field(default_factory=dict)

    def train(self, mark: str, **changes: Any) -> str:
        """Return the command that trains again, into a file of its own.

        Args:
            mark: What the new file's name ends with.
            changes: Options that are to be others.
        """
        target = self.lora.with_name(f"{self.lora.stem}-{mark}.safetensors")
        words = ["character-curator", "train", str(self.dataset), "--output", str(target)]
        words += ["--base", self.base] if self.base else []
        for name, value in self._options(changes).items():
            words += _option(name, value)
        return shlex.join(words)

    def curate(self, **changes: Any) -> str:
        """Return what curates again, in words that name the command.

        Args:
            changes: Keys of the project as ``section__key``.
        """
        source = self.recipe.get("source")
        if isinstance(source, str):
            words = ["character-curator", "curate", source, "--output", str(self.dataset)]
            total = (self.recipe.get("selection") or {}).get("total")
            words += ["--total", str(total)] if total else []
            for name, value in changes.items():
                words += [_CURATE[name], f"{value:g}" if isinstance(value, float) else str(value)]
            return shlex.join(words)
        parts = [
            f"{key} = {value:g} under [{section}]"
            for section, key, value in ((*name.split("__"), v) for name, v in changes.items())
        ]
        return (
            f"set {' and '.join(parts)} in the project file, then: "
            "character-curator run PROJECT.toml"
        )

    def evaluate(self, *words: str) -> str:
        """Return the command that evaluates the file with further options."""
        known = ["character-curator", "evaluate", str(self.lora), "--dataset", str(self.dataset)]
        return shlex.join([*known, *(["--base", self.base] if self.base else []), *words])

    def _options(self, changes: Mapping[str, Any]) -> dict[str, Any]:
        plain = TrainingSettings().to_mapping()
        own = {k: v for k, v in self.settings.items() if k in plain and v != plain[k]}
        return own | dict(changes)


_CURATE = {
    "quality__minimum": "--min-quality",
    "faces__minimum_identity": "--min-identity",
    "selection__total": "--total",
    "clusters__count": "--clusters",
}


def _option(name: str, value: Any) -> Sequence[str]:
    flag = f"--{name.replace('_', '-')}"
    if value is None:
        return [flag, "none"]
    if isinstance(value, bool):
        return [flag if value else f"--no-{name.replace('_', '-')}"]
    if isinstance(value, list | tuple):
        texts = all(isinstance(part, str) for part in value)
        return [flag, ",".join(value)] if texts else [flag, *map(str, value)]
    return [flag, f"{value:g}" if isinstance(value, float) else str(value)]
