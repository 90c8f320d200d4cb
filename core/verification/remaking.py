"""Make a version of a dataset again from its recipe, in another place, and compare file by file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import pipeline, project
from ..dataset.checksums import exported_checksums
from ..dataset.facts import RECIPE_FILE
from ..dataset.version_list import Version
from ..dataset.version_record import read_record
from ..errors import CuratorError
from ..progress import Progress, silent
from ..project_parts import with_output
from ..toml_lines import read_tables


class RecipeError(CuratorError):
    """A recipe does not say enough to make its dataset again."""


@dataclass(frozen=True)
class Remade:
    """A version that was made again.

    Attributes:
        folder: Where the new one is.
        number: Of the version.
        same: How many files are the same, byte for byte.
        changed: Files that came out otherwise.
        missing: Files that did not come again.
        more: Files that the version does not have.
        tools: Tools and models that are not those of then, a line each.
    """

    folder: Path
    number: int
    same: int
    changed: tuple[str, ...]
    missing: tuple[str, ...]
    more: tuple[str, ...]
    tools: tuple[str, ...]

    @property
    def identical(self) -> bool:
        """Whether every file came again byte for byte, and no other."""
        return not (self.changed or self.missing or self.more)

    def as_mapping(self) -> dict[str, Any]:
        """Return it as JSON knows it."""
        return {
            "identical": self.identical,
            "folder": str(self.folder),
            "version": self.number,
            "same": self.same,
            "changed": list(self.changed),
            "missing": list(self.missing),
            "more": list(self.more),
            "differences": list(self.tools),
        }


def remake(
    version: Version,
    output: Path,
    *,
    base: Path | str = ".",
    source: Path | None = None,
    progress: Progress = silent,
) -> Remade:
    """Run a version's recipe in another place: generate or list, curate, select, export.

    What is measured and generated on the way is kept in ``OUTPUT.work``, so that a run that was
    killed goes on. Nothing is trained.

    Args:
        version: What is made again; only its recipe, and decisions beside it, are read.
        output: Folder of the new dataset.
        base: The folder that relative paths of the recipe start from.
        source: Where the collected images lie now, if not where the recipe says.
        progress: Watches.

    Raises:
        RecipeError: The recipe is not here, or is a graph's, which holds the plan alone.
        CuratorError: Whatever stands in the way of a run.
    """
    told = _project(version)
    place = output.expanduser().resolve()
    if place == version.place or place == version.folder:
        raise RecipeError(
            f"{output} is the dataset itself: name another folder, so that the two can be compared."
        )
    work = place.with_name(f"{place.name}.work")
    here = with_output(told, work)
    if source is not None:
        here = here.model_copy(update={"source": str(source.expanduser().resolve())})
    if told.source is None:
        images = pipeline.generate(here, base, progress=progress)
    else:
        images = pipeline.source_images(here, base, progress=progress)
    pipeline.curate(images, told, work, base=base, dataset=place, progress=progress)
    made = exported_checksums(place)
    return Remade(
        place,
        version.number,
        same=sum(made.get(name) == digest for name, digest in version.digests.items()),
        changed=tuple(n for n, d in version.digests.items() if made.get(n, d) != d),
        missing=tuple(name for name in version.digests if name not in made),
        more=tuple(name for name in made if name not in version.digests),
        tools=_differing(version, place),
    )


def _project(version: Version) -> project.Project:
    path = version.folder / RECIPE_FILE
    try:
        recipe = read_tables(path)
    except (OSError, ValueError) as error:
        raise RecipeError(f"{path} can't be read: {error}. Restore the version, or verify it.") \
            from error  # fmt: skip
    if "project" not in recipe:
        raise RecipeError(
            f"{path} is not a whole project: a graph wrote it, which knows the plan alone. Run the "
            "graph again in ComfyUI (every image of it holds the graph); 'character-curator "
            "reproduce IMAGE.png' and 'verify --regenerate all' make its images again."
        )
    told = project.from_mapping(recipe, str(path))
    decisions = told.selection.decisions
    if decisions is None:
        return told
    beside = str((version.folder / decisions).resolve())
    selection = told.selection.model_copy(update={"decisions": beside})
    return told.model_copy(update={"selection": selection})


def _differing(version: Version, place: Path) -> tuple[str, ...]:
    """Say which tools and models are not those that the version was made with."""
    before, now = version.record, read_record(place)
    if before is None or now is None:
        return ()
    lines = []
    for then, here in ((before.tools, now.tools), (before.models, now.models)):
        for name in sorted({*then, *here}):
            if then.get(name) != here.get(name):
                lines.append(f"{name}: {then.get(name, 'none')} -> {here.get(name, 'none')}")
    return tuple(lines)
