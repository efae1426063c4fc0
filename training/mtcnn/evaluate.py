"""How well a cascade finds faces on photos, and how long it takes.

The rule, the same for every detector: a found box and a human box belong together from IoU 0.5 on,
best score first, each once. A found box that belongs to none is false, unless half of it lies in a
region that is to be ignored. Recall counts all faces that are not to be ignored, however small.
"""
import time
from typing import Any, Dict, List, NamedTuple, Sequence, Tuple

import numpy as np

from engines.detect.boxes import overlaps
from engines.detect.detector import Faces
from training.mtcnn.annotations import Photo

OVERLAP = 0.5
IGNORED = 0.5  # share of a found box inside one ignored region


class Curve(NamedTuple):
    """Every found box of all photos, best score first: its score, whether it is a face (1), false (-1)
    or ignored (0); faces and photos there are."""

    scores: np.ndarray
    verdicts: np.ndarray
    faces: int
    photos: int

    def at_score(self, score: float) -> Tuple[float, float]:
        """Recall and false ones a photo of the boxes with at least that score."""
        verdicts = self.verdicts[self.scores >= score]
        return (verdicts == 1).sum() / max(self.faces, 1), (verdicts == -1).sum() / max(self.photos, 1)

    def at_false(self, most: float) -> Tuple[float, float]:
        """The lowest score with at most `most` false ones a photo, and the recall there."""
        false = np.cumsum(self.verdicts == -1)
        good = int(np.searchsorted(false, most * self.photos + 1e-9, side="right"))
        if not good:
            return 1.0, 0.0
        return float(self.scores[good - 1]), float((self.verdicts[:good] == 1).sum() / max(self.faces, 1))


def curve(photos: Sequence[Photo], found: Sequence[Faces], overlap: float = OVERLAP) -> Curve:
    scores, verdicts, faces = [np.zeros(0, np.float32)], [np.zeros(0, np.int64)], 0
    for photo, here in zip(photos, found):
        order = np.argsort(-here.scores, kind="stable")
        scores.append(here.scores[order])
        verdicts.append(_judged(here.boxes[order], photo, overlap))
        faces += int((~photo.ignore).sum())
    all_scores, all_verdicts = np.concatenate(scores), np.concatenate(verdicts)
    order = np.argsort(-all_scores, kind="stable")
    return Curve(all_scores[order], all_verdicts[order], faces, len(photos))


def _judged(boxes: np.ndarray, photo: Photo, overlap: float) -> np.ndarray:
    pairs = matched(boxes, photo.boxes[~photo.ignore], overlap)
    verdicts = np.where(pairs >= 0, 1, -1)
    hidden = photo.boxes[photo.ignore]
    if len(hidden) and len(boxes):
        near = np.maximum(boxes[:, None, :2], hidden[:, :2])
        far = np.minimum(boxes[:, None, 2:], hidden[:, 2:])
        inside = np.maximum(far - near, 0).prod(-1) / np.maximum((boxes[:, 2:] - boxes[:, :2]).prod(-1), 1e-6)[:, None]
        verdicts[(verdicts == -1) & (inside.max(axis=1) >= IGNORED)] = 0
    return verdicts


def matched(boxes: np.ndarray, faces: np.ndarray, overlap: float) -> np.ndarray:
    """For each box (N, 4), best first, the row of its face (M, 4), or -1; each face goes once."""
    pairs = np.full(len(boxes), -1)
    if not len(faces):
        return pairs
    shared = overlaps(boxes, faces)
    for row in range(len(boxes)):
        best = int(shared[row].argmax())
        if shared[row, best] >= overlap:
            pairs[row] = best
            shared[:, best] = -1
    return pairs


def landmark_error(photos: Sequence[Photo], found: Sequence[Faces], overlap: float = OVERLAP) -> Dict[str, float]:
    """Mean distance of the five points from the annotated ones, in distances of the eyes, over the
    faces that were found and have points; and how many these are."""
    errors: List[float] = []
    for photo, here in zip(photos, found):
        rows = np.flatnonzero(~photo.ignore & ~np.isnan(photo.landmarks).any(axis=(1, 2)))
        order = np.argsort(-here.scores, kind="stable")
        for box, row in zip(order, matched(here.boxes[order], photo.boxes[rows], overlap)):
            if row >= 0:
                truth = photo.landmarks[rows[row]]
                eyes = np.linalg.norm(truth[0] - truth[1])
                errors.append(float(np.linalg.norm(here.landmarks[box] - truth, axis=1).mean() / max(eyes, 1e-6)))
    return {"landmark_error": float(np.mean(errors)) if errors else float("nan"), "faces": len(errors)}


def timed(detectors: Dict[str, Any], images: Sequence[np.ndarray], rounds: int = 3) -> Dict[str, float]:
    """Milliseconds a photo of each detector, side by side: they take turns photo by photo, and the
    fastest round of each photo counts."""
    best = {name: np.full(len(images), np.inf) for name in detectors}
    for _ in range(rounds):
        for row, image in enumerate(images):
            for name, detector in detectors.items():
                start = time.perf_counter()
                detector.detect(image)
                best[name][row] = min(best[name][row], time.perf_counter() - start)
    return {name: float(times.mean() * 1000) for name, times in best.items()}
