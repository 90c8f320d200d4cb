"""Where insightface packs lie, and what to do when one is missing."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path

from ..errors import CuratorError
from ..miniature import FACE_PACK_PATH

MINIATURE = "miniature"
PACK_ROOT = Path("~/.insightface")


def packs_folder() -> Path:
    """Return where insightface keeps its packs; none where there is no home."""
    try:
        return PACK_ROOT.expanduser() / "models"
    except RuntimeError:  # as pathlib has it of a user without any
        return PACK_ROOT / "models"


_HUB: dict[str | Path, str] = {"auraface": "fal/AuraFace-v1"}
"""Packs that lie on the Hugging Face hub and not with insightface."""
LICENCE = "insightface's pretrained packs are licensed for non-commercial research only."


class FacePackError(CuratorError):
    """An insightface pack is missing, incomplete or broken."""


def find_pack(pack: str | Path) -> Path:
    """Return the folder that holds a pack's ONNX files.

    Args:
        pack: ``miniature``; a folder; or the name of an insightface pack (``buffalo_l``), which is
            looked for in ``~/.insightface/models`` and, failing that, downloaded by insightface.

    Raises:
        FacePackError: There is no such pack and it cannot be downloaded, or it has no ONNX file.
    """
    if pack == MINIATURE:
        return _holding_models(FACE_PACK_PATH, pack)
    folder = Path(pack).expanduser()
    if folder.is_dir():
        return _holding_models(folder.resolve(), pack)
    if len(folder.parts) > 1:
        raise FacePackError(
            f"There is no folder {folder}. Name a folder with a detector and a recogniser as ONNX "
            "files, an insightface pack such as buffalo_l, or 'miniature'."
        )
    installed = packs_folder() / str(pack)
    if not installed.is_dir() and pack in _HUB:
        raise FacePackError(
            f"The face pack '{pack}' is not in {installed}. Get it with: hf download {_HUB[pack]} "
            f"--local-dir {installed}"
        )
    if not installed.is_dir():
        _download(str(pack), installed)
    return _holding_models(installed, pack)


def _download(pack: str, folder: Path) -> None:
    from insightface.utils.storage import ensure_available

    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            ensure_available("models", pack, root=str(PACK_ROOT))
    except Exception as error:  # whatever a network can do
        raise FacePackError(
            f"The face pack '{pack}' is not in {folder}, and insightface cannot download it: "
            f"{error}. Get {pack}.zip from the model zoo of insightface on a machine with a "
            f"network and unpack its ONNX files into {folder}, name another folder, or take "
            f"'miniature'. {LICENCE}"
        ) from error


def _holding_models(folder: Path, pack: str | Path) -> Path:
    if any(folder.glob("*.onnx")):
        return folder
    inner = [path for path in sorted(folder.glob("*/")) if any(path.glob("*.onnx"))]
    if len(inner) == 1:  # an archive that was unpacked into a folder of its own name
        return inner[0]
    raise FacePackError(
        f"The face pack '{pack}' has no ONNX file in {folder}. Unpack the pack's files there."
    )
