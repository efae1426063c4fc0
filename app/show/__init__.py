"""Which output a name on the command line means: a window, the terminal alone, or a video file."""
from typing import TYPE_CHECKING, Optional

from app.show.output import Output
from errors import UsageError

if TYPE_CHECKING:
    from settings import Settings

VIDEO_SUFFIXES = (".mp4", ".avi", ".mkv")
JETSON_SCHEMES = ("display", "rtsp", "webrtc", "rtp", "file")


def open_output(name: str, settings: "Settings", fps: Optional[float] = None) -> Output:
    """Open the output `name`: 'window', 'headless', the file name of a video to write, or, where
    jetson-utils is installed, one of its addresses (display://0, rtsp://@:8554/kiosk).

    `fps` is the rate of the pictures, for a video file (30 where it is not known). Raises UsageError
    for a name that is none of these, and KioskError where the output cannot be opened: for 'window'
    that means no pygame or no screen, and the caller may go on with 'headless'.
    """
    if name == "window":
        from app.show.window import WindowOutput

        return WindowOutput(settings.capture.width, settings.capture.height, settings.show.fullscreen)
    if name == "headless":
        from app.show.headless import HeadlessOutput

        return HeadlessOutput()
    if name.partition("://")[0] in JETSON_SCHEMES and "://" in name:
        from app.show.jetson import JetsonOutput

        return JetsonOutput(name)
    if name.lower().endswith(VIDEO_SUFFIXES):
        from app.show.video import VideoOutput

        return VideoOutput(name, fps)
    raise UsageError(
        "output '{}': must be window, headless, or the name of a video file ending in {}; on a Jetson also {}://.".format(
            name, ", ".join(VIDEO_SUFFIXES[:-1]) + " or " + VIDEO_SUFFIXES[-1], "://, ".join(JETSON_SCHEMES)
        )
    )
