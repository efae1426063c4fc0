"""The module tensorrt without a GPU: 8.2, 8.5, 10 and 11, each with what that version has and no more.

Plans are ONNX files that ONNX Runtime runs. What it insists on is what TensorRT insists on: an explicit
batch to 8, profiles for free axes, shapes within them, an address for each tensor, the plugin before a
graph that uses it, plans of the same version. It complains as TensorRT does: a None or a False, and a
line to the logger. `install` puts it, with the double of pycuda, where this process and the builder's
will import it.
"""
import enum
import hashlib
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

import numpy as np

from tests import ROOT
from tests.doubles import pycuda

VERSIONS = {"8.2": "8.2.1.8", "8.5": "8.5.3.1", "10": "10.3.0", "11": "11.4.0.106"}
PLUGIN = "KIOSK_DOUBLE_PLUGIN"  # environment variable: 1 = the L2Norm plugin is registered
BROKEN = "KIOSK_DOUBLE_BROKEN"  # what embedders give: zeros, nan, alike; how builds end: slow, killed, refused
# Which of the four flavours have a name; those not listed are in all of them.
NAMES: Dict[str, Tuple[str, ...]] = {
    "BuilderFlag.FP16": ("8.2", "8.5", "10"),
    "BuilderFlag.INT8": ("8.2", "8.5", "10"),
    "NetworkDefinitionCreationFlag.EXPLICIT_BATCH": ("8.2", "8.5", "10"),
    "NetworkDefinitionCreationFlag.STRONGLY_TYPED": ("10", "11"),
    "TacticSource.CUBLAS": ("8.2", "8.5", "10"),
    "TacticSource.CUBLAS_LT": ("8.2", "8.5", "10"),
    "TacticSource.CUDNN": ("8.2", "8.5", "10"),
    "TacticSource.EDGE_MASK_CONVOLUTIONS": ("8.5", "10", "11"),
    "MemoryPoolType": ("8.5", "10", "11"),
    "TensorIOMode": ("8.5", "10", "11"),
    "DataType.UINT8": ("8.5", "10", "11"),
    "DataType.INT64": ("10", "11"),
    "IInt8EntropyCalibrator2": ("8.2", "8.5", "10"),
    "Builder.platform_has_fast_fp16": ("8.2", "8.5", "10"),
    "IBuilderConfig.max_workspace_size": ("8.2", "8.5"),
    "IBuilderConfig.set_memory_pool_limit": ("8.5", "10", "11"),
    "IBuilderConfig.int8_calibrator": ("8.2", "8.5", "10"),
    "IBuilderConfig.set_calibration_profile": ("8.2", "8.5", "10"),
    "ICudaEngine.num_bindings": ("8.2", "8.5"),
    "ICudaEngine.get_binding_name": ("8.2", "8.5"),
    "ICudaEngine.get_binding_shape": ("8.2", "8.5"),
    "ICudaEngine.get_binding_dtype": ("8.2", "8.5"),
    "ICudaEngine.binding_is_input": ("8.2", "8.5"),
    "ICudaEngine.get_profile_shape": ("8.2", "8.5"),
    "ICudaEngine.num_io_tensors": ("8.5", "10", "11"),
    "ICudaEngine.get_tensor_name": ("8.5", "10", "11"),
    "ICudaEngine.get_tensor_shape": ("8.5", "10", "11"),
    "ICudaEngine.get_tensor_dtype": ("8.5", "10", "11"),
    "ICudaEngine.get_tensor_mode": ("8.5", "10", "11"),
    "ICudaEngine.get_tensor_profile_shape": ("8.5", "10", "11"),
    "IExecutionContext.set_binding_shape": ("8.2", "8.5"),
    "IExecutionContext.get_binding_shape": ("8.2", "8.5"),
    "IExecutionContext.execute_async_v2": ("8.2", "8.5"),
    "IExecutionContext.set_input_shape": ("8.5", "10", "11"),
    "IExecutionContext.get_tensor_shape": ("8.5", "10", "11"),
    "IExecutionContext.set_tensor_address": ("8.5", "10", "11"),
    "IExecutionContext.execute_async_v3": ("8.5", "10", "11"),
    "IPluginRegistry.get_plugin_creator": ("8.2", "8.5", "10"),
    "IPluginRegistry.get_creator": ("10", "11"),
}
MEMBERS = {
    "BuilderFlag": ("FP16", "INT8", "TF32"),
    "NetworkDefinitionCreationFlag": ("EXPLICIT_BATCH", "STRONGLY_TYPED"),
    "TacticSource": ("CUBLAS", "CUBLAS_LT", "CUDNN", "EDGE_MASK_CONVOLUTIONS"),
    "MemoryPoolType": ("WORKSPACE",),
    "TensorIOMode": ("NONE", "INPUT", "OUTPUT"),
    "DataType": ("FLOAT", "HALF", "INT8", "INT32", "BOOL", "UINT8", "INT64"),
    "ProfilingVerbosity": ("LAYER_NAMES_ONLY", "NONE", "DETAILED"),
    "LayerInformationFormat": ("ONELINE", "JSON"),
}


