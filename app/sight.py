"""From a frame to named tracks: the part of the loop that needs no screen, no keys and no disk.

Everything that runs or measures the kiosk (the loop, the tests of whole runs, the benchmarks) calls
`Sight.see`, so all of them see the same names.
"""
from typing import List

import numpy as np

from app.capture.source import Frame
from app.enroll import Sample
from app.events import Face
from app.stats import Stats
from app.track import Track, Tracker
from engines.detect.detector import Faces
from engines.embed import looks
from engines.recognizer import Recognizer
from gallery.match import Match
from gallery.store import Gallery
from settings import Settings

CROWD = 2.5  # faces in sight that double the pause between searches: what following them costs is taken from there


class Sight:
    """A recognizer, a gallery and the tracks between them."""

    def __init__(
        self, recognizer: Recognizer, gallery: Gallery, settings: Settings, stats: Stats, still: bool = False
    ) -> None:
        self.recognizer = recognizer
        self.gallery = gallery
        self.tracker = Tracker(settings.tracking, gallery.threshold, gallery.margin, recognizer.strong, still)
        self._stats = stats
        self._search_every = settings.tracking.search_every
        self._searched = -np.inf  # time of the last frame that was searched as a whole
        self.faces = Faces.none()  # of the last frame; a track's `row` points into them
        self.tracks: List[Track] = []  # those in sight, in the order of the faces
        self.shown: List[Track] = []  # and those that were only just missed
        self.time = 0.0  # of the last frame

    def see(self, frame: Frame) -> List[Track]:
        """The tracks to show for `frame`, named where the evidence is clear."""
        with self._stats.stage("detect"):
            self.faces = self._look(frame)
        with self._stats.stage("track"):
            seen = looks(frame.image, self.faces.landmarks)
            self.tracks = self.tracker.update(frame.time, frame.cut, self.faces, seen)
        with self._stats.stage("recognise"):
            self._recognise(frame)
        self.time = frame.time
        self.shown = self.tracks + self.tracker.coasting(frame.time)
        return self.shown

    def _look(self, frame: Frame) -> Faces:
        """The faces of this frame: the tracked ones are followed, and now and then all of it is searched.

        On friends1.mp4, two cores: 28 frames a second with a whole search in each, 74 like this.
        """
        in_sight = [track for track in self.tracker.tracks if track.row is not None]
        if frame.cut or not in_sight:
            self._searched = frame.time
            return self.recognizer.search(frame.image)
        found = self.recognizer.follow(frame.image, np.stack([track.predict(frame.time) for track in in_sight]))
        pause = self._search_every * (1 + len(in_sight) / CROWD)
        if frame.time - self._searched < pause - 1e-6:
            return found
        self._searched = frame.time
        return self.recognizer.search(frame.image, found)

    def sample(self, frame: Frame, track: Track) -> Sample:
        """One look at one face for enrolment; the track must be in sight in `frame`."""
        one = self.faces.take(np.array([track.row]))
        chips = self.recognizer.chips(frame.image, one.landmarks)
        quality = self.recognizer.quality(frame.image, one, chips)[0]
        return Sample(self.recognizer.embed_chips(chips)[0], chips[0], quality.score, quality.reason)

    def match(self, embedding: np.ndarray) -> Match:
        """Whom one embedding (D,) looks like."""
        return self.gallery.match(embedding[np.newaxis])[0]

    def _recognise(self, frame: Frame) -> None:
        asking = self.tracker.wanting(frame.time)
        if not asking:
            return
        some = self.faces.take(np.array([track.row for track in asking]))
        chips = self.recognizer.chips(frame.image, some.landmarks)
        for track, quality in zip(asking, self.recognizer.quality(frame.image, some, chips)):
            track.quality = quality
        # A face too poor to vote can still show that it is the one that had the name before.
        useful = [at for at, track in enumerate(asking) if track.reason is None or track.identity.name is not None]
        if not useful:
            return
        embeddings = self.recognizer.embed_chips(chips[useful])
        for at, embedding, match in zip(useful, embeddings, self.gallery.match(embeddings)):
            self.tracker.vote(asking[at], frame.time, embedding, match)

    def rows(self) -> List[Face]:
        """The faces of the last frame as --tracks and --events tell them."""
        return [
            Face(
                track.id,
                track.shown_box(self.time).tolist(),
                track.name,
                track.similarity,
                None if track.name else track.reason,
            )
            for track in self.shown
        ]
