"""A real RTSP server on loopback, a double for a network camera: rtsp://127.0.0.1:PORT/camera.

Run by the system's Python, which alone sees GStreamer's bindings (Debian 12: apt-get install
gstreamer1.0-rtsp gir1.2-gst-rtsp-server-1.0 python3-gi gstreamer1.0-plugins-{good,bad,ugly}):
    /usr/bin/python3 tests/doubles/rtsp_server.py PORT [VIDEO.mp4]
Without a file it sends a moving test picture, 25 frames a second, a key frame each second; a file
(H.264) is sent once at its own rate. It prints 'ready' when it listens.
"""
import sys

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer  # noqa: E402

PICTURE = (
    "videotestsrc is-live=true pattern=ball ! video/x-raw,width=640,height=360,framerate=25/1"
    " ! timeoverlay ! x264enc tune=zerolatency speed-preset=ultrafast key-int-max=25"
)
PLAIN = PICTURE.replace(" ! timeoverlay", "")  # where plugins-base lacks pango
FILE = "filesrc location={} ! qtdemux ! h264parse"


def main(port: str, video: str = "") -> None:
    Gst.init(None)
    picture = PICTURE if Gst.ElementFactory.find("timeoverlay") else PLAIN
    factory = GstRtspServer.RTSPMediaFactory()
    factory.set_launch("( {} ! rtph264pay name=pay0 pt=96 )".format(FILE.format(video) if video else picture))
    factory.set_shared(not video)
    server = GstRtspServer.RTSPServer()
    server.set_address("127.0.0.1")
    server.set_service(port)
    server.get_mount_points().add_factory("/camera", factory)
    if not server.attach(None):
        sys.exit("port {} is taken".format(port))
    print("ready", flush=True)
    GLib.MainLoop().run()


if __name__ == "__main__":
    main(*sys.argv[1:])
