#!/usr/bin/env python3
"""A network camera that is killed, frozen and restarted, again and again, while somebody watches.

A real RTSP server on loopback (tests/doubles/rtsp_server.py says which packages it needs) is killed
and frozen in turns. Measured for each fault: after how long the source (or with --kiosk the whole
program, headless, in a terminal of its own) says so, how soon after the server's return the picture
is back, the longest wait of the loop in between, and threads, file descriptors and memory. At the
end: how long quitting takes while the camera plays, is frozen, is gone.

    .venv/bin/python benchmarks/rtsp.py                  20 faults in 5 minutes, the source alone
    .venv/bin/python benchmarks/rtsp.py --kiosk          the same on run_kiosk.py headless
    .venv/bin/python benchmarks/rtsp.py --cycles 2 --minutes 0.5
"""
import argparse
import fcntl
import os
import pty
import select
import signal
import socket
import subprocess
import sys
import tempfile
import termios
import time
from pathlib import Path
from typing import Callable, List, NamedTuple, Optional, Tuple

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from app.capture import open_source  # noqa: E402
from settings import Settings  # noqa: E402

SYSTEM_PYTHON = "/usr/bin/python3"  # it alone sees GStreamer's bindings
SERVER = str(ROOT / "tests" / "doubles" / "rtsp_server.py")
LIMIT_S = 30.0  # whatever takes longer than this is reported as not seen
NOTICE_S, RETURN_S, QUIT_S = 3.0, 5.0, 0.2  # what is asked for
STATISTICS = "frames a second"  # the kiosk's last words
TAKE_OFF = 5  # cycles before memory, threads and descriptors are compared with those at the end


class Server:
    """The camera. `url` stays the same over its lives."""

    def __init__(self) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = "rtsp://127.0.0.1:{}/camera".format(self.port)
        self._process: Optional[subprocess.Popen] = None
        self.start()

    def start(self) -> None:
        """Returns when it listens."""
        self._process = subprocess.Popen([SYSTEM_PYTHON, SERVER, str(self.port)], stdout=subprocess.PIPE)
        assert self._process.stdout is not None
        if self._process.stdout.readline().strip() != b"ready":
            sys.exit("The RTSP server does not start; {} says which packages it needs.".format(SERVER))

    def break_down(self, fault: str) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP if fault == "frozen" else signal.SIGKILL)

    def return_from(self, fault: str) -> None:
        assert self._process is not None
        if fault == "frozen":
            self._process.send_signal(signal.SIGCONT)
        else:
            self.stop()
            self.start()

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            if self._process.stdout is not None:
                self._process.stdout.close()


class Watched:
    """What is measured: something that shows pictures and says what is wrong."""

    pid = 0
    pictures = 0
    complaint: Optional[str] = None  # set by `turn` when something is said; the caller clears it
    longest_turn = 0.0

    def turn(self) -> None:
        """Some milliseconds of its life."""

    def quit(self) -> float:
        """Seconds from the key Q to the end of the picture."""
        return 0.0


class WatchedSource(Watched):
    def __init__(self, url: str) -> None:
        self.pid = os.getpid()
        self._source = open_source(url, Settings())
        self._problem: Optional[str] = None

    def turn(self) -> None:
        start = time.monotonic()
        frame = self._source.read()
        self.longest_turn = max(self.longest_turn, time.monotonic() - start)
        self.pictures += frame is not None
        if self._source.problem != self._problem:
            self._problem = self._source.problem
            self.complaint = self._problem

    def quit(self) -> float:
        start = time.monotonic()
        self._source.close()
        return time.monotonic() - start


class WatchedKiosk(Watched):
    """run_kiosk.py in a terminal of its own; a picture is a line in its --tracks file."""

    def __init__(self, url: str, folder: str, extra: List[str]) -> None:
        self._tracks = Path(folder) / "tracks.jsonl"
        self._tracks.write_text("")
        self.output = ""
        command = [
            sys.executable, str(ROOT / "run_kiosk.py"), url, "headless", "--tracks", str(self._tracks),
            "--set", "gallery.database={}/gallery.db".format(folder),
            "--set", "gallery.photos={}/photos".format(folder),
        ]  # fmt: skip
        self._terminal, inner = pty.openpty()
        self._process = subprocess.Popen(
            command + extra, stdin=inner, stdout=inner, stderr=inner, cwd=str(ROOT),
            start_new_session=True, preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # Ctrl-C and all
        )  # fmt: skip
        os.close(inner)
        self.pid = self._process.pid
        self._size = 0

    def turn(self) -> None:
        self._listen(0.01)
        size = self._tracks.stat().st_size
        self.pictures += size > self._size
        self._size = size
        if self._process.poll() is not None:
            sys.exit("The kiosk has ended by itself:\n" + self.output[-2000:])

    def _listen(self, seconds: float) -> str:
        if not select.select([self._terminal], [], [], seconds)[0]:
            return ""
        try:
            text = os.read(self._terminal, 65536).decode("utf-8", "replace")
        except OSError:  # the other end was closed
            return ""
        self.output += text
        if "camera rtsp" in text:
            self.complaint = text.strip()
        return text

    def quit(self) -> float:
        """Until the statistics are printed, which is the last thing that the kiosk does."""
        start, text = time.monotonic(), ""
        os.write(self._terminal, b"q")
        while STATISTICS not in text:
            text += self._listen(0.01)
            if time.monotonic() > start + LIMIT_S:
                self._process.kill()
                return LIMIT_S
        answered = time.monotonic() - start
        self._process.wait()
        os.close(self._terminal)
        return answered


