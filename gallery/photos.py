"""Photos in a folder become people: each file ends as enrolled, or refused with a reason.

The layout says who: NAME/anything.jpg or NAME.jpg; beside the default folder gallery/photos also
gallery/NAME.jpg. A file is looked at once: as long as its content (hash) and the rules it was judged
by are the same, it is only reported. Which face counts in a picture with several: the largest, if
every other one is smaller than half of it (somebody far behind) or cannot be recognised (a blurred
pattern on the wall); otherwise the picture is refused, because nobody can tell whom the name means.
A picture whose face is nearest to somebody else, at the model's threshold or above, is refused, too:
one wrong picture would make two people one.
"""
import collections
import hashlib
import json
import sys
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Callable, Deque, Dict, Iterable, Iterator, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np
from tqdm import tqdm

from errors import UsageError
from gallery.reader import Unreadable, decode, read_bytes, readable
from gallery.records import PhotoRow, clean_name
from gallery.report import Report, Result
from gallery.store import Gallery
from settings import Settings

BATCH = 8  # photos a transaction and a run of the embedder; what a kill loses at most, and was not reported
DECODERS = 2  # threads; decoding takes a tenth of the time of looking
OTHER_FACE = 0.5  # another face at least this size of the largest makes a picture ambiguous


class Photo(NamedTuple):
    """One file of one person; `key` is its name in the database: relative to the photo folder where
    it lies in there, else absolute. `asked` files (named on the command line) are looked at again."""

    person: str
    path: Path
    key: str
    asked: bool = False


class Loaded(NamedTuple):
    """A photo after reading: its picture, or the result that reading gave already."""

    photo: Photo
    row: PhotoRow  # outcome still open
    image: Optional[np.ndarray]
    result: Optional[Result]


def scan(folder: Path) -> List[Photo]:
    """All photos under `folder` by name; a folder that is missing holds none."""
    folder = Path(folder)
    found = [(path, path.parent.name if path.parent != folder else path.stem) for path in _files(folder)]
    if folder.parts[-2:] == ("gallery", "photos"):
        found += [(path, path.stem) for path in _pictures(folder.parent)]
    return [Photo(name, path, key_of(path, folder)) for path, name in sorted(found)]


def key_of(path: Path, folder: Path) -> str:
    """How the database calls a file: relative to the photo folder ('../NAME.jpg' beside the default
    one), absolute elsewhere."""
    path, folder = _absolute(path), _absolute(folder)
    if folder in path.parents:
        return path.relative_to(folder).as_posix()
    if path.parent == folder.parent and folder.parts[-2:] == ("gallery", "photos"):
        return "../" + path.name
    return str(path)


def path_of(key: str, folder: Path) -> Path:
    """The file that `key_of` named."""
    return _absolute(folder).parent / key[3:] if key.startswith("../") else _absolute(folder) / key


def _absolute(path: Path) -> Path:
    """Without following links: a linked photo belongs to the folder that it lies in."""
    return Path(path).absolute()


def _files(folder: Path) -> Iterator[Path]:
    yield from _pictures(folder)
    for inner in _listing(folder):
        if not inner.name.startswith(".") and inner.is_dir():
            yield from _pictures(inner)


def _pictures(folder: Path) -> List[Path]:
    return [path for path in _listing(folder) if readable(path) is None and path.is_file()]


