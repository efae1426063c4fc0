"""What a terminal sends, as keys and text: UTF-8 over several reads, escape sequences, one key at a time.

A key may change what the next letters mean (N starts the typing of a name, Enter ends it), so a call
stops behind such a key and leaves the rest for the next one: 'nZoë' in one burst is N and a name.
"""
import codecs
import re
import time
from typing import Callable, List, Optional

from app.show.output import Event

ESCAPE_WAIT_S = 0.05  # an escape sequence arrives in one go, also over a network; a lone ESC is the key
SEQUENCE = re.compile("\x1b(?:\\[[0-?]*[ -/]*([@-~])|O([@-~]))")  # ECMA-48 control sequence, or SS3
UNFINISHED = re.compile("\x1b(?:\\[[0-?]*[ -/]*|O)?\\Z")
ARROWS = {"A": "up", "B": "down"}
KEYS = {"\r": "enter", "\n": "enter", "\x7f": "backspace", "\x08": "backspace"}


class KeyDecoder:
    """Bytes in, events out. `clock` gives seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._utf8 = codecs.getincrementaldecoder("utf-8")("ignore")
        self._pending = ""
        self._since = 0.0  # when the last bytes came

    def feed(self, data: bytes) -> None:
        if data:
            self._pending += self._utf8.decode(data)
            self._since = self._clock()

    def end(self) -> None:
        """No more bytes will come: what waits for more is as it is."""
        self._since = float("-inf")

    def events(self, typing: bool) -> List[Event]:
        """The events up to and with the next key that may change the meaning of those behind it."""
        found: List[Event] = []
        while self._pending:
            event = self._next(typing)
            if event is None:
                break
            if event.kind == "text" and found and found[-1].kind == "text":
                found[-1] = Event("text", found[-1].value + event.value)
            elif event.value:
                found.append(event)
            if event.kind == "key" and event.value and not (typing and event.value == "backspace"):
                break
        return found

    def _next(self, typing: bool) -> Optional[Event]:
        """Take one event; Event('key', '') for what means nothing here, None to wait for more bytes."""
        first = self._pending[0]
        if first == "\x1b":
            if UNFINISHED.match(self._pending):
                if self._clock() - self._since < ESCAPE_WAIT_S:
                    return None
                self._pending = ""
                return Event("key", "escape")
            sequence = SEQUENCE.match(self._pending)
            if sequence:
                self._pending = self._pending[sequence.end() :]
                return Event("key", ARROWS.get(sequence.group(1) or sequence.group(2), ""))
        self._pending = self._pending[1:]
        if first == "\x1b":
            return Event("key", "escape")
        if first in KEYS:
            return Event("key", KEYS[first])
        if not first.isprintable():
            return Event("key", "")
        return Event("text", first) if typing else Event("key", first.lower())
