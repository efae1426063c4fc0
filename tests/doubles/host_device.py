"""A Device without a GPU: kernels.cu compiled for the CPU, its threads run one after the other."""
import ctypes
import subprocess
from pathlib import Path
from typing import Any, List, Tuple

import numpy as np
import pytest

from engines.sampling.device import BLOCK, KERNELS, NAMES, Device

SOURCE = Path(__file__).with_name("host_kernels.cpp")


def compile_kernels(folder: Path) -> Path:
    """The library; the test is skipped, with the compiler's words, where there is none that can."""
    library = folder / "kernels.so"
    command = ["g++", "-std=c++14", "-O2", "-ffp-contract=off", "-fPIC", "-shared", "-o", str(library)]
    command += ["-Wall", "-Wextra", "-Wno-unused-parameter", "-Werror"]
    command += ['-DKERNELS="{}"'.format(KERNELS), str(SOURCE)]
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, universal_newlines=True)
    except FileNotFoundError:
        pytest.skip("needs g++ to compile the kernels for the CPU")
    if done.returncode and "_Float16" in done.stdout:
        pytest.skip("needs a g++ that knows _Float16 (12 or newer)")
    assert done.returncode == 0, done.stdout
    return library


class HostDevice(Device):
    """Memory is numpy's; `launches` and `downloads` count."""

    def __init__(self, library: Path) -> None:
        self._library = ctypes.CDLL(str(library))
        self._memory: List[np.ndarray] = []
        self.launches = self.downloads = 0

    def allocate(self, size: int) -> int:
        self.allocated += 1
        self._memory.append(np.full(size, 0xA5, np.uint8))  # whoever reads what nobody wrote sees it
        return self._memory[-1].ctypes.data

    def pinned(self, shape: Tuple[int, ...], dtype: Any) -> np.ndarray:
        return np.empty(shape, dtype)

    def upload(self, address: int, array: np.ndarray) -> None:
        assert array.flags.c_contiguous
        ctypes.memmove(address, array.ctypes.data, array.nbytes)

    def download(self, array: np.ndarray, address: int) -> None:
        assert array.flags.c_contiguous
        self.downloads += 1
        ctypes.memmove(array.ctypes.data, address, array.nbytes)

    def wait(self) -> None:
        pass

    def launch(self, kernel: str, threads: int, *arguments: Any) -> None:
        assert kernel in NAMES and threads > 0
        self.launches += 1
        held = [np.array(argument) for argument in arguments]  # 0-d: the scalar's own type and address
        pointers = (ctypes.c_void_p * len(held))(*[one.ctypes.data for one in held])
        function = getattr(self._library, "launch_" + kernel)
        function((threads + BLOCK - 1) // BLOCK, BLOCK, pointers)
