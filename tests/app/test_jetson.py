"""jetson-utils behind Source and Output, played by its double: what the contracts do not say."""
import sys
import time
import types

import numpy as np
import pytest

from app.capture import jetson as capture
from app.capture import open_source
from app.jetson import jetson_utils
from app.show import open_output
from app.show.output import Event
from errors import KioskError, SourceError, UsageError
from settings import Settings
from tests.doubles.jetson_utils import RING, JetsonUtils

COLOURED = np.zeros((48, 64, 3), np.uint8) + np.array([200, 90, 30], np.uint8)  # blue, green, red


def pictures(count):
    return [np.full((48, 64, 3), 10 + 4 * number, np.uint8) for number in range(count)]


def wait_for(condition):
    end = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < end, "waited for 5 s"
        time.sleep(0.002)


def problems(source, condition):
    """Read on, as the kiosk does, until the condition holds; what `problem` said meanwhile."""
    told = []

    def look():
        source.read()
        if source.problem and source.problem not in told:
            told.append(source.problem)
        return condition()

    wait_for(look)
    return told


@pytest.fixture(params=["old", "new"])
def utils(request, monkeypatch):
    return JetsonUtils(request.param, pictures(3)).install(monkeypatch)


def test_both_names_are_found_and_a_module_without_its_compiled_half_is_none(utils, monkeypatch):
    assert jetson_utils() is utils
    for name in ("jetson_utils", "jetson.utils"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    assert jetson_utils() is None


def test_colours_come_as_opencv_has_them(utils):
    utils.pictures = [COLOURED]
    with open_source("csi://0", Settings()) as source:
        frames = []
        wait_for(lambda: frames.append(source.read()) or frames[-1] is not None)
    assert np.abs(frames[-1].image.astype(int) - COLOURED).max() <= 2 and frames[-1].format == "bgr8"


def test_a_picture_that_is_held_stays_as_it_is_and_buffers_are_used_again(utils):
    utils.pictures = pictures(20)
    camera = capture.JetsonCapture("csi://0", 64, 48, 30, 1.0)
    held = camera.read()
    part = camera.read()[::8]
    for number in range(2, 20):  # far beyond the ring of the source
        image = camera.read()
        assert abs(int(image.mean()) - (10 + 4 * number)) <= 2
    assert abs(int(held.mean()) - 10) <= 2 and abs(int(part.mean()) - 14) <= 2
    assert utils.allocations <= RING
    camera.close()


def test_the_gpu_can_read_the_picture_where_it_is(utils):
    """engines.sampling.cuda looks for such a base: no copy to the device then."""
    camera = capture.JetsonCapture("csi://0", 64, 48, 30, 1.0)
    image, owner = camera.read(), None
    owner = image
    while isinstance(owner, np.ndarray):
        owner = owner.base
    assert owner.__cuda_array_interface__["data"][0] == image.ctypes.data
    assert image.copy().base is None
    camera.close()


def test_size_and_rate_are_asked_for_and_the_rate_is_told(utils):
    settings = Settings()
    settings.capture.width, settings.capture.height, settings.capture.fps = 640, 480, 60
    with open_source("csi://1", settings) as source:
        wait_for(lambda: source.read() is not None)
        assert source.fps == 30.0
    words = utils.arguments[0]
    assert {"--input-width=640", "--input-height=480", "--input-rate=60"} <= set(words) and words[0][0] != "-"


def test_a_camera_that_stalls_is_released_reopened_and_names_the_daemon(utils):
    settings = Settings()
    settings.capture.stall = 0.3
    with open_source("csi://0", settings) as source:
        wait_for(lambda: source.read() is not None)
        told = problems(source, lambda: utils.log.count("open csi://0") == 2)
        lost = [line for line in told if "reopening (attempt 1)" in line]
        assert lost and lost[0].startswith("camera csi://0: ")
        assert lost[0].endswith("sudo systemctl restart nvargus-daemon")
        assert utils.log[:3] == ["open csi://0", "close csi://0", "open csi://0"]
    assert utils.opened == []


def test_the_camera_is_released_when_the_kiosk_ends_by_an_error(utils):
    with pytest.raises(ZeroDivisionError), open_source("csi://0", Settings()) as source:
        wait_for(lambda: source.read() is not None)
        raise ZeroDivisionError
    assert utils.opened == [] and utils.log == ["open csi://0", "close csi://0"]


def test_a_camera_that_cannot_be_opened_says_so_and_comes_back(utils):
    utils.broken = True
    with open_source("csi://0", Settings()) as source:
        problems(source, lambda: source.problem)
        assert "it cannot be opened (jetson.utils -- failed to create device)" in source.problem
        utils.broken = False
        wait_for(lambda: source.read() is not None)


def test_which_library_opens_what(utils, tmp_path, monkeypatch):
    settings = Settings()
    for uri in ("rtsp://me:secret@10.0.0.3/door", "webrtc://@:8554/door", "rtp://@:5004"):
        with open_source(uri, settings) as source:
            wait_for(lambda source=source: source.read() is not None)
    assert [line for line in utils.log if line.startswith("open")] == [
        "open rtsp://me:secret@10.0.0.3/door", "open webrtc://@:8554/door", "open rtp://@:5004",
    ]  # fmt: skip
    settings.capture.library = "opencv"
    with pytest.raises(SourceError, match=r"webrtc://.*: needs jetson-utils \(capture.library is opencv"):
        open_source("webrtc://@:8554/door", settings)
    with pytest.raises(SourceError, match="no GStreamer"):
        open_source("csi://0", settings)
    for name in ("jetson_utils", "jetson.utils"):
        monkeypatch.setitem(sys.modules, name, None)
    settings.capture.library = "jetson"
    with pytest.raises(SourceError, match=r"capture\.library is jetson, but not installed in this Python; https"):
        open_source("csi://0", settings)
    with pytest.raises(UsageError, match="csi://0 or csi://1"):
        open_source("csi://left", Settings())


def test_a_usb_camera_is_looked_for_before_jetson_utils_is_asked(utils):
    with pytest.raises(SourceError, match="/dev/video77: there is no such camera"):
        open_source("/dev/video77", Settings())


def test_what_is_shown_reaches_the_display_in_its_colours(utils):
    with open_output("display://0", Settings()) as output:
        output.show(COLOURED)
        output.show(np.full((24, 64, 3), 255, np.uint8))
    assert utils.allocations == 1
    assert (utils.rendered[0] == COLOURED[0, 0, ::-1]).all()
    second = utils.rendered[1]
    assert second.shape == (48, 64, 3) and (second[12:36] == 255).all() and not second[:12].any()
    assert utils.opened == [] and "title Face kiosk" in utils.log


def test_closing_the_display_is_an_event_and_no_error(utils):
    with open_output("display://0", Settings()) as output:
        events = output.keys()
        assert Event("close") not in events
        output.show(COLOURED)
        utils.output.streaming = False
        events = output.keys()
        assert Event("close") in events
        output.show(COLOURED)
    assert len(utils.rendered) == 1


def test_a_stream_opens_no_display_beside_it_and_its_failure_is_one_sentence(utils):
    with open_output("rtsp://@:8554/kiosk", Settings()) as output:
        assert "--headless" in utils.arguments[-1]
        utils.broken = True
        with pytest.raises(KioskError, match="rtsp://@:8554/kiosk: jetson-utils failed"):
            output.show(COLOURED)
    with pytest.raises(KioskError, match=r"display://0: jetson-utils cannot open it .*DISPLAY=:0"):
        open_output("display://0", Settings())


def test_without_jetson_utils_its_outputs_say_what_is_missing():
    assert jetson_utils() is None
    with pytest.raises(KioskError, match="display://0: needs jetson-utils"):
        open_output("display://0", Settings())
