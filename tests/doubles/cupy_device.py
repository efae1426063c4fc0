"""A Device on CuPy: for machines with a GPU that have CuPy and not pycuda."""
from typing import Any, List, Tuple

import cupy
import numpy as np

from engines.sampling.device import BLOCK, KERNELS, NAMES, Device


class CupyDevice(Device):
    def __init__(self) -> None:
        module = cupy.RawModule(code=KERNELS.read_text(), options=("-std=c++14",), backend="nvrtc")
        self._functions = {name: module.get_function(name) for name in NAMES}
        self.queue = cupy.cuda.Stream(non_blocking=True)
        self.stream = int(self.queue.ptr)
        self._memory: List[Any] = []
        self.launches = self.downloads = 0

    def allocate(self, size: int) -> int:
        self.allocated += 1
        self._memory.append(cupy.full(size, 0xA5, cupy.uint8))
        cupy.cuda.Device().synchronize()
        return int(self._memory[-1].data.ptr)

    def pinned(self, shape: Tuple[int, ...], dtype: Any) -> np.ndarray:
        count = int(np.prod(shape, dtype=np.int64))
        size = max(count * np.dtype(dtype).itemsize, 1)
        return np.frombuffer(cupy.cuda.alloc_pinned_memory(size), dtype, count).reshape(shape)

    def upload(self, address: int, array: np.ndarray) -> None:
        cupy.cuda.runtime.memcpyAsync(address, array.ctypes.data, array.nbytes, 1, self.stream)

    def download(self, array: np.ndarray, address: int) -> None:
        self.downloads += 1
        cupy.cuda.runtime.memcpyAsync(array.ctypes.data, address, array.nbytes, 2, self.stream)

    def wait(self) -> None:
        self.queue.synchronize()

    def launch(self, kernel: str, threads: int, *arguments: Any) -> None:
        self.launches += 1
        with self.queue:
            self._functions[kernel](((threads + BLOCK - 1) // BLOCK,), (BLOCK,), arguments)

    def close(self) -> None:
        self.queue.synchronize()
        self._memory = []
