"""Colours (blue, green, red) and sizes that label, pill and panel share, so that they look like one thing.

Sizes are in pixels of a picture of 720 lines and scale with it.
"""
from typing import Dict, Tuple

Colour = Tuple[int, int, int]

INK = (30, 24, 20)  # dark panels, and text on colour
PAPER = (255, 255, 255)
MUTED = (196, 188, 182)  # text that matters less, on dark
GREEN = (104, 214, 74)
AMBER = (48, 184, 255)
BLUE = (255, 168, 76)
RED = (62, 52, 206)
STATES: Dict[str, Colour] = {"known": GREEN, "unknown": AMBER, "pending": PAPER, "chosen": BLUE}

TEXT = 20
SMALL = 16
TITLE = 23
SMALLEST = 11  # pixels of the picture: below, letters cannot be read
MARGIN = 16
SMALLEST_SCALE, LARGEST_SCALE = 0.45, 4.0


def scale_of(height: int) -> float:
    """Factor from the sizes above to a picture of `height` lines."""
    return min(max(height / 720.0, SMALLEST_SCALE), LARGEST_SCALE)


def scaled(size: float, scale: float) -> int:
    return max(round(size * scale), 1)


def font_size(size: float, scale: float) -> int:
    return max(round(size * scale), SMALLEST)
