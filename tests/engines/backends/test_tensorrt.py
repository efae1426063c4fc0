"""TensorRT behind the Network contract, on the doubles of four versions."""

from pathlib import Path
from typing import Any, Dict, List

import numpy as np
import pytest

from engines.backends import cuda
from engines.backends.onnx import OnnxNetwork
from engines.backends.tensorrt import TensorrtNetwork
from engines.convert.graph import Graph
from errors import ModelError
from tests import SHARED
from tests.doubles import pycuda
from tests.doubles import tensorrt as double


@pytest.fixture(params=sorted(double.VERSIONS))
def flavour(request, tmp_path: Path, monkeypatch):
    double.install(tmp_path / "site", monkeypatch, request.param)
    cuda.gpu.cache_clear()
    yield request.param
    cuda.gpu.cache_clear()
    assert not pycuda.live, "memory of the device was not freed"


def _onnx(path: Path, batched: bool = True) -> Path:
    graph = Graph("doubled")
    value = graph.input("x", ["N" if batched else 1, 3, "H", "W"])
    graph.add("Mul", [value, graph.weight("two", np.array([2], np.float32))], "mul", "y")
    graph.output("y", ["N" if batched else 1, 3, "H", "W"])
    graph.save(path)
    return path


def _plan(onnx: Path, least: Any = (1, 3, 4, 4), most: Any = (8, 3, 16, 16)) -> bytes:
    """Built here, without the kiosk's builder: what is tested is how a plan runs."""
    import tensorrt as trt

    builder = trt.Builder(trt.ILogger())
    flags = getattr(trt.NetworkDefinitionCreationFlag, "EXPLICIT_BATCH", None)
    network = builder.create_network(0 if flags is None else 1 << int(flags))
    assert trt.OnnxParser(network, trt.ILogger()).parse(onnx.read_bytes())
    config, profile = builder.create_builder_config(), builder.create_optimization_profile()
    profile.set_shape("x", least, least, most)
    config.add_optimization_profile(profile)
    return bytes(builder.build_serialized_network(network, config))


def _feeds(*shape: int) -> Dict[str, np.ndarray]:
    return {"x": np.random.RandomState(sum(shape)).standard_normal(shape).astype(np.float32)}


def test_it_gives_what_onnx_runtime_gives(flavour: str, tmp_path: Path) -> None:
    onnx = _onnx(tmp_path / "net.onnx")
    with TensorrtNetwork(_plan(onnx), "net") as network, OnnxNetwork(onnx, 1) as other:
        assert network.inputs == other.inputs and network.outputs == other.outputs
        for shape in ((1, 3, 4, 4), (8, 3, 16, 16), (2, 3, 5, 9), (2, 3, 5, 9), (2, 3, 5, 9), (2, 3, 5, 9)):
            feeds = _feeds(*shape)
            np.testing.assert_array_equal(network.run(feeds)["y"], other.run(feeds)["y"])


def test_nothing_is_allocated_after_opening(flavour: str, tmp_path: Path) -> None:
    with TensorrtNetwork(_plan(_onnx(tmp_path / "net.onnx")), "net") as network:
        made = pycuda.made
        for rows in (1, 8, 3, 20):
            network.run(_feeds(rows, 3, 8, 8))
        assert pycuda.made == made


@pytest.mark.parametrize("rows", [0, 1, 8, 9, 30])
def test_any_number_of_rows(flavour: str, tmp_path: Path, rows: int) -> None:
    with TensorrtNetwork(_plan(_onnx(tmp_path / "net.onnx")), "net") as network:
        feeds = _feeds(rows, 3, 8, 8)
        found = network.run(feeds)["y"]
        assert found.shape[0] == rows
        if rows:
            np.testing.assert_array_equal(found, 2 * feeds["x"])


