"""The contract of Source, held against every implementation that this machine can play."""
import threading
import time

import cv2
import numpy as np
import pytest

from app.capture import open_source
from app.capture.newest import NewestSource
from app.capture.opencv import FileSource
from app.capture.source import WAIT_S, Source
from app.capture.still import StillSource
from settings import Settings
from tests.doubles.jetson_utils import JetsonUtils
from tests.doubles.source import FakeCamera, FrameList


def images():
    return [np.full((48, 64, 3), 10 + 4 * number, np.uint8) for number in range(8)]


def video(folder, realtime=False):
    writer = cv2.VideoWriter(str(folder / "clip.avi"), cv2.VideoWriter_fourcc(*"MJPG"), 100, (64, 48))
    for image in images():
        writer.write(image)
    writer.release()
    return FileSource(str(folder / "clip.avi"), realtime=realtime)


def stills(folder):
    for number, image in enumerate(images()):
        cv2.imwrite(str(folder / "{}.png".format(number)), image)
    return StillSource(folder)


def live(folder):
    camera = FakeCamera()

    def play():
        for image in images():
            camera.send(image)
            time.sleep(0.005)

    threading.Thread(target=play).start()
    return NewestSource(camera.open, "camera")


def jetson(build, uri=None):
    """jetson-utils, played by its double: a CSI camera, or a file for its decoder."""

    def made(folder, monkeypatch):
        JetsonUtils(build, images()).install(monkeypatch)
        settings = Settings()
        settings.capture.library = "jetson"
        (folder / "clip.mp4").touch()
        return open_source(uri or str(folder / "clip.mp4"), settings)

    return made


SOURCES = {
    "file": video,
    "file in real time": lambda folder: video(folder, realtime=True),
    "pictures": stills,
    "one picture": lambda folder: StillSource(stills(folder)._paths[0]),
    "list": lambda folder: FrameList(images()),
    "live": live,
}
JETSON = {
    "jetson camera": jetson("new", "csi://0"),
    "jetson camera, old build": jetson("old", "csi://0"),
    "jetson file": jetson("new"),
    "jetson file, old build": jetson("old"),
}


@pytest.fixture(params=sorted(SOURCES) + sorted(JETSON))
def source(request, tmp_path, monkeypatch):
    opened = JETSON[request.param](tmp_path, monkeypatch) if request.param in JETSON else None
    with opened or SOURCES[request.param](tmp_path) as made:
        yield made
    if opened is None and isinstance(made, NewestSource):
        made.opener.__self__.unplug()  # the fake camera's last read hangs until then


def play(source):
    """Frames until the end; of a live source until nothing more comes."""
    frames, empty = [], 0
    while not source.finished and empty < 10:
        frame = source.read()
        empty = 0 if frame is not None or not isinstance(source, NewestSource) else empty + 1
        if frame is not None:
            frames.append(frame)
    return frames


def test_frames_are_whole_numbered_and_timed(source):
    assert isinstance(source, Source) and not source.finished and source.dropped == 0
    frames = play(source)
    assert frames and (frames[0].time == 0.0 or source.live)
    for frame in frames:
        assert frame.image.shape == (48, 64, 3) and frame.image.dtype == np.uint8 and frame.format == "bgr8"
        assert isinstance(frame.cut, bool) and isinstance(frame.time, float)
        assert abs(int(frame.image.mean()) - (10 + 4 * frame.index)) <= 2, "the index is the picture's place"
    numbers, times = [frame.index for frame in frames], [frame.time for frame in frames]
    assert numbers == sorted(set(numbers)) and times == sorted(set(times))
    assert source.frames in (None, len(frames) + source.dropped)
    assert len(frames) + source.dropped == numbers[-1] + 1, "what is missing was counted as dropped"


def test_a_frame_is_not_overwritten_by_the_next_one(source):
    frames = play(source)
    assert [round((float(frame.image.mean()) - 10) / 4) for frame in frames] == [frame.index for frame in frames]


def test_the_end_is_the_end(source):
    play(source)
    source.close()
    source.close()
    assert source.finished and source.read() is None and source.read() is None


def test_an_early_close_is_harmless(source):
    source.read()
    source.close()
    assert source.finished and source.read() is None


def test_the_wait_leaves_room_for_keys():
    assert WAIT_S <= 0.05
