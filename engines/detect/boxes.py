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


def overlaps(boxes: np.ndarray, others: np.ndarray, measure: str = UNION, inclusive: bool = False) -> np.ndarray:
    """Overlap of each of `boxes` (N, 4) with each of `others` (M, 4): (N, M), 0..1."""
    first, second = _ends(boxes, inclusive), _ends(others, inclusive)
    width = np.minimum(first[2][:, None], second[2]) - np.maximum(first[0][:, None], second[0])
    height = np.minimum(first[3][:, None], second[3]) - np.maximum(first[1][:, None], second[1])
    shared = np.maximum(width, 0)
    shared *= np.maximum(height, 0)
    area, other_area = (np.maximum(box[2] - box[0], 0) * np.maximum(box[3] - box[1], 0) for box in (first, second))
    if measure == SMALLER:
        whole = np.minimum(area[:, None], other_area)
    else:
        whole = area[:, None] + other_area
        whole -= shared
    return shared / np.maximum(whole, 1e-9)


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
    kept = [np.zeros(0, np.int64)]
    while len(order) and (most is None or sum(map(len, kept)) < most):
        # The best ones settle among themselves who stays; then all the others meet those at once.
        first, order = order[:BUNCH], order[BUNCH:]
        hits = overlaps(boxes[first], boxes[first], measure, inclusive) > threshold
        alive = np.ones(len(first), bool)
        for row in np.flatnonzero(np.triu(hits, 1).any(axis=1)):
            if alive[row]:
                alive[row + 1 :] &= ~hits[row, row + 1 :]
        first = first[alive]
        kept.append(first)
        if len(order):
            order = order[~(overlaps(boxes[first], boxes[order], measure, inclusive) > threshold).any(axis=0)]
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


def _ends(boxes: np.ndarray, inclusive: bool) -> np.ndarray:
    """(4, N) rows x1 y1 x2 y2; the last two count the last pixel in when `inclusive`."""
    ends = np.array(boxes).reshape(-1, 4).T.copy()
    ends[2:] += int(inclusive)
    return ends
