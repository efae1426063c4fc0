"""Video files, pictures and folders as sources, and choosing one by what the user wrote."""
import shutil
import time

import cv2
import numpy as np
import pytest
from PIL import Image

from app.capture import masked, open_source, opencv
from app.capture.cut import CutDetector
from app.capture.opencv import FileSource, csi
from app.capture.still import StillSource, read_picture
from errors import SourceError, UsageError
from settings import Settings
from tests import shared
from tests.doubles.source import Clock


@pytest.fixture()
def clip(tmp_path):
    """30 frames of 64x48 at 10 a second; frame n is grey 5n, so that its number can be read off."""
    return write_clip(tmp_path / "clip.avi", [np.full((48, 64, 3), 5 * number, np.uint8) for number in range(30)])


def write_clip(path, images):
    height, width = images[0].shape[:2]
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 10, (width, height))
    for image in images:
        writer.write(image)
    writer.release()
    return path


def frames_of(source):
    frames = []
    while not source.finished:
        frame = source.read()
        if frame is not None:
            frames.append(frame)
    return frames


def number_of(frame):
    return round(float(frame.image.mean()) / 5)


def test_a_file_gives_every_frame_once_in_order_with_its_position(clip):
    with FileSource(str(clip)) as source:
        assert (source.fps, source.frames, source.live) == (10.0, 30, False)
        frames = frames_of(source)
    assert [number_of(frame) for frame in frames] == list(range(30))
    assert [frame.index for frame in frames] == list(range(30))
    assert [frame.time for frame in frames] == pytest.approx([number / 10 for number in range(30)])
    assert source.dropped == 0 and source.problem is None and not any(frame.cut for frame in frames)


def test_a_file_is_the_same_every_time():
    path = str(shared("video/single_320x240.mp4"))
    runs = []
    for _ in range(2):
        with FileSource(path) as source:
            runs.append([(frame.index, frame.time, frame.image.sum()) for frame in frames_of(source)])
    assert runs[0] == runs[1] and len(runs[0]) == 400


def test_the_cuts_of_a_film_are_found_and_a_moving_camera_is_none():
    with FileSource(str(shared("video/friends1.mp4"))) as source:
        cuts = [frame.time for frame in frames_of(source) if frame.cut]
    assert cuts == pytest.approx([6.04, 12.97, 18.43], abs=0.01)
    with FileSource(str(shared("video/single.mp4"))) as source:
        assert not any(frame.cut for frame in frames_of(source))


def test_cut_at_the_threshold():
    detector = CutDetector(threshold=25)
    greys = [100, 125, 151, 126, 100]
    assert [detector(np.full((72, 128, 3), grey, np.uint8)) for grey in greys] == [False, False, True, False, True]


def test_realtime_plays_at_the_rate_of_the_file_and_drops_what_is_late(clip, monkeypatch):
    monkeypatch.setattr(opencv, "WAIT_S", 0.001)
    clock = Clock()
    with FileSource(str(clip), realtime=True, clock=clock) as source:
        assert source.live
        first = next_of(source)
        assert source.read() is None, "the second is not due yet"
        clock.advance(0.1)
        second = next_of(source)
        clock.advance(0.2)
        until_queue_is_full(source)
        fourth = next_of(source)
    assert [frame.index for frame in (first, second, fourth)] == [0, 1, 3]
    assert source.dropped == 1


def test_realtime_keeps_the_cut_of_a_frame_that_it_drops(tmp_path, monkeypatch):
    monkeypatch.setattr(opencv, "WAIT_S", 0.001)
    greys = [0, 200, 200, 200, 200]
    path = write_clip(tmp_path / "cut.avi", [np.full((48, 64, 3), grey, np.uint8) for grey in greys])
    clock = Clock()
    with FileSource(str(path), realtime=True, clock=clock) as source:
        next_of(source)
        clock.advance(0.2)
        until_queue_is_full(source)
        frame = next_of(source)
    assert frame.index == 2 and frame.cut


def next_of(source):
    for _ in range(5000):
        frame = source.read()
        if frame is not None:
            return frame
    raise AssertionError("no frame came")


def until_queue_is_full(source):
    with source._changed:
        assert source._changed.wait_for(lambda: len(source._queue) == opencv.AHEAD or source._ended, 5)


