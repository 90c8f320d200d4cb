"""buffalo_l's and ViT-B/32's architectures with random weights, for measuring speed.

The five networks of buffalo_l are rebuilt from their published descriptions: SCRFD-10GF (ResNetV1e
with planes 56, 88, 88, 224 and blocks 3, 4, 2, 3; PAFPN of 56 channels; heads of three convolutions
of 80 channels), IResNet-50 for faces of 112 pixels, ResNet-50 with 3309 outputs for the 3D
landmarks and MobileNet of half and quarter width for the 2D landmarks and for gender and age.

Random weights find no faces. So that the detector's outcome is known, its answers are replaced by a
probe after all of its convolutions have run: a cell reports a face where the image shows pure red
(see ``drawings.py``). The network's own outputs enter with a weight of 1e-9, which keeps every
convolution in the graph.
"""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

FACE_SIDE = 300.0
"""Edge of the reported face box in pixels of the 640-pixel square."""


def unit(inputs: int, outputs: int, kernel: int = 3, stride: int = 1, groups: int = 1) -> nn.Module:
    """Convolution, batch normalisation, ReLU."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
    )


class Basic(nn.Module):
    """ResNet's basic block; its shortcut averages before it projects."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.first = unit(inputs, outputs, 3, stride)
        self.second = unit(outputs, outputs)[:2]
        self.shortcut = nn.Identity()
        if stride > 1 or inputs != outputs:
            self.shortcut = nn.Sequential(
                nn.AvgPool2d(stride, stride, ceil_mode=True) if stride > 1 else nn.Identity(),
                nn.Conv2d(inputs, outputs, 1, bias=False),
                nn.BatchNorm2d(outputs),
            )

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, inputs, h, w) to (n, outputs, h / stride, w / stride)."""
        return F.relu(self.second(self.first(x)) + self.shortcut(x))


class Scrfd10(nn.Module):
    """SCRFD-10GF with five landmarks; nine outputs, as insightface reads them."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            unit(3, 28, 3, 2), unit(28, 28), unit(28, 56), nn.MaxPool2d(3, 2, 1)
        )
        stages, width = [], 56
        for index, (planes, blocks) in enumerate(zip((56, 88, 88, 224), (3, 4, 2, 3), strict=True)):
            layers = []
            for block in range(blocks):
                layers.append(Basic(width, planes, 2 if block == 0 and index else 1))
                width = planes
            stages.append(nn.Sequential(*layers))
        self.stages = nn.ModuleList(stages)
        self.lateral = nn.ModuleList([nn.Conv2d(c, 56, 1) for c in (88, 88, 224)])
        self.smooth = nn.ModuleList([nn.Conv2d(56, 56, 3, 1, 1) for _ in range(3)])
        self.down = nn.ModuleList([nn.Conv2d(56, 56, 3, 2, 1) for _ in range(2)])
        self.again = nn.ModuleList([nn.Conv2d(56, 56, 3, 1, 1) for _ in range(2)])
        self.heads = nn.ModuleList(
            [nn.Sequential(unit(56, 80), unit(80, 80), unit(80, 80)) for _ in range(3)]
        )
        self.outputs = nn.ModuleList([nn.Conv2d(80, 2 * 15, 3, 1, 1) for _ in range(3)])

    def features(self, x: Tensor) -> list[Tensor]:
        """Return the pyramid at strides 8, 16 and 32."""
        levels = []
        x = self.stem(x)
        for stage in self.stages:
            x = stage(x)
            levels.append(x)
        sides = [layer(level) for layer, level in zip(self.lateral, levels[1:], strict=True)]
        for i in (1, 0):
            sides[i] = sides[i] + F.interpolate(sides[i + 1], scale_factor=2.0, mode="nearest")
        outs = [layer(side) for layer, side in zip(self.smooth, sides, strict=True)]
        for i in (0, 1):
            outs[i + 1] = outs[i + 1] + self.down[i](outs[i])
        return [outs[0], self.again[0](outs[1]), self.again[1](outs[2])]

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Return scores, boxes and landmarks of the three strides, a row an anchor."""
        scores, boxes, points = [], [], []
        levels = self.features(x)
        red = x[:, :1] - x[:, 1:2]
        for level, stride in enumerate((8, 16, 32)):
            tower = self.heads[level](levels[level])
            cells = self.outputs[level](tower).permute(0, 2, 3, 1).reshape(-1, 15) * 1e-9
            probe = F.avg_pool2d(red, stride).reshape(-1, 1)
            chance = torch.sigmoid((probe - 1.5) * 24 if stride == 32 else probe * 0 - 12)
            both = torch.stack([chance, chance * 0], dim=1).reshape(-1, 1)
            scores.append(both + cells[:, :1])
            boxes.append(cells[:, 1:5] + FACE_SIDE / 2 / stride)
            eyes = torch.tensor([-60.0, -60, 60, -60, 0, 0, -50, 70, 50, 70]) / stride
            points.append(cells[:, 5:] + eyes)
        return (*scores, *boxes, *points)


class LightScrfd(Scrfd10):
    """The same outputs and probe after next to no computation."""

    def features(self, x: Tensor) -> list[Tensor]:
        """Return the pyramid at strides 8, 16 and 32."""
        wide = self.lateral[0].weight.reshape(-1)[: 56 * 3].reshape(56, 3, 1, 1)
        return [F.conv2d(F.avg_pool2d(x, stride), wide) for stride in (8, 16, 32)]


class ResidualPrelu(nn.Module):
    """A block of IResNet."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.BatchNorm2d(inputs),
            nn.Conv2d(inputs, outputs, 3, 1, 1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.PReLU(outputs),
            nn.Conv2d(outputs, outputs, 3, stride, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )
        self.shortcut = nn.Identity()
        if stride > 1:
            self.shortcut = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, inputs, h, w) to (n, outputs, h / stride, w / stride)."""
        return self.body(x) + self.shortcut(x)


def iresnet50() -> nn.Module:
    """ArcFace's IResNet-50: 112 x 112 pixels to 512 numbers."""
    layers: list[nn.Module] = [
        nn.Conv2d(3, 64, 3, 1, 1, bias=False), nn.BatchNorm2d(64), nn.PReLU(64)
    ]  # fmt: skip
    width = 64
    for planes, blocks in zip((64, 128, 256, 512), (3, 4, 14, 3), strict=True):
        for block in range(blocks):
            layers.append(ResidualPrelu(width, planes, 2 if block == 0 else 1))
            width = planes
    layers += [nn.BatchNorm2d(512), nn.Flatten(), nn.Linear(512 * 49, 512), nn.BatchNorm1d(512)]
    return nn.Sequential(*layers)


