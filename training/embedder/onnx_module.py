"""An ONNX file as a torch module: the operators of face embedders, one line each.

onnx2torch would do, but it needs torchvision, which does not import beside a CPU build of torch, and
keeps shapes as tensors, which torch.compile cannot see into. Here shapes and axes are numbers.
"""
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, nn
from torch.nn import functional

from errors import ModelError

Attributes = Dict[str, Any]


class OnnxModule(nn.Module):
    """The network's first input in, its first output out; `attention`: whether it is a transformer.
    Raises ModelError for an operator that is not below."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        graph = onnx.load(str(path)).graph
        numbers: Dict[str, np.ndarray] = {one.name: numpy_helper.to_array(one) for one in graph.initializer}
        self._steps: List[Any] = []  # (function, inputs, outputs, attributes)
        for node in graph.node:
            attributes = {one.name: onnx.helper.get_attribute_value(one) for one in node.attribute}
            if node.op_type == "Constant":
                numbers[node.output[0]] = numpy_helper.to_array(attributes["value"])
            elif node.op_type in ("Identity", "Cast") and node.input[0] in numbers:
                value = numbers[node.input[0]]
                numbers[node.output[0]] = value.astype(np.float32) if node.op_type == "Cast" else value
            elif node.op_type in OPERATORS:
                self._steps.append((OPERATORS[node.op_type], list(node.input), list(node.output), attributes))
            else:
                raise ModelError("{}: has the operator {}, which no teacher had so far.".format(path, node.op_type))
        self.attention = any(node.op_type == "Softmax" for node in graph.node)
        self._input, self._output = graph.input[0].name, graph.output[0].name
        used = {name for _, inputs, _, _ in self._steps for name in inputs}
        self._weights: Dict[str, str] = {}  # name in the file -> name of the buffer
        self._numbers: Dict[str, Any] = {"": None}  # axes, shapes, exponents; an input that is left out
        for name in sorted(used & set(numbers)):
            value = numbers[name]
            if value.dtype == np.float32 and value.size > 1:
                self._weights[name] = "weight{}".format(len(self._weights))
                self.register_buffer(self._weights[name], torch.from_numpy(value.copy()))
            else:
                self._numbers[name] = value.item() if value.dtype == np.float32 else value.tolist()

    def forward(self, x: Tensor) -> Tensor:
        values: Dict[str, Any] = {self._input: x}
        for function, inputs, outputs, attributes in self._steps:
            result = function([self._value(name, values) for name in inputs], attributes)
            values.update(zip(outputs, result if isinstance(result, (tuple, list)) else [result]))
        return values[self._output]

    def _value(self, name: str, values: Dict[str, Any]) -> Any:
        if name in values:
            return values[name]
        return getattr(self, self._weights[name]) if name in self._weights else self._numbers[name]


def _axes(values: List[Any], attributes: Attributes) -> List[int]:
    return list(values[1] if len(values) > 1 else attributes["axes"])


def _reduced(function: Callable) -> Callable:
    return lambda v, a: function(v[0], _axes(v, a), keepdim=bool(a.get("keepdims", 1)))


def _convolution(v: List[Any], a: Attributes) -> Tensor:
    top, left, bottom, right = a.get("pads", [0, 0, 0, 0])
    x = v[0]
    if (top, left) != (bottom, right):
        x, top, left = functional.pad(x, (left, right, top, bottom)), 0, 0
    bias: Optional[Tensor] = v[2] if len(v) > 2 else None
    strides, dilations = tuple(a.get("strides", [1, 1])), tuple(a.get("dilations", [1, 1]))
    return functional.conv2d(x, v[1], bias, strides, (top, left), dilations, a.get("group", 1))


def _dense(v: List[Any], a: Attributes) -> Tensor:
    weight = v[1] if a.get("transB") else v[1].t()
    return functional.linear(v[0], weight, v[2] if len(v) > 2 else None)


def _normalised(v: List[Any], a: Attributes) -> Tensor:
    return functional.batch_norm(v[0], v[3], v[4], v[1], v[2], eps=a.get("epsilon", 1e-5))


def _reshaped(v: List[Any], a: Attributes) -> Tensor:
    return v[0].reshape([v[0].shape[place] if size == 0 else size for place, size in enumerate(v[1])])


OPERATORS: Dict[str, Callable[[List[Any], Attributes], Any]] = {
    "Add": lambda v, a: v[0] + v[1],
    "Sub": lambda v, a: v[0] - v[1],
    "Mul": lambda v, a: v[0] * v[1],
    "Div": lambda v, a: v[0] / v[1],
    "Max": lambda v, a: v[0].clamp(min=v[1]),
    "Pow": lambda v, a: v[0] ** v[1],
    "Sqrt": lambda v, a: v[0].sqrt(),
    "Erf": lambda v, a: torch.erf(v[0]),
    "Relu": lambda v, a: functional.relu(v[0]),
    "PRelu": lambda v, a: torch.where(v[0] >= 0, v[0], v[0] * v[1]),
    "HardSigmoid": lambda v, a: (a.get("alpha", 0.2) * v[0] + a.get("beta", 0.5)).clamp(0, 1),
    "Clip": lambda v, a: torch.clamp(v[0], *(v[1:] + [None, None])[:2]),
    "Softmax": lambda v, a: v[0].softmax(a.get("axis", -1)),
    "MatMul": lambda v, a: v[0] @ v[1],
    "Gemm": _dense,
    "Conv": _convolution,
    "BatchNormalization": _normalised,
    "GlobalAveragePool": lambda v, a: v[0].mean((2, 3), keepdim=True),
    "ReduceMean": _reduced(torch.mean),
    "ReduceSum": _reduced(torch.sum),
    "Transpose": lambda v, a: v[0].permute(*a["perm"]),
    "Reshape": _reshaped,
    "Flatten": lambda v, a: v[0].flatten(a.get("axis", 1)),
    "Concat": lambda v, a: torch.cat(v, a["axis"]),
    "Split": lambda v, a: v[0].split(v[1] if len(v) > 1 else list(a["split"]), a.get("axis", 0)),
}