def test_shapes_outside_the_plan(flavour: str, tmp_path: Path) -> None:
    with TensorrtNetwork(_plan(_onnx(tmp_path / "net.onnx")), "net") as network:
        message = r"net: input 'x' has shape \(1, 3, 4, 17\), the plan holds \(1, 3, 4, 4\) to \(8, 3, 16, 16\)"
        with pytest.raises(ModelError, match=message):
            network.run(_feeds(1, 3, 4, 17))
        np.testing.assert_array_equal(network.run(_feeds(1, 3, 4, 16))["y"], 2 * _feeds(1, 3, 4, 16)["x"])
    plan = _plan(_onnx(tmp_path / "one.onnx", batched=False), most=(1, 3, 16, 16))
    message = r"input 'x' has shape \(2, 3, 4, 4\), but must be \(1, 3, any, any\)"
    with TensorrtNetwork(plan, "one") as network, pytest.raises(ModelError, match=message):
        network.run(_feeds(2, 3, 4, 4))


def test_wrong_feeds_and_a_closed_network(flavour: str, tmp_path: Path) -> None:
    network = TensorrtNetwork(_plan(_onnx(tmp_path / "net.onnx")), "net")
    with pytest.raises(ModelError, match=r"net: input 'x' is float64, but must be float32\."):
        network.run({"x": np.zeros((1, 3, 4, 4))})
    with pytest.raises(ModelError, match=r"net: inputs are none, but must be x\."):
        network.run({})
    network.close()
    network.close()
    with pytest.raises(ModelError, match="net: the network is closed"):
        network.run(_feeds(1, 3, 4, 4))


def test_a_plan_of_another_version_and_none_at_all(flavour: str, tmp_path: Path) -> None:
    plan = _plan(_onnx(tmp_path / "net.onnx"))
    other = plan.replace(double.VERSIONS[flavour].encode(), b"7.1.3.4", 1)
    with pytest.raises(ModelError, match=r"net: TensorRT .* cannot load this plan \(.*not compatible"):
        TensorrtNetwork(other, "net")
    with pytest.raises(ModelError, match=r"net: TensorRT .* cannot load this plan \(Serialization assertion"):
        TensorrtNetwork(b"anything", "net")


def test_what_tensorrt_and_cuda_refuse_is_an_error(flavour: str, tmp_path: Path, monkeypatch) -> None:
    with TensorrtNetwork(_plan(_onnx(tmp_path / "net.onnx")), "net") as network:
        call = "execute_async_v2" if flavour == "8.2" else "execute_async_v3"
        real = getattr(network._context, call)
        setattr(network._context, call, lambda *arguments: network._context._log("out of luck"))
        with pytest.raises(ModelError, match=r"net: TensorRT cannot run it \(out of luck\)\."):
            network.run(_feeds(1, 3, 4, 4))
        setattr(network._context, call, real)

        def fail(*arguments: Any) -> None:
            raise pycuda.LogicError("an illegal memory access was encountered")

        monkeypatch.setattr(pycuda, "memcpy_dtoh_async", fail)
        with pytest.raises(ModelError, match=r"net: CUDA cannot run it \(an illegal memory access"):
            network.run(_feeds(1, 3, 4, 4))


def test_steady_shapes_are_recorded_once(flavour: str, tmp_path: Path, monkeypatch) -> None:
    recorded: List[Any] = []
    launched: List[Any] = []

    class Graph:
        @classmethod
        def capture(cls, stream: int, work: Any) -> Any:
            assert work()
            recorded.append(stream)
            return cls(work)

        def __init__(self, work: Any) -> None:
            self._work = work

        def launch(self, stream: int) -> bool:
            launched.append(stream)
            return self._work()

        def close(self) -> None:
            recorded.append(None)

    monkeypatch.setattr("engines.backends.tensorrt.Graph", Graph)
    with TensorrtNetwork(_plan(_onnx(tmp_path / "net.onnx")), "net") as network:
        for _ in range(5):
            np.testing.assert_array_equal(network.run(_feeds(2, 3, 8, 8))["y"], 2 * _feeds(2, 3, 8, 8)["x"])
        assert len(recorded) == 1 and len(launched) == 2  # recorded behind the third run
        network.run(_feeds(1, 3, 8, 8))
        assert recorded[1:] == [None], "a record of other shapes must go"
        np.testing.assert_array_equal(network.run(_feeds(2, 3, 8, 8))["y"], 2 * _feeds(2, 3, 8, 8)["x"])


