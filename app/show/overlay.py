"""What is drawn over the picture: boxes with names, the pace, problems, and the panel of enrolment.

It draws and only draws: what is known about a face was decided before, and comes as a Scene. Colour
and shape both tell the states apart, for those who do not see the colours: a known face has a full
box and a filled label, an unknown one the corners of a box and a dark label, one not yet decided a
thin box, the chosen one a full box with strong corners. Everything with text is composed once as a
sprite and kept; a frame costs a few pastes.
"""
import functools
from typing import Callable, List, NamedTuple, Optional, Sequence, Tuple

import cv2
import numpy as np

from app.show import theme
from app.show.fonts import AUTO, Typeface, to_stderr
from app.show.panel import Panel, PanelPainter
from app.show.sprites import Canvas, Sprite, outline, paste, rounded

Box = Tuple[int, int, int, int]  # left, top, right, bottom
KEPT_SPRITES = 256  # about 40 kB each at 1280x720


class Label(NamedTuple):
    """One face. `box` x1 y1 x2 y2 in pixels of the picture; `text` 'Anna 0.72', 'unknown', or '' while
    undecided; `state` known, unknown, pending or chosen; `advice` a second line, 'come closer'."""

    box: Sequence[float]
    text: str
    state: str
    advice: str = ""


class Scene(NamedTuple):
    """All that is drawn over one picture. `hint` lists keys, two spaces between one and the next."""

    labels: Sequence[Label]
    fps: float
    enrolled: int
    banner: str = ""
    panel: Optional[Panel] = None
    hint: str = "N enrol  Q quit"


