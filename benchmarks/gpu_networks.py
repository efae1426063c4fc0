#!/usr/bin/env python3
"""Milliseconds of the networks on the GPU, and of the L2Norm plugin beside a plain copy.

Times are CUDA events around many launches; medians of rounds. The plugin's roof is a copy on the device
of the same arrays, measured in the same run. The whole frame is timed by the clock, from picture to
embeddings, beside ONNX Runtime on this machine's CPU.

  benchmarks/gpu_networks.py --photo group.jpg     a picture with faces, shown as a frame of 1280x720
"""

import argparse
import ctypes
import statistics
import sys
import time
from pathlib import Path
from typing import Any, Callable, Dict, List, Tuple

import cv2
import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from engines import build, catalogue, plugin  # noqa: E402
from engines.backends.cuda import gpu  # noqa: E402
from engines.backends.tensorrt import TensorrtNetwork  # noqa: E402
from engines.plans import cache  # noqa: E402
from engines.recognizer import Recognizer  # noqa: E402
from engines.sampling.layout import layout  # noqa: E402
from settings import load  # noqa: E402

ROWS, WIDTH = 4096, 512
LAUNCHES, ROUNDS = 100, 25


def on_device(work: Callable[[], Any], stream: Any) -> float:
    """Microseconds of one `work`, launched LAUNCHES times in a row: the median of ROUNDS."""
    import pycuda.driver as cuda

    start, end = cuda.Event(), cuda.Event()
    times = []
    for _ in range(ROUNDS):
        start.record(stream)
        for _ in range(LAUNCHES):
            work()
        end.record(stream)
        end.synchronize()
        times.append(start.time_till(end) * 1000 / LAUNCHES)
    return statistics.median(times)


def plugin_beside_copy(dtype: Any) -> None:
    import pycuda.driver as cuda

    launch = ctypes.CDLL(str(plugin.LIBRARY)).kiosk_l2norm
    launch.argtypes = [ctypes.c_void_p] * 2 + [ctypes.c_int] * 2 + [ctypes.c_float, ctypes.c_int, ctypes.c_void_p]
    values = np.random.RandomState(0).standard_normal((ROWS, WIDTH)).astype(dtype)
    with gpu().current():
        stream = cuda.Stream()
        source, target = cuda.mem_alloc(values.nbytes), cuda.mem_alloc(values.nbytes)
        cuda.memcpy_htod(source, values)
        half = int(values.dtype == np.float16)
        arguments = (int(source), int(target), ROWS, WIDTH, plugin.EPSILON, half, stream.handle)
        copies, norms = [], []
        for _ in range(3):  # in turns
            copies.append(on_device(lambda: cuda.memcpy_dtod_async(target, source, values.nbytes, stream), stream))
            norms.append(on_device(lambda: launch(*arguments), stream))
        source.free()
        target.free()
    copy, norm = statistics.median(copies), statistics.median(norms)
    moved = 2 * values.nbytes / 1e3
    print(
        "L2Norm {}x{} {}: {:.2f} us = {:.0f} GB/s; a copy {:.2f} us = {:.0f} GB/s: {:.0f} %".format(
            ROWS, WIDTH, values.dtype, norm, moved / norm, copy, moved / copy, 100 * copy / norm
        )
    )


def networks(precision: str) -> None:
    settings = load(ROOT / "config.yaml", ["tensorrt.precision=" + precision])
    stages = catalogue.stages(settings)
    plan = layout(720, 1280, settings.detector.min_face, stages.factor, stages.stride)
    shapes = {
        "pnet": [(1, 3, plan.height, plan.width)],
        "rnet": [(n, 3, 24, 24) for n in (16, 64, 256)],
        "onet": [(n, 3, 48, 48) for n in (6, 16, 64)],
        "embedder": [(n, 3, 112, 112) for n in (1, 6, 32)],
    }
    for model in (settings.detector.model, settings.embedder.model):
        for role, path in build.ensure(model, settings).items():
            data = cache.ensure(cache.wanted(path, role, settings), settings, print)
            for shape in shapes.get(role, []):
                (plain, plain_run), (graph, graph_run) = [timed(data, role, shape, one) for one in (False, True)]
                print(
                    "{} {} {}: on the device {:.3f} ms by launches, {:.3f} ms as a graph; with copies {:.3f}, "
                    "{:.3f} ms".format(precision, role, shape, plain, graph, plain_run, graph_run)
                )


