"""The double of one TensorRT, a small network, and a folder of its own for plans."""

from pathlib import Path
from typing import Any, Callable, List

import numpy as np
import pytest

from engines.backends import cuda
from engines.convert.graph import Graph
from engines.plans import cache
from settings import Settings
from tests.doubles import tensorrt as double


class Place:
    """An embedder's end as ONNX, and what is said while its plans are built."""

    def __init__(self, folder: Path) -> None:
        self.onnx = folder / "net.onnx"
        self.plans = folder / "plans"
        self.settings = Settings(backend="tensorrt")
        self.said: List[str] = []
        self.write()

    def write(self, factor: float = 2) -> None:
        graph = Graph("net")
        x = graph.add("Mul", [graph.input("x", ["N", 64]), graph.weight("factor", np.array([factor], np.float32))], "m")
        length = graph.add("ReduceL2", [x], "length", axes=[1], keepdims=1)
        graph.add("Div", [x, length], "end", "y")
        graph.output("y", ["N", 64])
        graph.save(self.onnx)

    def open(self) -> Any:
        self.said = []
        return cache.open_plan(self.onnx, "embedder", self.settings, self.said.append)

    def built(self) -> bool:
        """Whether opening had to build."""
        self.open().close()
        return any("building it" in line for line in self.said)

    def path(self) -> Path:
        return cache.wanted(self.onnx, "embedder", self.settings).path

    def left(self) -> List[str]:
        return sorted(path.suffix for path in self.plans.glob("*"))


@pytest.fixture
def make_place(tmp_path: Path, monkeypatch) -> Callable[..., Place]:
    def make(flavour: str = "8.2", plugin: bool = True) -> Place:
        double.install(tmp_path / "site", monkeypatch, flavour, plugin)
        cuda.gpu.cache_clear()
        place = Place(tmp_path)
        monkeypatch.setattr(cache, "folder", lambda: place.plans)
        return place

    return make


@pytest.fixture
def place(make_place):
    return make_place()


@pytest.fixture(autouse=True)
def _another_gpu_next_time():
    yield
    cuda.gpu.cache_clear()
