"""No pictures: the kiosk is driven from the terminal and says there what a screen would show."""
from typing import List

import numpy as np

from app.show.output import Event, Output
from app.show.terminal import Terminal


class HeadlessOutput(Output):
    draws = False

    def __init__(self) -> None:
        self._terminal = Terminal()

    def show(self, picture: np.ndarray) -> None:
        pass

    def keys(self) -> List[Event]:
        return self._terminal.keys()

    def text_input(self, on: bool) -> None:
        self._terminal.text_input(on)

    def say(self, line: str) -> None:
        self._terminal.say(line)

    def close(self) -> None:
        self._terminal.close()
