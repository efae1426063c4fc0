"""Choosing a source by what the user wrote: a camera, a network stream, a file, a picture, a folder."""
import functools
import re
from pathlib import Path

from app.capture import opencv
from app.capture.newest import NewestSource
from app.capture.opencv import FileSource, OpenCVCapture, Stream
from app.capture.source import Frame, Source
from app.capture.still import SUFFIXES, StillSource
from errors import SourceError, UsageError
from settings import Settings

__all__ = ["Frame", "Source", "masked", "open_source"]

INPUTS = "/dev/video0, csi://0, rtsp://..., http://..., a video file, a picture or a folder of pictures"


def open_source(uri: str, settings: Settings, realtime: bool = False) -> Source:
    """The source that `uri` names, turned and mirrored as `settings.capture` says.

    Raises SourceError for a local camera, a file or a folder that is not there or of the wrong kind,
    UsageError for a way of writing that is not known. A network camera that is down is waited for:
    `problem` says so. `realtime` plays a video file at its own rate and drops late frames.
    """
    capture = settings.capture
    scheme, _, rest = uri.rpartition("://")
    scheme = scheme.lower()
    if scheme in ("rtsp", "rtsps", "http", "https"):
        return _live(opencv.network(uri), uri, settings)
    if scheme == "csi":
        if not rest.isdigit():
            raise UsageError("{}: a CSI camera is written csi://0 or csi://1.".format(uri))
        return _live(opencv.csi(int(rest), capture.width, capture.height, capture.fps), uri, settings)
    if scheme == "v4l2" or uri.isdigit() or uri.startswith("/dev/"):
        return _live(opencv.usb(rest), rest, settings)
    if scheme not in ("", "file"):
        raise UsageError("{}: this input is not known; it can be {}.".format(masked(uri), INPUTS))
    return _file(Path(rest).expanduser(), settings, realtime)


def masked(uri: str) -> str:
    """`uri` without its password, for the screen and the terminal."""
    uri = re.sub(r"(://[^:@/]*):.*@", r"\1:***@", uri)
    return re.sub(r"(?i)((?:password|passwd|pass|pwd|token)=)[^&_/]*", r"\1***", uri)


def _file(path: Path, settings: Settings, realtime: bool) -> Source:
    rotate, mirror = settings.capture.rotate, settings.capture.mirror
    if not path.exists():
        raise SourceError("{}: there is no such file, folder or camera.".format(path))
    if path.is_dir() or path.suffix.lower() in SUFFIXES:
        return StillSource(path, rotate, mirror)
    return FileSource(str(path), rotate, mirror, realtime)


def _live(stream: Stream, name: str, settings: Settings) -> Source:
    capture = settings.capture
    opener = functools.partial(OpenCVCapture, stream, capture.width, capture.height, capture.fps, capture.stall)
    return NewestSource(opener, "camera " + masked(name), capture.stall, capture.rotate, capture.mirror)
