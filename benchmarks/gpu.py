#!/usr/bin/env python3
"""Milliseconds of the GPU's sampling beside cpu.py's: pyramid, decoding, crops and chips of one frame.

The frame is a photo of six faces brought to 1280x720; the boxes and landmarks are those that MTCNN
finds in it on the CPU. GPU times are events around launches that are queued ahead, so that no launch
waits for Python; 'whole frame' is the clock around everything, Python and copies included. The roof
is what the measured copy bandwidth allows for the bytes that a step must read and write once.

  benchmarks/gpu.py                             pycuda, else CuPy
  benchmarks/gpu.py --photo group.jpg --json figures.json
"""
import argparse
import contextlib
import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any, Callable, ContextManager, Dict, NamedTuple, Tuple
from unittest import mock

import cv2
import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from engines.backends.choose import open_network  # noqa: E402
from engines.build import ensure  # noqa: E402
from engines.detect import mtcnn  # noqa: E402
from engines.embed import ARCFACE_112, similarity_transforms  # noqa: E402
from engines.sampling import cpu  # noqa: E402
from engines.sampling.cuda import CudaSampler  # noqa: E402
from engines.sampling.device import Device, PycudaDevice  # noqa: E402
from engines.sampling.layout import Layout  # noqa: E402
from errors import KioskError  # noqa: E402
from settings import load  # noqa: E402

QUEUED = 20  # launches between two events
SIZE = 1 << 27  # bytes of a copy that measures bandwidth: more than any cache holds
STALL = 40  # such copies, while the launches are queued
MEAN, STD = 127.5, 128.0
CHIP = 112


class Work(NamedTuple):
    """What one frame asks for. `scores` and `offsets` are PNet's map, `rnet` and `onet` the boxes, as
    cpu.crops gets them."""

    image: np.ndarray
    plan: Layout
    scores: np.ndarray
    offsets: np.ndarray
    rnet: np.ndarray
    onet: np.ndarray
    matrices: np.ndarray


def work(photo: Path) -> Work:
    """Run MTCNN on the CPU and keep what it cut out of the frame."""
    image = cv2.resize(cv2.imread(str(photo)), (1280, 720), interpolation=cv2.INTER_AREA)
    settings = load(ROOT / "config.yaml")
    files = ensure("mtcnn", settings)
    networks = [open_network(files[role], settings) for role in ("pnet", "rnet", "onet")]
    spy = mock.patch.object
    with spy(cpu, "crops", wraps=cpu.crops) as crops, spy(cpu, "candidates", wraps=cpu.candidates) as candidates:
        faces = mtcnn.Mtcnn(networks[0], networks[1], networks[2]).detect(image)
    boxes = {call[0][2]: call[0][1] for call in crops.call_args_list}  # by the size of the crop
    plan, scores, offsets = candidates.call_args[0][:3]
    matrices = similarity_transforms(faces.landmarks, ARCFACE_112)
    scores, offsets = np.ascontiguousarray(scores), np.ascontiguousarray(offsets)
    return Work(image, plan, scores, offsets, boxes[24], boxes[48], matrices)


def open_device() -> Tuple[Device, "Events"]:
    try:
        device = PycudaDevice()
        return device, PycudaEvents(device)
    except KioskError as error:
        print("{} CuPy instead.".format(error), file=sys.stderr)
    from tests.doubles.cupy_device import CupyDevice

    other = CupyDevice()
    return other, CupyEvents(other)


class Events:
    """Milliseconds of the device between two points of its stream."""

    name = ""

    def current(self) -> ContextManager[Any]:
        """What must be entered while the device is used directly."""
        return contextlib.ExitStack()

    def stall(self) -> None:
        """Keep the device busy for a few milliseconds, so that what is queued next runs without gaps."""
        raise NotImplementedError

    def between(self, queue: Callable[[], Any]) -> float:
        raise NotImplementedError

    def copy_bandwidth(self) -> float:
        """Bytes read and written a second by a copy on the device."""
        raise NotImplementedError


