"""Cameras that are not here: a list of frames as a Source, and a camera that fails on command.

Public: scripts that feed pictures of their own to the kiosk may use `FrameList` too.
"""
import threading
from collections import deque
from typing import Callable, Deque, Iterable, List, Optional

import numpy as np

from app.capture.cut import CutDetector
from app.capture.newest import Capture
from app.capture.source import Frame, Source
from errors import SourceError


class FrameList(Source):
    """Hands out `images`, BGR (H, W, 3) uint8, in their order at `fps` of source time."""

    def __init__(self, images: Iterable[np.ndarray], fps: float = 25.0) -> None:
        self._images = list(images)
        self._cut = CutDetector()
        self._index = 0
        self._rate = self.fps = fps
        self.frames = len(self._images)

    def read(self) -> Optional[Frame]:
        if self.finished or self._index >= len(self._images):
            self.finished = True
            return None
        image = self._images[self._index]
        frame = Frame(image, self._index, self._index / self._rate, self._cut(image))
        self._index += 1
        return frame

    def close(self) -> None:
        self.finished = True


class Clock:
    """A clock that goes when told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds


class FakeCamera:
    """The camera itself; `open` is what a driver offers and what NewestSource is given.

    A read hangs, as a frozen camera's does, until `send` gives its capture a picture (also one that
    was given up long ago) or `unplug` ends it; opens are refused until `plug`.
    """

    def __init__(self) -> None:
        self.captures: List[FakeCapture] = []
        self.plugged = True
        self.changed = threading.Condition()
        self.opening: Optional[Callable[[], None]] = None  # called in each open: raise, or wait

    def open(self) -> Capture:
        if self.opening is not None:
            self.opening()
        with self.changed:
            if not self.plugged:
                raise SourceError("it cannot be opened")
            self.captures.append(FakeCapture(self))
            self.changed.notify_all()
            return self.captures[-1]

    def send(self, image: np.ndarray, to: int = -1) -> None:
        """A picture for capture number `to` (the newest); waits until that capture is open."""
        with self.changed:
            self.changed.wait_for(lambda: len(self.captures) > 0, 5)
            self.captures[to].pictures.append(image)
            self.changed.notify_all()

    def wait_for_captures(self, count: int) -> bool:
        """Wait until so many captures have been opened in all."""
        with self.changed:
            return self.changed.wait_for(lambda: len(self.captures) >= count, 5)

    def wait_until_closed(self, number: int) -> bool:
        with self.changed:
            return self.changed.wait_for(lambda: self.captures[number].closed, 5)

    def unplug(self) -> None:
        with self.changed:
            self.plugged = False
            self.changed.notify_all()

    def plug(self) -> None:
        self.plugged = True


class FakeCapture(Capture):
    """One open device: `read` hangs, as native reads do, until a picture comes or it is unplugged."""

    fps = 25.0

    def __init__(self, camera: FakeCamera) -> None:
        self.camera = camera
        self.pictures: Deque[np.ndarray] = deque()
        self.closed = False

    def read(self) -> Optional[np.ndarray]:
        with self.camera.changed:
            self.camera.changed.wait_for(lambda: self.pictures or not self.camera.plugged)
            return self.pictures.popleft() if self.pictures else None

    def close(self) -> None:
        with self.camera.changed:
            self.closed = True
            self.camera.changed.notify_all()