def mobilenet(share: float, outputs: int) -> nn.Module:
    """MobileNet (first version) of a share of its width."""
    widths = [int(c * share) for c in (32, 64, 128, 128, 256, 256, *[512] * 6, 1024, 1024)]
    strides = [1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1]
    layers: list[nn.Module] = [unit(3, widths[0], 3, 2)]
    for inputs, outs, stride in zip(widths, widths[1:], strides, strict=False):
        layers += [unit(inputs, inputs, 3, stride, groups=inputs), unit(inputs, outs, 1)]
    return nn.Sequential(
        *layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(widths[-1], outputs)
    )


def export(
    model: nn.Module, path: Path, side: int, outputs: int = 1, *, free: str = "batch"
) -> None:
    """Write an ONNX file; ``free`` says whether the batch or the size of the input is open."""
    names = [f"out{i}" for i in range(outputs)]
    axes = {"input": {0: "n"} if free == "batch" else {2: "height", 3: "width"}}
    if free == "batch":
        axes |= {name: {0: "n"} for name in names}
    else:
        axes |= {name: {0: f"cells{i}"} for i, name in enumerate(names)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model.eval(), torch.zeros(1, 3, side, side), str(path), dynamo=False,
            input_names=["input"], output_names=names, dynamic_axes=axes, opset_version=13,
        )  # fmt: skip


def face_pack(cache: Path) -> Path:
    """Return a folder with the five networks of buffalo_l, built once."""
    folder = cache / "buffalo_l-random"
    if (folder / "done").exists():
        return folder
    from torchvision.models import resnet50

    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    export(Scrfd10(), folder / "det_10g.onnx", 640, 9, free="size")
    export(iresnet50(), folder / "w600k_r50.onnx", 112)
    export(resnet50(num_classes=3309), folder / "1k3d68.onnx", 192)
    export(mobilenet(0.5, 212), folder / "2d106det.onnx", 192)
    export(mobilenet(0.25, 3), folder / "genderage.onnx", 96)
    (folder / "done").touch()
    return folder


def light_face_pack(cache: Path) -> Path:
    """Return a folder with a detector and a recogniser that cost little, built once."""
    folder = cache / "light-faces"
    if not (folder / "done").exists():
        folder.mkdir(parents=True, exist_ok=True)
        torch.manual_seed(0)
        export(LightScrfd(), folder / "det_light.onnx", 640, 9, free="size")
        export(mobilenet(0.25, 512), folder / "rec_light.onnx", 112)
        (folder / "done").touch()
    return folder


def light_clip_model(cache: Path) -> Path:
    """Return a folder with a small vision transformer of 512 numbers, built once."""
    return _save_clip(
        cache / "light-clip",
        {
            "embed_dim": 512,
            "vision_cfg": {"image_size": 224, "layers": 2, "width": 128, "patch_size": 32},
            "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 128, "heads": 2,
                         "layers": 2},
        },
    )  # fmt: skip


def clip_model(cache: Path) -> Path:
    """Return a folder with ViT-B/32 in open_clip's local layout, built once."""
    import open_clip

    return _save_clip(cache / "vit-b-32-random", open_clip.get_model_config("ViT-B-32"))


def _save_clip(folder: Path, configuration: dict[str, Any]) -> Path:
    if (folder / "done").exists():
        return folder
    import open_clip
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    model = open_clip.CLIP(**configuration)
    whole = {"model_cfg": configuration, "preprocess_cfg": {}}
    (folder / "open_clip_config.json").write_text(json.dumps(whole))
    weights = {name: value.contiguous() for name, value in model.state_dict().items()}
    save_file(weights, str(folder / "open_clip_model.safetensors"))
    (folder / "done").touch()
    return folder
