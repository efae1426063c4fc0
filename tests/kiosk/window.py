"""The kiosk in a real window: a virtual X screen of its own (Xvfb), real keys (xdotool), its pixels.

    with start(["demo", "window"], (1280, 720)) as kiosk:
        kiosk.wait_for(kiosk.has_window)
        kiosk.key("n")
        kiosk.type("Zoë")
        picture = kiosk.screenshot()

Everything that was started ends with the `with` block, also when the test failed inside it.
"""
import ctypes
import importlib.util
import mmap
import os
import shutil
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

import cv2
import numpy as np
import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
PROGRAMS = {"Xvfb": "xvfb", "xdotool": "xdotool"}  # program -> Debian package
POLL_S = 0.05
KEYS = {"enter": "Return", "escape": "Escape", "backspace": "BackSpace", "up": "Up", "down": "Down"}
TYPING_MS = 30  # between two letters
SPARE_KEYS = range(254, 230, -1)  # X key codes that no key of the keyboard has


def missing() -> Optional[str]:
    """Why no window can be tested here, or None."""
    lacking = [package for program, package in PROGRAMS.items() if shutil.which(program) is None]
    if lacking:
        return "needs {}: apt-get install {}".format(" and ".join(lacking), " ".join(lacking))
    return None if importlib.util.find_spec("pygame") else "needs pygame"


def start(args: Sequence[str], size: Tuple[int, int] = (1280, 720), env: Optional[Dict[str, str]] = None) -> "Kiosk":
    """`run_kiosk.py args` on a screen of `size` (width, height); the test is skipped where that cannot be."""
    reason = missing()
    if reason:
        pytest.skip(reason)
    return Kiosk(args, size, env or {})


