"""A video file with the overlay in it; the keys come from the terminal, as without a window.

It is written beside its name (clip.part.mp4) and renamed when it is closed, so that a file under the
name itself always plays and an older recording is lost only to a complete new one.
"""
import os
from pathlib import Path
from typing import Optional, Tuple

import cv2
import numpy as np

from app.show.headless import HeadlessOutput
from app.show.letterbox import letterbox, resized
from errors import KioskError

CODECS = {".mp4": ("mp4v", "avc1"), ".avi": ("XVID", "MJPG"), ".mkv": ("mp4v", "XVID", "MJPG")}  # the first there is
UNKNOWN_FPS = 30.0


class VideoOutput(HeadlessOutput):
    """`name` ends in .mp4, .avi or .mkv; `fps` is the rate it will be played at. The first picture
    gives the size; others are fitted into it. Raises KioskError where it cannot be written."""

    draws = True

    def __init__(self, name: str, fps: Optional[float] = None) -> None:
        self._path = Path(name)
        self._part = self._path.with_name("{}.part{}".format(self._path.stem, self._path.suffix))
        self._fps = fps if fps and fps > 0 else UNKNOWN_FPS
        self._writer: Optional[cv2.VideoWriter] = None
        self._size: Tuple[int, int] = (0, 0)
        folder = self._path.parent
        if not folder.is_dir() or not os.access(str(folder), os.W_OK):
            raise KioskError("{}: cannot be written, since {} is not a folder to write into.".format(name, folder))
        if self._path.is_dir():
            raise KioskError("{}: is a folder; name a file to write the video into.".format(name))
        super().__init__()

    def show(self, picture: np.ndarray) -> None:
        height, width = picture.shape[:2]
        if self._writer is None:
            self._size = (width, height)
            self._writer = self._opened()
        if (width, height) != self._size:
            picture = fitted(picture, *self._size)
        self._writer.write(np.ascontiguousarray(picture))

    def close(self) -> None:
        """Finish the file. Raises KioskError where it does not play, a full disk for one."""
        super().close()
        if self._writer is None:
            return
        self._writer.release()
        self._writer = None
        reader = cv2.VideoCapture(str(self._part))
        plays = reader.isOpened() and reader.read()[0]
        reader.release()
        if not plays:
            raise KioskError("{}: does not play after writing; is the disk full?".format(self._part))
        os.replace(str(self._part), str(self._path))

    def _opened(self) -> cv2.VideoWriter:
        for codec in CODECS[self._path.suffix.lower()]:
            writer = cv2.VideoWriter(str(self._part), cv2.VideoWriter.fourcc(*codec), self._fps, self._size)
            if writer.isOpened():
                return writer
        raise KioskError(
            "{}: this OpenCV cannot write such a video ({} of {}x{}); try a name ending in .avi.".format(
                self._path, " or ".join(CODECS[self._path.suffix.lower()]), *self._size
            )
        )


def fitted(picture: np.ndarray, width: int, height: int) -> np.ndarray:
    """`picture` (H, W, 3) as large as it can be inside `width` x `height`, black around it."""
    x, y, inner_width, inner_height = letterbox(picture.shape[1], picture.shape[0], width, height)
    canvas = np.zeros((height, width, 3), np.uint8)
    canvas[y : y + inner_height, x : x + inner_width] = resized(picture, inner_width, inner_height)
    return canvas
