"""The panel of enrolment: a card with a title, the name that is typed, progress and the samples so far.

It lies at the side away from the chosen face; in a small picture it is a strip along the bottom. The
card is composed anew only when its words change; samples are small and are copied in each time.
"""
import functools
from typing import Any, List, NamedTuple, Optional, Sequence, Tuple

import cv2
import numpy as np

from app.show import theme
from app.show.fonts import Typeface
from app.show.sprites import Canvas, Sprite, outline, rounded

WIDTH = 372  # at 720 lines
NARROW = 1.75  # a picture less than so many panels wide has it along the bottom
CHIP = 58
MOST_CHIPS = 5  # in a row
KEPT_CARDS = 16


class Panel(NamedTuple):
    """`lines` under the title; `field` what was typed so far, drawn with a caret (None: no field);
    `progress` 0..1 or None; `chips` (H, W, 3) uint8 BGR pictures of the samples so far."""

    title: str
    lines: Sequence[str] = ()
    field: Optional[str] = None
    progress: Optional[float] = None
    chips: Sequence[np.ndarray] = ()


class Card(NamedTuple):
    sprite: Sprite
    chips_at: Tuple[int, int]  # x, y of the first sample, from the card's corner
    chip: int  # side of a sample in pixels
    step: int  # from one sample to the next


class PanelPainter:
    def __init__(self, face: Typeface) -> None:
        self._face = face
        self._card = functools.lru_cache(maxsize=KEPT_CARDS)(self._compose)

    def sprites(self, panel: Panel, width: int, height: int, side: str, top: int) -> List[Tuple[Sprite, int, int]]:
        """The card and the samples, each with its corner (x, y), for a picture of `width` x `height`:
        at the 'left' or the 'right', below line `top`."""
        scale = theme.scale_of(height)
        margin = theme.scaled(theme.MARGIN, scale)
        strip = width < NARROW * WIDTH * scale
        across = width - 2 * margin if strip else theme.scaled(WIDTH, scale)
        progress = None if panel.progress is None else round(100 * min(max(panel.progress, 0.0), 1.0))
        shown = list(panel.chips)[-MOST_CHIPS:]
        card = self._card(panel.title, tuple(panel.lines), panel.field, progress, len(shown), across, scale)
        x = margin if strip or side == "left" else width - margin - across
        y = height - margin - card.sprite.height if strip else max((height - card.sprite.height) // 2, top + margin)
        found = [(card.sprite, x, y)]
        for index, chip in enumerate(shown):
            found.append((framed_chip(chip, card.chip), x + card.chips_at[0] + index * card.step, y + card.chips_at[1]))
        return found

    def _compose(
        self,
        title: str,
        lines: Tuple[str, ...],
        field: Optional[str],
        progress: Optional[int],
        chips: int,
        width: int,
        scale: float,
    ) -> Card:
        pad, gap = theme.scaled(20, scale), theme.scaled(12, scale)
        inner = width - 2 * pad
        step = inner // MOST_CHIPS
        chip = min(theme.scaled(CHIP, scale), step - max(step // 12, 1))
        rows: List[Tuple[str, Any, int]] = []  # kind, mask or value, height
        head = theme.font_size(theme.TITLE, scale)
        rows += [("title", self._face.mask(line, head), 0) for line in self._face.wrapped(title, head, inner)]
        if field is not None:
            rows.append(("field", field, theme.scaled(46, scale)))
        if progress is not None:
            rows.append(("progress", progress, theme.scaled(8, scale)))
        if chips:
            rows.append(("chips", None, chip))
        small = theme.font_size(theme.SMALL + 1, scale)
        for line in lines:
            rows += [("line", self._face.mask(part, small), 0) for part in self._face.wrapped(line, small, inner)]
        heights = [height or content.shape[0] for _, content, height in rows]
        kinds = [kind for kind, _, _ in rows]
        gaps = [0 if kind == before else gap for before, kind in zip([""] + kinds, kinds)][1:]
        canvas = Canvas(width, sum(heights) + sum(gaps) + 2 * pad)
        self._background(canvas, scale)
        y, chips_at = pad, (pad, pad)
        for (kind, content, _), height, space in zip(rows, heights, [0] + gaps):
            y += space
            if kind == "field":
                self._field(canvas, content, pad, y, inner, height, scale)
            elif kind == "progress":
                self._progress(canvas, content, pad, y, inner, height)
            elif kind == "chips":
                chips_at = (pad, y)
            else:
                canvas.lay(content, theme.PAPER if kind == "title" else theme.MUTED, pad, y)
            y += height
        return Card(canvas.sprite(), chips_at, chip, step)

    @staticmethod
    def _background(canvas: Canvas, scale: float) -> None:
        radius = theme.scaled(18, scale)
        canvas.lay(rounded(canvas.width, canvas.height, radius), theme.INK, opacity=0.84)
        canvas.lay(outline(canvas.width, canvas.height, radius, theme.scaled(1, scale)), theme.PAPER, opacity=0.16)

    def _field(self, canvas: Canvas, text: str, x: int, y: int, width: int, height: int, scale: float) -> None:
        """What was typed (its end, where it is too long) and a caret behind it."""
        size = theme.font_size(theme.TITLE, scale)
        pad, edge = theme.scaled(12, scale), theme.scaled(2, scale)
        radius = theme.scaled(10, scale)
        canvas.lay(rounded(width, height, radius), theme.PAPER, x, y, opacity=0.10)
        canvas.lay(outline(width, height, radius, edge), theme.BLUE, x, y)
        mask = self._face.mask(self._face.fitted(text, size, width - 2 * pad - 3 * edge, keep_end=True), size)
        written = mask.shape[1] if text else 0
        canvas.lay(mask, theme.PAPER, x + pad, y + (height - mask.shape[0]) // 2)
        caret = np.full((mask.shape[0], edge), 255, np.uint8)
        canvas.lay(caret, theme.BLUE, x + pad + written + edge, y + (height - mask.shape[0]) // 2)

    @staticmethod
    def _progress(canvas: Canvas, percent: int, x: int, y: int, width: int, height: int) -> None:
        canvas.lay(rounded(width, height, height / 2), theme.PAPER, x, y, opacity=0.18)
        if percent:
            filled = max(width * percent // 100, height)
            canvas.lay(rounded(filled, height, height / 2), theme.GREEN, x, y)


def framed_chip(chip: np.ndarray, side: int) -> Sprite:
    """A sample (H, W, 3) uint8 BGR as a square with round corners."""
    small = cv2.resize(chip, (side, side), interpolation=cv2.INTER_AREA)
    cover = chip_mask(side)
    return Sprite(cv2.multiply(small, cover, scale=1 / 255), 255 - cover)


@functools.lru_cache(maxsize=8)
def chip_mask(side: int) -> np.ndarray:
    return cv2.merge([rounded(side, side, side / 6)] * 3)
