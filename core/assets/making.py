"""The assets of a project: generated with its LoRA, looked at, tagged, cut out and packed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from .. import atomic, pipeline
from ..analysis.embed import embed
from ..analysis.quality import score_quality
from ..asset_sections import BACKGROUNDS, AssetsSection
from ..counts import how_many
from ..evaluation.images import Analysers, measured
from ..features import FeatureStore
from ..generation.run import generate
from ..imageset import ImageSet
from ..lora import file as lora_file
from ..lora.header import read_header, read_origin
from ..naming import slug
from ..plan import Plan, PlanRules, Scenario, Subject
from ..progress import Progress, silent
from ..project import Project, ProjectFileError
from ..project_parts import STORE_FILE, backend_of, resolved
from ..project_training import lora_file_of
from ..reading.own import is_dataset
from ..rejection_reasons import in_words
from ..toml_lines import recipe_toml
from .archive import Comparison, compared
from .consistency import Consistency, consistency, identities_of
from .cutouts import Cutter
from .manifest import left_out, without_places
from .pack import AssetPackError, NoAssetsError, Pack, write_pack
from .tagging import tag

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..analysis.face_validation import FaceThresholds

ASSETS_FOLDER, RAW_FOLDER = "assets", "raw"
TABLE_FILE, REPORT_FILE, SHEET_FILE = "images.parquet", "report.json", "sheet.jpg"
RECIPE_FILE = "recipe.toml"


@dataclass(frozen=True)
class Made:
    """The assets of a project.

    Attributes:
        pack: What is on disk.
        images: Every candidate, with what was found and why some were left out.
        consistency: How much the assets show one character.
        lora: The LoRA file that they were made with.
        folders: How many assets each folder of the pack has.
        sheet: All assets at a glance.
    """

    pack: Pack
    images: ImageSet
    consistency: Consistency
    lora: Path | None
    folders: dict[str, int]
    sheet: Path

    def as_mapping(self) -> dict[str, Any]:
        """Return what came of it, as ``report.json`` says it."""
        return {
            "candidates": len(self.images),
            "assets": len(self.pack.files),
            "left_out": self.images.rejections(),
            "empty": len(self.pack.empty),
            "folders": self.folders,
            "lora": None if self.lora is None else self.lora.name,
            "consistency": self.consistency.as_mapping(),
            "tags": self._tags(),
            "atlas": [page.name for page in self.pack.pages],
            "archive": {"file": self.pack.archive.name, "sha256": self.pack.digest},
            "fingerprint": self.pack.fingerprint,
        }

    def _tags(self) -> list[dict[str, Any]]:
        if "tag" not in self.images.table.columns:
            return []
        rows = self.images.accepted.table.select("path", "tag", "tag_similarity", "tag_margin")
        return [
            {**row, **{k: None if row[k] is None else round(row[k], 4) for k in _SCORES}}
            for row in rows.to_dicts()
        ]


_SCORES = ("tag_similarity", "tag_margin")


def make_assets(
    project: Project,
    base: Path | str = ".",
    *,
    folder: Path | None = None,
    progress: Progress = silent,
) -> Made:
    """Make the images of a project's section [assets] that are not there yet, and pack them.

    What exists is not made again, and a run that was killed goes on.

    Args:
        project: With a section ``assets``.
        base: The folder that its relative paths start from.
        folder: Where all of it goes; ``assets`` in the project's output folder unless given.
        progress: Watches.

    Raises:
        ProjectFileError: The project has no such section.
        AssetPackError: The LoRA is not there yet, or the pack cannot be made.
        NoAssetsError: No image passes.
    """
    section = project.assets
    if section is None:
        raise ProjectFileError(
            "The project has no section [assets]. Add one: empty, it makes four prompts with ten "
            "seeds each."
        )
    output = resolved(base, project.project.output)
    place = folder or output / ASSETS_FOLDER
    lora = lora_of(project, base)
    background = section.background
    if background not in BACKGROUNDS:
        background = str(resolved(base, background))
    with FeatureStore(place / STORE_FILE) as store:
        cutter = Cutter(background, section.mask_model, store)  # refused before any is generated
        backend = backend_of(project, [] if lora is None else [(lora, section.strength)])
        candidates = generate(
            asset_plan(project, lora), backend, place / RAW_FOLDER,
            batch_size=project.model.batch_size, progress=progress,
        )  # fmt: skip
        looked = pipeline.validate(candidates, project, store, place, base=base, progress=progress)
        minimum = section.minimum_quality
        images = score_quality(
            looked.images, store, progress=progress, formula=project.quality.formula,
            minimum=project.quality.minimum if minimum is None else minimum,
        )  # fmt: skip
        images = embed(images, looked.embedder, store, progress)
        images = tag(images, section.categories, looked.embedder, store)
        images.write(place / TABLE_FILE)
        chosen = images.accepted
        if not len(chosen):
            raise NoAssetsError(_nothing(images))
        folders = _folders(chosen, section)
        trained = _trained_on(project, output, looked, progress) if section.lora is None else []
        found = consistency(
            chosen, folders, identities_of(chosen, looked.analyser, store),
            references=looked.references, dataset=trained,
        )  # fmt: skip
        pack = write_pack(
            chosen,
            place / slug(project.project.name),
            folders,
            lambda _, row, image: cutter.mask(row, image),
            section,
            section,
            name=project.project.name,
            about={
                "lora": _lora_entry(lora, section.strength),
                "background": {"kind": section.background, "by": cutter.fingerprint},
                "models": {
                    "faces": looked.analyser.backend.fingerprint,
                    "clip": looked.embedder.fingerprint,
                },
                "categories": section.categories,
                "consistency": found.identity_mapping(),
                "left_out": left_out(images),
            },
            extra={RECIPE_FILE: recipe_toml(_recipe(project)).encode()},
            progress=progress,
        )
    return _told(pack, images, found, lora, place)


def asset_plan(project: Project, lora: Path | None) -> Plan:
    """Return what images there shall be: every prompt with every seed, of every subject.

    Args:
        project: With a section ``assets``.
        lora: The LoRA; with one prompts name the trigger word, without one the description.

    Raises:
        PlanError: A placeholder is unknown, or there are too many images.
        AssetPackError: There is neither a LoRA nor a description.
    """
    section = project.assets or AssetsSection()
    rules = project.plan or PlanRules()
    subjects = _subjects(project, lora)
    if lora is None and not all(subject.description for subject in subjects):
        raise AssetPackError(
            "There is no LoRA, and nothing describes the character: name a file as 'lora' in "
            "[assets], add [training], or give the subject a description."
        )
    return Plan(
        subjects=tuple(subjects),
        seeds=section.seeds,
        scenarios=tuple(
            Scenario(
                number=number, name=prompt.name, prompt=prompt.prompt, category=prompt.name,
                negative=prompt.negative, takes=prompt.takes,
            )
            for number, prompt in enumerate(section.prompts, 1)
        ),
        template=section.template or (rules.template if lora is None else rules.caption),
        caption=rules.caption,
        negative_prompt=rules.negative_prompt,
    )  # fmt: skip


def lora_of(project: Project, base: Path | str = ".") -> Path | None:
    """Return the LoRA file that a project's assets are made with; None where it has none.

    Raises:
        AssetPackError: It is named, or the project trains one, and it is not there.
    """
    section = project.assets or AssetsSection()
    if section.lora is not None:
        path, cure = resolved(base, section.lora), "Check the name 'lora' in [assets]."
    elif project.training is not None:
        path, cure = (
            lora_file_of(project, base),
            ("The project trains it: make it first with 'character-curator run'."),
        )
    else:
        return None
    if not path.is_file():
        raise AssetPackError(f"There is no LoRA file {path}. {cure}")
    return path


def verify_archive(
    project: Project, base: Path | str = ".", *, progress: Progress = silent
) -> Comparison:
    """Make a project's assets again from nothing, elsewhere, and compare the archives.

    Args:
        project: Its assets are there.
        base: The folder that its relative paths start from.
        progress: Watches.

    Raises:
        ArchiveError: There is no archive to compare with.
    """
    there = resolved(base, project.project.output) / ASSETS_FOLDER
    archive = there / f"{slug(project.project.name)}.zip"
    compared(archive, archive)  # refused before any is generated
    with TemporaryDirectory(prefix="character-curator-") as scratch:
        made = make_assets(project, base, folder=Path(scratch) / ASSETS_FOLDER, progress=progress)
        return compared(archive, made.pack.archive)


def _subjects(project: Project, lora: Path | None) -> list[Subject]:
    """Return the project's subjects, each with a trigger word."""
    own = set(Subject.model_fields)
    given = [Subject(**one.model_dump(include=own)) for one in project.subjects]
    if not given:
        phrase = "" if lora is None else read_header(lora_file.read(lora).metadata).trigger_phrase
        word = project.dataset.trigger or phrase or project.project.name
        # A trigger phrase may have the class word in it already.
        given = [Subject(name=project.project.name, trigger=word, class_word="")]
    return [one.replace(trigger=one.trigger or one.name) for one in given]


