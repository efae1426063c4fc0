"""The kiosk's networks through a real TensorRT, beside ONNX Runtime."""

import subprocess
import sys
from pathlib import Path
from typing import List

import cv2
import numpy as np
import pytest

from engines import plugin, selftest
from engines.backends import cuda, tensorrt
from engines.detect.boxes import overlaps
from engines.plans import cache, report
from engines.recognizer import Recognizer
from errors import ModelError
from settings import load
from tests import ROOT, shared

PORTRAIT = ROOT / "demo" / "portraits" / "Eileen Collins.jpg"
COSINE = {"fp32": 0.9999, "fp16": 0.999}


def _read(path: Path) -> np.ndarray:
    picture = cv2.imread(str(path))
    assert picture is not None
    return picture


def settings(backend: str, precision: str = "fp32"):
    """For photos of up to 2048 pixels, so that PNet runs on the GPU for each of them."""
    return load(
        ROOT / "config.yaml",
        ["backend=" + backend, "tensorrt.precision=" + precision, "capture.width=2048", "capture.height=1280"],
    )


@pytest.fixture(scope="module")
def on_cpu():
    with Recognizer.from_settings(settings("onnx")) as recognizer:
        yield recognizer


@pytest.fixture(scope="module", params=["fp32", "fp16"])
def on_gpu(request, plans, library):
    with Recognizer.from_settings(settings("tensorrt", request.param)) as recognizer:
        recognizer.precision = request.param
        yield recognizer


def test_the_same_faces_on_the_group_photos(on_cpu, on_gpu, capfd) -> None:
    """Boxes are rounded to pixels between MTCNN's networks, so a last bit can move one of a small face:
    PRelu rewritten for the CPU alone moves 2 of the 219. All faces are found, and 97 % lie where they lay."""
    rows, wrong, exact, total = [], [], 0, 0
    for path in sorted(shared("photos/group").glob("*.jpg")):
        picture = _read(path)
        (wanted, embeddings), (found, _) = on_cpu(picture), on_gpu(picture)
        ours = on_gpu.embed(picture, wanted.landmarks)
        cosine = float((ours * embeddings).sum(axis=1).min()) if wanted.count else 1.0
        best = overlaps(wanted.boxes, found.boxes).max(axis=1) if found.count else np.zeros(wanted.count)
        exact, total, least = exact + int((best >= 0.98).sum()), total + wanted.count, float(best.min())
        rows.append(
            "{:<36} {:>3} {:>3} faces, least IoU {:.4f}, least cosine {:.6f}".format(
                path.name, wanted.count, found.count, least, cosine
            )
        )
        if wanted.count != found.count or least < 0.9 or cosine < COSINE[on_gpu.precision]:
            wrong.append(rows[-1])
    captured = capfd.readouterr()
    assert "run on the CPU" not in captured.err
    with capfd.disabled():
        print("\n{}: faces on the CPU, on the GPU\n{}".format(on_gpu.precision, "\n".join(rows)))
        print("{} of {} faces with an IoU of 0.98 and more".format(exact, total))
    assert not wrong, "\n".join(wrong)
    assert exact >= 0.97 * total


def test_tensors_by_index_give_the_same(on_cpu, plans, library, monkeypatch, capfd) -> None:
    """The way of 8.2 to 8.4, which 8.5 and 8.6 still know."""
    trt = cache.module()
    if not hasattr(trt.ICudaEngine, "num_bindings"):
        pytest.skip("TensorRT {} has no bindings any more".format(trt.__version__))
    monkeypatch.setattr(tensorrt, "_Named", tensorrt._Indexed)
    picture = _read(PORTRAIT)
    with Recognizer.untested(settings("tensorrt", "fp32")) as recognizer:
        assert selftest.fault(recognizer) is None
        (faces, embeddings), (wanted, others) = recognizer(picture), on_cpu(picture)
        np.testing.assert_allclose(faces.boxes, wanted.boxes, atol=0.5)
        assert (embeddings * others).sum() > 0.9999


