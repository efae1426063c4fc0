"""One real network camera: an RTSP server on loopback is frozen, killed and restarted; and MJPEG over HTTP."""
import http.server
import os
import signal
import socket
import subprocess
import threading
import time

import cv2
import numpy as np
import pytest

from app.capture import open_source
from settings import Settings
from tests import ROOT

SYSTEM_PYTHON = "/usr/bin/python3"  # it alone sees GStreamer's bindings
SERVER = str(ROOT / "tests" / "doubles" / "rtsp_server.py")
PROBE = """
import gi
gi.require_version("GstRtspServer", "1.0")
from gi.repository import Gst, GstRtspServer
Gst.init(None)
raise SystemExit(not all(Gst.ElementFactory.find(name) for name in ("videotestsrc", "x264enc", "rtph264pay")))
"""


class Server:
    def __init__(self):
        if not os.path.exists(SYSTEM_PYTHON) or subprocess.call(
            [SYSTEM_PYTHON, "-c", PROBE], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ):
            pytest.skip("needs an RTSP server: see tests/doubles/rtsp_server.py for its packages")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.start()

    def start(self):
        self.process = subprocess.Popen([SYSTEM_PYTHON, SERVER, str(self.port)], stdout=subprocess.PIPE)
        assert self.process.stdout.readline().strip() == b"ready"

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()


@pytest.fixture()
def server():
    made = Server()
    yield made
    made.kill()


def read_until(source, condition):
    """Read on until `condition(frame)` holds."""
    end = time.monotonic() + 30
    while time.monotonic() < end:
        frame = source.read()
        if condition(frame):
            return frame
    raise AssertionError("not within 30 s; the source says: {}".format(source.problem))


def test_a_network_camera_is_frozen_killed_and_comes_back(server):
    settings = Settings()
    settings.capture.stall = 0.9
    url = "rtsp://guest:secret@127.0.0.1:{}/camera".format(server.port)
    with open_source(url, settings) as source:
        first = read_until(source, lambda frame: frame is not None)
        assert first.image.shape == (360, 640, 3) and not first.cut and source.problem is None

        server.process.send_signal(signal.SIGSTOP)
        read_until(source, lambda frame: "reopening" in (source.problem or ""))
        assert source.problem.startswith("camera rtsp://guest:***@127.0.0.1:")
        assert "no new picture for 0.9 s" in source.problem
        server.process.send_signal(signal.SIGCONT)
        back = read_until(source, lambda frame: frame is not None)
        assert back.cut and back.time > first.time and source.problem is None

        server.kill()
        read_until(source, lambda frame: "cannot be opened, reopening (attempt 2)" in (source.problem or ""))
        server.start()
        assert read_until(source, lambda frame: frame is not None).cut and source.problem is None


class Mjpeg(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=picture")
        self.end_headers()
        try:
            for grey in range(250):
                picture = np.full((48, 64, 3), grey, np.uint8)
                data = cv2.imencode(".jpg", picture)[1].tobytes()
                head = "--picture\r\nContent-Type: image/jpeg\r\nContent-Length: {}\r\n\r\n".format(len(data))
                self.wfile.write(head.encode() + data + b"\r\n")
                time.sleep(0.02)
        except OSError:
            pass  # the kiosk has gone

    def log_message(self, *_):
        pass


def test_mjpeg_over_http():
    server = http.server.HTTPServer(("127.0.0.1", 0), Mjpeg)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        with open_source("http://127.0.0.1:{}/video".format(server.server_port), Settings()) as source:
            assert source.live
            frame = read_until(source, lambda frame: frame is not None and frame.index >= 3)
            assert frame.image.shape == (48, 64, 3)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
