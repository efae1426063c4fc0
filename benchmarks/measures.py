"""The measures of recognition and detection as plain functions of scores: nothing here opens a file.

Definitions: LFW's protocol (Huang et al. 2007; Learned-Miller 2014), open-set identification
(Phillips et al. 2011, the DIR and FAR of NIST's FRVT), average precision as all-point interpolation.
"""

from typing import List, NamedTuple, Sequence, Tuple

import numpy as np

FOLDS = 10


class Verification(NamedTuple):
    """`accuracy` the mean over folds and `error` its standard error; `tar` true accepts at the
    false-accept rates of `fars`; `threshold` the mean of the folds'."""

    accuracy: float
    error: float
    threshold: float
    auc: float
    eer: float
    fars: Tuple[float, ...]
    tar: Tuple[float, ...]


class Curve(NamedTuple):
    """`x` ascending."""

    x: np.ndarray
    y: np.ndarray


def roc(scores: np.ndarray, same: np.ndarray) -> Curve:
    """False-accept rate and true-accept rate at every threshold, from accepting nothing on."""
    order = np.argsort(-scores, kind="stable")
    scores, same = scores[order], same[order]
    last = np.append(scores[1:] != scores[:-1], True)  # equal scores are accepted together
    true, false = np.cumsum(same)[last], np.cumsum(~same)[last]
    return Curve(np.append(0, false / max(1, (~same).sum())), np.append(0, true / max(1, same.sum())))


def verification(scores: np.ndarray, same: np.ndarray, folds: np.ndarray,
                 fars: Sequence[float] = (1e-2, 1e-3)) -> Verification:  # fmt: skip
    """scores (N,) of pairs (-inf where a picture has no face), same (N,) bool, folds (N,) int.

    Each fold is judged by the threshold that is best on all others.
    """
    accuracies, thresholds = [], []
    for fold in np.unique(folds):
        mine = folds == fold
        threshold = best_threshold(scores[~mine], same[~mine])
        accuracies.append(float(((scores[mine] >= threshold) == same[mine]).mean()))
        thresholds.append(threshold)
    curve = roc(scores, same)
    x, y = curve
    auc = float((np.diff(x) * (y[1:] + y[:-1]) / 2).sum())
    return Verification(
        float(np.mean(accuracies)),
        float(np.std(accuracies, ddof=1) / np.sqrt(len(accuracies))) if len(accuracies) > 1 else 0.0,
        float(np.mean(thresholds)),
        auc,
        _equal_error(curve),
        tuple(fars),
        tuple(float(y[x <= far].max()) for far in fars),
    )


def best_threshold(scores: np.ndarray, same: np.ndarray) -> float:
    """The middle of the gap at which most pairs are right."""
    order = np.argsort(scores)
    scores, same = scores[order], same[order]
    right = np.concatenate([[same.sum()], same.sum() + np.cumsum(np.where(same, -1, 1))])
    at = int(right.argmax())
    known = scores[np.isfinite(scores)]
    edges = np.concatenate([[known[0] - 0.01], np.maximum(scores, known[0] - 0.01), [scores[-1] + 0.01]])
    return float((edges[at] + edges[at + 1]) / 2)


def _equal_error(curve: Curve) -> float:
    """Where false accepts and false rejects are equally frequent, between two thresholds linearly."""
    gap = curve.x - (1 - curve.y)  # ascending from -1 to 1
    at = int(np.flatnonzero(gap >= 0)[0])
    if at == 0 or gap[at] == gap[at - 1]:
        return float(curve.x[at])
    share = -gap[at - 1] / (gap[at] - gap[at - 1])
    return float(curve.x[at - 1] + share * (curve.x[at] - curve.x[at - 1]))


def identification(known: np.ndarray, right: np.ndarray, strangers: np.ndarray) -> Curve:
    """Detection and identification rate (y) by false-alarm rate (x).

    known (N,): of each picture of an enrolled person the best similarity to anyone, right (N,) bool:
    whether that is the right one; strangers (M,): the best similarity of each stranger.
    """
    thresholds = np.append(np.inf, np.sort(strangers)[::-1])  # just above each stranger, from the most alike down
    x = np.arange(len(thresholds)) / max(1, len(strangers))
    y = [(right & (known > threshold)).mean() for threshold in thresholds[1:]] + [right.mean()]
    return Curve(x, np.array(y))


def rate_at(curve: Curve, x: float) -> float:
    """The best y at or before x."""
    return float(curve.y[curve.x <= x + 1e-12].max())


class Detections(NamedTuple):
    """Judged detections of all photos: `scores` and `hits` (N,), descending; `faces` to be found,
    `photos` looked at. A detection of a face that does not count is in neither."""

    scores: np.ndarray
    hits: np.ndarray
    faces: int
    photos: int


def matched(boxes: np.ndarray, truth: np.ndarray, ignored: np.ndarray, overlap: float = 0.5) -> np.ndarray:
    """What each detection of one photo is: 1 a face found, 0 a false one, -1 not counted.

    boxes (N, 4) x1 y1 x2 y2, best score first; truth (M, 4), ignored (M,) bool. Each face is found
    once, by the best detection that overlaps it by IoU `overlap` or more and has no better face; the
    next one on it is false. One that overlaps an ignored face only counts neither way.
    """
    verdicts = np.zeros(len(boxes), int)
    if not len(truth) or not len(boxes):
        return verdicts
    ious = iou(boxes, truth)
    taken = np.zeros(len(truth), bool)
    for row in range(len(boxes)):
        free = np.where(taken | ignored, -1.0, ious[row])
        best = int(free.argmax())
        if free[best] >= overlap:
            taken[best], verdicts[row] = True, 1
        elif (ious[row][ignored] >= overlap).any():
            verdicts[row] = -1
    return verdicts


def iou(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """(N, 4) and (M, 4) x1 y1 x2 y2 -> (N, M)."""
    corner = np.maximum(boxes[:, None, :2], others[None, :, :2])
    far = np.minimum(boxes[:, None, 2:], others[None, :, 2:])
    shared = np.prod(np.maximum(far - corner, 0), axis=2)
    area, other = (np.prod(one[:, 2:] - one[:, :2], axis=1) for one in (boxes, others))
    return shared / np.maximum(area[:, None] + other - shared, 1e-9)


def gathered(scores: List[np.ndarray], verdicts: List[np.ndarray], faces: int) -> Detections:
    """All photos together."""
    score, verdict = np.concatenate(scores), np.concatenate(verdicts)
    score, verdict = score[verdict >= 0], verdict[verdict >= 0]
    order = np.argsort(-score, kind="stable")
    return Detections(score[order], verdict[order] == 1, faces, len(scores))


def precision_recall(found: Detections) -> Curve:
    """Recall (x) and precision (y), after each detection from the best on."""
    true = np.cumsum(found.hits)
    recall, precision = true / max(1, found.faces), true / np.arange(1, len(true) + 1)
    return Curve(np.append(0.0, recall), np.append(1.0, precision))


def average_precision(found: Detections) -> float:
    """The area under precision by recall, precision made to fall only (all points, as VOC 2010)."""
    x, y = precision_recall(found)
    envelope = np.maximum.accumulate(y[::-1])[::-1]
    return float((np.diff(x) * envelope[1:]).sum())


def recall_at(found: Detections, false_per_photo: float) -> float:
    """The recall that the best threshold reaches with at most so many false faces a photo."""
    allowed = np.cumsum(~found.hits) <= false_per_photo * found.photos
    return float(np.cumsum(found.hits)[allowed].max(initial=0) / max(1, found.faces))
