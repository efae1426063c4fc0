"""Pictures to network inputs on the CPU: the pyramid, crops of candidates, aligned chips.

What a network sees decides what it finds, so the resizing is the original's: area when it shrinks,
bilinear when it grows. Area over a whole frame for each of nine scales costs more than PNet itself;
so a live picture (`Halves`) is first halved, by area, as often as leaves KEEP source pixels and more
to each target pixel. Over the 18 test photos that finds the faces that one step finds, but moves a
fifth of the boxes (IoU down to 0.79); leaving 1.5 to the pyramid lets two false ones of score 0.8 in.

Our own nets were trained on bilinear samples of the half that has 1 to 2 pixels to one of theirs; for
them (`bilinear`) pyramid and R's crops are made like that, too: all crops of a half in one call of
OpenCV's, and no corner moved to a whole pixel of it. On 100 photos that takes 8.6 ms a photo instead
of 10.1, and finds 84.2 % of the faces at as many false ones as the original's nets, instead of 83.1.
"""

import functools
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Callable, Dict, Optional, Sequence, Tuple, Union

import cv2
import numpy as np

from engines.sampling.layout import Layout

MEAN = 127.5  # MTCNN's input is (x - 127.5) / 128 (Zhang et al. 2016, the published networks)
SCALE = 1 / 128
KEEP = 2.0  # source pixels to a target pixel, in each direction, that the pyramid's last step has at least
KEEP_CROP = 1.5  # and that of crops
KEEP_BILINEAR = 1.0  # the same for nets of our own
SAMPLED = 24  # pixels of the largest crops that are sampled; O's, few, are resized: points 5 % nearer


class Halves:
    """A picture and its halves, quarters, ... each made once, when first asked for; `exact`: the
    picture alone, so that everything is shrunk in one step; `bilinear`: sampled as our own nets'
    training does, instead of resized by area."""

    def __init__(self, image: np.ndarray, exact: bool = False, bilinear: bool = False) -> None:
        self.whole = image
        self.bilinear = bilinear
        self._images = [image]
        self._exact = exact

    def at(self, shrink: float, keep: float) -> Tuple[np.ndarray, int]:
        """The smallest copy that has `keep` pixels to a target pixel, and how often it was halved;
        `shrink` is pixels of the picture to a target pixel."""
        step = 0
        while shrink >= 2 * keep and not self._exact:
            if step + 1 == len(self._images) and not self._halve():
                break
            step, shrink = step + 1, shrink / 2
        return self._images[step], step

    def _halve(self) -> bool:
        last = self._images[-1]
        height, width = last.shape[0] // 2, last.shape[1] // 2
        if not height or not width:
            return False
        # Even sizes have a fast path (0.13 ms at 1280x720 instead of 1.8); an odd last row goes.
        even = last[: 2 * height, : 2 * width]
        self._images.append(cv2.resize(even, (width, height), interpolation=cv2.INTER_AREA))
        return True


class Scratch:
    """Arrays that are used again: the first touch of fresh memory costs more than the sampling that
    writes it (R's 180 crops took 2.2 ms, 1.3 with it). What it gave before is overwritten."""

    def __init__(self) -> None:
        self._arrays: Dict[str, np.ndarray] = {}

    def array(self, name: str, shape: Tuple[int, ...], dtype: Any) -> np.ndarray:
        """An array of that shape, with anything in it, in the place of the last one of that name."""
        size = int(np.prod(shape))
        if name not in self._arrays or self._arrays[name].size < size:
            self._arrays[name] = np.empty(size, dtype)
        return self._arrays[name][:size].reshape(shape)


