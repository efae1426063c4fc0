"""The norm at a graph's end: every usual spelling becomes the plugin's node, and that the native one."""

from pathlib import Path
from typing import Callable, Dict

import numpy as np
import onnx
import pytest

from engines import plugin
from engines.backends.onnx import OnnxNetwork
from engines.convert.graph import Graph
from engines.plugin import graph as norm

ROWS = np.array([[3, 4, 0], [0, 0, 0], [1e4, -1e4, 1]], np.float32)


def _number(graph: Graph, name: str, value: float) -> str:
    return graph.weight(name, np.array(value, np.float32))


def _sum(graph: Graph, squares: str) -> str:
    return graph.add("ReduceSum", [squares, graph.weight("axes", np.array([-1], np.int64))], "sum", keepdims=1)


def squares_and_clip(graph: Graph, x: str) -> str:
    least = graph.add(
        "Clip", [_sum(graph, graph.add("Mul", [x, x], "squares")), _number(graph, "least", 1e-12)], "clip"
    )
    return graph.add("Sqrt", [least], "root")


def squares_and_max(graph: Graph, x: str) -> str:
    squares = graph.add("Pow", [x, _number(graph, "two", 2)], "squares")
    return graph.add("Sqrt", [graph.add("Max", [_sum(graph, squares), _number(graph, "least", 1e-12)], "max")], "root")


def length_and_clip(graph: Graph, x: str) -> str:
    length = graph.add("ReduceL2", [x], "length", axes=[1], keepdims=1)
    return graph.add("Clip", [length, _number(graph, "least", 1e-6)], "clip")


def sum_of_squares(graph: Graph, x: str) -> str:
    total = graph.add("ReduceSumSquare", [x], "sum", axes=[-1], keepdims=1)
    return graph.add("Sqrt", [graph.add("Add", [total, _number(graph, "least", 1e-12)], "more")], "root")


SPELLINGS: Dict[str, Callable[[Graph, str], str]] = {
    function.__name__: function for function in (squares_and_clip, squares_and_max, length_and_clip, sum_of_squares)
}


def _model(tmp_path: Path, spelling: Callable[[Graph, str], str], end: str = "Div") -> onnx.ModelProto:
    graph = Graph("norm")
    x = graph.add("Identity", [graph.input("x", ["N", 3])], "before")
    graph.add(end, [x, spelling(graph, x)], "end", "y")
    graph.output("y", ["N", 3])
    graph.save(tmp_path / "norm.onnx")
    return onnx.load(str(tmp_path / "norm.onnx"))


def _run(model: onnx.ModelProto) -> np.ndarray:
    with OnnxNetwork(model.SerializeToString(), 1) as network:
        return network.run({"x": ROWS})["y"]


@pytest.mark.parametrize("spelling", sorted(SPELLINGS))
def test_each_spelling_becomes_the_plugin_and_native_again(spelling: str, tmp_path: Path) -> None:
    model = _model(tmp_path, SPELLINGS[spelling])
    wanted = _run(model)
    norms = norm.bare(model)
    assert list(norms) == ["y"] and norms["y"] == pytest.approx(1e-12)
    assert {node.op_type for node in model.graph.node} == {"Identity"}
    np.testing.assert_array_equal(_run(model), ROWS)
    norm.plug(model, norms)
    onnx.checker.check_model(model)
    last = model.graph.node[-1]
    assert (last.op_type, list(last.output)) == ("L2Norm", ["y"])
    assert norm.native(model) == 1
    onnx.checker.check_model(model)
    np.testing.assert_allclose(_run(model), wanted, atol=1e-6)
    np.testing.assert_allclose(_run(model), plugin.reference(ROWS), atol=1e-6)


def test_a_node_l2norm_is_left_out_as_well(tmp_path: Path) -> None:
    model = _model(tmp_path, squares_and_clip)
    norm.plug(model, norm.bare(model))
    assert norm.bare(model) == {"y": pytest.approx(1e-12)}
    np.testing.assert_array_equal(_run(model), ROWS)


def test_other_quotients_stay(tmp_path: Path) -> None:
    """A mean, another axis, the length of something else."""

    def mean(graph: Graph, x: str) -> str:
        return graph.add("Sqrt", [graph.add("ReduceMean", [graph.add("Mul", [x, x], "s")], "m", axes=[-1])], "root")

    def other_axis(graph: Graph, x: str) -> str:
        return graph.add("ReduceL2", [x], "length", axes=[0], keepdims=1)

    def other_value(graph: Graph, x: str) -> str:
        return graph.add("ReduceL2", [graph.add("Relu", [x], "relu")], "length", axes=[1], keepdims=1)

    for spelling in (mean, other_axis, other_value):
        model = _model(tmp_path, spelling)
        before = model.SerializeToString()
        assert norm.bare(model) == {}
        assert model.SerializeToString() == before
    assert norm.bare(_model(tmp_path, length_and_clip, end="Mul")) == {}
