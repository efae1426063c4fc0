"""Boxes to tracks, and votes to names.

A track follows one face from frame to frame by overlap with its predicted place; a face that the
detector is no longer sure of may go on with a track, but not begin one (Zhang et al. 2022). It asks for an
embedding when it is new, unsure, stale or in doubt, and its name is what its votes agree on. Doubt
comes from the look of the aligned face: when it changes sharply from one frame to the next, someone
else may stand there, so the name is hidden until an embedding has shown that it is the same face.
Everything here follows from the frames alone; there is no clock and no randomness.

Where the constants come from: on friends1.mp4 (edgeface_xs, SCRFD 2.5G key points) the looks of one
person in consecutive frames correlate at 0.76 or more in 95 of 100 cases, those of two people at 0.61
or less in 99 of 100; embeddings of one person in consecutive frames are at 0.59 or more in 99.5 of
100 cases, those of two people never over 0.19. MTCNN finds 52 of 68 faces of Monica at a score of 0.7 and
60 at 0.3, where it also finds three times as many that are none.
"""
import collections
from typing import Container, Deque, Dict, List, Optional

import numpy as np

from engines.detect.boxes import overlaps
from engines.detect.detector import Faces
from engines.quality import Quality
from gallery.match import Match
from settings import Tracking

SAME_LOOK = 0.68  # correlation of two looks of one face; below it a name is in doubt
SAME_LOOK_WEAK = 0.5  # the same for a face whose landmarks are as unsure as the face itself
MEMORY = 8  # embeddings that a track remembers itself by
VOTES = 10  # votes that count
IN_A_ROW = 2  # votes for one person, one after the other, that give a name
SHARE = 0.25  # of the weight of all votes, that a name needs: lucky hits in a long line do not name a stranger
RENAME_IN_A_ROW = 3  # a name changes on more evidence than it took to appear
LOSE_IN_A_ROW = 4  # votes without the name's person, one after the other, that take the name away,
LOSE_AFTER = 2.0  # once so many seconds have passed since the last vote for him
SOON = 0.1  # seconds between the embeddings of a track that is not settled
COAST = 0.1  # seconds for which a name stays at the predicted place of a face that was missed
EAGER_TRIES = 5  # embeddings at that pace before a track counts as a stranger's
MAX_EMBEDDINGS = 6  # faces embedded a frame: more wait for the next, so that a crowd does not stop the picture
WEAK_OVERLAP = 0.5  # IoU of a weak face and the predicted box of its track: a weak face must stay where it was
SMOOTH = 0.5  # share of the newest movement in a track's velocity


class Vote(collections.namedtuple("Vote", "person weight")):
    """One embedding's say: a person's name or None for unknown, weighted by the face's quality."""

    __slots__ = ()


class Identity:
    """Who a track is: the votes of its embeddings, and the memory of its own face."""

    def __init__(self, same: float, in_a_row: int) -> None:
        self.name: Optional[str] = None
        self.similarity: Optional[float] = None  # of the last vote, to the nearest person
        self.unsure = False  # the face may have changed hands: the name is not to be shown
        self.tries = 0  # embeddings since the track began, or began anew
        self._supported = -np.inf  # time of the last vote for the name
        self._same = same
        self._in_a_row = in_a_row
        self._votes: Deque[Vote] = collections.deque(maxlen=VOTES)
        self._memory: Deque[np.ndarray] = collections.deque(maxlen=MEMORY)
        self._strange = 0

    def remembers(self, embedding: np.ndarray) -> bool:
        """Is this the face that was here before?"""
        return not self._memory or bool(np.max(np.stack(self._memory) @ embedding) >= self._same)

    @property
    def judged(self) -> bool:
        """Has it had a vote at all? If not, nobody can call it unknown."""
        return bool(self._votes)

    def add(self, time: float, embedding: np.ndarray, person: Optional[str], similarity: float, weight: float) -> None:
        """Count one vote. `person` is None where no one is near enough, `weight` 0 for a face too poor to vote."""
        self.tries += 1
        if not self.remembers(embedding) and (person is None or person != self.name):
            self._strange += 1
            self.unsure = True
            if weight == 0 or (self._strange < IN_A_ROW and person is None):
                return
            self.start_anew()
        self._strange = 0
        self.unsure = False
        if weight == 0:
            return
        self.similarity = similarity
        self._memory.append(embedding)
        self._votes.append(Vote(person, weight))
        self._decide(time, person)

    @property
    def halfway(self) -> bool:
        """The last vote was for someone who has not got the name yet: the next look decides."""
        return self.name is None and bool(self._votes) and self._votes[-1].person is not None

    def start_anew(self) -> None:
        """Forget who it was."""
        self.name = None
        self.tries = 0
        self._votes.clear()
        self._memory.clear()

    def _decide(self, time: float, person: Optional[str]) -> None:
        if self.name is None:
            if person is not None and self._run(person) >= self._in_a_row and self._leads(person):
                self.name = person
        elif person is None:
            if self._run(None) >= LOSE_IN_A_ROW and time - self._supported >= LOSE_AFTER:
                self.start_anew()
        elif person != self.name:
            self.unsure = True
            if self._run(person) >= RENAME_IN_A_ROW and self._leads(person):
                self.name, self.unsure = person, False
        if person is not None and person == self.name:
            self._supported = time

    def _run(self, person: Optional[str]) -> int:
        """How many of the newest votes, without a break, are for `person`."""
        count = 0
        for vote in reversed(self._votes):
            if vote.person != person:
                break
            count += 1
        return count

    def _leads(self, person: str) -> bool:
        weights: Dict[Optional[str], float] = collections.defaultdict(float)
        for vote in self._votes:
            weights[vote.person] += vote.weight
        others = max((weights[other] for other in weights if other not in (None, person)), default=0.0)
        return weights[person] > others and weights[person] >= SHARE * sum(weights.values())


