"""Lines of JSON for other programs: who comes and goes (--events), and every frame (--tracks).

Both are written past Python's buffers, a line at a time, so that a reader sees each line at once
and a kill tears none. What cannot be written (a full disk, a reader that went away) is told in one
line, once, and never stops the kiosk.
"""
import io
import json
import os
import sys
from datetime import datetime, timezone
from typing import Any, Callable, Dict, Iterable, NamedTuple, Optional, Sequence

from errors import KioskError

GRACE_S = 5.0  # source time without the name until somebody has left: longer than a flicker or a cut away
STDOUT = "-"


class Face(NamedTuple):
    """One face of one frame: `track` the track's number; `box` x1 y1 x2 y2 in pixels of the frame;
    `name` and `similarity` (cosine) None while unknown; `reason` a code of engines.quality, or None."""

    track: int
    box: Sequence[float]
    name: Optional[str]
    similarity: Optional[float]
    reason: Optional[str]


def _to_stderr(line: str) -> None:
    print(line, file=sys.stderr)


class Lines:
    """A file of JSON lines, or the standard output for '-'. A context manager; closing twice is harmless.

    `say` tells a person one line. Raises KioskError when the file cannot be opened.
    """

    def __init__(self, target: str, append: bool = False, say: Callable[[str], None] = _to_stderr) -> None:
        self._target = "standard output" if target == STDOUT else target
        self._say = say
        self._told = False
        try:
            if target == STDOUT:
                sys.stdout.flush()
                self._file = io.FileIO(sys.stdout.fileno(), "w", closefd=False)
            else:
                # Not FileIO's own mode "a": up to Python 3.6 it seeks, which a named pipe cannot.
                flags = os.O_WRONLY | os.O_CREAT | (os.O_APPEND if append else os.O_TRUNC)
                self._file = io.FileIO(os.open(target, flags, 0o666), "w")
            self._torn = append and _ends_torn(target)  # the last line is on the disk in part
        except OSError as error:
            message = "{}: cannot be written ({}); name a file that can."
            raise KioskError(message.format(self._target, error.strerror or error)) from error

    def write(self, record: Dict[str, Any]) -> None:
        """Append one line. A failure is told once and goes no further."""
        text = json.dumps(record, ensure_ascii=False, default=_plain)
        # A name from a file name may hold half a surrogate pair: its \udcff is what JSON would write.
        line = ("\n" if self._torn else "").encode() + text.encode("utf-8", "backslashreplace") + b"\n"
        written = 0
        try:
            while written < len(line):
                count = self._file.write(line[written:])
                if not count:  # None: a reader that is behind, on a pipe that does not block
                    raise BlockingIOError(11, "nobody reads it")
                written += count
            self._torn = False
        except (OSError, ValueError) as error:
            self._torn = self._torn or written > 0
            if not self._told:
                self._told = True
                reason = getattr(error, "strerror", None) or str(error)
                self._say("{}: lines are lost ({}); the kiosk goes on.".format(self._target, reason))

    def close(self) -> None:
        try:
            self._file.close()
        except OSError:
            pass  # nothing is buffered here, so nothing is lost

    def __enter__(self) -> "Lines":
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def _ends_torn(target: str) -> bool:
    """True where a file's last line has no end: a kill or a full disk cut it."""
    if target == STDOUT or not os.path.isfile(target) or not os.path.getsize(target):
        return False
    with open(target, "rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) != b"\n"


def _plain(value: Any) -> Any:
    """NumPy's numbers and arrays as Python's."""
    return value.tolist() if hasattr(value, "tolist") else str(value)


class Tracks:
    """--tracks: one line for each processed frame; the file starts anew."""

    def __init__(self, target: str, say: Callable[[str], None] = _to_stderr) -> None:
        self._lines = Lines(target, say=say)

    def frame(self, index: int, time: float, faces: Iterable[Face]) -> None:
        """`index` and `time` (s) of the frame as the source counts them."""
        rows = [
            {
                "track": int(face.track),
                "box": [round(float(edge), 2) for edge in face.box],
                "name": face.name,
                "similarity": _rounded(face.similarity),
                "reason": face.reason,
            }
            for face in faces
        ]
        self._lines.write({"frame": int(index), "time": round(float(time), 6), "faces": rows})

    def close(self) -> None:
        self._lines.close()


class _Stay:
    """Somebody known who is here."""

    __slots__ = ("arrived", "seen", "similarity", "track")

    def __init__(self, time: float) -> None:
        self.arrived = self.seen = time
        self.similarity: Optional[float] = None
        self.track = 0


class Events:
    """--events: a line when somebody known arrives or leaves, added to what the file holds.

    Arrives: the first frame with the name. Leaves: when no track has had the name for GRACE_S of
    source time; `seconds` of that line is the stay from the arrival to the last frame with the
    name, `similarity` and `track` are those of that frame. `time` is the source's, `wall` is when
    the line was written, with the offset from UTC.
    """

    def __init__(
        self,
        target: str,
        say: Callable[[str], None] = _to_stderr,
        now: Callable[[], datetime] = lambda: datetime.now(timezone.utc).astimezone(),
    ) -> None:
        self._lines = Lines(target, append=True, say=say)
        self._now = now
        self._time = 0.0
        self._present: Dict[str, _Stay] = {}

    def frame(self, time: float, faces: Iterable[Face]) -> None:
        """The faces of one frame at `time` (s); those without a name are passed over."""
        self._time = time
        # Who is overdue leaves before who is here now is taken in: after a gap longer than the
        # grace (a camera that was down) nobody knows that the person stayed.
        for name in [name for name, stay in self._present.items() if time - stay.seen > GRACE_S]:
            self._leave(name)
        for face in faces:
            if not face.name:
                continue
            stay = self._present.get(face.name)
            if stay is None:
                stay = self._present[face.name] = _Stay(time)
                self._write("arrive", face.name, face.similarity, face.track)
            stay.seen, stay.similarity, stay.track = time, face.similarity, face.track

    def close(self) -> None:
        """The end of the run: everybody who is here leaves."""
        for name in list(self._present):
            self._leave(name)
        self._lines.close()

    def _leave(self, name: str) -> None:
        stay = self._present.pop(name)
        self._write("leave", name, stay.similarity, stay.track, seconds=round(stay.seen - stay.arrived, 3))

    def _write(self, event: str, name: str, similarity: Optional[float], track: int, **more: float) -> None:
        record = {
            "time": round(float(self._time), 3),
            "wall": self._now().isoformat(timespec="milliseconds"),
            "event": event,
            "name": name,
            "similarity": _rounded(similarity),
            "track": int(track),
        }  # type: Dict[str, Any]
        record.update(more)
        self._lines.write(record)


def _rounded(similarity: Optional[float]) -> Optional[float]:
    return None if similarity is None else round(float(similarity), 4)