def install(folder: Path, monkeypatch: Any, flavour: str, plugin: bool = True) -> None:
    """Make `import tensorrt` and `import pycuda.driver` find the doubles, here and in child processes."""
    (folder / "pycuda").mkdir(parents=True, exist_ok=True)
    (folder / "pycuda" / "__init__.py").write_text("")
    (folder / "pycuda" / "driver.py").write_text(
        "import sys\nfrom tests.doubles import pycuda\nsys.modules[__name__] = pycuda\n"
    )
    (folder / "tensorrt.py").write_text(
        "from tests.doubles import tensorrt\nglobals().update(tensorrt.module({!r}))\n".format(flavour)
    )
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(folder), str(ROOT)]))
    monkeypatch.setenv(PLUGIN, "1" if plugin else "0")
    for name in ("tensorrt", "pycuda", "pycuda.driver"):
        monkeypatch.delitem(sys.modules, name, raising=False)


def module(flavour: str) -> Dict[str, Any]:
    """The names of the module tensorrt in that flavour."""
    made: Dict[str, Any] = {"__version__": VERSIONS[flavour]}
    for name, members in MEMBERS.items():
        if _has(flavour, name):
            there = [one for one in members if _has(flavour, name + "." + one)]
            made[name] = enum.IntEnum(name, [(one, at) for at, one in enumerate(there)])
    for kind in (ILogger, Builder, INetworkDefinition, OnnxParser, IBuilderConfig, IOptimizationProfile, Runtime,
                 ICudaEngine, IExecutionContext, IPluginRegistry, IInt8EntropyCalibrator2, ITimingCache, IHostMemory,
                 EngineInspector):  # fmt: skip
        if _has(flavour, kind.__name__):
            body = {key: value for key, value in vars(kind).items()
                    if _has(flavour, kind.__name__ + "." + key) and key not in ("__dict__", "__weakref__")}  # fmt: skip
            made[kind.__name__] = type(kind.__name__, kind.__bases__, dict(body, trt=made))
    made["get_plugin_registry"] = made["IPluginRegistry"]
    made["init_libnvinfer_plugins"] = lambda logger, namespace: True
    return made


def _has(flavour: str, name: str) -> bool:
    return flavour in NAMES.get(name, tuple(VERSIONS))


class ILogger:
    INTERNAL_ERROR, ERROR, WARNING, INFO, VERBOSE = range(5)

    def __init__(self) -> None:
        pass

    def log(self, severity: int, message: str) -> None:
        raise NotImplementedError


class IHostMemory(bytes):
    @property
    def nbytes(self) -> int:
        return len(self)


class ITimingCache:
    trt: Dict[str, Any] = {}

    def serialize(self) -> Any:
        return self.trt["IHostMemory"](b"timing of a double")


class IInt8EntropyCalibrator2:
    def __init__(self) -> None:
        pass


class IPluginRegistry:
    def get_plugin_creator(self, name: str, version: str, namespace: str) -> Any:
        return "creator" if (name, version) == ("L2Norm", "1") and os.environ.get(PLUGIN) == "1" else None

    get_creator = get_plugin_creator


