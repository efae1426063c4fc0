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
    """Where a sprite is composed, layer over layer; sizes in pixels."""

    def __init__(self, width: int, height: int) -> None:
        self._colour = np.zeros((max(height, 1), max(width, 1), 3), np.float32)
        self._opacity = np.zeros((max(height, 1), max(width, 1), 1), np.float32)

    @property
    def width(self) -> int:
        return int(self._opacity.shape[1])

    @property
    def height(self) -> int:
        return int(self._opacity.shape[0])

    def lay(self, mask: np.ndarray, colour: Colour, x: int = 0, y: int = 0, opacity: float = 1.0) -> None:
        """Colour `mask` (H, W) uint8, 0..255, with its corner at (x, y); what lies outside is cut."""
        height, width = self._opacity.shape[:2]
        left, top = max(x, 0), max(y, 0)
        right, bottom = min(x + mask.shape[1], width), min(y + mask.shape[0], height)
        if left >= right or top >= bottom:
            return
        cover = mask[top - y : bottom - y, left - x : right - x, np.newaxis] * np.float32(opacity / 255)
        under_colour, under_opacity = self._colour[top:bottom, left:right], self._opacity[top:bottom, left:right]
        under_colour *= 1 - cover
        under_colour += cover * np.array(colour, np.float32)
        under_opacity *= 1 - cover
        under_opacity += cover

    def sprite(self) -> Sprite:
        through = np.repeat(255 - 255 * self._opacity, 3, axis=2)
        return Sprite(np.round(self._colour).astype(np.uint8), np.round(through).astype(np.uint8))


def rounded(width: int, height: int, radius: float) -> np.ndarray:
    """A rectangle with round corners: (height, width) uint8 coverage, smooth at the edge."""
    width, height = max(width, 1), max(height, 1)
    radius = int(max(min(radius, width / 2, height / 2), 0) * OVERSAMPLING)
    mask = np.full((height * OVERSAMPLING, width * OVERSAMPLING), 255, np.uint8)
    if radius:
        square = (np.arange(radius) + 0.5 - radius) ** 2
        corner = np.where(square + square[:, np.newaxis] <= radius**2, 255, 0).astype(np.uint8)
        mask[:radius, :radius], mask[:radius, -radius:] = corner, corner[:, ::-1]
        mask[-radius:, :radius], mask[-radius:, -radius:] = corner[::-1], corner[::-1, ::-1]
    return cv2.resize(mask, (width, height), interpolation=cv2.INTER_AREA)


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
