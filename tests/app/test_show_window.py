"""The window: on SDL's driver without a screen, and on a real X server with real keys where there is one."""
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from typing import List

import cv2
import numpy as np
import pytest

from app.show.letterbox import letterbox
from app.show.output import Event
from app.show.window import WindowOutput
from tests import ROOT

pygame = pytest.importorskip("pygame")

WAIT_S = 20


@pytest.fixture
def window(monkeypatch):
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    with WindowOutput(320, 240) as output:
        output.keys()
        yield output


def press(key, letter="", scancode=0, mod=0):
    pygame.event.post(pygame.event.Event(pygame.KEYDOWN, key=key, unicode=letter, scancode=scancode, mod=mod))


def write(text):
    pygame.event.post(pygame.event.Event(pygame.TEXTINPUT, text=text))


@pytest.mark.parametrize(
    "picture, room, place",
    [
        ((320, 240), (320, 240), (0, 0, 320, 240)),
        ((320, 240), (640, 240), (160, 0, 320, 240)),
        ((1280, 720), (1280, 1000), (0, 140, 1280, 720)),
        ((1280, 720), (640, 640), (0, 140, 640, 360)),
        ((1, 4000), (100, 100), (49, 0, 1, 100)),
    ],
)
def test_the_picture_keeps_its_shape(picture, room, place):
    assert letterbox(*picture + room) == place


def test_the_window_shows_the_picture_in_its_colours(window):
    picture = np.zeros((240, 320, 3), np.uint8)
    picture[:, :160] = (255, 40, 3)  # blue, green, red
    window.show(picture)
    surface = pygame.display.get_surface()
    assert surface.get_size() == (320, 240)
    assert surface.get_at((10, 10))[:3] == (3, 40, 255) and surface.get_at((310, 10))[:3] == (0, 0, 0)


def test_a_smaller_picture_is_fitted_with_black_beside_it(window):
    window.show(np.full((240, 320, 3), 200, np.uint8))
    window.show(np.full((240, 160, 3), 100, np.uint8))
    surface = pygame.display.get_surface()
    assert [surface.get_at((x, 120))[0] for x in (10, 160, 310)] == [0, 100, 0]


def test_keys_come_one_at_a_time(window):
    for key in (pygame.K_n, pygame.K_ESCAPE, pygame.K_RETURN, pygame.K_UP, pygame.K_F1, pygame.K_q):
        press(key)
    seen = [window.keys() for _ in range(6)]
    assert seen == [[Event("key", name)] for name in ("n", "escape", "enter", "up", "q")] + [[]]


def test_a_key_is_known_by_its_place_where_the_layout_has_no_latin_letters(window):
    press(0x442, "т", scancode=17)  # Cyrillic te, on the key of n
    press(pygame.K_n, "n", scancode=17, mod=pygame.KMOD_LCTRL)  # a short cut is no key of ours
    assert window.keys() == [Event("key", "n")] and window.keys() == []


def test_letters_are_text_only_while_typing(window):
    press(pygame.K_a, "a")
    write("a")
    assert window.keys() == [Event("key", "a")] and window.keys() == []
    window.text_input(True)
    for letter in "Zoë":
        press(ord(letter.lower()), letter)
        write(letter)
    press(pygame.K_BACKSPACE)
    press(pygame.K_BACKSPACE)
    write("名")
    press(pygame.K_RETURN)
    press(pygame.K_q, "q")
    typed = window.keys()
    assert "".join(event.value for event in typed) == "Zoëbackspacebackspace名enter"
    window.text_input(False)
    assert window.keys() == [Event("key", "q")]


def test_letters_that_came_with_n_are_not_lost(window):
    press(pygame.K_n, "n")
    press(pygame.K_z, "Z")
    press(pygame.K_o, "o")
    assert window.keys() == [Event("key", "n")]
    window.text_input(True)
    assert window.keys() == [Event("text", "Z"), Event("text", "o")]


def test_a_click_is_in_pixels_of_the_picture(window):
    window.show(np.zeros((240, 320, 3), np.uint8))
    window.show(np.zeros((480, 320, 3), np.uint8))  # shown as 160 x 240, from x = 80
    for point in [(80, 0), (160, 120), (20, 120)]:
        pygame.event.post(pygame.event.Event(pygame.MOUSEBUTTONDOWN, button=1, pos=point))
    assert window.keys() == [Event("click", "", (0, 0)), Event("click", "", (160, 240))]


def test_closing_the_window_is_an_event(window):
    pygame.event.post(pygame.event.Event(pygame.QUIT))
    assert window.keys() == [Event("close")]
    window.close()
    window.show(np.zeros((240, 320, 3), np.uint8))
    assert window.keys() == []


PROGRAM = """
import json, sys, time
import numpy as np
from app.show.window import WindowOutput
picture = np.zeros((200, 400, 3), np.uint8)
picture[:, :200] = (255, 0, 0)
with WindowOutput(400, 200) as output:
    typing = False
    while True:
        output.show(picture)
        for event in output.keys():
            print(json.dumps(event), flush=True)
            if event.value == "n" and not typing or event.value == "enter":
                typing = not typing
                output.text_input(typing)
            if event.value == "f" and not typing:
                output.toggle_fullscreen()
            if event.value == "q" and not typing or event.kind == "close":
                sys.exit(0)
        print(json.dumps(["size"] + list(__import__("pygame").display.get_surface().get_size())), flush=True)
        time.sleep(0.03)  # as long as a kiosk looks at a frame
"""