class CupyEvents(Events):
    def __init__(self, device: Any) -> None:
        import cupy

        self._cupy, self._stream = cupy, device.queue
        self.name = cupy.cuda.runtime.getDeviceProperties(0)["name"].decode() + ", CuPy " + cupy.__version__
        self._large = [cupy.zeros(SIZE, cupy.uint8) for _ in range(2)]

    def _copy(self) -> None:
        source, target = self._large
        self._cupy.cuda.runtime.memcpyAsync(target.data.ptr, source.data.ptr, source.nbytes, 3, self._stream.ptr)

    def stall(self) -> None:
        for _ in range(STALL):
            self._copy()

    def between(self, queue: Callable[[], Any]) -> float:
        first, last = self._cupy.cuda.Event(), self._cupy.cuda.Event()
        first.record(self._stream)
        queue()
        last.record(self._stream)
        last.synchronize()
        return float(self._cupy.cuda.get_elapsed_time(first, last))

    def copy_bandwidth(self) -> float:
        times = [self.between(self._copy) for _ in range(20)]
        return 2 * SIZE / (statistics.median(times) / 1000)


class PycudaEvents(Events):
    def __init__(self, device: Any) -> None:
        import pycuda
        import pycuda.driver

        self._cuda, self._stream = pycuda.driver, device.queue
        self._device = device
        self.name = pycuda.driver.Device(0).name() + ", pycuda " + pycuda.VERSION_TEXT
        self._large = [device.allocate(SIZE) for _ in range(2)]

    def current(self) -> ContextManager[Any]:
        return self._device.current()

    def _copy(self) -> None:
        self._cuda.memcpy_dtod_async(self._large[1], self._large[0], SIZE, self._stream)

    def stall(self) -> None:
        for _ in range(STALL):
            self._copy()

    def between(self, queue: Callable[[], Any]) -> float:
        first, last = self._cuda.Event(), self._cuda.Event()
        first.record(self._stream)
        queue()
        last.record(self._stream)
        last.synchronize()
        return float(first.time_till(last))

    def copy_bandwidth(self) -> float:
        times = [self.between(self._copy) for _ in range(20)]
        return 2 * SIZE / (statistics.median(times) / 1000)


def on_gpu(events: Events, step: Callable[[], Any], rounds: int) -> float:
    """Median milliseconds of the device for one `step`, which queues and does not wait."""
    step()
    times = []
    for _ in range(rounds):
        events.stall()
        times.append(events.between(lambda: [step() for _ in range(QUEUED)]) / QUEUED)
    return statistics.median(times)


def by_clock(step: Callable[[], Any], rounds: int) -> float:
    """Median milliseconds of one `step`, by the clock."""
    for _ in range(3):
        step()
    times = []
    for _ in range(rounds):
        started = time.perf_counter()
        step()
        times.append((time.perf_counter() - started) * 1000)
    return statistics.median(times)


def cpu_steps(job: Work, exact: bool) -> Dict[str, Callable[[], Any]]:
    blob = np.empty((1, 3, job.plan.height, job.plan.width), np.float32)
    return {
        "pyramid": lambda: cpu.pyramid(cpu.Halves(job.image, exact), job.plan, blob),
        "decoding": lambda: cpu.candidates(job.plan, job.scores, job.offsets, np.float32(0.6)),
        "crops of RNet": lambda: cpu.crops(cpu.Halves(job.image, exact), job.rnet, 24),
        "crops of ONet": lambda: cpu.crops(cpu.Halves(job.image, exact), job.onet, 48),
        "chips": lambda: cpu.normalise(cpu.chips(job.image, job.matrices, CHIP), MEAN, STD),
    }


