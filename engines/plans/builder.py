"""Builds one plan, as a process of its own: python -m engines.plans.builder REQUEST.json

A process, because a build takes minutes in which nothing interrupts TensorRT, takes memory that a
2 GB board needs back, and may die with it; the caller waits, shows progress, and can end it. The
request (made by engines.plans.cache) names the ONNX file, the shapes and the precision; the last line
of standard output is the answer, {"built": [notes]} or {"error": sentence}.
"""
import ctypes
import json
import sys
from pathlib import Path
from typing import Any, Dict, List

import numpy as np

from engines import plugin
from engines.backends.cuda import gpu
from engines.backends.network import Tensor
from engines.backends.tensorrt import quiet_logger
from engines.plans.limits import Limits
from engines.plans.prepare import prepared
from errors import KioskError, ModelError

# Tactic source -> its library, in the versions that TensorRT 8 was made for (10 asks for none of them by default).
LIBRARIES = {
    "CUBLAS": ("libcublas.so.10", "libcublas.so.11", "libcublas.so.12"),
    "CUBLAS_LT": ("libcublasLt.so.10", "libcublasLt.so.11", "libcublasLt.so.12"),
    "CUDNN": ("libcudnn.so.8", "libcudnn.so.7"),
}


def build(request: Dict[str, Any]) -> List[str]:
    """Write the plan that `request` asks for to request["target"]; what the user should know. Raises ModelError.

    onnx, target, timing: paths; precision: fp32, fp16, int8 or best; limits: of engines.plans.limits;
    workspace: bytes; calibration: path of an .npz with the network's inputs, or ""; missing: why it has to
    do without the plugin, or "".
    """
    import tensorrt as trt

    notes: List[str] = []
    logger = quiet_logger(trt)
    missing = request["missing"] or plugin.load(trt, gpu().architecture)
    path = Path(request["onnx"])
    half = request["precision"] in ("fp16", "best")
    flags = hasattr(trt.BuilderFlag, "FP16")  # to 10; from 11 on the graph says it
    onnx, norms = prepared(path, plugin=missing is None, half=half and not flags)
    if missing and norms:
        notes.append("the embedding is normalised on the CPU, without the plugin: {}".format(missing))
    try:
        builder = trt.Builder(logger)
    except TypeError as error:  # what its bindings make of a builder that could not be had
        raise ModelError("TensorRT {} does not work on this machine ({}).".format(
            trt.__version__, logger.reason())) from error  # fmt: skip
    explicit = getattr(trt.NetworkDefinitionCreationFlag, "EXPLICIT_BATCH", None)  # gone in 11, where all are
    network = builder.create_network(0 if explicit is None else 1 << int(explicit))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse(onnx):
        errors = "; ".join(str(parser.get_error(index)) for index in range(parser.num_errors))
        raise ModelError("{}: TensorRT {} cannot read it ({}).".format(
            path, trt.__version__, errors or logger.reason()))  # fmt: skip
    config = builder.create_builder_config()
    _limit_memory(trt, config, request["workspace"])
    notes += _choose_libraries(trt, config)
    notes += _choose_precision(trt, builder, config, request, b"QuantizeLinear" in onnx)
    if request["calibration"] and hasattr(config, "int8_calibrator"):
        _calibrate(trt, builder, config, network.get_input(0).name, Path(request["calibration"]))
    _add_profile(builder, network, config, Limits(*[tuple(one) for one in request["limits"]]))
    if hasattr(trt, "ProfilingVerbosity"):
        config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED  # so that --inspect can tell the layers
    timing = _timing_cache(config, Path(request["timing"]))
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise ModelError("{}: TensorRT cannot build it ({}).".format(path, logger.reason()))
    Path(request["target"]).write_bytes(memoryview(plan))
    if timing is not None:
        Path(request["timing"] + ".tmp").write_bytes(memoryview(config.get_timing_cache().serialize()))
        Path(request["timing"] + ".tmp").replace(request["timing"])
    return notes


def _limit_memory(trt: Any, config: Any, workspace: int) -> None:
    if hasattr(config, "set_memory_pool_limit"):
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, workspace)
    else:  # 8.2
        config.max_workspace_size = workspace


