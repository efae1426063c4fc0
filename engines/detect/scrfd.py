"""SCRFD (Guo et al. 2021): one network that looks at the whole picture once, with key points.

What a file gives is read from the file, in a first run on a black picture: InsightFace's export
(score, box and points of each stride as flat tables, scores in 0..1) or the raw maps (`score_8`
(N, 2, 80, 80), ... with logits); a free or a fixed input size; with or without key points. At 640
pixels a face that fills the picture is larger than what the anchors were trained for, so a second
pass over a small copy looks for close-ups, for a tenth of the time.
"""

import functools
import math
from typing import Callable, Dict, List, NamedTuple, Optional, Sequence, Tuple

import cv2
import numpy as np

from engines.backends.network import Network
from engines.detect.boxes import overlaps, squared, suppress
from engines.detect.detector import Detector, Faces, check_picture
from engines.sampling import cpu as sampling
from errors import ModelError
from settings import AUTO, Settings

STRIDES = (8, 16, 32)  # pixels from one anchor to the next; input sides are multiples of the last
POINTS = 10  # x and y of five key points
SUPPRESSION = 0.4  # IoU; InsightFace's scrfd.py
CLOSE_UP_SIZE = 192  # pixels, longer side of the small copy
CLOSE_UP_SHARE = 0.4  # of the picture's shorter side: smaller faces are the first pass's alone
TILE = 96  # pixels; a followed face is cut out with its surroundings, and they stand side by side
TILE_REACH = 2.0  # sides of the face that its tile shows: the face has 48 pixels in it
TILES_A_ROW = 4
PointFinder = Callable[[np.ndarray, np.ndarray], np.ndarray]


class Layout(NamedTuple):
    """What the network's outputs are. `names`: for each stride those of score, box and points (or None)."""

    names: Tuple[Tuple[str, str, Optional[str]], ...]
    anchors: int  # at each place
    logits: bool


class Candidates(NamedTuple):
    """Anchors that pass: boxes (N, 4), scores (N,), landmarks (N, 5, 2), in pixels."""

    boxes: np.ndarray
    scores: np.ndarray
    landmarks: np.ndarray


