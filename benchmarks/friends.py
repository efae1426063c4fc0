#!/usr/bin/env python3
"""Who is named on a real scene: friends1.mp4, six people, five of them enrolled, each left out in turn.

A reference detector (SCRFD 2.5G at 0.5) says where faces are, the scene's cuts and places who they
are (video/SOURCES.md). Counted are faces of 40 px or more, inside the picture and not in profile
(|nose x - middle of the eyes| < 0.8 eye distances): named right, not named, named as somebody else.
A name on any face, counted or not, must be that person's.

  benchmarks/friends.py                                     edgeface_xs and own
  benchmarks/friends.py edgeface_xs --set recognition.margin=0.1
"""
import argparse
import dataclasses
import sys
import tempfile
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional, Sequence

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from app.capture import open_source  # noqa: E402
from app.capture.source import Frame  # noqa: E402
from app.sight import Sight  # noqa: E402
from app.stats import Stats  # noqa: E402
from benchmarks.reference_scrfd import ReferenceScrfd, overlaps  # noqa: E402
from engines.detect.detector import Faces  # noqa: E402
from engines.recognizer import Recognizer  # noqa: E402
from gallery.photos import PhotoEnroller, scan  # noqa: E402
from gallery.store import Gallery  # noqa: E402
from settings import Settings, load  # noqa: E402

PEOPLE = ("chandler", "joey", "monica", "phoebe", "rachel", "ross")
CUTS = (6.035, 12.96, 18.42)  # seconds
SAME_FACE = 0.4  # IoU of a drawn box and the reference's
LEAST_SIZE = 40  # pixels
PROFILE = 0.8  # |nose x - middle of the eyes| in eye distances


class Figures(NamedTuple):
    """`seen` and `named` count frames by person, `wrong` lists (frame, name drawn, who it is)."""

    seen: Dict[str, int]
    named: Dict[str, int]
    wrong: List[Any]

    def share(self, person: str) -> float:
        return self.named[person] / max(self.seen[person], 1)


def who(time: float, box: Sequence[float]) -> Optional[str]:
    """Who is at this place at this time; None for the one at the edge who is only ever seen from behind."""
    middle = (box[0] + box[2]) / 2
    if time < CUTS[0] or time >= CUTS[2]:
        return "rachel" if middle < 640 else "joey"
    if time < CUTS[1]:
        return "monica" if middle < 640 else "chandler" if middle < 1100 else None
    return "chandler" if middle < 120 else "phoebe" if middle < 620 else "ross" if middle < 1130 else "joey"


class Remembering:
    """A recognizer that remembers what it found in each frame, for several runs over one clip."""

    def __init__(self, recognizer: Recognizer) -> None:
        self._recognizer = recognizer
        self._found: Dict[bytes, Faces] = {}

    def search(self, image: np.ndarray, known: Optional[Faces] = None) -> Faces:
        key = image[::16, ::16].tobytes() + (b"" if known is None else known.boxes.tobytes())
        if key not in self._found:
            self._found[key] = self._recognizer.search(image, known)
        return self._found[key]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._recognizer, name)


def reference(frames: Sequence[Frame], model: Path) -> List[List[Any]]:
    """For each frame the counted faces: (who, box)."""
    detector = ReferenceScrfd(model)
    counted = []
    for frame in frames:
        boxes, _, points = detector.detect(frame.image)
        height, width = frame.image.shape[:2]
        rows = []
        for box, five in zip(boxes, points):
            eyes = max(float(np.linalg.norm(five[1] - five[0])), 1.0)
            turned = abs(five[2, 0] - (five[0, 0] + five[1, 0]) / 2) / eyes
            inside = box[0] >= 0 and box[1] >= 0 and box[2] <= width and box[3] <= height
            person = who(frame.time, box.tolist())
            if person and inside and turned < PROFILE and box[2] - box[0] >= LEAST_SIZE:
                rows.append((person, box))
        counted.append(rows)
    return counted


def measure(frames: Sequence[Frame], counted: List[List[Any]], recognizer: Any, settings: Settings,
            portraits: Path, left_out: str) -> Figures:  # fmt: skip
    """One run over the frames with everybody enrolled but `left_out`."""
    figures = Figures(dict.fromkeys(PEOPLE, 0), dict.fromkeys(PEOPLE, 0), [])
    with tempfile.TemporaryDirectory() as folder:
        own = dataclasses.replace(settings.gallery, database=str(Path(folder, "gallery.db")), photos=str(portraits))
        settings = dataclasses.replace(settings, gallery=own)
        with Gallery.open(settings, recognizer.model, recognizer.dimension, recognizer.threshold) as gallery:
            photos = [photo for photo in scan(portraits) if photo.person != left_out]
            PhotoEnroller(gallery, recognizer, settings).run(photos)
            sight = Sight(recognizer, gallery, settings, Stats())
            for frame, rows in zip(frames, counted):
                tracks = [(track.name, track.shown_box(frame.time)) for track in sight.see(frame)]
                for name, box in tracks:
                    if name is not None and name != who(frame.time, box.tolist()):
                        figures.wrong.append((frame.index, name, who(frame.time, box.tolist())))
                for person, box in rows:
                    figures.seen[person] += 1
                    drawn = [overlaps(box, at[np.newaxis])[0] for name, at in tracks if name == person]
                    figures.named[person] += max(drawn, default=0.0) >= SAME_FACE
    return figures


def read_all(clip: Path, settings: Settings) -> List[Frame]:
    frames = []
    with open_source(str(clip), settings) as source:
        while not source.finished:
            frame = source.read()
            if frame is not None:
                frames.append(frame)
    return frames


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", default=["edgeface_xs", "own"])
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared", help="folder with video/ and models/")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE")
    options = parser.parse_args()
    settings = load(ROOT / "config.yaml", options.set)
    frames = read_all(options.data / "video" / "friends1.mp4", settings)
    counted = reference(frames, options.data / "models" / "scrfd" / "scrfd_2.5g_kps_dynamic.onnx")
    portraits = options.data / "video" / "friends_gallery"
    wrong = 0
    for model in options.models:
        chosen = load(ROOT / "config.yaml", options.set + ["embedder.model=" + model])
        with Recognizer.from_settings(chosen) as recognizer:
            remembering = Remembering(recognizer)
            print("\n{}, threshold {:.2f}: % of the frames named".format(model, recognizer.threshold))
            print("{:<10} {} {:>6}".format("left out", " ".join("{:>9}".format(one) for one in PEOPLE), "wrong"))
            for left_out in PEOPLE:
                found = measure(frames, counted, remembering, chosen, portraits, left_out)
                shares = " ".join("{:>9.0f}".format(100 * found.share(person)) for person in PEOPLE)
                print("{:<10} {} {:>6}".format(left_out, shares, len(found.wrong)), flush=True)
                wrong += len(found.wrong)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
