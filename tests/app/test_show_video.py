"""Recording to a file: it plays, also after an interruption, and never harms an older recording early."""
import io
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import List

import cv2
import numpy as np
import pytest

from app.show.output import Event
from app.show.video import VideoOutput, fitted
from errors import KioskError
from tests import ROOT


@pytest.fixture(autouse=True)
def no_keys(monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO())


def shade(level, size=(120, 160)):
    return np.full(size + (3,), level, np.uint8)


def frames(path: Path):
    reader = cv2.VideoCapture(str(path))
    found: List[np.ndarray] = []
    while True:
        more, frame = reader.read()
        if not more:
            return found, reader.get(cv2.CAP_PROP_FPS)
        found.append(frame)


@pytest.mark.parametrize("suffix", [".mp4", ".avi", ".mkv", ".MP4"])
def test_every_picture_is_in_the_file_in_its_order(tmp_path, suffix):
    path = tmp_path / ("clip" + suffix)
    with VideoOutput(str(path), 12.5) as output:
        for level in (20, 90, 160, 230):
            output.show(shade(level))
        assert not path.exists()  # until it is whole
    shown, fps = frames(path)
    assert fps == pytest.approx(12.5, abs=0.01)
    assert [frame.mean() for frame in shown] == pytest.approx([20, 90, 160, 230], abs=3)
    assert os.listdir(str(tmp_path)) == [path.name]


def test_a_picture_of_another_size_is_fitted_in(tmp_path):
    with VideoOutput(str(tmp_path / "clip.avi")) as output:
        output.show(shade(200, (120, 160)))
        output.show(shade(200, (240, 120)))
    shown, fps = frames(tmp_path / "clip.avi")
    assert [frame.shape for frame in shown] == [(120, 160, 3)] * 2 and fps == 30
    assert shown[1][60, 80].mean() > 180 > 30 > shown[1][60, 10].mean()


def test_fitted_keeps_what_fits():
    picture = np.arange(5 * 7 * 3, dtype=np.uint8).reshape(5, 7, 3)
    assert np.array_equal(fitted(picture, 7, 5), picture)
    assert np.array_equal(fitted(picture, 7, 9)[2:7], picture)


def test_without_a_picture_there_is_no_file(tmp_path):
    with VideoOutput(str(tmp_path / "clip.mp4")):
        pass
    assert os.listdir(str(tmp_path)) == []


@pytest.mark.parametrize("name, why", [("gone/clip.mp4", "not a folder to write into"), ("folder.mp4", "is a folder")])
def test_a_name_that_cannot_be_written_is_said_at_once(tmp_path, name, why):
    (tmp_path / "folder.mp4").mkdir()
    with pytest.raises(KioskError, match=why):
        VideoOutput(str(tmp_path / name))


def test_a_file_that_does_not_play_is_said_and_the_older_one_stays(tmp_path):
    path = tmp_path / "clip.mp4"
    path.write_bytes(b"an older recording")
    output = VideoOutput(str(path))
    output.show(shade(50))
    (tmp_path / "clip.part.mp4").unlink()  # as on a disk that lost it
    with pytest.raises(KioskError, match="does not play"):
        output.close()
    output.close()
    assert path.read_bytes() == b"an older recording"


PROGRAM = """
import sys
import numpy as np
from app.show.video import VideoOutput
with VideoOutput(sys.argv[1], 10) as output:
    count = 0
    while True:
        output.show(np.full((120, 160, 3), 100, np.uint8))
        count += 1
        if count == 20:
            print("running", flush=True)
        for event in output.keys():
            print(event.value, flush=True)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_after_an_interruption_the_file_plays(tmp_path, number):
    path = tmp_path / "clip.mp4"
    program = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(path)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=str(ROOT),
    )  # fmt: skip
    assert program.stdout is not None and program.stdout.readline() == b"running\n"
    program.send_signal(number)
    program.communicate()
    assert len(frames(path)[0]) >= 20


def test_keys_come_from_the_terminal(tmp_path, monkeypatch):
    (tmp_path / "keys").write_bytes(b"q")
    with open(str(tmp_path / "keys")) as stream:
        monkeypatch.setattr(sys, "stdin", stream)
        with VideoOutput(str(tmp_path / "clip.mp4")) as output:
            assert output.draws and output.keys() == [Event("key", "q")]
