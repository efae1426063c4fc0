"""What became of each photo, in codes for the database and in sentences for people."""
import time
from typing import Any, Dict, List, NamedTuple, Optional

SENTENCES = {
    "no_face": "no face",
    "several_faces": "several faces; cut the picture to one",
    "too_small": "the face is too small",
    "blurred": "the face is blurred",
    "too_dark": "the face is too dark",
    "too_bright": "the face is too bright",
    "turned_away": "the face is turned away",
    "cut_off": "the face is cut off by the edge",
    "unreadable": "unreadable: {detail}",
    "bad_name": "{detail}",
    "looks_like": "looks like {other} at {similarity:.2f}",
    "deleted": "the person was deleted; 'python -m gallery enroll NAME PHOTO' takes it in again",
}


class Result(NamedTuple):
    """One photo. `outcome` is enrolled, refused, unchanged (looked at before; `before` says how it
    ended then) or ignored; `reason` a key of SENTENCES; `path` as the database has it."""

    path: str
    person: str
    outcome: str
    reason: Optional[str] = None
    other: Optional[str] = None
    similarity: Optional[float] = None
    detail: Optional[str] = None
    before: Optional[str] = None

    @property
    def sentence(self) -> str:
        """Why, for people; '' when enrolled."""
        if self.reason is None:
            return ""
        text = SENTENCES.get(self.reason, self.reason.replace("_", " "))
        similarity = 0.0 if self.similarity is None else self.similarity
        return text.format(other=self.other, similarity=similarity, detail=self.detail)

    @property
    def line(self) -> str:
        why = self.sentence
        return "{:<9} {}{}".format(self.outcome, self.path, ": " + why if why else "")

    def plain(self) -> Dict[str, Any]:
        """For --json."""
        return dict(self._asdict(), sentence=self.sentence)


class Report:
    """Every photo of one run, in the order in which they were decided. `total` photos were to be
    looked at; fewer results mean that it was interrupted."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.results: List[Result] = []
        self.interrupted = False
        self._started = time.monotonic()
        self.seconds = 0.0

    def add(self, result: Result) -> None:
        self.results.append(result)
        self.seconds = time.monotonic() - self._started

    def count(self, outcome: str) -> int:
        return sum(result.outcome == outcome for result in self.results)

    def summary(self) -> str:
        """One line: '940 enrolled, 60 refused (41 several faces, ...), 0 unchanged of 1000 photos in 31.2 s'."""
        reasons: Dict[str, int] = {}
        for result in self.results:
            if result.outcome == "refused" and result.reason:
                reasons[result.reason] = reasons.get(result.reason, 0) + 1
        why = ", ".join("{} {}".format(n, code.replace("_", " ")) for code, n in sorted(reasons.items(), key=_often))
        parts = ["{} enrolled".format(self.count("enrolled"))]
        parts.append("{} refused{}".format(self.count("refused"), " ({})".format(why) if why else ""))
        parts += ["{} {}".format(self.count(kind), kind) for kind in ("unchanged", "ignored") if self.count(kind)]
        text = "{} of {} photos in {:.1f} s".format(", ".join(parts), self.total, self.seconds)
        if self.interrupted:
            text += "; stopped after {}: what is enrolled stays, run it again to go on".format(len(self.results))
        return text

    def plain(self) -> Dict[str, Any]:
        """For --json."""
        return {
            "total": self.total,
            "enrolled": self.count("enrolled"),
            "refused": self.count("refused"),
            "unchanged": self.count("unchanged"),
            "ignored": self.count("ignored"),
            "seconds": round(self.seconds, 3),
            "interrupted": self.interrupted,
            "photos": [result.plain() for result in self.results],
        }


def _often(item: Any) -> Any:
    return -item[1], item[0]
