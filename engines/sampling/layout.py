"""Where each scale of the MTCNN pyramid lies in the one blob that PNet sees.

Separate runs of PNet, one for each scale, cost nine calls; the blob that is usually stacked for one
call (710x384 for every frame) is between 20 and 61 % full. Here the scales are packed as tightly as
a small search finds, for the frame at hand. A cell of PNet's map sees 12x12 pixels and moves by 2 (our
own PNet's by 4): a scale that starts on a multiple of that therefore gives exactly the cells that it
gives alone, and scales may touch, since a cell that straddles two of them belongs to neither.

PNet pools in ceil mode, so that a scale of odd height (width), run alone, has one row (column) of
cells more, which sees a pixel less. Here, as in tensorrt_demos, cells lie inside their scale: of an
odd side the last pixel is left out.
"""

import functools
import itertools
from typing import List, NamedTuple, Sequence, Tuple

import numpy as np

CELL = 12  # pixels that one cell of PNet's map sees in each direction
STRIDE = 2  # pixels from one cell of the original's to the next


class Level(NamedTuple):
    """One scale: its size, and its top left corner in the blob, in pixels of the blob. The blob
    holds what is a multiple of the stride: `height` - `height` % 2 rows, and columns likewise."""

    scale: float
    height: int
    width: int
    top: int
    left: int


class Layout(NamedTuple):
    """The blob for one frame size.

    `cells` has the shape of PNet's map and holds the index of the level that a cell belongs to,
    or -1; `scales`, `tops` and `lefts` are the same fields of `levels` as float64 arrays (what
    floor(corner / scale) gives hangs on the last bit).
    """

    height: int
    width: int
    levels: Tuple[Level, ...]
    cells: np.ndarray
    scales: np.ndarray
    tops: np.ndarray
    lefts: np.ndarray
    stride: int = STRIDE


def scales(height: int, width: int, min_face: int, factor: float) -> List[float]:
    """The scales of the pyramid, largest first: 12/min_face, then times `factor`, while the smaller
    side keeps 12 pixels (Zhang et al. 2016). Empty for a picture smaller than `min_face`."""
    found = []
    scale = CELL / min_face
    side = min(height, width) * scale
    while side >= CELL:
        found.append(scale)
        scale *= factor
        side *= factor
    return found


@functools.lru_cache(maxsize=16)
def layout(height: int, width: int, min_face: int, factor: float, stride: int = STRIDE) -> Layout:
    """The packed blob for a frame of `height` x `width` pixels; without levels when it is too small.
    `stride`: pixels from one cell of PNet's map to the next."""
    steps = scales(height, width, min_face, factor)
    sizes = [(int(height * scale + 1), int(width * scale + 1)) for scale in steps]  # as facenet-pytorch
    slots = [(rows - rows % stride, columns - columns % stride) for rows, columns in sizes]
    blob_height, blob_width, corners = _pack(slots)
    levels = tuple(
        Level(scale, rows, columns, top, left) for scale, (rows, columns), (top, left) in zip(steps, sizes, corners)
    )
    cells = np.full((map_size(blob_height, stride), map_size(blob_width, stride)), -1, np.int8)
    for index, level in enumerate(levels):
        top, left = level.top // stride, level.left // stride
        cells[top : top + map_size(level.height, stride), left : left + map_size(level.width, stride)] = index
    cells.setflags(write=False)
    columns_of = np.array([(level.scale, level.top, level.left) for level in levels], np.float64).reshape(-1, 3)
    return Layout(blob_height, blob_width, levels, cells, columns_of[:, 0], columns_of[:, 1], columns_of[:, 2], stride)


def map_size(pixels: int, stride: int = STRIDE) -> int:
    """Cells of PNet's map that lie inside a side of `pixels` pixels."""
    return max(0, (pixels - CELL) // stride + 1)


def _pack(slots: Sequence[Tuple[int, int]]) -> Tuple[int, int, List[Tuple[int, int]]]:
    """Place (height, width) rectangles, largest first, into the blob of least area.

    Returns height, width and the (top, left) of each. The best width is a sum of some widths of
    the rectangles, so only those are tried.
    """
    if not slots:
        return 0, 0, []
    widths = [columns for _, columns in slots]
    widest = 2 * widths[0]
    tried = {
        sum(group) for count in range(1, min(4, len(widths)) + 1) for group in itertools.combinations(widths, count)
    }
    best: Tuple[int, int, List[Tuple[int, int]]] = (0, 0, [])
    for width in (total for total in sorted(tried) if widths[0] <= total <= widest):
        height, corners = _place(slots, width, best[0] * best[1])
        if corners:
            best = height, width, corners
    return best


def _place(slots: Sequence[Tuple[int, int]], blob_width: int, area: int) -> Tuple[int, List[Tuple[int, int]]]:
    """Put each rectangle, in order, as high and then as far left as it fits. No corners once the blob
    would not have less than `area` (0: any will do): photos come in all sizes, and to try all widths
    to the end took 0.6 ms of a new size's 5."""
    placed: List[Tuple[int, int, int, int]] = []  # top, left, bottom, right
    for rows, columns in slots:
        tops = sorted({0} | {box[2] for box in placed})
        lefts = sorted({0} | {box[3] for box in placed})
        top, left = next(
            (top, left)
            for top in tops
            for left in lefts
            if left + columns <= blob_width
            and not any(
                top < box[2] and box[0] < top + rows and left < box[3] and box[1] < left + columns for box in placed
            )
        )
        if 0 < area <= (top + rows) * blob_width:
            return 0, []
        placed.append((top, left, top + rows, left + columns))
    return max(box[2] for box in placed), [(box[0], box[1]) for box in placed]
