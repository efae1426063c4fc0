"""Photos that are dropped into the folder while the kiosk runs.

A thread polls the folder (inotify neither sees network shares nor tells when a copy is complete) and
enrols each file once its size and time have stood still for a second. It works one photo at a time
with a recognizer of its own, so the loop waits neither for it nor for its disk.
"""
import queue
import threading
import time
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Tuple

from errors import KioskError
from gallery.photos import Photo, PhotoEnroller, scan
from gallery.report import Result
from gallery.store import Gallery
from settings import Settings

POLL_S = 0.5
SETTLE_S = 1.0  # a file that did not change for so long is taken as complete

Signature = Tuple[int, int]  # size in bytes, time of change in nanoseconds


class PhotoWatcher:
    """A context manager around one thread. `news` gives what became of new photos; `problem` is one
    sentence while they cannot be stored."""

    def __init__(self, gallery: Gallery, open_recognizer: Callable[[], Any], settings: Settings) -> None:
        """`open_recognizer` makes a recognizer (a context manager) for this thread alone; it is
        called when there is a first photo to look at."""
        self.problem: Optional[str] = None
        self._gallery = gallery
        self._open_recognizer = open_recognizer
        self._settings = settings
        self._folder = Path(settings.gallery.photos)
        self._recognizer: Any = None
        self._settling: Dict[Path, Tuple[Signature, float]] = {}
        self._done: Dict[Path, Signature] = {}
        self._news: queue.Queue[Result] = queue.Queue()
        self._stop = threading.Event()
        self._thread: Optional[threading.Thread] = None

    def start(self) -> None:
        self._thread = threading.Thread(target=self._work, name="photos", daemon=True)
        self._thread.start()

    def news(self) -> List[Result]:
        """What was decided since the last call; files that were known before are not in it."""
        told = []
        while not self._news.empty():
            told.append(self._news.get())
        return told

    def look(self, now: float) -> List[Result]:
        """One poll at `now` (monotonic seconds); what the thread does every POLL_S."""
        present = {photo.path: photo for photo in scan(self._folder)}
        self._settling = {path: state for path, state in self._settling.items() if path in present}
        self._done = {path: signature for path, signature in self._done.items() if path in present}
        told = []
        for path, photo in present.items():
            if self._stop.is_set():
                break
            signature = _signature(path)
            if signature is None or self._done.get(path) == signature:
                continue
            if self._settling.get(path, (None, 0.0))[0] != signature:
                self._settling[path] = (signature, now)
            elif now - self._settling[path][1] >= SETTLE_S:
                told += self._enroll(photo)
                self._done[path] = signature
                del self._settling[path]
        return told

    def close(self) -> None:
        """Finish the photo in work and end the thread. Closing twice is harmless."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        if self._recognizer is not None:
            self._recognizer.close()
            self._recognizer = None

    def __enter__(self) -> "PhotoWatcher":
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _enroll(self, photo: Photo) -> List[Result]:
        # Known files are told apart by their rows alone, so that no recognizer is made for them.
        enroller = PhotoEnroller(self._gallery, _Lazy(self._recognizer_now), self._settings)
        results = enroller.run([photo], stop=self._stop).results
        return [result for result in results if result.outcome != "unchanged"]

    def _recognizer_now(self) -> Any:
        if self._recognizer is None:
            self._recognizer = self._open_recognizer()
        return self._recognizer

    def _work(self) -> None:
        while not self._stop.wait(POLL_S):
            try:
                for result in self.look(time.monotonic()):
                    self._news.put(result)
                self.problem = None
            except (KioskError, OSError) as error:  # a full disk, a folder that went away: tried again
                self.problem = str(error)


class _Lazy:
    """A recognizer that is made when it is first asked for something."""

    def __init__(self, make: Callable[[], Any]) -> None:
        self._make = make

    def __getattr__(self, name: str) -> Any:
        return getattr(self._make(), name)


def _signature(path: Path) -> Optional[Signature]:
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_size, stat.st_mtime_ns
