"""What a run amounted to: timings, counts and people, for the closing report and for --stats.

A kiosk runs for months, so nothing here grows with time: every timing goes into a histogram whose
bins are 2 % wide, which gives any percentile to within 1 % from one array of 1,100 counts and,
unlike a sample drawn at random, gives the same answer for the same timings.
"""
import json
import math
import os
import time
from collections import OrderedDict
from pathlib import Path
from typing import Any, Callable, Dict, Iterable, List, Optional, Union

from errors import KioskError

SHORTEST_S = 1e-6  # all shorter times share the first bin
BIN_RATIO = 1.02  # each bin is 2 % wider than the one before, so its middle is at most 1 % off
BINS = 1100  # up to SHORTEST_S * BIN_RATIO ** BINS: 48 minutes
SMOOTHING = 0.95  # weight of the past in the live frame rate
TRACKS_KEPT = 4096  # tracks in memory at most; those not heard of for longest are settled first
PERCENTILES = (50, 95, 99)
_BIN_LOG = math.log(BIN_RATIO)


class Histogram:
    """Durations in seconds, in bins of equal ratio; constant memory."""

    def __init__(self) -> None:
        self.count = 0
        self.shortest = math.inf
        self.longest = 0.0
        self._bins = [0] * BINS

    def add(self, seconds: float) -> None:
        self.count += 1
        if seconds > self.longest:
            self.longest = seconds
        if seconds < self.shortest:
            self.shortest = seconds
        place = int(math.log(seconds / SHORTEST_S) / _BIN_LOG) if seconds > SHORTEST_S else 0
        self._bins[place if place < BINS else BINS - 1] += 1

    def percentile(self, percent: float) -> float:
        """The time in seconds that `percent` % of all do not pass (nearest rank), within 1 %.

        Times under SHORTEST_S come back as at most SHORTEST_S; 0.0 when nothing was added.
        """
        rank = max(math.ceil(self.count * percent / 100.0), 1)
        passed = 0
        for place, number in enumerate(self._bins):
            passed += number
            if passed >= rank:
                middle = SHORTEST_S * BIN_RATIO ** (place + 0.5)
                return min(max(middle, self.shortest), self.longest)
        return 0.0


class _Stage:
    """Times one `with` block; one object for each name, made once."""

    __slots__ = ("_clock", "_started", "times")

    def __init__(self, clock: Callable[[], float]) -> None:
        self.times = Histogram()
        self._clock = clock
        self._started = 0.0

    def __enter__(self) -> None:
        self._started = self._clock()

    def __exit__(self, *exc: object) -> None:
        self.times.add(self._clock() - self._started)


