"""One thread for what the loop must not wait for: storing people and saving pictures, in order."""
import queue
import threading
from typing import Callable, List, Optional, Tuple

from errors import KioskError

Job = Tuple[Callable[[], object], str]


class Background:
    """Runs jobs one after the other; `close` waits for those that were given."""

    def __init__(self) -> None:
        self._jobs: queue.Queue[Optional[Job]] = queue.Queue()
        self._news: queue.Queue[str] = queue.Queue()
        self._thread = threading.Thread(target=self._work, name="background", daemon=True)
        self._thread.start()

    def do(self, job: Callable[[], object], done: str) -> None:
        """Run `job` soon; `news` tells `done` once it has succeeded, or why it failed."""
        self._jobs.put((job, done))

    def news(self) -> List[str]:
        """One sentence for each job that ended since the last call."""
        told = []
        while not self._news.empty():
            told.append(self._news.get())
        return told

    def close(self) -> None:
        """Finish what was given, then end the thread. Closing twice is harmless."""
        self._jobs.put(None)
        self._thread.join()

    def _work(self) -> None:
        while True:
            job = self._jobs.get()
            if job is None:
                return
            try:
                job[0]()
                self._news.put(job[1])
            except (KioskError, OSError) as error:
                self._news.put(str(error))
