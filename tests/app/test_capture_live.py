"""Live cameras and their faults, played by a camera that fails on command and a clock that is told."""
import threading
import time
from typing import Iterator, Set

import cv2
import numpy as np
import pytest

from app.capture import newest
from app.capture.newest import BACK_OFF_S, OPEN_S, NewestSource
from tests.doubles.source import Clock, FakeCamera

STALL = 3.0


@pytest.fixture(autouse=True)
def short_waits(monkeypatch):
    """Reads that find nothing return at once: here the clock is told, not waited for."""
    monkeypatch.setattr(newest, "WAIT_S", 0.001)


def picture(grey):
    """Small, plain and different for each grey level."""
    return np.full((16, 24, 3), grey, np.uint8)


def until(condition):
    """Wait for another thread to get there; it takes milliseconds, or the test has failed."""
    end = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < end, "waited for 5 s"
        time.sleep(0.001)


def next_frame(source):
    frames = []
    until(lambda: frames.append(source.read()) or frames[-1] is not None)
    return frames[-1]


BEFORE: Set[threading.Thread] = set()  # threads of other tests that may still hang


@pytest.fixture(autouse=True)
def _only_our_threads():
    BEFORE.clear()
    BEFORE.update(threading.enumerate())


def readers():
    return [one for one in threading.enumerate() if one.name.startswith("capture-") and one not in BEFORE]


@pytest.fixture()
def camera() -> Iterator[FakeCamera]:
    made = FakeCamera()
    yield made
    made.unplug()  # ends the reads that still hang
    until(lambda: not readers())


@pytest.fixture()
def clock() -> Clock:
    return Clock()


@pytest.fixture()
def source(camera, clock) -> Iterator[NewestSource]:
    made = NewestSource(camera.open, "camera rtsp://porch", STALL, clock=clock)
    yield made
    made.close()


def test_only_the_newest_picture_is_handed_out(camera, source):
    for grey in (10, 20, 30):
        camera.send(picture(grey))
    until(lambda: source.dropped == 2)
    frame = source.read()
    assert frame.image[0, 0, 0] == 30 and frame.index == 2
    assert source.read() is None and not source.finished and source.problem is None


def test_time_is_the_capture_clock_since_the_first_picture(camera, source, clock):
    camera.send(picture(1))
    assert next_frame(source).time == 0.0
    clock.advance(0.25)
    camera.send(picture(2))
    assert next_frame(source).time == 0.25


def test_a_stall_is_told_before_the_camera_is_reopened(camera, source, clock):
    camera.send(picture(1))
    next_frame(source)
    clock.advance(2.1)
    assert source.read() is None
    assert source.problem == "camera rtsp://porch: no new picture for 2.1 s."
    camera.send(picture(2))  # it was only slow
    frame = next_frame(source)
    assert source.problem is None and not frame.cut and len(camera.captures) == 1


def test_a_stalled_camera_is_reopened_and_its_late_picture_is_dropped(camera, source, clock):
    camera.send(picture(1))
    next_frame(source)
    clock.advance(STALL)
    assert source.read() is None
    assert source.problem == "camera rtsp://porch: no new picture for 3 s, reopening (attempt 1)."
    clock.advance(BACK_OFF_S[0])
    source.read()
    assert camera.wait_for_captures(2)
    camera.send(picture(99), to=0)  # the read that hung comes back
    assert camera.wait_until_closed(0)
    assert source.read() is None
    camera.send(picture(2))
    frame = next_frame(source)
    assert frame.image[0, 0, 0] == 2 and frame.index == 1 and frame.cut
    assert frame.time == STALL + BACK_OFF_S[0]
    assert source.problem is None


def test_the_same_picture_again_and_again_is_a_fault_too(camera, source, clock):
    camera.send(picture(1))
    next_frame(source)
    for _ in range(6):
        clock.advance(0.3)
        camera.send(picture(1))
        assert next_frame(source).image[0, 0, 0] == 1  # a scene may stand still for a moment
    clock.advance(0.3)
    source.read()
    assert source.problem == "camera rtsp://porch: the same picture for 2.1 s."
    camera.send(picture(1))
    until(lambda: not camera.captures[0].pictures)
    clock.advance(1.0)
    camera.send(picture(1))
    until(lambda: source.read() is None and "same picture for 3 s, reopening" in (source.problem or ""))
    clock.advance(BACK_OFF_S[0])
    source.read()
    assert camera.wait_for_captures(2)
    camera.send(picture(1))
    until(lambda: not camera.captures[1].pictures)
    assert source.read() is None and source.problem, "a frozen picture is not live, also after reopening"
    camera.send(picture(2))
    assert next_frame(source).cut and source.problem is None


