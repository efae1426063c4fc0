"""Networks on the CPU through ONNX Runtime (1.10 on Python 3.6 to the newest)."""
import os
from pathlib import Path
from typing import Any, Dict, Union

import numpy as np

from engines.backends.network import Network, Tensor, check
from errors import ModelError

ERRORS_ONLY = 3  # ONNX Runtime's severity; its warnings about free axes would fill the screen
DTYPES: Dict[str, Any] = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(double)": np.float64,
    "tensor(uint8)": np.uint8,
    "tensor(int32)": np.int32,
    "tensor(int64)": np.int64,
    "tensor(bool)": np.bool_,
}


class OnnxNetwork(Network):
    """An ONNX file, or its bytes. `threads` 0 = all cores. Arrays returned belong to the caller."""

    def __init__(self, model: Union[str, Path, bytes], threads: int = 0) -> None:
        import onnxruntime

        self.name = "<bytes>" if isinstance(model, bytes) else str(model)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = ERRORS_ONLY
        options.intra_op_num_threads = threads or _cores()
        options.inter_op_num_threads = 1
        # A thread that waits for work by spinning takes the core from whatever runs between two networks:
        # MTCNN's three took 61 ms with it and 34 without, on two cores.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
        try:
            self._session = onnxruntime.InferenceSession(
                model if isinstance(model, bytes) else str(model), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # ONNX Runtime's own exceptions share no public base
            reason = str(error).strip().splitlines()[0]
            raise ModelError("{}: ONNX Runtime cannot load it ({}).".format(self.name, reason)) from error
        self.inputs = tuple(_tensor(item) for item in self._session.get_inputs())
        self.outputs = tuple(_tensor(item) for item in self._session.get_outputs())
        self._names = [tensor.name for tensor in self.outputs]

    def run(self, feeds: Dict[str, np.ndarray]) -> Dict[str, np.ndarray]:
        if self._session is None:
            raise ModelError("{}: the network is closed.".format(self.name))
        check(self.name, self.inputs, feeds)
        arrays = self._session.run(self._names, feeds)
        return dict(zip(self._names, arrays))

    def close(self) -> None:
        self._session = None


def _cores() -> int:
    """The cores that this process may use, which containers and taskset narrow."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _tensor(item: Any) -> Tensor:
    shape = tuple(size if isinstance(size, int) and size > 0 else None for size in item.shape)
    return Tensor(item.name, shape, np.dtype(DTYPES.get(item.type, np.float32)))
