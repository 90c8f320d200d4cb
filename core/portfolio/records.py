"""``portfolio.json`` and ``README.md``: what a portfolio holds, which versions, what it took."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import atomic
from ..analysis.confusion import Confusion
from ..counts import how_many, worded
from ..errors import CuratorError
from ..json_text import parse
from ..plain_files import plain_text
from ..project import Project
from ..project_sections import PortfolioSection, SubjectSection
from ..toml_lines import recipe_toml
from .parts import recipe_of
from .statistics import Figures, overall

RECORD_FILE, CARD_FILE, RECIPE_FILE = "portfolio.json", "README.md", "recipe.toml"
FORMAT = 1
"""Version of ``portfolio.json``; a reader refuses a higher one."""


class PortfolioRecordError(CuratorError):
    """The ``portfolio.json`` of a folder cannot be used."""

    def __init__(self, path: Path, reason: object) -> None:
        super().__init__(
            f"{path} cannot be used: {reason}. Move it away; the portfolio then begins with "
            "version 1, and its datasets stay as they are."
        )


@dataclass(frozen=True)
class Entry:
    """One dataset of a portfolio.

    Attributes:
        subject: Whom it is of; None of the combined one.
        trigger: The word that calls the subject; several are joined by commas.
        folder: Its name in the portfolio's folder.
        version: Its own version.
        fingerprint: Of the hashes of its files.
        wanted: How many images were asked for.
        kept: Whether it was there as it is.
        against: Whom its images were compared with when it was made.
        figures: What it took and what came of it.
    """

    subject: SubjectSection | None
    trigger: str
    folder: str
    version: int
    fingerprint: str
    wanted: int
    kept: bool
    against: tuple[str, ...]
    figures: Figures

    @property
    def name(self) -> str:
        """The subject's name; the folder's of the combined dataset."""
        return self.folder if self.subject is None else self.subject.name


@dataclass(frozen=True)
class Portfolio:
    """A portfolio on disk.

    Attributes:
        folder: The folder.
        version: 1 for the first; one more whenever one of its datasets has changed.
        entries: The subjects' datasets, in the project's order.
        combined: The dataset of all.
        candidates: All images with a valid face against every subject's identity.
        chosen: The same for those in the datasets.
        figures: All subjects together.
    """

    folder: Path
    version: int
    entries: tuple[Entry, ...]
    combined: Entry
    candidates: Confusion
    chosen: Confusion
    figures: Figures

    @property
    def is_complete(self) -> bool:
        """Whether every subject has as many images as were asked for, and none is confused."""
        whole = all(entry.figures.images == entry.wanted for entry in self.entries)
        return whole and not self.chosen.confused

    def sentences(self) -> list[str]:
        """Say what is not as it was asked for, and what to do."""
        said = [
            f"'{entry.name}' has {entry.figures.images:,} of {how_many(entry.wanted, 'image')}: "
            f"make more takes or seeds, or ask for fewer. {entry.folder}/report.html says what the "
            "others lack."
            for entry in self.entries
            if entry.figures.images != entry.wanted
        ]
        for row, entry in enumerate(self.entries):
            others = [
                (name, int(count))
                for name, count in zip(self.chosen.subjects, self.chosen.nearer[row], strict=True)
                if count
            ]
            for name, count in others:
                said.append(
                    f"{how_many(count, 'image')} in the dataset of '{entry.name}' "
                    f"{worded(count, 'is', 'are')} nearer to '{name}', "
                    f"which was not known when it was made. Give '{name}' another description, or "
                    f"make it anew beside all others: --again {entry.name}."
                )
        return said

    def as_mapping(self) -> dict[str, Any]:
        """Return the portfolio as ``portfolio.json`` says it.

        Raises:
            PortfolioRecordError: The file cannot be read.
        """
        path = self.folder / RECORD_FILE
        try:
            return dict(parse(plain_text(path)))
        except (OSError, ValueError, TypeError) as error:
            raise PortfolioRecordError(path, error) from error


def write_portfolio(
    folder: Path,
    project: Project,
    entries: tuple[Entry, ...],
    combined: Entry,
    candidates: Confusion,
    chosen: Confusion,
) -> Portfolio:
    """Write what a portfolio holds; a new version where one of its datasets has changed.

    Raises:
        PortfolioRecordError: What is there from before cannot be read.
    """
    section = project.portfolio or PortfolioSection()
    versions = known_versions(folder / RECORD_FILE)
    now = {
        entry.name: {"version": entry.version, "fingerprint": entry.fingerprint}
        for entry in (*entries, combined)
    }
    if not versions or versions[-1]["datasets"] != now:
        versions.append({"version": len(versions) + 1, "datasets": now})
    figures = overall([entry.figures for entry in entries])
    made = Portfolio(
        folder, len(versions), entries, combined, candidates, chosen, figures
    )  # fmt: skip
    record = {
        "format": FORMAT,
        "name": project.project.name,
        "version": made.version,
        "margin": section.margin,
        "price_per_hour": section.price_per_hour,
        "currency": section.currency,
        "subjects": {e.name: _told(e, section.price_per_hour) for e in entries},
        "combined": _told(combined, None, figures=False),
        "statistics": figures.as_mapping(section.price_per_hour),
        "confusion": {"candidates": candidates.as_mapping(), "chosen": chosen.as_mapping()},
        "versions": versions,
    }
    text = json.dumps(record, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    atomic.write_text(folder / RECIPE_FILE, recipe_toml(recipe_of(project)))
    atomic.write_text(folder / CARD_FILE, _card(made, project, section))
    atomic.write_text(folder / RECORD_FILE, text)
    return made


def _told(entry: Entry, price: float | None, *, figures: bool = True) -> dict[str, Any]:
    told: dict[str, Any] = {
        "folder": entry.folder,
        "trigger": entry.trigger,
        "version": entry.version,
        "fingerprint": entry.fingerprint,
        "wanted": entry.wanted,
        "images": entry.figures.images,
    }
    if entry.subject is not None:
        told["class_word"] = entry.subject.class_word
        told["compared_with"] = list(entry.against)
    return told | ({"statistics": entry.figures.as_mapping(price)} if figures else {})


def known_versions(path: Path) -> list[dict[str, Any]]:
    """Return the versions that a ``portfolio.json`` lists; none without the file.

    Raises:
        PortfolioRecordError: It cannot be read, or is of a newer format.
    """
    try:
        known = parse(plain_text(path), strict=True)
        if known["format"] > FORMAT:
            reason = f"its format {known['format']} is newer than this version's, {FORMAT}"
            raise PortfolioRecordError(path, reason)
        listed = [{"version": v["version"], "datasets": dict(v["datasets"])}
                  for v in known["versions"]]  # fmt: skip
        if not all(type(one["version"]) is int for one in listed):
            raise ValueError("the number of a version is none")
        return listed
    except FileNotFoundError:
        return []
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise PortfolioRecordError(path, error) from error


def _card(made: Portfolio, project: Project, section: PortfolioSection) -> str:
    """Write the portfolio's card: for people, and with a configuration a dataset for the Hub."""
    import yaml

    configs = [
        {
            "config_name": entry.folder,
            "data_files": [{"split": "train", "path": _patterns(made.folder / entry.folder)}],
            **({"default": True} if entry is made.combined else {}),
        }
        for entry in (made.combined, *made.entries)
    ]
    head = {
        "license": project.dataset.license,
        "pretty_name": project.project.name,
        "task_categories": ["text-to-image"],
        "tags": ["character", "lora", "curated"],
        "configs": configs,
    }
    total = made.figures.images
    parts = [
        f"---\n{yaml.safe_dump(head, sort_keys=False, allow_unicode=True)}---\n",
        f"# {project.project.name}\n",
        f"{how_many(len(made.entries), 'subject')}, {how_many(total, 'image')}, version "
        f"{made.version} of the portfolio.\n",
        "## Datasets\n",
        _datasets(made),
        "## Statistics\n",
        _statistics(made, section),
        "## Cross-subject table\n",
        "Mean cosine similarity of each subject's images to the identity of each subject (its "
        "reference images, else the centre of its own faces). *Least margin* is by how much the "
        "worst image is nearer to its own subject than to any other.\n",
        "In the datasets:\n",
        made.chosen.markdown(),
        "Of all candidates with one valid face, before any of them was turned away for whom it "
        "shows:\n",
        made.candidates.markdown(),
        _READING,
    ]
    return "\n".join(parts)


