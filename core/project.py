"""A project file: one TOML that says everything a run does, checked key by key."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from .errors import CuratorError
from .selection.quotas import Quota
from .toml_lines import line_of
from .training.settings import TrainingSettings

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

Share = Annotated[float, Field(ge=0, le=1)]


class ProjectFileError(CuratorError):
    """A project file that cannot be used; the message names the key and the line."""


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ProjectSection(_Section):
    """What the project is called and where its results go."""

    name: str = Field(default="character", min_length=1)
    output: str = "output"
    """Folder for raw images, measurements and the dataset, relative to the project file."""


class ModelSection(_Section):
    """The text-to-image model and how it samples."""

    path: str = "miniature"
    """'miniature', a diffusers folder, or a model hub's id."""
    scheduler: str = "model"
    """'model' takes the one that the model comes with; or ddim, euler, dpmpp_2m_karras, unipc and
    so on (``generation.schedulers``), or the name of a class of diffusers."""
    steps: int = Field(default=20, ge=1)
    guidance: float = Field(default=2.5, ge=0)
    width: int | None = Field(default=None, ge=8)
    height: int | None = Field(default=None, ge=8)
    batch_size: int = Field(default=8, ge=1)
    dtype: Literal["auto", "float32", "float16", "bfloat16"] = "auto"
    device: str = "auto"


class SubjectSection(_Section):
    """A character: what it is called, and the words that describe it to the model."""

    name: str = Field(default="char1", min_length=1)
    description: str = Field(min_length=1)
    trigger: str = ""
    """The word that will call the character once a LoRA is trained."""
    class_word: str = "person"


class ScenarioSection(_Section):
    """A situation to put every subject into (or, under originals, a plain reference image)."""

    number: int = Field(ge=0)
    name: str = Field(min_length=1)
    prompt: str = Field(min_length=1)
    category: str = ""
    negative: str = ""
    takes: int | None = Field(default=None, ge=0)


class PlanSection(_Section):
    """How many images, and how prompts and captions are put together."""

    seeds: tuple[int, ...] = Field(min_length=1)
    takes: int = Field(default=1, ge=1)
    """Images of each scenario and seed."""
    template: str = "{description}, {scenario}"
    caption: str = "{trigger} {class_word}, {scenario}"
    negative_prompt: str = ""


class FacesSection(_Section):
    """What a valid face is."""

    pack: str = "miniature"
    """'miniature', an insightface pack's name (buffalo_l), or a folder of ONNX files."""
    references: tuple[str, ...] = ()
    """Images of the person; without them identity is measured against the set's own centre."""
    minimum_confidence: Share = 0.85
    minimum_share: Share = 0.01
    """Smallest area of the face, as a share of the image's."""
    minimum_side: float = Field(default=20.0, ge=0)
    """Smallest width and height of the face, in pixels."""
    minimum_identity: float | None = Field(default=None, ge=-1, le=1)
    """Smallest cosine similarity to the reference identity; unset, it is only reported."""
    detection_size: int | None = Field(default=None, ge=32)


class QualitySection(_Section):
    """What a good image is."""

    minimum: Share = 0.74


class ClipSection(_Section):
    """The model that embeds images."""

    model: str = "miniature"
    """'miniature', an open_clip architecture (ViT-B-32), or a folder with its configuration."""
    pretrained: str = ""
    """The weights' tag (openai, laion2b_s34b_b79k) or file, for an architecture."""


class ClustersSection(_Section):
    """How images are grouped by what they show."""

    count: int = Field(default=8, ge=1)
    random_state: int = Field(default=0, ge=0)


class DuplicatesSection(_Section):
    """When two images are the same image."""

    threshold: float = Field(default=0.98, gt=0, le=1)
    """Cosine similarity of the embeddings from which on only one of two is taken."""


class SelectionSection(_Section):
    """How many images are chosen, and how they are spread."""

    total: int = Field(default=70, ge=1)
    quotas: tuple[str, ...] = ()
    """'seed=7', 'cluster=8..10', 'kind=original:18,scenario:52', 'pose=frontal:50%..', the most
    important first."""

    @field_validator("quotas")
    @classmethod
    def _can_be_read(cls, quotas: tuple[str, ...]) -> tuple[str, ...]:
        for text in quotas:
            try:
                Quota.parse(text)
            except CuratorError as error:
                raise ValueError(str(error)) from error
        return quotas