class Track:
    """One face over time. `row` is its place among the frame's faces, None while it is out of sight."""

    def __init__(self, number: int, time: float, identity: Identity) -> None:
        self.id = number
        self.identity = identity
        self.box = np.zeros(4, np.float32)  # x1 y1 x2 y2, pixels of the frame
        self.row: Optional[int] = None
        self.hits = 0
        self.confirmed = False
        self.weak = False  # its last face was found at a score that does not begin a track
        self.quality: Optional[Quality] = None
        self.names: set = set()  # every name that was ever shown
        self.seen = time
        self.sure = time  # when it was last found at a score that begins a track
        self.embedded = -np.inf
        self.doubt = False  # its look changed sharply since it was last embedded
        self._look: Optional[np.ndarray] = None
        self._velocity = np.zeros(4, np.float32)  # pixels a second, of the box's four sides

    @property
    def name(self) -> Optional[str]:
        """The name to show: None while the track is new, unsure or a stranger's."""
        return None if self.identity.unsure or not self.confirmed else self.identity.name

    @property
    def similarity(self) -> Optional[float]:
        return self.identity.similarity

    @property
    def reason(self) -> Optional[str]:
        """Why it cannot be recognised, where that was measured (engines.quality.REASONS)."""
        return self.quality.reason if self.quality else None

    def shown_box(self, time: float) -> np.ndarray:
        """Where to draw it (4,): where it was found, or where it should be if it was missed."""
        return self.box if self.row is not None else self.predict(time)

    def predict(self, time: float) -> np.ndarray:
        """Where the face should be at `time`: constant velocity, for as long as it was last seen moving."""
        return self.box + self._velocity * np.float32(time - self.seen)

    def place(self, time: float, row: int, box: np.ndarray, look: np.ndarray, confirm: int) -> None:
        """The face was found at `box`; a look unlike the last one puts the name in doubt."""
        passed = time - self.seen
        if self.hits and passed > 0:
            self._velocity += np.float32(SMOOTH) * ((box - self.box) / np.float32(passed) - self._velocity)
        least = SAME_LOOK_WEAK if self.weak else SAME_LOOK
        if self._look is not None and self.identity.name is not None and float(self._look @ look) < least:
            self.identity.unsure = self.doubt = True
        self.box, self._look, self.row, self.seen = box, look, row, time
        self.hits += 1
        self.confirmed = self.confirmed or self.hits >= confirm

    def waits(self, time: float, settings: Tracking) -> float:
        """How long an embedding has been due, in seconds; negative while it is not."""
        identity = self.identity
        if self.doubt or identity.halfway:
            return np.inf
        if identity.name is None or identity.unsure:
            pause = SOON if identity.tries < EAGER_TRIES else settings.retry
        else:
            pause = settings.refresh
        return time - self.embedded - pause + 1e-6