def bytes_touched(job: Work) -> Dict[str, int]:
    """What each step must read and write once."""
    cells, sizes = job.scores.size, {24: len(job.rnet), 48: len(job.onet)}
    areas = {size: int(((found[:, 2] - found[:, 0]) ** 2).sum()) for size, found in ((24, job.rnet), (48, job.onet))}
    return {
        "pyramid": job.image.nbytes + 12 * job.plan.height * job.plan.width,
        "decoding": 5 * cells,
        "crops of RNet": 3 * min(areas[24], job.image.size // 3) + 12 * sizes[24] * 24 * 24,
        "crops of ONet": 3 * min(areas[48], job.image.size // 3) + 12 * sizes[48] * 48 * 48,
        "chips": 18 * len(job.matrices) * CHIP * CHIP,
    }


def parity(job: Work, sampler: CudaSampler, frame: Any, maps: Tuple[int, int]) -> Dict[str, float]:
    """The largest and the mean difference to cpu.py, in grey levels; candidates must be the same."""
    blob = np.empty((1, 3, job.plan.height, job.plan.width), np.float32)
    whole = cpu.Halves(job.image, exact=True)
    cpu.pyramid(whole, job.plan, blob)
    pairs = {"pyramid": (sampler.fetch(sampler.pyramid(frame, job.plan))[0], blob)}
    for size, boxes in ((24, job.rnet), (48, job.onet)):
        crops = sampler.fetch(sampler.crops(frame, boxes, size))[0]
        pairs["crops of {}".format(size)] = (crops, cpu.crops(whole, boxes, size))
    chips = sampler.fetch(sampler.chips(frame, job.matrices, CHIP, 0, 128)[1])[0]
    pairs["chips"] = (chips, cpu.normalise(cpu.chips(job.image, job.matrices, CHIP), 0, 128))
    differences: Dict[str, float] = {}
    for name, (one, other) in pairs.items():
        apart = np.abs(one - other) * 128
        differences.update({name + ", largest": float(apart.max()), name + ", mean": float(apart.mean())})
    cells = sampler.candidates(job.plan, maps[0], maps[1], 0.6)[0]
    passed = cpu.candidates(job.plan, job.scores, job.offsets, np.float32(0.6))[0]
    differences["candidates that differ"] = float(len(np.setxor1d(cells, passed)))
    return differences


def measure(job: Work, rounds: int) -> Dict[str, Any]:
    device, events = open_device()
    with device, events.current():
        sampler = CudaSampler(device)
        frame = sampler.frame(job.image)
        scores, offsets = sampler.put("scores", job.scores).address, sampler.put("offsets", job.offsets).address
        found: Dict[str, Any] = {"device": events.name, "parity": parity(job, sampler, frame, (scores, offsets))}
        bandwidth = events.copy_bandwidth()
        steps: Dict[str, Callable[[], Any]] = {
            "pyramid": lambda: sampler.pyramid(frame, job.plan),
            "decoding": lambda: sampler.pick(job.plan, scores, offsets, 0.6),
            "crops of RNet": lambda: sampler.crops(frame, job.rnet, 24),
            "crops of ONet": lambda: sampler.crops(frame, job.onet, 48),
            "chips": lambda: sampler.chips(frame, job.matrices, CHIP, MEAN, STD),
        }
        gpu = {name: on_gpu(events, step, rounds) for name, step in steps.items()}
        roof = {name: size / bandwidth * 1000 for name, size in bytes_touched(job).items()}

        def whole(image: np.ndarray) -> None:
            here = sampler.frame(image)
            sampler.pyramid(here, job.plan)
            sampler.candidates(job.plan, scores, offsets, 0.6)
            sampler.crops(here, job.rnet, 24)
            sampler.crops(here, job.onet, 48)
            sampler.fetch(sampler.chips(here, job.matrices, CHIP, MEAN, STD)[0])

        found["whole frame, by the clock, from host memory"] = by_clock(lambda: whole(job.image), 5 * rounds)
        before = device.allocated
        for _ in range(1000):
            whole(job.image)
        found["allocations in 1,000 turns"] = device.allocated - before
        found["copy bandwidth, GB/s"] = bandwidth / 1e9
    exact, halved = cpu_steps(job, True), cpu_steps(job, False)
    found["steps"] = {
        name: {"gpu": gpu[name], "roof": roof[name], "cpu": by_clock(exact[name], rounds),
               "cpu, halved": by_clock(halved[name], rounds)}
        for name in gpu
    }  # fmt: skip
    found["sum"] = {key: sum(step[key] for step in found["steps"].values()) for key in found["steps"]["chips"]}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photo", type=Path, default=ROOT.parent / "shared" / "photos" / "group" / "bbt_awards6.jpg")
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--json", type=Path, help="write all figures here")
    options = parser.parse_args()
    job = work(options.photo)
    print("{} faces, {} boxes for RNet, {} for ONet; OpenCV on {} threads".format(
        len(job.matrices), len(job.rnet), len(job.onet), cv2.getNumThreads()))  # fmt: skip
    found = measure(job, options.rounds)
    print("{}; copies at {:.0f} GB/s".format(found["device"], found["copy bandwidth, GB/s"]))
    print("{:16}{:>10}{:>10}{:>10}{:>14}{:>9}".format("ms", "gpu", "roof", "cpu.py", "cpu, halved", "times"))
    for name, step in list(found["steps"].items()) + [("sum", found["sum"])]:
        print("{:16}{:10.4f}{:10.4f}{:10.3f}{:14.3f}{:9.0f}".format(
            name, step["gpu"], step["roof"], step["cpu"], step["cpu, halved"], step["cpu"] / step["gpu"]))  # fmt: skip
    for name, value in found["parity"].items():
        print("{:32}{:8.3f}".format(name, value))
    for name in ("whole frame, by the clock, from host memory", "allocations in 1,000 turns"):
        print("{:48}{:8.3f}".format(name, found[name]))
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
