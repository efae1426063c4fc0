"""FaceNet = Inception-ResNet-v1 (Szegedy et al. 2016, davidsandberg/facenet) to ONNX.

From the state dict of timesler/facenet-pytorch. Each batch norm (epsilon 0.001) and the scale of
each residual branch are folded into the convolution before them, in double precision; the graph
ends in the L2 norm x / sqrt(max(sum x^2, 1e-12)), nodes 'L2Norm/...'.

Input 'input' (N, 3, 160, 160) float32, RGB, (x - 127.5) / 128; output 'embedding' (N, 512), unit
length. The classifier of the training ('logits') is left out.
"""
from pathlib import Path
from typing import Dict, List, Optional, Sequence, Tuple

import numpy as np

from engines.convert import torch_file
from engines.convert.graph import Graph
from errors import ModelError

EPSILON = 0.001  # of every batch norm: slim's setting in davidsandberg/facenet src/models/inception_resnet_v1.py
SMALLEST = 1e-12  # of the sum of squares in the L2 norm
SIZE = 160
# Layers of a branch: outputs, kernel (rows, columns), stride, padded.
Layer = Tuple[int, Tuple[int, int], int, bool]
STEM: Sequence[Tuple[str, Optional[Layer]]] = (
    ("conv2d_1a", (32, (3, 3), 2, False)),
    ("conv2d_2a", (32, (3, 3), 1, False)),
    ("conv2d_2b", (64, (3, 3), 1, True)),
    ("maxpool_3a", None),
    ("conv2d_3b", (80, (1, 1), 1, False)),
    ("conv2d_4a", (192, (3, 3), 1, False)),
    ("conv2d_4b", (256, (3, 3), 2, False)),
)
BLOCK35 = (
    ((32, (1, 1), 1, True),),
    ((32, (1, 1), 1, True), (32, (3, 3), 1, True)),
    ((32, (1, 1), 1, True), (32, (3, 3), 1, True), (32, (3, 3), 1, True)),
)
BLOCK17 = (((128, (1, 1), 1, True),), ((128, (1, 1), 1, True), (128, (1, 7), 1, True), (128, (7, 1), 1, True)))
BLOCK8 = (((192, (1, 1), 1, True),), ((192, (1, 1), 1, True), (192, (1, 3), 1, True), (192, (3, 1), 1, True)))
MIXED_6A = (
    ((384, (3, 3), 2, False),),
    ((192, (1, 1), 1, True), (192, (3, 3), 1, True), (256, (3, 3), 2, False)),
)
MIXED_7A = (
    ((256, (1, 1), 1, True), (384, (3, 3), 2, False)),
    ((256, (1, 1), 1, True), (256, (3, 3), 2, False)),
    ((256, (1, 1), 1, True), (256, (3, 3), 1, True), (256, (3, 3), 2, False)),
)
# Repeats of a residual block: name, branches, scale of the residual, times.
REPEATS = {
    "repeat_1": (BLOCK35, 0.17, 5),
    "repeat_2": (BLOCK17, 0.10, 10),
    "repeat_3": (BLOCK8, 0.20, 5),
}
Branches = Sequence[Sequence[Layer]]


def convert(source: Path, target: Path, role: str = "embedder") -> None:
    """Write the state dict `source` (.pt) as ONNX. Raises ModelError when it is not FaceNet's."""
    graph(torch_file.read(source), str(source)).save(target)


def graph(tensors: Dict[str, np.ndarray], source: str) -> Graph:
    """The state dict `tensors` as a graph; `source` is what an error calls it."""
    return _Writer(tensors, source).write()


