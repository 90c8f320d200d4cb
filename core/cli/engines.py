"""Options of commands that say where the work is done."""

from __future__ import annotations

import argparse
from typing import Any

from .. import project as project_file
from ..engine_section import EngineSection
from ..options import option
from ..project import Project

_OPTIONS = {
    "--engine": "name", "--workers": "workers", "--engine-address": "address",
    "--engine-cpus": "cpus", "--engine-gpus": "gpus", "--engine-parts": "parts",
}  # fmt: skip
"""Options of the command line, and the fields of the project's section [engine] that they set."""


def add_engine_options(sub: argparse.ArgumentParser) -> None:
    """Add the options to a command; None where not given."""
    for flag, name in _OPTIONS.items():
        field = option(EngineSection, name)
        given: dict[str, Any] = {"default": None, "help": field.text.replace("%", "%%")}
        if field.kind == "flag":
            given["action"] = argparse.BooleanOptionalAction
        elif field.kind == "choice":
            given["choices"] = field.choices
        elif field.kind == "number":
            given |= {"type": float, "metavar": "N"}
        elif field.kind == "whole":
            given |= {"type": int, "metavar": "N"}
        else:
            given["metavar"] = "TEXT"
        sub.add_argument(flag, **given)


def engine_given(options: argparse.Namespace) -> dict[str, Any]:
    """Return what the options say, as keys of the section [engine]."""
    return {
        name: value
        for flag, name in _OPTIONS.items()
        if (value := getattr(options, flag[2:].replace("-", "_"))) is not None
    }


def with_engine(project: Project, options: argparse.Namespace) -> Project:
    """Return a project whose work is done where the options say, and else where it says itself.

    Raises:
        ProjectFileError: The options do not go together.
    """
    given = engine_given(options)
    if not given:
        return project
    section = project.engine.model_dump(exclude_unset=True) | given
    checked = project_file.from_mapping({"source": ".", "engine": section}, "the command line")
    return project.model_copy(update={"engine": checked.engine})
