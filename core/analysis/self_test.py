"""How good a face pack is on somebody's own photographs, and what its numbers mean there."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..counts import how_many
from ..defaults import MINIMUM_QUALITY
from ..imageset import ImageSet
from ..progress import Progress, silent
from .calibration import Calibration, CalibrationError, curve_of
from .decoding import Pixels, UnreadableImageError, read_image
from .degradations import FAULTS, HARMLESS
from .face_analyser import FaceAnalyser
from .face_looks import face_looks
from .face_quality import face_quality
from .face_validation import FaceThresholds
from .faces import Faces
from .identities import References
from .pixels import PixelMeasurement

FALSE_ACCEPTS = 0.001
"""Share of pairs of two people that the pack's own threshold may take for one."""
SET = 3
"""References that are taken together, where a person has more images than these."""
_SETS = 5
"""Such sets of each person; the others are compared with all of them."""
_LEAST_PAIRS = 200


@dataclass
class SelfTest:
    """What came of a test; shares are in [0, 1].

    Attributes:
        pack: The pack.
        images: How many images were looked at.
        faces: How many of them have no, one, and several faces.
        seconds: Mean time of detection an image, on this machine as it was.
        scores: The detector's scores where there is one face, in rising order.
        accepted: Share of the one-face images that pass the default thresholds.
        accepted_sharp: The same among those whose quality is enough.
        spoilt: By fault, share of spoilt copies of accepted images that fail.
        harmless: By change, share of changed copies of accepted images that pass.
        people: How many people there are, each a folder with two one-face images or more.
        same: Similarities of pairs of one person.
        different: Similarities of pairs of two people.
        same_as_set: Similarities of images to :data:`SET` references of the same person.
        different_from_set: Similarities of images to so many references of another.
        pack_threshold: Least similarity of the pack's calibration, which ``--reference`` takes.
    """

    pack: str
    images: int = 0
    faces: dict[str, int] = field(default_factory=lambda: {"none": 0, "one": 0, "several": 0})
    seconds: float = 0.0
    scores: list[float] = field(default_factory=list)
    accepted: float = 0.0
    accepted_sharp: float = 0.0
    spoilt: dict[str, float] = field(default_factory=dict)
    harmless: dict[str, float] = field(default_factory=dict)
    people: int = 0
    same: list[float] = field(default_factory=list)
    different: list[float] = field(default_factory=list)
    same_as_set: list[float] = field(default_factory=list)
    different_from_set: list[float] = field(default_factory=list)
    pack_threshold: float | None = None

    def threshold(self) -> float | None:
        """Return the least similarity that lets :data:`FALSE_ACCEPTS` of the strangers pass.

        ``None`` where there are too few pairs to tell.
        """
        if len(self.different) < _LEAST_PAIRS or not self.same:
            return None
        return round(float(np.quantile(self.different, 1 - FALSE_ACCEPTS)) + 0.005, 2)

    def rates(self, least: float, *, sets: bool = False) -> tuple[float, float]:
        """Return the shares of pairs of one person, and of two, that are at least so similar.

        Args:
            least: The similarity.
            sets: Whether images are compared with :data:`SET` references at a time; there may be
                nobody with so many images, and the shares are then not numbers.
        """
        pairs = (self.same_as_set, self.different_from_set) if sets else (self.same, self.different)
        own, others = (float(np.mean(np.asarray(p) >= least)) if p else np.nan for p in pairs)
        return own, others

    def calibration(self, threshold: float) -> Calibration:
        """Return what the pack's numbers mean, as measured here.

        Args:
            threshold: Least score that the detector calls a face.

        Raises:
            CalibrationError: There are too few faces.
        """
        source = (
            f"{how_many(len(self.scores), 'photograph')} of one face, "
            f"{how_many(self.people, 'person')}"
        )
        return Calibration(curve_of(self.scores, threshold), self.threshold(), source=source)

    def to_mapping(self) -> dict[str, Any]:
        """Return the figures for JSON; of the pairs their number and rates."""
        values = asdict(self)
        for name in ("same", "different", "same_as_set", "different_from_set"):
            values[name] = len(values[name])
        values["scores"] = [round(score, 4) for score in self.scores]
        values["identity_threshold"] = self.threshold()
        return values


