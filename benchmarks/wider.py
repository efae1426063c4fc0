"""The WIDER FACE protocol (Yang et al. 2016), as its official evaluation computes it.

Scores of a whole run are stretched to 0..1; a detection belongs to the face that it overlaps most
(IoU 0.5, whole pixels), if any; those on a face outside the subset (easy, medium, hard) do not count;
precision and recall are taken at 1,000 thresholds, and AP is the area under them.
"""

import lzma
from pathlib import Path
from typing import Dict, List, NamedTuple, Tuple

import numpy as np

from errors import UsageError

SUBSETS = ("easy", "medium", "hard")
THRESHOLDS = 1000
OVERLAP = 0.5


class Truth(NamedTuple):
    """One photo: `boxes` (N, 4) x y width height, and which of them count in each subset, (N,) bool."""

    boxes: np.ndarray
    counts: Dict[str, np.ndarray]


def read_truth(folder: Path) -> Dict[str, Truth]:
    """'event/file.jpg' -> truth, from wider_face_val_bbx_gt.txt(.xz) and the three wider_*_val.mat."""
    try:
        from scipy.io import loadmat
    except ImportError as error:
        raise UsageError("The WIDER FACE subsets are .mat files; 'pip install scipy' reads them.") from error
    boxes = read_boxes(folder)
    truth: Dict[str, Truth] = {name: Truth(box, {}) for name, box in boxes.items()}
    for subset in SUBSETS:
        table = loadmat(str(folder / "wider_{}_val.mat".format(subset)))
        for event, files, kept in zip(table["event_list"][:, 0], table["file_list"][:, 0], table["gt_list"][:, 0]):
            for file, indices in zip(files[:, 0], kept[:, 0]):
                one = truth["{}/{}.jpg".format(event[0], file[0])]
                one.counts[subset] = np.zeros(len(one.boxes), bool)
                one.counts[subset][indices.ravel().astype(int) - 1] = True  # Matlab counts from 1
    return truth


def read_boxes(folder: Path) -> Dict[str, np.ndarray]:
    """The boxes of the text file: a name, a count, then a line for each face (one of zeros for none)."""
    plain, packed = folder / "wider_face_val_bbx_gt.txt", folder / "wider_face_val_bbx_gt.txt.xz"
    if plain.exists():
        lines = plain.read_text(encoding="utf-8").splitlines()
    elif packed.exists():
        with lzma.open(str(packed), "rt", encoding="utf-8") as file:
            lines = file.read().splitlines()
    else:
        raise UsageError("{}: has no wider_face_val_bbx_gt.txt, which lists the faces.".format(folder))
    boxes, at = {}, 0
    while at < len(lines):
        count = int(lines[at + 1])
        rows = [line.split()[:4] for line in lines[at + 2 : at + 2 + count]]
        boxes[lines[at].strip()] = np.array(rows, float).reshape(-1, 4)
        at += 2 + max(count, 1)
    return boxes


def evaluate(truth: Dict[str, Truth], found: Dict[str, np.ndarray]) -> Dict[str, float]:
    """Subset -> AP. found: name -> (N, 5) x y width height score; a photo that is missing has none."""
    found = stretched(found)
    return {subset: _average_precision(truth, found, subset) for subset in SUBSETS}


def stretched(found: Dict[str, np.ndarray]) -> Dict[str, np.ndarray]:
    """Scores to 0..1 over all photos, best first in each."""
    scores = np.concatenate([one[:, 4] for one in found.values()] or [np.zeros(0)])
    if not len(scores):
        return found
    low, span = scores.min(), max(float(scores.max() - scores.min()), 1e-12)
    result = {}
    for name, one in found.items():
        one = one[np.argsort(-one[:, 4], kind="stable")].astype(float)
        one[:, 4] = (one[:, 4] - low) / span
        result[name] = one
    return result


def _average_precision(truth: Dict[str, Truth], found: Dict[str, np.ndarray], subset: str) -> float:
    totals, faces = np.zeros((THRESHOLDS, 2)), 0  # proposals that count, faces found
    for name, one in truth.items():
        counts = one.counts.get(subset, np.zeros(len(one.boxes), bool))
        faces += int(counts.sum())
        detections = found.get(name, np.zeros((0, 5)))
        if len(detections) and len(one.boxes):
            recalled, proposed = judged(detections, one.boxes, counts)
            totals += _at_thresholds(detections[:, 4], recalled, proposed)
    precision = np.divide(totals[:, 1], totals[:, 0], out=np.zeros(THRESHOLDS), where=totals[:, 0] > 0)
    recall = totals[:, 1] / max(faces, 1)
    recall, precision = np.concatenate([[0], recall, [1]]), np.concatenate([[0], precision, [0]])
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    return float((np.diff(recall) * envelope[1:]).sum())


def judged(detections: np.ndarray, boxes: np.ndarray, counts: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
    """After each detection, best first, how many faces of the subset are found; and which detections
    count as proposals."""
    overlaps = _overlaps(detections[:, :4], boxes)
    nearest, most = overlaps.argmax(axis=1), overlaps.max(axis=1)
    recalled = np.zeros(len(boxes), bool)
    proposed = np.ones(len(detections), bool)
    after: List[int] = []
    for row in range(len(detections)):
        if most[row] >= OVERLAP:
            if counts[nearest[row]]:
                recalled[nearest[row]] = True
            else:
                proposed[row] = False
        after.append(int(recalled.sum()))
    return np.array(after), proposed


def _at_thresholds(scores: np.ndarray, recalled: np.ndarray, proposed: np.ndarray) -> np.ndarray:
    thresholds = 1 - np.arange(1, THRESHOLDS + 1) / THRESHOLDS
    kept = np.searchsorted(-scores, -thresholds, side="right")  # detections at or above each
    some = kept > 0
    table = np.zeros((THRESHOLDS, 2))
    table[some, 0] = np.cumsum(proposed)[kept[some] - 1]
    table[some, 1] = recalled[kept[some] - 1]
    return table


def _overlaps(detections: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """IoU of x y width height boxes, corners counted as pixels, as the official evaluation does."""
    first = np.concatenate([detections[:, :2], detections[:, :2] + detections[:, 2:]], axis=1)
    other = np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)
    corner = np.maximum(first[:, None, :2], other[None, :, :2])
    far = np.minimum(first[:, None, 2:], other[None, :, 2:])
    shared = np.prod(np.maximum(far - corner + 1, 0), axis=2)
    area, other_area = (np.prod(one[:, 2:] - one[:, :2] + 1, axis=1) for one in (first, other))
    return shared / (area[:, None] + other_area - shared)