def test_a_file_that_is_turned_and_mirrored(tmp_path):
    image = np.zeros((48, 64, 3), np.uint8)
    image[:24, :32] = 255  # top left; after a half turn bottom right, mirrored bottom left
    path = write_clip(tmp_path / "corner.avi", [image] * 3)
    settings = Settings()
    settings.capture.rotate, settings.capture.mirror = 180, True
    with open_source(str(path), settings) as source:
        upright = frames_of(source)[0].image
    assert upright[30:, :28].min() > 200 and upright[:20].max() < 60 and upright[:, 36:].max() < 60


def test_a_file_that_was_cut_off_gives_what_it_has_and_says_so(tmp_path, capsys):
    whole = [np.random.RandomState(number).randint(0, 255, (48, 64, 3), np.uint8) for number in range(60)]
    path = write_clip(tmp_path / "half.avi", whole)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with FileSource(str(path)) as source:
        frames = frames_of(source)
        if source.frames is not None and source.frames > len(frames) + 10:  # this OpenCV trusts the header
            assert "cut off or damaged" in source.problem and source.problem in capsys.readouterr().err
    assert 20 <= len(frames) < 40


@pytest.mark.parametrize("keep", [0, 100, 5000])
def test_a_file_that_is_no_video(tmp_path, keep):
    path = tmp_path / "broken.mp4"
    path.write_bytes(shared("video/single.mp4").read_bytes()[:keep])
    with pytest.raises(SourceError) as caught:
        FileSource(str(path))
    assert str(caught.value) == "{}: is not a video that OpenCV can read.".format(path)


def test_a_file_may_be_left_in_the_middle(clip):
    source = FileSource(str(clip))
    next_of(source)
    source.close()
    source.close()
    assert source.finished and source.read() is None and not source._thread.is_alive()


@pytest.mark.parametrize("uri, error, says", [
    ("/dev/video77", SourceError, "there is no such camera"),
    ("77", SourceError, "/dev/video77: there is no such camera"),
    ("v4l2:///dev/video77", SourceError, "/dev/video77: there is no such camera"),
    ("nowhere.mp4", SourceError, "nowhere.mp4: there is no such file"),
    ("file:///nowhere.mp4", SourceError, "/nowhere.mp4: there is no such file"),
    ("csi://left", UsageError, "csi://0"),
    ("ftp://me:secret@host/x", UsageError, "ftp://me:***@host/x: this input is not known"),
])  # fmt: skip
def test_inputs_that_are_not_there(uri, error, says):
    with pytest.raises(error) as caught:
        open_source(uri, Settings())
    assert says in str(caught.value)


def test_csi_needs_gstreamer_and_then_asks_for_the_size(monkeypatch):
    monkeypatch.setattr(opencv, "has_gstreamer", lambda: False)
    with pytest.raises(SourceError, match="this OpenCV has no GStreamer; use the one that comes with JetPack"):
        csi(0, 1280, 720, 30)
    monkeypatch.setattr(opencv, "has_gstreamer", lambda: True)
    stream = csi(1, 1280, 720, 30)
    assert stream.backend == cv2.CAP_GSTREAMER
    assert "sensor-id=1 " in stream.target and "width=(int)1280, height=(int)720" in stream.target


def test_a_csi_camera_that_opencv_cannot_open_names_the_daemon_that_holds_it(monkeypatch):
    monkeypatch.setattr(opencv, "has_gstreamer", lambda: True)  # its pipeline will not open here
    settings = Settings()
    settings.capture.library = "opencv"
    with open_source("csi://0", settings) as source:
        end = time.monotonic() + 10
        while not source.problem and time.monotonic() < end:
            source.read()
        assert "camera csi://0: it cannot be opened" in source.problem
        assert source.problem.endswith("sudo systemctl restart nvargus-daemon")


def test_passwords_are_not_shown():
    assert masked("rtsp://admin:p@ss/w@10.0.0.3:554/a?b=1") == "rtsp://admin:***@10.0.0.3:554/a?b=1"
    assert masked("http://cam/video?user=x&password=hunter2&rate=5") == "http://cam/video?user=x&password=***&rate=5"
    assert masked("rtsp://10.0.0.3:554/stream") == "rtsp://10.0.0.3:554/stream"


