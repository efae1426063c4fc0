"""What systemd hears, over a socket of the kind that it gives its services."""
import os
import socket
import subprocess
import sys

import pytest

from app.watchdog import EVERY_S, Watchdog
from tests import ROOT
from tests.doubles.source import Clock

pytestmark = pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="needs Unix sockets")


def heard(systemd):
    found = []
    while True:
        try:
            found.append(systemd.recv(100))
        except BlockingIOError:
            return found


@pytest.mark.parametrize("abstract", [False, pytest.param(True, marks=pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="Linux alone has abstract sockets"))])  # fmt: skip
def test_ready_once_then_alive_once_a_second_then_stopping(tmp_path, monkeypatch, abstract):
    address = "\0kiosk-test-{}".format(tmp_path) if abstract else str(tmp_path / "notify")
    monkeypatch.setenv("NOTIFY_SOCKET", address.replace("\0", "@"))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(address)
        systemd.setblocking(False)
        clock = Clock()
        watchdog = Watchdog(clock)
        assert heard(systemd) == []
        for _ in range(30):  # turns of the loop
            watchdog()
            clock.advance(EVERY_S / 10)
        assert heard(systemd) == [b"READY=1\nWATCHDOG=1", b"WATCHDOG=1", b"WATCHDOG=1"]
        watchdog.close()
        watchdog.close()
        watchdog()
        assert heard(systemd) == [b"STOPPING=1"]


def test_without_systemd_nothing_happens_and_a_dead_one_is_no_error(tmp_path, monkeypatch):
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    Watchdog()()
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "nobody"))
    watchdog = Watchdog()
    watchdog()
    watchdog.close()


def test_a_whole_run_tells_that_it_is_ready_and_that_it_stops(tmp_path):
    address = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(address)
        systemd.setblocking(False)
        (tmp_path / "photos").mkdir()
        command = [sys.executable, str(ROOT / "run_kiosk.py"), "demo", "headless", "--seconds", "0.5"]
        command += ["--set", "gallery.database={}".format(tmp_path / "gallery.db")]
        command += ["--set", "gallery.photos={}".format(tmp_path / "photos")]
        subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, check=True,
                       env=dict(os.environ, NOTIFY_SOCKET=address))  # fmt: skip
        told = heard(systemd)
    assert told[0] == b"READY=1\nWATCHDOG=1" and told[-1] == b"STOPPING=1"