def test_a_graph_gives_what_single_launches_give(embedder_onnx, plans, library) -> None:
    asked = cache.wanted(embedder_onnx, "embedder", settings("tensorrt", "fp16"))
    plan = cache.ensure(asked, settings("tensorrt", "fp16"), print)
    chips = np.random.RandomState(0).uniform(-1, 1, (4, 3, 112, 112)).astype(np.float32)
    with tensorrt.TensorrtNetwork(plan, "graph") as fast, tensorrt.TensorrtNetwork(plan, "plain", False) as plain:
        name, output = fast.inputs[0].name, fast.outputs[0].name
        for _ in range(8):
            found = fast.run({name: chips})[output].copy()
        assert fast._graph is not None, "nothing was recorded"
        np.testing.assert_array_equal(found, plain.run({name: chips})[output])
        fewer = fast.run({name: chips[:2]})[output]  # another shape: the record is given up
        np.testing.assert_allclose(fewer, found[:2], atol=2e-3)


def test_batches_of_none_and_of_more_than_the_plan_holds(embedder_onnx, plans, library) -> None:
    asked = cache.wanted(embedder_onnx, "embedder", settings("tensorrt", "fp32"))
    with tensorrt.TensorrtNetwork(cache.ensure(asked, settings("tensorrt"), print), "embedder") as network:
        name, output = network.inputs[0].name, network.outputs[0].name
        assert network.run({name: np.zeros((0, 3, 112, 112), np.float32)})[output].shape[0] == 0
        chips = np.random.RandomState(0).uniform(-1, 1, (70, 3, 112, 112)).astype(np.float32)
        many = network.run({name: chips})[output]
        np.testing.assert_allclose(many[64:], network.run({name: chips[64:]})[output], atol=1e-4)
        np.testing.assert_allclose(np.linalg.norm(many, axis=1), 1, atol=1e-3)


def test_a_shape_outside_the_plan(on_gpu) -> None:
    pnet = on_gpu.detector._pnet._gpu
    with pytest.raises(ModelError, match=r"has shape \(1, 3, 4000, 4000\), the plan holds \(1, 3, 12, 12\) to"):
        pnet.run({"input": np.zeros((1, 3, 4000, 4000), np.float32)})
    small = np.zeros((1, 3, 4000, 20), np.float32)
    assert on_gpu.detector._pnet.run({"input": small})["probability"].shape[0] == 1  # on the CPU


