"""How a picture fits into a screen or a film of another shape."""
from typing import Tuple

import cv2
import numpy as np

Place = Tuple[int, int, int, int]  # x, y, width, height


def letterbox(width: int, height: int, room_width: int, room_height: int) -> Place:
    """Where a picture lies in a room, as large as it can with its aspect: x, y, width, height."""
    share = min(room_width / width, room_height / height)
    shown_width, shown_height = max(round(width * share), 1), max(round(height * share), 1)
    return (room_width - shown_width) // 2, (room_height - shown_height) // 2, shown_width, shown_height


def resized(picture: np.ndarray, width: int, height: int) -> np.ndarray:
    """`picture` (H, W, 3) uint8 at `width` x `height`: averaged where it shrinks, interpolated where it grows."""
    if picture.shape[:2] == (height, width):
        return picture
    shrinks = width < picture.shape[1]
    return cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