def _choose_libraries(trt: Any, config: Any) -> List[str]:
    """Leave out the libraries that are not installed: with one of them missing, a build fails as a whole."""
    sources, without = config.get_tactic_sources(), []
    for member, names in LIBRARIES.items():
        source = getattr(trt.TacticSource, member, None)  # gone in 11
        if source is not None and sources & (1 << int(source)) and not any(_loads(name) for name in names):
            sources &= ~(1 << int(source))
            without.append(names[0].split(".")[0])
    if not without:
        return []
    config.set_tactic_sources(sources)
    return ["built without {}, which cannot be loaded here".format(", ".join(without))]


def _loads(library: str) -> bool:
    try:
        ctypes.CDLL(library)
        return True
    except OSError:
        return False


def _choose_precision(trt: Any, builder: Any, config: Any, request: Dict[str, Any], quantised: bool) -> List[str]:
    """Set what the versions with precision flags need. INT8 comes from Q/DQ nodes, or, to 10, from
    calibration; best = INT8 where the file has Q/DQ nodes, and FP16 where the GPU is fast at it."""
    wanted = request["precision"]
    if wanted == "fp32":
        config.clear_flag(trt.BuilderFlag.TF32)  # on by default, with the precision of FP16
    eight = wanted == "int8" or (wanted == "best" and quantised)
    if not hasattr(trt.BuilderFlag, "FP16"):
        if wanted == "int8" and not quantised:
            raise ModelError("{}: TensorRT {} makes INT8 only from a file with Q/DQ nodes; choose fp16.".format(
                request["onnx"], trt.__version__))  # fmt: skip
        return []
    notes = []
    if wanted in ("fp16", "best"):
        if wanted == "fp16" or builder.platform_has_fast_fp16:
            config.set_flag(trt.BuilderFlag.FP16)
        else:
            notes.append("built in FP32: this GPU is not faster in FP16")
    if eight:
        config.set_flag(trt.BuilderFlag.INT8)
        if not quantised and not request["calibration"]:
            raise ModelError("{}: INT8 has to be calibrated on photos; use build_engines.py.".format(request["onnx"]))
    return notes


def _add_profile(builder: Any, network: Any, config: Any, limits: Limits) -> None:
    profile = builder.create_optimization_profile()
    for index in range(network.num_inputs):
        item = network.get_input(index)
        shape = tuple(None if size < 0 else size for size in tuple(item.shape))
        least, usual, most = limits.shapes(Tensor(item.name, shape, np.dtype(np.float32)))
        profile.set_shape(item.name, least, usual, most)
    if config.add_optimization_profile(profile) < 0:
        raise ModelError("TensorRT does not take the shapes {} for this network.".format(limits))


def _timing_cache(config: Any, path: Path) -> Any:
    """Measurements of earlier builds on this GPU, which shorten this one; damaged ones are started anew."""
    known = path.read_bytes() if path.is_file() else b""
    cache = config.create_timing_cache(known) or config.create_timing_cache(b"")
    if cache is None or not config.set_timing_cache(cache, False):
        return None
    return cache


def _calibrate(trt: Any, builder: Any, config: Any, name: str, path: Path) -> None:
    """Show TensorRT what the network's input `name` is on real pictures: the arrays in `path`, all of one
    shape. (To 10, and for networks with one input.)"""
    import pycuda.driver as driver

    with np.load(str(path)) as file:
        batches = [np.ascontiguousarray(file[key]) for key in sorted(file.files)]
    class Calibrator(trt.IInt8EntropyCalibrator2):
        def __init__(self) -> None:
            trt.IInt8EntropyCalibrator2.__init__(self)
            self._left = list(batches)
            self._memory = driver.mem_alloc(batches[0].nbytes)

        def get_batch_size(self) -> int:
            return len(batches[0])

        def get_batch(self, names: List[str]) -> Any:
            if not self._left:
                return None
            driver.memcpy_htod(self._memory, self._left.pop(0))
            return [int(self._memory)]

        def read_calibration_cache(self) -> Any:
            return None

        def write_calibration_cache(self, cache: Any) -> None:
            pass

    profile = builder.create_optimization_profile()
    profile.set_shape(name, batches[0].shape, batches[0].shape, batches[0].shape)
    config.set_calibration_profile(profile)
    config.int8_calibrator = Calibrator()


def main() -> int:
    request = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    try:
        with gpu().current():
            answer = {"built": build(request)}  # type: Dict[str, Any]
    except KioskError as error:
        answer = {"error": str(error)}
    print(json.dumps(answer), flush=True)
    return 1 if "error" in answer else 0


if __name__ == "__main__":
    sys.exit(main())
