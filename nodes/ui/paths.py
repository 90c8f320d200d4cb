"""Where path widgets may lead: ComfyUI's own folders, and what the server's owner adds.

Anyone who can reach the server can queue a graph. So a path in a widget must lie in ComfyUI's
input, output, temp, datasets or models folders, links resolved. The owner allows more by the
environment variable ``CHARACTER_CURATOR_PATHS``: folders separated as in ``PATH``; ``*`` is all.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from ...core.errors import CuratorError
from ...core.naming import table_name

VARIABLE = "CHARACTER_CURATOR_PATHS"


class PathNotAllowedError(CuratorError):
    """A widget names a path outside the folders that graphs may use."""

    def __init__(self, text: str, roots: Iterable[Path]) -> None:
        listed = ", ".join(str(root) for root in roots)
        super().__init__(
            f"'{_shown(text)}' is outside the folders that a graph may use ({listed}). Put the "
            "files there, or let the server's owner name further folders in the variable "
            f"{VARIABLE}."
        )


class UnusablePathError(CuratorError):
    """A widget's text is no path that a file system takes."""

    def __init__(self, text: str, error: Exception) -> None:
        # Python names halves of characters, loops of links and names that are too long.
        super().__init__(
            f"'{_shown(text)}' is no path that can be used ({_shown(str(error))}). Name a folder "
            "or file anew, each part of at most 255 letters."
        )


class OwnFolderError(CuratorError):
    """A widget names one of ComfyUI's own folders as the place of results."""

    def __init__(self, text: str) -> None:
        super().__init__(
            f"'{_shown(text)}' is a folder of ComfyUI itself. Name a folder in it, such as "
            "'char1/raw'."
        )


def input_path(text: str) -> Path:
    """Resolve what a widget says of something to read; relative paths start in the input folder.

    Raises:
        PathNotAllowedError: It leads outside the folders that are allowed.
    """
    import folder_paths

    return contained(text, Path(folder_paths.get_input_directory()), allowed_roots())


def output_path(text: str) -> Path:
    """Resolve what a widget says of somewhere to write; relative paths start in the output folder.

    Raises:
        PathNotAllowedError: As :func:`input_path`.
        OwnFolderError: It is one of the allowed folders itself.
    """
    import folder_paths

    roots = allowed_roots(writable=True)
    path = contained(text, Path(folder_paths.get_output_directory()), roots)
    if not text.strip() or any(path == root.resolve() for root in roots):
        raise OwnFolderError(text)
    return path


def readable_path(text: str) -> Path:
    """Resolve a path that is looked for in the input, the output, and the datasets folders.

    Raises:
        PathNotAllowedError: As :func:`input_path`.
    """
    import folder_paths

    found = input_path(text)
    if found.exists():
        return found
    for base in [Path(folder_paths.get_output_directory()), *datasets_folders()]:
        made_here = contained(text, base, allowed_roots())
        if made_here.exists():
            return made_here
    return found


def dataset_path(place: str | Path) -> Path:
    """Resolve where a dataset's wire says that it lies: a file may say anything in its place.

    Raises:
        PathNotAllowedError: As :func:`input_path`.
    """
    return readable_path(str(place))


def datasets_folders() -> list[Path]:
    """Return where ComfyUI keeps datasets of its own, where it has such folders."""
    import folder_paths

    known = "datasets" in folder_paths.folder_names_and_paths
    return [Path(folder) for folder in folder_paths.get_folder_paths("datasets")] if known else []


def contained(text: str, base: Path, roots: Iterable[Path]) -> Path:
    """Resolve ``text`` against ``base`` and check that it lies in one of ``roots``.

    Raises:
        PathNotAllowedError: It does not, once links and ``..`` are resolved.
        UnusablePathError: The text is no path at all.
    """
    roots = list(roots)
    if "\0" in text:
        raise PathNotAllowedError(text.replace("\0", "?"), roots)
    try:
        path = (base / text.strip()).resolve()
        path.exists()  # asks the file system whether it takes such a name
    except (OSError, RuntimeError, ValueError) as error:
        raise UnusablePathError(text, error) from None
    if any(path.is_relative_to(root.resolve()) for root in roots):
        return path
    raise PathNotAllowedError(text, roots)


def _shown(text: str) -> str:
    """Return a text as every terminal takes it, and not longer than a line or two."""
    text = table_name(text)
    return f"{text[:100]} … {text[-50:]}" if len(text) > 200 else text


def allowed_roots(*, writable: bool = False) -> list[Path]:
    """Return the folders that a graph may use; models are for reading only."""
    import folder_paths

    extra = [part for part in os.environ.get(VARIABLE, "").split(os.pathsep) if part.strip()]
    if "*" in extra:
        return [Path(Path.cwd().anchor)]
    own = [
        folder_paths.get_input_directory(),
        folder_paths.get_output_directory(),
        folder_paths.get_temp_directory(),
        *datasets_folders(),
    ]
    if not writable:
        own.append(folder_paths.models_dir)
    return [Path(folder) for folder in [*own, *extra]]
