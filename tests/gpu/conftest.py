"""A real TensorRT on a real GPU, and plans in a folder of their own."""

import shutil
from pathlib import Path

import pytest

from engines import catalogue, plugin
from engines.backends import cuda
from errors import ModelError
from tests import ROOT


@pytest.fixture(scope="session")
def gpu():
    pytest.importorskip("tensorrt", reason="needs TensorRT")
    try:
        return cuda.gpu()
    except ModelError as error:
        pytest.skip("needs a GPU: {}".format(error))


@pytest.fixture(scope="session")
def library(gpu):
    """The L2Norm plugin, loaded into this process."""
    import tensorrt

    missing = plugin.load(tensorrt, gpu.architecture)
    if missing:
        pytest.skip(missing)
    return plugin.LIBRARY


@pytest.fixture(scope="session")
def plans(gpu, tmp_path_factory):
    """Where plans of this test session are kept: built once a precision."""
    folder = tmp_path_factory.mktemp("models")
    (folder / "plans").mkdir()
    for path in (catalogue.MODELS / "built" / "plans").glob("timing-*.cache"):  # builds are a matter of seconds with it
        shutil.copy(str(path), str(folder / "plans"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("engines.plans.cache.folder", lambda: folder / "plans")
        yield folder / "plans"


@pytest.fixture(scope="session")
def embedder_onnx() -> Path:
    from engines import build
    from settings import load

    return build.ensure(load(ROOT / "config.yaml").embedder.model)["embedder"]