def timed(data: bytes, role: str, shape: Tuple[int, ...], graphs: bool) -> Tuple[float, float]:
    """Milliseconds of a network on the device alone, and of a whole `run`."""
    blob = np.random.RandomState(0).uniform(-1, 1, shape).astype(np.float32)
    with TensorrtNetwork(data, role, graphs) as network:
        name = network.inputs[0].name
        for _ in range(10):
            network.run({name: blob})
        with gpu().current():
            device = on_device(
                lambda: network._enqueue({name: shape}, network._addresses, network._stream.handle), network._stream
            )
        start = time.perf_counter()
        for _ in range(100):
            network.run({name: blob})
        return device / 1000, (time.perf_counter() - start) * 10


def frame(photo: Path, precision: str, threads: int) -> None:
    picture = cv2.imread(str(photo))
    if picture is None:
        raise SystemExit("{}: is no picture.".format(photo))
    scale = max(1280 / picture.shape[1], 720 / picture.shape[0])
    picture = np.ascontiguousarray(cv2.resize(picture, None, fx=scale, fy=scale)[:720, :1280])
    middles = {}
    for backend in ("onnx", "tensorrt"):
        more = ["backend=" + backend, "tensorrt.precision=" + precision, "threads={}".format(threads)]
        with Recognizer.from_settings(load(ROOT / "config.yaml", more)) as recognizer:
            times: Dict[str, List[float]] = {"detect": [], "search": [], "embed": [], "whole": []}
            faces = recognizer.detect(picture)
            for _ in range(120):
                marks = [time.perf_counter()]
                faces = recognizer.detect(picture)
                marks.append(time.perf_counter())
                recognizer.search(picture)
                marks.append(time.perf_counter())
                recognizer.embed(picture, faces.landmarks)
                marks.append(time.perf_counter())
                for name, seconds in zip(("detect", "search", "embed"), np.diff(marks)):
                    times[name].append(seconds * 1000)
                times["whole"].append(times["search"][-1] + times["embed"][-1])
            middles[backend] = {name: statistics.median(values[20:]) for name, values in times.items()}
            print(
                "{} {}, {} faces: {}".format(
                    backend,
                    precision if backend == "tensorrt" else "fp32",
                    faces.count,
                    ", ".join("{} {:.2f} ms".format(name, value) for name, value in middles[backend].items()),
                )
            )
    print(
        "a live frame (search + embed): {:.1f} times as fast as on the CPU".format(
            middles["onnx"]["whole"] / middles["tensorrt"]["whole"]
        )
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photo", type=Path, default=ROOT / "demo" / "portraits" / "Eileen Collins.jpg")
    parser.add_argument("--precision", default="fp16", choices=["fp32", "fp16", "int8", "best"])
    parser.add_argument("--threads", type=int, default=0, help="of ONNX Runtime; 0 = all cores")
    options = parser.parse_args()
    import tensorrt

    print("{}, TensorRT {}".format(gpu().name, tensorrt.__version__))
    missing = plugin.load(tensorrt, gpu().architecture)
    print(missing or "plugin: {}".format(plugin.LIBRARY.name))
    if missing is None:
        for dtype in (np.float32, np.float16):
            plugin_beside_copy(dtype)
    networks(options.precision)
    frame(options.photo, options.precision, options.threads)
    return 0


if __name__ == "__main__":
    sys.exit(main())
