"""A thin pen for writing ONNX graphs: adds nodes one after another and remembers the last output.

Opset 13 and IR version 7 are what ONNX Runtime 1.10 (Python 3.6) and TensorRT 8.2 (JetPack 4.6)
still read; opset 11 would not do, since its Softmax flattens everything after the axis.
Weights are initializers only, never graph inputs, so that a runtime may fold them.
"""
from pathlib import Path
from typing import Any, List, Optional, Sequence, Union

import numpy as np

OPSET = 13
IR_VERSION = 7
Axes = Sequence[Union[str, int]]  # a text names a free axis


class Graph:
    """Nodes, weights, inputs and outputs of one network; `save` checks and writes it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.nodes: List[Any] = []
        self.weights: List[Any] = []
        self.inputs: List[Any] = []
        self.outputs: List[Any] = []

    def input(self, name: str, shape: Axes) -> str:
        self.inputs.append(_value(name, shape))
        return name

    def output(self, name: str, shape: Axes) -> None:
        self.outputs.append(_value(name, shape))

    def weight(self, name: str, array: np.ndarray) -> str:
        from onnx import numpy_helper

        self.weights.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def add(self, kind: str, inputs: Sequence[str], name: str, output: Optional[str] = None, **attributes: Any) -> str:
        """Append a node; its output is called `output`, or as the node."""
        from onnx import helper

        self.nodes.append(helper.make_node(kind, list(inputs), [output or name], name=name, **attributes))
        return output or name

    def conv(self, value: str, name: str, weight: np.ndarray, bias: np.ndarray, output: Optional[str] = None,
             stride: int = 1, padding: Sequence[int] = (0, 0)) -> str:  # fmt: skip
        """A convolution; weight (O, I, kh, kw) float32, bias (O,), padding (rows, columns)."""
        names = [self.weight(name + ".weight", weight), self.weight(name + ".bias", bias)]
        return self.add("Conv", [value] + names, name, output, kernel_shape=list(weight.shape[2:]),
                        strides=[stride, stride], pads=list(padding) * 2)  # fmt: skip

    def dense(self, value: str, name: str, weight: np.ndarray, bias: np.ndarray, output: Optional[str] = None) -> str:
        """A linear layer; weight (O, I), bias (O,)."""
        names = [self.weight(name + ".weight", weight), self.weight(name + ".bias", bias)]
        return self.add("Gemm", [value] + names, name, output, transB=1)

    def save(self, path: Path) -> None:
        import onnx
        from onnx import helper

        graph = helper.make_graph(self.nodes, self.name, self.inputs, self.outputs, self.weights)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="kiosk")
        model.ir_version = IR_VERSION
        onnx.checker.check_model(model)
        path.write_bytes(model.SerializeToString())


def _value(name: str, shape: Axes) -> Any:
    from onnx import TensorProto, helper

    return helper.make_tensor_value_info(name, TensorProto.FLOAT, list(shape))
