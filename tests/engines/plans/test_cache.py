"""Plans: built once, rebuilt by themselves, never trusted blindly, never half written."""

import hashlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from engines import plugin
from engines.convert.graph import Graph
from engines.plans import cache, report
from errors import ModelError
from tests import ROOT
from tests.doubles import tensorrt as double

CODE = """
import sys; sys.path.insert(0, {root!r})
from pathlib import Path
from engines.plans import cache
from settings import Settings
cache.folder = lambda: Path({plans!r})
try:
    with cache.open_plan(Path({onnx!r}), "embedder", Settings(backend="tensorrt"), print) as network:
        print("OPEN", network.name)
except KeyboardInterrupt:
    print("STOPPED")
    sys.exit(130)
"""


def _process(place) -> "subprocess.Popen[str]":
    code = CODE.format(root=str(ROOT), plans=str(place.plans), onnx=str(place.onnx))
    return subprocess.Popen(
        [sys.executable, "-u", "-c", code], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, universal_newlines=True
    )


@pytest.mark.parametrize("flavour", sorted(double.VERSIONS))
@pytest.mark.parametrize("precision", ["fp32", "fp16", "best"])
def test_a_plan_is_built_once_and_runs(make_place, flavour: str, precision: str) -> None:
    place = make_place(flavour)
    place.settings.tensorrt.precision = precision
    values = np.random.RandomState(0).standard_normal((3, 64)).astype(np.float32)
    with place.open() as network:
        assert "building it for Double sm_53 with TensorRT {}".format(double.VERSIONS[flavour]) in place.said[0]
        np.testing.assert_allclose(network.run({"x": values})["y"], plugin.reference(values), atol=2e-3)
        assert b"L2Norm" in cache.read(place.path())[1]
    assert not place.built()
    assert place.left() == ["", ".cache", ".plan"]  # the lock, measurements, the plan


@pytest.mark.parametrize("change", ["precision", "rows", "network", "workspace", "format"])
def test_what_changes_asks_for_another_plan(place, change: str, monkeypatch) -> None:
    assert place.built()
    before = place.path()
    if change == "precision":
        place.settings.tensorrt.precision = "fp32"
    elif change == "rows":
        monkeypatch.setattr("engines.plans.limits.MAX_BATCH", 16)
    elif change == "network":
        place.write(factor=3)
    elif change == "workspace":
        place.settings.tensorrt.workspace = 64
    else:
        monkeypatch.setattr(cache, "FORMAT", cache.FORMAT + 1)
    assert place.path() != before
    assert place.built() and not place.built()


def test_so_does_another_tensorrt_or_gpu(make_place, monkeypatch) -> None:
    names = {make_place(flavour).path().name for flavour in double.VERSIONS}
    assert len(names) == len(double.VERSIONS)
    monkeypatch.setattr("tests.doubles.pycuda.Device.name", lambda self: "Another")
    assert make_place("8.2").path().name not in names


def test_pnet_and_rnet_keep_fp32_whatever_is_asked(place) -> None:
    for role, precision in (("pnet", "fp32"), ("rnet", "fp32"), ("onet", "fp16"), ("embedder", "fp16")):
        place.settings.tensorrt.precision = "fp16"
        assert cache.wanted(place.onnx, role, place.settings).key["precision"] == precision


@pytest.mark.parametrize("damage", ["flipped", "cut", "emptied", "text", "renamed"])
def test_a_damaged_or_foreign_plan_is_built_anew(place, damage: str) -> None:
    place.open().close()
    path = place.path()
    whole = path.read_bytes()
    broken = {
        "flipped": whole[:-9] + bytes([whole[-9] ^ 1]) + whole[-8:],
        "cut": whole[:-100],
        "emptied": b"",
        "text": b"no plan at all",
        "renamed": whole.replace(b"Double sm_53", b"Double sm_87"),  # another board's, under this one's name
    }
    path.write_bytes(broken[damage])
    assert place.built()
    says = (
        "built for something else"
        if damage == "renamed"
        else "is damaged"
        if damage in ("flipped", "cut")
        else "is no plan"
    )
    assert any(says in line and "built anew" in line for line in place.said), place.said
    assert path.read_bytes() == whole


def test_a_plan_that_tensorrt_refuses_is_built_anew_once(place) -> None:
    place.open().close()
    asked = cache.wanted(place.onnx, "embedder", place.settings)
    body = b"whole, and ours by name"
    head = {"key": asked.key, "sha256": hashlib.sha256(body).hexdigest()}
    asked.path.write_bytes(cache._text(head) + b"\n" + body)
    assert place.built()
    assert any("cannot load this plan" in line and "It is built anew" in line for line in place.said)


def test_without_the_plugin_it_is_built_with_the_norm_left_out(make_place, tmp_path: Path, monkeypatch) -> None:
    make_place("8.2", plugin=True).open().close()
    place = make_place("8.2", plugin=False)
    monkeypatch.setattr(plugin, "LIBRARY", tmp_path / "none.so")
    # TensorRT would refuse the plan with the plugin; the key says that another one is wanted
    monkeypatch.setattr(plugin, "fingerprint", lambda: "of a library")
    with place.open() as network:
        values = np.random.RandomState(0).standard_normal((2, 64)).astype(np.float32)
        np.testing.assert_allclose(network.run({"x": values})["y"], 2 * values, atol=1e-2)
    assert any("normalised on the CPU, without the plugin" in line and "nvcc" in line for line in place.said), (
        place.said
    )


