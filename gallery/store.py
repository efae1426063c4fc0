"""The gallery as the kiosk's loop knows it: match, enroll, people, changed.

It joins the tables on the disk with the matrix in memory. `match` reads one immutable state and
takes no lock, so it may run while another thread enrols. The state is brought up to date by what
this process enrols at once, and by what other processes do within half a second (`changed`).
"""
import threading
import time
import unicodedata
from typing import Callable, Dict, Iterable, List, NamedTuple, Optional, Sequence, Tuple, Union

import numpy as np

from errors import GalleryError, KioskError, UsageError
from gallery.calibrate import MARGIN
from gallery.match import EMPTY, Match, Matrix, Snapshot, nearest
from gallery.records import Person, PhotoRow, Records
from settings import AUTO, Settings

LOOK_S = 0.5  # seconds between two looks for other processes' changes
SEEN_S = 60.0  # seconds between two times that last-seen times are written


class State(NamedTuple):
    """What one match sees: a matrix and the names of its people, in the same order."""

    snapshot: Snapshot
    names: Tuple[str, ...]


class Gallery:
    """Open it with `Gallery.open`; a context manager. `threshold` is the lowest cosine of a known
    face, `margin` the lead that the nearest person needs; `problem` is one sentence while something
    cannot be stored, else None."""

    def __init__(
        self, records: Records, model: str, dimension: int, threshold: float, keep_chips: bool, margin: float = MARGIN
    ) -> None:
        self.records = records
        self.model = model
        self.dimension = dimension
        self.threshold = threshold
        self.margin = margin
        self.keep_chips = keep_chips
        self._matrix = Matrix(dimension)
        self._state = State(EMPTY, ())
        self._removals = -1
        self._version = records.db.version()
        self._next_look = 0.0
        self._seen: Dict[str, float] = {}
        self._seen_written: Optional[float] = None
        self._writer: Optional[threading.Thread] = None
        self._trouble: Optional[str] = None
        self.refresh()
        self._told = self._state

    @classmethod
    def open(
        cls, settings: Settings, model: str, dimension: int, threshold: float, clock: Callable[[], float] = time.time
    ) -> "Gallery":
        """Open settings.gallery.database, making it where it is missing, and read the embeddings of
        `model` into memory. `threshold` is the model's own; where settings.recognition says auto, a
        calibrated one takes its place. `clock` gives the time of day. Raises GalleryError when the file is
        damaged (it is kept); a file that cannot be written is opened for reading, see `problem`."""
        records = Records(settings.gallery.database, clock)  # type: ignore[arg-type]
        try:
            wanted, stored = settings.recognition, records.calibration(model)
            if stored is not None and wanted.threshold == AUTO:
                threshold = stored.threshold
            margin = stored.margin if stored is not None else MARGIN
            if wanted.margin != AUTO:
                margin = float(wanted.margin)
            return cls(records, model, dimension, threshold, settings.gallery.keep_chips, margin)
        except BaseException:
            records.close()
            raise

    def __enter__(self) -> "Gallery":
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Write the last-seen times and close the file."""
        if self._writer is not None:
            self._writer.join()
        self._write_seen()
        self.records.close()

    # ---- who is it ----------------------------------------------------------------------------
    def match(self, embeddings: np.ndarray) -> List[Match]:
        """One Match for each of `embeddings` (N, D) float32, unit length. Decides nothing: compare
        `similarity` with `threshold` and look at `margin`."""
        state = self._state
        if not len(embeddings):
            return []
        if embeddings.shape[1] != self.dimension:
            raise UsageError("{} gives {} numbers, not {}.".format(self.model, self.dimension, embeddings.shape[1]))
        if not state.names:
            return nearest(np.zeros((len(embeddings), 0), np.float32), ())
        queries = np.ascontiguousarray(embeddings, np.float32)
        return nearest(state.snapshot.similarities(queries), state.names)

    def similarity_to(self, name: str, embeddings: np.ndarray) -> Optional[float]:
        """The best cosine of `embeddings` (N, D) to those of `name`; None when nobody known to this
        model is called so. The name is compared exactly, in NFC."""
        state = self._state
        name = unicodedata.normalize("NFC", name).strip()
        if name not in state.names or not len(embeddings):
            return None
        queries = np.ascontiguousarray(embeddings, np.float32)
        return float(state.snapshot.similarities(queries)[:, state.names.index(name)].max())

    @property
    def names(self) -> Tuple[str, ...]:
        """The people who can be recognised by this model."""
        return self._state.names

    @property
    def count(self) -> int:
        """How many they are."""
        return len(self._state.names)

    def people(self) -> List[Person]:
        """Everybody stored, by name, also those known to other models only."""
        return self.records.people(self.model)

    @property
    def problem(self) -> Optional[str]:
        return self.records.db.problem or self._trouble

    # ---- what changes -------------------------------------------------------------------------
    def enroll(
        self,
        name: str,
        embeddings: np.ndarray,
        qualities: Sequence[float],
        source: str,
        chips: Optional[np.ndarray] = None,
        photo: Optional[PhotoRow] = None,
    ) -> List[int]:
        """Store (N, D) unit embeddings of `name` in one transaction, visible to `match` at once.

        `qualities` 0..1; `source` is camera, photo or import; `chips` (N, S, S, 3) uint8 BGR are
        kept if gallery.keep_chips; `photo` is the report of the file that they came from. Returns
        their ids. Raises UsageError for a wrong name or array and StorageError when nothing could
        be stored; those enrolled before are still matched then. Waits for the disk."""
        return self.enroll_many([(name, embeddings, qualities, source, chips, photo)])

    def enroll_many(self, batch: Sequence[tuple]) -> List[int]:
        """Several `enroll` in one transaction; an entry without embeddings only reports its photo."""
        ids: List[int] = []
        with self.records.db.lock:
            with self.records.db.transaction() as db:
                owners = self.records.photo_owners(photo.path for *_, photo in batch if photo is not None)
                for name, embeddings, qualities, source, chips, photo in batch:
                    row = None if photo is None else self.records.put_photo(photo)
                    shape = np.shape(embeddings)
                    if shape[:1] == (0,):
                        continue
                    if shape[1:] != (self.dimension,):
                        raise UsageError("{} gives (N, {}) numbers, not {}.".format(self.model, self.dimension, shape))
                    chips = chips if self.keep_chips else None
                    ids += self.records.add(name, self.model, embeddings, qualities, source, chips, row)
                for name in self.records.empty(owners):  # whose only photo is another picture now
                    db.write("DELETE FROM people WHERE name = ?", [name])
            self.refresh()
        return ids

    def changed(self, now: Optional[float] = None) -> bool:
        """True once after each change of who is known, by this process or by another.

        Cheap, for every frame: looks for other processes' changes at most every half second of `now`
        (monotonic seconds) and never waits for another thread. Trouble with the file goes to `problem`."""
        now = time.monotonic() if now is None else now
        if now >= self._next_look and self.records.db.lock.acquire(blocking=False):
            try:
                self._next_look = now + LOOK_S
                self._look()
            finally:
                self.records.db.lock.release()
        told, self._told = self._told, self._state
        return told is not self._told

    def _look(self) -> None:
        db = self.records.db
        try:
            if db.replaced():
                self._trouble = "{}: was moved or replaced; restart the kiosk to use what is there.".format(db.path)
                return
            version = db.version()
            if version != self._version:
                self._version = version
                self.refresh()
                self._trouble = None
        except KioskError as error:  # the people in memory are still recognised
            self._trouble = str(error)

    def seen(self, names: Union[str, Iterable[str]], when: float) -> None:
        """Remember that `names` were seen at `when` (seconds since 1970); written once a minute, in a
        thread of its own, and on closing."""
        for name in [names] if isinstance(names, str) else names:
            self._seen[name] = when
        if self._seen_written is None:
            self._seen_written = when
        if when - self._seen_written >= SEEN_S and (self._writer is None or not self._writer.is_alive()):
            self._seen_written = when
            self._writer = threading.Thread(target=self._write_seen, name="gallery-seen", daemon=True)
            self._writer.start()

    def _write_seen(self) -> None:
        times, self._seen = self._seen, {}
        if not times:
            return
        try:
            self.records.seen(times)
        except GalleryError:  # StorageError is in `problem` already; keep them for the next time
            for name, when in times.items():
                self._seen.setdefault(name, when)

    def refresh(self) -> None:
        """Bring the matrix up to the database now. All reads see one state."""
        with self.records.db.reading():
            matrix = self._matrix
            removals = self.records.removals()
            if removals != self._removals:
                matrix.keep(*self.records.owners(self.model))
            fresh = False
            last = int(matrix.ids[-1]) if len(matrix.ids) else 0
            for ids, owners, rows in self.records.vectors(self.model, self.dimension, last):
                matrix.append(ids, owners, rows)
                fresh = True
            if not fresh and removals == self._removals:
                return
            self._removals = removals
            matrix.publish()
            names = self.records.names()
            self._state = State(matrix.snapshot, tuple(names[person] for person in matrix.snapshot.people))
