"""Video files and cameras through OpenCV.

Seen with a real RTSP server on loopback: where it is frozen (SIGSTOP), `read` blocks for 60 s by
default; with READ_TIMEOUT_MSEC set, OpenCV 4.5.4 fails after that time, while 5.0.0 hands out a
picture that its decoder still held, twice, before it fails. An open is refused at once where the
server is down and ends after OPEN_TIMEOUT_MSEC where it is frozen. OpenCV before 4.5.2 takes no
such parameters: there FFmpeg's own `stimeout` does it (3.3 s for 1 s asked). `newest.py` watches
over all of it.
"""
import os
import re
import sys
import threading
import time
from collections import deque
from typing import Any, Callable, Deque, Iterator, NamedTuple, Optional, Union

import cv2
import numpy as np

from app.capture.cut import CutDetector
from app.capture.newest import CLOSE_S, OPEN_S, Capture
from app.capture.source import WAIT_S, Frame, Source
from app.capture.upright import upright
from errors import SourceError

READ_S = 1.0  # a read ends this long after the stall, when it has been given up: see above
# Frames decoded ahead of the detector. Best of six runs on two busy cores, SCRFD-500M at 640x384 and 4 ms
# of Python on each 720p frame: 75 frames a second with it, 64 without (FFmpeg decodes in two threads itself).
AHEAD = 3
CSI_RELEASE_S = 3.0  # an Argus camera that is not released stays blocked for the next start
CSI = (
    "nvarguscamerasrc sensor-id={sensor} ! video/x-raw(memory:NVMM), width=(int){width}, height=(int){height},"
    " format=(string)NV12, framerate=(fraction){fps}/1 ! nvvidconv ! video/x-raw, format=(string)BGRx"
    " ! videoconvert ! video/x-raw, format=(string)BGR ! appsink drop=true max-buffers=1"
)


class Stream(NamedTuple):
    """What cv2.VideoCapture is opened with: a URL, a pipeline or a camera's number, and a backend."""

    target: Union[str, int]
    backend: int
    camera: bool = False  # a USB camera: width, height and rate are asked for


def quiet() -> None:
    """The sources report what fails, once and in one sentence; the libraries' own lines, several for
    each attempt to reopen, stay off the terminal. FFmpeg reads its variable when it is first used."""
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    if hasattr(cv2, "setLogLevel"):  # up to OpenCV 4: 0 = silent
        cv2.setLogLevel(0)
    elif hasattr(cv2.utils, "logging"):
        cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)


def has_gstreamer() -> bool:
    return re.search(r"GStreamer:\s*YES", cv2.getBuildInformation()) is not None


def _ffmpeg() -> int:
    """FFmpeg by name, since any other backend only adds lines of complaint; where this OpenCV has
    none, whatever it has."""
    return cv2.CAP_FFMPEG if cv2.CAP_FFMPEG in cv2.videoio_registry.getBackends() else cv2.CAP_ANY


def network(url: str) -> Stream:
    return Stream(url, _ffmpeg())


def csi(sensor: int, width: int, height: int, fps: int) -> Stream:
    """A CSI camera of a Jetson. Raises SourceError where this OpenCV has no GStreamer."""
    if not has_gstreamer():
        raise SourceError(
            "csi://{}: this OpenCV has no GStreamer; use the one that comes with JetPack"
            " (a venv made with --system-site-packages, without opencv from pip).".format(sensor)
        )
    return Stream(CSI.format(sensor=sensor, width=width, height=height, fps=fps), cv2.CAP_GSTREAMER)


def device_file(device: str) -> str:
    """'0' and '/dev/video0' -> '/dev/video0'."""
    return "/dev/video" + device if device.isdigit() else device


