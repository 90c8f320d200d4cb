"""Where models lie, what they are called in records, and what identifies their weights."""

from __future__ import annotations

import hashlib
import logging
import os
import sqlite3
from collections.abc import Iterator, Set
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from ..errors import CuratorError
from ..hashing import content_hash, file_state, json_hash
from ..hub import is_hub_name, not_given
from ..json_text import parse
from ..plain_files import plain_text

log = logging.getLogger(__name__)

_PACKAGED = {"miniature": "DIFFUSION_PATH"}
_WEIGHTS = (".safetensors", ".bin")
# Parts that do not decide the image, or that are recorded on their own.
_SKIPPED = frozenset({"scheduler", "safety_checker", "feature_extractor", "image_encoder"})

_NONE: frozenset[str] = frozenset()


class ModelNotFoundError(CuratorError):
    """A model is neither a folder here, nor a packaged name, nor to be had from the hub."""


def model_path(name: str | Path) -> Path | None:
    """Resolve a model's name to the folder it lies in.

    Args:
        name: A packaged name (``miniature``), a folder, or an id of the Hugging Face hub.

    Returns:
        The folder; ``None`` when ``name`` can only be a hub id.

    Raises:
        ModelNotFoundError: It is the path of nothing, or a packaged model is not installed.
    """
    if str(name) in _PACKAGED:
        from .. import miniature

        folder = Path(getattr(miniature, _PACKAGED[str(name)]))
        if not folder.is_dir():
            raise ModelNotFoundError(
                f"The packaged model '{name}' is not installed: {folder} is missing. Install the "
                "package again, or train the model with 'character-curator miniature train'."
            )
        return folder
    folder = Path(name).expanduser()
    if folder.is_dir():
        if not (folder / "model_index.json").is_file():
            raise ModelNotFoundError(
                f"{folder} is no diffusers pipeline: it has no model_index.json. Name the folder "
                "that holds model_index.json, unet/ or transformer/, vae/ and so on."
            )
        return folder
    if folder.is_file():
        raise ModelNotFoundError(f"{folder} is a file: a folder of diffusers is wanted here.")
    text = str(name)
    if isinstance(name, Path) or not is_hub_name(text):
        raise ModelNotFoundError(
            f"There is no model at '{name}'. Give the folder of a diffusers pipeline, a single "
            ".safetensors file, the name of a model on the Hugging Face hub ('owner/name'), or "
            "'miniature'."
        )
    return None


def downloaded(name: str, **options: Any) -> Path:
    """Return the local folder of a hub model, downloaded if it is not in the cache yet.

    Raises:
        ModelNotFoundError: It is not in the cache and the hub does not give it.
    """
    from diffusers import DiffusionPipeline

    try:
        return Path(DiffusionPipeline.download(name, **options))
    except Exception as error:  # the hub's client raises a different class in each version
        raise ModelNotFoundError(not_given(name, error)) from error


def reference(name: str | Path) -> str:
    """Return how a record refers to a model, so that it is found again.

    A packaged model is called by its name, wherever it lies; a folder below the user's home starts
    with ``~``, which keeps a user's name out of published images.
    """
    for packaged in _PACKAGED:
        try:
            folder = model_path(packaged)
        except (ModelNotFoundError, AttributeError):
            continue
        if str(name) == packaged or (folder and Path(name).expanduser().resolve() == folder):
            return packaged
    path = Path(name).expanduser()
    if not path.exists():
        return str(name)
    path = path.resolve()
    home = Path.home()
    return f"~/{path.relative_to(home).as_posix()}" if path.is_relative_to(home) else str(path)


def parts(folder: Path) -> set[str]:
    """Return the names of a pipeline's parts, such as "unet" and "vae"."""
    return {
        name
        for name, value in _json(folder, "model_index.json").items()
        if isinstance(value, list) and value and value[0] is not None
    }


def pipeline_class(folder: Path) -> str:
    """Return the name of a pipeline's class."""
    return str(_json(folder, "model_index.json").get("_class_name"))


def class_of(folder: Path, part: str) -> str:
    """Return the name of the class of a pipeline's part."""
    library_and_class = _json(folder, "model_index.json").get(part) or (None, None)
    return str(library_and_class[1])


def config(folder: Path, part: str) -> dict[str, Any]:
    """Return the configuration of a pipeline's part.

    Raises:
        ModelNotFoundError: It is missing or broken.
    """
    name = "scheduler_config.json" if part == "scheduler" else "config.json"
    return _json(folder, f"{part}/{name}")


def unloadable(folder: Path, reason: str) -> ModelNotFoundError:
    """Return the error of a folder that is not a whole pipeline."""
    return ModelNotFoundError(
        f"The model in {folder} can't be loaded: {reason}. Check that it is a text-to-image "
        "pipeline of diffusers and that every file of it is there."
    )


