"""A live camera: the newest frame only, and a camera that fails is opened again.

OpenCV's read may block for a minute (a frozen network camera; figures in `opencv.py`), so it never
runs in the loop's thread. A reader thread opens one capture and reads it until it fails; `read`
watches over it and starts the next one. A thread that is stuck inside a native call cannot be
ended: it is given up, its late frames are dropped by its number, and the thread ends when the call
returns. A process of its own could be killed instead, but every frame would have to cross a process
border, and OpenCV's own time-outs end a stuck call within seconds where it has them. So threads,
and never more than one that was given up: while it is stuck, a second one is waited for.
"""
import abc
import threading
import time
import zlib
from typing import Callable, Optional

import numpy as np

from app.capture.cut import CutDetector
from app.capture.source import WAIT_S, Frame, Source
from app.capture.upright import upright
from errors import SourceError

BACK_OFF_S = (0.5, 1.0, 2.0)  # then 2 s for ever: an open takes 1.2 s, and 5 s is all there is
OPEN_S = 4.0  # time for opening, on top of the stall: some cameras send a key frame every 4 s
NOTICE = 2 / 3  # of the stall: then the screen says so, before anything is reopened
CLOSE_S = 0.1  # longest wait for a camera to be released: a key is answered within 0.2 s


class Capture(abc.ABC):
    """An open camera, used by one thread. Blocking is its right."""

    fps: Optional[float] = None
    release_s = CLOSE_S  # longest wait for the device to be released when the kiosk ends

    @abc.abstractmethod
    def read(self) -> Optional[np.ndarray]:
        """The next picture, BGR (H, W, 3) uint8, a new array each time; None: the camera is gone."""

    def interrupt(self) -> None:
        """Called by another thread: end a read that waits, where that can be done."""

    def close(self) -> None:
        """Release the device."""


class _Reader(threading.Thread):
    """Opens and reads one capture. `since`: when it began, or when its picture last changed;
    `arrived`: when its last picture came, None before the first; `reason`: why it ended."""

    def __init__(self, source: "NewestSource", number: int, now: float) -> None:
        super().__init__(name="capture-{}".format(number), daemon=True)
        self.source, self.number = source, number
        self.since = now
        self.arrived: Optional[float] = None
        self.capture: Optional[Capture] = None
        self.reason = "the connection was lost"

    def run(self) -> None:
        capture = None
        try:
            self.reason = "it cannot be opened"
            capture = self.capture = self.source.opener()
            self.reason = "the connection was lost"
            while self.source.wants(self):
                image = capture.read()
                if image is None:
                    break
                self.source.take(self, image, capture.fps)
        except SourceError as error:
            self.reason = str(error)
        except Exception as error:  # a thread that dies silently would be a camera that stays dark
            self.reason = "{} ({})".format(self.reason, str(error).strip().split("\n")[0])
        finally:
            if capture is not None:
                capture.close()

    def interrupt(self) -> None:
        if self.capture is not None:
            self.capture.interrupt()


