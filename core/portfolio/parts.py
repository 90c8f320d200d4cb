"""A portfolio's project, taken apart: the project of one subject, and that of all together."""

from __future__ import annotations

import re
from typing import Any

from ..project import Project
from ..project_sections import SubjectSection

COMBINED = "combined"
"""The name of the dataset of all subjects."""

_PLAIN = re.compile(r"[\w.-]+")


def part_of(project: Project, subject: SubjectSection) -> Project:
    """Return the project that makes the dataset of one subject, and knows of no other.

    What the subject says itself goes over what is said for all: its total, quotas, references and
    source. Nothing in it depends on the other subjects, so that a recipe of it stays the same when
    one is added or changed.

    Args:
        project: Of a portfolio.
        subject: One of its subjects.
    """
    own = subject.model_copy(
        update={"total": None, "quotas": None, "references": None, "source": None}
    )
    selection = project.selection.model_copy(
        update={"total": total_of(project, subject), "quotas": _quotas_of(project, subject)}
    )
    generated = subject.source is None
    return project.model_copy(
        update={
            "project": project.project.model_copy(
                update={"name": f"{project.project.name}-{subject.name}"}
            ),
            "source": subject.source,
            "plan": project.plan if generated else None,
            "originals": project.originals if generated else (),
            "scenarios": project.scenarios if generated else (),
            "subjects": (own,),
            "faces": project.faces.model_copy(update={"references": subject.references or ()}),
            "selection": selection,
            "portfolio": None,
        }
    )


def total_of(project: Project, subject: SubjectSection) -> int:
    """Return how many images of a subject are wanted."""
    return project.selection.total if subject.total is None else subject.total


def trigger_of(subject: SubjectSection) -> str:
    """Return the word that calls a subject."""
    return subject.trigger or subject.name


def recipe_of(project: Project, *, combined: bool = False) -> dict[str, Any]:
    """Return the project of a whole portfolio, with every subject's total spelled out.

    The selection then is that of the combined dataset: so many in all, and so many of each.

    Args:
        project: Of a portfolio.
        combined: Whether it is for that dataset, which no decision about single images was made
            for: those are in the recipes of the subjects' datasets, with their file.
    """
    subjects = tuple(
        subject.model_copy(
            update={"total": total_of(project, subject), "quotas": _quotas_of(project, subject)}
        )
        for subject in project.subjects
    )
    quotas: tuple[str, ...] = ()
    if all(_PLAIN.fullmatch(subject.name) for subject in subjects):
        parts = ",".join(f"{subject.name}:{subject.total}" for subject in subjects)
        quotas = (f"subject={parts}",)
    selection = project.selection.model_copy(
        update={
            "total": sum(subject.total or 0 for subject in subjects),
            "quotas": quotas,
            "decisions": None if combined else project.selection.decisions,
        }
    )
    whole = project.model_copy(update={"subjects": subjects, "selection": selection})
    return whole.model_dump(mode="json", exclude_none=True)


def _quotas_of(project: Project, subject: SubjectSection) -> tuple[str, ...]:
    return project.selection.quotas if subject.quotas is None else subject.quotas
