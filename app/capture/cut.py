"""Does the scene change at once between two frames? Then every track ends.

Tracks follow faces by overlap, and across a cut the boxes of different people overlap by up to
IoU 0.68 (friends1.mp4): without this a name would jump to another person.
"""
from typing import Optional

import cv2
import numpy as np

THUMBNAIL = (64, 36)  # width, height: some 0.03 ms a frame
# Mean absolute difference of two thumbnails, grey levels. The three cuts of friends1.mp4 measure
# 56.0 to 56.6, the largest other change there 8.7, a panning camera (single.mp4) 8.0. The figures
# belong to bilinear sampling without a low-pass: INTER_AREA gives 52 and 6.8 at 20 times the cost.
THRESHOLD = 25.0


class CutDetector:
    """Call it with the frames in their order; it remembers the one before."""

    def __init__(self, threshold: float = THRESHOLD) -> None:
        self._threshold = threshold
        self._before: Optional[np.ndarray] = None

    def __call__(self, image: np.ndarray) -> bool:
        """True where BGR `image` (H, W, 3) uint8 differs by more than the threshold from the one
        before; False for the first."""
        thumbnail = cv2.resize(image, THUMBNAIL, interpolation=cv2.INTER_LINEAR)
        before, self._before = self._before, thumbnail
        return before is not None and difference(before, thumbnail) > self._threshold


def difference(first: np.ndarray, second: np.ndarray) -> float:
    """Mean absolute difference of two arrays of one shape, in their unit."""
    return float(cv2.norm(first, second, cv2.NORM_L1)) / first.size
