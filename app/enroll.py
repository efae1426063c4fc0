"""Guided enrolment: which pictures of a new face are kept, what the person is told, when it is stored.

A state machine without a screen, a clock or a gallery of its own: the loop hands it one embedded
face at a time (`offer`) and what was typed (`event`), draws its `panel`, and stores its `result`.
A picture is kept only if its quality is good, it differs from those already kept (five copies of
one picture teach no more than one) and it shows the same person as they do: a stranger who steps in
front of the camera must not end up under somebody else's name.
"""
from typing import Callable, Dict, List, NamedTuple, Optional, Tuple

import numpy as np

from app.names import clean_name, typed, without_last
from app.show.advice import advice
from app.show.output import Event
from app.show.overlay import Panel
from gallery.match import Match
from gallery.records import NAME_LENGTH
from settings import Enroll

VARIETY = 2  # different pictures that a set holds at least, also after the timeout
HESITATION_S = 0.5  # a warning that comes up by itself is not answered by an Enter pressed before it was read
NO_FACE = "I cannot see the face"
ALIKE = "turn a little"
STRANGER = "this is somebody else: one at a time"
COLLECTING, READY, CONFIRM, DONE, CANCELLED = "collecting", "ready", "confirm", "done", "cancelled"


class Sample(NamedTuple):
    """One picture of the face: `embedding` (D,) float32 of unit length; `chip` (S, S, 3) uint8 BGR,
    the aligned face; `quality` in 0..1 and `reason`, None if usable, as engines.quality gives them."""

    embedding: np.ndarray
    chip: np.ndarray
    quality: float
    reason: Optional[str]


class Enrolled(NamedTuple):
    """What is to be stored: `embeddings` (K, D) float32, `qualities` (K,) float32, `chips` K of
    (S, S, 3) uint8 BGR."""

    name: str
    embeddings: np.ndarray
    qualities: np.ndarray
    chips: List[np.ndarray]