def test_on_the_device_from_and_to_its_memory(flavour: str, tmp_path: Path) -> None:
    device = pytest.importorskip("engines.sampling.device", reason="sampling on the GPU is not in this version")
    with TensorrtNetwork(_plan(_onnx(tmp_path / "net.onnx")), "net") as network, cuda.gpu().current():
        feeds = _feeds(2, 3, 8, 8)
        memory = pycuda.mem_alloc(feeds["x"].nbytes)
        pycuda.memcpy_htod(memory, feeds["x"])
        given = device.DeviceArray(int(memory), (2, 3, 8, 8), np.dtype(np.float32))
        found = network.run_on_device({"x": given}, 1)
        assert found is not None and found["y"].shape == (2, 3, 8, 8)
        values = pycuda.memory_at(found["y"].address, found["y"].nbytes).view(np.float32).reshape(2, 3, 8, 8)
        np.testing.assert_array_equal(values, 2 * feeds["x"])
        assert network.run_on_device({"x": given._replace(shape=(9, 3, 8, 8))}, 1) is None
        np.testing.assert_array_equal(network.run(feeds)["y"], 2 * feeds["x"])  # back to its own memory
        memory.free()


@pytest.mark.parametrize(
    "what, says",
    [
        ("no gpu", "CUDA finds no GPU on this machine"),
        ("old", "pycuda is too old; install 2020.1 or newer"),
        ("broken", r"CUDA does not work on this machine \(no driver\)"),
    ],
)
def test_a_machine_without_a_usable_gpu(what: str, says: str, tmp_path: Path, monkeypatch) -> None:
    double.install(tmp_path, monkeypatch, "10")
    cuda.gpu.cache_clear()
    if what == "no gpu":
        monkeypatch.setattr(pycuda.Device, "count", staticmethod(lambda: 0))
    elif what == "old":
        monkeypatch.delattr(pycuda.Device, "retain_primary_context")
    else:

        def fail() -> None:
            raise pycuda.LogicError("no driver")

        monkeypatch.setattr(pycuda, "init", fail)
    with pytest.raises(ModelError, match=says):
        cuda.gpu()


def test_the_doubles_have_what_their_versions_have() -> None:
    """Against the names of the real modules, as they were read by importing them."""
    import json

    path = SHARED / "tensorrt" / "api_names.json"
    if not path.exists():
        pytest.skip("needs ../shared/tensorrt/api_names.json")
    table = json.loads(path.read_text(encoding="utf-8"))
    wrong = []
    for flavour, version in (("8.2", "8.4.1.5"), ("8.5", "8.5.3.1"), ("10", "10.3.0"), ("11", "11.4.0.106")):
        column = table["versions"].index(version)
        made = double.module(flavour)
        real = {name for name, there in table["names"].items() if there[column] == "1"}
        for name, kind in made.items():
            if not isinstance(kind, type) or name == "get_plugin_registry":
                continue
            members = [
                one
                for one in vars(kind)
                if not one.startswith("_")
                and one not in ("trt", "logger", "explicit", "inputs", "outputs", "onnx", "engine", "flags", "profiles")
            ]
            wrong += ["{} has no {}.{}".format(version, name, one) for one in members if name + "." + one not in real]
        if flavour != "8.2":  # whose real module is the one of 8.4, which has more
            wrong += [
                "{} has {}".format(version, name)
                for name, there in double.NAMES.items()
                if flavour not in there and name in real and version in table["versions"]
            ]
    assert not wrong, "\n".join(wrong)
