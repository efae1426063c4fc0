"""Choosing a source by what the user wrote: a camera, a network stream, a file, a picture, a folder."""
import functools
import re
from pathlib import Path
from typing import Callable

from app.capture import opencv
from app.capture.jetson import JetsonCapture, JetsonFile
from app.capture.newest import Capture, NewestSource
from app.capture.opencv import FileSource, OpenCVCapture
from app.capture.source import Frame, Source
from app.capture.still import SUFFIXES, StillSource
from app.jetson import INSTALL, jetson_utils
from errors import SourceError, UsageError
from settings import Settings

__all__ = ["Frame", "Source", "masked", "open_source"]

INPUTS = "/dev/video0, csi://0, rtsp://..., http://..., a video file, a picture or a folder of pictures"
NVARGUS = "If it stays away: sudo systemctl restart nvargus-daemon"  # it keeps a CSI camera of a kiosk that crashed


def open_source(uri: str, settings: Settings, realtime: bool = False) -> Source:
    """The source that `uri` names, turned and mirrored as `settings.capture` says.

    Raises SourceError for a local camera, a file or a folder that is not there or of the wrong kind,
    UsageError for a way of writing that is not known. A network camera that is down is waited for:
    `problem` says so. `realtime` plays a video file at its own rate and drops late frames.
    """
    scheme, _, rest = uri.rpartition("://")
    scheme = scheme.lower()
    jetson = _on_jetson(settings)
    if scheme in ("rtsp", "rtsps") and jetson:
        return _live(_jetson(uri, settings), uri, settings)
    if scheme in ("rtsp", "rtsps", "http", "https"):
        return _live(_opencv(opencv.network(uri), settings), uri, settings)
    if scheme in ("rtp", "webrtc"):
        if not jetson:
            raise SourceError("{}: needs jetson-utils ({}).".format(masked(uri), _why_not(settings)))
        return _live(_jetson(uri, settings), uri, settings)
    if scheme == "csi":
        return _csi(uri, rest, settings)
    if scheme == "v4l2" or uri.isdigit() or uri.startswith("/dev/"):
        stream = opencv.usb(rest)  # also asks whether it is there
        uri = "v4l2://" + opencv.device_file(rest)
        return _live(_jetson(uri, settings) if jetson else _opencv(stream, settings), rest, settings)
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
    decoder = JetsonFile if settings.capture.library == "jetson" and _on_jetson(settings) else None
    return FileSource(str(path), rotate, mirror, realtime, decoder=decoder)


def _csi(uri: str, sensor: str, settings: Settings) -> Source:
    """A CSI camera, by jetson-utils or else by an OpenCV that has GStreamer."""
    if not sensor.isdigit():
        raise UsageError("{}: a CSI camera is written csi://0 or csi://1.".format(uri))
    if _on_jetson(settings):
        return _live(_jetson(uri, settings), uri, settings, NVARGUS)
    capture = settings.capture
    try:
        stream = opencv.csi(int(sensor), capture.width, capture.height, capture.fps)
    except SourceError as error:
        raise SourceError("{} Or use jetson-utils ({}).".format(error, _why_not(settings))) from error
    return _live(_opencv(stream, settings), uri, settings, NVARGUS)


def _on_jetson(settings: Settings) -> bool:
    """Is jetson-utils to be used? Raises SourceError where it was asked for by name and is absent."""
    wanted = settings.capture.library
    found = wanted != "opencv" and jetson_utils() is not None
    if wanted == "jetson" and not found:
        raise SourceError("capture.library is jetson, but {}.".format(_why_not(settings)))
    return found


def _why_not(settings: Settings) -> str:
    if settings.capture.library == "opencv":
        return "capture.library is opencv"
    return "not installed in this Python; {}".format(INSTALL)


def _opencv(stream: opencv.Stream, settings: Settings) -> Callable[[], Capture]:
    capture = settings.capture
    return functools.partial(OpenCVCapture, stream, capture.width, capture.height, capture.fps, capture.stall)


def _jetson(uri: str, settings: Settings) -> Callable[[], Capture]:
    capture = settings.capture
    return functools.partial(JetsonCapture, uri, capture.width, capture.height, capture.fps, capture.stall)


def _live(opener: Callable[[], Capture], name: str, settings: Settings, remedy: str = "") -> Source:
    capture = settings.capture
    return NewestSource(
        opener, "camera " + masked(name), capture.stall, capture.rotate, capture.mirror, remedy=remedy
    )
