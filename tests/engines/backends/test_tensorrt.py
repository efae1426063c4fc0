"""TensorRT behind the Network contract, on the doubles of four versions."""
import numpy as np
import pytest

from engines.backends import cuda
from tests.doubles import pycuda
from tests.doubles import tensorrt as double


@pytest.fixture(params=sorted(double.VERSIONS))
def flavour(request, tmp_path, monkeypatch):
    double.install(tmp_path / "site", monkeypatch, request.param)
    cuda.gpu.cache_clear()
    yield request.param
    cuda.gpu.cache_clear()


def test_it(flavour):
    import cv2

    from engines.recognizer import Recognizer
    from settings import load
    im = cv2.imread("demo/portraits/Eileen Collins.jpg")
    a = Recognizer.from_settings(load("config.yaml", ["backend=onnx"]))
    with Recognizer.from_settings(load("config.yaml", ["backend=tensorrt","tensorrt.precision=fp32"])) as r:
        fa, ea = a(im); fb, eb = r(im)
        assert (ea * eb).sum() > 0.9999
        np.testing.assert_allclose(fa.boxes, fb.boxes, atol=1e-2)
    assert not pycuda.live
