"""The whole GPU path without a GPU: TensorRT and pycuda by their doubles, the kernels compiled for the CPU.

TensorRT's double reads what the kernels wrote, at the addresses that it is given, and the kernels read
what it wrote, so a frame goes through MTCNN without touching the host in between.
"""
from unittest import mock

import cv2
import numpy as np
import pytest

from engines.backends import cuda
from engines.detect.boxes import overlaps
from engines.recognizer import Recognizer
from engines.sampling.sampler import GpuSampler
from settings import load
from tests import ROOT, shared
from tests.doubles import pycuda
from tests.doubles import tensorrt as double
from tests.doubles.host_device import HostDevice


class SharedDevice(HostDevice):
    """A HostDevice whose memory is that of pycuda's double, which TensorRT's double sees."""

    def __init__(self, library):
        super().__init__(library)
        self._held = []

    def allocate(self, size):
        self.allocated += 1
        with cuda.gpu().current():
            self._held.append(pycuda.mem_alloc(size))
        return int(self._held[-1])

    def close(self):
        with cuda.gpu().current():
            for memory in self._held:
                memory.free()
        self._held = []


@pytest.fixture(params=sorted(double.VERSIONS))
def version(request, tmp_path, monkeypatch):
    double.install(tmp_path / "site", monkeypatch, request.param)
    monkeypatch.setattr("engines.plans.cache.folder", lambda: tmp_path)
    cuda.gpu.cache_clear()
    yield request.param
    cuda.gpu.cache_clear()


def test_a_group_photo_gives_the_same_faces_and_embeddings(version, kernel_library, monkeypatch):
    image = cv2.resize(cv2.imread(str(shared("photos/group/bbt_awards6.jpg"))), (1280, 720))
    device = SharedDevice(kernel_library)
    monkeypatch.setattr("engines.recognizer.open_sampler", lambda on_gpu, say: GpuSampler(device) if on_gpu else None)
    # The same PRelu in both: scores of all but 1.0 would else pick another of two all but equal boxes.
    monkeypatch.setattr("engines.backends.prelu.quick", lambda path: path)
    original = "detector.model=mtcnn"  # whose pictures are shrunk in one step on both; our own's are only on the GPU
    with Recognizer.from_settings(load(ROOT / "config.yaml", ["backend=onnx", original])) as plain:
        wanted, embeddings = plain(image)
    settings = load(ROOT / "config.yaml", ["backend=tensorrt", "tensorrt.precision=fp32", original])
    with Recognizer.from_settings(settings) as gpu:
        with mock.patch.multiple("engines.sampling.cpu", pyramid=mock.DEFAULT, crops=mock.DEFAULT) as unused:
            found, same = gpu(image)
            again = gpu(image)[0]
        assert not any(one.called for one in unused.values()), "nothing is cut on the CPU"
        before = device.allocated, pycuda.made  # pycuda's own: page-locked memory
        for _ in range(5):
            gpu.search(image)
        assert (device.allocated, pycuda.made) == before, "no turn of the loop allocates"
    assert found.count == wanted.count == 6
    order = overlaps(wanted.boxes, found.boxes).argmax(axis=1)  # scores of 1.0 come in any order
    assert np.diag(overlaps(wanted.boxes, found.boxes)[:, order]).min() > 0.98
    assert np.diag(embeddings @ same[order].T).min() > 0.9999
    assert np.array_equal(found.boxes, again.boxes)
    assert not pycuda.live, "all is freed"