class NewestSource(Source):
    """`opener` opens the camera (in the reader's thread; raises SourceError with a short reason);
    `name` stands in front of each problem; `stall` s without a new picture, or with the same one
    again and again, until it is reopened; `remedy` stands behind each problem from then on. A camera
    that is down at the start is waited for."""

    live = True

    def __init__(
        self, opener: Callable[[], Capture], name: str, stall: float = 3.0, rotate: int = 0, mirror: bool = False,
        clock: Callable[[], float] = time.monotonic, remedy: str = "",
    ) -> None:  # fmt: skip
        self.opener = opener
        self._name, self._stall, self._clock, self._remedy = name, stall, clock, remedy and " " + remedy
        self._rotate, self._mirror = rotate, mirror
        self._changed = threading.Condition()  # guards all below
        self._slot: Optional[Frame] = None  # newest picture, not yet handed out
        self._count = 0  # pictures taken so far
        self._first: Optional[float] = None  # clock of the first picture
        self._fingerprint: Optional[int] = None
        self._reopened = False  # the next picture comes from another capture
        self._cut = CutDetector()
        self._attempts = 0  # since the last new picture
        self._number = 0
        self._given_up: Optional[_Reader] = None
        self._due = 0.0  # clock of the next attempt
        self._reader: Optional[_Reader] = self._start(clock())

    def read(self) -> Optional[Frame]:
        with self._changed:
            if self.finished:
                return None
            self._watch(self._clock())
            if self._slot is None:
                self._changed.wait(WAIT_S)
            frame, self._slot = self._slot, None
        if frame is None:
            return None
        image = upright(frame.image, self._rotate, self._mirror)
        cut = self._cut(image) or frame.cut
        return frame._replace(image=image, cut=cut)

    def close(self) -> None:
        with self._changed:
            self.finished, self._slot = True, None
            self._number += 1
            reader, self._reader = self._reader, None
        if reader is not None:
            reader.interrupt()
            reader.join(CLOSE_S if reader.capture is None else reader.capture.release_s)

    def wants(self, reader: _Reader) -> bool:
        """Is this reader still the one that is listened to?"""
        return reader.number == self._number

    def take(self, reader: _Reader, image: np.ndarray, fps: Optional[float]) -> None:
        """A picture from a reader's thread; one of a reader that was given up is dropped."""
        now = self._clock()
        fingerprint = zlib.crc32(image[::8].tobytes())  # every eighth row, 0.2 ms: noise never repeats
        with self._changed:
            if not self.wants(reader):
                return
            new = fingerprint != self._fingerprint
            if new or reader.arrived is None:
                reader.since = now
            reader.arrived = now
            if not new and self.problem:
                return  # a frozen picture is not handed out as if it were live
            if new:
                self._fingerprint, self._attempts, self.problem = fingerprint, 0, None
            if self._first is None:
                self._first = now
            cut = self._reopened
            if self._slot is not None:
                self.dropped += 1
                cut = cut or self._slot.cut
            self._slot = Frame(image, self._count, now - self._first, cut)
            self._count += 1
            self._reopened, self.fps = False, fps
            self._changed.notify_all()

    def _watch(self, now: float) -> None:
        reader = self._reader
        if reader is None:
            if now >= self._due:
                self._reader = self._start(now)
        elif not reader.is_alive():
            self._lost(now, reader.reason)
        else:
            waited = now - reader.since
            same = reader.arrived is not None and now - reader.arrived < self._stall / 2
            what = "the same picture" if same else "no new picture" if self._count else "no picture"
            if waited >= self._stall + (0 if reader.arrived is not None else OPEN_S):
                self._give_up(reader, now, "{} for {:g} s".format(what, self._stall))
            elif waited >= self._stall * NOTICE and self.problem is None:
                self.problem = "{}: {} for {:.1f} s.".format(self._name, what, waited)

    def _give_up(self, reader: _Reader, now: float, reason: str) -> None:
        if self._given_up is not None and self._given_up.is_alive():
            self.problem = "{}: {}, and its driver does not answer; waiting for it.{}".format(
                self._name, reason, self._remedy)  # fmt: skip
            return
        reader.interrupt()
        self._given_up = reader
        self._number += 1
        self._lost(now, reason)

    def _lost(self, now: float, reason: str) -> None:
        """Plan the next attempt. The sentence changes at attempts 1, 2, 4, 8 ...: a terminal that
        prints each new one is not flooded by a night without a camera."""
        self._reader, self._reopened = None, True
        self._due = now + BACK_OFF_S[min(self._attempts, len(BACK_OFF_S) - 1)]
        self._attempts += 1
        if self.problem is None or not self._attempts & (self._attempts - 1):
            self.problem = "{}: {}, reopening (attempt {}).{}".format(
                self._name, reason, self._attempts, self._remedy)  # fmt: skip

    def _start(self, now: float) -> _Reader:
        self._number += 1
        reader = _Reader(self, self._number, now)
        reader.start()
        return reader
