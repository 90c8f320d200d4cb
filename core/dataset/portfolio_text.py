"""The portfolio in words: composition, seeds, diversity, and sample entries, for the card."""

from __future__ import annotations

import html
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from ..counts import how_many
from ..imageset import unpack_vector
from ..reading.disturbances import DISTURBED
from ..report.thumbnails import thumbnails
from .records import Record
from .trigger_words import is_named

SAMPLES = 5
"""So many images of a dataset have an entry of their own in its card."""
DARK_BELOW, BRIGHT_ABOVE = 35.0, 65.0
"""Mean CIE L* (0 to 100) of an image that is called dark, or bright."""
COOL_BELOW, WARM_ABOVE = -5.0, 25.0
"""Mean CIE b* (blue to yellow) of an image whose tones are called cool, or warm. Skin alone gives
about 15."""

_KINDS = {
    "original": "Original reference images",
    "scenario": "Scenario variations",
    "real": "Photographs and other collected images",
    DISTURBED: "Disturbed copies",
}
_LIGHT_WORDS = ("light", "lit", "golden hour", "sunset", "sunrise", "backlit", "shadow", "neon")
_MOST_FRAGMENTS = 8


def composition_text(records: Sequence[Record], least_quality: float | None = None) -> str:
    """Say what a dataset is made of: kinds and their categories, with counts and shares.

    Args:
        records: The exported images.
        least_quality: The threshold that they have passed, if one is known.
    """
    total = len(records)
    lines = []
    for kind, members in _grouped(records, "type"):
        lines.append(f"- {_KINDS.get(kind, kind or 'Others')}: {_share(len(members), total)}")
        parts = Counter(str(r.values.get("category") or "") for r in members)
        if set(parts) - {"", kind}:
            lines += [
                f"  - {_text(part or 'without a category')}: {how_many(count, 'image')}"
                for part, count in sorted(parts.items())
            ]
    scores = _values([r for r in records if r.values.get("type") != DISTURBED], "quality_score")
    if scores:
        passed = "" if least_quality is None else f", and the threshold is {least_quality:.2f}"
        apart = " (disturbed copies, which are so on purpose, left aside)"
        known = any(r.values.get("type") == DISTURBED for r in records)
        lines.append(
            f"- The least quality score is {min(scores):.2f}{passed}{apart if known else ''}"
        )
    return "\n".join(lines) + "\n"


def seeds_text(records: Sequence[Record]) -> str:
    """Say how the images are spread over their seeds; nothing where they have none."""
    seeds = Counter(_values(records, "seed"))
    if not seeds:
        return ""
    lines = [
        f"- {how_many(len(seeds), 'different seed')}",
        f"- {_span(seeds.values())} per seed",
    ]
    recorded = sum("noise_seed" in r.values for r in records)
    if recorded:
        lines.append(
            f"- {how_many(recorded, 'image')} can be made again from the noise seed, prompt and "
            "settings that they carry"
        )
    if missing := len(records) - seeds.total():
        lines.append(f"- {how_many(missing, 'image')} without a seed")
    return "## Seed distribution\n\n" + "\n".join(lines) + "\n"


def diversity_text(
    records: Sequence[Record], chosen: pl.DataFrame, tones: Mapping[str, str], same: float | None
) -> str:
    """Say how different the images are: clusters, views, light, and the two that are most alike.

    Args:
        records: The exported images.
        chosen: Their rows of the table.
        tones: What the light of each image was measured to be, by its name in the dataset.
        same: Cosine from which on two images count as one, if it is known.
    """
    lines = []
    if clusters := Counter(_values(records, "cluster")):
        lines.append(
            f"- {how_many(len(clusters), 'CLIP cluster')}, {_span(clusters.values())} each"
        )
    for key, what in (("pose", "Angles"), ("framing", "Framings")):
        if counted := Counter(_values(records, key)):
            lines.append(f"- {what}: {_counted(counted)}")
    prompted = Counter(light for r in records if (light := _prompted_light(r)))
    if prompted:
        lines.append(f"- Light, as prompted: {_counted(prompted)}")
    if tones:
        lines.append(f"- Light, as measured: {_counted(Counter(tones.values()))}")
    if (nearest := _nearest(chosen)) is not None:
        line = f"- The two images that are most alike have a similarity of {nearest:.3f}"
        lines.append(line + ("" if same is None else f"; from {same:g} on two count as one"))
    return "## Semantic diversity\n\n" + "\n".join(lines) + "\n" if lines else ""


def samples_text(records: Sequence[Record], trigger: str, tones: Mapping[str, str]) -> str:
    """Describe a few images: the best reference image, then the best of different clusters.

    Args:
        records: The exported images.
        trigger: The trigger word, or words: what names them is no characteristic.
        tones: What the light of each image was measured to be, by its name in the dataset.
    """
    entries = [_entry(r, trigger, tones.get(r.file_name, "")) for r in samples_of(records)]
    return "## Samples\n\n" + "\n".join(entries) if entries else ""


def samples_of(records: Sequence[Record], count: int = SAMPLES) -> list[Record]:
    """Return the best original, then the best of other clusters and scenarios each, best first."""
    best = sorted(records, key=lambda r: (-(r.values.get("quality_score") or 0.0), r.file_name))
    originals = [r for r in best if r.values.get("type") == "original"]
    others = [r for r in best if r.values.get("type") != "original"]
    taken: list[Record] = originals[:1]
    for keys in (("cluster", "scenario_name"), ("cluster",), ()):
        for one in others:
            shown = [{r.values.get(key) for r in taken[len(originals[:1]) :]} for key in keys]
            new = all(
                one.values.get(key) not in values for key, values in zip(keys, shown, strict=True)
            )
            if new and one not in taken:
                taken.append(one)
    return (taken + originals[1:])[:count]


