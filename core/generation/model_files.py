"""Where the files of a model are, whether it is a folder or a checkpoint in one file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import models, single_file


@dataclass(frozen=True)
class ModelFiles:
    """Where a model lies.

    Attributes:
        folder: A pipeline of diffusers: the whole model; or, of a checkpoint in one file, its
            configurations, its tokenizers, and what the file lacks.
        file: The checkpoint, if it is one file.
    """

    folder: Path
    file: Path | None = None

    @property
    def brought(self) -> set[str]:
        """The parts of the pipeline that the file has; none without a file."""
        return set() if self.file is None else single_file.parts_in(self.file, self.folder)

    def fingerprint(self, variant: str | None = None) -> str:
        """Hash what decides the model's images, as :func:`.models.fingerprint`."""
        return models.fingerprint(self.folder, variant, self.file, self.brought)


def located(name: str | Path, config: str | Path | None = None, **options: Any) -> ModelFiles:
    """Return where a model lies, downloaded if it must be.

    Args:
        name: A packaged name (``miniature``), a folder, a ``.safetensors`` file, or an id of the
            Hugging Face hub.
        config: Of a file: what :func:`.single_file.configuration` takes.
        **options: For the download of a hub's model.

    Raises:
        ModelNotFoundError: It is not here and not to be had.
    """
    file = Path(name).expanduser()
    if file.is_file():
        single_file.shapes(file)
        return ModelFiles(single_file.configuration(file, config), file)
    if config is not None:
        raise models.ModelNotFoundError(
            f"A configuration ({config}) is named for '{name}', which is no file: only a "
            "checkpoint in a single .safetensors file needs one. Leave it out, or name that file."
        )
    return ModelFiles(models.model_path(name) or models.downloaded(str(name), **options))