class Stats:
    """The figures of one run; the clock starts with the first stage, frame or picture.

    Used from the thread of the loop alone. The stage called 'frame' is what one frame cost from
    having it to having shown it, so the loop wraps its body in `with stats.stage("frame")` and the
    parts in stages of their own; a stage does not nest in itself.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self.dropped = 0  # frames that the source threw away; the loop copies the source's count
        self.frames = 0
        self.faces = 0  # faces in all frames together
        self.fps = 0.0  # smoothed frames a second, for the screen
        self._clock = clock
        self._stages: Dict[str, _Stage] = {}
        self._gaps = Histogram()
        self._people: Dict[str, int] = {}
        self._tracks: OrderedDict[int, bool] = OrderedDict()
        self._unknown = 0  # settled tracks that never had a name
        self._started: Optional[float] = None
        self._last_frame: Optional[float] = None
        self._last_shown: Optional[float] = None
        self._interval = 0.0

    def stage(self, name: str) -> _Stage:
        """A context manager that times its block as one run of the stage `name`."""
        stage = self._stages.get(name)
        if stage is None:
            stage = self._stages[name] = _Stage(self._clock)
        if self._started is None:
            self._started = self._clock()
        return stage

    def frame(self, names: Iterable[str] = (), faces: int = 0) -> None:
        """One frame was processed: the names drawn in it, and how many faces were found."""
        now = self._clock()
        if self._last_frame is not None:
            interval = now - self._last_frame
            self._interval = SMOOTHING * self._interval + (1.0 - SMOOTHING) * interval if self._interval else interval
            self.fps = 1.0 / self._interval if self._interval > 0 else 0.0
        if self._started is None:
            self._started = now
        self._last_frame = now
        self.frames += 1
        self.faces += faces
        for name in set(names):
            self._people[name] = self._people.get(name, 0) + 1

    def shown(self) -> None:
        """A picture was put on the screen or into the video file."""
        now = self._clock()
        if self._last_shown is not None:
            self._gaps.add(now - self._last_shown)
        self._last_shown = now

    def track(self, track: int, name: Optional[str]) -> None:
        """A confirmed track, and its name if it has one now; told in every frame or once, either serves."""
        named = self._tracks.get(track)
        if named is None:
            self._tracks[track] = bool(name)
            if len(self._tracks) > TRACKS_KEPT:
                self._unknown += not self._tracks.popitem(last=False)[1]
            return
        if name and not named:
            self._tracks[track] = True
        self._tracks.move_to_end(track)

    @property
    def seconds(self) -> float:
        """Wall seconds from the first stage or frame to the last frame."""
        return self._last_frame - self._started if self._last_frame is not None and self._started is not None else 0.0

    @property
    def unknown_tracks(self) -> int:
        """Confirmed tracks that never had a name."""
        return self._unknown + sum(not named for named in self._tracks.values())

    def as_dict(self) -> Dict[str, Any]:
        """What --stats writes; times in milliseconds but for `seconds`."""
        seconds = self.seconds
        return {
            "frames": self.frames,
            "seconds": round(seconds, 3),
            "fps": round(self.frames / seconds, 3) if seconds > 0 else 0.0,
            "dropped": self.dropped,
            "longest_gap_ms": round(1000.0 * self._gaps.longest, 3),
            "median_gap_ms": round(1000.0 * self._gaps.percentile(50), 3),
            "faces": self.faces,
            "stages": {
                name: {"p{}_ms".format(p): round(1000.0 * stage.times.percentile(p), 3) for p in PERCENTILES}
                for name, stage in self._stages.items()
                if stage.times.count
            },
            "people": {name: {"frames": count} for name, count in sorted(self._people.items())},
            "unknown_tracks": self.unknown_tracks,
        }

    def write(self, path: Union[str, Path]) -> None:
        """Write `as_dict` to a JSON file, all of it or nothing. Raises KioskError when that fails."""
        target = os.path.realpath(str(path))
        text = json.dumps(self.as_dict(), ensure_ascii=False, indent=2) + "\n"
        direct = os.path.exists(target) and not os.path.isfile(target)  # a pipe or device cannot be replaced
        part = target if direct else target + ".part"
        try:
            with open(part, "w", encoding="utf-8", errors="backslashreplace") as file:
                file.write(text)
            if not direct:
                os.replace(part, target)
        except OSError as error:
            if not direct and os.path.exists(part):
                os.remove(part)
            message = "{}: the statistics cannot be written ({}); give --stats a file that can."
            raise KioskError(message.format(path, error.strerror)) from error

    def report(self) -> str:
        """The closing report for people, aligned, without a newline at its end."""
        figures = self.as_dict()
        lines = [
            "{frames} frames in {seconds:.1f} seconds = {fps:.1f} frames a second",
            "dropped frames {dropped}, faces {faces}, tracks without a name {unknown_tracks}",
        ]
        if self._gaps.count:
            lines.append("longest gap between two pictures {longest_gap_ms:.0f} ms, median {median_gap_ms:.0f} ms")
        lines = [line.format(**figures) for line in lines]
        return "\n".join(lines + _stage_lines(figures["stages"]) + _people_lines(figures["people"]))


def _stage_lines(stages: Dict[str, Dict[str, float]]) -> List[str]:
    """A table, the whole frame first."""
    if not stages:
        return []
    order = sorted(stages, key=lambda name: name != "frame")
    width = max(len(name) for name in order + ["milliseconds"])
    lines = ["{:<{}}  {:>8}  {:>8}  {:>8}".format("milliseconds", width, *("p{}".format(p) for p in PERCENTILES))]
    for name in order:
        values = (stages[name]["p{}_ms".format(p)] for p in PERCENTILES)
        lines.append("{:<{}}  {:>8.2f}  {:>8.2f}  {:>8.2f}".format(name, width, *values))
    return lines


def _people_lines(people: Dict[str, Dict[str, int]]) -> List[str]:
    """Everyone seen, most frames first."""
    if not people:
        return ["nobody known was seen"]
    width = max(len(name) for name in people)
    order = sorted(people, key=lambda name: (-people[name]["frames"], name))
    return ["people seen:"] + ["  {:<{}}  {:>8} frames".format(name, width, people[name]["frames"]) for name in order]
