"""ONNX Runtime behind the Network contract, on tiny graphs written here."""
import sys
from pathlib import Path

import numpy as np
import pytest

from engines.backends.choose import open_network
from engines.backends.onnx import OnnxNetwork
from engines.convert.graph import Graph
from errors import ModelError
from settings import Settings
from tests import shared


@pytest.fixture
def doubled(tmp_path: Path) -> Path:
    graph = Graph("doubled")
    value = graph.input("x", ["N", 3])
    graph.add("Mul", [value, graph.weight("two", np.array([2], np.float32))], "mul", "y")
    graph.output("y", ["N", 3])
    graph.save(tmp_path / "doubled.onnx")
    return tmp_path / "doubled.onnx"


@pytest.mark.parametrize("threads", [0, 1])
def test_it_runs_from_a_file_and_from_bytes(doubled: Path, threads: int) -> None:
    for model in (doubled, str(doubled), doubled.read_bytes()):
        with OnnxNetwork(model, threads) as network:
            assert [(item.name, item.shape, item.dtype) for item in network.inputs] == [("x", (None, 3), np.float32)]
            assert [item.name for item in network.outputs] == ["y"]
            for rows in (0, 1, 5):
                found = network.run({"x": np.ones((rows, 3), np.float32)})
                np.testing.assert_array_equal(found["y"], np.full((rows, 3), 2))


@pytest.mark.parametrize(
    "feeds, message",
    [
        ({}, "inputs are none, but must be x."),
        ({"z": np.zeros((1, 3), np.float32)}, "inputs are z, but must be x."),
        ({"x": np.zeros((1, 3))}, "input 'x' is float64, but must be float32."),
        ({"x": np.zeros((1, 4), np.float32)}, r"input 'x' has shape \(1, 4\), but must be \(any, 3\)."),
        ({"x": np.zeros(3, np.float32)}, r"input 'x' has shape \(3\), but must be \(any, 3\)."),
    ],
)
def test_wrong_feeds_are_named(doubled: Path, feeds: dict, message: str) -> None:
    with OnnxNetwork(doubled) as network, pytest.raises(ModelError, match="doubled.onnx: " + message):
        network.run(feeds)


def test_a_closed_network_says_so(doubled: Path) -> None:
    network = OnnxNetwork(doubled)
    network.close()
    with pytest.raises(ModelError, match="the network is closed"):
        network.run({"x": np.zeros((1, 3), np.float32)})


def test_a_damaged_and_an_absent_file(tmp_path: Path) -> None:
    (tmp_path / "bad.onnx").write_bytes(b"no network")
    for name in ("bad.onnx", "none.onnx"):
        with pytest.raises(ModelError, match=name + ": ONNX Runtime cannot load it"):
            OnnxNetwork(tmp_path / name)


def test_it_keeps_quiet_about_free_axes(capfd) -> None:
    with OnnxNetwork(shared("models/scrfd/det_500m.onnx"), 1) as network:
        found = network.run({network.inputs[0].name: np.zeros((1, 3, 64, 96), np.float32)})
    assert found[network.outputs[0].name].shape == (192, 1)  # the file claims 12800 rows
    assert capfd.readouterr().err == ""


def test_auto_is_the_cpu_where_no_self_test_decides(doubled: Path) -> None:
    settings = Settings()
    for settings.backend in ("auto", "onnx"):
        with open_network(doubled, settings) as network:
            assert isinstance(network, OnnxNetwork)


def test_tensorrt_that_is_not_there(doubled: Path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    with pytest.raises(ModelError, match="TensorRT cannot be imported"):
        open_network(doubled, Settings(backend="tensorrt"))
