"""Which backend runs the networks: the one place that asks what this machine has."""
import contextlib
import dataclasses
import importlib.util
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Callable, Dict, Iterator, List, Optional, Set, TypeVar

import numpy as np

from engines.backends.network import Network
from errors import KioskError, ModelError
from settings import AUTO, Settings

if TYPE_CHECKING:
    from engines.backends.tensorrt import TensorrtNetwork
    from engines.sampling.device import DeviceArray

Made = TypeVar("Made")
Feeds = Dict[str, List[Dict[str, np.ndarray]]]  # by role: what a network was given, run by run
_said: Set[str] = set()  # lines already printed in this process
_recorded: List[Feeds] = []  # by `recording`


def open_network(path: Path, settings: Settings, rewrite: bool = False, role: str = "") -> Network:
    """The ONNX file at `path` as a running network, on the CPU unless the backend is tensorrt.

    `rewrite`: where ONNX Runtime runs it, run the equivalent without PRelu (engines.backends.prelu).
    `role`: of the network in its model; it tells TensorRT which shapes will come. Raises ModelError
    when the network cannot be loaded or its plan not be built.
    """
    if settings.backend == "tensorrt":
        from engines.plans.cache import open_plan

        return _CpuBeyond(open_plan(path, role, settings, say), lambda: _on_cpu(path, settings, rewrite))
    network = _on_cpu(path, settings, rewrite)
    return _Recorded(network, _recorded[-1].setdefault(role, [])) if _recorded else network


def first_sound(settings: Settings, make: Callable[[Settings], Made], fault: Callable[[Made], Optional[str]]) -> Made:
    """What `make` gives with the backend that `settings` ask for; auto takes TensorRT where it works, and
    the CPU otherwise, and says why.

    `fault` says in a sentence what is wrong with it (None = nothing). Raises ModelError where the last
    choice cannot be had or has a fault.
    """
    for backend in backends(settings):
        try:
            made = make(dataclasses.replace(settings, backend=backend))
            wrong = fault(made)
            if wrong is None:
                return made
            with contextlib.suppress(Exception):
                made.close()  # type: ignore[attr-defined]
            raise ModelError("The self-test of the backend {} failed: {}".format(backend, wrong))
        except KioskError as error:
            if settings.backend != AUTO or backend == "onnx":
                raise
            say("{} The networks run on the CPU.".format(error))
    raise ModelError("There is no backend.")  # the list ends with onnx


def backends(settings: Settings) -> List[str]:
    """Those to be tried, first choice first; a PC without TensorRT is not told that it has none."""
    if settings.backend != AUTO:
        return [settings.backend]
    if importlib.util.find_spec("tensorrt") is None:
        return ["onnx"]
    return ["tensorrt", "onnx"]


@contextlib.contextmanager
def recording() -> Iterator[Feeds]:
    """What networks opened meanwhile are given, by role: real pictures to calibrate and to verify with."""
    feeds: Feeds = {}
    _recorded.append(feeds)
    try:
        yield feeds
    finally:
        _recorded.remove(feeds)


class _CpuBeyond(Network):
    """A network on the GPU, and on the CPU for pictures that its plan does not hold: a photo may be much
    larger than what the camera gives, and a plan for all sizes would cost memory all the time."""

    def __init__(self, network: "TensorrtNetwork", on_cpu: Callable[[], Network]) -> None:
        self.inputs, self.outputs = network.inputs, network.outputs
        self._gpu = network
        self._open_cpu = on_cpu
        self._cpu: Optional[Network] = None

    def run(self, feeds: Dict[str, np.ndarray]) -> Dict[str, np.ndarray]:
        if self._gpu.fits(feeds):
            return self._gpu.run(feeds)
        if self._cpu is None:
            say("{}: pictures larger than its plan holds run on the CPU.".format(self._gpu.name))
            self._cpu = self._open_cpu()
        return self._cpu.run(feeds)

    def run_on_device(self, feeds: "Dict[str, DeviceArray]", stream: int) -> "Optional[Dict[str, DeviceArray]]":
        return self._gpu.run_on_device(feeds, stream)

    def close(self) -> None:
        self._gpu.close()
        if self._cpu is not None:
            self._cpu.close()


class _Recorded(Network):
    def __init__(self, network: Network, seen: List[Dict[str, np.ndarray]]) -> None:
        self.inputs, self.outputs = network.inputs, network.outputs
        self._network, self._seen = network, seen

    def run(self, feeds: Dict[str, np.ndarray]) -> Dict[str, np.ndarray]:
        self._seen.append({name: array.copy() for name, array in feeds.items()})
        return self._network.run(feeds)

    def close(self) -> None:
        self._network.close()


def _on_cpu(path: Path, settings: Settings, rewrite: bool) -> Network:
    from engines.backends.onnx import OnnxNetwork
    from engines.backends.prelu import quick

    return OnnxNetwork(quick(path) if rewrite else path, settings.threads)


def say(line: str) -> None:
    """Print a line once in this process."""
    if line not in _said:
        _said.add(line)
        print(line, file=sys.stderr, flush=True)
