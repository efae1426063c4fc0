"""Keys from a terminal: how bytes become events, and that the terminal is sane after every end."""
import codecs
import itertools
import os
import pty
import select
import signal
import subprocess
import sys
import termios
import time
from typing import List

import pytest

from app.show.headless import HeadlessOutput
from app.show.keyboard import KeyDecoder
from app.show.output import Event
from app.show.terminal import Terminal
from tests import ROOT

WAIT_S = 20  # at most, for a process that answers at once


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def keys(*names: str) -> List[Event]:
    return [Event("key", name) for name in names]


def decoded(data: bytes, typing: bool = False) -> List[Event]:
    """All events of `data`, call after call."""
    decoder = KeyDecoder(Clock())
    decoder.feed(data)
    decoder.end()
    events: List[Event] = []
    while True:
        more = decoder.events(typing)
        if not more:
            return events
        events += more


@pytest.mark.parametrize(
    "data, events",
    [
        (b"", []),
        (b"n", keys("n")),
        (b"N", keys("n")),
        (b"nqs", keys("n", "q", "s")),
        (b"\r\n\x7f\x08", keys("enter", "enter", "backspace", "backspace")),
        (b"\x1b[A\x1b[B", keys("up", "down")),
        (b"\x1bOA", keys("up")),  # application mode
        (b"\x1b[C\x1b[1;5D\x1b[3~q", keys("q")),  # right, ctrl-left, delete: nothing here
        (b"\x1b", keys("escape")),
        (b"\x1bq", keys("escape", "q")),
        (b"\x01\x04\x00q", keys("q")),
        ("ё".encode(), keys("ё")),
        (b"\xff\xfeq", keys("q")),  # not UTF-8
    ],
)
def test_bytes_to_keys(data, events):
    assert decoded(data) == events


@pytest.mark.parametrize(
    "data, events",
    [
        ("Zoë Ångström".encode(), [Event("text", "Zoë Ångström")]),
        ("Ольга\r".encode(), [Event("text", "Ольга"), Event("key", "enter")]),
        (b"ab\x7fc", [Event("text", "ab"), Event("key", "backspace"), Event("text", "c")]),
        (b"a\tb\x1b[Ac", [Event("text", "ab"), Event("key", "up"), Event("text", "c")]),
    ],
)
def test_bytes_to_text(data, events):
    assert decoded(data, typing=True) == events


def test_a_letter_may_arrive_in_two_reads():
    decoder = KeyDecoder(Clock())
    first, second = "ë".encode()[:1], "ë".encode()[1:]
    decoder.feed(first)
    assert decoder.events(True) == []
    decoder.feed(second)
    assert decoder.events(True) == [Event("text", "ë")]


def test_escape_alone_is_the_key_only_after_a_while():
    clock = Clock()
    decoder = KeyDecoder(clock)
    decoder.feed(b"\x1b")
    assert decoder.events(False) == []
    decoder.feed(b"[")
    assert decoder.events(False) == []
    decoder.feed(b"A")
    assert decoder.events(False) == keys("up")
    decoder.feed(b"\x1b")
    clock.now += 0.2
    assert decoder.events(False) == keys("escape")


def test_a_key_that_may_start_the_typing_is_handed_out_alone():
    decoder = KeyDecoder(Clock())
    decoder.feed("nZoë\rq".encode())
    assert decoder.events(False) == keys("n")
    assert decoder.events(True) == [Event("text", "Zoë"), Event("key", "enter")]
    assert decoder.events(False) == keys("q")
    assert decoder.events(False) == []


@pytest.mark.parametrize("kind", ["pipe", "file", "/dev/null", "closed"])
def test_without_a_terminal_a_pipe_is_read_and_its_end_is_no_close(kind, tmp_path, monkeypatch):
    expected = keys("n", "q") if kind in ("pipe", "file") else []
    path = tmp_path / "keys" if kind == "file" else os.devnull
    if kind == "file":
        path.write_bytes(b"nq")
    reading = os.open(str(path), os.O_RDONLY)
    if kind == "pipe":
        os.close(reading)
        reading, writing = os.pipe()
        os.write(writing, b"nq")
        os.close(writing)
    with os.fdopen(reading) as stream:
        if kind == "closed":
            stream.close()
        monkeypatch.setattr(sys, "stdin", stream)
        with HeadlessOutput() as output:
            events = [output.keys() for _ in range(5)]
        assert list(itertools.chain(*events)) == expected


def test_lines_are_told_once_and_survive_a_terminal_without_the_letters(monkeypatch, capsys):
    class Narrow:
        encoding = "ascii"
        text = ""

        def write(self, text: str) -> None:
            text.encode("ascii")
            self.text += text

        def flush(self) -> None:
            pass

    screen = Narrow()
    monkeypatch.setattr(sys, "stderr", screen)
    terminal = Terminal()
    for line in ("Zoë", "Zoë", "too dark", "Zoë"):
        terminal.say(line)
    assert screen.text == "Zo?\ntoo dark\nZo?\n"
    terminal.close()


PROGRAM = """
import sys
from app.show.headless import HeadlessOutput
with HeadlessOutput() as output:
    output.say("ready")
    typing = False
    while True:
        for event in output.keys():
            output.say("%s=%s" % (event.kind, ascii(event.value)))
            if event.value == "n":
                typing = not typing
                output.text_input(typing)
            if event.value == "enter":
                output.text_input(False)
            if event.value == "x":
                raise ZeroDivisionError
            if event.value == "d":
                import os, signal
                os.kill(os.getpid(), signal.SIGSEGV)
            if event.value == "q" or event.kind == "close":
                sys.exit(0)
"""