def tones_of(folder: Path, records: Sequence[Record]) -> dict[str, str]:
    """Measure the light of exported images; one that can't be opened has none."""
    names = [r.file_name for r in records]
    small = thumbnails([folder / name for name in names])
    return {
        name: tone_of(np.asarray(image))
        for name, image in zip(names, small, strict=True)
        if image is not None
    }


def tone_of(pixels: np.ndarray) -> str:
    """Say how bright an image is, and whether its tones are warm or cool: by mean CIE L* and b*.

    Args:
        pixels: RGB, uint8, shape ``(height, width, 3)``.
    """
    import cv2

    lab = cv2.cvtColor(pixels.astype(np.float32) / 255, cv2.COLOR_RGB2Lab)
    light, _, yellow = (float(value) for value in lab.reshape(-1, 3).mean(axis=0))
    bright = "dark" if light < DARK_BELOW else "bright" if light > BRIGHT_ABOVE else "medium bright"
    tone = "cool" if yellow < COOL_BELOW else "warm" if yellow > WARM_ABOVE else "neutral"
    return f"{bright} with {tone} tones"


def characteristics(one: Record, trigger: str, tone: str = "") -> str:
    """Say what an image shows: what was prompted or captioned, then what was measured.

    Args:
        one: The image.
        trigger: The trigger word, or words; a part of the caption that names it is left out.
        tone: What its light was measured to be.
    """
    known = dict.fromkeys((trigger, str(one.values.get("subject") or "")))
    names = ", ".join(name for name in known if name)
    parts = [part for part in _parts(one.caption) if not is_named(part, names)]
    said = parts[:_MOST_FRAGMENTS] + ["…"] * (len(parts) > _MOST_FRAGMENTS)
    measured = [str(one.values[key]) for key in ("pose", "framing") if one.values.get(key)]
    measured += [tone] if tone else []
    words = "; measured: ".join(filter(None, (", ".join(said), ", ".join(measured))))
    return words if said else words and f"measured: {words}"


def use_case(one: Record) -> str:
    """Say what an image is good for in training, by its kind, category, pose and framing."""
    values = one.values
    if values.get("type") == "original":
        return "reference for consistency checks"
    if values.get("type") == DISTURBED:
        return f"robustness against {values['disturbance']['kind']}"
    parts = [f"{values['category']} variation"] if values.get("category") else []
    if values.get("pose") == "profile":
        parts.append("the character from the side")
    if str(values.get("framing") or "").replace("-", " ") in ("half body", "full body"):
        parts.append("the character in its surroundings")
    if not parts:
        parts.append("photograph of the subject" if values.get("type") == "real" else "variation")
    return ", ".join(parts)


def _entry(one: Record, trigger: str, tone: str) -> str:
    values = one.values
    cluster = values.get("cluster")
    named = f"{cluster} ({values['cluster_name']})" if values.get("cluster_name") else cluster
    score = values.get("quality_score")
    rows = {
        "Quality score": None if score is None else f"{score:.2f}",
        "Cluster": named,
        "Seed": values.get("seed"),
        "Type": values.get("type"),
        "Characteristics": characteristics(one, trigger, tone),
        "Use case": use_case(one),
    }
    told = [f"- {key}: {_text(value)}" for key, value in rows.items() if value not in (None, "")]
    title = values.get("scenario_name") or one.file_name
    link = one.file_name.replace(" ", "%20").replace("(", "%28").replace(")", "%29")
    return f"### {_text(title)}\n\n![{_text(one.file_name)}]({link})\n\n" + "\n".join(told) + "\n"


def _grouped(records: Sequence[Record], key: str) -> list[tuple[str, list[Record]]]:
    groups: dict[str, list[Record]] = {}
    for one in records:
        groups.setdefault(str(one.values.get(key) or ""), []).append(one)
    return sorted(groups.items())


def _values(records: Iterable[Record], key: str) -> list[Any]:
    return [r.values[key] for r in records if r.values.get(key) is not None]


def _prompted_light(one: Record) -> str:
    """Return the part of a prompt (or of a caption, without one) that says how it is lit."""
    parts = _parts(str(one.values.get("prompt") or one.caption))
    return next((p for p in parts if any(word in p.casefold() for word in _LIGHT_WORDS)), "")


def _nearest(chosen: pl.DataFrame) -> float | None:
    """Return the greatest similarity of two images' embeddings."""
    if "embedding" not in chosen.columns:
        return None
    vectors = chosen["embedding"].drop_nulls().to_list()
    if len(vectors) < 2:
        return None
    rows = np.stack([unpack_vector(v) for v in vectors])
    rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    best = -1.0
    for start in range(0, len(rows), 1024):  # a block at a time: no table of all pairs
        alike = rows[start : start + 1024] @ rows.T
        alike[np.arange(len(alike)), np.arange(start, start + len(alike))] = -1.0
        best = max(best, float(alike.max()))
    return min(best, 1.0)


def _parts(text: str) -> list[str]:
    return [part for part in (" ".join(p.split()) for p in text.split(",")) if part]


def _counted(counted: Counter[str]) -> str:
    return ", ".join(f"{_text(value)} {count}" for value, count in sorted(counted.items()))


def _span(counts: Iterable[int]) -> str:
    low, high = min(counts), max(counts)
    return how_many(low, "image") if low == high else f"{low:,} to {how_many(high, 'image')}"


def _share(count: int, total: int) -> str:
    return f"{count} ({count / total:.0%})"


def _text(value: object) -> str:
    return html.escape(" ".join(str(value).split()), quote=False).replace("[", "\\[")