class DatasetSection(_Section):
    """How the dataset presents itself."""

    license: str = "other"
    captions: str = "trigger + what varies"
    """'prompt', 'trigger + prompt', 'trigger + what varies', or a template of your own."""
    resolution: int | None = Field(default=None, ge=64)
    """What dataset.toml tells trainers; derived from the images unless given."""
    repeats: int = Field(default=1, ge=1)


class TrainingSection(_Section):
    """A LoRA from the dataset. All further keys are options of ``TrainingSettings``."""

    model_config = ConfigDict(extra="allow", frozen=True)

    preset: str | None = None
    """Settings to start from, such as seed-document; the options go over them."""
    base: str = ""
    """What is trained; the model that generates unless given."""
    file: str = ""
    """The LoRA file, relative to the output folder; lora/NAME.safetensors unless given."""
    validation: str | None = None
    """Folder of images to validate with, instead of a share of the dataset."""
    prior: str | None = None
    """Folder of prior-preservation images."""
    prior_caption: str | None = None
    """The class prompt, for those of them that have no caption."""
    prior_pictures: int = Field(default=0, ge=0)
    """So many prior-preservation images are made with the base model, in the scenes of the data
    set, where no folder is given."""
    prompts: tuple[str, ...] = ()
    """What is sampled while it trains, and made with the finished LoRA; captions of the dataset
    unless given."""

    @property
    def options(self) -> dict[str, Any]:
        """The keys that are options of the training."""
        return dict(self.model_extra or {})

    def settings(self) -> TrainingSettings:
        """Return every option of the training."""
        return TrainingSettings.from_mapping(self.options, self.preset)


class Project(_Section):
    """Everything a run does. Sections that are left out have working defaults.

    Either ``source`` names a folder of existing images, or ``plan``, ``subjects``,
    ``originals`` and ``scenarios`` say what to generate.
    """

    project: ProjectSection = ProjectSection()
    source: str | None = None
    model: ModelSection = ModelSection()
    plan: PlanSection | None = None
    subjects: tuple[SubjectSection, ...] = ()
    originals: tuple[ScenarioSection, ...] = ()
    scenarios: tuple[ScenarioSection, ...] = ()
    faces: FacesSection = FacesSection()
    quality: QualitySection = QualitySection()
    clip: ClipSection = ClipSection()
    clusters: ClustersSection = ClustersSection()
    duplicates: DuplicatesSection = DuplicatesSection()
    selection: SelectionSection = SelectionSection()
    dataset: DatasetSection = DatasetSection()
    training: TrainingSection | None = None

    @model_validator(mode="after")
    def _has_images(self) -> Project:
        if (self.source is None) == (self.plan is None):
            raise ValueError("give either 'source' (a folder of images) or a [plan] to generate")
        if self.plan is not None and not self.subjects:
            raise ValueError("a [plan] needs at least one [[subjects]]")
        return self


def read(path: Path | str) -> Project:
    """Read and check a project file.

    Raises:
        ProjectFileError: The file is absent, is not TOML, or says something that cannot be; every
            fault is listed with its key and line.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ProjectFileError(
            f"{path} cannot be read: {error}. Name a project file (TOML, UTF-8); "
            "'character-curator demo' leaves one to start from in its folder."
        ) from error
    return parse(text, str(path))


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
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ProjectFileError(f"{name} is not valid TOML: {error}.") from error


def from_mapping(data: dict[str, Any], name: str, text: str = "") -> Project:
    """Check a project given as nested tables; lines are named when ``text`` is its TOML.

    Raises:
        ProjectFileError: As :func:`read`.
    """
    faults = _training_faults(data)
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


def _training_faults(data: dict[str, Any]) -> list[tuple[list[Any], str]]:
    """Return what is wrong with the options of [training], by key."""
    section = data.get("training")
    if not isinstance(section, dict):
        return []
    own = TrainingSection.model_fields
    options = {name: value for name, value in section.items() if name not in own}
    preset = section.get("preset")
    found = TrainingSettings.faults(options, preset if isinstance(preset, str) else None)
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