def pyramid(
    image: Union[np.ndarray, Halves], layout: Layout, blob: np.ndarray, scratch: Optional[Scratch] = None
) -> None:
    """Fill `blob` (1, 3, layout.height, layout.width) float32 with every scale of a BGR picture
    (H, W, 3) uint8 in its place: RGB, (x - 127.5) / 128; the rest stays as black is."""
    canvas = (scratch or Scratch()).array("canvas", (layout.height, layout.width, 3), np.uint8)
    canvas.fill(0)
    halves = image if isinstance(image, Halves) else Halves(image)
    keep = KEEP_BILINEAR if halves.bilinear else KEEP
    bases = [halves.at(1 / level.scale, keep)[0] for level in layout.levels]

    def fill(row: int) -> None:
        level, stride = layout.levels[row], layout.stride
        small = shrunk(bases[row], level.width, level.height, area=not halves.bilinear)
        small = small[: level.height // stride * stride, : level.width // stride * stride]
        canvas[level.top : level.top + small.shape[0], level.left : level.left + small.shape[1]] = small

    _spread(fill, len(bases))
    to_planes(canvas, blob[0])


def shrunk(
    image: np.ndarray, width: int, height: int, into: Optional[np.ndarray] = None, area: bool = True
) -> np.ndarray:
    """`image` resized to `width` x `height`: by area when that shrinks it (and `area` is wanted), else bilinear."""
    shrinks = width <= image.shape[1] and height <= image.shape[0]
    return cv2.resize(image, (width, height), into, 0, 0, cv2.INTER_AREA if shrinks and area else cv2.INTER_LINEAR)


def to_planes(image: np.ndarray, planes: np.ndarray) -> None:
    """BGR (H, W, 3) uint8 into `planes` (3, H, W) float32: RGB, (x - 127.5) / 128."""
    for channel, plane in enumerate(cv2.split(image)):  # exact in float32, in whatever order it is worked out
        cv2.addWeighted(plane, SCALE, plane, 0, -MEAN * SCALE, planes[2 - channel], cv2.CV_32F)


def candidates(
    layout: Layout, scores: np.ndarray, offsets: np.ndarray, threshold: np.floating
) -> Tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cells of PNet's map that pass and belong to a level, in the map's order.

    scores (h, w) and offsets (4, h, w) are PNet's. Returns cells (N,), whose row and column are the
    number divided by w, scores (N,) and offsets (N, 4).
    """
    cells = np.flatnonzero(scores.ravel() >= threshold)
    cells = cells[layout.cells.ravel()[cells] >= 0]
    return cells, scores.ravel()[cells], offsets.reshape(4, -1)[:, cells].T


def crops(
    image: Union[np.ndarray, Halves], boxes: np.ndarray, size: int, scratch: Optional[Scratch] = None
) -> np.ndarray:
    """Cut square boxes out of a BGR picture for RNet (24) and ONet (48).

    boxes (N, 4): x1 y1 x2 y2 in whole pixels from 0, both corners inside the box, over the border
    allowed (black there). A large box is cut out of a halved picture, to its nearest pixel where
    that is not `bilinear`. Returns (N, 3, size, size) float32, RGB, (x - 127.5) / 128; in `scratch`,
    where that is given.
    """
    halves = image if isinstance(image, Halves) else Halves(image)
    scratch = scratch or Scratch()
    edges = np.asarray(boxes, np.float64) + [0, 0, 1, 1]
    count = len(edges)
    canvas = scratch.array("canvas", (count, size, size, 3), np.uint8)
    sampled = halves.bilinear and size <= SAMPLED
    keep = KEEP_BILINEAR if sampled else KEEP_CROP
    sources = [halves.at(shrink, keep) for shrink in ((edges[:, 2] - edges[:, 0]) / size).tolist()]
    if sampled:
        _sample(sources, edges, canvas, scratch)
    else:
        _resize(sources, edges, canvas)
    planes = scratch.array("planes", (3, count * size, size), np.float32)
    if count:
        to_planes(canvas.reshape(count * size, size, 3), planes)
    blob = scratch.array("blob", (count, 3, size, size), np.float32)
    blob[...] = planes.reshape(3, count, size, size).transpose(1, 0, 2, 3)
    return blob


def _resize(sources: Sequence[Tuple[np.ndarray, int]], edges: np.ndarray, canvas: np.ndarray) -> None:
    """Fill `canvas` (N, S, S, 3) with the squares between `edges` (N, 4), each resized by itself out of its
    source: a picture, and how often it was halved."""
    size = canvas.shape[1]
    steps = np.array([step for _, step in sources], np.float64).reshape(-1, 1)
    corners = np.floor(edges / 2**steps + 0.5).astype(np.int64).tolist()
    jobs = list(zip(sources, corners, canvas))

    def fill(row: int) -> None:
        (source, _), corner, target = jobs[row]
        patch = _cut(source, *corner)
        if patch is None:
            target.fill(0)
        else:
            shrunk(patch, size, size, target)

    _spread(fill, len(jobs))


def _sample(
    sources: Sequence[Tuple[np.ndarray, int]], edges: np.ndarray, canvas: np.ndarray, scratch: Scratch
) -> None:
    """The same by one bilinear sample for each pixel, all squares of a source at once."""
    size = canvas.shape[1]
    shrink = (edges[:, 2] - edges[:, 0]) / size
    middles = np.arange(size) + 0.5
    steps = np.array([step for _, step in sources])
    for step in np.unique(steps).tolist():
        rows = np.flatnonzero(steps == step)
        points = (edges[rows, :2, None] + shrink[rows, None, None] * middles) / 2**step - 0.5
        shape = (len(rows), size, size)
        x, y = scratch.array("x", shape, np.float32), scratch.array("y", shape, np.float32)
        x[...], y[...] = points[:, 0, None, :], points[:, 1, :, None]
        flat = (len(rows), size * size)  # not a column of crops: remap takes no more than 32,767 rows
        found = cv2.remap(sources[rows[0]][0], x.reshape(flat), y.reshape(flat), cv2.INTER_LINEAR)  # outside: black
        canvas[rows] = found.reshape(shape + (3,))


def _cut(image: np.ndarray, x1: int, y1: int, x2: int, y2: int) -> Optional[np.ndarray]:
    """Rows y1 to y2 and columns x1 to x2 (the ends not included), black outside the picture; None
    when nothing of it lies inside."""
    height, width = image.shape[:2]
    if x1 >= 0 and y1 >= 0 and x2 <= width and y2 <= height and x1 < x2 and y1 < y2:
        return image[y1:y2, x1:x2]
    if x2 <= x1 or y2 <= y1 or x2 <= 0 or y2 <= 0 or x1 >= width or y1 >= height:
        return None
    return cv2.copyMakeBorder(
        image[max(y1, 0) : y2, max(x1, 0) : x2],
        max(-y1, 0),
        max(y2 - height, 0),
        max(-x1, 0),
        max(x2 - width, 0),
        cv2.BORDER_CONSTANT,
        value=(0, 0, 0),
    )


def _spread(work: Callable[[int], None], count: int) -> None:
    """work(0), ... work(count - 1) on as many threads as OpenCV may use, each taking the next."""
    threads = min(cv2.getNumThreads(), count)
    if threads < 2:
        for row in range(count):
            work(row)
        return
    rows = iter(range(count))  # its next() is one step of the interpreter: no two threads get the same

    def take(_: int) -> None:
        for row in rows:
            work(row)

    helpers = [_pool().submit(take, number) for number in range(1, threads)]
    take(0)
    for helper in helpers:
        helper.result()


@functools.lru_cache(maxsize=1)
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(thread_name_prefix="sampling")


def chips(image: np.ndarray, matrices: np.ndarray, size: int) -> np.ndarray:
    """Aligned faces: (N, size, size, 3) uint8 BGR, bilinear, black outside the picture.

    image (H, W, 3) uint8 BGR; matrices (N, 2, 3): from pixels of the picture to pixels of the chip.
    """
    found = np.zeros((len(matrices), size, size, 3), np.uint8)
    for chip, matrix in zip(found, np.asarray(matrices, np.float64)):
        cv2.warpAffine(image, matrix, (size, size), dst=chip, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
    return found


def normalise(
    chips_bgr: np.ndarray, mean: Union[float, Sequence[float]], std: Union[float, Sequence[float]]
) -> np.ndarray:
    """(N, S, S, 3) uint8 BGR -> (N, 3, S, S) float32 RGB, (x - mean) / std; mean and std one number
    or one for each of R, G, B."""
    means = np.broadcast_to(np.asarray(mean, np.float32), 3)
    stds = np.broadcast_to(np.asarray(std, np.float32), 3)
    count, height, width = chips_bgr.shape[:3]
    blob = np.empty((count, 3, height, width), np.float32)
    for channel in range(3):
        np.subtract(chips_bgr[..., 2 - channel], means[channel], out=blob[:, channel], dtype=np.float32)
        blob[:, channel] /= stds[channel]
    return blob
