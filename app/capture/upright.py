"""Turning pictures the way people stand, once, where they enter the program.

Everything behind a source sees upright pictures: boxes, clicks and recordings need no second
coordinate frame.
"""
import cv2
import numpy as np

TURNS = {90: cv2.ROTATE_90_CLOCKWISE, 180: cv2.ROTATE_180, 270: cv2.ROTATE_90_COUNTERCLOCKWISE}


def upright(image: np.ndarray, rotate: int = 0, mirror: bool = False) -> np.ndarray:
    """`image` (H, W, 3) turned by `rotate` degrees clockwise (0, 90, 180 or 270; 90 and 270 swap
    height and width), then mirrored left to right. The same array where nothing is to be done."""
    if rotate:
        image = cv2.rotate(image, TURNS[rotate])
    return cv2.flip(image, 1) if mirror else image