def usb(device: str) -> Stream:
    """'/dev/video0' or a camera's number. Raises SourceError at once where it is absent."""
    if not sys.platform.startswith("linux"):  # no device files: the only way to know is to open it
        number = int(re.sub(r"\D", "", device) or 0)
        probe = cv2.VideoCapture(number)
        there = probe.isOpened()
        probe.release()
        if not there:
            raise SourceError("camera {}: there is no such camera.".format(number))
        return Stream(number, cv2.CAP_ANY, camera=True)
    path = device_file(device)
    if not os.path.exists(path):
        raise SourceError("{}: there is no such camera; is it plugged in?".format(path))
    if not os.access(path, os.R_OK | os.W_OK):
        raise SourceError("{}: no permission to open it; add this user to the group 'video'.".format(path))
    digits = re.search(r"video(\d+)$", os.path.realpath(path))
    return Stream(int(digits.group(1)) if digits else path, cv2.CAP_V4L2 if digits else cv2.CAP_ANY, camera=True)


class OpenCVCapture(Capture):
    """One open camera. Raises SourceError with a short reason (the caller knows the name)."""

    def __init__(self, stream: Stream, width: int, height: int, fps: int, stall: float) -> None:
        quiet()
        if stream.backend == cv2.CAP_GSTREAMER:
            self.release_s = CSI_RELEASE_S
        self._capture = _open_with_timeouts(stream, stall)
        if not self._capture.isOpened():
            self._capture.release()
            raise SourceError("it cannot be opened")
        if stream.camera:
            # MJPG: over USB 2 raw pictures of 1280x720 come at 10 a second at most.
            self._capture.set(cv2.CAP_PROP_FOURCC, int.from_bytes(b"MJPG", "little"))
            self._capture.set(cv2.CAP_PROP_FRAME_WIDTH, width)
            self._capture.set(cv2.CAP_PROP_FRAME_HEIGHT, height)
            self._capture.set(cv2.CAP_PROP_FPS, fps)
            self._capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)
        self.fps = _sane_rate(self._capture)

    def read(self) -> Optional[np.ndarray]:
        ok, image = self._capture.read()
        return image if ok else None

    def close(self) -> None:
        self._capture.release()


def _open_with_timeouts(stream: Stream, stall: float) -> "cv2.VideoCapture":
    if stream.backend != cv2.CAP_FFMPEG:
        return cv2.VideoCapture(stream.target, stream.backend)
    if not hasattr(cv2, "CAP_PROP_READ_TIMEOUT_MSEC"):
        os.environ.setdefault(
            "OPENCV_FFMPEG_CAPTURE_OPTIONS", "rtsp_transport;tcp|stimeout;{}".format(int((stall + READ_S) * 1e6))
        )
        return cv2.VideoCapture(stream.target, stream.backend)
    limits = {
        cv2.CAP_PROP_OPEN_TIMEOUT_MSEC: OPEN_S,
        cv2.CAP_PROP_READ_TIMEOUT_MSEC: stall + READ_S,
    }
    parameters = [number for key, limit in limits.items() for number in (key, int(limit * 1000))]
    return cv2.VideoCapture(stream.target, stream.backend, parameters)


def _sane_rate(capture: "cv2.VideoCapture") -> Optional[float]:
    rate = float(capture.get(cv2.CAP_PROP_FPS))
    return rate if 0 < rate <= 1000 else None  # network cameras report 0, or their clock's 90000


