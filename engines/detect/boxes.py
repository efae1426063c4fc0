"""Boxes as arrays: overlap, non-maximum suppression, regression, squares.

A box is x1 y1 x2 y2. MTCNN counts whole pixels, both corners inside (a box from 3 to 3 is one pixel
wide): `inclusive` adds that pixel. No function loops over all boxes, only over those that overlap
a better one.
"""

from typing import Optional

import numpy as np

UNION = "union"  # overlap / area of both together
SMALLER = "min"  # overlap / area of the smaller one: also finds a box inside another
BUNCH = 64  # boxes that suppression takes at once; measured on MTCNN's 1,300: 16 take twice, 256 1.1 times as long
LATER = np.triu(np.ones((BUNCH, BUNCH), bool), 1)  # of a bunch's pairs (row, column) those with the worse box second


def overlaps(boxes: np.ndarray, others: np.ndarray, measure: str = UNION, inclusive: bool = False) -> np.ndarray:
    """Overlap of each of `boxes` (N, 4) with each of `others` (M, 4): (N, M), 0..1."""
    return _overlaps(_sides(boxes, inclusive), _sides(others, inclusive), measure)


def suppress(
    boxes: np.ndarray,
    scores: np.ndarray,
    threshold: float,
    measure: str = UNION,
    inclusive: bool = False,
    most: Optional[int] = None,
) -> np.ndarray:
    """Greedy non-maximum suppression: the indices that stay, best score first.

    boxes (N, 4), scores (N,). A box goes when it overlaps a better one that stays by more than
    `threshold`; of equal scores the earlier one is the better. With `most` the work ends once so
    many stay: the first `most` of the same answer.
    """
    order = np.argsort(-scores, kind="stable")
    sides = _sides(boxes[order], inclusive)
    kept, count = [np.zeros(0, np.int64)], 0
    while len(order) and (most is None or count < most):
        # The best ones settle among themselves who stays; then all the others meet those at once.
        first, size = sides[:, :BUNCH], len(order[:BUNCH])
        hits = _overlaps(first, first, measure) > threshold
        hits &= LATER[:size, :size]
        alive = np.ones(size, bool)
        for row in np.flatnonzero(hits.any(axis=1)):
            if alive[row]:
                alive &= ~hits[row]
        kept.append(order[:size][alive])
        count += len(kept[-1])
        order, sides = order[size:], sides[:, size:]
        if len(order):
            free = ~(_overlaps(first[:, alive], sides, measure) > threshold).any(axis=0)
            order, sides = order[free], sides[:, free]
    return np.concatenate(kept)[:most]


def regress(boxes: np.ndarray, offsets: np.ndarray, inclusive: bool = True) -> np.ndarray:
    """Move the corners by `offsets` (N, 4), given in widths and heights of the boxes (N, 4)."""
    sizes = boxes[:, 2:4] - boxes[:, 0:2] + int(inclusive)
    return boxes + offsets * np.concatenate([sizes, sizes], axis=1)


def squared(boxes: np.ndarray) -> np.ndarray:
    """The square around each box's middle with the box's longer side."""
    sizes = boxes[:, 2:4] - boxes[:, 0:2]
    side = sizes.max(axis=1, keepdims=True)
    corner = boxes[:, 0:2] + (sizes - side) * 0.5
    return np.concatenate([corner, corner + side], axis=1)


def _sides(boxes: np.ndarray, inclusive: bool) -> np.ndarray:
    """(5, N) rows x1 y1 x2 y2 area; x2 and y2 count the last pixel in when `inclusive`."""
    boxes = np.asarray(boxes).reshape(-1, 4)
    sides = np.empty((5, len(boxes)), boxes.dtype if boxes.dtype.kind == "f" else np.float64)
    sides[:4] = boxes.T
    sides[2:4] += int(inclusive)
    spans = np.maximum(sides[2:4] - sides[0:2], 0)
    np.multiply(spans[0], spans[1], out=sides[4])
    return sides


def _overlaps(first: np.ndarray, second: np.ndarray, measure: str) -> np.ndarray:
    width = np.minimum(first[2][:, None], second[2])
    width -= np.maximum(first[0][:, None], second[0])
    height = np.minimum(first[3][:, None], second[3])
    height -= np.maximum(first[1][:, None], second[1])
    shared = np.maximum(width, 0, out=width)
    shared *= np.maximum(height, 0, out=height)
    if measure == SMALLER:
        whole = np.minimum(first[4][:, None], second[4])
    else:
        whole = first[4][:, None] + second[4]
        whole -= shared
    shared /= np.maximum(whole, 1e-9, out=whole)
    return shared
