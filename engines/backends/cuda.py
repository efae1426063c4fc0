"""The GPU as TensorRT needs it: its primary context, and CUDA graphs.

The primary context is the one that jetson-utils, torch and every other user of CUDA's runtime share,
so that a frame that one of them holds can be read by the other. It is made current for as long as
something is done in it, and by whichever thread does it.
"""
import contextlib
import ctypes
import functools
from typing import Any, Callable, Iterator, Optional

from errors import ModelError

RELAXED = 2  # CU_STREAM_CAPTURE_MODE_RELAXED: other threads may go on allocating meanwhile


class Gpu:
    """The first GPU. Raises ModelError where there is none, or no pycuda that can share it."""

    def __init__(self) -> None:
        try:
            import pycuda.driver as driver
        except ImportError as error:
            message = "pycuda cannot be imported ({}); it takes NVIDIA's driver, and pip install pycuda."
            raise ModelError(message.format(error)) from error
        try:
            driver.init()
            if not driver.Device.count():
                raise ModelError("CUDA finds no GPU on this machine.")
            device = driver.Device(0)
            self.name = device.name()
            self.architecture = "sm_{}{}".format(*device.compute_capability())
            self.memory = device.total_memory()  # bytes
            if not hasattr(device, "retain_primary_context"):
                raise ModelError("pycuda is too old; install 2020.1 or newer.")
            self._context = device.retain_primary_context()
        except driver.Error as error:
            raise ModelError("CUDA does not work on this machine ({}).".format(error)) from error

    @contextlib.contextmanager
    def current(self) -> Iterator[None]:
        """The primary context, current in this thread."""
        self._context.push()
        try:
            yield
        finally:
            self._context.pop()


@functools.lru_cache(maxsize=1)
def gpu() -> Gpu:
    return Gpu()


class Graph:
    """What one call put on a stream, to be put there again by a single launch. pycuda has no such thing,
    so the driver is asked itself."""

    def __init__(self, driver: Any, launchable: ctypes.c_void_p) -> None:
        self._driver = driver
        self._launchable = launchable

    @classmethod
    def capture(cls, stream: int, work: Callable[[], bool]) -> Optional["Graph"]:
        """Record what `work` puts on `stream` (its handle); None where that cannot be recorded.

        `work` must have run once before, so that it allocates nothing while it is recorded.
        """
        driver = _driver()
        if driver is None or driver.cuStreamBeginCapture_v2(ctypes.c_void_p(stream), RELAXED):
            return None
        fine = False
        graph, launchable = ctypes.c_void_p(), ctypes.c_void_p()
        try:
            fine = work()
        finally:
            ended = driver.cuStreamEndCapture(ctypes.c_void_p(stream), ctypes.byref(graph))
        if ended or not fine or not graph:
            return None
        failed = driver.cuGraphInstantiateWithFlags(ctypes.byref(launchable), graph, ctypes.c_ulonglong(0))
        driver.cuGraphDestroy(graph)
        return None if failed else cls(driver, launchable)

    def launch(self, stream: int) -> bool:
        return not self._driver.cuGraphLaunch(self._launchable, ctypes.c_void_p(stream))

    def close(self) -> None:
        self._driver.cuGraphExecDestroy(self._launchable)


@functools.lru_cache(maxsize=1)
def _driver() -> Any:
    """CUDA's driver where it has graphs as used here (11.4 and newer), else None."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return None
    return driver if hasattr(driver, "cuGraphInstantiateWithFlags") else None