def _trained_on(
    project: Project, output: Path, looked: pipeline.Validated, progress: Progress
) -> Sequence[NDArray[Any] | None]:
    """Return the identities of the faces in the project's dataset, where it is there."""
    dataset = output / pipeline.DATASET_FOLDER
    if not is_dataset(dataset):
        return []
    thresholds: FaceThresholds = looked.thresholds
    with FeatureStore(output / STORE_FILE) as store:
        analysers = Analysers(looked.analyser, looked.embedder, store, thresholds)
        images = ImageSet.from_folder(dataset)
        # Only who they show is asked: nothing of them is left out.
        return measured(images, analysers, progress)[1]


def _folders(images: ImageSet, section: AssetsSection) -> list[str]:
    by = section.folders or ("category" if section.categories else "prompt")
    column = "tag" if by == "category" else "scenario_name"
    return [str(name) for name in images.table[column]]


def _lora_entry(lora: Path | None, strength: float) -> dict[str, Any] | None:
    """Return what the manifest says of the LoRA."""
    from ..generation.models import file_hash

    if lora is None:
        return None
    metadata = lora_file.read(lora).metadata
    origin = read_origin(metadata)
    return {
        "file": lora.name,
        "sha256": file_hash(lora),
        "strength": strength,
        "trigger": read_header(metadata).trigger_phrase,
        "dataset": origin.dataset,
        "dataset_version": origin.version,
        "dataset_fingerprint": origin.dataset_fingerprint,
    }


