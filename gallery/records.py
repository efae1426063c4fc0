"""Who is stored: people, their embeddings and the photos these came from.

Rows in, rows out: nothing here knows a picture or a match. A person's name is stripped, in Unicode's
NFC and compared exactly. Whatever is deleted goes with all that hangs on it (embeddings, chips,
photo rows, the name in other photos' reports), and `Database.scrub` then takes it out of the files.
"""
import difflib
import time
import unicodedata
from pathlib import Path
from typing import Any, Callable, Dict, Iterable, Iterator, List, NamedTuple, Optional, Sequence, Tuple

import cv2
import numpy as np

from errors import GalleryError, StorageError, UsageError
from gallery.calibrate import Sample, Stored
from gallery.database import Database

NAME_LENGTH = 64
BARRED = ("Cc", "Cf", "Cs", "Co", "Zl", "Zp")  # control, direction, surrogate, private, ends of lines
JOINERS = "\u200c\u200d"  # part of the spelling in Persian and several Indian scripts
NAME_BYTES = 240  # a name is a folder's name, too, and file systems take 255 bytes
UNIT_TOLERANCE = 1e-3  # | |embedding| - 1 |; float32 rounding stays under 1e-6
LOAD_ROWS = 4096  # embeddings read at a time: 8 MB at 512 floats


class Person(NamedTuple):
    """`embeddings` of the asked model; times are seconds since 1970."""

    name: str
    embeddings: int
    photos: int
    added: float
    last_seen: Optional[float]


class Embedding(NamedTuple):
    """`vector` (D,) float32, unit length; `quality` 0..1; `source` camera, photo or import."""

    id: int
    model: str
    quality: float
    source: str
    added: float
    vector: np.ndarray
    photo: Optional[str]
    chip: Optional[bytes]  # PNG


class PhotoRow(NamedTuple):
    """What became of one photo file; `path` is relative to the photo folder, absolute outside it."""

    path: str
    model: str
    person: str
    hash: str
    size: int
    modified: int  # nanoseconds since 1970
    rules: str  # digest of the settings that it was judged by
    outcome: str  # enrolled or refused
    reason: Optional[str]
    other: Optional[str]  # the person it looks like
    similarity: Optional[float]
    detail: Optional[str]
    looked: float


def clean_name(text: str) -> str:
    """`text` stripped and in NFC. Raises UsageError where it cannot be a person's (and a folder's) name."""
    name = unicodedata.normalize("NFC", text).strip()
    bad = [c for c in name if (unicodedata.category(c) in BARRED and c not in JOINERS) or c in "/\\"]
    if not name or bad or name.startswith(".") or len(name) > NAME_LENGTH or len(name.encode()) > NAME_BYTES:
        raise UsageError(
            "{!r} cannot be a name: write 1 to {} characters without / and \\, not beginning with a full stop.".format(
                text, NAME_LENGTH
            )
        )
    return name


