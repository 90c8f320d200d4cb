"""The miniature's face detector: small, trained on drawn portraits, written as SCRFD writes.

One fully convolutional network with a stride of 8 looks at the image at full, half and quarter
size; the three answers are the outputs of strides 8, 16 and 32 that insightface's SCRFD class
reads. Because the weights are the same at all sizes, what is learnt from faces of 18 to 128 pixels
holds for faces of up to 512 pixels.

The nine outputs, their two anchors per cell, and the distances in units of the stride follow
SCRFD (Guo et al., "Sample and Computation Redistribution for Efficient Face Detection", 2021).
"""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from character_curator.progress import Progress, silent

from ..data.augment import degrade, occlude_face, ruin_face
from ..data.faces import MAX_FACES, DrawnSet, batches
from .blocks import Chain, ConvUnit, Graph, ResidualBlock, emit_convolution
from .muon import Muon
from .session import Budget, Session, flushing_denormals

logger = logging.getLogger(__name__)

STRIDES = (8, 16, 32)
CANVAS = 128
"""Edge of the training images."""
_ANCHORS = ((18.0, 60.0), (42.0, 128.0))
"""Heights of the faces that each of the two anchors answers for, in pixels at stride 8."""
_HALF_SIZES = (2.0, 5.0)
"""Half the typical face of each anchor, in strides: the unit of its distances."""
_BORDER = 1.18
"""Factor around an anchor's range within which it may answer or not."""
_PER_ANCHOR = 1 + 4 + 10


class FaceNetwork(nn.Module):
    """The network at one size: what insightface reads, at stride 8."""

    def __init__(self, widths: tuple[int, int, int, int] = (16, 32, 56, 80)) -> None:
        """Make an untrained network.

        Args:
            widths: Channels at strides 2, 4, 8 and 16.
        """
        super().__init__()
        a, b, c, d = widths
        self.fine = Chain(
            ConvUnit(3, a, stride=2),
            ConvUnit(a, b, stride=2),
            ResidualBlock(b),
            ConvUnit(b, c, stride=2),
            ResidualBlock(c),
        )
        self.coarse = Chain(
            ConvUnit(c, d, stride=2),
            ResidualBlock(d),
            ResidualBlock(d, dilation=2),
            ConvUnit(d, c, kernel=1, relu=False),
        )
        self.joint = Chain(ConvUnit(c, c), ConvUnit(c, c))
        self.head = nn.Conv2d(c, len(_ANCHORS) * _PER_ANCHOR, 1)
        nn.init.normal_(self.head.weight, std=0.01)
        with torch.no_grad():
            assert self.head.bias is not None  # noqa: S101 - for the type checker
            self.head.bias.zero_()
            self.head.bias[: len(_ANCHORS)] = -4.6  # a hundredth of the cells see a face

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, 3, h, w) to (n, 30, h / 8, w / 8): 2 scores, 2 x 4 distances, 2 x 10 offsets.

        Scores are logits, distances are logarithms; ``decoded`` makes insightface's numbers of
        them.
        """
        fine = self.fine(x)
        coarse = F.interpolate(self.coarse(fine), size=fine.shape[-2:], mode="nearest")
        return self.head(self.joint(torch.relu(fine + coarse)))

    def emit(self, graph: Graph, value: str) -> str:
        """Add the network to an ONNX graph."""
        fine = self.fine.emit(graph, value)
        coarse = self.coarse.emit(graph, fine)
        four = [graph.constant(np.array(k, np.int64)) for k in ([0], [2], [4])]
        shape = graph.op(
            "Concat",
            graph.op("Slice", graph.op("Shape", coarse), four[0], four[1]),
            graph.op("Slice", graph.op("Shape", fine), four[1], four[2]),
            axis=0,
        )
        coarse = graph.op(
            "Resize",
            coarse,
            "",
            "",
            shape,
            mode="nearest",
            coordinate_transformation_mode="asymmetric",
            nearest_mode="floor",
        )
        joint = self.joint.emit(graph, graph.op("Relu", graph.op("Add", fine, coarse)))
        return emit_convolution(graph, joint, self.head)


def decoded(raw: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Turn the network's output into scores, distances and offsets.

    Args:
        raw: (n, 30, h, w).

    Returns:
        Logits (n, h * w * 2), distances to the box's sides (n, h * w * 2, 4) and offsets of the
        landmarks (n, h * w * 2, 10), in units of the stride.
    """
    n, _, h, w = raw.shape
    unit = raw.new_tensor(_HALF_SIZES)[:, None]
    cells = raw.permute(0, 2, 3, 1)
    scores = cells[..., :2].reshape(n, h * w * 2)
    sides = cells[..., 2:10].reshape(n, h * w, 2, 4).clamp(-4, 4).exp() * unit
    points = cells[..., 10:].reshape(n, h * w, 2, 10) * unit
    return scores, sides.reshape(n, -1, 4), points.reshape(n, -1, 10)