def _listing(folder: Path) -> List[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:  # missing, or gone while it was listed
        return []


class PhotoEnroller:
    """Looks at photos with a recognizer and writes what it decides to a gallery."""

    def __init__(self, gallery: Gallery, recognizer: Any, settings: Settings, anyway: bool = False) -> None:
        """`anyway`: take a picture that looks like somebody else, too (twins)."""
        self.gallery = gallery
        self.folder = Path(settings.gallery.photos)
        self._recognizer = recognizer
        self._anyway = anyway
        self._rules = _digest_of(settings, gallery.threshold)

    def run(
        self,
        photos: Optional[Sequence[Photo]] = None,
        progress: bool = False,
        told: Callable[[Result], None] = lambda result: None,
        stop: Optional[threading.Event] = None,
    ) -> Report:
        """Enrol `photos` (default: all of the folder). `told` hears each result once it is stored;
        `progress` draws a bar with the time left on a terminal. Ctrl-C or `stop` end it between two
        batches, and the report says how far it came. Raises StorageError when nothing can be stored."""
        photos = scan(self.folder) if photos is None else photos
        report = Report(len(photos))
        bar = tqdm(total=len(photos), unit="photo", file=sys.stderr, disable=None if progress else True, leave=False)

        def tell(results: Iterable[Result]) -> None:
            for result in results:
                report.add(result)
                bar.update()
                told(result)

        with bar:
            try:
                batch: List[Loaded] = []
                for loaded in self._load_ahead(photos):
                    if stop is not None and stop.is_set():
                        report.interrupted = True
                        break
                    if loaded.result is not None and loaded.result.outcome in ("unchanged", "ignored"):
                        tell([loaded.result])
                        continue
                    batch.append(loaded)
                    if len(batch) == BATCH:
                        ready, batch = batch, []
                        tell(self._enroll(ready))
                else:
                    if batch:
                        tell(self._enroll(batch))
            except KeyboardInterrupt:
                report.interrupted = True
        return report

    # ---- reading ------------------------------------------------------------------------------
    def _load_ahead(self, photos: Sequence[Photo]) -> Iterator[Loaded]:
        """The photos in order, decoded by other threads while the recognizer works on those before."""
        records = self.gallery.records
        known: Optional[Dict[str, PhotoRow]] = None
        if len(photos) > 1:
            known = {row.path: row for row in records.photos("model = ?", [self.gallery.model])}
        waiting: Deque[Future] = collections.deque()
        pool = ThreadPoolExecutor(DECODERS)
        try:
            for photo in photos:
                if known is None:
                    rows = records.photos("model = ? AND path = ?", [self.gallery.model, photo.key])
                    row = rows[0] if rows else None
                else:
                    row = known.get(photo.key)
                waiting.append(pool.submit(self._load, photo, row))
                if len(waiting) > 2 * BATCH:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
            pool.shutdown()

    def _load(self, photo: Photo, known: Optional[PhotoRow]) -> Loaded:
        blank = PhotoRow(
            photo.key, self.gallery.model, photo.person, "", 0, 0, self._rules, "refused", None, None, None, None, 0.0
        )
        if known is not None and (photo.asked or not self._holds(known, photo)):
            known = None
        try:
            try:
                stat = photo.path.stat()
            except OSError as error:
                raise Unreadable(error.strerror or str(error)) from error
            blank = blank._replace(size=stat.st_size, modified=stat.st_mtime_ns)
            if known is not None and (known.size, known.modified) == (blank.size, blank.modified):
                return Loaded(photo, known, None, _as_before(known))
            data = read_bytes(photo.path)
            blank = blank._replace(hash=hashlib.sha256(data).hexdigest())
            if known is not None and known.hash == blank.hash:
                return Loaded(photo, known, None, _as_before(known))
            if not photo.asked and self.gallery.records.ignored(blank.hash):
                return Loaded(photo, blank, None, Result(photo.key, photo.person, "ignored", "deleted"))
            blank = blank._replace(person=clean_name(photo.person))
            return Loaded(photo, blank, decode(data, photo.path.suffix), None)
        except Unreadable as error:
            return Loaded(photo, blank, None, _refused(blank, "unreadable", detail=str(error)))
        except UsageError as error:
            return Loaded(photo, blank, None, _refused(blank, "bad_name", detail=str(error)))

    def _holds(self, known: PhotoRow, photo: Photo) -> bool:
        """Is what was decided before still the decision, if the content is the same?"""
        if known.person not in (photo.person, _clean_or_none(photo.person)):
            return False
        return known.outcome == "enrolled" or known.rules == self._rules

    # ---- looking and deciding -----------------------------------------------------------------
    def _enroll(self, batch: Sequence[Loaded]) -> List[Result]:
        """Decide on a batch and store all of it in one transaction."""
        results: List[Result] = []
        chips: List[np.ndarray] = []
        scores: List[float] = []
        rows: List[int] = []
        for loaded in batch:
            result, chip, score = (loaded.result, None, 0.0) if loaded.image is None else self._look(loaded)
            if result is None and chip is not None:
                rows.append(len(results))
                chips.append(chip)
                scores.append(score)
            results.append(result or Result(loaded.row.path, loaded.row.person, "enrolled"))
        embeddings = self._recognizer.embed_chips(np.stack(chips)) if chips else np.zeros((0, 0), np.float32)
        accepted: Dict[int, int] = {}
        for at, index in enumerate(rows):
            before = [(results[other], accepted[other]) for other in accepted]
            results[index] = self._recognised(results[index], at, embeddings, before)
            if results[index].outcome == "enrolled":
                accepted[index] = at
        self._store(batch, results, accepted, embeddings, chips, scores)
        return results

    def _look(self, loaded: Loaded) -> Tuple[Optional[Result], Optional[np.ndarray], float]:
        """The aligned chip and the quality of the face that counts, or why there is none."""
        image, row = loaded.image, loaded.row
        faces = self._recognizer.detect(image)
        if not faces.count:
            return _refused(row, "no_face"), None, 0.0
        sizes = np.sqrt(np.prod(np.maximum(faces.boxes[:, 2:] - faces.boxes[:, :2], 0), axis=1))
        near = faces.take(np.argsort(-sizes)[: np.count_nonzero(sizes >= OTHER_FACE * sizes.max())])  # largest first
        chips = self._recognizer.chips(image, near.landmarks)
        qualities = self._recognizer.quality(image, near, chips)
        if any(other.reason is None for other in qualities[1:]):
            return _refused(row, "several_faces"), None, 0.0
        if qualities[0].reason is not None:
            return _refused(row, qualities[0].reason), None, 0.0
        return None, chips[0], qualities[0].score

    def _recognised(
        self, result: Result, at: int, embeddings: np.ndarray, batch: Sequence[Tuple[Result, int]]
    ) -> Result:
        """Refuse a face that is nearest to somebody else, in the gallery or earlier in the batch."""
        match = self.gallery.match(embeddings[at : at + 1])[0]
        person, similarity = match.person, match.similarity
        for other, index in batch:
            cosine = float(embeddings[at] @ embeddings[index])
            if person is None or cosine > similarity:
                person, similarity = other.person, cosine
        if person in (None, result.person) or similarity < self.gallery.threshold or self._anyway:
            return result
        return result._replace(outcome="refused", reason="looks_like", other=person, similarity=round(similarity, 4))

    def _store(
        self,
        batch: Sequence[Loaded],
        results: Sequence[Result],
        accepted: Dict[int, int],
        embeddings: np.ndarray,
        chips: Sequence[np.ndarray],
        scores: Sequence[float],
    ) -> None:
        now = self.gallery.records.clock()
        entries: List[Tuple[Any, ...]] = []
        for index, (loaded, result) in enumerate(zip(batch, results)):
            row = loaded.row._replace(
                outcome=result.outcome,
                reason=result.reason,
                other=result.other,
                similarity=result.similarity,
                detail=result.detail,
                looked=now,
            )
            at = accepted.get(index)
            if at is None:
                entries.append((result.person, (), (), "photo", None, row))
            else:
                chip = np.stack([chips[at]])
                entries.append((result.person, embeddings[at : at + 1], scores[at : at + 1], "photo", chip, row))
        self.gallery.enroll_many(entries)
        asked = [loaded.row.hash for loaded in batch if loaded.photo.asked]
        if asked:
            self.gallery.records.heed(asked)


def _refused(row: PhotoRow, reason: str, detail: Optional[str] = None) -> Result:
    return Result(row.path, row.person, "refused", reason, detail=detail)


def _as_before(row: PhotoRow) -> Result:
    return Result(
        row.path, row.person, "unchanged", row.reason, row.other, row.similarity, row.detail, before=row.outcome
    )


def _clean_or_none(name: str) -> Optional[str]:
    try:
        return clean_name(name)
    except UsageError:
        return None


def _digest_of(settings: Settings, threshold: float) -> str:
    """Of what decides on a photo: refused ones get another look when it changes."""
    judged = [vars(settings.quality), vars(settings.detector), vars(settings.mtcnn), vars(settings.scrfd), threshold]
    return hashlib.sha256(json.dumps(judged, sort_keys=True, default=str).encode()).hexdigest()[:16]
