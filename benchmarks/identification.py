"""Open-set identification: people enrolled from k photos each, their other photos, and strangers.

The whole pipeline of the kiosk: its detector, its rules for enrolment photos, its calibration, and
its decision by threshold and margin. Strangers play no part in the calibration.
"""

import dataclasses
import tempfile
from pathlib import Path
from typing import Any, List, NamedTuple, Optional, Sequence

import cv2
import numpy as np
from tqdm import tqdm

from engines.recognizer import Recognizer
from gallery.calibrate import Cohort, Proposal, propose
from gallery.match import Match
from gallery.photos import Photo, PhotoEnroller
from gallery.store import Gallery
from settings import Settings


class Look(NamedTuple):
    """One photo that was looked at: who it shows (None: a stranger) and whom it is nearest to."""

    photo: Path
    person: Optional[str]
    match: Match

    def named(self, threshold: float, margin: float) -> Optional[str]:
        return self.match.person if self.match.similarity >= threshold and self.match.margin >= margin else None


class Identification(NamedTuple):
    """All looks; `proposal` is the calibration (None for a model without a cohort), `refused` the
    photos that enrolment did not take, with the reason."""

    looks: List[Look]
    proposal: Optional[Proposal]
    refused: List[str]
    enrolled: int

    @property
    def known(self) -> List[Look]:
        return [look for look in self.looks if look.person is not None]

    @property
    def strangers(self) -> List[Look]:
        return [look for look in self.looks if look.person is None]

    def right(self, threshold: float, margin: float) -> int:
        """Pictures of enrolled people that get their own name."""
        return sum(look.named(threshold, margin) == look.person for look in self.known)

    def wrong(self, threshold: float, margin: float) -> int:
        """Pictures of enrolled people that get another's."""
        return sum(look.named(threshold, margin) not in (None, look.person) for look in self.known)

    def misnamed(self, threshold: float, margin: float) -> int:
        """Strangers who get a name."""
        return sum(look.named(threshold, margin) is not None for look in self.strangers)


def measure(
    people: Path,
    strangers: Path,
    recognizer: Recognizer,
    settings: Settings,
    photos: int = 3,
    wanted: float = 0.01,
    limit: Optional[int] = None,
    cohort: Optional[Cohort] = None,
) -> Identification:
    """Enrol the first `photos` files of each folder of `people`, calibrate, then look at all others.

    `wanted` is the share of strangers that the calibration may let be named; `limit` takes so many of
    the strangers; `cohort` None: no calibration.
    """
    folders = sorted(path for path in people.iterdir() if path.is_dir())
    files = {folder.name: sorted(folder.glob("*.jpg")) for folder in folders}
    with tempfile.TemporaryDirectory() as folder:
        own = dataclasses.replace(settings.gallery, database=str(Path(folder, "gallery.db")), photos=folder)
        settings = dataclasses.replace(settings, gallery=own)
        with Gallery.open(settings, recognizer.model, recognizer.dimension, recognizer.threshold) as gallery:
            first = [Photo(name, path, str(path), True) for name in files for path in files[name][:photos]]
            report = PhotoEnroller(gallery, recognizer, settings).run(first)
            refused = [result.line for result in report.results if result.outcome != "enrolled"]
            samples = gallery.records.samples(recognizer.model)
            proposal = None if cohort is None else propose(samples, cohort, wanted)
            probes: List[Any] = [(path, name) for name in files for path in files[name][photos:]]
            probes += [(path, None) for path in sorted(strangers.glob("*.jpg"))[:limit]]
            looks = [_look(path, name, recognizer, gallery) for path, name in tqdm(probes, unit="photo", disable=None)]
    return Identification(looks, proposal, refused, len(samples))


def _look(path: Path, person: Optional[str], recognizer: Recognizer, gallery: Gallery) -> Look:
    """The largest face counts; a photo without one is near to nobody."""
    image = np.asarray(cv2.imread(str(path)))
    faces = recognizer.detect(image)
    if not faces.count:
        return Look(path, person, Match(None, -1.0, None, 0.0))
    largest = int(np.prod(faces.boxes[:, 2:] - faces.boxes[:, :2], axis=1).argmax())
    return Look(path, person, gallery.match(recognizer.embed(image, faces.landmarks[largest : largest + 1]))[0])


def similarities(looks: Sequence[Look]) -> np.ndarray:
    return np.array([look.match.similarity for look in looks])
