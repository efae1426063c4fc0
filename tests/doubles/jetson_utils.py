"""jetson-utils without a Jetson: as much of its Python module as the kiosk uses, and as strict as it.

`JetsonUtils("new")` is a build of 2023 or later, "old" one of before March 2023, whose captures raise
when they time out. Read from dusty-nv/jetson-utils (fae4b42): a source owns a ring of four pictures and
overwrites them; a capture format that the camera's NV12 cannot be turned into fails; GPU work is
done when it is synchronised, not before; cudaToNumpy wants mapped memory; a camera that is open
cannot be opened a second time; encoders and displays take no BGR.
"""
import sys
import time
import types
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Sequence

import cv2
import numpy as np

RING = 4
PACE_S = 0.005  # between two pictures of a camera
CHANNELS = {"rgb8": 3, "bgr8": 3, "rgba8": 4}
CONVERSIONS = {
    ("nv12", "rgb8"): lambda nv12: cv2.cvtColor(nv12, cv2.COLOR_YUV2RGB_NV12),
    ("rgb8", "bgr8"): lambda rgb: rgb[:, :, ::-1],
    ("bgr8", "rgb8"): lambda bgr: bgr[:, :, ::-1],
    ("rgb8", "rgb8"): lambda rgb: rgb,
}


class CudaImage:
    """Its `pixels` are the GPU's view of the memory; `cudaToNumpy` gives the CPU's view of the same."""

    def __init__(self, width: int, height: int, format: str, mapped: bool = True) -> None:
        self.width, self.height, self.format, self.mapped = width, height, format, mapped
        self.channels = CHANNELS[format]
        self.shape = (height, width, self.channels)
        self.pixels = np.zeros(self.shape, np.uint8)
        self.ptr = self.pixels.ctypes.data
        self.timestamp = 0

    @property
    def __cuda_array_interface__(self) -> Dict[str, Any]:
        return {"shape": self.shape, "typestr": "|u1", "data": (self.ptr, False), "version": 2}


class _Memory:
    """What keeps a CudaImage alive while numpy looks at it, as the binding's base object does."""

    def __init__(self, image: CudaImage) -> None:
        self._image = image
        self.__array_interface__ = dict(image.pixels.__array_interface__)
        self.__cuda_array_interface__ = image.__cuda_array_interface__


class JetsonUtils(types.ModuleType):
    """`pictures`: what each camera or file shows, BGR (H, W, 3) uint8 of even sizes, in their order; a
    camera that is through with them times out for ever, a file ends. `log` tells what was opened,
    closed and rendered; `opened` is what is open now."""

    def __init__(self, build: str = "new", pictures: Sequence[np.ndarray] = ()) -> None:
        super().__init__("jetson_utils" if build == "new" else "jetson.utils")
        self.build = build
        self.pictures = list(pictures)
        self.rate = 30.0
        self.opened: List[str] = []
        self.log: List[str] = []
        self.arguments: List[Sequence[str]] = []
        self.rendered: List[np.ndarray] = []
        self.broken = False  # nothing can be opened
        self.allocations = 0
        self._pending: List[Callable[[], None]] = []
        self.videoSource = lambda uri, argv=(), positionArg=-1: VideoSource(self, uri, argv)
        self.videoOutput = lambda uri, argv=(), positionArg=-1: VideoOutput(self, uri, argv)

    def install(self, monkeypatch: Any) -> "JetsonUtils":
        """Under the name of its build, and the other name absent."""
        for name in ("jetson_utils", "jetson.utils"):
            monkeypatch.setitem(sys.modules, name, self if name == self.__name__ else None)
        parent = types.ModuleType("jetson") if self.build == "old" else None
        monkeypatch.setitem(sys.modules, "jetson", parent)
        return self

    def open(self, uri: str) -> None:
        if self.broken or (uri in self.opened and uri.startswith(("csi", "v4l2", "display"))):
            raise Exception("jetson.utils -- failed to create device")
        self.opened.append(uri)
        self.log.append("open " + uri)

    def close(self, uri: str) -> None:
        self.opened.remove(uri)
        self.log.append("close " + uri)

    def later(self, work: Callable[[], None]) -> None:
        self._pending.append(work)

    def cudaDeviceSynchronize(self) -> None:  # noqa: N802
        pending, self._pending = self._pending, []
        for work in pending:
            work()

    def cudaAllocMapped(self, width: int, height: int, format: str) -> CudaImage:  # noqa: N802
        self.allocations += 1
        return CudaImage(width, height, format)

    def cudaConvertColor(self, input: CudaImage, output: CudaImage) -> None:  # noqa: N802
        if (input.format, output.format) not in CONVERSIONS or input.shape[:2] != output.shape[:2]:
            raise Exception("jetson.utils -- cudaConvertColor() failed")
        convert = CONVERSIONS[input.format, output.format]
        self.later(lambda: np.copyto(output.pixels, convert(input.pixels)))

    def cudaToNumpy(self, image: CudaImage) -> np.ndarray:  # noqa: N802
        if not image.mapped:
            raise Exception("jetson.utils -- cudaToNumpy() needs to use CUDA mapped memory as input")
        return np.asarray(_Memory(image))