class Cycle(NamedTuple):
    fault: str
    down: float  # s between fault and return
    notice: Optional[float]  # s from the fault to what is said; None: within LIMIT_S nothing was
    back: Optional[float]  # s from the return to the next picture
    threads: int
    files: int
    memory: float  # MB


def one_cycle(watched: Watched, server: Server, fault: str, down: float) -> Cycle:
    watched.complaint = None
    start = time.monotonic()
    server.break_down(fault)
    notice = None
    while time.monotonic() < start + (down if notice is not None else max(down, LIMIT_S)):
        watched.turn()
        if notice is None and watched.complaint is not None:
            notice = time.monotonic() - start
    down = time.monotonic() - start
    server.return_from(fault)
    back = until_picture(watched)
    return Cycle(fault, down, notice, back, *resources(watched.pid))


def until_picture(watched: Watched) -> Optional[float]:
    start, before = time.monotonic(), watched.pictures
    while watched.pictures == before:
        watched.turn()
        if time.monotonic() > start + LIMIT_S:
            return None
    return time.monotonic() - start


def play(watched: Watched, seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        watched.turn()


def resources(pid: int) -> Tuple[int, int, float]:
    """Threads, file descriptors and resident memory (MB) of a process."""
    lines = Path("/proc/{}/status".format(pid)).read_text().splitlines()
    status = dict(line.split(":", 1) for line in lines if ":" in line)
    files = len(os.listdir("/proc/{}/fd".format(pid)))
    return int(status["Threads"]), files, int(status["VmRSS"].split()[0]) / 1024


def shown(value: Optional[float]) -> str:
    return "{:.2f}".format(value) if value is not None else "never"


def worst(values: List[Optional[float]]) -> Optional[float]:
    known = [value for value in values if value is not None]
    return max(known) if known and len(known) == len(values) else None


def soak(watched: Watched, server: Server, cycles: int, minutes: float) -> List[Cycle]:
    """Faults of 3.5, 5 and 7 s in turns, kills and freezes in turns; the rest of the time it plays."""
    print("{:>5} {:>7} {:>7} {:>9} {:>8} {:>8} {:>6} {:>8}".format(
        "cycle", "fault", "down s", "notice s", "back s", "threads", "files", "MB"))  # fmt: skip
    done: List[Cycle] = []
    start = time.monotonic()
    for number in range(cycles):
        play(watched, 2.0)
        cycle = one_cycle(watched, server, ("killed", "frozen")[number % 2], (3.5, 5.0, 7.0)[number % 3])
        done.append(cycle)
        print("{:>5} {:>7} {:>7.1f} {:>9} {:>8} {:>8} {:>6} {:>8.1f}".format(
            number + 1, cycle.fault, cycle.down, shown(cycle.notice), shown(cycle.back),
            cycle.threads, cycle.files, cycle.memory), flush=True)  # fmt: skip
        play(watched, start + (number + 1) * minutes * 60 / cycles - time.monotonic())
    return done


def quits(server: Server, start: Callable[[], Watched], times: int) -> List[float]:
    """How long quitting takes while the camera plays, is frozen, is gone; each with a fresh start."""
    taken = []
    for number in range(times):
        state = ("playing", "frozen", "killed")[number % 3]
        watched = start()
        until_picture(watched)
        play(watched, 1.0)
        if state != "playing":
            server.break_down(state)
            play(watched, 0.3 + 1.1 * (number // 3))
        taken.append(watched.quit())
        print("quit while the camera is {}: {:.3f} s".format(state, taken[-1]), flush=True)
        if state != "playing":
            server.return_from(state)
    return taken


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cycles", type=int, default=20, help="faults (default 20)")
    parser.add_argument("--minutes", type=float, default=5.0, help="time for all of them (default 5)")
    parser.add_argument("--quits", type=int, default=6, help="times that quitting is measured (default 6)")
    parser.add_argument("--kiosk", action="store_true", help="run_kiosk.py headless in place of the source alone")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="passed on to run_kiosk.py")
    options = parser.parse_args()
    extra = [word for item in options.set for word in ("--set", item)]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # a killed run leaves no server behind
    server = Server()
    with tempfile.TemporaryDirectory() as folder:

        def start() -> Watched:
            return WatchedKiosk(server.url, folder, extra) if options.kiosk else WatchedSource(server.url)

        try:
            watched = start()
            print("first picture after {} s".format(shown(until_picture(watched))))
            cycles = soak(watched, server, options.cycles, options.minutes)
            taken = [watched.quit()]
            taken += quits(server, start, options.quits)
        finally:
            server.stop()
    return report(cycles, taken, watched.longest_turn)


def report(cycles: List[Cycle], taken: List[float], longest_turn: float) -> int:
    notice, back = worst([cycle.notice for cycle in cycles]), worst([cycle.back for cycle in cycles])
    first, last = cycles[min(TAKE_OFF, len(cycles)) - 1], cycles[-1]
    print("said after at most {} s (asked: {}), back after at most {} s ({}), quit within {:.3f} s ({})".format(
        shown(notice), NOTICE_S, shown(back), RETURN_S, max(taken), QUIT_S))  # fmt: skip
    if longest_turn:
        print("longest wait of the loop for the source: {:.3f} s".format(longest_turn))
    print("from cycle {} to {}: threads {} -> {}, files {} -> {}, memory {:.1f} -> {:.1f} MB".format(
        min(TAKE_OFF, len(cycles)), len(cycles), first.threads, last.threads, first.files, last.files,
        first.memory, last.memory))  # fmt: skip
    kept = (
        notice is not None and notice <= NOTICE_S and back is not None and back <= RETURN_S and max(taken) <= QUIT_S
    )
    print("kept" if kept else "NOT kept")
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
