"""The miniature's face recogniser: ArcFace-shaped, trained on drawn people.

The network reads faces aligned by insightface's ``norm_crop`` to 112 x 112 pixels and returns an
embedding; the cosine between two embeddings says how alike two people are. It is trained with the
additive angular margin of ArcFace (Deng et al., 2019), but a person's centre is the mean of the
other images of that person in the batch, as in prototypical networks (Snell et al., 2017): with
few images of each of many people, learnt centres would still lie where chance put them. Beside
it, a linear head must read the person's traits, which the renderer knows exactly, off the
embedding: that teaches the network early what stays the same across scenes.
"""

from __future__ import annotations

import logging
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from character_curator.progress import Progress, silent

from ..data.augment import Degradation, degrade
from ..data.faces import DrawnSet, batches
from .blocks import Chain, ConvUnit, Graph, ResidualBlock, emit_convolution
from .muon import Muon
from .session import Budget, Session, flushing_denormals

logger = logging.getLogger(__name__)

SIZE = 112
EMBEDDING = 128
_POOL = 2
_TEMPLATE = np.array(
    [
        [38.2946, 51.6963],
        [73.5318, 51.5014],
        [56.0252, 71.7366],
        [41.5493, 92.3655],
        [70.7299, 92.2041],
    ],
    np.float32,
)
"""Where ArcFace wants eyes, nose and mouth corners in an image of 112 pixels."""
_SCALE, _MARGIN = 20.0, 0.2
_GROUP = 3
"""People are drawn in threes, of whom the last two are look-alikes: see ``data.faces``."""
_ODDS = Degradation(blur=0.4, resample=0.4, noise=0.25, jpeg=0.2, color=0.6)