class Builder:
    trt: Dict[str, Any] = {}
    platform_has_fast_fp16 = True

    def __init__(self, logger: ILogger) -> None:
        self.logger = logger

    def create_network(self, flags: int = 0) -> Any:
        network = self.trt["INetworkDefinition"]()
        if self.trt["__version__"].startswith("8"):
            network.explicit = bool(flags & (1 << int(self.trt["NetworkDefinitionCreationFlag"].EXPLICIT_BATCH)))
        return network

    def create_builder_config(self) -> Any:
        return self.trt["IBuilderConfig"]()

    def create_optimization_profile(self) -> Any:
        return self.trt["IOptimizationProfile"]()

    def build_serialized_network(self, network: Any, config: Any) -> Any:
        how = os.environ.get(BROKEN)
        if how == "slow":
            time.sleep(20)
        if how == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        if how == "refused":
            self.logger.log(ILogger.ERROR, "Could not find any implementation for node conv1.")
            return None
        free = [item for item in network.inputs if -1 in item.shape]
        if free and not (config.profiles and all(item.name in config.profiles[0].shapes for item in free)):
            self.logger.log(ILogger.ERROR, "Network has dynamic inputs, but no optimization profile has been defined.")
            return None
        flags = [flag.name for flag in config.flags]
        if "INT8" in flags and b"QuantizeLinear" not in network.onnx:
            calibrator = config.int8_calibrator
            batches = 0
            while calibrator is not None and calibrator.get_batch([item.name for item in network.inputs]) is not None:
                batches += 1
            if not batches:
                self.logger.log(ILogger.ERROR, "Calibration failure occurred with no scaling factors detected.")
                return None
        head = {
            "version": self.trt["__version__"],
            "half": "FP16" in flags,
            "inputs": [[item.name, list(item.shape), item.dtype] for item in network.inputs],
            "outputs": [[item.name, list(item.shape), item.dtype] for item in network.outputs],
            "profile": config.profiles[0].shapes if config.profiles else {},
            "sha256": hashlib.sha256(network.onnx).hexdigest(),
        }
        return self.trt["IHostMemory"](json.dumps(head).encode() + b"\n" + network.onnx)


class _Item:
    """A network's input or output."""

    def __init__(self, value: Any) -> None:
        kind = value.type.tensor_type
        self.name, self.dtype = value.name, {1: "FLOAT", 10: "HALF"}[kind.elem_type]
        self.shape = tuple(size.dim_value if size.HasField("dim_value") else -1 for size in kind.shape.dim)


class INetworkDefinition:
    explicit = True

    def __init__(self) -> None:
        self.inputs: List[_Item] = []
        self.outputs: List[_Item] = []
        self.onnx = b""

    @property
    def num_inputs(self) -> int:
        return len(self.inputs)

    def get_input(self, index: int) -> _Item:
        return self.inputs[index]


class OnnxParser:
    trt: Dict[str, Any] = {}

    def __init__(self, network: Any, logger: ILogger) -> None:
        self._network, self._errors = network, []  # type: Any, List[str]

    def parse(self, onnx: bytes) -> bool:
        import onnx as library

        model = library.load_model_from_string(bytes(onnx))
        opset = next(item.version for item in model.opset_import if item.domain == "")
        if not self._network.explicit:
            self._errors.append("This version of the ONNX parser only supports TensorRT INetworkDefinitions with an "
                                "explicit batch dimension.")  # fmt: skip
        if self.trt["__version__"].startswith("8.2") and opset > 13:
            self._errors.append("opset {} is newer than 13".format(opset))
        weights = {item.name for item in model.graph.initializer}
        for node in model.graph.node:
            if node.op_type == "L2Norm" and os.environ.get(PLUGIN) != "1":
                self._errors.append("Plugin not found, are the plugin name, version, and namespace correct?")
            if node.op_type == "Conv" and node.input[1] not in weights:
                self._errors.append("kernel weights of {} are no constants".format(node.name))
        self._network.inputs = [_Item(one) for one in model.graph.input if one.name not in weights]
        self._network.outputs = [_Item(one) for one in model.graph.output]
        self._network.onnx = bytes(onnx)
        return not self._errors

    @property
    def num_errors(self) -> int:
        return len(self._errors)

    def get_error(self, index: int) -> str:
        return self._errors[index]


