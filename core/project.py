"""A project file: one TOML that says everything a run does, checked key by key."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError, model_validator

from .asset_sections import AssetsSection
from .augmentation_section import AugmentationSection
from .captions.settings import CaptionStage
from .engine_section import EngineSection
from .errors import CuratorError
from .naming import slug
from .options import Model
from .plain_files import plain_text
from .plan import Subject
from .project_sections import (
    BlemishesSection,
    ClipSection,
    ClustersSection,
    CropSection,
    DatasetSection,
    DuplicatesSection,
    FacesSection,
    ModelSection,
    PlanSection,
    PortfolioSection,
    ProjectSection,
    QualitySection,
    ScenarioSection,
    SelectionSection,
    SubjectSection,
    TrainingSection,
    WavesSection,
)
from .toml_lines import TomlError, line_of
from .toml_lines import tables as toml_tables
from .training.presets import faults


class ProjectFileError(CuratorError):
    """A project file that cannot be used; the message names the key and the line."""


_OF_A_PORTFOLIO = SubjectSection.model_fields.keys() - Subject.model_fields.keys()


class Project(Model):
    """Everything a run does. Sections that are left out have working defaults.

    Either ``source`` names existing images (a folder, a zip file, or a list of these), or
    ``plan``, ``subjects``, ``originals`` and ``scenarios`` say what to generate, and ``waves`` that
    no more of it is made than the selection needs. With ``portfolio`` every one of the subjects
    gets a dataset of its own. With ``augmentation`` there are real images in ``source``, and what
    is generated are variations of them. ``assets`` makes images for a game with the LoRA of
    ``training``, or with any other: then neither images nor a plan are needed. ``engine`` says
    where the work is done, which changes nothing of the result.
    """

    project: ProjectSection = ProjectSection()
    source: str | tuple[str, ...] | None = None
    model: ModelSection = ModelSection()
    plan: PlanSection | None = None
    waves: WavesSection | None = None
    subjects: tuple[SubjectSection, ...] = ()
    originals: tuple[ScenarioSection, ...] = ()
    scenarios: tuple[ScenarioSection, ...] = ()
    faces: FacesSection = FacesSection()
    crop: CropSection | None = None
    blemishes: BlemishesSection | None = None
    quality: QualitySection = QualitySection()
    clip: ClipSection = ClipSection()
    clusters: ClustersSection = ClustersSection()
    duplicates: DuplicatesSection = DuplicatesSection()
    selection: SelectionSection = SelectionSection()
    captions: CaptionStage | None = None
    dataset: DatasetSection = DatasetSection()
    training: TrainingSection | None = None
    portfolio: PortfolioSection | None = None
    assets: AssetsSection | None = None
    augmentation: AugmentationSection | None = None
    engine: EngineSection = EngineSection()

    @model_validator(mode="after")
    def _has_images(self) -> Project:
        if self.waves is not None and (self.plan is None or self.augmentation is not None):
            raise ValueError("[waves] is for images that are generated: it needs a [plan]")
        if self.augmentation is not None:
            return self._as_augmentation()
        if self.portfolio is not None:
            return self._as_portfolio()
        for subject in self.subjects:
            for key in sorted(_OF_A_PORTFOLIO):
                if getattr(subject, key) is not None:
                    raise ValueError(
                        f"the subject '{subject.name}' has {key}, which is for a portfolio: add a "
                        "section [portfolio], or take it out"
                    )
        given = (self.source is not None) + (self.plan is not None)
        if given > 1 or (not given and self.assets is None):
            raise ValueError(
                "give either 'source' (a folder of images, or several) or a [plan] to generate"
            )
        if self.plan is not None and not self.subjects:
            raise ValueError("a [plan] needs at least one [[subjects]]")
        return self

    def _as_augmentation(self) -> Project:
        if self.portfolio is not None:
            raise ValueError("a project is a [portfolio] or an [augmentation], not both")
        if not self.subjects:
            raise ValueError(
                "an [augmentation] needs one of [[subjects]]: whom the real images show, with the "
                "trigger word of the LoRA"
            )
        if self.originals:
            raise ValueError("in an augmentation the originals are real: take [[originals]] out")
        if self.training is None and (self.augmentation or AugmentationSection()).lora is None:
            raise ValueError(
                "an [augmentation] needs a section [training], which makes a LoRA of the real "
                "images, or the key 'lora' with the file of one"
            )
        alone = len(self.subjects) == 1
        for subject in self.subjects:
            if (subject.source is None) == (self.source is None):
                raise ValueError(
                    f"give the real images of '{subject.name}' as 'source'"
                    + (" (a folder of them, or several)" if alone else " of each of the subjects")
                )
        if not alone and self.source is not None:
            raise ValueError("of several subjects 'source' is a key of each of them")
        return self

    def _as_portfolio(self) -> Project:
        if not self.subjects:
            raise ValueError("a [portfolio] needs at least one [[subjects]]")
        if self.source is not None:
            raise ValueError("in a portfolio 'source' is a key of each of the [[subjects]]")
        if self.faces.references:
            raise ValueError("in a portfolio 'references' is a key of each of the [[subjects]]")
        owners: dict[str, str] = {"combined": "the combined dataset"}
        for subject in self.subjects:
            key = slug(subject.name).casefold()
            if key in owners:
                raise ValueError(
                    f"'{subject.name}' and '{owners[key]}' would be folders of the same name: give "
                    "the subject another"
                )
            owners[key] = subject.name
        for subject in self.subjects:
            if subject.source is None and self.plan is None:
                raise ValueError(
                    f"the subject '{subject.name}' has no source, and there is no [plan] to "
                    "generate its images"
                )
        if self.training is not None:
            raise ValueError(
                "a portfolio ends with its datasets: take [training] out, and train on one of them "
                "with 'character-curator train'"
            )
        if self.assets is not None:
            raise ValueError(
                "a portfolio ends with its datasets: take [assets] out, and make them in a project "
                "of one subject that names its LoRA"
            )
        if self.dataset.trigger is not None:
            raise ValueError("in a portfolio each of the [[subjects]] has a trigger of its own")
        words: dict[str, str] = {}
        for subject in self.subjects:
            word = subject.trigger or subject.name
            if other := words.get(word):
                raise ValueError(
                    f"'{other}' and '{subject.name}' have the same trigger word '{word}': give "
                    "each its own"
                )
            words[word] = subject.name
        return self


def read(path: Path | str) -> Project:
    """Read and check a project file.

    Raises:
        ProjectFileError: The file is absent, is not TOML, or says something that cannot be; every
            fault is listed with its key and line.
    """
    return parse(text_of(path), str(path))


def text_of(path: Path | str) -> str:
    """Return the text of a project file, without the mark that some editors begin UTF-8 with.

    Raises:
        ProjectFileError: The file is absent or no text in UTF-8.
    """
    try:
        return plain_text(Path(path), "utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ProjectFileError(
            f"{path} cannot be read: {error}. Name a project file (TOML, UTF-8); "
            "'character-curator demo' leaves one to start from in its folder."
        ) from error


def parse(text: str, name: str = "project") -> Project:
    """Check the text of a project file; ``name`` is what errors call it.

    Raises:
        ProjectFileError: As :func:`read`.
    """
    return from_mapping(tables(text, name), name, text)


def tables(text: str, name: str = "project") -> dict[str, Any]:
    """Return TOML as nested tables, unchecked.

    Raises:
        ProjectFileError: It is not TOML.
    """
    try:
        return toml_tables(text)
    except TomlError as error:
        raise ProjectFileError(f"{name} is not valid TOML: {error}.") from error


def from_mapping(data: dict[str, Any], name: str, text: str = "") -> Project:
    """Check a project given as nested tables; lines are named when ``text`` is its TOML.

    Raises:
        ProjectFileError: As :func:`read`.
    """
    faults = [*_impossible_values(data), *_training_faults(data)]
    project: Project | None = None
    try:
        project = Project.model_validate(data)
    except ValidationError as error:
        for fault in error.errors():
            keys = [key for key in fault["loc"] if key != "__root__"]
            message = fault["msg"].removeprefix("Value error, ")
            if fault["type"] == "extra_forbidden":
                message = f"no such key; there are: {', '.join(_known(keys[:-1]))}"
            faults.append((keys, message))
    if project is not None and not faults:
        return project
    told = []
    for keys, message in faults:
        line = line_of(text, keys)
        where = f"{name}, line {line}" if line else name
        told.append(f"{where}: {_dotted(keys) or 'the file'}: {message}")
    raise ProjectFileError("\n".join(told))


def _impossible_values(value: Any, keys: tuple[Any, ...] = ()) -> list[tuple[list[Any], str]]:
    """Return what no key of a project can be: numbers beyond 64 bits, texts with a zero byte."""
    if isinstance(value, dict):
        return [f for key, one in value.items() for f in _impossible_values(one, (*keys, key))]
    if isinstance(value, list | tuple):
        return [f for i, one in enumerate(value) for f in _impossible_values(one, (*keys, i))]
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        return [(list(keys), "a number beyond 64 bits")]
    if isinstance(value, str) and "\0" in value:
        return [(list(keys), "a text with a zero byte, which no file's name and no text has")]
    return []


def _training_faults(data: dict[str, Any]) -> list[tuple[list[Any], str]]:
    """Return what is wrong with the options of [training], by key."""
    section = data.get("training")
    if not isinstance(section, dict):
        return []
    own = TrainingSection.model_fields
    options = {name: value for name, value in section.items() if name not in own}
    preset = section.get("preset")
    found = faults(options, preset if isinstance(preset, str) else None)
    return [(["training", name], message) for name, message in found.items()]


def _dotted(keys: list[Any]) -> str:
    text = ""
    for key in keys:
        text += f"[{key + 1}]" if isinstance(key, int) else f".{key}"
    return text.lstrip(".")


def _known(keys: list[Any]) -> list[str]:
    """Return the keys that the section at ``keys`` may have."""
    model: Any = Project
    for key in keys:
        if isinstance(key, int):
            continue
        annotation = model.model_fields[key].annotation
        inner = [a for a in [annotation, *getattr(annotation, "__args__", ())]
                 if isinstance(a, type) and issubclass(a, BaseModel)]  # fmt: skip
        if not inner:
            return []
        model = inner[0]
    return list(model.model_fields)