class Tracker:
    """All tracks of one source. `threshold` and `margin` are the gallery's for the embedder in use."""

    def __init__(
        self, settings: Tracking, threshold: float, margin: float, strong: float, still: bool = False
    ) -> None:
        """`strong`: the lowest score of a face that begins a track; `still`: pictures that have nothing
        to do with each other, where one look must do."""
        self.tracks: List[Track] = []
        self.ended: List[Track] = []  # the confirmed ones that the last update ended
        self._settings = settings
        self._threshold = threshold
        self._margin = margin
        self._strong = strong
        self._confirm = 1 if still else settings.confirm
        self._in_a_row = 1 if still else IN_A_ROW
        self._next = 1

    def update(self, time: float, cut: bool, faces: Faces, looks: np.ndarray) -> List[Track]:
        """Give each face its track, in the order of the faces' rows; at a cut all tracks end.

        looks (N, P) float32 of unit length: the aligned faces, small, grey and without their mean.
        """
        self.ended = []
        if cut:
            self._end(self.tracks)
        for track in self.tracks:
            track.row = None
        strong = faces.scores >= self._strong
        self._place(time, faces, looks, np.flatnonzero(strong), self._settings.min_overlap)
        free = set(np.flatnonzero(strong)) - {track.row for track in self.tracks}
        self._place(time, faces, looks, np.flatnonzero(~strong), WEAK_OVERLAP)
        self._end([track for track in self.tracks if self._lost(track, time)])
        for row in sorted(free):
            track = Track(self._next, time, Identity(self._threshold, self._in_a_row))
            track.place(time, int(row), faces.boxes[row], looks[row], self._confirm)
            self.tracks.append(track)
            self._next += 1
        return sorted((track for track in self.tracks if track.row is not None), key=lambda track: track.row or 0)

    def wanting(self, time: float) -> List[Track]:
        """The tracks in sight whose faces should be embedded now, the most urgent first."""
        in_sight = [track for track in self.tracks if track.row is not None and track.confirmed]
        due = sorted(((track.waits(time, self._settings), -track.id, track) for track in in_sight), reverse=True)
        return [track for wait, _, track in due[:MAX_EMBEDDINGS] if wait >= 0]

    def coasting(self, time: float) -> List[Track]:
        """Named tracks whose face was missed just now and whose place nobody else has taken."""
        missed = [track for track in self.tracks if track.row is None and track.name is not None]
        missed = [track for track in missed if time - track.seen <= COAST + 1e-6]
        others = [track.box for track in self.tracks if track.row is not None]
        if not missed or not others:
            return missed
        overlap = overlaps(np.stack([track.predict(time) for track in missed]), np.stack(others)).max(axis=1)
        return [track for track, most in zip(missed, overlap) if most == 0]

    def vote(self, track: Track, time: float, embedding: np.ndarray, match: Match) -> None:
        """Count the embedding of a track's face; its `quality` must be set."""
        sure = match.similarity >= self._threshold and match.margin >= self._margin
        usable = track.quality is not None and track.quality.reason is None and not track.weak
        weight = track.quality.score if track.quality is not None and usable else 0.0
        track.embedded, track.doubt = time, False
        track.identity.add(time, embedding, match.person if sure else None, match.similarity, weight)

    def people_changed(self, known: Container[str]) -> None:
        """The gallery changed: every track is looked at again, and who was deleted is named no more."""
        for track in self.tracks:
            track.embedded = -np.inf
            if track.identity.name is not None and track.identity.name not in known:
                track.identity.start_anew()

    def finish(self) -> None:
        """The source has ended, and all tracks with it."""
        self.ended = []
        self._end(self.tracks)

    def _lost(self, track: Track, time: float) -> bool:
        """Not found for sure for too long, or gone before it was more than a flicker."""
        return (track.row is None and not track.confirmed) or time - track.sure > self._settings.max_gap

    def _end(self, tracks: List[Track]) -> None:
        self.ended += [track for track in tracks if track.confirmed]
        self.tracks = [track for track in self.tracks if track not in tracks]

    def _place(self, time: float, faces: Faces, looks: np.ndarray, rows: np.ndarray, least: float) -> None:
        """Hand `rows` to the tracks that have none yet, the greatest overlap first, down to `least`."""
        open_tracks = [track for track in self.tracks if track.row is None]
        if not open_tracks or not len(rows):
            return
        overlap = overlaps(np.stack([track.predict(time) for track in open_tracks]), faces.boxes[rows])
        while overlap.max() >= least:
            place, at = np.unravel_index(int(overlap.argmax()), overlap.shape)
            track, row = open_tracks[int(place)], int(rows[at])
            track.weak = bool(faces.scores[row] < self._strong)
            track.place(time, row, faces.boxes[row], looks[row], self._confirm)
            track.sure = track.sure if track.weak else time
            overlap[place, :] = -1
            overlap[:, at] = -1