def test_an_unplugged_camera_is_tried_at_growing_intervals_and_comes_back(camera, source, clock):
    camera.send(picture(1))
    next_frame(source)
    camera.unplug()
    until(lambda: source.read() is None and source.problem is not None)
    assert source.problem == "camera rtsp://porch: the connection was lost, reopening (attempt 1)."
    attempts = []
    camera.opening = lambda: attempts.append(clock.now)
    due = clock.now
    for number, pause in enumerate(BACK_OFF_S + (BACK_OFF_S[-1],), start=1):
        clock.advance(pause - 0.01)
        source.read()
        assert len(attempts) == number - 1, "too early"
        clock.advance(0.01)
        due += pause
        until(lambda count=number: source.read() is None and len(attempts) == count)
        until(lambda: not readers())
        source.read()  # takes note of the refusal
    assert attempts[-1] == pytest.approx(due)
    assert source.problem == "camera rtsp://porch: it cannot be opened, reopening (attempt 4)."
    camera.plug()
    clock.advance(BACK_OFF_S[-1])
    source.read()
    assert camera.wait_for_captures(2)
    camera.send(picture(2))
    assert next_frame(source).cut and source.problem is None


def test_a_camera_that_is_down_at_the_start_is_waited_for(camera, clock):
    camera.unplug()
    with NewestSource(camera.open, "camera rtsp://porch", STALL, clock=clock) as source:
        until(lambda: source.read() is None and source.problem is not None)
        assert source.problem == "camera rtsp://porch: it cannot be opened, reopening (attempt 1)."
        assert not source.finished
        camera.plug()
        clock.advance(BACK_OFF_S[0])
        source.read()
        camera.send(picture(5))
        assert next_frame(source).index == 0 and source.problem is None


def test_never_more_than_one_reader_that_was_given_up(camera, source, clock):
    for number in (1, 2):
        camera.send(picture(number))
        next_frame(source)
        clock.advance(STALL)
        source.read()
        clock.advance(BACK_OFF_S[0])
        source.read()
        camera.wait_for_captures(number + 1 if number == 1 else 2)
    assert len(camera.captures) == 2 and len(readers()) == 2
    assert source.problem == (
        "camera rtsp://porch: no new picture for 3 s, and its driver does not answer; waiting for it."
    )
    clock.advance(60)
    source.read()
    assert len(camera.captures) == 2 and len(readers()) == 2
    camera.send(picture(0), to=0)  # the first one ends: now the second can be given up
    camera.wait_until_closed(0)
    until(lambda: len(readers()) == 1)
    source.read()
    clock.advance(BACK_OFF_S[-1])
    source.read()
    assert camera.wait_for_captures(3)
    camera.send(picture(3))
    assert next_frame(source).image[0, 0, 0] == 3 and source.problem is None


def test_an_open_that_hangs_has_more_time_than_a_read_and_is_then_given_up(camera, clock):
    gate = threading.Event()
    camera.opening = gate.wait
    with NewestSource(camera.open, "camera 0", STALL, clock=clock) as source:
        clock.advance(STALL)
        source.read()
        assert source.problem == "camera 0: no picture for 3.0 s."
        clock.advance(OPEN_S)
        source.read()
        assert source.problem == "camera 0: no picture for 3 s, reopening (attempt 1)."
        gate.set()


def test_close_does_not_wait_for_a_read_that_hangs(camera, source):
    camera.send(picture(1))
    next_frame(source)
    closer = threading.Thread(target=source.close)
    closer.start()
    closer.join(5)
    assert not closer.is_alive() and len(readers()) == 1
    assert source.finished and source.read() is None


def test_close_releases_a_camera_that_answers(camera, source):
    camera.send(picture(1))
    next_frame(source)
    camera.unplug()
    source.close()
    assert camera.wait_until_closed(0)


def test_a_driver_that_raises_anything_is_a_fault_like_others(camera, clock):
    def broken():
        raise cv2.error("no such format\nin function open")

    camera.opening = broken
    with NewestSource(camera.open, "camera 0", STALL, clock=clock) as source:
        until(lambda: source.read() is None and source.problem is not None)
        assert source.problem == "camera 0: it cannot be opened (no such format), reopening (attempt 1)."


def test_many_reopenings_leave_no_thread_and_no_open_capture(camera, source, clock):
    for cycle in range(1, 60):
        camera.send(picture(cycle))
        next_frame(source)
        camera.unplug()
        until(lambda: source.read() is None and source.problem is not None)
        camera.plug()
        clock.advance(BACK_OFF_S[-1])
        source.read()
        assert camera.wait_for_captures(cycle + 1)
    assert len(readers()) == 1
    assert [capture.closed for capture in camera.captures] == [True] * 59 + [False]


def test_pictures_are_turned_and_mirrored_at_the_edge(camera, clock):
    image = np.zeros((16, 24, 3), np.uint8)
    image[:8, :12] = 255  # top left: top right after a quarter turn clockwise, top left again mirrored
    with NewestSource(camera.open, "camera 0", STALL, rotate=90, mirror=True, clock=clock) as source:
        camera.send(image)
        upright = next_frame(source).image
    assert upright.shape == (24, 16, 3)
    assert upright[0, 0, 0] == 255 and upright[:12, :8].all() and upright.sum() == image.sum()
