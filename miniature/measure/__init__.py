"""What the miniature's models are worth on renders and prompts they have not seen.

Everything is measured through the libraries that load the models in use: insightface, open_clip
and diffusers. Seeds are fixed and belong to no training run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from character_curator.progress import Progress, silent

_LABELS: Mapping[str, tuple[tuple[str, str, str], ...]] = {
    "detector": (
        ("recall", "Faces found (IoU 0.5)", "share"),
        ("precision", "Found faces that are faces (IoU 0.5)", "share"),
        ("one_face", "Portraits with exactly one face found", "share"),
        ("empty_clean", "Empty places with none found", "share"),
        ("confidence_05", "Confidence, 5th percentile", "number"),
        ("confidence_50", "Confidence, median", "number"),
        ("ruined_above_85", "Spoilt faces that still score 0.85", "share"),
        ("landmark_error", "Landmark error in face heights", "number"),
    ),
    "recogniser": (
        ("true_accepts", "True accepts at 1 % false accepts, random people", "share"),
        ("true_accepts_look_alikes", "True accepts at 1 % false accepts, look-alikes", "share"),
        ("threshold", "Cosine at that threshold, random people", "number"),
        ("same_person", "Median cosine of one person", "number"),
    ),
    "codec": (
        ("psnr", "PSNR of unseen renders, dB", "decibel"),
        ("one_face", "Reconstructions with exactly one face", "share"),
        ("one_face_confident", "... of confidence 0.85 or more", "share"),
        ("same_person", "Median cosine of face and reconstructed face", "number"),
    ),
    "generation": (
        ("pictures", "Images from fresh prompts", "count"),
        ("one_face", "Exactly one face (own detector)", "share"),
        ("one_face_confident", "... of confidence 0.85 or more", "share"),
        ("foreign_one_face", "Exactly one face (MTCNN)", "share"),
    ),
}
_TITLES = {
    "detector": "Face detector",
    "recogniser": "Face recogniser",
    "clip": "open_clip model",
    "codec": "VAE",
    "generation": "Text to image",
}


def measure_all(
    weights: Path, *, generated: int = 304, progress: Progress = silent
) -> dict[str, dict[str, Any]]:
    """Measure every model of a weights folder that is there.

    Args:
        weights: Folder with ``faces``, ``clip`` and ``diffusion``.
        generated: Images to generate; 0 leaves that part out.
        progress: Told of every part.

    Returns:
        Figures by part: detector, recogniser, clip, codec, generation.
    """
    from .clip import zero_shot_accuracy
    from .diffusion import measure_codec, measure_generation
    from .faces import measure_detector, measure_recogniser

    faces, clip, diffusion = (weights / name for name in ("faces", "clip", "diffusion"))
    figures: dict[str, dict[str, Any]] = {}
    progress.start("measure the miniature", 5)
    if faces.is_dir():
        progress.advance(0, "detector")
        figures["detector"] = asdict(measure_detector(faces))
        progress.advance(1, "recogniser")
        figures["recogniser"] = asdict(measure_recogniser(faces))
        progress.advance(1, "open_clip model")
    if clip.is_dir():
        figures["clip"] = zero_shot_accuracy(clip)
        progress.advance(1, "VAE")
    if diffusion.is_dir() and faces.is_dir():
        figures["codec"] = asdict(measure_codec(diffusion, faces))
        progress.advance(1, "generated images")
        if generated and clip.is_dir():
            quality = measure_generation(diffusion, faces, clip, count=generated)
            figures["generation"] = asdict(quality)
            progress.advance()
    progress.finish()
    return figures


def markdown_table(figures: Mapping[str, Mapping[str, Any]]) -> str:
    """Write the figures of ``measure_all`` as Markdown tables, one for each model.

    Args:
        figures: By part.

    Returns:
        Markdown, ending with a line feed.
    """
    blocks = []
    for part in _TITLES:
        if part not in figures:
            continue
        rows = [
            (label, _formatted(figures[part].get(key), kind))
            for key, label, kind in _LABELS.get(part, ())
        ]
        rows += [
            (f"Zero-shot accuracy: {name.replace('_', ' ')}", _formatted(value, "share"))
            for name, value in (figures[part].items() if part == "clip" else ())
        ]
        rows += [
            (f"As prompted: {name.replace('_', ' ')}", _formatted(value, "share"))
            for name, value in figures[part].get("as_prompted", {}).items()
        ]
        lines = [f"| {_TITLES[part]} | measured |", "|--|--|"]
        blocks.append("\n".join([*lines, *(f"| {label} | {value} |" for label, value in rows)]))
    return "\n\n".join(blocks) + "\n"


def _formatted(value: float | None, kind: str) -> str:
    if value is None:
        return "not measured"
    if kind == "share":
        return f"{100 * value:.1f} %"
    return {"count": f"{value:.0f}", "decibel": f"{value:.1f}"}.get(kind, f"{value:.3f}")