class FileSource(Source):
    """Every frame of a video file in its order, decoded a little ahead in a thread of its own.

    `time` is the file's position; with `realtime` the frames come at the file's rate (told by
    `clock`), and late ones are dropped. `decoder` stands in for cv2.VideoCapture. Raises SourceError
    where the file is absent or no video.
    A file that ends before its time is told on stderr and in `problem`; what came so far is good.
    """

    def __init__(
        self, path: str, rotate: int = 0, mirror: bool = False, realtime: bool = False,
        clock: Callable[[], float] = time.monotonic, decoder: Optional[Callable[[str], Any]] = None,
    ) -> None:  # fmt: skip
        if not os.path.isfile(path):
            raise SourceError("{}: there is no such file.".format(path))
        quiet()
        self._path, self._rotate, self._mirror = path, rotate, mirror
        self.live, self._clock = realtime, clock
        self._capture = decoder(path) if decoder is not None else cv2.VideoCapture(path, _ffmpeg())
        frames = self._capture.get(cv2.CAP_PROP_FRAME_COUNT) if self._capture.isOpened() else 0
        self._first: Optional[np.ndarray] = self._capture.read()[1] if self._capture.isOpened() else None
        if self._first is None:
            self._capture.release()
            raise SourceError("{}: is not a video that OpenCV can read.".format(path))
        self.fps = _sane_rate(self._capture)
        self.frames = int(frames) if frames >= 1 else None
        self._start: Optional[float] = None  # clock of time 0, with realtime
        self._changed = threading.Condition()  # guards all below
        self._queue: Deque[Frame] = deque()
        self._ended = False
        self._thread = threading.Thread(target=self._decode, name="decode", daemon=True)
        self._thread.start()

    def read(self) -> Optional[Frame]:
        with self._changed:
            self._changed.wait_for(self._ready, WAIT_S)
            if not self._queue:
                self.finished = self.finished or self._ended
                return None
            if self.live and not self._is_due():
                return None
            frame = self._queue.popleft()
            self._changed.notify_all()
            return frame

    def close(self) -> None:
        with self._changed:
            self.finished = self._ended = True
            self._queue.clear()
            self._changed.notify_all()
        self._thread.join(CLOSE_S)

    def _ready(self) -> bool:
        return bool(self._queue) or self._ended

    def _is_due(self) -> bool:
        """Is the head of the queue to be shown now? Frames whose follower is due already are late."""
        if self._start is None:
            self._start = self._clock() - self._queue[0].time
        position = self._clock() - self._start
        while len(self._queue) > 1 and self._queue[1].time <= position:
            late = self._queue.popleft()
            self._queue[0] = self._queue[0]._replace(cut=self._queue[0].cut or late.cut)
            self.dropped += 1
            self._changed.notify_all()
        wait = self._queue[0].time - position
        if wait > 0:
            self._changed.wait(min(wait, WAIT_S))
            return bool(self._queue) and self._queue[0].time <= self._clock() - self._start
        return True

    def _decode(self) -> None:
        count = 0
        try:
            for frame in self._frames():
                with self._changed:
                    self._changed.wait_for(lambda: len(self._queue) < AHEAD or self._ended)
                    if self._ended:
                        return
                    self._queue.append(frame)
                    self._changed.notify_all()
                count += 1
            self._complain_if_short(count)
        except cv2.error as error:
            self._complain("decoding failed after {} frames ({})".format(count, str(error).strip()))
        finally:
            with self._changed:
                self._ended = True
                self._changed.notify_all()
            self._capture.release()

    def _frames(self) -> Iterator[Frame]:
        cut = CutDetector()
        image, self._first = self._first, None
        step = 1 / (self.fps or 25.0)
        index, when, origin, position = 0, 0.0, self._position(), 0.0
        while image is not None:
            image = upright(image, self._rotate, self._mirror)
            yield Frame(image, index, when, cut(image))
            ok, image = self._capture.read()
            index += 1
            position = self._position() - origin
            # Containers without time stamps say 0, and so does OpenCV 4.5.4 for a last frame.
            when = position if position > when else when + step
            if not ok:
                return

    def _position(self) -> float:
        return float(self._capture.get(cv2.CAP_PROP_POS_MSEC)) / 1000

    def _complain_if_short(self, count: int) -> None:
        """Frame counts of some containers are estimates, so only a second or more is told."""
        if self.frames and self.frames - count > max(self.fps or 25.0, 0.02 * self.frames):
            self._complain("it ends after {} of {} frames: cut off or damaged".format(count, self.frames))

    def _complain(self, what: str) -> None:
        self.problem = "{}: {}.".format(self._path, what)
        print(self.problem, file=sys.stderr)