def self_test(
    analyser: FaceAnalyser,
    folder: Path | str,
    *,
    limit: int = 200,
    spoil: int = 60,
    progress: Progress = silent,
) -> SelfTest:
    """Try a pack on a folder of photographs.

    Args:
        analyser: The pack.
        folder: Images of one person each; folders in it stand for people, all others for nobody.
        limit: At most so many images are looked at, spread evenly over the folder.
        spoil: Of so many accepted images at most spoilt copies are made.
        progress: Watches.

    Raises:
        EmptyFolderError: There is no image.
        FacePackError: The pack is missing.
        CalibrationError: No image shows exactly one face.
    """
    listed = ImageSet.from_folder(folder).accepted
    rows = np.unique(np.linspace(0, len(listed) - 1, min(limit, len(listed))).round().astype(int))
    limits = FaceThresholds().of_pack(analyser, references=False)
    known = analyser.calibration
    result = SelfTest(str(analyser.pack), pack_threshold=known.identity)
    good: list[tuple[Pixels, float]] = []
    accepted, sharp, identities, owners = 0, 0, [], []
    paths = [listed.paths()[i] for i in rows]
    progress.start(f"Trying {analyser.pack}", len(paths))
    began = 0.0
    for path, name in zip(paths, (listed.table["path"][int(i)] for i in rows), strict=True):
        progress.advance()
        try:
            image = read_image(path)
        except UnreadableImageError:
            continue
        started = time.perf_counter()
        faces = analyser.detect(image)
        began += time.perf_counter() - started
        result.images += 1
        result.faces[("none", "one")[len(faces)] if len(faces) < 2 else "several"] += 1
        if len(faces) != 1:
            continue
        result.scores.append(float(faces.scores[0]))
        enough = _quality(image, faces) >= MINIMUM_QUALITY
        passes = enough and limits.admits(PixelMeasurement.of(image), faces)
        sharp, accepted = sharp + enough, accepted + passes
        if passes and len(good) < spoil:
            good.append((image, faces.sides()[0]))
        if "/" in name and analyser.has_recogniser:
            identities.append(
                analyser.identify([analyser.crop(image, faces.landmarks[0], faces.boxes[0])])[0]
            )
            owners.append(name.split("/")[0])
    progress.finish()
    if not result.scores:
        raise CalibrationError(
            f"No image in {folder} shows exactly one face to {analyser.pack}. Name a folder with "
            "photographs of one person each."
        )
    result.scores.sort()
    result.seconds = began / max(1, result.images)
    result.accepted = accepted / len(result.scores)
    result.accepted_sharp = accepted / max(1, sharp)
    result.spoilt = {
        name: 1 - share
        for name, share in _passing(analyser, limits, good, FAULTS, progress).items()
    }
    result.harmless = _passing(analyser, limits, good, HARMLESS, progress)
    _compare(result, identities, owners, single=known.photographs)
    return result


def _quality(image: Pixels, faces: Faces) -> float:
    return float(np.nan_to_num(face_quality(face_looks(image, faces.boxes[:1]))[0]))


def _passing(
    analyser: FaceAnalyser,
    limits: FaceThresholds,
    good: Sequence[tuple[Pixels, float]],
    changes: Mapping[str, Any],
    progress: Progress,
) -> dict[str, float]:
    """Return by change the share of changed images that pass the default thresholds."""
    progress.start("Changing images", len(good) * len(changes))
    passing = {}
    for name, change in changes.items():
        count = 0
        for image, width in good:
            changed = change(image, width)
            faces = analyser.detect(changed)
            count += (
                len(faces) == 1
                and limits.admits(PixelMeasurement.of(changed), faces)
                and _quality(changed, faces) >= MINIMUM_QUALITY
            )
            progress.advance()
        passing[name] = count / max(1, len(good))
    progress.finish()
    return passing


def _compare(
    result: SelfTest,
    identities: Sequence[NDArray[np.float32]],
    owners: Sequence[str],
    *,
    single: bool,
) -> None:
    """Note the similarities of one person and of two: of every two faces, and of faces to sets."""
    counts = {owner: owners.count(owner) for owner in set(owners)}
    kept = [i for i, owner in enumerate(owners) if counts[owner] > 1]
    result.people = sum(count > 1 for count in counts.values())
    if not kept:
        return
    vectors, names = np.stack([identities[i] for i in kept]), np.array([owners[i] for i in kept])
    first, second = np.triu_indices(len(kept), 1)
    similarity = np.einsum("nd,nd->n", vectors[first], vectors[second])
    alike = names[first] == names[second]
    result.same = similarity[alike].tolist()
    result.different = similarity[~alike].tolist()
    rng = np.random.default_rng(0)
    for name in sorted(set(names)):
        own = np.flatnonzero(names == name)
        if len(own) <= SET:
            continue
        for _ in range(_SETS):
            chosen = rng.choice(own, SET, replace=False)
            near = References.of(vectors[chosen], single=single).similarity(vectors)
            result.same_as_set += near[np.setdiff1d(own, chosen)].tolist()
            result.different_from_set += near[names != name].tolist()