def fingerprint(
    folder: Path, variant: str | None = None, single: Path | None = None, brought: Set[str] = _NONE
) -> str:
    """Hash what decides a pipeline's images: weights, configurations and tokenizers.

    Hashes of weights are remembered by path and state, see :func:`file_hash`.

    Args:
        folder: A diffusers pipeline.
        variant: The variant of the weights that is loaded, such as "fp16".
        single: The single file that weights come from.
        brought: The parts that it has: their weights in the folder do not count.
    """
    digest = hashlib.sha256()
    if single is not None:
        digest.update(f"single file {file_hash(single)}\n".encode())
    for part in sorted(parts(folder) - _SKIPPED):
        for file in _files(folder / part, variant):
            if part in brought and file.suffix in _WEIGHTS:
                continue
            name = f"{part}/{file.name}"
            mark = _config_hash(file) if file.suffix == ".json" else file_hash(file)
            digest.update(f"{name} {mark}\n".encode())
    return digest.hexdigest()


def weight_bytes(folder: Path, variant: str | None = None) -> int:
    """Return how large the weights are that a pipeline in a folder loads, in bytes."""
    return sum(
        file.stat().st_size
        for part in parts(folder) - _SKIPPED
        for file in _files(folder / part, variant)
        if file.suffix in _WEIGHTS
    )


_UNREMEMBERED = (OSError, RuntimeError, sqlite3.Error, UnicodeDecodeError)
"""No folder, no home, a damaged file, and messages about one that repeat damaged text."""


def file_hash(path: Path) -> str:
    """Return the SHA-256 of a (large) file, remembered by path and state.

    A remembered hash is believed only with its checksum.
    """
    path = path.resolve()
    key = "|".join(map(str, (path, *file_state(path))))
    try:
        with closing(_known_hashes()) as known:
            row = known.execute(
                "SELECT hash, checksum FROM states WHERE file = ?", (key,)
            ).fetchone()
    except _UNREMEMBERED as error:
        log.debug("remembered hashes cannot be read: %s", error)
        _forget_if_damaged(error)
        row = None
    if row is not None and row[1] == json_hash([key, row[0]]):
        return str(row[0])
    found = content_hash(path)
    try:
        with closing(_known_hashes()) as known, known:
            row = (key, found, json_hash([key, found]))
            known.execute("INSERT OR REPLACE INTO states VALUES (?, ?, ?)", row)
    except _UNREMEMBERED as error:
        log.debug("hashes are not remembered: %s", error)
    return found


def _json(folder: Path, name: str) -> dict[str, Any]:
    try:
        content = parse(plain_text(folder / name))
    except (OSError, ValueError) as error:
        raise unloadable(folder, f"{name}: {error}") from error
    if not isinstance(content, dict):
        raise unloadable(folder, f"{name} holds no table")
    return content


def _files(folder: Path, variant: str | None) -> Iterator[Path]:
    """Yield the files of one part that are loaded, in the order of their names."""
    if not folder.is_dir():
        return
    files = sorted(file for file in folder.iterdir() if file.is_file())
    # A file of weights is called <base>[.<variant>][-00001-of-00002].<suffix>
    weights = [file for file in files if file.suffix in _WEIGHTS]
    if any(file.suffix == ".safetensors" for file in weights):
        weights = [file for file in weights if file.suffix == ".safetensors"]
    plain = [file for file in weights if "." not in file.stem]
    chosen = [file for file in weights if variant and f".{variant}" in file.name]
    yield from chosen or plain or weights
    yield from (
        file
        for file in files
        if file.suffix in (".json", ".txt", ".model") and "index" not in file.name
    )


def _config_hash(file: Path) -> str:
    """Hash a configuration without what says only where it came from and which library wrote it."""
    try:
        content = parse(plain_text(file))
    except (OSError, ValueError) as error:
        raise unloadable(file.parent.parent, f"{file.parent.name}/{file.name}: {error}") from error
    if isinstance(content, dict):
        written_by = ("transformers_version", "torch_dtype", "dtype", "name_or_path")
        content = {k: v for k, v in content.items() if k[:1] != "_" and k not in written_by}
    return json_hash(content)


def _forget_if_damaged(error: Exception) -> None:
    """Take away what is damaged, or large models would be read as a whole in every run."""
    damaged = isinstance(error, sqlite3.DatabaseError | UnicodeDecodeError)
    if damaged and not isinstance(error, sqlite3.OperationalError):  # busy, full, refused
        with suppress(OSError, RuntimeError):
            file = _hashes_file()
            file.unlink()
            log.warning("%s was damaged, and is begun anew: models are hashed again.", file)


def _hashes_file() -> Path:
    base = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    return base / "character-curator" / "file-hashes.sqlite"


def _known_hashes() -> sqlite3.Connection:
    """Open what is remembered: a row a file, so that processes never overwrite each other's."""
    file = _hashes_file()
    file.parent.mkdir(parents=True, exist_ok=True)
    known = sqlite3.connect(file, timeout=30)
    try:
        known.execute(
            "CREATE TABLE IF NOT EXISTS states (file TEXT PRIMARY KEY, hash TEXT, checksum TEXT)"
        )
    except BaseException:
        known.close()
        raise
    return known
