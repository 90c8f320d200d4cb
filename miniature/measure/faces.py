"""Quality of the face pack, measured on people it has not seen, through insightface itself."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..data.augment import ruin_face
from ..data.faces import DrawnSet, draw_others, draw_people

UNSEEN_SEED = 424_242
"""Seed of everything that is measured on; no training run uses it."""


def load_pack(pack: Path, det_size: tuple[int, int] = (128, 128)) -> Any:
    """Load a face pack as any insightface pack is loaded.

    Args:
        pack: Folder with the ONNX files.
        det_size: Width and height at which faces are looked for.

    Returns:
        An ``insightface.app.FaceAnalysis`` on the CPU, reporting faces from a score of 0.5 on.
    """
    from insightface.app import FaceAnalysis

    analysis = FaceAnalysis(
        name=str(pack),
        allowed_modules=["detection", "recognition"],
        providers=["CPUExecutionProvider"],
    )
    analysis.prepare(ctx_id=-1, det_thresh=0.5, det_size=det_size)
    return analysis


def find_faces(analysis: Any, image: NDArray[np.uint8]) -> list[Any]:
    """Find the faces of an RGB image."""
    return analysis.get(np.ascontiguousarray(image[..., ::-1]))


def overlap(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    """Return the intersection over union of two boxes (4,)."""
    low, high = np.maximum(a[:2], b[:2]), np.minimum(a[2:], b[2:])
    shared = float(np.prod(np.maximum(high - low, 0)))
    both = float(np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2]))
    return shared / max(both - shared, 1e-6)


@dataclass(frozen=True)
class DetectorQuality:
    """What the detector finds on unseen renders; shares are from 0 to 1."""

    recall: float
    """Drawn faces that a found face overlaps by half."""
    precision: float
    """Found faces that overlap a drawn one by half."""
    one_face: float
    """Portraits in which exactly one face is found."""
    empty_clean: float
    """Empty places in which none is found."""
    confidence_05: float
    """Confidence that 95 % of the faces found in portraits exceed."""
    confidence_50: float
    """Median confidence of the faces found in portraits."""
    ruined_above_85: float
    """Faces that were spoilt beyond recognition and still score 0.85."""
    landmark_error: float
    """Mean distance of landmarks in portraits, in heights of the face."""


def match_faces(faces: list[Any], boxes: NDArray[np.float32]) -> tuple[int, list[tuple[Any, int]]]:
    """Pair found faces with drawn ones, the most certain first.

    Args:
        faces: As insightface returns them.
        boxes: (n, 4) drawn.

    Returns:
        How many drawn faces were found, and the pairs.
    """
    free = set(range(len(boxes)))
    pairs = []
    for face in sorted(faces, key=lambda found: -float(found.det_score)):
        best = max(free, key=lambda k: overlap(face.bbox, boxes[k]), default=None)
        if best is not None and overlap(face.bbox, boxes[best]) >= 0.5:
            free.discard(best)
            pairs.append((face, best))
    return len(pairs), pairs


def measure_detector(
    pack: Path,
    *,
    portraits: int = 300,
    others: int = 150,
    det_size: tuple[int, int] = (128, 128),
    seed: int = UNSEEN_SEED,
) -> DetectorQuality:
    """Measure the detector of a pack.

    Args:
        pack: Folder with the ONNX files.
        portraits: How many portraits, all of different people.
        others: How many groups and empty places.
        det_size: Width and height at which faces are looked for.
        seed: Of the images.

    Returns:
        The figures.
    """
    analysis = load_pack(pack, det_size)
    analysis.models.pop("recognition", None)
    drawn = draw_people(seed, 0, portraits, scenes=1)
    rest = draw_others(seed, 0, others)
    found_faces = drawn_faces = right = one = 0
    confidences: list[float] = []
    errors: list[float] = []
    empty: list[bool] = []
    for part in (drawn, rest):
        for i in range(len(part)):
            count = int(part.face_counts[i])
            boxes = part.boxes[i, :count]
            faces = find_faces(analysis, part.images[i])
            matched, pairs = match_faces(faces, boxes)
            found_faces += len(faces)
            drawn_faces += count
            right += matched
            if count == 0:
                empty.append(not faces)
            if count == 1:
                one += len(faces) == 1
                for face, _ in pairs:
                    confidences.append(float(face.det_score))
                    gap = np.linalg.norm(face.kps - part.landmarks[i, 0], axis=1).mean()
                    errors.append(float(gap / (boxes[0, 3] - boxes[0, 1])))
    return DetectorQuality(
        recall=right / drawn_faces,
        precision=right / max(found_faces, 1),
        one_face=one / portraits,
        empty_clean=float(np.mean(empty)),
        confidence_05=float(np.quantile(confidences, 0.05)),
        confidence_50=float(np.quantile(confidences, 0.5)),
        ruined_above_85=_ruined_above(analysis, drawn, 0.85),
        landmark_error=float(np.mean(errors)),
    )


def _ruined_above(analysis: Any, drawn: DrawnSet, threshold: float) -> float:
    rng = np.random.default_rng(UNSEEN_SEED)
    certain = []
    for image, boxes in zip(drawn.images[:150], drawn.boxes[:150], strict=True):
        spoilt, worth = ruin_face(image, boxes[0], rng)
        if worth < 0.2:
            faces = find_faces(analysis, spoilt)
            certain.append(any(float(face.det_score) >= threshold for face in faces))
    return float(np.mean(certain))


@dataclass(frozen=True)
class RecogniserQuality:
    """How well embeddings tell people apart, after real detection and alignment."""

    true_accepts: float
    """Pairs of images of one person that are accepted where 1 % of other pairs are."""
    threshold: float
    """The cosine at which that is so."""
    true_accepts_look_alikes: float
    """The same, against people of whom a caption would say exactly the same."""
    same_person: float
    """Median cosine of two images of one person."""
    found: float
    """Share of the portraits whose face was found."""


def measure_recogniser(
    pack: Path,
    *,
    people: int = 120,
    scenes: int = 4,
    det_size: tuple[int, int] = (128, 128),
    seed: int = UNSEEN_SEED + 1,
) -> RecogniserQuality:
    """Measure the recogniser of a pack on people sampled at random and on look-alikes.

    Args:
        pack: Folder with the ONNX files.
        people: How many; every third resembles the one before.
        scenes: Portraits of each.
        det_size: Width and height at which faces are looked for.
        seed: Of the images.

    Returns:
        The figures.
    """
    analysis = load_pack(pack, det_size)
    drawn = draw_people(seed, 0, people, scenes=scenes)
    vectors, owners = [], []
    for i in range(len(drawn)):
        matched, pairs = match_faces(find_faces(analysis, drawn.images[i]), drawn.boxes[i, :1])
        if matched:
            vectors.append(pairs[0][0].normed_embedding)
            owners.append(int(drawn.people[i]))
    matrix, names = np.stack(vectors), np.array(owners)
    first, second = np.triu_indices(len(names), 1)
    cosine = (matrix @ matrix.T)[first, second]
    a, b = names[first], names[second]
    same = a == b
    alike = (a % 3 == 1) & (b == a + 1)
    others = ~same & ~alike & (a % 3 != 2) & (b % 3 != 2)
    threshold = float(np.quantile(cosine[others], 0.99))
    strict = float(np.quantile(cosine[alike], 0.99))
    return RecogniserQuality(
        true_accepts=float((cosine[same] > threshold).mean()),
        threshold=threshold,
        true_accepts_look_alikes=float((cosine[same] > strict).mean()),
        same_person=float(np.median(cosine[same])),
        found=len(names) / len(drawn),
    )
