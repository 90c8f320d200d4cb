"""What a project asks for, looked for before the first image is generated or measured."""

from __future__ import annotations

from pathlib import Path

from .project import Project, ProjectFileError
from .project_measuring import measurers_of
from .project_parts import STORE_FILE, captioning_of, decisions_of, resolved

_FOLDERS = ("validation", "prior", "control_images", "masks")
"""Keys of [training] that name folders."""


def check_project(project: Project, base: Path | str = ".", work: Path | None = None) -> None:
    """Refuse a project whose later stages lack something, before an hour has been spent on it.

    Looked at are decisions, the model of captions, the face pack, reference images, the CLIP model,
    and what the training is to start from. Models that are downloaded at first use are downloaded.

    Args:
        project: Of one subject, or of several that are generated together.
        base: The folder that its relative paths start from.
        work: Folder of its measurements; the project's output unless given.

    Raises:
        DecisionsFileError: The decisions cannot be used.
        CaptionerNotFoundError: The model of captions is not there.
        FacePackError: The face pack is not there.
        ReferenceFaceError: A reference image does not show exactly one face.
        UnreadableImageError: A reference image cannot be read.
        UnknownLooksError: The calibrated quality is wanted of a pack that does not measure it.
        ClipModelError: The CLIP model is not there.
        ModelNotFoundError: The base model of the training is not there.
        SettingsError: Settings of the training contradict each other.
        ProjectFileError: A folder that the training is to read is not there.
        OutputNameError: The LoRA file's name is none.
    """
    decisions_of(project, base)
    captioning_of(project, base)
    check_measuring(project, base, work)
    if project.training is not None:
        _check_training(project, base)


def check_measuring(project: Project, base: Path | str = ".", work: Path | None = None) -> None:
    """Refuse a project whose images cannot be measured; see :func:`check_project`.

    Args:
        project: With its sections [faces], [quality] and [clip].
        base: The folder that its relative paths start from.
        work: Folder of its measurements; the project's output unless given.
    """
    from .analysis.face_validation import read_references
    from .analysis.measure import require_looks
    from .features import FeatureStore

    by = measurers_of(project, base)
    _ = by.analyser.detection_fingerprint  # of the pack's files, which have to be there
    require_looks(project.quality.formula, by.analyser)
    if by.references:
        with FeatureStore((work or resolved(base, project.project.output)) / STORE_FILE) as store:
            read_references(by.analyser, store, by.references)
    _ = by.embedder.fingerprint


def _check_training(project: Project, base: Path | str) -> None:
    from .project_training import lora_file_of
    from .training.data.masks import BESIDE
    from .training.denoisers.recognise import recognise
    from .training.trainer import check_output

    section = project.training
    if section is None:
        return
    config = section.base_config if section.base else project.model.config
    section.chosen(recognise(section.base or project.model.path, config))
    check_output(lora_file_of(project, base))
    for key in _FOLDERS:
        named = getattr(section, key)
        if named is None or (key == "masks" and named == BESIDE):
            continue
        if not (folder := resolved(base, named)).exists():
            raise ProjectFileError(
                f"[training] reads {key} from {folder}, and nothing is there. Name another folder, "
                "or leave the key out."
            )