def _patterns(dataset: Path) -> list[str]:
    name = dataset.name
    nested = any(path.is_dir() for path in dataset.iterdir())
    images = "*/*" if nested else "*"
    found = {path.suffix for path in dataset.rglob("*") if path.suffix in (".png", ".jpg", ".webp")}
    return [*(f"{name}/{images}{end}" for end in sorted(found)), f"{name}/metadata.jsonl"]


def _datasets(made: Portfolio) -> str:
    lines = [
        "| Dataset | Trigger word | Images | Asked for | Version |",
        "|---|---|---:|---:|---:|",
    ]
    lines += [
        f"| [{entry.name}]({entry.folder}/README.md) | `{entry.trigger}` | "
        f"{entry.figures.images} | {entry.wanted} | {entry.version} |"
        for entry in (*made.entries, made.combined)
    ]
    return "\n".join(lines) + "\n"


def _statistics(made: Portfolio, section: PortfolioSection) -> str:
    priced = section.price_per_hour is not None
    head = ["Subject", "Candidates", "Images", "Quality", "Identity", "Generation", "Curation"]
    head += [f"Cost ({section.currency})"] if priced else []
    lines = ["| " + " | ".join(head) + " | Manual effort |"]
    lines.append("|---|" + "---:|" * (len(head) - 1) + "---|")
    rows: Sequence[tuple[str, Figures]] = [
        *((entry.name, entry.figures) for entry in made.entries),
        ("**all**", made.figures),
    ]
    for name, one in rows:
        cells = [name, str(one.candidates), str(one.images), _range(one.quality)]
        cells += [_range(one.identity), readable_time(one.generation_seconds)]
        cells += [readable_time(one.curation_seconds)]
        if section.price_per_hour is not None:
            cells.append(f"{one.hours * section.price_per_hour:.2f}")
        lines.append("| " + " | ".join(cells) + " | none |")
    notes = [
        "\nQuality and identity are the mean of the chosen images, and the least in brackets. "
        "Times are those of the machine that made the images and datasets as they are now."
    ]
    if made.figures.untimed:
        notes.append(
            f"Of {how_many(made.figures.untimed, 'image')} the time is not known: "
            f"{worded(made.figures.untimed, 'it was', 'they were')} there before, or "
            f"{worded(made.figures.untimed, 'was', 'were')} made elsewhere."
        )
    if reasons := _reasons(made.figures.rejected):
        notes.append(f"Left out: {reasons}.")
    return "\n".join(lines) + "\n" + " ".join(notes) + "\n"


def _reasons(rejected: Mapping[str, int]) -> str:
    from ..rejection_reasons import in_words

    return ", ".join(f"{in_words(reason)} {count}" for reason, count in rejected.items())


def _range(values: tuple[float, float] | None) -> str:
    return "–" if values is None else f"{values[1]:.2f} ({values[0]:.2f})"


def readable_time(seconds: float) -> str:
    """Write a time as people do: ``2 h 5 min``, ``3 min 10 s``, ``8 s``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


_READING = """\
## Reading it

```python
from datasets import load_dataset
everyone = load_dataset(".", split="train")           # the combined dataset
one = load_dataset(".", "SUBJECT", split="train")     # that of one subject: its folder's name
```

For kohya sd-scripts start the trainer in the folder of a dataset, with its `dataset.toml`. The
combined one has a folder of each subject's images, with its trigger word.

| File | What it is |
|---|---|
| `portfolio.json` | all of this for machines, and which dataset each version of the portfolio had |
| `recipe.toml` | the project that makes the portfolio again |
| `SUBJECT/` | a dataset of one subject, whole in itself |
| `combined/` | the dataset of all |
"""