class VideoSource:
    def __init__(self, utils: JetsonUtils, uri: str, argv: Sequence[str]) -> None:
        self._utils, self._uri, self._next = utils, uri, 0
        utils.arguments.append(argv)
        is_file = uri.startswith("file://")
        if is_file and not Path(uri[len("file://") :]).is_file():
            raise Exception("jetson.utils -- failed to create videoSource device")
        self._ends = is_file
        self._streaming = False
        self._ring: List[CudaImage] = []

    def Open(self) -> None:  # noqa: N802
        self._utils.open(self._uri)
        self._streaming = True

    def Capture(self, format: str = "rgb8", timeout: Optional[int] = None) -> Optional[CudaImage]:  # noqa: N802
        if ("nv12", format) not in CONVERSIONS:
            raise Exception("jetson.utils -- videoSource failed to capture image")
        if self._next == len(self._utils.pictures):
            self._nothing(timeout)
            return None
        if not self._ends:
            time.sleep(PACE_S)
        bgr = self._utils.pictures[self._next]
        height, width = bgr.shape[:2]
        if len(self._ring) < RING:
            self._ring.append(CudaImage(width, height, format, mapped=False))
        image = self._ring[self._next % RING]
        self._next += 1
        self._utils.later(lambda: np.copyto(image.pixels, CONVERSIONS["nv12", format](_nv12(bgr))))
        return image

    def _nothing(self, timeout: Optional[int]) -> None:
        self._streaming = self._streaming and not self._ends
        assert timeout is not None, "before August 2022 a capture without a time-out waits for ever"
        if self._ends or self._utils.build == "old":
            raise Exception("jetson.utils -- videoSource failed to capture image")

    def IsStreaming(self) -> bool:  # noqa: N802
        return self._streaming

    def GetFrameRate(self) -> float:  # noqa: N802
        return self._utils.rate

    def Close(self) -> None:  # noqa: N802
        self._streaming = False
        self._utils.close(self._uri)


class VideoOutput:
    def __init__(self, utils: JetsonUtils, uri: str, argv: Sequence[str]) -> None:
        self._utils, self._uri = utils, uri
        self.streaming = False
        utils.arguments.append(argv)
        utils.open(uri)
        utils.output = self  # type: ignore[attr-defined]  # for a test that closes the window

    def Render(self, image: CudaImage) -> None:  # noqa: N802
        if image.format not in ("rgb8", "rgba8") or self._utils.broken:
            raise Exception("jetson.utils -- videoOutput failed to render image")
        self.streaming = True
        self._utils.later(lambda: self._utils.rendered.append(image.pixels.copy()))

    def SetStatus(self, text: str) -> None:  # noqa: N802
        self._utils.log.append("title " + text)

    def IsStreaming(self) -> bool:  # noqa: N802
        return self.streaming

    def Close(self) -> None:  # noqa: N802
        self._utils.close(self._uri)


def _nv12(bgr: np.ndarray) -> np.ndarray:
    """BGR (H, W, 3) as a camera has it: (H * 3 / 2, W) uint8, a plane of luma above pairs of U and V."""
    height, width = bgr.shape[:2]
    i420 = cv2.cvtColor(bgr, cv2.COLOR_BGR2YUV_I420)
    chroma = i420[height:].reshape(2, height // 2, width // 2)
    return np.concatenate([i420[:height], chroma.transpose(1, 2, 0).reshape(height // 2, width)])
