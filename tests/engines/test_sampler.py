"""MTCNN through GpuSampler, on each device that is here; its networks run in ONNX Runtime."""
from unittest import mock

import cv2
import numpy as np
import pytest

from app.capture.jetson import JetsonCapture
from engines.backends.onnx import OnnxNetwork
from engines.build import ensure
from engines.detect.boxes import overlaps
from engines.detect.mtcnn import Mtcnn
from engines.embed import ARCFACE_112, similarity_transforms
from engines.sampling import cpu
from engines.sampling.cuda import CudaSampler
from engines.sampling.sampler import GpuSampler, Sampler, open_sampler
from errors import KioskError
from tests import shared
from tests.doubles.jetson_utils import JetsonUtils


class DeviceNetwork(OnnxNetwork):
    """ONNX Runtime in the role of TensorRT: from and to the memory of a device. `most` rows a run, None
    for a network that does not run there at all; `runs` counts those on the device."""

    def __init__(self, path, device, most=1000):
        super().__init__(path, threads=1)
        self.device, self.most, self.runs = device, most, 0
        self._mover = CudaSampler(device)

    def run_on_device(self, feeds, stream):
        if self.most is None or any(array.shape[0] > self.most for array in feeds.values()):
            return None
        assert stream == self.device.stream
        self.runs += 1
        arrays = self.run(dict(zip(feeds, self._mover.fetch(*feeds.values()))))
        return {name: self._mover.put(name, array) for name, array in arrays.items()}


def open_networks(device):
    files = ensure("mtcnn")
    return [DeviceNetwork(files[role], device) for role in ("pnet", "rnet", "onet")]


@pytest.fixture
def networks(device):
    return open_networks(device)


def same(found, wanted):
    """The same faces at the same places, in the same order."""
    assert found.count == wanted.count
    assert np.diag(overlaps(found.boxes, wanted.boxes)).min(initial=1) > 0.98
    assert np.abs(found.scores - wanted.scores).max(initial=0) < 0.01
    assert np.abs(found.landmarks - wanted.landmarks).max(initial=0) < 1


@pytest.mark.parametrize("photo", ["bbt_awards6.jpg", "bbt_sofa.jpg", "family6_600x462.jpg"])
def test_it_finds_the_faces_that_the_cpu_finds(device, networks, photo):
    image = cv2.imread(str(shared("photos/group/" + photo)))
    faces = Mtcnn(*networks).detect(image)
    assert faces.count >= 4 and networks[0].runs == 0
    sampler = GpuSampler(device)
    gpu = Mtcnn(*networks, sampler=sampler)
    with mock.patch.object(sampler._cuda, "fetch", wraps=sampler._cuda.fetch) as fetch:
        same(gpu.detect(image), faces)
    assert fetch.call_count == 3, "the candidates, what RNet says and what ONet says: with the chips four copies in all"
    assert [network.runs for network in networks] == [1, 1, 1]
    followed = gpu.follow(image, faces.boxes)
    assert followed.count == faces.count and overlaps(followed.boxes, faces.boxes).max(axis=1).min() > 0.75
    known = faces.take(np.arange(2))
    assert gpu.search(image, known).count == faces.count


def test_a_shape_that_the_plan_does_not_hold_is_served_by_the_cpu(device, networks):
    image = cv2.imread(str(shared("photos/group/bbt_sofa.jpg")))
    faces = Mtcnn(*networks).detect(image)
    for number, most in [(0, None), (1, 10), (2, 10)]:
        networks[number].most, before = most, networks[number].runs
        same(Mtcnn(*networks, sampler=GpuSampler(device)).detect(image), faces)
        assert networks[number].runs == before
        networks[number].most = 1000


def test_a_picture_without_faces_is_none(device, networks):
    gpu = Mtcnn(*networks, sampler=GpuSampler(device))
    for shape in [(39, 100, 3), (300, 300, 3)]:
        assert gpu.detect(np.zeros(shape, np.uint8)).count == 0
    assert gpu.follow(np.zeros((300, 300, 3), np.uint8), np.array([[50, 50, 150, 150]])).count == 0


def test_a_picture_that_changed_in_its_place_is_looked_at_anew(device, networks):
    image = cv2.imread(str(shared("photos/group/bbt_sofa.jpg")))
    gpu = Mtcnn(*networks, sampler=GpuSampler(device))
    assert gpu.detect(image).count == 4
    image[:] = 0
    assert gpu.detect(image).count == 0


def test_a_frame_of_jetson_utils_is_read_where_it_is(host_device, monkeypatch):
    device, networks = host_device, open_networks(host_device)
    image = cv2.imread(str(shared("photos/group/bbt_sofa.jpg")))[:414, :620]
    JetsonUtils("new", [image]).install(monkeypatch)
    camera = JetsonCapture("csi://0", 620, 414, 30, 1.0)
    frame = camera.read()
    uploads = []
    upload = device.upload
    monkeypatch.setattr(device, "upload", lambda address, array: uploads.append(array.nbytes) or upload(address, array))
    sampler = GpuSampler(device)
    gpu = Mtcnn(*networks, sampler=sampler)
    first = gpu.detect(frame)
    same(first, Mtcnn(*networks).detect(frame.copy()))
    uploads.clear()
    gpu.detect(frame)
    assert uploads and max(uploads) < frame.nbytes / 2, "boxes and what the networks say, no picture"
    matrices = similarity_transforms(first.landmarks, ARCFACE_112)
    apart = np.abs(sampler.chips(frame, matrices, 112).astype(int) - cpu.chips(frame, matrices, 112))
    assert apart.max() <= 6 and apart.mean() < 0.5
    camera.close()


def test_chips_of_a_picture_on_the_host_are_cut_there(host_device):
    image = np.random.RandomState(1).randint(0, 256, (200, 200, 3), np.uint8)
    matrices = np.array([[[1, 0, -30], [0, 1, -20]]], np.float32)
    assert np.array_equal(GpuSampler(host_device).chips(image, matrices, 112), cpu.chips(image, matrices, 112))
    assert host_device.launches == 0


def test_where_the_kernels_cannot_run_the_cpu_cuts_and_a_line_says_so(monkeypatch):
    def broken():
        raise KioskError("There is no nvcc.")

    told = []
    monkeypatch.setattr("engines.sampling.sampler.PycudaDevice", broken)
    assert type(open_sampler(True, told.append)) is Sampler
    assert told == ["There is no nvcc. Pictures are cut on the CPU."]
    assert type(open_sampler(False, told.append)) is Sampler and len(told) == 1