class Kiosk:
    """A running kiosk and its screen. A context manager; closing twice is harmless."""

    def __init__(self, args: Sequence[str], size: Tuple[int, int], env: Dict[str, str]) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="kiosk-screen-"))
        self._letters: List[str] = []  # that got a spare key
        self._closers: List[Callable[[], None]] = [lambda: shutil.rmtree(str(self._folder), ignore_errors=True)]
        try:
            self._env = dict(os.environ, SDL_VIDEODRIVER="x11", PYTHONUNBUFFERED="1")
            self._env.update(env, DISPLAY=self._start_screen(size))
            self.process = self._start_program(args)
        except BaseException:
            self.close()
            raise

    # -- what a person does

    def key(self, name: str) -> None:
        """Press a letter, or one of KEYS."""
        self._xdotool("key", "--clearmodifiers", KEYS.get(name, name))

    def type(self, text: str) -> None:
        """Type text, in any letters."""
        for letter in text:
            if letter > "~" and letter not in self._letters:
                self._letters.append(letter)
                _give_key(self._env["DISPLAY"], SPARE_KEYS[len(self._letters) - 1], letter)
        self._xdotool("type", "--delay", str(TYPING_MS), "--", text)

    def click(self, x: int, y: int) -> None:
        self._xdotool("mousemove", str(x), str(y), "sleep", "0.1", "click", "1")

    # -- what a person sees

    def windows(self) -> List[str]:
        """The visible windows of the kiosk, by X id."""
        found = self._xdotool("search", "--onlyvisible", "--class", ".", check=False)
        return found.split()

    def has_window(self) -> bool:
        """True once there is a window; it then has the keyboard (there is no window manager to give it)."""
        windows = self.windows()
        if windows:
            self._xdotool("windowfocus", windows[-1], check=False)
        return bool(windows)

    def screenshot(self, path: Optional[Path] = None) -> np.ndarray:
        """The screen (H, W, 3) uint8 BGR; saved too where a path is given."""
        picture = read_xwd(self._folder / "Xvfb_screen0")
        if path is not None:
            cv2.imwrite(str(path), picture)
        return picture

    # -- the program

    @property
    def out(self) -> str:
        """What it printed so far."""
        return (self._folder / "out").read_bytes().decode("utf-8", "replace")

    @property
    def errors(self) -> str:
        return (self._folder / "errors").read_bytes().decode("utf-8", "replace")

    def wait_for(self, predicate: Callable[[], Any], timeout_s: float = 60.0, what: str = "") -> Any:
        """The first true value of `predicate`; fails with all that the kiosk said when it ended or time is up."""
        end = time.monotonic() + timeout_s
        while True:
            running = self.process.poll() is None
            value = predicate()
            if value:
                return value
            if not running or time.monotonic() > end:
                state = "time is up" if running else "the kiosk ended with {}".format(self.process.returncode)
                pytest.fail("{}: {}\n{}\n{}".format(what or predicate, state, self.out, self.errors))
            time.sleep(POLL_S)

    def wait(self, timeout_s: float = 60.0) -> int:
        """Wait until the kiosk has ended; its exit code."""
        self.wait_for(lambda: self.process.poll() is not None, timeout_s, "the end of the kiosk")
        return self.process.returncode

    def close(self) -> None:
        while self._closers:
            self._closers.pop()()

    def __enter__(self) -> "Kiosk":
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    # -- inside

    def _start_screen(self, size: Tuple[int, int]) -> str:
        """Start Xvfb on a free display, its framebuffer a file; the display's name."""
        read, write = os.pipe()
        screen = ["-screen", "0", "{}x{}x24".format(*size), "-fbdir", str(self._folder)]
        with (self._folder / "xvfb").open("wb") as log:
            xvfb = subprocess.Popen(
                ["Xvfb", "-displayfd", str(write), "-nolisten", "tcp", "-noreset"] + screen,
                pass_fds=[write],
                stdout=log,
                stderr=log,
            )
        self._closers.append(lambda: _end(xvfb))
        os.close(write)
        with os.fdopen(read) as pipe:
            number = pipe.readline().strip()  # written once the screen is ready
        if not number:
            pytest.fail("Xvfb did not start: {}".format((self._folder / "xvfb").read_text()))
        return ":" + number

    def _start_program(self, args: Sequence[str]) -> "subprocess.Popen[bytes]":
        with (self._folder / "out").open("wb") as out, (self._folder / "errors").open("wb") as errors:
            program = subprocess.Popen(
                [sys.executable, str(ROOT / "run_kiosk.py")] + [str(arg) for arg in args],
                env=self._env,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=errors,
            )
        self._closers.append(lambda: _end(program))
        return program

    def _xdotool(self, *args: str, check: bool = True) -> str:
        done = subprocess.run(["xdotool"] + list(args), env=self._env, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        if check and done.returncode:
            pytest.fail("xdotool {}: {}\n{}".format(" ".join(args), done.stderr.decode(), self.errors))
        return done.stdout.decode()


def _give_key(display: str, code: int, letter: str) -> None:
    """Put a letter that the keyboard lacks onto the key `code`, for as long as the screen lives.

    xdotool would do so, too, but takes the key back after some milliseconds; a busy program that
    reads the press later than that finds no letter there.
    """
    x11 = ctypes.CDLL("libX11.so.6")  # xdotool stands on it
    x11.XOpenDisplay.restype = ctypes.c_void_p
    connection = ctypes.c_void_p(x11.XOpenDisplay(display.encode()))
    keysym = ord(letter) if ord(letter) < 0x100 else 0x1000000 + ord(letter)
    x11.XChangeKeyboardMapping(connection, code, 2, (ctypes.c_ulong * 2)(keysym, keysym), 1)
    x11.XCloseDisplay(connection)


def _end(process: "subprocess.Popen[bytes]") -> None:
    """Ask, wait, insist."""
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def read_xwd(path: Path) -> np.ndarray:
    """An X window dump of 32 bits a pixel, as Xvfb keeps its framebuffer -> (H, W, 3) uint8 BGR.

    The header is big-endian (XWDFile.h): its size, version, format, depth, width, height, then five
    more, bits a pixel, bytes a line, and at last the number of 12-byte colours before the pixels.
    """
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        header = struct.unpack(">25I", data[:100])
        width, height, order, bits, line, colours = (header[at] for at in (4, 5, 7, 11, 12, 19))
        if bits != 32 or order != 0:
            raise ValueError("{}: {} bits a pixel in byte order {}, but must be 32 in 0.".format(path, bits, order))
        begin = header[0] + 12 * colours
        pixels = np.frombuffer(data[begin : begin + line * height], np.uint8)
    return pixels.reshape(height, line // 4, 4)[:, :width, :3].copy()
