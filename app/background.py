"""One thread for what the loop must not wait for: storing people and saving pictures, in order."""
import queue
import threading
from typing import Callable, List, Optional

from errors import KioskError


class Background:
    """Runs jobs one after the other; `close` waits for those that were given."""

    def __init__(self) -> None:
        self._jobs = queue.Queue()  # type: queue.Queue[Optional[Callable[[], object]]]
        self._failures = queue.Queue()  # type: queue.Queue[str]
        self._thread = threading.Thread(target=self._work, name="background", daemon=True)
        self._thread.start()

    def do(self, job: Callable[[], object]) -> None:
        """Run `job` soon; what it raises is told by `failures`."""
        self._jobs.put(job)

    def failures(self) -> List[str]:
        """One sentence for each job that failed since the last call."""
        told = []
        while not self._failures.empty():
            told.append(self._failures.get())
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
                job()
            except (KioskError, OSError) as error:
                self._failures.put(str(error))