def test_two_processes_build_it_once(place, monkeypatch) -> None:
    both = [_process(place) for _ in range(2)]
    texts = [one.communicate(timeout=60)[0] for one in both]
    assert [one.returncode for one in both] == [0, 0], texts
    assert sum(text.count("building it") for text in texts) == 1
    assert all("OPEN net." in text for text in texts)
    assert place.left() == ["", ".cache", ".plan"]


@pytest.mark.parametrize(
    "how, says",
    [
        ("killed", "net.onnx: the builder was ended by signal 9"),
        ("refused", r"net.onnx: TensorRT cannot build it \(Could not find any implementation for node conv1"),
    ],
)
def test_a_build_that_fails_leaves_nothing(place, how: str, says: str, monkeypatch) -> None:
    monkeypatch.setenv(double.BROKEN, how)
    with pytest.raises(ModelError, match=says):
        place.open()
    assert place.left() == [""]
    monkeypatch.delenv(double.BROKEN)
    assert place.built()


def test_ctrl_c_ends_the_builder_and_leaves_nothing(place, monkeypatch) -> None:
    monkeypatch.setenv(double.BROKEN, "slow")
    process = _process(place)
    deadline = time.time() + 30
    while not list(place.plans.glob("building-*/request.json")) and time.time() < deadline:
        time.sleep(0.05)
    time.sleep(0.5)  # until the builder is one
    builders = _children(process.pid)
    assert builders
    process.send_signal(signal.SIGINT)
    assert "STOPPED" in process.communicate(timeout=15)[0]
    assert process.returncode == 130
    assert place.left() == [""]
    assert not any(os.path.exists("/proc/{}".format(one)) for one in builders)


def _children(pid: int) -> list:
    found = Path("/proc/{0}/task/{0}/children".format(pid)).read_text()
    return found.split()


def test_what_a_killed_build_left_goes_with_the_next(place) -> None:
    (place.plans / "building-old").mkdir(parents=True)
    (place.plans / "building-old" / "plan").write_bytes(b"half")
    assert place.built()
    assert place.left() == ["", ".cache", ".plan"]


def test_a_folder_that_cannot_be_written(place) -> None:
    place.plans.write_text("in the way")
    with pytest.raises(ModelError, match="plans: cannot be written"):
        place.open()


@pytest.mark.parametrize(
    "flavour, says", [("8.2", "has to be calibrated on photos"), ("11", "only from a file with Q/DQ")]
)
def test_int8_without_calibration(make_place, flavour: str, says: str) -> None:
    place = make_place(flavour)
    place.settings.tensorrt.precision = "int8"
    with pytest.raises(ModelError, match=says):
        place.open()


def test_int8_with_calibration(place, tmp_path: Path) -> None:
    place.settings.tensorrt.precision = "int8"
    asked = cache.wanted(place.onnx, "embedder", place.settings)
    np.savez(str(tmp_path / "faces.npz"), a=np.ones((1, 64), np.float32), b=np.ones((1, 64), np.float32))
    cache.ensure(asked, place.settings, place.said.append, calibration=tmp_path / "faces.npz")
    assert not place.built()


def test_on_11_fp16_is_in_the_graph_with_fp32_around_it(make_place) -> None:
    import onnx

    place = make_place("11")
    place.settings.tensorrt.precision = "fp16"
    place.open().close()
    body = cache.read(place.path())[1].partition(b"\n")[2]
    model = onnx.load_model_from_string(body)
    assert [value.type.tensor_type.elem_type for value in list(model.graph.input) + list(model.graph.output)] == [1, 1]
    assert [node.op_type for node in model.graph.node] == ["Cast", "Mul", "Cast", "L2Norm"]  # the sum in FP32
    assert {item.data_type for item in model.graph.initializer} == {10}


def test_inspect_tells_of_onnx_and_plan(place, tmp_path: Path) -> None:
    place.open().close()
    plan = "\n".join(report.inspected(place.path()))
    assert "input 'x' (any, 64) float32, (1, 64) to (32, 64)" in plan
    assert "tensorrt: 8.2.1.8" in plan and "precision: best" in plan and "layer 1: " in plan
    onnx = "\n".join(report.inspected(place.onnx))
    assert "input 'x' (N, 64) FP32" in onnx and "nodes: Mul 1, ReduceL2 1, Div 1" in onnx and "weights: FP32 1" in onnx
    place.path().write_bytes(place.path().read_bytes()[:-1])
    with pytest.raises(ModelError, match="is damaged"):
        report.inspected(place.path())
    (tmp_path / "text.onnx").write_text("text")
    with pytest.raises(ModelError, match="is no ONNX file"):
        report.inspected(tmp_path / "text.onnx")
    with pytest.raises(ModelError, match="is not there"):
        report.inspected(tmp_path / "none.onnx")


@pytest.mark.parametrize("flavour", sorted(double.VERSIONS))
def test_a_height_and_a_width_of_one_name_may_differ(make_place, flavour: str) -> None:
    """As SCRFD's files call both '?': TensorRT would ask for squares."""
    place = make_place(flavour)
    graph = Graph("net")
    graph.output(graph.add("Relu", [graph.input("x", [1, 3, "?", "?"])], "end", "y"), [1, 3, "h", "w"])
    graph.save(place.onnx)
    picture = np.random.RandomState(0).standard_normal((1, 3, 384, 640)).astype(np.float32)
    with cache.open_plan(place.onnx, "detector", place.settings, place.said.append) as network:
        np.testing.assert_allclose(network.run({"x": picture})["y"], picture.clip(0), atol=2e-3)