def export_detector(network: FaceNetwork, path: Path) -> None:
    """Write the detector as an ONNX file that insightface takes for an SCRFD.

    Args:
        network: In evaluation mode.
        path: The ``.onnx`` file.
    """
    graph = Graph()
    value = "input"
    outputs: dict[str, dict[int, str]] = {"score": {}, "bbox": {}, "kps": {}}
    for level, stride in enumerate(STRIDES):
        if level:
            value = graph.op("AveragePool", value, kernel_shape=[2, 2], strides=[2, 2])
        cells = graph.op("Transpose", network.emit(graph, value), perm=[0, 2, 3, 1])
        ends = [graph.constant(np.array([k], np.int64)) for k in (0, 2, 10, 30, 3)]
        unit = graph.constant(np.array(_HALF_SIZES, np.float32).reshape(1, 2, 1))
        low = graph.constant(np.array(-4.0, np.float32))
        high = graph.constant(np.array(4.0, np.float32))

        def part(k: int, width: int, cells: str = cells, ends: list[str] = ends) -> str:
            piece = graph.op("Slice", cells, ends[k], ends[k + 1], ends[4])
            return graph.op("Reshape", piece, graph.constant(np.array([-1, 2, width], np.int64)))

        flat = {w: graph.constant(np.array([-1, w], np.int64)) for w in (1, 4, 10)}
        scores = graph.op("Sigmoid", part(0, 1))
        sides = graph.op("Mul", graph.op("Exp", graph.op("Clip", part(1, 4), low, high)), unit)
        points = graph.op("Mul", part(2, 10), unit)
        for name, piece, width in (("score", scores, 1), ("bbox", sides, 4), ("kps", points, 10)):
            outputs[name][stride] = graph.op(
                "Reshape", piece, flat[width], output=f"{name}_{stride}"
            )
    graph.save(
        path,
        [1, 3, "height", "width"],
        {
            name: [f"cells_{stride}", {"score": 1, "bbox": 4, "kps": 10}[kind]]
            for kind, by_stride in outputs.items()
            for stride, name in by_stride.items()
        },
        "Face detector of the miniature; read by insightface's SCRFD class. Edges of the input "
        "are multiples of 32; colours are RGB, (value - 127.5) / 128.",
    )


def view(
    drawn: DrawnSet, index: int, cover: int, rng: np.random.Generator
) -> tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """Make one training image: spoil, turn, scale and move a drawn one.

    Args:
        drawn: Where it comes from.
        index: Which.
        cover: Another image, for occlusions and for what lies around a small image.
        rng: Source of randomness.

    Returns:
        Image (CANVAS, CANVAS, 3), boxes (MAX_FACES, 4), landmarks (MAX_FACES, 5, 2), and how
        much of a face each is (MAX_FACES,): 1 for a whole one, -1 for one that is not to be judged,
        and not a number where there is none.
    """
    import cv2

    image = drawn.images[index]
    n = int(drawn.face_counts[index])
    boxes, points = drawn.boxes[index].copy(), drawn.landmarks[index].copy()
    worth = np.full(MAX_FACES, np.nan, np.float32)
    worth[:n] = 1
    for k in range(n):
        chance = rng.random()
        if chance < 0.16:
            image, worth[k] = ruin_face(image, boxes[k], rng)
        elif chance < 0.22:
            image, worth[k] = occlude_face(image, boxes[k], drawn.images[cover], rng)
    edge = image.shape[0]
    scale, middle, target, angle = _placement(boxes[:n], edge, rng)
    mirror = -1.0 if rng.random() < 0.5 else 1.0
    c, s = np.cos(np.radians(angle)) * scale, np.sin(np.radians(angle)) * scale
    turn = np.array([[c * mirror, -s], [s * mirror, c]])
    matrix = np.column_stack([turn, target - turn @ middle])
    if scale < 0.7:
        image = cv2.GaussianBlur(image, (0, 0), 0.35 / scale)
    canvas = (
        cv2.resize(drawn.images[cover], (CANVAS, CANVAS))
        if drawn.face_counts[cover] == 0
        else np.zeros((CANVAS, CANVAS, 3), np.uint8)
    )
    canvas = cv2.warpAffine(
        image, matrix, (CANVAS, CANVAS), dst=canvas, borderMode=cv2.BORDER_TRANSPARENT
    )
    canvas = degrade(canvas, rng)

    for k in range(n):
        centre = turn @ ((boxes[k, :2] + boxes[k, 2:]) / 2) + matrix[:, 2]
        half = (boxes[k, 2:] - boxes[k, :2]) / 2 * scale
        whole = np.concatenate([centre - half, centre + half])
        seen = np.clip(whole, 0, CANVAS)
        visible = np.prod(np.maximum(seen[2:] - seen[:2], 0)) / np.prod(2 * half)
        boxes[k] = seen
        points[k] = points[k] @ turn.T + matrix[:, 2]
        if mirror < 0:
            points[k] = points[k][[1, 0, 2, 4, 3]]
        if visible < 0.25:
            worth[k] = np.nan
        elif visible < 0.75:
            worth[k] = -1
    return canvas, boxes, points, worth


