"""The little that the sampling kernels need of a GPU: memory, copies in both directions, launches.

Addresses are plain integers, so pycuda, TensorRT and jetson-utils understand each other: all of them
use the device's primary context. Everything is queued on one stream, and only `wait` waits.
"""
import abc
import os
import shutil
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Tuple

import numpy as np

from engines.backends.cuda import gpu
from errors import KioskError

KERNELS = Path(__file__).with_name("kernels.cu")
NAMES = ("pyramid", "crops", "chips", "candidates")
BLOCK = 128  # threads a block; a warp (32) never straddles two blocks
JETPACK_NVCC = "/usr/local/cuda/bin/nvcc"  # JetPack does not put it on the PATH


class DeviceArray(NamedTuple):
    """A contiguous array in the device's memory."""

    address: int
    shape: Tuple[int, ...]
    dtype: np.dtype

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def nbytes(self) -> int:
        return int(np.prod(self.shape, dtype=np.int64)) * self.dtype.itemsize

    @property
    def __cuda_array_interface__(self) -> Dict[str, Any]:
        """For CuPy, PyTorch and the like."""
        return {"shape": self.shape, "typestr": self.dtype.str, "data": (self.address, False), "version": 2}


class Device(abc.ABC):
    """Used by one thread at a time. A context manager; `stream` is its stream's handle, `allocated`
    counts its allocations."""

    stream = 0
    allocated = 0

    @abc.abstractmethod
    def allocate(self, size: int) -> int:
        """`size` bytes on the device, until `close`; their address."""

    @abc.abstractmethod
    def pinned(self, shape: Tuple[int, ...], dtype: Any) -> np.ndarray:
        """An array on the host that copies go to and come from without another copy."""

    @abc.abstractmethod
    def upload(self, address: int, array: np.ndarray) -> None:
        """Queue a copy of `array` (contiguous, of `pinned`, unchanged until the next `wait`)."""

    @abc.abstractmethod
    def download(self, array: np.ndarray, address: int) -> None:
        """Queue a copy from `address` into `array` (contiguous, of `pinned`)."""

    @abc.abstractmethod
    def wait(self) -> None:
        """Until all that is queued is done."""

    @abc.abstractmethod
    def launch(self, kernel: str, threads: int, *arguments: Any) -> None:
        """Queue a kernel of NAMES on so many threads or a few more; arguments are numpy scalars."""

    def close(self) -> None:
        """Free everything."""

    def __enter__(self) -> "Device":
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


class PycudaDevice(Device):
    """The first GPU through pycuda. The kernels are compiled by nvcc when they are first used on this
    machine, which takes a Jetson Nano some seconds, and kept in pycuda's cache.

    Raises KioskError where there is no pycuda, no GPU or no nvcc.
    """

    def __init__(self) -> None:
        self.current = gpu().current  # the context, while something is done in it
        try:
            import pycuda.driver
            from pycuda.compiler import SourceModule
        except ImportError as error:
            raise KioskError("The kernels cannot be compiled ({}).".format(error)) from error
        self._cuda = pycuda.driver
        self._open = True
        self._memory: List[Any] = []
        nvcc = shutil.which("nvcc") or JETPACK_NVCC
        if not os.path.exists(nvcc):
            raise KioskError("There is no nvcc to compile the kernels (Jetson: apt install nvidia-jetpack).")
        try:
            with self.current():
                module = SourceModule(KERNELS.read_text(), nvcc=nvcc, options=["-std=c++14", "-O3"], no_extern_c=True)
                self._functions: Dict[str, Any] = {name: module.get_function(name) for name in NAMES}
                self.queue = self._cuda.Stream()
        except Exception as error:  # nvcc's words
            raise KioskError("The kernels cannot be compiled for this GPU ({}).".format(error)) from error
        self.stream = int(self.queue.handle)

    def allocate(self, size: int) -> int:
        self.allocated += 1
        with self.current():
            self._memory.append(self._cuda.mem_alloc(size))
        return int(self._memory[-1])

    def pinned(self, shape: Tuple[int, ...], dtype: Any) -> np.ndarray:
        with self.current():
            return self._cuda.pagelocked_empty(shape, dtype)

    def upload(self, address: int, array: np.ndarray) -> None:
        with self.current():
            self._cuda.memcpy_htod_async(address, array, self.queue)

    def download(self, array: np.ndarray, address: int) -> None:
        with self.current():
            self._cuda.memcpy_dtoh_async(array, address, self.queue)

    def wait(self) -> None:
        with self.current():
            self.queue.synchronize()

    def launch(self, kernel: str, threads: int, *arguments: Any) -> None:
        blocks = (threads + BLOCK - 1) // BLOCK
        with self.current():
            self._functions[kernel](*arguments, block=(BLOCK, 1, 1), grid=(blocks, 1), stream=self.queue)

    def close(self) -> None:
        if not self._open:
            return
        self._open = False
        with self.current():
            self.queue.synchronize()
            for memory in self._memory:
                memory.free()
            self._memory, self._functions, self.queue = [], {}, None
