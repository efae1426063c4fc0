"""Networks run on parts of a picture: cut and run on the CPU, or on the GPU without leaving it.

A detector says where to look; this says how the pixels get there. On the GPU the frame is cut into
the networks' inputs by `cuda.py`, the networks run on the same stream, and what comes back are
candidates and scores. A network that is not there, or a shape that its plan does not hold, is served
by the CPU as before.
"""
from typing import Callable, Dict, Optional, Tuple

import numpy as np

from engines.backends.network import Network
from engines.sampling import cpu
from engines.sampling.cpu import Halves
from engines.sampling.cuda import CudaSampler, DeviceFrame, visible_address
from engines.sampling.device import Device, DeviceArray, PycudaDevice
from engines.sampling.layout import Layout
from errors import KioskError

Candidates = Tuple[np.ndarray, np.ndarray, np.ndarray]  # cells (N,), scores (N,), offsets (N, 4)


class Sampler:
    """The CPU. Not for two threads at once (buffers are reused)."""

    def __init__(self) -> None:
        self._scratch = cpu.Scratch()

    def scan(self, network: Network, picture: Halves, plan: Layout, threshold: np.floating) -> Candidates:
        """PNet over all scales of a picture: the cells of its map that pass, as cpu.candidates has them."""
        blob = self._scratch.array("blob", (1, 3, plan.height, plan.width), np.float32)
        cpu.pyramid(picture, plan, blob, self._scratch)
        found = network.run({"input": blob})
        return cpu.candidates(plan, found["probability"][0, 1], found["regression"][0], threshold)

    def look(self, network: Network, picture: Halves, boxes: np.ndarray, size: int) -> Dict[str, np.ndarray]:
        """What `network` says about the crops of `boxes` (N, 4), as cpu.crops has them."""
        return network.run({"input": cpu.crops(picture, boxes, size, self._scratch)})

    def chips(self, image: np.ndarray, matrices: np.ndarray, size: int) -> np.ndarray:
        """Aligned faces, as cpu.chips has them."""
        return cpu.chips(image, matrices, size)

    def close(self) -> None:
        """Free what it holds."""


class GpuSampler(Sampler):
    """The same on `device`, which it closes in the end. Pictures are shrunk in one step, as `exact` ones."""

    def __init__(self, device: Device) -> None:
        super().__init__()
        self._device = device
        self._cuda = CudaSampler(device)
        self._picture: Optional[Halves] = None  # that `_frame` is of
        self._frame: Optional[DeviceFrame] = None

    def scan(self, network: Network, picture: Halves, plan: Layout, threshold: np.floating) -> Candidates:
        blob = self._cuda.pyramid(self._framed(picture), plan)
        found = network.run_on_device({"input": blob}, self._device.stream)
        if found is None:
            return super().scan(network, picture, plan, threshold)
        scores, offsets = found["probability"], found["regression"]
        faces = scores.address + scores.nbytes // 2  # the map of channel 1
        return self._cuda.candidates(plan, faces, offsets.address, float(threshold))

    def look(self, network: Network, picture: Halves, boxes: np.ndarray, size: int) -> Dict[str, np.ndarray]:
        found: Optional[Dict[str, DeviceArray]] = None
        if len(boxes):
            crops = self._cuda.crops(self._framed(picture), boxes, size)
            found = network.run_on_device({"input": crops}, self._device.stream)
        if found is None:
            return super().look(network, picture, boxes, size)
        return dict(zip(found, self._cuda.fetch(*found.values())))

    def chips(self, image: np.ndarray, matrices: np.ndarray, size: int) -> np.ndarray:
        """On the GPU where it sees the picture; sending a whole one up for a few faces takes longer than they do."""
        if visible_address(image) is None or not len(matrices):
            return super().chips(image, matrices, size)
        return self._cuda.fetch(self._cuda.chips(self._cuda.frame(image), matrices, size)[0])[0]

    def close(self) -> None:
        self._device.close()

    def _framed(self, picture: Halves) -> DeviceFrame:
        """Where the GPU sees the picture; brought there once for all the networks that look at it."""
        if self._frame is None or picture is not self._picture:
            self._frame, self._picture = self._cuda.frame(picture.whole), picture
        return self._frame


def open_sampler(on_gpu: bool, say: Callable[[str], None]) -> Sampler:
    """GpuSampler where the networks run on the GPU and the kernels do, too; else the CPU's, and `say` why."""
    if on_gpu:
        try:
            return GpuSampler(PycudaDevice())
        except KioskError as error:
            say("{} Pictures are cut on the CPU.".format(error))
    return Sampler()
