"""The double of TensorRT that runs plans: runtime, engine, context."""
import hashlib
import json
import os
from typing import Any, Dict, List, Optional, Tuple

import numpy as np

from tests.doubles import pycuda
from tests.doubles.tensorrt_build import BROKEN, PLUGIN, ILogger


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
        sizes = dict(zip(self.engine._head["sizes"][name], shape))
        for named, size in zip(self.engine._head["sizes"][name], shape):
            if named and sizes[named] != size:  # seen on 8.5.3
                return self._log("Dimensions with name {} must be equal. Condition '==' violated".format(named))
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