class IBuilderConfig:
    trt: Dict[str, Any] = {}
    max_workspace_size = 0
    int8_calibrator = None
    profiling_verbosity = None

    def __init__(self) -> None:
        self.flags: List[Any] = []
        self.profiles: List[Any] = []
        self._cache: Any = None

    def set_flag(self, flag: Any) -> None:
        self.flags.append(self.trt["BuilderFlag"](flag))

    def clear_flag(self, flag: Any) -> None:
        self.flags = [one for one in self.flags if one != flag]

    def set_memory_pool_limit(self, pool: Any, size: int) -> None:
        self.trt["MemoryPoolType"](pool)

    def get_tactic_sources(self) -> int:
        return sum(1 << int(one) for one in self.trt["TacticSource"])

    def set_tactic_sources(self, sources: int) -> bool:
        return True

    def add_optimization_profile(self, profile: Any) -> int:
        self.profiles.append(profile)
        return len(self.profiles) - 1

    def set_calibration_profile(self, profile: Any) -> bool:
        return True

    def create_timing_cache(self, blob: bytes) -> Any:
        return self.trt["ITimingCache"]() if blob in (b"", b"timing of a double") else None

    def set_timing_cache(self, cache: Any, ignore_mismatch: bool) -> bool:
        self._cache = cache
        return True

    def get_timing_cache(self) -> Any:
        return self._cache


class IOptimizationProfile:
    def __init__(self) -> None:
        self.shapes: Dict[str, Any] = {}

    def set_shape(self, name: str, least: Any, usual: Any, most: Any) -> None:
        if not all(a <= b <= c for a, b, c in zip(least, usual, most)):
            raise ValueError("Shape provided for min, opt and max must be in order")
        self.shapes[name] = [list(least), list(usual), list(most)]


class Runtime:
    trt: Dict[str, Any] = {}

    def __init__(self, logger: ILogger) -> None:
        pycuda._need_context()
        self._logger = logger

    def deserialize_cuda_engine(self, plan: bytes) -> Any:
        first, _, onnx = bytes(plan).partition(b"\n")
        try:
            head = json.loads(first.decode())
        except ValueError:
            self._logger.log(ILogger.ERROR, "Serialization assertion magicTagRead == kMAGIC_TAG failed.")
            return None
        if head["version"] != self.trt["__version__"]:
            self._logger.log(ILogger.ERROR, "The engine plan file is not compatible with this version of TensorRT")
            return None
        if hashlib.sha256(onnx).hexdigest() != head["sha256"]:
            self._logger.log(ILogger.ERROR, "Checksum of the engine plan file is wrong")
            return None
        if b"L2Norm" in onnx and os.environ.get(PLUGIN) != "1":
            self._logger.log(ILogger.ERROR, "Cannot deserialize plugin since corresponding IPluginCreator not found")
            return None
        return self.trt["ICudaEngine"](head, onnx, self._logger)


class ICudaEngine:
    trt: Dict[str, Any] = {}

    def __init__(self, head: Dict[str, Any], onnx: bytes, logger: ILogger) -> None:
        self._head, self._onnx, self._logger = head, onnx, logger
        self._tensors = head["inputs"] + head["outputs"]
        self._names = [one[0] for one in self._tensors]
        self.num_optimization_profiles = 1
        self.num_layers = 2

    @property
    def num_bindings(self) -> int:
        return len(self._tensors)

    @property
    def num_io_tensors(self) -> int:
        return len(self._tensors)

    def get_binding_name(self, index: int) -> str:
        return self._names[index]

    get_tensor_name = get_binding_name

    def get_binding_shape(self, index: int) -> Tuple[int, ...]:
        return tuple(self._tensors[index][1])

    def get_binding_dtype(self, index: int) -> Any:
        return getattr(self.trt["DataType"], self._tensors[index][2])

    def binding_is_input(self, index: int) -> bool:
        return index < len(self._head["inputs"])

    def get_profile_shape(self, profile: int, index: int) -> List[Tuple[int, ...]]:
        return [tuple(one) for one in self._head["profile"][self._names[index]]]

    def get_tensor_shape(self, name: str) -> Tuple[int, ...]:
        return tuple(self._tensors[self._names.index(name)][1])

    def get_tensor_dtype(self, name: str) -> Any:
        return getattr(self.trt["DataType"], self._tensors[self._names.index(name)][2])

    def get_tensor_mode(self, name: str) -> Any:
        into = self._names.index(name) < len(self._head["inputs"])
        return self.trt["TensorIOMode"].INPUT if into else self.trt["TensorIOMode"].OUTPUT

    def get_tensor_profile_shape(self, name: str, profile: int) -> List[Tuple[int, ...]]:
        return [tuple(one) for one in self._head["profile"][name]]

    def create_execution_context(self) -> Any:
        return self.trt["IExecutionContext"](self)

    def create_engine_inspector(self) -> Any:
        return self.trt["EngineInspector"](self)


