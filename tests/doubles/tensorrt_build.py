"""The double of TensorRT that builds: logger, network, parser, configuration, builder."""
import hashlib
import json
import os
import signal
import time
from typing import Any, Dict, List

PLUGIN = "KIOSK_DOUBLE_PLUGIN"  # environment variable: 1 = the L2Norm plugin is registered
BROKEN = "KIOSK_DOUBLE_BROKEN"  # what embedders give: zeros, nan, alike; how builds end: slow, killed, refused


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
            "sizes": {item.name: item.sizes for item in network.inputs},
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
        self.sizes = [size.dim_param for size in kind.shape.dim]


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
            self._errors.append(
                "This version of the ONNX parser only supports TensorRT INetworkDefinitions with an "
                "explicit batch dimension."
            )
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
