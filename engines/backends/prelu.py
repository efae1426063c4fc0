"""Rewrite PRelu for ONNX Runtime on the CPU: the same function from operators that it runs fast.

Its PRelu takes 6 ns a value and makes it leave its blocked layout (16 channels side by side) before
and after: 20 of 46 ms of MTCNN's RNet. Everything here is exact up to rounding (3e-6 measured):

* prelu(x) = a x + (1 - a) relu(x): a Relu and two convolutions with one weight a channel, which it
  fuses with the sum. Channels are filled up with zeros to the 16 of a block.
* Before a pooling by maximum that shrinks the map, where there is room in the block: pool first.
  max(prelu(x)) = prelu(max(x)) for a >= 0; for a < 0 it is max(max(x), max(a x)), so the convolution
  gives those channels twice, the second time times a. In PNet 10 channels become just 16.
* Softmax over two channels of a map is a Sigmoid of their difference.

The files on disk keep the native PRelu, which TensorRT wants.
"""

import copy
import importlib.util
import os
from pathlib import Path
from typing import Any, Dict, List, Set, Union

import numpy as np

BLOCK = 16  # channels side by side in ONNX Runtime's layout (8 without AVX-512: a divisor)
SUFFIX = ".cpu1.onnx"  # of rewritten files; raise the number when the rewriting changes


def quick(path: Path) -> Union[Path, bytes]:
    """What to load in place of the ONNX file at `path`: itself when it has no PRelu, else its
    rewritten copy, kept beside it (in memory only where that folder cannot be written)."""
    copied = path.with_name(path.stem + SUFFIX)
    try:
        if copied.stat().st_mtime >= path.stat().st_mtime:
            return copied
    except OSError:
        pass  # not there yet; a missing `path` is for the backend to report
    if not path.is_file() or importlib.util.find_spec("onnx") is None:
        return path
    model = path.read_bytes()
    if b"PRelu" not in model:
        return path
    model = rewritten(model)
    part = copied.with_name("{}.{}.part".format(copied.name, os.getpid()))
    try:
        part.write_bytes(model)
        os.replace(str(part), str(copied))
    except OSError:
        return model
    return copied


def rewritten(model: bytes) -> bytes:
    """The ONNX file `model` with fast equivalents; unchanged where no pattern fits."""
    import onnx

    graph = onnx.load_model_from_string(model)
    return _Rewriter(graph).run().SerializeToString()


