"""Where jetson-utils shows pictures: a display without a desktop's help, RTSP, WebRTC, RTP, a hardware-encoded file.

It tells no program which keys were pressed in its window, so they come from the terminal, as
without a window. Its encoders take RGB alone; the picture is turned on its way into mapped memory.
"""
from typing import Any, List, Optional

import cv2
import numpy as np

from app.jetson import INSTALL, jetson_utils
from app.show.headless import HeadlessOutput
from app.show.output import Event
from app.show.video import fitted
from errors import KioskError

TITLE = "Face kiosk"


class JetsonOutput(HeadlessOutput):
    """`uri` is display://0, rtsp://@:8554/name, webrtc://@:8554/name, rtp://host:port or file://clip.mp4.
    The first picture gives the size; others are fitted into it. Raises KioskError where it cannot be opened."""

    draws = True

    def __init__(self, uri: str) -> None:
        utils = jetson_utils()
        if utils is None:
            raise KioskError("{}: needs jetson-utils, which is not installed in this Python; {}.".format(uri, INSTALL))
        self._utils = utils
        self._uri = uri
        self._image: Any = None  # mapped memory, and the same memory as numpy sees it
        self._pixels: Optional[np.ndarray] = None
        try:
            # Without the flag every output that is no display would open one beside it.
            flags = [] if uri.startswith("display://") else ["--headless"]
            self._output: Any = utils.videoOutput(uri, argv=["kiosk"] + flags)
        except Exception as error:  # jetson-utils raises the bare class
            raise KioskError(
                "{}: jetson-utils cannot open it ({}); a display needs DISPLAY=:0 and somebody logged in "
                "there.".format(uri, str(error).strip())
            ) from error
        super().__init__()

    def show(self, picture: np.ndarray) -> None:
        if self._output is None or self._closed_by_hand():
            return
        height, width = picture.shape[:2]
        if self._pixels is None:
            self._image = self._utils.cudaAllocMapped(width=width, height=height, format="rgb8")
            self._pixels = self._utils.cudaToNumpy(self._image)
            self._call("SetStatus", TITLE)
        if (height, width) != self._pixels.shape[:2]:
            picture = fitted(picture, self._pixels.shape[1], self._pixels.shape[0])
        cv2.cvtColor(picture, cv2.COLOR_BGR2RGB, dst=self._pixels)
        self._call("Render", self._image)
        self._utils.cudaDeviceSynchronize()  # the next picture goes into the same memory

    def keys(self) -> List[Event]:
        events = super().keys()
        if self._output is not None and self._closed_by_hand():
            events.append(Event("close"))
        return events

    def close(self) -> None:
        super().close()
        if self._output is not None:
            self._output.Close()
            self._output = self._image = self._pixels = None

    def _closed_by_hand(self) -> bool:
        """A display that was opened by the first picture and streams no more."""
        return self._pixels is not None and self._uri.startswith("display://") and not self._output.IsStreaming()

    def _call(self, method: str, argument: Any) -> None:
        try:
            getattr(self._output, method)(argument)
        except Exception as error:
            if not self._closed_by_hand():
                raise KioskError("{}: jetson-utils failed ({}).".format(self._uri, str(error).strip())) from error