class OnScreen:
    """PROGRAM in a window on an X server of its own."""

    def __init__(self) -> None:
        needed = {"Xvfb": "xvfb", "xdotool": "xdotool", "setxkbmap": "x11-xkb-utils"}
        lacking = [package for program, package in needed.items() if shutil.which(program) is None]
        if lacking:
            pytest.skip("needs {}: apt-get install {}".format(", ".join(lacking), " ".join(lacking)))
        reading, writing = os.pipe()
        self.server = subprocess.Popen(
            ["Xvfb", "-displayfd", str(writing), "-screen", "0", "800x600x24", "-nolisten", "tcp"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, pass_fds=(writing,),
        )  # fmt: skip
        os.close(writing)
        with os.fdopen(reading) as number:
            self.display = ":" + number.readline().strip()
        self.env = dict(os.environ, DISPLAY=self.display, SDL_VIDEODRIVER="x11", PYTHONIOENCODING="utf-8")
        self.process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM], stdout=subprocess.PIPE, cwd=str(ROOT), env=self.env
        )
        self.events: List[List[str]] = []
        self.size: List[int] = []
        self.read_until(lambda: self.size == [400, 200])

    def do(self, *command):
        subprocess.check_call(command, env=self.env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def read_until(self, done):
        end = time.monotonic() + WAIT_S
        while not done():
            line = self.process.stdout.readline()
            assert line and time.monotonic() < end, self.events
            message = json.loads(line.decode())
            if message[0] == "size":
                self.size = message[1:]
            else:
                self.events.append(message[:2])

    def text(self):
        return "".join(value for kind, value in self.events if kind == "text")

    def __enter__(self) -> "OnScreen":
        return self

    def __exit__(self, *exc: object) -> None:
        for process in (self.process, self.server):
            if process.poll() is None:
                process.kill()
        self.server.wait()
        self.process.communicate()


def test_typed_names_arrive_exact_on_a_real_screen():
    with OnScreen() as screen:
        screen.do("xdotool", "key", "n")
        screen.read_until(lambda: ["key", "n"] in screen.events)
        screen.do("setxkbmap", "al")  # the Albanian keyboard has ë, the Swedish one å and ö
        screen.do("xdotool", "key", "Z", "o", "ediaeresis", "space")
        screen.read_until(lambda: screen.text() == "Zoë ")
        screen.do("setxkbmap", "se")
        screen.do("xdotool", "key", "shift+aring", "n", "g", "s", "t", "r", "odiaeresis", "m")
        screen.read_until(lambda: len(screen.text()) == len("Zoë Ångström"))
        screen.do("xdotool", "key", "Return")
        screen.read_until(lambda: ["key", "enter"] in screen.events)
        assert screen.text() == "Zoë Ångström"
        screen.do("xdotool", "key", "q")
        assert screen.process.wait(WAIT_S) == 0


def test_letters_of_no_key_arrive_too():
    """xdotool lends a spare key to each for half of the delay."""
    with OnScreen() as screen:
        screen.do("xdotool", "key", "n")
        screen.read_until(lambda: ["key", "n"] in screen.events)
        screen.do("xdotool", "type", "--delay", "200", "ольга")
        screen.do("xdotool", "key", "Return")
        screen.read_until(lambda: ["key", "enter"] in screen.events)
        assert screen.text() == "ольга"


def test_clicks_and_full_screen_on_a_real_screen():
    with OnScreen() as screen:
        screen.do("xdotool", "key", "f")
        screen.read_until(lambda: screen.size == [800, 600])
        screen.do("xdotool", "mousemove", "400", "300", "click", "1")
        screen.read_until(lambda: any(kind == "click" for kind, _ in screen.events))
        screen.do("xdotool", "key", "f")
        screen.read_until(lambda: screen.size == [400, 200])


def test_sigterm_closes_the_window():
    with OnScreen() as screen:
        screen.process.send_signal(signal.SIGTERM)
        screen.read_until(lambda: ["close", ""] in screen.events)
        assert screen.process.wait(WAIT_S) == 0


def test_what_is_on_the_screen_is_the_picture(tmp_path):
    if shutil.which("import") is None:
        pytest.skip("needs imagemagick: apt-get install imagemagick")
    with OnScreen() as screen:
        screen.do("xdotool", "key", "f")
        screen.read_until(lambda: screen.size == [800, 600])
        screen.do("xdotool", "key", "z")
        screen.read_until(lambda: ["key", "z"] in screen.events)  # so a frame was shown at that size
        screen.do("import", "-window", "root", str(tmp_path / "screen.png"))
        points = [(300, 100), (300, 700), (50, 100)]
        shot = cv2.imread(str(tmp_path / "screen.png"))
        assert shot.shape == (600, 800, 3)
        assert [shot[y, x].tolist() for y, x in points] == [[255, 0, 0], [0, 0, 0], [0, 0, 0]]
