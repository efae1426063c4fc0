"""Where pictures go and keys come from: the contract of window, terminal and video file."""
import abc
from typing import List, NamedTuple, Tuple

import numpy as np


class Event(NamedTuple):
    """Something that a person did.

    kind 'key': `value` is a lower-case letter ('n', 'q', 'f', 's', ...) or one of 'enter',
    'escape', 'backspace', 'up', 'down'; kind 'text': `value` is what was typed while text input is
    on (exact Unicode, any case); kind 'click': `point` is (x, y) in pixels of the shown picture;
    kind 'close': the window was closed, or the terminal went away.
    """

    kind: str
    value: str = ""
    point: Tuple[float, float] = (0.0, 0.0)


class Output(abc.ABC):
    """A context manager; closing twice is harmless and always leaves the terminal sane."""

    draws = True  # False: nobody sees pictures here, so the loop need not draw the overlay

    @abc.abstractmethod
    def show(self, picture: np.ndarray) -> None:
        """Show one BGR picture (H, W, 3) uint8. May keep no reference to it."""

    def keys(self) -> List[Event]:
        """What was pressed, typed or clicked since the last call, oldest first; never blocks."""
        return []

    def text_input(self, on: bool) -> None:
        """While on, letters arrive as 'text' events; enter, escape and backspace stay keys."""

    def say(self, line: str) -> None:
        """Tell a person who sees no overlay (a terminal) one line; repeated lines are told once."""

    def toggle_fullscreen(self) -> None:
        """Where there is a screen."""

    def close(self) -> None:
        """Give the screen or the terminal back."""

    def __enter__(self) -> "Output":
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
