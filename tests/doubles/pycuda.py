"""pycuda.driver without a GPU, as far as the kiosk uses it: device memory is ordinary memory.

It insists on what CUDA insists on: everything happens in a current context, memory is used while it is
allocated, copies fit. `live` and `made` count allocations, for tests that look for leaks.
"""

import threading
from typing import Any, Dict, List

import numpy as np


class Error(Exception):
    pass


class LogicError(Error):
    pass


class RuntimeError(Error):
    pass


live: Dict[int, np.ndarray] = {}  # by address
made = 0  # allocations ever
_current = threading.local()


def _stack() -> List["Context"]:
    if not hasattr(_current, "stack"):
        _current.stack = []
    return _current.stack


def _need_context() -> None:
    if not _stack():
        raise LogicError("invalid device context")


def init(flags: int = 0) -> None:
    pass


class Context:
    def push(self) -> None:
        _stack().append(self)

    @staticmethod
    def pop() -> None:
        _need_context()
        _stack().pop()

    @staticmethod
    def synchronize() -> None:
        _need_context()


class Device:
    def __init__(self, number: int) -> None:
        if number:
            raise LogicError("invalid device ordinal")

    @staticmethod
    def count() -> int:
        return 1

    def name(self) -> str:
        return "Double"

    def compute_capability(self) -> Any:
        return (5, 3)

    def total_memory(self) -> int:
        return 2 << 30

    def retain_primary_context(self) -> Context:
        return Context()


class DeviceAllocation:
    def __init__(self, nbytes: int) -> None:
        global made
        _need_context()
        if nbytes <= 0:
            raise LogicError("invalid argument")
        memory = np.zeros(nbytes, np.uint8)
        self._address = memory.ctypes.data
        live[self._address] = memory
        made += 1

    def __int__(self) -> int:
        return self._address

    def __index__(self) -> int:
        return self._address

    def free(self) -> None:
        _need_context()
        if live.pop(self._address, None) is None:
            raise LogicError("memory is freed twice")


def mem_alloc(nbytes: int) -> DeviceAllocation:
    return DeviceAllocation(nbytes)


def pagelocked_empty(shape: Any, dtype: Any, order: str = "C", mem_flags: int = 0) -> np.ndarray:
    global made
    _need_context()
    made += 1
    return np.empty(shape, dtype)


class Stream:
    def __init__(self, flags: int = 0) -> None:
        _need_context()
        self.handle = id(self)

    def synchronize(self) -> None:
        _need_context()


def memory_at(address: int, nbytes: int) -> np.ndarray:
    """The bytes at a device address, for the double of TensorRT; LogicError where that is not allocated."""
    memory = live.get(int(address))
    if memory is None or len(memory) < nbytes:
        raise LogicError("an illegal memory access was encountered")
    return memory[:nbytes]


def memcpy_htod(dest: Any, src: np.ndarray) -> None:
    memcpy_htod_async(dest, src)


def memcpy_htod_async(dest: Any, src: np.ndarray, stream: Any = None) -> None:
    _need_context()
    memory_at(dest, src.nbytes)[:] = np.frombuffer(src, np.uint8)


def memcpy_dtoh_async(dest: np.ndarray, src: Any, stream: Any = None) -> None:
    _need_context()
    if not dest.flags.c_contiguous:
        raise LogicError("the array is not contiguous")
    dest.reshape(-1).view(np.uint8)[:] = memory_at(src, dest.nbytes)
