"""Convolutional blocks that can be trained by torch and written as ONNX.

Each block has a ``forward`` and an ``emit`` that adds the same arithmetic to an ONNX graph, with
batch normalisation folded into the convolution. Weights are stored in half precision and cast to
single precision when the file is loaded, which halves the file and costs nothing at run time.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from character_curator.atomic import write_bytes

_OPSET = 13
_IR_VERSION = 8


class Graph:
    """An ONNX graph under construction; values are known by their names."""

    def __init__(self) -> None:
        """Start an empty graph."""
        self._nodes: list[Any] = []
        self._constants: list[Any] = []
        self._names: dict[tuple[Any, ...], str] = {}

    def op(self, kind: str, *inputs: str, output: str | None = None, **attributes: Any) -> str:
        """Add a node.

        Args:
            kind: ONNX operator.
            *inputs: Names of its inputs; "" leaves an optional one out.
            output: Name of its output; a fresh one without it.
            **attributes: Of the node.

        Returns:
            The name of its output.
        """
        from onnx import helper

        number = len(self._nodes)
        name = output or f"value_{number}"
        self._nodes.append(
            helper.make_node(kind, list(inputs), [name], name=f"{kind}_{number}", **attributes)
        )
        return name

    def constant(self, array: np.ndarray) -> str:
        """Add a constant; single precision is stored as half precision and cast back.

        Equal constants are stored once, so a network that is emitted twice shares its weights.

        Args:
            array: The values; float32 or int64.

        Returns:
            Its name.
        """
        from onnx import TensorProto, numpy_helper

        key = (array.dtype.str, array.shape, array.tobytes())
        if key in self._names:
            return self._names[key]
        name = f"constant_{len(self._constants)}"
        if array.dtype == np.float32:
            self._constants.append(numpy_helper.from_array(array.astype(np.float16), name))
            self._names[key] = self.op("Cast", name, to=TensorProto.FLOAT)
        else:
            self._constants.append(numpy_helper.from_array(array, name))
            self._names[key] = name
        return self._names[key]

    def save(
        self,
        path: Path,
        input_shape: list[int | str],
        output_shapes: dict[str, list[int | str]],
        description: str,
    ) -> None:
        """Write the graph to a file, whole or not at all.

        Args:
            path: The ``.onnx`` file.
            input_shape: Of the input, which is called "input"; strings name free dimensions.
            output_shapes: By output name, in order.
            description: For the file's header.
        """
        from onnx import TensorProto, checker, helper

        inputs = [helper.make_tensor_value_info("input", TensorProto.FLOAT, input_shape)]
        outputs = [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
            for name, shape in output_shapes.items()
        ]
        graph = helper.make_graph(self._nodes, path.stem, inputs, outputs, self._constants)
        model = helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid("", _OPSET)],
            doc_string=description,
            producer_name="character-curator",
        )
        model.ir_version = _IR_VERSION
        checker.check_model(model)
        write_bytes(path, model.SerializeToString())


def _array(tensor: Tensor) -> np.ndarray:
    return tensor.detach().float().cpu().numpy()


def emit_convolution(
    graph: Graph, value: str, conv: nn.Conv2d, norm: nn.BatchNorm2d | None = None
) -> str:
    """Add a convolution with the normalisation that follows it folded in."""
    weight = conv.weight.detach()
    bias = torch.zeros(len(weight)) if conv.bias is None else conv.bias.detach()
    if norm is not None:
        mean, variance = norm.running_mean, norm.running_var
        if mean is None or variance is None:
            raise ValueError("a normalisation without running statistics cannot be folded in")
        gain = norm.weight.detach() / torch.sqrt(variance + norm.eps)
        weight = weight * gain[:, None, None, None]
        bias = (bias - mean) * gain + norm.bias.detach()
    pad_y, pad_x = (int(p) for p in conv.padding)  # type: ignore[arg-type]
    return graph.op(
        "Conv",
        value,
        graph.constant(_array(weight)),
        graph.constant(_array(bias)),
        kernel_shape=list(conv.kernel_size),
        strides=list(conv.stride),
        group=conv.groups,
        dilations=list(conv.dilation),
        pads=[pad_y, pad_x, pad_y, pad_x],
    )


class ConvUnit(nn.Module):
    """Convolution, batch normalisation and, unless told otherwise, ReLU."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        kernel: int = 3,
        stride: int = 1,
        dilation: int = 1,
        relu: bool = True,
    ) -> None:
        """Make a unit that keeps the size of its input but for the stride.

        Args:
            inputs: Channels in.
            outputs: Channels out.
            kernel: Edge of the kernel, odd.
            stride: Of the convolution.
            dilation: Of the convolution.
            relu: Whether negative values are cut.
        """
        super().__init__()
        self.conv = nn.Conv2d(
            inputs, outputs, kernel, stride, dilation * (kernel // 2), dilation, bias=False
        )
        self.norm = nn.BatchNorm2d(outputs)
        self._relu = relu

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, inputs, h, w) to (n, outputs, h / stride, w / stride)."""
        x = self.norm(self.conv(x))
        return torch.relu_(x) if self._relu else x

    def emit(self, graph: Graph, value: str) -> str:
        """Add the unit to an ONNX graph."""
        value = emit_convolution(graph, value, self.conv, self.norm)
        return graph.op("Relu", value) if self._relu else value


class ResidualBlock(nn.Module):
    """Two units and a way around them."""

    def __init__(self, channels: int, *, dilation: int = 1) -> None:
        """Make a block.

        Args:
            channels: In and out.
            dilation: Of both convolutions.
        """
        super().__init__()
        self.first = ConvUnit(channels, channels, dilation=dilation)
        self.second = ConvUnit(channels, channels, dilation=dilation, relu=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, channels, h, w) to the same shape."""
        return torch.relu(x + self.second(self.first(x)))

    def emit(self, graph: Graph, value: str) -> str:
        """Add the block to an ONNX graph."""
        inner = self.second.emit(graph, self.first.emit(graph, value))
        return graph.op("Relu", graph.op("Add", value, inner))


class Chain(nn.Sequential):
    """Blocks one after another."""

    def emit(self, graph: Graph, value: str) -> str:
        """Add all blocks to an ONNX graph."""
        for block in self:
            value = block.emit(graph, value)  # type: ignore[operator]
        return value
