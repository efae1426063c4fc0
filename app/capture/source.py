"""Where frames come from: the contract that cameras, files and pictures keep.

A source never blocks the loop for long: `read` waits at most `WAIT_S` and returns None when there
is nothing new; `finished` says whether that is the end. A live source that lost its camera goes on
returning None, says why in `problem`, and recovers by itself.
"""
import abc
from typing import NamedTuple, Optional

import numpy as np

WAIT_S = 0.05  # longest wait of one read on a live source: a key is answered within 0.2 s


class Frame(NamedTuple):
    """One picture. `image` (H, W, 3) uint8; `format` is 'bgr8' unless a device says otherwise;
    `index` counts the source's frames from 0; `time` is in seconds since the first frame (a file's
    position, the capture clock when live); `cut` is True where the scene changed at once."""

    image: np.ndarray
    index: int  # type: ignore[assignment]  # a tuple's own index() gives way to the name that all use
    time: float
    cut: bool = False
    format: str = "bgr8"


class Source(abc.ABC):
    """A context manager; closing twice is harmless."""

    live = False  # True: frames come at the camera's pace and old ones are dropped
    still = False  # True: pictures that have nothing to do with each other, not moments of one scene
    fps: Optional[float] = None  # nominal frames a second, where known
    frames: Optional[int] = None  # number of frames in all, where known
    finished = False  # True once there will be no more frames
    problem: Optional[str] = None  # one sentence for the screen while a live source is down
    dropped = 0  # frames that the source threw away because a newer one was there

    @abc.abstractmethod
    def read(self) -> Optional[Frame]:
        """The next frame (live: the newest), or None when there is none yet or no more."""

    def close(self) -> None:
        """Release the device."""

    def __enter__(self) -> "Source":
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