class Enrollment:
    """One person being enrolled. Times are source seconds and must not go back.

    `settings` are those under `enroll`; `threshold` is the lowest cosine similarity of one person's
    pictures; `track_id` the face that was chosen (the loop may set another when the tracker lost
    it: who does not look like the pictures kept so far is refused anyway). `known(name, embeddings)`
    gives the similarity of the person who has that name already to the pictures' embeddings (K, D),
    or None when nobody has it.
    """

    def __init__(
        self,
        settings: Enroll,
        threshold: float,
        track_id: int,
        time: float,
        known: Optional[Callable[[str, np.ndarray], Optional[float]]] = None,
    ) -> None:
        self.track_id = track_id
        self.state = COLLECTING
        self.name = ""  # as typed so far
        self.result: Optional[Enrolled] = None
        self._settings = settings
        self._threshold = threshold
        self._known = known
        self._started = self._time = time
        self._kept: List[Sample] = []
        self._matches: List[Optional[Match]] = []  # of the kept samples
        self._strangers: List[Sample] = []  # refused in a row because they look like somebody else
        self._advice = ""  # why the last picture was refused
        self._notice = ""  # the answer to the last key
        self._warnings: List[str] = []
        self._wanted = False  # Enter was pressed before the set was complete
        self._confirm_from = time

    @property
    def active(self) -> bool:
        """False once it is done or cancelled."""
        return self.state not in (DONE, CANCELLED)

    def offer(self, time: float, sample: Optional[Sample], match: Optional[Match], face_size: float) -> None:
        """One look at the chosen face: `sample` None while it cannot be seen, `match` what the gallery
        says of it, `face_size` the shorter side of its box in pixels."""
        self._time = time
        if self.state not in (COLLECTING, READY) or len(self._kept) >= self._settings.samples:
            return
        self._advice = self._refusal(sample, face_size)
        if sample is not None and not self._advice:
            self._kept.append(sample)
            self._matches.append(match)
        if sample is not None:
            self._follow_change(sample)
        self._settle()

    def event(self, event: Event) -> None:
        """Text, backspace, enter or escape; everything else is ignored."""
        if not self.active:
            return
        if event.kind == "text":
            self._rename(typed(self.name, event.value))
            if len(self.name) >= NAME_LENGTH:
                self._notice = "a name has at most {} characters".format(NAME_LENGTH)
        elif event.kind == "key" and event.value == "backspace":
            self._rename(without_last(self.name))
        elif event.kind == "key" and event.value == "enter":
            self._enter()
        elif event.kind == "key" and event.value == "escape":
            self.state = CANCELLED

    def panel(self) -> Panel:
        """The live panel: what to do now, what was wrong with the last picture, what Enter will do."""
        count, wanted = len(self._kept), self._settings.samples
        if self.state == CONFIRM:
            lines = self._warnings + ["or change the name"]
        else:
            now = "{} of {} pictures: enough".format(count, wanted) if self.state == READY else self._collecting()
            lines = [now, self._notice or self._invitation(), "Enter: store, Esc: cancel"]
        progress = 1.0 if self.state in (READY, CONFIRM, DONE) else count / float(wanted)
        return Panel("New person", lines, self.name, progress, [sample.chip for sample in self._kept])

    def _collecting(self) -> str:
        count, wanted = len(self._kept), self._settings.samples
        late = self._time - self._started >= self._settings.timeout
        if late and count and self._advice == ALIKE:
            return "all pictures are alike: " + ALIKE
        return "{} of {} pictures: {}".format(count, wanted, self._advice or "look at the camera")

    def _invitation(self) -> str:
        return "" if clean_name(self.name) else "type the name"

    def _refusal(self, sample: Optional[Sample], face_size: float) -> str:
        """Why this picture is not kept, in the words of the panel; '' if it is."""
        if sample is None:
            return NO_FACE
        if sample.reason is not None:
            return advice(sample.reason) or sample.reason.replace("_", " ")
        if face_size < self._settings.min_face:
            return advice("too_small")
        if self._kept:
            kept = np.stack([one.embedding for one in self._kept])  # (K, D)
            mean = kept.mean(axis=0)
            if float(mean @ sample.embedding) < self._threshold * float(np.linalg.norm(mean)):
                return STRANGER
            if float((kept @ sample.embedding).max()) > self._settings.max_similarity:
                return ALIKE
        return ""

    def _follow_change(self, sample: Sample) -> None:
        """Start anew when everybody disagrees with the first picture: then that one was the mistake.

        Two pictures that agree are never given up: whoever else stands there, the name being typed
        belongs to them.
        """
        if self._advice != STRANGER or len(self._kept) >= VARIETY:
            self._strangers = []
            return
        alike = all(float(other.embedding @ sample.embedding) >= self._threshold for other in self._strangers)
        self._strangers = (self._strangers if alike else []) + [sample]
        if len(self._strangers) >= self._settings.samples:
            self._kept, self._matches, self._strangers = [], [], []
            self._advice = "a different face: starting again"
            self._started = self._time
            self._wanted, self._notice = False, ""
            self.state = COLLECTING

    def _settle(self) -> None:
        """Complete, or late and varied enough: ready, and stored if Enter was pressed before."""
        enough = len(self._kept) >= self._settings.samples
        late = self._time - self._started >= self._settings.timeout
        if self.state == COLLECTING and (enough or (late and len(self._kept) >= VARIETY)):
            self.state = READY
            if self._wanted:
                self._store()
                self._confirm_from = self._time + HESITATION_S

    def _rename(self, name: str) -> None:
        """Any change of the name takes back an Enter or a warning that belonged to the old one."""
        self.name, self._notice, self._wanted = name, "", False
        if self.state == CONFIRM:
            self.state = READY

    def _enter(self) -> None:
        if not clean_name(self.name):
            self._notice = "type a name first"
        elif self.state == COLLECTING:
            self._wanted = True
            self._notice = "storing when ready"
        elif self.state == READY:
            self._store()
            self._confirm_from = self._time
        elif self.state == CONFIRM and self._time >= self._confirm_from:
            self._finish()

    def _store(self) -> None:
        """Finish, unless the person must be asked first."""
        self._notice = ""
        self._warnings = self._doubts()
        if self._warnings:
            self.state = CONFIRM
        else:
            self._finish()

    def _finish(self) -> None:
        self.state = DONE
        self.result = Enrolled(
            clean_name(self.name),
            np.stack([one.embedding for one in self._kept]).astype(np.float32),
            np.array([one.quality for one in self._kept], np.float32),
            [one.chip for one in self._kept],
        )

    def _doubts(self) -> List[str]:
        """What speaks against storing under this name, in the words of the panel."""
        name = clean_name(self.name)
        embeddings = np.stack([one.embedding for one in self._kept])
        own = self._known(name, embeddings) if self._known is not None else None
        looks_like, similarity = self._looks_like()
        doubts = []
        if looks_like is not None and looks_like != name:
            doubts.append(
                "this looks like {} ({:.2f}): Enter again to enrol {}, or Esc".format(
                    looks_like, similarity, "as a new person" if own is None else "as " + name
                )
            )
        if own is not None and own < self._threshold and looks_like != name:
            doubts.append(
                "there is already a person named {}, who looks different ({:.2f}): Enter again adds this face to"
                " that person".format(name, own)
            )
        return doubts

    def _looks_like(self) -> Tuple[Optional[str], float]:
        """Whom the gallery sees in at least half of the kept pictures, and the mean similarity."""
        seen: Dict[str, List[float]] = {}
        for match in self._matches:
            if match is not None and match.person is not None and match.similarity >= self._threshold:
                seen.setdefault(match.person, []).append(float(match.similarity))
        if not seen:
            return None, 0.0
        person = max(seen, key=lambda one: (len(seen[one]), sum(seen[one]), one))
        mean = sum(seen[person]) / len(seen[person])
        return (person, mean) if 2 * len(seen[person]) >= len(self._kept) else (None, 0.0)