class Records:
    """The tables of one database file; a context manager."""

    def __init__(self, path: Path, clock: Callable[[], float] = time.time) -> None:
        self.db = Database(Path(path), clock)
        self.clock = clock

    def __enter__(self) -> "Records":
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        self.db.close()

    # ---- people -------------------------------------------------------------------------------
    def people(self, model: str) -> List[Person]:
        """Everybody, by name."""
        rows = self.db.read(
            "SELECT name, (SELECT count(*) FROM embeddings WHERE person = people.id AND model = ?),"
            " (SELECT count(DISTINCT path) FROM photos WHERE person = people.name AND outcome = 'enrolled'),"
            " added, seen FROM people ORDER BY name",
            [model],
        )
        return [Person(*row) for row in rows]

    def names(self) -> Dict[int, str]:
        return dict(self.db.read("SELECT id, name FROM people"))

    def find(self, name: str) -> int:
        """The person's id. Raises UsageError naming the nearest names."""
        name = clean_name(name)
        rows = self.db.read("SELECT id FROM people WHERE name = ?", [name])
        if rows:
            return rows[0][0]
        near = difflib.get_close_matches(name, self.names().values(), n=3, cutoff=0.5)
        hint = "did you mean {}?".format(" or ".join(near)) if near else "'python -m gallery list' shows all."
        raise UsageError("There is nobody called {} in the gallery; {}".format(name, hint))

    def embeddings(self, name: str, chips: bool = False) -> List[Embedding]:
        """All of one person, of every model, oldest first; with the chips as PNG if asked."""
        rows = self.db.read(
            "SELECT e.id, e.model, e.quality, e.source, e.added, e.vector, photos.path, {} FROM embeddings e"
            " LEFT JOIN photos ON photos.id = e.photo LEFT JOIN chips ON chips.embedding = e.id"
            " WHERE e.person = ? ORDER BY e.id".format("chips.png" if chips else "NULL"),
            [self.find(name)],
        )
        return [Embedding(*(row[:5] + (np.frombuffer(row[5], np.float32),) + row[6:])) for row in rows]

    def add(
        self,
        name: str,
        model: str,
        embeddings: np.ndarray,
        qualities: Sequence[float],
        source: str,
        chips: Optional[np.ndarray] = None,
        photo: Optional[int] = None,
    ) -> List[int]:
        """Store unit embeddings (N, D) float32 with qualities 0..1 and, if given, their aligned
        chips (N, S, S, 3) uint8 BGR; the person is made where new. Returns the
        embeddings' ids. Raises UsageError for a wrong name or array, StorageError when it cannot
        be written (and nothing is)."""
        name = clean_name(name)
        embeddings = checked(embeddings)
        if len(qualities) != len(embeddings) or (chips is not None and len(chips) != len(embeddings)):
            raise UsageError("{} embeddings need as many qualities and chips.".format(len(embeddings)))
        pictures = [] if chips is None else [_png(chip) for chip in chips]
        now = self.clock()
        with self.db.transaction() as db:
            rows = db.read("SELECT id FROM people WHERE name = ?", [name])
            person = rows[0][0] if rows else db.write("INSERT INTO people (name, added) VALUES (?, ?)", [name, now])
            ids = []
            for vector, quality in zip(embeddings, qualities):
                ids.append(
                    db.write(
                        "INSERT INTO embeddings (person, model, quality, source, photo, added, vector)"
                        " VALUES (?, ?, ?, ?, ?, ?, ?)",
                        [person, model, float(quality), source, photo, now, vector.tobytes()],
                    )
                )
            db.write_many("INSERT INTO chips (embedding, png) VALUES (?, ?)", zip(ids, pictures))
        return ids

    def seen(self, times: Dict[str, float]) -> None:
        """When each person was last seen; an older time than the stored one changes nothing."""
        with self.db.transaction() as db:
            db.write_many(
                "UPDATE people SET seen = ? WHERE name = ? AND (seen IS NULL OR seen < ?)",
                [(when, name, when) for name, when in times.items()],
            )

    def rename(self, old: str, new: str) -> None:
        """Raises UsageError when `new` is taken."""
        person, new = self.find(old), clean_name(new)
        if self.db.read("SELECT 1 FROM people WHERE name = ?", [new]):
            raise UsageError("There is already somebody called {}; 'merge {} {}' makes them one.".format(new, old, new))
        with self.db.transaction() as db:
            db.write("UPDATE people SET name = ? WHERE id = ?", [new, person])
            self._renamed_in_photos(clean_name(old), new)
            self._mark_unscrubbed()

    def merge(self, source: str, target: str) -> None:
        """Everything of `source` becomes `target`'s, and `source` is gone."""
        gone, kept = self.find(source), self.find(target)
        if gone == kept:
            raise UsageError("{} cannot be merged with itself.".format(target))
        with self.db.transaction() as db:
            db.write("UPDATE embeddings SET person = ? WHERE person = ?", [kept, gone])
            for column, pick in (("added", "min"), ("seen", "max")):
                value = "(SELECT {}({}) FROM people WHERE id IN (?, ?))".format(pick, column)
                db.write("UPDATE people SET {} = {} WHERE id = ?".format(column, value), [gone, kept, kept])
            db.write("DELETE FROM people WHERE id = ?", [gone])
            self._renamed_in_photos(clean_name(source), clean_name(target))
            self._mark_unscrubbed()

    def delete(self, name: str, ignore: Sequence[str] = ()) -> None:
        """Forget a person, or one of whom only refused photos are known; photos whose content hash
        is in `ignore` are not enrolled again. Raises UsageError when there is neither."""
        name = clean_name(name)
        if not self.db.read("SELECT 1 FROM photos WHERE person = ?", [name]):
            self.find(name)
        with self.db.transaction() as db:
            db.write("DELETE FROM people WHERE name = ?", [name])
            db.write("DELETE FROM photos WHERE person = ? OR other = ?", [name, name])
            now = self.clock()
            db.write_many("INSERT OR REPLACE INTO ignored VALUES (?, ?)", [(digest, now) for digest in ignore])
            self._mark_unscrubbed()

    def empty(self, names: Iterable[str]) -> List[str]:
        """Those of `names` who are stored without any embedding."""
        sql = "SELECT 1 FROM people WHERE name = ? AND NOT EXISTS (SELECT 1 FROM embeddings WHERE person = people.id)"
        return [name for name in names if self.db.read(sql, [name])]

    def _renamed_in_photos(self, old: str, new: str) -> None:
        self.db.write("UPDATE photos SET person = ? WHERE person = ?", [new, old])
        self.db.write("UPDATE photos SET other = ? WHERE other = ?", [new, old])
        self.db.write("DELETE FROM photos WHERE other = person")  # no longer somebody else: looked at again

    def unscrubbed(self) -> bool:
        """Whether deleted content may still lie in the files."""
        return bool(self.db.read("SELECT value FROM counters WHERE name = 'unscrubbed'")[0][0])

    def _mark_unscrubbed(self) -> None:
        self.db.write("UPDATE counters SET value = 1 WHERE name = 'unscrubbed'")

    # ---- photos -------------------------------------------------------------------------------
    def photos(self, where: str = "1", parameters: Sequence[Any] = ()) -> List[PhotoRow]:
        columns = ", ".join(PhotoRow._fields)
        rows = self.db.read("SELECT {} FROM photos WHERE {} ORDER BY path".format(columns, where), parameters)
        return [PhotoRow(*row) for row in rows]

    def put_photo(self, row: PhotoRow) -> int:
        """Inside a transaction: replace what is known of this file, and the embeddings of what it
        was before. Returns the row's id."""
        self.db.write("DELETE FROM photos WHERE path = ? AND model = ?", [row.path, row.model])
        marks = ", ".join("?" * len(row))
        return self.db.write("INSERT INTO photos ({}) VALUES ({})".format(", ".join(row._fields), marks), row)

    def photo_owners(self, paths: Iterable[str]) -> List[str]:
        """The people whom these files are known to show."""
        rows = [self.db.read("SELECT DISTINCT person FROM photos WHERE path = ?", [path]) for path in paths]
        return sorted({row[0] for found in rows for row in found})

    def move_photo(self, old: str, new: str) -> None:
        """Inside a transaction: the file `old` is now called `new`."""
        self.db.write("DELETE FROM photos WHERE path = ?", [new])
        self.db.write("UPDATE photos SET path = ? WHERE path = ?", [new, old])

    def forget_photos(self, paths: Sequence[str]) -> List[str]:
        """Remove these files' rows and embeddings; people who have nothing left go, too, and are
        returned."""
        with self.db.transaction() as db:
            touched = self.photo_owners(paths)
            db.write_many("DELETE FROM photos WHERE path = ?", [(path,) for path in paths])
            empty = self.empty(touched)
            for name in empty:
                self.delete(name)
            self._mark_unscrubbed()
        return empty

    def ignored(self, digest: str) -> bool:
        return bool(self.db.read("SELECT 1 FROM ignored WHERE hash = ?", [digest]))

    def heed(self, digests: Sequence[str]) -> None:
        """Photos with these contents are not ignored any more."""
        with self.db.transaction() as db:
            db.write_many("DELETE FROM ignored WHERE hash = ?", [(digest,) for digest in digests])

    # ---- calibration --------------------------------------------------------------------------
    def samples(self, model: str) -> List[Sample]:
        """All embeddings of `model`, by person."""
        rows = self.db.read(
            "SELECT people.name, e.quality, photos.path, e.vector FROM embeddings e"
            " JOIN people ON people.id = e.person LEFT JOIN photos ON photos.id = e.photo"
            " WHERE e.model = ? ORDER BY people.name, e.id",
            [model],
        )
        return [Sample(row[0], row[1], row[2], np.frombuffer(row[3], np.float32)) for row in rows]

    def calibration(self, model: str) -> Optional[Stored]:
        columns = ", ".join(Stored._fields)
        rows = self.db.read("SELECT {} FROM calibrations WHERE model = ?".format(columns), [model])
        return Stored(*rows[0]) if rows else None

    def calibrate(self, model: str, stored: Optional[Stored]) -> None:
        """Keep `stored` for `model`, or forget what was kept (None)."""
        with self.db.transaction() as db:
            db.write("DELETE FROM calibrations WHERE model = ?", [model])
            if stored is not None:
                sql = "INSERT INTO calibrations (model, {}) VALUES (?, ?, ?, ?, ?, ?, ?)"
                db.write(sql.format(", ".join(Stored._fields)), [model, *stored])

    # ---- for the matrix -----------------------------------------------------------------------
    def vectors(self, model: str, dimension: int, after: int) -> Iterator[Tuple[List[int], List[int], np.ndarray]]:
        """Embeddings of `model` with an id over `after`, ascending, in chunks: ids, people's ids and
        (N, D) float32. Raises GalleryError where one is not a unit vector of `dimension`."""
        sql = "SELECT id, person, vector FROM embeddings WHERE id > ? AND model = ? ORDER BY id"
        for chunk in self.db.chunks(sql, [after, model], LOAD_ROWS):
            ids, people, blobs = zip(*chunk)
            joined = b"".join(blobs)
            if any(len(blob) != 4 * dimension for blob in blobs):
                raise self._damaged(model, dimension)
            rows = np.frombuffer(joined, np.float32).reshape(-1, dimension)
            if not unit(rows).all():
                raise self._damaged(model, dimension)
            yield list(ids), list(people), rows

    def owners(self, model: str) -> Tuple[np.ndarray, np.ndarray]:
        """ids (ascending) and people's ids of all embeddings of `model`, from the index alone."""
        rows = self.db.read("SELECT id, person FROM embeddings WHERE model = ?", [model])
        table = np.array(rows, np.int64).reshape(-1, 2)
        table = table[table[:, 0].argsort()]
        return table[:, 0], table[:, 1]

    def removals(self) -> int:
        """Grows when an embedding was removed or moved, or a person renamed."""
        return self.db.read("SELECT value FROM counters WHERE name = 'removals'")[0][0]

    def _damaged(self, model: str, dimension: int) -> GalleryError:
        return GalleryError(
            "{}: holds embeddings of {} that are not {} floats of unit length; 'python -m gallery check' "
            "names them.".format(self.db.path, model, dimension)
        )


def checked(embeddings: np.ndarray) -> np.ndarray:
    """(N, D) float32 as it may be stored. Raises UsageError."""
    rows = np.ascontiguousarray(embeddings, np.float32)
    if rows.ndim != 2 or not unit(rows).all():
        raise UsageError("Embeddings must be (N, D) of unit length, not {}.".format(np.shape(embeddings)))
    return rows


def unit(rows: np.ndarray) -> np.ndarray:
    """(N, D) -> (N,) bool: of unit length (and so without NaN)."""
    return np.abs(np.einsum("ij,ij->i", rows, rows) - 1) < 2 * UNIT_TOLERANCE


def _png(chip: np.ndarray) -> bytes:
    """Without loss, since another model will be fed from it; about 25 KB at 112x112."""
    done, data = cv2.imencode(".png", chip)
    if not done:
        raise StorageError("A chip of shape {} could not be packed as PNG.".format(np.shape(chip)))
    return data.tobytes()