class _Writer:
    """Walks the network once, taking each tensor from the state dict and checking its shape."""

    def __init__(self, tensors: Dict[str, np.ndarray], source: str) -> None:
        self._source = source
        self._tensors = tensors
        self._graph = Graph("facenet")
        self._channels = 3

    def write(self) -> Graph:
        value = self._graph.input("input", ["N", 3, SIZE, SIZE])
        for name, layer in STEM:
            value = self._layer(value, name, layer) if layer else self._pool(value, name)
        value = self._repeat(value, "repeat_1")
        value = self._mixed(value, "mixed_6a", MIXED_6A)
        value = self._repeat(value, "repeat_2")
        value = self._mixed(value, "mixed_7a", MIXED_7A)
        value = self._repeat(value, "repeat_3")
        value = self._residual(value, "block8", BLOCK8, 1.0, last=True)
        value = self._graph.add("GlobalAveragePool", [value], "avgpool_1a")
        value = self._graph.add("Flatten", [value], "flatten", axis=1)
        weight, bias = self._fold("last_bn", self._take("last_linear.weight", (512, self._channels)))
        self._normalise(self._graph.dense(value, "last_linear", weight, bias))
        self._graph.output("embedding", ["N", 512])
        return self._graph

    def _take(self, name: str, shape: Tuple[int, ...]) -> np.ndarray:
        found = self._tensors.get(name)
        if found is None or found.shape != shape:
            raise ModelError("{}: is not FaceNet's Inception-ResNet-v1: its {} is {}, not {}.".format(
                self._source, name, "missing" if found is None else "x".join(map(str, found.shape)),
                "x".join(map(str, shape))))  # fmt: skip
        return found.astype(np.float64)

    def _fold(self, norm: str, weight: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
        """Weight and bias (float32) of the layer with the batch norm `norm` behind it."""
        gamma, beta, mean, variance = (
            self._take("{}.{}".format(norm, part), weight.shape[:1])
            for part in ("weight", "bias", "running_mean", "running_var")
        )
        factor = gamma / np.sqrt(variance + EPSILON)
        folded = weight * factor.reshape((-1,) + (1,) * (weight.ndim - 1))
        return folded.astype(np.float32), (beta - mean * factor).astype(np.float32)

    def _layer(self, value: str, name: str, layer: Layer) -> str:
        """Convolution, batch norm, ReLU."""
        outputs, kernel, stride, padded = layer
        weight = self._take(name + ".conv.weight", (outputs, self._channels) + kernel)
        padding = (kernel[0] // 2, kernel[1] // 2) if padded else (0, 0)
        value = self._graph.conv(value, name, *self._fold(name + ".bn", weight), stride=stride, padding=padding)
        self._channels = outputs
        return self._graph.add("Relu", [value], name + ".relu")

    def _pool(self, value: str, name: str) -> str:
        return self._graph.add("MaxPool", [value], name, kernel_shape=[3, 3], strides=[2, 2])

    def _branches(self, value: str, name: str, branches: Branches) -> List[str]:
        """The ends of all branches; afterwards `_channels` is their sum."""
        ends, width, entering = [], 0, self._channels
        for number, layers in enumerate(branches):
            self._channels, end = entering, value
            for step, layer in enumerate(layers):
                # facenet-pytorch numbers the layers of a branch only where it has several
                place = "{}.branch{}".format(name, number) + (".{}".format(step) if len(layers) > 1 else "")
                end = self._layer(end, place, layer)
            ends.append(end)
            width += self._channels
        self._channels = width
        return ends

    def _mixed(self, value: str, name: str, branches: Branches) -> str:
        """A reduction: the branches and a pooling, side by side."""
        entering = self._channels
        ends = self._branches(value, name, branches) + [self._pool(value, name + ".pool")]
        self._channels += entering
        return self._graph.add("Concat", ends, name, axis=1)

    def _repeat(self, value: str, name: str) -> str:
        branches, scale, times = REPEATS[name]
        for number in range(times):
            value = self._residual(value, "{}.{}".format(name, number), branches, scale)
        return value

    def _residual(self, value: str, name: str, branches: Branches, scale: float, last: bool = False) -> str:
        """x + scale * (1x1 convolution of the branches), with ReLU but for the last block."""
        entering = self._channels
        joined = self._graph.add("Concat", self._branches(value, name, branches), name + ".concat", axis=1)
        weight = self._take(name + ".conv2d.weight", (entering, self._channels, 1, 1)) * scale
        bias = self._take(name + ".conv2d.bias", (entering,)) * scale
        branch = self._graph.conv(joined, name + ".conv2d", weight.astype(np.float32), bias.astype(np.float32))
        self._channels = entering
        value = self._graph.add("Add", [value, branch], name + ".add")
        return value if last else self._graph.add("Relu", [value], name)

    def _normalise(self, value: str) -> None:
        axes = self._graph.weight("L2Norm/axes", np.array([1], np.int64))
        smallest = self._graph.weight("L2Norm/smallest", np.array([SMALLEST], np.float32))
        squares = self._graph.add("Mul", [value, value], "L2Norm/squares")
        total = self._graph.add("ReduceSum", [squares, axes], "L2Norm/sum", keepdims=1)
        length = self._graph.add("Sqrt", [self._graph.add("Max", [total, smallest], "L2Norm/max")], "L2Norm/length")
        self._graph.add("Div", [value, length], "L2Norm", "embedding")