class EngineInspector:
    def __init__(self, engine: Any) -> None:
        pass

    def get_layer_information(self, index: int, layer_format: Any) -> str:
        return "layer {} of a double".format(index)


class IExecutionContext:
    trt: Dict[str, Any] = {}

    def __init__(self, engine: Any) -> None:
        from onnx import load_model_from_string

        from engines.backends.onnx import OnnxNetwork
        from engines.plugin import graph

        self.engine = engine
        model = load_model_from_string(engine._onnx)
        graph.native(model)
        self._session = OnnxNetwork(model.SerializeToString(), threads=1)
        self._shapes: Dict[str, Tuple[int, ...]] = {}
        self._addresses: Dict[str, int] = {}

    def _log(self, message: str) -> bool:
        self.engine._logger.log(ILogger.ERROR, message)
        return False

    def set_input_shape(self, name: str, shape: Any) -> bool:
        limits = self.engine._head["profile"].get(name)
        known = next(one[1] for one in self.engine._head["inputs"] if one[0] == name)
        least, _, most = limits or [known] * 3
        if len(shape) != len(known) or not all(a <= b <= c for a, b, c in zip(least, shape, most)):
            return self._log("Parameter check failed: {} is outside of the profile {} to {}".format(shape, least, most))
        self._shapes[name] = tuple(shape)
        return True

    def set_binding_shape(self, index: int, shape: Any) -> bool:
        return IExecutionContext.set_input_shape(self, self.engine._names[index], shape)

    def get_tensor_shape(self, name: str) -> Tuple[int, ...]:
        if name in self._shapes:
            return self._shapes[name]
        feeds = {one: np.zeros(shape, np.float32) for one, shape in self._shapes.items()}
        key = tuple(sorted(self._shapes.items()))
        if getattr(self, "_known", (None, None))[0] != key:
            self._known = (key, {one: value.shape for one, value in self._session.run(feeds).items()})
        return self._known[1][name]

    def get_binding_shape(self, index: int) -> Tuple[int, ...]:
        return IExecutionContext.get_tensor_shape(self, self.engine._names[index])

    def set_tensor_address(self, name: str, address: int) -> bool:
        if name not in self.engine._names:
            return self._log("there is no tensor {}".format(name))
        self._addresses[name] = address
        return True

    def execute_async_v3(self, stream_handle: int) -> bool:
        return IExecutionContext._execute(self)

    def execute_async_v2(self, bindings: List[int], stream_handle: int) -> bool:
        self._addresses = dict(zip(self.engine._names, bindings))
        return IExecutionContext._execute(self)

    def _execute(self) -> bool:
        pycuda._need_context()
        missing = [name for name in self.engine._names if not self._addresses.get(name)]
        if missing:
            return self._log("Neither address or allocator is set for tensor {}".format(missing[0]))
        if set(self._shapes) != {one[0] for one in self.engine._head["inputs"]}:
            return self._log("Not all shapes are specified")
        feeds = {}
        for name, shape in self._shapes.items():
            size = int(np.prod(shape)) * 4
            feeds[name] = pycuda.memory_at(self._addresses[name], size).view(np.float32).reshape(shape).copy()
            if self.engine._head["half"]:  # the error of a network in FP16, nearly
                feeds[name] = feeds[name].astype(np.float16).astype(np.float32)
        found = self._session.run(feeds)
        self._known = (tuple(sorted(self._shapes.items())), {one: value.shape for one, value in found.items()})
        for name, value in found.items():
            value = _spoilt(value.astype(np.float32))
            pycuda.memory_at(self._addresses[name], value.nbytes)[:] = np.frombuffer(value.tobytes(), np.uint8)
        return True


def _spoilt(value: np.ndarray) -> np.ndarray:
    how: Optional[str] = os.environ.get(BROKEN)
    if how in ("zeros", "nan", "alike") and value.ndim == 2 and value.shape[1] >= 64:  # embeddings alone
        return {"zeros": value * 0, "nan": value * np.float32("nan"), "alike": value * 0 + 1}[how]
    return value
