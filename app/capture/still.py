"""Pictures as a source: one picture, or a folder of them in the order of their names.

Each picture is a scene of its own (`cut` is true on all), one second after the one before.
Pillow decodes, since it refuses what is cut off (OpenCV fills the rest with grey) and reads
orientation from every format; OpenCV takes the 16-bit pictures, which Pillow would clip.
"""
import sys
import warnings
from pathlib import Path
from typing import Optional, Sequence

import cv2
import numpy as np

from app.capture.source import Frame, Source
from app.capture.upright import upright
from errors import SourceError

SUFFIXES = (
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff",
    ".ppm", ".pgm", ".pnm", ".jp2", ".avif", ".heic", ".heif",
)  # fmt: skip
DEEP = ("I", "I;16", "I;16B", "I;16L", "F")  # Pillow's modes of more than 8 bits


def read_picture(path: Path) -> np.ndarray:
    """The picture as BGR (H, W, 3) uint8, EXIF orientation applied, transparency dropped, the first
    one of an animation. Raises SourceError where the file is not a whole picture."""
    from PIL import Image, ImageOps

    _accept_heic(path)
    try:
        with warnings.catch_warnings(), Image.open(str(path)) as picture:
            warnings.simplefilter("ignore")  # of odd palettes and EXIF blocks
            if picture.mode not in DEEP:
                rgb = np.asarray(ImageOps.exif_transpose(picture).convert("RGB"))
                return np.ascontiguousarray(rgb[:, :, ::-1])
        image = cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_COLOR)
    except FileNotFoundError as error:
        raise SourceError("{}: there is no such file.".format(path)) from error
    except Exception as error:  # Pillow's plugins raise nearly anything
        raise SourceError("{}: is not a picture that can be read ({}).".format(path, error)) from error
    if image is None:
        raise SourceError("{}: is not a picture that can be read.".format(path))
    return image


def _accept_heic(path: Path) -> None:
    if path.suffix.lower() not in (".heic", ".heif"):
        return
    try:
        import pillow_heif
    except ImportError as error:
        raise SourceError("{}: reading HEIC needs the package pillow-heif.".format(path)) from error
    pillow_heif.register_heif_opener()


def pictures_in(folder: Path) -> Sequence[Path]:
    """The pictures of `folder` by name, told by their suffix; hidden files are left out."""
    found = [path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES and path.name[0] != "."]
    return sorted(path for path in found if path.is_file())


class StillSource(Source):
    """`path` is a picture or a folder. A picture that cannot be read raises SourceError at once, an
    empty folder too; in a folder a broken picture is skipped with one line on stderr."""

    still = True
    fps = 1.0

    def __init__(self, path: Path, rotate: int = 0, mirror: bool = False) -> None:
        self._rotate, self._mirror = rotate, mirror
        self._next = 0  # place in the list
        self._index = 0  # frames handed out
        self._first: Optional[np.ndarray] = None
        if path.is_dir():
            self._paths = pictures_in(path)
            if not self._paths:
                raise SourceError("{}: the folder holds no pictures.".format(path))
        else:
            self._paths = [path]
            self._first = read_picture(path)
        self._folder = path
        self.frames = len(self._paths)

    def read(self) -> Optional[Frame]:
        while self._next < len(self._paths) and not self.finished:
            path = self._paths[self._next]
            self._next += 1
            try:
                image, self._first = read_picture(path) if self._first is None else self._first, None
            except SourceError as error:
                print("skipped: {}".format(error), file=sys.stderr)
                continue
            frame = Frame(upright(image, self._rotate, self._mirror), self._index, float(self._index), cut=True)
            self._index += 1
            return frame
        if not self._index and not self.finished:
            self.finished = True
            raise SourceError("{}: none of its {} pictures can be read.".format(self._folder, len(self._paths)))
        self.finished = True
        return None

    def close(self) -> None:
        self.finished = True
