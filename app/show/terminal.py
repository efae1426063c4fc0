"""Keys from the terminal while the program runs, and lines to it, for every output without a window.

The terminal is put into a mode in which each key arrives at once and unechoed, and back again on
every way out: close, an exception, the end of the process, SIGTERM, SIGQUIT, a stop by Ctrl-Z, and,
through a waiting `stty` (see `Guard`), a crash that leaves Python no time. In the background or
without a terminal there are no keys, and that is no error; a pipe or a file is read like a keyboard.
"""
import atexit
import errno
import os
import select
import signal
import subprocess
import sys
import threading
import time
from typing import Any, Callable, Dict, List, Optional

from app.show.keyboard import KeyDecoder
from app.show.output import Event

try:
    import termios
except ImportError:  # not a POSIX system: keys come only from a pipe
    termios = None  # type: ignore[assignment]

ENDING = ("SIGTERM", "SIGQUIT")  # end the process, after the terminal is sane again
CHUNK = 4096  # bytes read at once


class Terminal:
    """Standard input as keys, standard error for lines (standard output may be carrying the events).
    Closing twice is harmless."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._decoder = KeyDecoder(clock)
        self._input: Optional[int] = _descriptor(sys.stdin)
        self._is_tty = self._input is not None and termios is not None and os.isatty(self._input)
        self._sane: Optional[List[Any]] = None  # the terminal's own attributes, while they are changed
        self._guard: Optional[Guard] = None
        self._hung_up = False
        self._typing = False
        self._echoed = ""
        self._said: Optional[str] = None
        self._handlers: Dict[int, Any] = {}
        if self._is_tty:
            self._enter()
            atexit.register(self.close)
        self._catch_signals()

    def keys(self) -> List[Event]:
        """What was typed since the last call; see app.show.keyboard for how bytes become events."""
        if self._readable():
            self._decoder.feed(self._read())
        events = self._decoder.events(self._typing)
        for event in events:
            self._echo(event)
        if self._hung_up:
            self._hung_up = False
            events.append(Event("close"))
        return events

    def text_input(self, on: bool) -> None:
        """While on, letters are text and are echoed, so that one sees what one types."""
        if self._typing and not on and self._echoed:
            self._write("\n")
        self._typing = on
        self._echoed = ""

    def say(self, line: str) -> None:
        """Print `line` unless it was the last one, above a name that is just being typed."""
        if line == self._said:
            return
        self._said = line
        if self._echoed:
            self._write("\r\x1b[K{}\n{}".format(line, self._echoed))
        else:
            self._write(line + "\n")

    def close(self) -> None:
        """Give the terminal back as it was found."""
        if self._echoed:
            self._write("\n")
            self._echoed = ""
        self._leave()
        if self._guard is not None:
            self._guard.close()
            self._guard = None
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers = {}
        self._input = None
        self._is_tty = False
        atexit.unregister(self.close)

    def _readable(self) -> bool:
        if self._input is None:
            return False
        if self._is_tty:
            if not self._foreground():
                return False  # reading now would stop the process
            if self._sane is None:
                self._enter()  # brought to the foreground since
        try:
            return bool(select.select([self._input], [], [], 0)[0])
        except (OSError, ValueError):
            return self._end()

    def _read(self) -> bytes:
        assert self._input is not None
        try:
            data = os.read(self._input, CHUNK)
        except OSError:  # EIO: the terminal went away
            data = b""
        if not data:
            self._end()
        return data

    def _end(self) -> bool:
        """No more input. From a pipe that is nothing; a terminal that ends is one that went away."""
        if self._is_tty and signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # ignored: started with nohup
            self._hung_up = True
        self._decoder.end()
        self._input = None
        self._is_tty = False
        return False

    def _echo(self, event: Event) -> None:
        if not self._typing or not self._is_tty:
            return
        if event.kind == "text":
            self._echoed += event.value
            self._write(event.value)
        elif event.value == "backspace" and self._echoed:
            self._echoed = self._echoed[:-1]
            self._write("\r\x1b[K" + self._echoed)
        elif event.value in ("enter", "escape") and self._echoed:
            self._echoed = ""
            self._write("\n")

    @staticmethod
    def _write(text: str) -> None:
        """In whatever encoding there is; a reader that went away is no error."""
        encoding = getattr(sys.stderr, "encoding", None) or "utf-8"
        try:
            sys.stderr.write(text.encode(encoding, "replace").decode(encoding))
            sys.stderr.flush()
        except (AttributeError, OSError, ValueError):
            pass

    def _foreground(self) -> bool:
        try:
            return self._input is not None and os.tcgetpgrp(self._input) == os.getpgrp()
        except OSError as error:
            return error.errno == errno.ENOTTY or self._end()  # not our controlling terminal: nobody else's job either

    def _enter(self) -> None:
        """Each key at once, no echo; Ctrl-C and Ctrl-Z go on working."""
        if self._input is None or self._sane is not None or not self._foreground():
            return
        try:
            self._sane = termios.tcgetattr(self._input)
            if self._guard is None:
                self._guard = Guard(self._input)
            self._guard.watch(True)
            mode = termios.tcgetattr(self._input)
            mode[3] &= ~(termios.ICANON | termios.ECHO)
            mode[6][termios.VMIN], mode[6][termios.VTIME] = 1, 0
            termios.tcsetattr(self._input, termios.TCSANOW, mode)
        except termios.error:
            self._sane = None

    def _leave(self) -> None:
        if self._sane is None or self._input is None:
            return
        sane, self._sane = self._sane, None
        try:
            if self._foreground():  # else it is the shell's, which set it up for itself
                termios.tcsetattr(self._input, termios.TCSANOW, sane)  # draining would wait for a Ctrl-S
        except termios.error:
            pass  # it went away
        if self._guard is not None:
            self._guard.watch(False)

    def _catch_signals(self) -> None:
        if threading.current_thread() is not threading.main_thread():
            return
        wanted: Dict[str, Callable[[int, Any], None]] = dict.fromkeys(ENDING, self._on_ending)
        wanted.update(SIGTSTP=self._on_stop, SIGHUP=self._on_hang_up)
        for name, handler in wanted.items():
            number = getattr(signal, name)
            if signal.getsignal(number) == signal.SIG_DFL:  # a handler of somebody else's has its own plans
                self._handlers[number] = signal.signal(number, handler)

    def _on_ending(self, number: int, frame: Any) -> None:
        self._leave()
        raise SystemExit(128 + number)  # as a shell reports it; on its way all devices are closed

    def _on_hang_up(self, number: int, frame: Any) -> None:
        self._hung_up = True

    def _on_stop(self, number: int, frame: Any) -> None:
        """Ctrl-Z: give the terminal back, stop; `keys` takes it again once in the foreground."""
        self._leave()
        signal.signal(number, signal.SIG_DFL)
        signal.pthread_kill(threading.get_ident(), number)
        signal.signal(number, self._on_stop)  # runs after SIGCONT


class Guard:
    """A shell that waits for this process to die and then makes the terminal sane again.

    Without it a crash in native code (or a SIGKILL) would leave a terminal that shows nothing of
    what one types. It lives in a session of its own, so that no Ctrl-C or Ctrl-Z reaches it. Where
    there is no `stty` there is no guard.
    """

    SCRIPT = 'while read -r now <&3; do state=$now; done; [ "$state" = 1 ] && stty "$0"'

    def __init__(self, descriptor: int) -> None:
        self._pipe: Optional[int] = None
        reading, writing = os.pipe()
        try:
            sane = subprocess.check_output(["stty", "-g"], stdin=descriptor, stderr=subprocess.DEVNULL)
            script = self.SCRIPT.replace("&3", "&{}".format(reading))
            self._child = subprocess.Popen(
                ["sh", "-c", script, sane.decode().strip()],
                stdin=descriptor,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=(reading,),
                start_new_session=True,
            )
            self._pipe = writing
        except (OSError, subprocess.CalledProcessError):
            os.close(writing)
        os.close(reading)

    def watch(self, on: bool) -> None:
        """Tell it whether the terminal is changed at the moment."""
        if self._pipe is not None:
            try:
                os.write(self._pipe, b"1\n" if on else b"0\n")
            except OSError:  # it was killed
                self.close()

    def close(self) -> None:
        if self._pipe is not None:
            os.close(self._pipe)
            self._pipe = None
            self._child.wait()


def _descriptor(stream: Any) -> Optional[int]:
    """The file descriptor of standard input, None where it is closed or replaced."""
    try:
        number = int(stream.fileno())
        os.fstat(number)
        return number
    except (AttributeError, OSError, ValueError):
        return None