def test_a_damaged_plan_is_built_anew(embedder_onnx, plans, library, capsys) -> None:
    asked = cache.wanted(embedder_onnx, "embedder", settings("tensorrt", "fp32"))
    whole = cache.ensure(asked, settings("tensorrt"), print)
    data = bytearray(asked.path.read_bytes())
    data[len(data) // 2] ^= 1
    asked.path.write_bytes(bytes(data))
    said: List[str] = []
    assert len(cache.ensure(asked, settings("tensorrt"), said.append)) > 0.5 * len(whole)
    assert any("is damaged" in line and "built anew" in line for line in said)


def test_a_plan_that_tensorrt_refuses_is_built_anew(embedder_onnx, plans, library, monkeypatch) -> None:
    import hashlib

    asked = cache.wanted(embedder_onnx, "embedder", settings("tensorrt", "fp32"))
    foreign = b"\0" * 4096  # whole, and named as ours, but no engine
    head = {"key": asked.key, "sha256": hashlib.sha256(foreign).hexdigest()}
    asked.path.write_bytes(cache._text(head) + b"\n" + foreign)
    said: List[str] = []
    with cache.open_plan(embedder_onnx, "embedder", settings("tensorrt", "fp32"), said.append) as network:
        assert network.outputs
    assert any("cannot load this plan" in line for line in said)


def test_a_plan_without_its_plugin(embedder_onnx, plans, library, tmp_path) -> None:
    """In a process without the library: TensorRT says no, and the kiosk builds one without it."""
    asked = cache.wanted(embedder_onnx, "embedder", settings("tensorrt", "fp32"))
    cache.ensure(asked, settings("tensorrt"), print)
    code = """
import sys; sys.path.insert(0, {root!r})
from pathlib import Path
from engines import plugin
from engines.plans import cache
from engines.backends.tensorrt import TensorrtNetwork
from errors import ModelError
from settings import load
plugin.LIBRARY = Path({missing!r})
cache.folder = lambda: Path({plans!r})
try:
    TensorrtNetwork(cache.read(Path({plan!r}))[1], "plan")
    print("LOADED")
except ModelError as error:
    print("REFUSED", error)
settings = load({config!r}, ["tensorrt.precision=fp32", "capture.width=2048", "capture.height=1280"])
with cache.open_plan(Path({onnx!r}), "embedder", settings, print) as network:
    print("REBUILT", network.name)
""".format(
        root=str(ROOT),
        missing=str(tmp_path / "none.so"),
        plan=str(asked.path),
        config=str(ROOT / "config.yaml"),
        onnx=str(embedder_onnx),
        plans=str(plans),
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        universal_newlines=True,
        cwd=str(ROOT),
    )
    print(done.stdout)
    assert "REFUSED" in done.stdout and "LOADED" not in done.stdout
    assert "REBUILT" in done.stdout and asked.path.name not in done.stdout.split("REBUILT")[1]


def test_two_builders_at_once(embedder_onnx, plans, library, tmp_path) -> None:
    code = """
import sys; sys.path.insert(0, {root!r})
from pathlib import Path
from engines.plans import cache
from settings import load
cache.folder = lambda: Path({folder!r})
with cache.open_plan(Path({onnx!r}), "embedder", load({config!r}, ["tensorrt.precision=fp32"]), print) as network:
    print("OPEN", network.name)
""".format(root=str(ROOT), folder=str(tmp_path / "plans"), config=str(ROOT / "config.yaml"), onnx=str(embedder_onnx))
    both = [
        subprocess.Popen(
            [sys.executable, "-c", code],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            universal_newlines=True,
            cwd=str(ROOT),
        )
        for _ in range(2)
    ]
    texts = [one.communicate(timeout=300)[0] for one in both]
    print("\n".join(texts))
    assert [one.returncode for one in both] == [0, 0]
    assert sum("can take minutes" in text for text in texts) == 1
    assert sum("another process is building" in text for text in texts) == 1
    assert all("OPEN" in text for text in texts)
    assert len(list((tmp_path / "plans").glob("*.plan"))) == 1


def test_nothing_is_allocated_in_1000_turns(on_gpu) -> None:
    import pycuda.driver as driver

    picture = cv2.resize(_read(PORTRAIT), (1280, 720))

    def turns(count: int) -> int:
        for _ in range(count):
            on_gpu(picture)
        with cuda.gpu().current():
            return driver.mem_get_info()[0]

    before = turns(20)
    assert turns(1000) == before


def test_int8_by_calibration(embedder_onnx, plans, library, tmp_path) -> None:
    from engines.plans import real

    trt = cache.module()
    if not hasattr(trt, "IInt8EntropyCalibrator2"):
        pytest.skip("TensorRT {} does not calibrate".format(trt.__version__))
    wanted = settings("tensorrt", "int8")
    runs = real.feeds(wanted, shared("photos/group"))["embedder"]
    real.calibration(runs, tmp_path / "faces.npz")
    asked = cache.wanted(embedder_onnx, "embedder", wanted)
    plan = cache.ensure(asked, wanted, print, calibration=tmp_path / "faces.npz")
    from engines.backends.onnx import OnnxNetwork

    with tensorrt.TensorrtNetwork(plan, "int8") as network, OnnxNetwork(embedder_onnx) as on_cpu:
        lines = report.compared("int8", network, on_cpu, {"embedder": runs}, "embedder")
        print("\n".join(lines))
        found = network.run(runs[0])[network.outputs[0].name]
        assert (plugin.reference(found) * plugin.reference(on_cpu.run(runs[0])["embedding"])).sum(axis=1).min() > 0.9


def test_inspect_tells_shapes_and_layers(embedder_onnx, plans, library) -> None:
    asked = cache.wanted(embedder_onnx, "embedder", settings("tensorrt", "fp16"))
    cache.ensure(asked, settings("tensorrt", "fp16"), print)
    lines = report.inspected(Path(asked.path))
    print("\n".join(lines[:30]))
    assert any("input '" in line and "(1, 3, 112, 112) to (32, 3, 112, 112)" in line for line in lines)
    assert any("L2Norm" in line or "PLUGIN" in line.upper() for line in lines if "layer" in line)
