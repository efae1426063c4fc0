"""The loop: read, see, track, name, draw, show, keys.

It never waits for a disk, a person or a model: what is stored is stored by one thread beside it,
photos are looked at by another, and a camera that is gone is reopened by its own.
"""
import time
from pathlib import Path
from typing import Any, Callable, List, Optional

import cv2
import numpy as np

from app.background import Background
from app.capture.source import Frame, Source
from app.enroll import Enrollment
from app.events import Events, Tracks
from app.show.advice import advice
from app.show.output import Event, Output
from app.show.overlay import Label, Overlay, Scene
from app.sight import Sight
from app.stats import Stats
from app.track import Track
from errors import KioskError
from settings import Settings

NOTICE_S = 4.0  # seconds for which a notice stays on the screen
SAMPLE_S = 0.1  # seconds of source time between two pictures for an enrolment
IDLE_S = 0.1  # seconds between two pictures while the camera is gone: its clock ticks, keys answer


class Kiosk:
    """Everything that one run holds together; the parts are opened and closed by their owner."""

    def __init__(
        self, source: Source, output: Output, sight: Sight, settings: Settings, stats: Stats,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        self.source = source
        self.output = output
        self.sight = sight
        self.stats = stats
        self.background = Background()
        self.events: Optional[Events] = None
        self.tracks: Optional[Tracks] = None
        self.seconds: Optional[float] = None  # of source time after which the run ends
        self.paced = False  # a file in a window: show it at its own rate
        self.lingers = False  # pictures in a window: the last one stays until somebody quits
        self.news = [self.background.news]  # what to tell people, one callable for each teller
        self.alive: Callable[[], None] = lambda: None  # called in every turn of the loop
        self.quit = False
        self.screenshots = Path("screenshots")
        self._settings = settings
        self._overlay = Overlay(settings.show.font)
        self._clock = clock
        self._frame: Optional[Frame] = None
        self._enrollment: Optional[Enrollment] = None
        self._chosen: Optional[int] = None  # the track that was clicked
        self._sampled = -np.inf
        self._problem: Optional[str] = None  # of the source, when it was last looked at
        self._notice = ""
        self._notice_until = -np.inf
        self._shown = -np.inf
        self._started: Optional[float] = None

    def run(self) -> None:
        """Until the source ends, somebody quits, or `seconds` are over."""
        try:
            while not self.quit:
                self.alive()
                with self.stats.stage("read"):
                    frame = self.source.read()
                if frame is not None:
                    self._process(frame)
                elif self.source.finished and not self.lingers:
                    break
                elif self._clock() - self._shown >= IDLE_S:
                    self._show()
                elif self.source.finished:
                    time.sleep(IDLE_S / 10)
                self._answer_keys()
        finally:
            self.sight.tracker.finish()
            self._count_tracks()
            self.stats.dropped = self.source.dropped
            self.background.close()

    def _process(self, frame: Frame) -> None:
        if self.seconds is not None and frame.time >= self.seconds:
            self.quit = True
            return
        with self.stats.stage("frame"):
            self._frame = frame
            if self.sight.gallery.changed():
                self.sight.tracker.people_changed(self.sight.gallery.names)
            tracks = self.sight.see(frame)
            self._enroll(frame)
            self._report(frame, tracks)
            self._show()
        if self.paced:
            self._wait_until(frame.time)

    def _report(self, frame: Frame, tracks: List[Track]) -> None:
        """Tell the statistics and the files who is there."""
        rows = self.sight.rows()
        named = [track.name for track in tracks if track.name is not None]
        self.stats.frame(named, len(tracks))
        self._count_tracks()
        if self.tracks is not None:
            self.tracks.frame(frame.index, frame.time, rows)
        if self.events is not None:
            self.events.frame(frame.time, rows)
        if named:
            self.sight.gallery.seen(named, time.time())

    def _count_tracks(self) -> None:
        tracker = self.sight.tracker
        for track in tracker.tracks + tracker.ended:
            if track.name is not None:
                track.names.add(track.name)
            if track.confirmed:
                self.stats.track(track.id, next(iter(track.names), None))

    # -- the picture

    def _show(self) -> None:
        self._shown = self._clock()
        if self._problem and not self.source.problem:
            self._tell("the picture is back")
        self._problem = self.source.problem
        banner = self.source.problem or self.sight.gallery.problem or self._current_notice()
        panel = self._enrollment.panel() if self._enrollment is not None else None
        if self.output.draws:
            with self.stats.stage("draw"):
                hint = "" if panel else "N enrol   Q quit   F full screen   S screenshot"
                picture = self._drawn(banner=banner, panel=panel, hint=hint)
            with self.stats.stage("show"):
                self.output.show(picture)
        elif panel is not None:
            self.output.say("{}: {}".format(panel.title, " | ".join(line for line in panel.lines if line)))
        elif banner:
            self.output.say(banner)
        self.stats.shown()

    def _drawn(self, **more: Any) -> np.ndarray:
        """The last frame with who is in it; `more` goes into the scene. Grey before the first frame."""
        if self._frame is not None:
            picture = self._frame.image.copy()
        else:
            size = (self._settings.capture.height or 720, self._settings.capture.width or 1280, 3)
            picture = np.full(size, 32, np.uint8)
        self._overlay.draw(picture, Scene(self._labels(), self.stats.fps, self.sight.gallery.count, **more))
        return picture

    def _labels(self) -> List[Label]:
        if self.source.problem:
            return []  # the picture is old: nobody may still stand there
        chosen = self._enrollment.track_id if self._enrollment is not None else self._chosen
        labels = []
        for track in self.sight.shown:
            if not track.confirmed:
                continue
            text, state = "", "pending"
            if track.name is not None:
                text, state = "{} {:.2f}".format(track.name, track.similarity or 0.0), "known"
            elif track.identity.judged:
                text, state = "unknown", "unknown"
            hint = "" if track.name is not None else advice(track.reason)
            state = "chosen" if track.id == chosen else state
            labels.append(Label(tuple(track.shown_box(self.sight.time)), text, state, hint))
        return labels

    def _current_notice(self) -> str:
        for teller in self.news:
            for line in teller():
                self._tell(line)
        return self._notice if self._clock() < self._notice_until else ""

    def _tell(self, notice: str) -> None:
        self._notice, self._notice_until = notice, self._clock() + NOTICE_S

    def _wait_until(self, due: float) -> None:
        """Hold a file to its own rate; being late is not made up by rushing."""
        now = self._clock()
        if self._started is None or now - self._started - due > 0.25:
            self._started = now - due
        time.sleep(max(0.0, self._started + due - now))

    # -- keys and enrolment

    def _answer_keys(self) -> None:
        for event in self.output.keys():  # noqa: SIM118 (an output is no dict)
            if event.kind == "close":
                self.quit = True
            elif event.kind == "click":
                self._choose(event)
            elif self._enrollment is not None:
                self._enrollment.event(event)
                self._finish_enrollment()
            elif event.kind == "key":
                self._command(event.value)

    def _command(self, key: str) -> None:
        if key in ("q", "escape"):
            self.quit = True
        elif key == "n":
            self._start_enrollment()
        elif key == "f":
            self.output.toggle_fullscreen()
        elif key == "s" and self._frame is not None:
            path = self.screenshots / time.strftime("kiosk-%Y%m%d-%H%M%S.png")
            picture = self._drawn()
            self.background.do(lambda: _save_picture(path, picture), "saved {}".format(path))

    def _choose(self, event: Event) -> None:
        """A click takes the face under it; during an enrolment it is the one to enrol from now on."""
        x, y = event.point
        for track in self.sight.tracks:
            left, top, right, bottom = track.box
            if left <= x <= right and top <= y <= bottom:
                self._chosen = track.id
                if self._enrollment is not None:
                    self._enrollment.track_id = track.id

    def _start_enrollment(self) -> None:
        if self._frame is None:
            self._tell("there is no picture yet to enrol from")
            return
        track = self._in_sight(self._chosen) or self._largest()
        self._enrollment = Enrollment(
            self._settings.enroll,
            self.sight.gallery.threshold,
            track.id if track is not None else -1,
            self._frame.time,
            self.sight.gallery.similarity_to,
        )
        self._sampled = -np.inf
        self.output.text_input(True)

    def _enroll(self, frame: Frame) -> None:
        """Offer the chosen face; where its track has ended, the largest face takes its place."""
        enrollment = self._enrollment
        if enrollment is None:
            return
        if frame.time - self._sampled >= SAMPLE_S:
            self._sampled = frame.time
            track = self._in_sight(enrollment.track_id)
            if track is None and not any(other.id == enrollment.track_id for other in self.sight.tracker.tracks):
                track = self._largest()
            if track is None:
                enrollment.offer(frame.time, None, None, 0.0)
            else:
                enrollment.track_id = track.id
                sample = self.sight.sample(frame, track)
                size = float(min(track.box[2] - track.box[0], track.box[3] - track.box[1]))
                enrollment.offer(frame.time, sample, self.sight.match(sample.embedding), size)
        self._finish_enrollment()

    def _finish_enrollment(self) -> None:
        enrollment = self._enrollment
        if enrollment is None or enrollment.active:
            return
        self._enrollment = self._chosen = None
        self.output.text_input(False)
        done = enrollment.result
        if done is None:
            return
        gallery = self.sight.gallery
        self.background.do(
            lambda: gallery.enroll(done.name, done.embeddings, done.qualities.tolist(), "camera", np.stack(done.chips)),
            "{} is enrolled".format(done.name),
        )

    def _in_sight(self, number: Optional[int]) -> Optional[Track]:
        return next((track for track in self.sight.tracks if track.id == number), None)

    def _largest(self) -> Optional[Track]:
        return max(self.sight.tracks, key=lambda track: track.box[2] - track.box[0], default=None)


def _save_picture(path: Path, picture: np.ndarray) -> None:
    path.parent.mkdir(exist_ok=True)
    done, data = cv2.imencode(path.suffix, picture)
    if not done:
        raise KioskError("{}: the screenshot cannot be encoded.".format(path))
    path.write_bytes(data.tobytes())
