"""The self-test: sound backends pass, each way of being broken is named with its figure."""

import dataclasses
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from engines import selftest
from engines.backends import choose, cuda
from engines.plans import cache
from engines.recognizer import Recognizer
from errors import ModelError
from settings import Settings, load
from tests import ROOT
from tests.doubles import pycuda
from tests.doubles import tensorrt as double


@pytest.fixture(autouse=True)
def _afresh(monkeypatch, shared_models):
    monkeypatch.setattr(selftest, "_passed", set())
    monkeypatch.setattr(choose, "_said", set())
    yield
    cuda.gpu.cache_clear()


@pytest.fixture(scope="session")
def plans(tmp_path_factory) -> Path:
    """Built once a flavour for all tests here: the keys tell them apart."""
    return tmp_path_factory.mktemp("plans")


@pytest.fixture
def on(tmp_path: Path, monkeypatch, plans: Path):
    """TensorRT of some version, as far as a double goes."""

    def install(flavour: str) -> None:
        double.install(tmp_path / "site", monkeypatch, flavour)
        cuda.gpu.cache_clear()
        monkeypatch.setattr(cache, "folder", lambda: plans)

    return install


def settings(*more: str) -> Settings:
    return load(ROOT / "config.yaml", list(more))


def test_the_golden_embeddings_are_those_of_the_models_that_ship() -> None:
    """Fails after a change of the models: python -m engines.selftest --write."""
    assert selftest._golden(settings().embedder.model) is not None


@pytest.mark.parametrize(
    "more", [(), ("detector.min_face=20",), ("detector.min_face=300",), ("detector.threshold=0.9",)]
)
def test_the_cpu_passes(more) -> None:
    with Recognizer.from_settings(settings("backend=onnx", *more)) as recognizer:
        assert recognizer.backend == "onnx"


@pytest.mark.parametrize("flavour", sorted(double.VERSIONS))
def test_auto_takes_tensorrt_where_it_passes(flavour: str, on, capsys) -> None:
    on(flavour)
    with Recognizer.from_settings(settings()) as recognizer:
        assert recognizer.backend == "tensorrt"
    assert "The networks run on the CPU" not in capsys.readouterr().err
    assert not pycuda.live


@pytest.mark.parametrize(
    "how, figure",
    [
        ("zeros", "an embedding has length 0.0000, but must have 1 within 0.001"),
        ("nan", "an embedding has length nan"),
        ("alike", "a known face has a similarity of "),
    ],
)
def test_auto_falls_back_and_says_which_figure_was_wrong(how: str, figure: str, on, monkeypatch, capsys) -> None:
    on("8.2")
    monkeypatch.setenv(double.BROKEN, how)
    with Recognizer.from_settings(settings()) as recognizer:
        assert recognizer.backend == "onnx"
    said = capsys.readouterr().err
    assert "The self-test of the backend tensorrt failed: " + figure in said
    assert said.count("The networks run on the CPU.") == 1
    assert not pycuda.live, "the broken one was not closed"
    with pytest.raises(ModelError, match="self-test of the backend tensorrt failed"):
        Recognizer.from_settings(settings("backend=tensorrt"))


def test_auto_says_why_tensorrt_does_not_work(on, monkeypatch, capsys) -> None:
    on("8.2")
    monkeypatch.setattr(pycuda.Device, "count", staticmethod(lambda: 0))
    with Recognizer.from_settings(settings()) as recognizer:
        assert recognizer.backend == "onnx"
    with Recognizer.from_settings(settings()) as recognizer:
        assert recognizer.backend == "onnx"
    assert capsys.readouterr().err.count("CUDA finds no GPU on this machine. The networks run on the CPU.") == 1


def test_tensorrt_that_was_asked_for_and_is_not_there(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    with pytest.raises(ModelError, match=r"TensorRT cannot be imported"):
        Recognizer.from_settings(settings("backend=tensorrt"))


def test_a_model_that_nothing_was_written_down_of_is_compared_with_the_cpu(on, monkeypatch, capsys) -> None:
    on("10")
    monkeypatch.setattr(selftest, "_golden", lambda model: None)
    with Recognizer.from_settings(settings()) as recognizer:
        assert recognizer.backend == "tensorrt"


@pytest.mark.parametrize(
    "found, says",
    [
        ([[1.01, 0], [0, 1]], "length 1.0100"),
        ([[np.nan, 0], [0, 1]], "length nan"),
        ([[0, 1], [1, 0]], "a known face has a similarity of 0.0000"),
        ([[1, 0, 0], [0, 1, 0]], "an embedding has 3 numbers, but must have 2"),
    ],
)
def test_each_figure(found, says: str) -> None:
    expected = np.eye(2, dtype=np.float32)
    assert says in str(selftest.embeddings_fault(np.array(found, np.float32), expected, 0.4))


def test_two_people_who_are_alike() -> None:
    alike = np.array([[1, 0], [0.8, 0.6]], np.float32)
    assert "two different people have a similarity of 0.8000" in str(selftest.embeddings_fault(alike, alike, 0.4))
    assert selftest.embeddings_fault(alike, None, 0.9) is None


def test_a_detector_that_finds_nothing_or_elsewhere() -> None:
    with Recognizer.untested(settings("backend=onnx")) as recognizer:
        find = recognizer.detector.detect
        recognizer.detector.detect = lambda image: find(image * 0)  # type: ignore[method-assign]
        assert selftest.fault(recognizer) == "the detector finds no face in a portrait."
        recognizer.detector.detect = lambda image: _moved(find(image))  # type: ignore[method-assign]
        assert "the detector puts a landmark" in str(selftest.fault(recognizer))


def _moved(faces):
    return dataclasses.replace(faces, landmarks=faces.landmarks + 30)


def test_writing_down_gives_what_ships(tmp_path: Path, monkeypatch) -> None:
    shutil.copytree(str(selftest.FOLDER), str(tmp_path / "golden"))
    monkeypatch.setattr(selftest, "FOLDER", tmp_path / "golden")
    selftest._noted.cache_clear()
    before = selftest._golden(settings().embedder.model)
    selftest.write(settings())
    after = selftest._golden(settings().embedder.model)
    selftest._noted.cache_clear()
    assert before is not None and after is not None
    assert float((before * after).sum(axis=1).min()) > 0.9999