def test_a_picture_is_one_frame(tmp_path):
    path = tmp_path / "face.PNG"
    Image.new("RGB", (40, 30), (200, 100, 50)).save(str(path))
    with open_source(str(path), Settings()) as source:
        frames = frames_of(source)
    assert len(frames) == 1 and source.frames == 1
    assert frames[0].image.shape == (30, 40, 3) and frames[0].image[0, 0].tolist() == [50, 100, 200]


def test_a_folder_is_in_the_order_of_names_and_each_picture_is_a_scene(tmp_path, capsys):
    for number, name in enumerate(("b.jpg", "a.png", "c.webp", "d.bmp")):
        Image.new("RGB", (40, 30), (60 * number,) * 3).save(str(tmp_path / name))
    (tmp_path / "aa.jpg").write_text("not a picture")
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "notes.txt").write_text("left alone")
    (tmp_path / ".hidden.jpg").write_text("left alone")
    with open_source(str(tmp_path), Settings()) as source:
        frames = frames_of(source)
    assert [int(frame.image[0, 0, 0]) for frame in frames] == pytest.approx([60, 0, 120, 180], abs=2)
    assert [(frame.index, frame.time, frame.cut) for frame in frames] == [(n, float(n), True) for n in range(4)]
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2 and "aa.jpg" in lines[0] and "empty.png" in lines[1]


def test_folders_without_a_picture(tmp_path):
    with pytest.raises(SourceError, match="the folder holds no pictures"):
        StillSource(tmp_path)
    (tmp_path / "a.jpg").write_text("no picture")
    with pytest.raises(SourceError, match="none of its 1 pictures can be read"):
        frames_of(StillSource(tmp_path))


@pytest.mark.parametrize("name", ["text.jpg", "half.jpg", "empty.png"])
def test_a_broken_picture_is_refused_at_once(tmp_path, name):
    path = tmp_path / name
    if name == "half.jpg":
        cv2.imwrite(str(path), np.random.RandomState(0).randint(0, 255, (90, 90, 3)).astype(np.uint8))
        path.write_bytes(path.read_bytes()[:3000])
    else:
        path.write_bytes(b"hello" if name == "text.jpg" else b"")
    with pytest.raises(SourceError, match="is not a picture that can be read"):
        StillSource(path)


def test_orientation_is_applied(tmp_path):
    image = np.zeros((30, 40, 3), np.uint8)
    image[:, :20] = 255  # stored: left half white; shown, turned clockwise: top half white
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(image).save(str(tmp_path / "turned.jpg"), exif=exif.tobytes())
    upright = read_picture(tmp_path / "turned.jpg")
    assert upright.shape == (40, 30, 3) and upright[:18].min() > 200 and upright[22:].max() < 60


@pytest.mark.parametrize("mode, colour, suffix", [
    ("L", 200, ".png"), ("RGBA", (200, 200, 200, 0), ".png"), ("P", 0, ".gif"), ("CMYK", (55, 55, 55, 0), ".jpg"),
    ("1", 1, ".png"), ("LA", (200, 255), ".png"),
])  # fmt: skip
def test_pictures_of_every_kind_become_bgr(tmp_path, mode, colour, suffix):
    path = tmp_path / ("picture" + suffix)
    Image.new(mode, (40, 30), colour).save(str(path))
    image = read_picture(path)
    assert image.shape == (30, 40, 3) and image.dtype == np.uint8 and image.flags["C_CONTIGUOUS"]
    if mode not in ("P", "1"):
        assert abs(int(image.mean()) - 200) <= 2


def test_sixteen_bits_become_eight(tmp_path):
    path = tmp_path / "deep.png"
    cv2.imwrite(str(path), np.full((30, 40), 200 * 257, np.uint16))
    assert np.unique(read_picture(path)).tolist() == [200]


def test_names_that_are_not_ascii(tmp_path):
    shutil.copy(str(shared("video/single_320x240.mp4")), str(tmp_path / "Ελένη 1.mp4"))
    with open_source(str(tmp_path / "Ελένη 1.mp4"), Settings()) as source:
        assert next_of(source).image.shape == (240, 320, 3)
