"""build_engines.py with TensorRT, in a double."""

import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import build_engines
from engines.backends import choose, cuda
from engines.plans import cache
from tests import ROOT
from tests.doubles import tensorrt as double


@pytest.fixture
def machine(tmp_path: Path, monkeypatch, shared_models):
    double.install(tmp_path / "site", monkeypatch, "8.5")
    cuda.gpu.cache_clear()
    monkeypatch.setattr(choose, "_said", set())
    monkeypatch.setattr(cache, "folder", lambda: tmp_path / "plans")
    return tmp_path


def test_it_builds_verifies_and_is_then_ready(machine: Path, capsys) -> None:
    assert build_engines.main(["--precision", "fp16", "--verify"]) == 0
    told = capsys.readouterr()
    assert told.out.count("largest difference") == 8  # an embedder's one, MTCNN's seven outputs
    assert "least cosine 1.0000" in told.out or "least cosine 0.9999" in told.out
    assert (told.out + told.err).count("building it for Double sm_53 with TensorRT 8.5.3.1") == 4
    assert len(list((machine / "plans").glob("*.plan"))) == 4
    assert build_engines.main(["--precision", "fp16"]) == 0
    told = capsys.readouterr()
    assert "building it" not in told.out + told.err


def test_int8_is_calibrated_on_photos(machine: Path, capsys) -> None:
    assert build_engines.main(["--precision", "int8"]) == 0
    assert len(list((machine / "plans").glob("*.plan"))) == 4
    empty = machine / "empty"
    empty.mkdir()
    shutil.rmtree(str(machine / "plans"))
    assert build_engines.main(["--precision", "int8", "--photos", str(empty)]) == 2
    assert "--photos {}: holds no photo with a face".format(empty) in capsys.readouterr().err


def test_a_machine_without_a_gpu_is_told_and_runs_on_the_cpu(machine: Path, monkeypatch, capsys) -> None:
    monkeypatch.setattr("tests.doubles.pycuda.Device.count", staticmethod(lambda: 0))
    assert build_engines.main([]) == 0
    assert "CUDA finds no GPU on this machine. The networks run on the CPU." in capsys.readouterr().err
    assert build_engines.main(["--precision", "fp16"]) == 1
    assert "error: CUDA finds no GPU" in capsys.readouterr().err


def test_without_tensorrt_its_options_are_refused(monkeypatch, shared_models, capsys) -> None:
    monkeypatch.setattr(choose, "backends", lambda settings: ["onnx"])
    assert build_engines.main(["--verify"]) == 2
    assert "--verify and --precision are for TensorRT" in capsys.readouterr().err


def test_inspect(capsys) -> None:
    assert build_engines.main(["--inspect", "none.onnx"]) == 1
    assert "error: none.onnx: is not there." in capsys.readouterr().err


def test_ctrl_c(machine: Path, monkeypatch) -> None:
    monkeypatch.setenv(double.BROKEN, "slow")
    plans = machine / "plans"
    code = (
        "import sys; sys.path.insert(0, {!r}); import pathlib, build_engines; from engines.plans import cache; "
        "cache.folder = lambda: pathlib.Path({!r}); sys.exit(build_engines.main([]))".format(str(ROOT), str(plans))
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        universal_newlines=True,
        cwd=str(ROOT),
    )
    deadline = time.time() + 60
    while not list(plans.glob("building-*/request.json")) and time.time() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    assert "stopped; what was complete is kept" in process.communicate(timeout=30)[0]
    assert process.returncode == 130
    assert [path.name for path in plans.iterdir()] == [".lock"]