def _recipe(project: Project) -> dict[str, Any]:
    return dict(without_places(project.model_dump(mode="json", exclude_none=True)))


def _nothing(images: ImageSet) -> str:
    counts = ", ".join(f"{in_words(why)} {count}" for why, count in images.rejections().items())
    return (
        f"None of {how_many(len(images), 'image')} passes: {counts}. Look at them, then lower what "
        "asks too much in [faces] or minimum_quality in [assets], or change the prompts."
    )


def _told(pack: Pack, images: ImageSet, found: Consistency, lora: Path | None, place: Path) -> Made:
    """Write what is for people, beside the pack."""
    from ..report.contact_sheet import contact_sheet

    groups: dict[str, list[tuple[Path | None, str]]] = {}
    for name in pack.files:
        folder, _, file = name.rpartition("/")
        groups.setdefault(folder, []).append((pack.folder / name, Path(file).stem))
    sheet = contact_sheet(
        sorted(groups.items()), title=how_many(len(pack.files), "asset"), columns=6
    )
    atomic.write_jpeg(place / SHEET_FILE, sheet, quality=90)
    folders = {name: len(files) for name, files in sorted(groups.items())}
    made = Made(pack, images, found, lora, folders, place / SHEET_FILE)
    text = json.dumps(made.as_mapping(), indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    atomic.write_text(place / REPORT_FILE, text)
    return made