class _Rewriter:
    """Walks the nodes in order; `_mixes` says how a value's channels follow from those it has now."""

    def __init__(self, model: Any) -> None:
        from onnx import numpy_helper

        self._model = model
        self._weights = {item.name: numpy_helper.to_array(item) for item in model.graph.initializer}
        self._nodes: List[Any] = []
        self._users: Dict[str, List[Any]] = {}
        self._mixes: Dict[str, np.ndarray] = {}  # (channels of old, of new): old = mix @ new
        for node in model.graph.node:
            for name in node.input:
                self._users.setdefault(name, []).append(node)

    def run(self) -> Any:
        from onnx import helper, numpy_helper

        taken: Set[str] = set()  # outputs of nodes that a rewrite has taken in
        for node in list(self._model.graph.node):
            if node.output[0] not in taken:
                taken |= self._rewrite(node)
        used = {name for node in self._nodes for name in node.input}
        weights = [numpy_helper.from_array(np.ascontiguousarray(array), name)
                   for name, array in self._weights.items() if name in used]  # fmt: skip
        old = self._model.graph
        graph = helper.make_graph(self._nodes, old.name, list(old.input), list(old.output), weights)
        model = helper.make_model(graph, opset_imports=list(self._model.opset_import))
        model.ir_version = self._model.ir_version
        return model

    def _rewrite(self, node: Any) -> Set[str]:
        """Add `node`, together with what follows it where a pattern fits; the outputs of the latter."""
        if node.op_type == "MaxPool" and node.input[0] in self._mixes:
            self._mixes[node.output[0]] = self._mixes[node.input[0]]
        if node.op_type != "Conv" or node.input[1] not in self._weights:
            self._nodes.append(node)
            return set()
        node = self._own_weights(node)
        after = self._only_user(node)
        last = self._only_user(after) if after is not None else None
        if after is not None and after.op_type == "PRelu" and after.input[1] in self._weights:
            if last is not None and self._pools_into_block(node, after, last):
                self._pool_first(node, after, last)
                return {after.output[0], last.output[0]}
            if self._splits(after):
                self._split(node, after)
                return {after.output[0]}
        elif after is not None and self._is_pair(node, after):
            self._sigmoid(node, after)
            return {after.output[0]}
        self._nodes.append(node)
        return set()

    def _own_weights(self, conv: Any) -> Any:
        """A copy of a convolution whose weights are its alone, with a bias, and which reads the
        channels that its rewritten input has."""
        conv = copy.deepcopy(conv)
        kernel = self._weights[conv.input[1]]
        bias = self._weights[conv.input[2]] if len(conv.input) > 2 else np.zeros(len(kernel), np.float32)
        mix = self._mixes.get(conv.input[0])
        if mix is not None:
            kernel = np.einsum("oihw,ic->ochw", kernel, mix)
        names = [self._weight(conv.output[0] + "_kernel", kernel), self._weight(conv.output[0] + "_bias", bias)]
        value = conv.input[0]
        del conv.input[:]
        conv.input.extend([value] + names)
        return conv

    def _only_user(self, node: Any) -> Any:
        users = self._users.get(node.output[0], [])
        return users[0] if len(users) == 1 else None

    def _add(self, kind: str, inputs: List[str], output: str, **attributes: Any) -> str:
        from onnx import helper

        self._nodes.append(helper.make_node(kind, inputs, [output], name=output, **attributes))
        return output

    def _weight(self, name: str, array: np.ndarray) -> str:
        self._weights[name] = array.astype(np.float32)
        return name

    def _slope(self, prelu: Any) -> np.ndarray:
        return self._weights[prelu.input[1]].reshape(-1).astype(np.float64)

    def _pools_into_block(self, conv: Any, prelu: Any, pool: Any) -> bool:
        slope = self._slope(prelu)
        wide = len(slope) + int((slope < 0).sum())
        return pool.op_type == "MaxPool" and wide <= BLOCK and self._plain_readers(pool)

    def _plain_readers(self, node: Any) -> bool:
        """Whether only convolutions without groups read `node`: they can take other channels."""
        readers = self._users.get(node.output[0], [])
        return bool(readers) and all(
            one.op_type == "Conv" and not [item for item in one.attribute if item.name == "group" and item.i != 1]
            for one in readers)  # fmt: skip

    def _pool_first(self, conv: Any, prelu: Any, pool: Any) -> None:
        slope = self._slope(prelu)
        negative = np.flatnonzero(slope < 0)
        count, name = len(slope), prelu.name
        kernel, bias = self._weights[conv.input[1]], self._weights[conv.input[2]]
        wide_kernel = np.zeros((BLOCK,) + kernel.shape[1:])
        wide_bias = np.zeros(BLOCK)
        wide_kernel[:count], wide_bias[:count] = kernel, bias
        for place, channel in enumerate(negative.tolist(), count):
            wide_kernel[place], wide_bias[place] = kernel[channel] * slope[channel], bias[channel] * slope[channel]
        self._weight(conv.input[1], wide_kernel)
        self._weight(conv.input[2], wide_bias)
        self._nodes.append(conv)
        end = pool.output[0]
        pooled = copy.deepcopy(pool)
        pooled.name, pooled.input[0], pooled.output[0] = name + "_pooled", conv.output[0], name + "_pooled"
        self._nodes.append(pooled)
        linear, bent, signs = np.zeros((BLOCK, BLOCK)), np.zeros((BLOCK, BLOCK)), np.ones(BLOCK)
        for channel, a in enumerate(slope):
            if a < 0:  # max(u, v) = u + relu(v - u)
                linear[channel, channel] = 1
                bent[channel, channel], bent[channel, count + negative.tolist().index(channel)] = -1, 1
            elif a <= 1:
                linear[channel, channel], bent[channel, channel] = a, 1 - a
            else:  # the other way round, since a relu only adds: -prelu(x) = -a x + (a - 1) relu(x)
                linear[channel, channel], bent[channel, channel], signs[channel] = -a, a - 1, -1
        self._sum(name + "_pooled", linear[:, :, None, None], bent[:, :, None, None], end, 1)
        self._mixes[end] = np.diag(signs)[:count]

    def _split(self, conv: Any, prelu: Any) -> None:
        """A slope over 1 bends the other way, which a relu that is added cannot: there x itself and
        relu(x), in a channel of its own, go on, and the next convolution puts them together."""
        slope = self._slope(prelu)
        steep = np.flatnonzero(slope > 1)
        count = len(slope)
        wide = -(-(count + len(steep)) // BLOCK) * BLOCK
        if wide != count:
            kernel, bias = self._weights[conv.input[1]], self._weights[conv.input[2]]
            kernel = np.concatenate([kernel, kernel[steep]])
            filled = np.zeros((wide,) + kernel.shape[1:])
            filled[: len(kernel)] = kernel
            self._weight(conv.input[1], filled)
            self._weight(conv.input[2], np.concatenate([bias, bias[steep], np.zeros(wide - len(kernel))]))
        self._nodes.append(conv)
        linear, mix = np.zeros(wide), np.eye(count, wide)
        linear[:count] = np.where(slope > 1, 1, slope)
        mix[steep, steep] = slope[steep]
        mix[steep, count + np.arange(len(steep))] = 1 - slope[steep]
        shape = (wide, 1, 1, 1)
        self._sum(conv.output[0], linear.reshape(shape), (1 - linear).reshape(shape), prelu.output[0], wide)
        if wide != count:
            self._mixes[prelu.output[0]] = mix

    def _splits(self, prelu: Any) -> bool:
        """Whether its channels fill blocks as they are, or may be added to."""
        slope = self._slope(prelu)
        if len(slope) % BLOCK == 0 and (slope <= 1).all():
            return True
        reader = self._only_user(prelu)
        return self._plain_readers(reader if reader is not None and reader.op_type == "MaxPool" else prelu)

    def _sum(self, value: str, linear: np.ndarray, bent: np.ndarray, end: str, group: int) -> None:
        """end = linear * value + relu(bent * value), both as convolutions with 1x1 kernels."""
        names = [self._weight(end + "_linear", linear), self._weight(end + "_bent", bent)]
        straight, bow = [self._add("Conv", [value, name], name + "_x", kernel_shape=[1, 1], group=group)
                         for name in names]  # fmt: skip
        self._add("Add", [straight, self._add("Relu", [bow], end + "_relu")], end)

    def _is_pair(self, conv: Any, softmax: Any) -> bool:
        axis = [item.i for item in softmax.attribute if item.name == "axis"]
        return softmax.op_type == "Softmax" and axis == [1] and len(self._weights[conv.input[1]]) == 2

    def _sigmoid(self, conv: Any, softmax: Any) -> None:
        turn = np.array([[1.0, -1.0], [-1.0, 1.0]])
        kernel, bias = self._weights[conv.input[1]], self._weights[conv.input[2]]
        self._weight(conv.input[1], np.einsum("ij,jkhw->ikhw", turn, kernel))
        self._weight(conv.input[2], turn @ bias)
        self._nodes.append(conv)
        self._add("Sigmoid", [conv.output[0]], softmax.output[0])
