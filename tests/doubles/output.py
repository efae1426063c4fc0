"""An Output that keeps what it was shown and plays scripted keys: for tests and for users' scripts."""
from typing import Dict, List, Optional, Sequence

import numpy as np

from app.show.output import Event, Output


class RecordingOutput(Output):
    """`script` maps a number of shown pictures to the events that arrive after so many.

    RecordingOutput({3: [Event("key", "n")], 4: [Event("text", "Anna")]}) presses N after the third
    picture. `pictures` holds copies of the pictures (only the last `keep` where that is given),
    `shown` counts all of them, `said` the lines, `text_inputs` each call of text_input in its order.
    """

    def __init__(self, script: Optional[Dict[int, Sequence[Event]]] = None, draws: bool = True, keep: int = 0) -> None:
        self.draws = draws
        self.pictures: List[np.ndarray] = []
        self.shown = 0
        self.said: List[str] = []
        self.text_inputs: List[bool] = []
        self.fullscreen = False
        self.closed = False
        self._keep = keep
        self._script = {count: list(events) for count, events in (script or {}).items()}

    def show(self, picture: np.ndarray) -> None:
        self.shown += 1
        self.pictures.append(picture.copy())
        if self._keep:
            del self.pictures[: -self._keep]

    def keys(self) -> List[Event]:
        due = sorted(count for count in self._script if count <= self.shown)
        return [event for count in due for event in self._script.pop(count)]

    def text_input(self, on: bool) -> None:
        self.text_inputs.append(on)

    def say(self, line: str) -> None:
        if not self.said or self.said[-1] != line:
            self.said.append(line)

    def toggle_fullscreen(self) -> None:
        self.fullscreen = not self.fullscreen

    def close(self) -> None:
        self.closed = True