def _placement(
    boxes: NDArray[np.float32], edge: int, rng: np.random.Generator
) -> tuple[float, NDArray[np.float64], NDArray[np.float64], float]:
    """Choose scale, the point to look at, where it goes, and a rotation in degrees."""
    centre = np.full(2, edge / 2)
    chance = rng.random()
    if chance < 0.2:  # as it comes: the whole image in the canvas
        scale = CANVAS / edge
        return scale, centre, centre * scale, 0.0
    angle = float(rng.uniform(-12, 12))
    if chance < 0.45:  # from very near: parts of a face are no faces
        scale = float(np.exp(rng.uniform(np.log(1.6), np.log(6)))) * CANVAS / edge
        at: NDArray[np.float64] = rng.uniform(0.2, 0.8, 2) * edge
        if len(boxes) and rng.random() < 0.8:
            k = int(rng.integers(len(boxes)))
            corner, far = boxes[k, :2].astype(float), boxes[k, 2:].astype(float)
            at = corner + rng.uniform(0, 1, 2) * (far - corner)
        return scale, at, np.full(2, CANVAS / 2), angle
    if len(boxes):
        k = int(rng.integers(len(boxes)))
        height = float(np.exp(rng.uniform(np.log(15), np.log(150))))
        scale = float(np.clip(height / (boxes[k, 3] - boxes[k, 1]), 0.2, 4))
        centre = (boxes[k, :2] + boxes[k, 2:]) / 2
    else:
        scale = float(rng.uniform(0.5, 1.5)) * CANVAS / edge
    slack = min(abs(CANVAS - edge * scale) / 2 + 8, 40)
    return scale, centre, CANVAS / 2 + rng.uniform(-1, 1, 2) * slack, angle


def targets(
    boxes: Tensor, worth: Tensor, grid: tuple[int, int], stride: int = 8
) -> tuple[Tensor, Tensor, Tensor]:
    """Say which cells answer for which face.

    Args:
        boxes: (n, MAX_FACES, 4) in pixels.
        worth: (n, MAX_FACES) as ``view`` returns it.
        grid: Rows and columns of cells.
        stride: Pixels between cells; a cell's point is its corner, as in insightface.

    Returns:
        Wanted scores (n, cells * 2) in 0 to 1, their weights (n, cells * 2), and for every cell
        and anchor the number of the face whose box it should give, or -1 (n, cells * 2). At the
        border of an anchor's range the score is not judged, but the box is: a cell that does
        answer there must not draw a second box.
    """
    rows, columns = grid
    ys, xs = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    points = torch.stack([xs, ys], -1).reshape(1, -1, 1, 2) * float(stride)
    centre = ((boxes[..., :2] + boxes[..., 2:]) / 2)[:, None]
    size = (boxes[..., 2:] - boxes[..., :2])[:, None]
    offset = (points - centre).abs()
    inner = (offset <= torch.clamp(0.2 * size, min=stride / 2)).all(-1)[:, :, None]
    outer = (offset <= torch.clamp(0.36 * size, min=stride)).all(-1)[:, :, None]
    height = size[:, :, None, :, 1]
    low = torch.tensor([a for a, _ in _ANCHORS]).view(1, 1, -1, 1)
    high = torch.tensor([b for _, b in _ANCHORS]).view(1, 1, -1, 1)
    own = (height >= low) & (height <= high)
    near = (height >= low / _BORDER) & (height <= high * _BORDER)
    there = ~torch.isnan(worth)[:, None, None]
    judged = (worth >= 0)[:, None, None]
    answers = inner & own & judged & there
    undecided = outer & near & there & ~answers
    number = torch.arange(MAX_FACES).view(1, 1, 1, -1)
    n = len(boxes)
    face = torch.where(inner & near & judged & there, number, -1).amax(-1).reshape(n, -1)
    sure = answers.any(-1).reshape(n, -1)
    wanted = torch.gather(worth.nan_to_num(0), 1, face.clamp(min=0)) * sure
    weight = (sure | ~undecided.any(-1).reshape(n, -1)).float()
    return wanted, weight, face


