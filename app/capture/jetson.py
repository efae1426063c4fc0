"""Cameras and files through jetson-utils: decoded by the Jetson's own hardware, handed over in mapped memory.

The pictures lie in memory that CPU and GPU share, so the kernels of `engines.sampling.cuda` read
them where they are. jetson-utils turns a camera's NV12 into RGB, but not into BGR, and overwrites a
picture four captures later, while the kiosk holds one for as long as it takes to look at it; so the
GPU turns RGB into BGR once, into a buffer that nobody holds any more. Buffers are made once: a live
camera needs four.

Two builds are served: before March 2023 a capture that timed out raised an exception, since then it
returns None; before August 2022 it waited for ever unless told otherwise, so it is always told.
"""
import sys
import time
from typing import Any, List, Optional

import cv2
import numpy as np

from app.capture.newest import Capture
from app.capture.opencv import CSI_RELEASE_S
from app.jetson import jetson_utils
from errors import SourceError

POLL_MS = 50  # a read that nobody wants any more ends this soon
FIRST_S = 10.0  # longest wait for the first picture: a network camera's key frame, a sensor that starts


class JetsonCapture(Capture):
    """`uri` as jetson-utils writes it; `stall` s without a picture end it, as the end of a file does.
    Raises SourceError where it cannot be opened."""

    release_s = CSI_RELEASE_S

    def __init__(self, uri: str, width: int, height: int, fps: int, stall: float) -> None:
        utils = jetson_utils()
        if utils is None:
            raise SourceError("jetson-utils is not installed")
        self._utils = utils
        self._stall = stall
        self._unwanted = False
        self._pictures: List[Any] = []  # our own buffers
        self._views: List[np.ndarray] = []  # the same memory as numpy sees it
        try:
            self._source: Any = utils.videoSource(uri, argv=_arguments(uri, width, height, fps))
            self._source.Open()
        except Exception as error:  # jetson-utils raises the bare class
            raise SourceError("it cannot be opened ({})".format(_reason(error))) from error
        rate = float(self._source.GetFrameRate())
        self.fps = rate if 0 < rate <= 1000 else None

    def read(self) -> Optional[np.ndarray]:
        """The next picture, BGR, in mapped memory; it stays as it is for as long as it is held."""
        until = time.monotonic() + (self._stall if self._pictures else max(self._stall, FIRST_S))
        while not self._unwanted and time.monotonic() < until:
            try:
                image = self._source.Capture(format="rgb8", timeout=POLL_MS)
            except Exception:  # an old build's time-out, or any build's end: they look alike
                image = None
            if image is not None:
                return self._kept(image)
            if not self._source.IsStreaming():
                return None
        return None

    def interrupt(self) -> None:
        self._unwanted = True

    def close(self) -> None:
        if self._source is not None:
            self._source.Close()
            self._source = None

    def _kept(self, image: Any) -> np.ndarray:
        """RGB `image` as BGR in a buffer of ours; all GPU work is asynchronous, so it is waited for."""
        target = self._free(image)
        self._utils.cudaConvertColor(image, self._pictures[target])
        self._utils.cudaDeviceSynchronize()
        return self._views[target][:]  # a new view, so that its death shows in the count of the first

    def _free(self, like: Any) -> int:
        """A buffer of this size that nobody holds: its view is known here and to getrefcount alone."""
        size = (like.height, like.width, 3)
        if self._views and self._views[0].shape != size:
            self._pictures, self._views = [], []
        for at in range(len(self._views)):
            if sys.getrefcount(self._views[at]) <= 2:
                return at
        self._pictures.append(self._utils.cudaAllocMapped(width=like.width, height=like.height, format="bgr8"))
        self._views.append(self._utils.cudaToNumpy(self._pictures[-1]))
        return len(self._views) - 1


class JetsonFile:
    """A video file decoded by the Jetson, with the four methods of cv2.VideoCapture that FileSource calls."""

    def __init__(self, path: str) -> None:
        try:
            self._capture: Optional[JetsonCapture] = JetsonCapture("file://" + path, 0, 0, 0, FIRST_S)
        except SourceError:
            self._capture = None

    def isOpened(self) -> bool:  # noqa: N802 (OpenCV's name)
        return self._capture is not None

    def read(self) -> Any:
        image = self._capture.read() if self._capture is not None else None
        return image is not None, image

    def get(self, key: int) -> float:
        """The rate alone; 0 (unknown) for the number of frames and the position, which jetson-utils does not tell."""
        known = self._capture is not None and key == cv2.CAP_PROP_FPS
        return (self._capture.fps or 0.0) if known and self._capture is not None else 0.0

    def release(self) -> None:
        if self._capture is not None:
            self._capture.close()


def _arguments(uri: str, width: int, height: int, fps: int) -> List[str]:
    """jetson-utils takes its options as a command line, whose first word is the program."""
    wanted = {"width": width, "height": height, "rate": fps}
    return ["kiosk"] + ["--input-{}={}".format(name, value) for name, value in wanted.items() if value]


def _reason(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
