"""Small translucent pictures that are made once and laid over many frames.

A sprite keeps its colour already multiplied by its opacity, and what it lets through: laying it over
a frame is one multiplication and one addition of its own rectangle, a few microseconds in OpenCV.
"""
from typing import NamedTuple, Tuple

import cv2
import numpy as np

Colour = Tuple[int, int, int]  # blue, green, red, 0..255
OVERSAMPLING = 4  # round corners are drawn so many times larger and averaged


class Sprite(NamedTuple):
    """`colour` (H, W, 3) uint8, BGR times opacity; `through` (H, W, 3) uint8, 255 where the frame shows."""

    colour: np.ndarray
    through: np.ndarray

    @property
    def width(self) -> int:
        return int(self.colour.shape[1])

    @property
    def height(self) -> int:
        return int(self.colour.shape[0])


class Canvas:
    """Where a sprite is composed, layer over layer; sizes in pixels. Blue, green, red and opacity lie in
    planes of their own, where numpy is several times faster than on pixels of three."""

    def __init__(self, width: int, height: int) -> None:
        self.width, self.height = max(width, 1), max(height, 1)
        self._planes = np.zeros((4, self.height, self.width), np.float32)  # colour times opacity, opacity: 0..255

    def lay(self, mask: np.ndarray, colour: Colour, x: int = 0, y: int = 0, opacity: float = 1.0) -> None:
        """Colour `mask` (H, W) uint8, 0..255, with its corner at (x, y); what lies outside is cut."""
        left, top = max(x, 0), max(y, 0)
        right, bottom = min(x + mask.shape[1], self.width), min(y + mask.shape[0], self.height)
        if left >= right or top >= bottom:
            return
        cover = mask[top - y : bottom - y, left - x : right - x] * np.float32(opacity / 255)
        kept = 1 - cover
        for plane, value in zip(self._planes[:, top:bottom, left:right], colour + (255,)):
            plane *= kept
            plane += cover * np.float32(value)

    def sprite(self) -> Sprite:
        blue, green, red, opacity = np.round(self._planes).astype(np.uint8)
        return Sprite(cv2.merge([blue, green, red]), cv2.merge([255 - opacity] * 3))


def rounded(width: int, height: int, radius: float) -> np.ndarray:
    """A rectangle with round corners: (height, width) uint8 coverage, smooth at the edge."""
    width, height = max(width, 1), max(height, 1)
    radius = max(min(radius, width / 2, height / 2), 0)
    mask = np.full((height, width), 255, np.uint8)
    side = int(np.ceil(radius))
    if side:
        centres = (np.arange(side * OVERSAMPLING) + 0.5) / OVERSAMPLING
        square = np.maximum(radius - centres, 0) ** 2
        fine = square + square[:, np.newaxis] <= radius**2
        shares = fine.reshape(side, OVERSAMPLING, side, OVERSAMPLING).mean(axis=(1, 3))
        corner = np.round(255 * shares).astype(np.uint8)
        for part in (mask, mask[:, ::-1], mask[::-1], mask[::-1, ::-1]):
            np.minimum(part[:side, :side], corner, out=part[:side, :side])
    return mask


def outline(width: int, height: int, radius: float, thickness: int) -> np.ndarray:
    """The edge of a rounded rectangle, inside it: (height, width) uint8."""
    mask = rounded(width, height, radius)
    if width > 2 * thickness and height > 2 * thickness:
        inner = rounded(width - 2 * thickness, height - 2 * thickness, radius - thickness)
        mask[thickness:-thickness, thickness:-thickness] -= inner
    return mask


def paste(picture: np.ndarray, sprite: Sprite, x: int, y: int) -> None:
    """Lay `sprite` over `picture` (H, W, 3) uint8 BGR in place, its corner at (x, y), cut at the edges."""
    left, top = max(x, 0), max(y, 0)
    right, bottom = min(x + sprite.width, picture.shape[1]), min(y + sprite.height, picture.shape[0])
    if left >= right or top >= bottom:
        return
    under = picture[top:bottom, left:right]
    inside = np.s_[top - y : bottom - y, left - x : right - x]
    kept = cv2.multiply(under, sprite.through[inside], scale=1 / 255)
    cv2.add(kept, sprite.colour[inside], dst=kept)
    under[...] = kept