def detection_loss(raw: Tensor, boxes: Tensor, points: Tensor, worth: Tensor) -> Tensor:
    """Compare the network's answer with the truth.

    Scores by binary cross-entropy, so that they are probabilities; boxes by their overlap
    (generalised IoU) and landmarks by their distance in face sizes.
    """
    rows, columns = raw.shape[-2:]
    logits, sides, offsets = decoded(raw)
    wanted, weight, face = targets(boxes, worth, (rows, columns))
    whole = torch.gather(worth.nan_to_num(0), 1, face.clamp(min=0)) > 0.15
    positive = (face >= 0) & whole
    count = (wanted > 0.15).sum().clamp(min=1)
    entropy = F.binary_cross_entropy_with_logits(logits, wanted, reduction="none")
    score_loss = (entropy * weight).sum() / count
    at, cell = positive.nonzero(as_tuple=True)
    if not len(at):
        return score_loss
    grid = torch.div(cell, 2, rounding_mode="floor")
    corner = torch.stack([grid % columns, torch.div(grid, columns, rounding_mode="floor")], -1)
    corner = corner.float() * 8
    truth = boxes[at, face[at, cell]]
    distances = sides[at, cell] * 8
    found = torch.cat([corner - distances[:, :2], corner + distances[:, 2:]], -1)
    extent = (truth[:, 2:] - truth[:, :2]).clamp(min=4)
    overlap_loss = _generalised_iou_loss(found, truth).mean()
    side_loss = ((found - truth).abs().view(-1, 2, 2) / extent[:, None]).mean()
    marks = corner[:, None] + offsets[at, cell].view(-1, 5, 2) * 8
    mark_loss = F.smooth_l1_loss(
        marks / extent[:, None], points[at, face[at, cell]] / extent[:, None], beta=0.05
    )
    return score_loss + overlap_loss + 2 * side_loss + 6 * mark_loss


def _generalised_iou_loss(a: Tensor, b: Tensor) -> Tensor:
    inner = (torch.minimum(a[:, 2:], b[:, 2:]) - torch.maximum(a[:, :2], b[:, :2])).clamp(min=0)
    outer = torch.maximum(a[:, 2:], b[:, 2:]) - torch.minimum(a[:, :2], b[:, :2])
    shared = inner.prod(-1)
    union = (a[:, 2:] - a[:, :2]).prod(-1) + (b[:, 2:] - b[:, :2]).prod(-1) - shared
    hull = outer.prod(-1).clamp(min=1e-3)
    return 1 - shared / union.clamp(min=1e-3) + (hull - union) / hull


@flushing_denormals()
def train_detector(
    drawn: DrawnSet,
    checkpoint: Path,
    *,
    budget: Budget,
    seed: int = 0,
    batch_size: int = 32,
    resume: bool = True,
    progress: Progress = silent,
) -> FaceNetwork:
    """Train the detector; an interrupted run continues from its checkpoint.

    Args:
        drawn: Portraits, groups and empty places; see ``data.faces``.
        checkpoint: File of the run's state.
        budget: How long to train in all.
        seed: Of the weights, the order and the augmentation.
        batch_size: Images in a step.
        resume: Continue from the checkpoint where there is one.
        progress: Told of every hundredth step.

    Returns:
        The trained network, averaged over its last steps, in evaluation mode.
    """
    torch.manual_seed(seed)
    network = FaceNetwork().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    session = Session(
        {"network": network},
        Muon(network, lr=0.01, adam_lr=2e-3),
        checkpoint=checkpoint,
        budget=budget,
        seed=seed,
        ema_decay=0.995,
        resume=resume,
    )
    order = batches(len(drawn), batch_size, np.random.default_rng(seed), skip=session.step)
    progress.start("train the detector", 100)
    told, running = 0, 0.0
    network.train()
    while session.running():
        rng = np.random.default_rng([seed, session.step])
        indices = next(order)
        views = [view(drawn, int(i), int(rng.integers(len(drawn))), rng) for i in indices]
        images, boxes, points, worth = (
            torch.from_numpy(np.stack(part)) for part in zip(*views, strict=True)
        )
        raw = network(network_input(images))
        loss = detection_loss(raw, boxes.float(), points.float(), worth)
        session.apply(loss)
        running += (float(loss.detach()) - running) * max(0.02, 1 / session.step)
        if session.step % 100 == 0:
            logger.info(
                "detector step %d, %.0f s, loss %.3f", session.step, session.elapsed, running
            )
        if int(session.share * 100) > told:
            progress.advance(int(session.share * 100) - told, f"loss {running:.3f}")
            told = int(session.share * 100)
    session.save()
    session.average.copy_to({"network": network})
    progress.finish()
    return network.eval()


def network_input(images: Tensor) -> Tensor:
    """Scale uint8 (n, h, w, 3) in RGB to insightface's (n, 3, h, w): mean 127.5, deviation 128."""
    return ((images.permute(0, 3, 1, 2).float() - 127.5) / 128).contiguous(
        memory_format=torch.channels_last
    )