class Overlay:
    """`font` is the setting show.font; `say` gets one line for each character that no font has.
    Raises UsageError where `font` cannot be read."""

    def __init__(self, font: str = AUTO, say: Callable[[str], None] = to_stderr) -> None:
        self._face = Typeface(font, say)
        self._panels = PanelPainter(self._face)
        kept = functools.lru_cache(maxsize=KEPT_SPRITES)
        self._label = kept(self._compose_label)
        self._status = kept(self._compose_status)
        self._hint = kept(self._compose_hint)
        self._banner = kept(self._compose_banner)

    def draw(self, picture: np.ndarray, scene: Scene) -> None:
        """Draw `scene` into `picture`, (H, W, 3) uint8 BGR, contiguous, in place."""
        height, width = picture.shape[:2]
        scale = theme.scale_of(height)
        margin = theme.scaled(theme.MARGIN, scale)
        for label in scene.labels:
            draw_box(picture, label, scale)
        pasted: List[Tuple[Sprite, int, int]] = []
        top = 0
        if scene.banner:
            banner = self._banner(scene.banner, width, scale)
            pasted.append((banner, 0, 0))
            top = banner.height
        status = self._status("{:.0f}".format(scene.fps), scene.enrolled, scale)
        pasted.append((status, margin, top + margin))
        if scene.hint:
            hint = self._hint(scene.hint, width - 2 * margin, scale)
            pasted.append((hint, margin, height - margin - hint.height))
        if scene.panel is not None:
            chosen = next((label for label in scene.labels if label.state == "chosen"), None)
            left = chosen is not None and chosen.box[0] + chosen.box[2] > width
            pasted += self._panels.sprites(scene.panel, width, height, "left" if left else "right", top)
        taken = [(x, y, x + sprite.width, y + sprite.height) for sprite, x, y in pasted]
        for sprite, x, y in self._placed_labels(scene.labels, taken, (0, top, width, height), scale) + pasted:
            paste(picture, sprite, x, y)

    def _placed_labels(
        self, labels: Sequence[Label], taken: List[Box], room: Box, scale: float
    ) -> List[Tuple[Sprite, int, int]]:
        """Labels above their boxes, or where there is room: inside the picture, off each other and the rest."""
        placed = []
        for label in labels:
            if not (label.text or label.advice) or not np.all(np.isfinite(label.box)):
                continue
            sprite = self._label(label.text, label.advice, label.state, room[2] // 2, scale)
            place = free_place(label.box, sprite.width, sprite.height, room, taken, scale)
            if place is not None:
                taken.append((place[0], place[1], place[0] + sprite.width, place[1] + sprite.height))
                placed.append((sprite,) + place)
        return placed

    def _compose_label(self, text: str, advice: str, state: str, widest: int, scale: float) -> Sprite:
        """A pill: filled with the state's colour where it is known or chosen, else dark with it as the text."""
        colour = theme.STATES[state]
        filled = state in ("known", "chosen")
        name, number = split_number(text)
        size, small = theme.font_size(theme.TEXT, scale), theme.font_size(theme.SMALL, scale)
        pad, gap = theme.scaled(9, scale), theme.scaled(8, scale)
        room = widest - 2 * pad
        figure = self._face.mask(number, small) if number else np.zeros((1, 0), np.uint8)
        room_for_name = room - (figure.shape[1] + gap if number else 0)
        rows = []
        if name:
            rows.append(self._face.mask(self._face.fitted(name, size, room_for_name), size))
        if advice:
            rows.append(self._face.mask(self._face.fitted(advice, small, room), small))
        first = rows[0].shape[1] + (gap + figure.shape[1] if number else 0)
        across = max([first] + [row.shape[1] for row in rows]) + 2 * pad
        border = theme.scaled(3, scale)
        down = sum(row.shape[0] for row in rows) + 2 * border
        canvas = Canvas(across, down)
        radius = theme.scaled(7, scale)
        canvas.lay(rounded(across, down, radius), colour if filled else theme.INK, opacity=0.94 if filled else 0.78)
        if not filled:
            canvas.lay(outline(across, down, radius, theme.scaled(1.5, scale)), colour, opacity=0.9)
        canvas.lay(rows[0], theme.INK if filled else colour, pad, border)
        if number:
            drop = border + (rows[0].shape[0] - figure.shape[0]) * 3 // 4  # on one base line
            canvas.lay(figure, theme.INK if filled else colour, pad + rows[0].shape[1] + gap, drop, opacity=0.72)
        if len(rows) > 1:
            canvas.lay(rows[1], theme.INK if filled else theme.PAPER, pad, border + rows[0].shape[0])
        return canvas.sprite()

    def _compose_status(self, fps: str, enrolled: int, scale: float) -> Sprite:
        size = theme.font_size(theme.SMALL, scale)
        parts = [(fps, theme.PAPER), (" fps", theme.MUTED), ("   {}".format(enrolled), theme.PAPER)]
        parts.append((" enrolled", theme.MUTED))
        masks = [self._face.mask(text, size) for text, _ in parts]
        pad = theme.scaled(12, scale)
        down = masks[0].shape[0] + theme.scaled(10, scale)
        canvas = Canvas(sum(mask.shape[1] for mask in masks) + 2 * pad, down)
        canvas.lay(rounded(sum(mask.shape[1] for mask in masks) + 2 * pad, down, down / 2), theme.INK, opacity=0.66)
        x = pad
        for mask, (_, colour) in zip(masks, parts):
            canvas.lay(mask, colour, x, (down - mask.shape[0]) // 2)
            x += mask.shape[1]
        return canvas.sprite()

    def _compose_hint(self, hint: str, widest: int, scale: float) -> Sprite:
        """Each key as a key cap, and what it does behind it."""
        size = theme.font_size(theme.SMALL, scale)
        pad, gap = theme.scaled(7, scale), theme.scaled(16, scale)
        pieces: List[Tuple[int, np.ndarray, np.ndarray]] = []
        across = gap
        for entry in hint.split("  "):
            key, _, meaning = entry.strip().partition(" ")
            cap, does = self._face.mask(key, size), self._face.mask(meaning, size)
            wide = cap.shape[1] + 3 * pad + does.shape[1]
            if not key or (pieces and across + wide + gap > widest):
                continue
            pieces.append((across, cap, does))
            across += wide + gap
        down = size + theme.scaled(20, scale)
        canvas = Canvas(across, down)
        canvas.lay(rounded(across, down, down / 2), theme.INK, opacity=0.66)
        for x, cap, does in pieces:
            cap_width, cap_height = cap.shape[1] + 2 * pad, cap.shape[0] + theme.scaled(3, scale)
            keycap = rounded(cap_width, cap_height, theme.scaled(5, scale))
            canvas.lay(keycap, theme.PAPER, x, (down - cap_height) // 2, opacity=0.9)
            canvas.lay(cap, theme.INK, x + pad, (down - cap.shape[0]) // 2)
            canvas.lay(does, theme.PAPER, x + cap_width + pad, (down - does.shape[0]) // 2)
        return canvas.sprite()

    def _compose_banner(self, text: str, width: int, scale: float) -> Sprite:
        size = theme.font_size(theme.TEXT, scale)
        pad = theme.scaled(theme.MARGIN, scale)
        rows = [self._face.mask(line, size) for line in self._face.wrapped(text, size, width - 2 * pad)[:3]]
        canvas = Canvas(width, sum(row.shape[0] for row in rows) + pad)
        canvas.lay(np.full((canvas.height, width), 255, np.uint8), theme.RED, opacity=0.88)
        y = pad // 2
        for row in rows:
            canvas.lay(row, theme.PAPER, (width - row.shape[1]) // 2, y)
            y += row.shape[0]
        return canvas.sprite()


def draw_box(picture: np.ndarray, label: Label, scale: float) -> None:
    """The shape of the label's state around its box, over a dark edge that shows on bright ground."""
    if not np.all(np.isfinite(label.box)):
        return
    limit = 4 * max(picture.shape[:2])  # OpenCV draws in 16-bit coordinates
    x1, y1, x2, y2 = [round(min(max(float(value), -limit), limit)) for value in label.box]
    colour = theme.STATES[label.state]
    thin, thick = max(theme.scaled(2, scale), 2), theme.scaled(4, scale)  # of one pixel the dark edge would win
    arm = max(min(x2 - x1, y2 - y1) // 4, thick)
    if label.state == "pending":
        cv2.rectangle(picture, (x1, y1), (x2, y2), colour, theme.scaled(1, scale))
        return
    if label.state == "unknown":
        draw_corners(picture, (x1, y1, x2, y2), arm, theme.INK, thick + 2)
        draw_corners(picture, (x1, y1, x2, y2), arm, colour, thick)
        return
    cv2.rectangle(picture, (x1, y1), (x2, y2), theme.INK, thin + 2)
    cv2.rectangle(picture, (x1, y1), (x2, y2), colour, thin)
    if label.state == "chosen":
        draw_corners(picture, (x1, y1, x2, y2), arm, colour, theme.scaled(7, scale))


def draw_corners(picture: np.ndarray, box: Box, arm: int, colour: theme.Colour, thickness: int) -> None:
    for x, along in ((box[0], arm), (box[2], -arm)):
        for y, down in ((box[1], arm), (box[3], -arm)):
            corner = np.array([[x + along, y], [x, y], [x, y + down]], np.int32)
            cv2.polylines(picture, [corner], False, colour, thickness)


def free_place(
    box: Sequence[float], width: int, height: int, room: Box, taken: Sequence[Box], scale: float
) -> Optional[Tuple[int, int]]:
    """Where a label of this size goes: above the box, below it, inside it, or higher up; the first
    that lies inside `room` and touches none of `taken`, else above. None: the box is out of sight."""
    if box[2] <= room[0] or box[0] >= room[2] or box[3] <= room[1] or box[1] >= room[3]:
        return None
    gap = theme.scaled(4, scale)
    x = int(min(max(box[0], room[0]), max(room[2] - width, room[0])))
    above, below, inside = int(box[1]) - gap - height, int(box[3]) + gap, int(box[1]) + gap
    within = [y for y in (above, below, inside, above - height - gap) if room[1] <= y <= room[3] - height]
    for y in within:
        if not any(touches((x, y, x + width, y + height), other) for other in taken):
            return x, y
    return x, within[0] if within else int(min(max(above, room[1]), max(room[3] - height, room[1])))


def touches(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def split_number(text: str) -> Tuple[str, str]:
    """'Anna 0.72' -> ('Anna', '0.72'); any other text -> (text, '')."""
    name, _, last = text.rpartition(" ")
    if name and len(last) == 4 and last[1] == "." and last.replace(".", "").isdigit():
        return name, last
    return text, ""