class Scrfd(Detector):
    """`size` is the longer side that pictures get (a fixed input keeps its own). `points` finds the
    key points (N, 5, 2) of boxes (N, 4) in a picture where the network gives none."""

    def __init__(
        self,
        network: Network,
        name: str = "scrfd",
        size: int = 640,
        threshold: float = 0.5,
        min_face: int = 20,
        close_ups: bool = True,
        points: Optional[PointFinder] = None,
    ) -> None:
        """Raises ModelError for a network that is no SCRFD, or gives no key points and `points` is None."""
        self._network = network
        self._input = network.inputs[0].name
        self._batch, _, self._height, self._width = network.inputs[0].shape
        self._size, self._threshold, self._min_face = size, threshold, min_face
        self._close_ups, self._points = close_ups, points
        blank = np.zeros((1, 3, self._height or 2 * STRIDES[-1], self._width or 2 * STRIDES[-1]), np.float32)
        self._layout = layout_of(network.run({self._input: blank}), blank.shape[2], blank.shape[3], name)
        if self._layout.names[0][2] is not None:
            self._points = None
        elif points is None:
            raise ModelError(
                "{}: this SCRFD gives no key points, without which faces cannot be aligned for recognition; "
                "choose a model with key points, such as scrfd_500m.".format(name)
            )

    @classmethod
    def from_settings(cls, settings: Settings) -> "Scrfd":
        """The SCRFD that detector.model names; where its catalogue entry says `points: mtcnn`, the last
        network of MTCNN finds the key points."""
        from engines import catalogue
        from engines.backends.choose import open_network
        from engines.build import ensure

        entry = catalogue.entry(settings.detector.model, "detector", "detector.model")
        wanted = settings.detector.threshold
        points = None
        if "points" in entry:
            onet = ensure(entry["points"], settings)["onet"]
            points = OnetPoints(open_network(onet, settings, rewrite=True, role="onet"))
        return cls(
            open_network(ensure(entry["name"], settings)["detector"], settings, role="detector"),
            entry["name"],
            settings.scrfd.size,
            float(entry["threshold"] if wanted == AUTO else wanted),
            settings.detector.min_face,
            settings.scrfd.close_ups,
            points,
        )

    def detect(self, image: np.ndarray) -> Faces:
        """Find the faces in a BGR picture (H, W, 3) uint8. Raises UsageError for another array."""
        return self.detect_all([image])[0]

    def detect_all(self, images: Sequence[np.ndarray]) -> List[Faces]:
        """The faces of each picture; in one run where they have one shape and the network takes several."""
        for image in images:
            check_picture(image)
        together = self._batch is None and len({image.shape for image in images}) == 1
        groups = [list(images)] if together else [[image] for image in images]
        return [faces for group in groups for faces in self._detect(group)]

    def search(self, image: np.ndarray, known: Optional[Faces] = None) -> Faces:
        found = self.detect(image)
        if known is None or not known.count:
            return found
        apart = overlaps(found.boxes, known.boxes).max(axis=1, initial=0) <= SUPPRESSION
        return _sorted(_joined([Candidates(*_arrays(known)), Candidates(*_arrays(found.take(apart)))]))

    def follow(self, image: np.ndarray, boxes: np.ndarray) -> Faces:
        """One run on all `boxes` (N, 4) with their surroundings, side by side. A network of fixed size
        searches the whole picture: it takes as long."""
        check_picture(image)
        if self._height or self._width:
            return self.detect(image)
        if not len(boxes):
            return Faces.none()
        tiles, corners, scales = _tiles(image, boxes)
        found = self._passing([tiles])[0]
        place = np.minimum((found.boxes[:, :2] + found.boxes[:, 2:]) / 2 // TILE, TILES_A_ROW - 1).astype(int)
        at = np.clip(place[:, 1] * TILES_A_ROW + place[:, 0], 0, len(boxes) - 1)
        shift = np.tile(place * TILE, 2).astype(np.float32)
        back = _moved(found, shift, scales[at, None], corners[at])
        near = overlaps(back.boxes, boxes)[np.arange(len(at)), at] > 0  # not a neighbour of the one that is followed
        return self._finished(image, [Candidates(*(part[near] for part in back))])

    def close(self) -> None:
        self._network.close()
        if isinstance(self._points, OnetPoints):
            self._points.close()

    def _detect(self, images: List[np.ndarray]) -> List[Faces]:
        """Pictures of one shape; those smaller than min_face have no faces."""
        if max(images[0].shape[:2]) < self._min_face:
            return [Faces.none() for _ in images]
        passes = [self._look(images, self._size)]
        if self._close_ups:
            least = CLOSE_UP_SHARE * min(images[0].shape[:2])
            close = self._look(images, CLOSE_UP_SIZE)
            passes.append([Candidates(*(part[_sides(one.boxes) >= least] for part in one)) for one in close])
        return [self._finished(image, found) for image, found in zip(images, zip(*passes))]

    def _look(self, images: List[np.ndarray], size: int) -> List[Candidates]:
        """One pass at `size`: what passes, in pixels of the pictures."""
        height, width = images[0].shape[:2]
        scale = size / max(height, width)
        if self._height and self._width:
            scale = min(scale, self._height / height, self._width / width)
        inner = max(1, round(height * scale)), max(1, round(width * scale))
        outer = self._height or _padded(inner[0]), self._width or _padded(inner[1])
        canvases = []
        for image in images:
            canvas = np.zeros((outer[0], outer[1], 3), np.uint8)
            canvas[: inner[0], : inner[1]] = sampling.shrunk(image, inner[1], inner[0])
            canvases.append(canvas)
        back = np.array([width / inner[1], height / inner[0]] * 2, np.float32)
        unmoved = np.zeros(4, np.float32)
        return [_moved(found, unmoved, back, unmoved) for found in self._passing(canvases)]

    def _passing(self, canvases: List[np.ndarray]) -> List[Candidates]:
        """Run the network on BGR canvases (H, W, 3) uint8 of one shape: what passes the threshold in each."""
        height, width = canvases[0].shape[:2]
        blob = np.empty((len(canvases), 3, height, width), np.float32)
        for canvas, planes in zip(canvases, blob):
            sampling.to_planes(canvas, planes)
        outputs = self._network.run({self._input: blob})
        levels = [self._level(outputs, row, len(canvases), height, width) for row in range(len(STRIDES))]
        return [_joined([level[picture] for level in levels]) for picture in range(len(canvases))]

    def _level(self, outputs: Dict[str, np.ndarray], row: int, count: int, height: int, width: int) -> List[Candidates]:
        """One stride: the candidates of each of `count` pictures."""
        stride, anchors = STRIDES[row], self._layout.anchors
        centres = anchor_centres(height // stride, width // stride, stride, anchors)
        score, box, point = (
            None if name is None else table(outputs[name], anchors, channels).reshape(count, len(centres), channels)
            for name, channels in zip(self._layout.names[row], (1, 4, POINTS))
        )
        found = []
        for picture in range(count):
            scores = score[picture, :, 0]  # type: ignore[index]
            least = self._threshold
            if self._layout.logits:
                least = math.log(max(least, 1e-6) / max(1 - least, 1e-6))
            keep = np.flatnonzero(scores >= least)
            scores = 1 / (1 + np.exp(-scores[keep])) if self._layout.logits else scores[keep]
            middle, sides = centres[keep], box[picture, keep] * np.float32(stride)  # type: ignore[index]
            boxes = np.concatenate([middle - sides[:, :2], middle + sides[:, 2:]], axis=1)
            points = np.zeros((len(keep), 5, 2), np.float32)
            if point is not None:
                points = point[picture, keep].reshape(-1, 5, 2) * np.float32(stride) + middle[:, None]
            found.append(Candidates(boxes, scores, points))
        return found

    def _finished(self, image: np.ndarray, passes: Sequence[Candidates]) -> Faces:
        """Of each face the best box, those under min_face left out, with their key points."""
        faces = _sorted(_joined(passes))
        faces = faces.take(suppress(faces.boxes, faces.scores, SUPPRESSION))
        faces = faces.take(_sides(faces.boxes) >= self._min_face)
        if self._points is None:
            return faces
        return Faces(faces.boxes, faces.scores, self._points(image, faces.boxes).astype(np.float32))


class OnetPoints:
    """Key points by the last network of MTCNN, for boxes that another detector found."""

    SIZE = 48

    def __init__(self, onet: Network) -> None:
        self._onet = onet

    def __call__(self, image: np.ndarray, boxes: np.ndarray) -> np.ndarray:
        """Boxes (N, 4) in pixels of a BGR picture -> (N, 5, 2)."""
        if not len(boxes):
            return np.zeros((0, 5, 2), np.float32)
        squares = np.round(squared(boxes.astype(np.float64)))
        found = self._onet.run({"input": sampling.crops(image, squares - [0, 0, 1, 1], self.SIZE)})["landmarks"]
        shares = found.reshape(-1, 2, 5).transpose(0, 2, 1)  # x1..x5 y1..y5 -> (N, 5, 2)
        return squares[:, None, :2] + shares * (squares[:, None, 2:] - squares[:, None, :2])

    def close(self) -> None:
        self._onet.close()


def layout_of(outputs: Dict[str, np.ndarray], height: int, width: int, name: str) -> Layout:
    """What the outputs for a black picture of `height` x `width` are. Raises ModelError for those of
    another network."""
    cells = [(height // stride) * (width // stride) for stride in STRIDES]
    raw = any(array.ndim == 4 for array in outputs.values())
    fewest = min((array.shape[1] for array in outputs.values() if array.ndim == 4), default=1)
    kinds: Dict[int, List[Tuple[int, str]]] = {1: [], 4: [], POINTS: []}  # numbers an anchor -> (rows, output)
    for output, array in outputs.items():
        channels = array.shape[1] / fewest if raw and array.ndim == 4 else array.shape[-1]
        if channels in kinds:
            kinds[channels].append((array.size // int(channels), output))
    for found in kinds.values():
        found.sort(reverse=True)
    anchors = kinds[1][0][0] // cells[0] if kinds[1] else 0
    wanted = [anchors * count for count in cells]
    complete = [[rows for rows, _ in found] == wanted for found in kinds.values()]
    if not anchors or not complete[0] or not complete[1] or (kinds[POINTS] and not complete[2]):
        shapes = ", ".join("{} {}".format(output, array.shape) for output, array in outputs.items())
        raise ModelError(
            "{}: is no SCRFD: for a picture of {}x{} it gives {}, but must give score, box and, if it has them, "
            "five points at the strides 8, 16 and 32.".format(name, width, height, shapes)
        )
    points = [output for _, output in kinds[POINTS]] or [None] * len(STRIDES)  # type: ignore[list-item]
    names = zip((output for _, output in kinds[1]), (output for _, output in kinds[4]), points)
    # A black picture has no face: as logits its scores are far below 0, which no probability is.
    return Layout(tuple(names), anchors, any((outputs[output] < 0).any() for _, output in kinds[1]))


def table(array: np.ndarray, anchors: int, channels: int) -> np.ndarray:
    """An output as rows of `channels` numbers, in the order picture, row, column, anchor."""
    if array.ndim == 4 and array.shape[1] == anchors * channels:
        array = array.transpose(0, 2, 3, 1)
    return array.reshape(-1, channels)


@functools.lru_cache(maxsize=32)
def anchor_centres(rows: int, columns: int, stride: int, anchors: int) -> np.ndarray:
    """Where the anchors of one stride stand: (rows * columns * anchors, 2) float32, x y in pixels."""
    y, x = np.mgrid[:rows, :columns]
    centres = np.repeat(np.stack([x, y], axis=-1).reshape(-1, 2) * stride, anchors, axis=0).astype(np.float32)
    centres.setflags(write=False)
    return centres


def _padded(side: int) -> int:
    return -(-side // STRIDES[-1]) * STRIDES[-1]


def _sides(boxes: np.ndarray) -> np.ndarray:
    """The longer side of each box (N, 4): (N,)."""
    return (boxes[:, 2:] - boxes[:, :2]).max(axis=1, initial=0)


def _tiles(image: np.ndarray, boxes: np.ndarray) -> Tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Squares around `boxes` side by side; of each the corner (N, 4) x y x y in the picture, and the
    picture's pixels to one of the tile (N,)."""
    around = squared(boxes.astype(np.float32))
    sides = np.maximum((around[:, 2] - around[:, 0]) * TILE_REACH, 1)
    corners = (around[:, :2] + around[:, 2:]) / 2 - sides[:, None] / 2
    scales = sides / TILE
    rows = -(-len(boxes) // TILES_A_ROW)
    canvas = np.zeros((rows * TILE, min(len(boxes), TILES_A_ROW) * TILE, 3), np.uint8)
    halves = sampling.Halves(image)
    for at, (corner, scale) in enumerate(zip(corners, scales)):
        source, times = halves.at(float(scale), 1.0)
        shrink = scale / 2**times
        matrix = np.array([[1 / shrink, 0, -corner[0] / scale], [0, 1 / shrink, -corner[1] / scale]])
        tile = cv2.warpAffine(source, matrix, (TILE, TILE), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
        top, left = at // TILES_A_ROW * TILE, at % TILES_A_ROW * TILE
        canvas[top : top + TILE, left : left + TILE] = tile
    return canvas, np.tile(corners, 2), scales


def _moved(found: Candidates, shift: np.ndarray, scale: np.ndarray, corner: np.ndarray) -> Candidates:
    """(x - shift) * scale + corner; each (N, 4) or one of (4,), in the order x y x y."""
    shift, scale, corner = (np.broadcast_to(one, found.boxes.shape) for one in (shift, scale, corner))
    points = (found.landmarks - shift[:, None, :2]) * scale[:, None, :2] + corner[:, None, :2]
    return Candidates((found.boxes - shift) * scale + corner, found.scores, points)


def _joined(parts: Sequence[Candidates]) -> Candidates:
    return Candidates(*(np.concatenate([part[at] for part in parts]) for at in range(3)))


def _arrays(faces: Faces) -> Tuple[np.ndarray, np.ndarray, np.ndarray]:
    return faces.boxes, faces.scores, faces.landmarks


def _sorted(found: Candidates) -> Faces:
    order = np.argsort(-found.scores, kind="stable")
    return Faces(*(part[order].astype(np.float32) for part in found))