def align(image: NDArray[np.uint8], landmarks: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Cut a face out as insightface's ``norm_crop`` does.

    The similarity transform is Umeyama's least-squares solution (1991), written in complex
    numbers: with one common scale and rotation it is a single division.

    Args:
        image: (h, w, 3).
        landmarks: (5, 2) in pixels.

    Returns:
        (112, 112, 3).
    """
    source = landmarks[:, 0] + 1j * landmarks[:, 1]
    wanted = _TEMPLATE[:, 0] + 1j * _TEMPLATE[:, 1]
    spread = source - source.mean()
    turn = np.vdot(spread, wanted - wanted.mean()) / max(np.vdot(spread, spread).real, 1e-6)
    shift = wanted.mean() - turn * source.mean()
    matrix = np.array([[turn.real, -turn.imag, shift.real], [turn.imag, turn.real, shift.imag]])
    return cv2.warpAffine(image, matrix, (SIZE, SIZE), borderValue=(0, 0, 0)).astype(np.uint8)


class RecogniserNetwork(nn.Module):
    """A small residual network; the image is halved before anything else."""

    def __init__(self, widths: tuple[int, int, int] = (32, 64, 128)) -> None:
        """Make an untrained network.

        Args:
            widths: Channels at 28, 14 and 7 cells.
        """
        super().__init__()
        a, b, c = widths
        self.body = Chain(
            ConvUnit(3, a, kernel=5, stride=2),
            ResidualBlock(a),
            ConvUnit(a, b, stride=2),
            ResidualBlock(b),
            ResidualBlock(b),
            ConvUnit(b, c, stride=2),
            ResidualBlock(c),
            ResidualBlock(c),
        )
        self.gather = nn.Conv2d(c, c, 7, groups=c, bias=False)  # a weighted mean of each channel
        self.gather_norm = nn.BatchNorm2d(c)
        self.embed = nn.Conv2d(c, EMBEDDING, 1, bias=False)
        self.embed_norm = nn.BatchNorm2d(EMBEDDING)

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, 3, 112, 112), values (rgb - 127.5) / 127.5, to embeddings (n, 128)."""
        x = self.body(F.avg_pool2d(x, _POOL))
        x = self.gather_norm(self.gather(x))
        return self.embed_norm(self.embed(x)).flatten(1)

    def emit(self, graph: Graph, value: str, output: str) -> None:
        """Add the network to an ONNX graph."""
        value = graph.op("AveragePool", value, kernel_shape=[_POOL, _POOL], strides=[_POOL, _POOL])
        value = self.body.emit(graph, value)
        value = emit_convolution(graph, value, self.gather, self.gather_norm)
        value = emit_convolution(graph, value, self.embed, self.embed_norm)
        graph.op("Flatten", value, output=output, axis=1)


def export_recogniser(network: RecogniserNetwork, path: Path) -> None:
    """Write the recogniser as an ONNX file that insightface takes for an ArcFace model.

    Args:
        network: In evaluation mode.
        path: The ``.onnx`` file.
    """
    graph = Graph()
    network.emit(graph, "input", "embedding")
    graph.save(
        path,
        ["batch", 3, SIZE, SIZE],
        {"embedding": ["batch", EMBEDDING]},
        "Face recogniser of the miniature; read by insightface's ArcFaceONNX class. Faces are "
        "aligned by norm_crop; colours are RGB, (value - 127.5) / 127.5.",
    )


def crop(
    image: NDArray[np.uint8], landmarks: NDArray[np.float32], rng: np.random.Generator
) -> NDArray[np.uint8]:
    """Make one training face: as a detector that errs a little would cut it, then degraded.

    Args:
        image: (h, w, 3).
        landmarks: (5, 2), exact, in pixels.
        rng: Source of randomness.

    Returns:
        (112, 112, 3).
    """
    extent = float(np.linalg.norm(landmarks[:2].mean(0) - landmarks[3:].mean(0)))
    found = landmarks + rng.normal(0, 0.025 * extent, (5, 2)) + rng.normal(0, 0.02 * extent, 2)
    return degrade(align(image, found.astype(np.float32)), rng, _ODDS)


def margin_logits(embeddings: Tensor, people: Tensor) -> Tensor:
    """Score embeddings against all people of a batch, the own one with an angular margin.

    Args:
        embeddings: (n, d).
        people: (n,) from 0 to p - 1, each at least twice.

    Returns:
        (n, p) logits: scale * cos(angle + margin) to the mean of the other images of the own
        person, scale * cos to the mean of everybody else.
    """
    unit = F.normalize(embeddings)
    sums = F.one_hot(people).to(unit.dtype).T @ unit
    cosine = unit @ F.normalize(sums).T
    own = (unit * F.normalize(sums[people] - unit)).sum(-1, keepdim=True).clamp(-0.999, 0.999)
    moved = torch.cos(torch.acos(own) + _MARGIN)
    # Beyond pi - margin the cosine would rise again; ArcFace continues it as a line.
    moved = torch.where(own > np.cos(np.pi - _MARGIN), moved, own - np.sin(_MARGIN) * _MARGIN)
    return _SCALE * cosine.scatter(1, people[:, None], moved)


@flushing_denormals()
def train_recogniser(
    drawn: DrawnSet,
    checkpoint: Path,
    *,
    budget: Budget,
    seed: int = 0,
    groups: int = 8,
    scenes: int = 3,
    resume: bool = True,
    progress: Progress = silent,
) -> RecogniserNetwork:
    """Train the recogniser; an interrupted run continues from its checkpoint.

    Args:
        drawn: Several portraits of each person; everything else is passed over.
        checkpoint: File of the run's state.
        budget: How long to train in all.
        seed: Of the weights, the order and the augmentation.
        groups: Threes of people in a step.
        scenes: Images of each person in a step, at least two.
        resume: Continue from the checkpoint where there is one.
        progress: Told of every hundredth of the budget.

    Returns:
        The trained network, averaged over its last steps, in evaluation mode.
    """
    torch.manual_seed(seed)
    usable = np.flatnonzero(drawn.people >= 0)
    albums: dict[int, list[int]] = {}
    for i in usable:
        albums.setdefault(int(drawn.people[i]), []).append(int(i))
    threes: dict[int, list[list[int]]] = {}
    for person, album in albums.items():
        threes.setdefault(person // _GROUP, []).append(album)
    parties = list(threes.values())
    spread = drawn.traits[usable].std(0) + 1e-3
    traits = (drawn.traits - drawn.traits[usable].mean(0)) / spread
    network = RecogniserNetwork().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    reader = nn.Linear(EMBEDDING, traits.shape[1])
    modules = {"network": network, "reader": reader}
    session = Session(
        modules,
        Muon(list(modules.values()), lr=0.01, adam_lr=3e-3),
        checkpoint=checkpoint,
        budget=budget,
        seed=seed,
        ema_decay=0.995,
        resume=resume,
    )
    order = batches(len(parties), groups, np.random.default_rng(seed), skip=session.step)
    progress.start("train the recogniser", 100)
    told, running = 0, np.zeros(3)
    network.train()
    while session.running():
        rng = np.random.default_rng([seed, session.step])
        chosen = [album for k in next(order) for album in parties[int(k)]]
        indices = np.array([rng.permutation(album)[:scenes] for album in chosen]).ravel()
        faces = np.stack([crop(drawn.images[i], drawn.landmarks[i, 0], rng) for i in indices])
        own = torch.arange(len(chosen)).repeat_interleave(scenes)
        embeddings = network(network_input(torch.from_numpy(faces)))
        logits = margin_logits(embeddings, own)
        naming = F.cross_entropy(logits, own)
        reading = F.mse_loss(
            reader(embeddings), torch.from_numpy(traits[indices].astype(np.float32))
        )
        session.apply(naming + 2 * reading)
        right = (logits.detach().argmax(1) == own).float().mean()
        now = np.array([float(naming.detach()), float(reading.detach()), float(right)])
        running += (now - running) * max(0.02, 1 / session.step)
        if session.step % 100 == 0:
            logger.info(
                "recogniser step %d, %.0f s, naming %.3f, reading %.3f, right %.3f",
                session.step,
                session.elapsed,
                *running,
            )
        if int(session.share * 100) > told:
            progress.advance(int(session.share * 100) - told, f"loss {running[0]:.3f}")
            told = int(session.share * 100)
    session.save()
    session.average.copy_to(modules)
    progress.finish()
    return network.eval()


def network_input(faces: Tensor) -> Tensor:
    """Scale uint8 (n, h, w, 3) in RGB to insightface's (n, 3, h, w): mean and deviation 127.5."""
    return ((faces.permute(0, 3, 1, 2).float() - 127.5) / 127.5).contiguous(
        memory_format=torch.channels_last
    )