# As much of a shell as job control takes: it starts its job in the foreground (or, on request, in the
# background until SIGUSR1), says when it stopped and whether the terminal echoes then, and goes on.
SHELL = """
import os, signal, sys, termios
signal.signal(signal.SIGTTOU, signal.SIG_IGN)
def foreground(group):
    os.tcsetpgrp(0, group)
    os.write(1, b"state=foreground ")
job = os.fork()
if job == 0:
    os.setpgid(0, 0)
    signal.signal(signal.SIGTTOU, signal.SIG_DFL)
    os.execv(sys.executable, [sys.executable, "-c", sys.argv[1]])
try:
    os.setpgid(job, job)
except PermissionError:
    pass  # the job was faster
signal.signal(signal.SIGUSR1, lambda *_: foreground(job))
if sys.argv[2] == "background":
    os.write(1, b"state=background ")
else:
    foreground(job)
while True:
    _, status = os.waitpid(job, os.WUNTRACED)
    if not os.WIFSTOPPED(status):
        os.tcsetpgrp(0, os.getpgrp())
        os._exit(os.WEXITSTATUS(status) if os.WIFEXITED(status) else 99)
    os.write(1, b"stopped echo=%s " % str(bool(termios.tcgetattr(0)[3] & termios.ECHO)).encode())
    foreground(job)
    os.killpg(job, signal.SIGCONT)
"""
TAKE_TERMINAL = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.executable, [sys.executable, "-c"] + sys.argv[1:])
"""


class OnTerminal:
    """PROGRAM on a pseudo-terminal, which is its controlling terminal; by itself, or as the job of SHELL."""

    def __init__(self, shell: str = "", where: str = "foreground") -> None:
        self.master, self._slave = pty.openpty()
        self.before = termios.tcgetattr(self._slave)
        self.output = ""
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self.process = subprocess.Popen(
            [sys.executable, "-c", TAKE_TERMINAL] + ([shell, PROGRAM, where] if shell else [PROGRAM]),
            stdin=self._slave, stdout=self._slave, stderr=self._slave, start_new_session=True, cwd=str(ROOT),
            env=dict(os.environ, PYTHONIOENCODING="utf-8"),
        )  # fmt: skip
        self.wait_for("ready")

    def type(self, data: bytes) -> None:
        os.write(self.master, data)

    def wait_for(self, text: str) -> None:
        end = time.monotonic() + WAIT_S
        while text not in self.output:
            assert time.monotonic() < end, "waited for {!r}, got {!r}".format(text, self.output)
            if select.select([self.master], [], [], 0.1)[0]:
                self.output += self._decoder.decode(os.read(self.master, 4096))

    @property
    def changed(self) -> bool:
        return not self._attributes()[3] & termios.ECHO

    def _attributes(self):
        return termios.tcgetattr(self._slave)

    def sane(self) -> bool:
        """As it was before; a crash is cleaned up by another process, so wait for that."""
        end = time.monotonic() + WAIT_S
        while self._attributes()[3] != self.before[3] and time.monotonic() < end:
            time.sleep(0.01)
        return self._attributes() == self.before

    def __enter__(self) -> "OnTerminal":
        return self

    def __exit__(self, *exc: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self.master)
        os.close(self._slave)


def test_keys_and_names_on_a_terminal():
    with OnTerminal() as program:
        assert program.changed
        program.type(b"sn")
        program.wait_for("key='n'")
        program.type("Zoë\x7f\x7fë".encode())
        program.wait_for("text='\\xeb'")
        assert "Z" in program.output  # what is typed is seen
        program.type(b"\rq")
        assert program.process.wait(WAIT_S) == 0
        assert program.sane()


@pytest.mark.parametrize(
    "how", ["q", "x", "d", signal.SIGINT, signal.SIGTERM, signal.SIGQUIT, signal.SIGHUP, signal.SIGKILL, signal.SIGABRT]
)
def test_the_terminal_is_sane_after_every_end(how):
    with OnTerminal() as program:
        assert program.changed
        if isinstance(how, str):
            program.type(how.encode())
        else:
            program.process.send_signal(how)
        program.process.wait(WAIT_S)
        assert program.sane()


def test_sigterm_ends_as_a_shell_expects():
    with OnTerminal() as program:
        program.process.send_signal(signal.SIGTERM)
        assert program.process.wait(WAIT_S) == 128 + signal.SIGTERM


def test_ctrl_z_gives_the_terminal_back_and_going_on_takes_it_again():
    with OnTerminal(SHELL) as program:
        program.wait_for("state=foreground")
        program.type(b"s")
        program.wait_for("key='s'")
        program.type(b"\x1a")  # Ctrl-Z
        program.wait_for("stopped echo=True")
        program.type(b"f")
        program.wait_for("key='f'")
        assert program.changed
        program.type(b"q")
        assert program.process.wait(WAIT_S) == 0
        assert program.sane()


def test_in_the_background_the_terminal_is_left_alone():
    with OnTerminal(SHELL, "background") as program:
        program.wait_for("state=background")
        assert not program.changed
        program.process.send_signal(signal.SIGUSR1)  # to the foreground
        program.wait_for("state=foreground")
        program.type(b"q")
        assert program.process.wait(WAIT_S) == 0
        assert program.sane()


def test_a_terminal_that_goes_away_is_a_close():
    with OnTerminal() as program:
        program.process.send_signal(signal.SIGHUP)
        assert program.process.wait(WAIT_S) == 0
