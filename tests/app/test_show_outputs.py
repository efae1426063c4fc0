"""What every output keeps, whatever it shows on: the contract of app.show.output."""
import importlib.util
import io
import sys
from pathlib import Path

import numpy as np
import pytest

from app.show import open_output
from app.show.output import Event, Output
from errors import KioskError, UsageError
from settings import Settings
from tests.doubles.jetson_utils import JetsonUtils
from tests.doubles.output import RecordingOutput

PICTURE = np.full((90, 160, 3), 120, np.uint8)


JETSON = ["display://0", "rtsp://@:8554/kiosk"]


@pytest.fixture(params=["window", "headless", "clip.mp4", "clip.avi", "clip.mkv", "recording"] + JETSON)
def output(request, tmp_path, monkeypatch):
    """Each implementation; the window on SDL's driver without a screen, jetson-utils by its double."""
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    if request.param == "recording":
        return RecordingOutput()
    if request.param == "window":
        if importlib.util.find_spec("pygame") is None:
            pytest.skip("needs pygame")
        monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    if request.param in JETSON:
        JetsonUtils().install(monkeypatch)
        return open_output(request.param, Settings())
    name = request.param if "." not in request.param else str(tmp_path / request.param)
    return open_output(name, Settings(), 25)


def test_shows_pictures_of_any_size_and_keeps_none(output: Output):
    with output:
        for size in [(90, 160), (90, 160), (45, 81), (200, 100)]:
            picture = np.full(size + (3,), 77, np.uint8)
            output.show(picture)
            assert np.all(picture == 77)


def test_keys_never_block_and_are_none_when_nobody_pressed_any(output: Output):
    with output:
        output.show(PICTURE)
        events = output.keys()
        assert [event for event in events if event.kind == "key"] == []


def test_text_input_lines_and_full_screen_may_be_asked_for_at_any_time(output: Output, capsys):
    with output:
        output.text_input(True)
        output.text_input(True)
        output.say("one line")
        output.say("one line")
        output.show(PICTURE)
        output.toggle_fullscreen()
        output.show(PICTURE)
        output.toggle_fullscreen()
        output.text_input(False)
        assert isinstance(output.keys(), list)
    told = capsys.readouterr()
    assert told.err.count("one line") <= 1 and told.out == ""


def test_closing_twice_is_harmless(output: Output):
    output.show(PICTURE)
    output.close()
    output.close()
    with pytest.raises(ZeroDivisionError), output:
        raise ZeroDivisionError


def test_draws_says_whether_pictures_are_seen():
    with open_output("headless", Settings()) as headless:
        assert not headless.draws


@pytest.mark.parametrize("name", ["screen", "clip", "clip.gif", ""])
def test_an_unknown_name_says_what_would_be_right(name):
    with pytest.raises(UsageError, match=r"must be window, headless, or .*\.mp4, \.avi or \.mkv"):
        open_output(name, Settings())


def test_no_pygame_is_one_sentence(monkeypatch):
    monkeypatch.setitem(sys.modules, "pygame", None)
    with pytest.raises(KioskError, match="pip install pygame"):
        open_output("window", Settings())


def test_no_screen_is_one_sentence(monkeypatch, tmp_path: Path):
    pytest.importorskip("pygame")
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SDL_VIDEODRIVER", "x11")
    with pytest.raises(KioskError, match=r"cannot be opened here .*headless.*DISPLAY is not set"):
        open_output("window", Settings())


def test_the_recording_output_plays_its_script():
    with RecordingOutput({1: [Event("key", "n")], 2: [Event("text", "Zoë"), Event("key", "enter")]}, keep=1) as output:
        assert output.keys() == []
        output.show(PICTURE)
        assert output.keys() == [Event("key", "n")]
        output.show(PICTURE)
        output.show(PICTURE + 1)
        assert output.keys() == [Event("text", "Zoë"), Event("key", "enter")]
        assert output.keys() == []
    assert output.shown == 3 and output.closed
    assert len(output.pictures) == 1 and np.all(output.pictures[0] == 121)
