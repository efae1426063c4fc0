"""Tells systemd that the loop turns, so that a kiosk that hangs is started again (scripts/kiosk.service).

systemd's own protocol (sd_notify): one datagram to the socket that $NOTIFY_SOCKET names. Without
systemd there is no such variable, and nothing is sent.
"""
import os
import socket
import time
from typing import Callable, Optional

EVERY_S = 1.0  # the unit waits 20 s


class Watchdog:
    """Call it once a turn. The first call also says that the start is over."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._next = float("-inf")
        self._ready = False
        self._socket: Optional[socket.socket] = None
        address = os.environ.get("NOTIFY_SOCKET", "")
        if address:
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            self._address = "\0" + address[1:] if address[0] == "@" else address

    def __call__(self) -> None:
        now = self._clock()
        if self._socket is None or now < self._next:
            return
        self._next = now + EVERY_S
        self._send(b"WATCHDOG=1" if self._ready else b"READY=1\nWATCHDOG=1")
        self._ready = True

    def close(self) -> None:
        if self._socket is not None:
            self._send(b"STOPPING=1")
            self._socket.close()
            self._socket = None

    def _send(self, message: bytes) -> None:
        assert self._socket is not None
        try:
            self._socket.sendto(message, socket.MSG_DONTWAIT, self._address)
        except OSError:  # systemd is restarting itself, or its queue is full: the next one will do
            pass
