"""MTCNN (Zhang et al. 2016): three networks, each looking closer at what the one before let through.

PNet scans the picture at all scales, in one run over one packed blob; RNet judges its candidates at
24x24, ONet the rest at 48x48 and adds landmarks. Rules and constants are the original's, as
kpzhang93's demo and facenet-pytorch have them; new are the packing, one run for each network, and
the caps, which bound the time that a crowd can take: the best scores go first. Boxes stay float64
to the end: scores near 1 decide between all but equal boxes, and floor() and fix() between pixels.
"""

from typing import Dict, Optional, Sequence, Tuple

import numpy as np

from engines.backends.network import Network
from engines.detect.boxes import SMALLER, overlaps, regress, squared, suppress
from engines.detect.detector import Detector, Faces, check_picture
from engines.sampling import cpu as sampling
from engines.sampling.layout import CELL, STRIDE, Layout, layout
from engines.sampling.sampler import Sampler
from settings import Settings

WITHIN_SCALE = 0.5  # overlap (IoU) at which the weaker candidate of one scale goes
ACROSS_SCALES = 0.7
ACROSS_KNOWN = 0.4  # with a face that is followed: what is left of it is merged after ONet
ENOUGH = 2  # times the cap: of so many after the first suppression the second leaves the cap, nearly always
AFTER_RNET = 0.7
AFTER_ONET = 0.7  # of the smaller box
# Where a followed face may have gone: corners (left, top, right, bottom) moved, in sides of its square.
NEAR = np.array(
    [[-1, 0, -1, 0], [1, 0, 1, 0], [0, -1, 0, -1], [0, 1, 0, 1], [0.7, 0.7, -0.7, -0.7], [-0.8, -0.8, 0.8, 0.8]]
) * 0.15  # fmt: skip
RNET_SIZE, ONET_SIZE = 24, 48
NOBODY = np.zeros((0, 4), np.float32)


class Mtcnn(Detector):
    """`thresholds` are the lowest scores after PNet, RNet and ONet; `rnet_cap` and `onet_cap` the
    most candidates that go into RNet and ONet; `stride`: pixels from one cell of PNet's map to the
    next. `whole`: nets of our own, trained on what the kiosk cuts: what R and O say counts from the
    whole pixels that were cut, not, as in the original, from the box before it was rounded
    (landmarks half a pixel nearer), and every picture is sampled as in their training: there is no
    original whose answer must be kept. `sampler` stays its owner's. Not for two threads at once
    (buffers are reused)."""

    def __init__(
        self,
        pnet: Network,
        rnet: Network,
        onet: Network,
        min_face: int = 40,
        thresholds: Sequence[float] = (0.6, 0.7, 0.7),
        factor: float = 0.709,
        rnet_cap: int = 256,
        onet_cap: int = 64,
        stride: int = STRIDE,
        whole: bool = False,
        sampler: Optional[Sampler] = None,
    ) -> None:
        self._pnet, self._rnet, self._onet = pnet, rnet, onet
        self._min_face, self._factor = min_face, factor
        self._thresholds = tuple(np.float32(one) for one in thresholds)
        self._rnet_cap, self._onet_cap, self._stride = rnet_cap, onet_cap, stride
        self._whole = whole
        self._sampler = sampler or Sampler()

    @classmethod
    def from_settings(cls, settings: Settings, sampler: Optional[Sampler] = None) -> "Mtcnn":
        """The networks of the catalogue's model that config.yaml names, made ready if need be."""
        from engines import catalogue
        from engines.backends.choose import open_network
        from engines.build import ensure

        files = ensure(settings.detector.model, settings)
        networks = [open_network(files[role], settings, rewrite=True, role=role) for role in ("pnet", "rnet", "onet")]
        own, stages = settings.mtcnn, catalogue.stages(settings)
        return cls(
            networks[0],
            networks[1],
            networks[2],
            settings.detector.min_face,
            stages.thresholds,
            stages.factor,
            own.rnet_cap,
            own.onet_cap,
            stages.stride,
            stages.whole,
            sampler,
        )

    def detect(self, image: np.ndarray) -> Faces:
        """Find the faces in a BGR picture (H, W, 3) uint8; a picture smaller than min_face has none.

        With the original's nets what the original finds, resized as it does, in one step; our own
        (`whole`) see what `search` sees, and their landmarks come from a second look: 8 % nearer on
        dlib's photos (a followed face is looked at again anyway). Raises UsageError for an array
        that is no such picture.
        """
        check_picture(image)
        halves = self._halves(image, exact=True)
        found = self._find(halves, image.shape, Faces.none())
        return self._again(halves, found) if self._whole and found.count else found

    def search(self, image: np.ndarray, known: Optional[Faces] = None) -> Faces:
        """The same for a live picture, shrunk in steps of two: with the original's nets a third quicker.

        `known` faces (of `follow`) are kept, and what mostly covers them is not looked at again.
        """
        check_picture(image)
        return self._find(self._halves(image), image.shape, Faces.none() if known is None else known)

    def follow(self, image: np.ndarray, boxes: np.ndarray) -> Faces:
        """ONet alone on the squares of `boxes`, and on squares around those where it finds nothing."""
        check_picture(image)
        halves = self._halves(image)
        squares = squared(boxes.astype(np.float64))
        found, passed = self._judge(halves, squares)
        missed = squares[~passed][: self._onet_cap // len(NEAR)]
        if not len(missed):
            return _best(found)
        sizes = np.repeat(missed[:, 2:3] - missed[:, 0:1], 4, axis=1)[:, None]
        again, _ = self._judge(halves, (missed[:, None] + sizes * NEAR).reshape(-1, 4))
        return _best(again, found)

    def close(self) -> None:
        for network in (self._pnet, self._rnet, self._onet):
            network.close()

    def _halves(self, image: np.ndarray, exact: bool = False) -> sampling.Halves:
        return sampling.Halves(image, exact=exact and not self._whole, bilinear=self._whole)

    def _find(self, image: sampling.Halves, shape: Sequence[int], known: Faces) -> Faces:
        plan = self.plan(shape)
        if not plan.levels:
            return known
        squares = self.refine(image, self.propose(image, plan, known.boxes), known.boxes)
        return _best(self._judge(image, squares)[0], known)

    def plan(self, shape: Sequence[int]) -> Layout:
        """Where the scales of a picture of that shape lie; without levels when it is too small."""
        return layout(shape[0], shape[1], self._min_face, self._factor, self._stride)

    def propose(self, image: sampling.Halves, plan: Layout, known: np.ndarray = NOBODY) -> np.ndarray:
        """PNet over all scales: square candidates (N, 4), best score first, at most `rnet_cap`."""
        cells, scores, offsets = self._sampler.scan(self._pnet, image, plan, self._thresholds[0])
        boxes, levels = located(plan, cells)
        fresh = _apart(boxes, known)
        boxes, scores, offsets, levels = boxes[fresh], scores[fresh], offsets[fresh], levels[fresh]
        pixels = boxes.astype(np.float32)  # whole numbers still: exact, and quicker
        shift = 2 * pixels.max(initial=0) * levels.astype(np.float32)  # scales far apart: one suppression for all
        apart = pixels + shift[:, None]
        # Only the best count, so both suppressions may end early, unless too few are left then.
        cap = _cap(self._rnet_cap, known)
        for most in (ENOUGH * cap, None):
            keep = suppress(apart, scores, WITHIN_SCALE, inclusive=True, most=most)
            last = len(keep) != most
            keep = keep[suppress(pixels[keep], scores[keep], ACROSS_SCALES, inclusive=True, most=cap)]
            if last or len(keep) == cap:
                break
        return squared(regress(boxes[keep], offsets[keep], inclusive=False))

    def refine(self, image: sampling.Halves, boxes: np.ndarray, known: np.ndarray = NOBODY) -> np.ndarray:
        """RNet: square candidates (N, 4), best score first, at most `onet_cap`."""
        boxes, found = self._look(self._rnet, image, boxes, RNET_SIZE)
        scores = found["probability"][:, 1]
        passed = np.flatnonzero(scores > self._thresholds[1])
        boxes, scores, offsets = boxes[passed], scores[passed], found["regression"][passed]
        keep = suppress(boxes, scores, AFTER_RNET, inclusive=True)
        moved = regress(boxes[keep], offsets[keep])
        return squared(moved[_apart(moved, known)][: _cap(self._onet_cap, known)])

    def _judge(self, image: sampling.Halves, boxes: np.ndarray) -> Tuple[Faces, np.ndarray]:
        """ONet: the faces among square `boxes` (N, 4), and which of these passed (N,) bool."""
        boxes, found = self._look(self._onet, image, boxes, ONET_SIZE)
        scores = found["probability"][:, 1]
        passed = scores > self._thresholds[2]
        boxes, scores, offsets = boxes[passed], scores[passed], found["regression"][passed]
        points = found["landmarks"][passed].reshape(-1, 2, 5).transpose(0, 2, 1)  # x1..x5 y1..y5 -> (N, 5, 2)
        sizes = boxes[:, None, 2:4] - boxes[:, None, 0:2] + np.float32(1)
        landmarks = boxes[:, None, 0:2] + points * sizes - np.float32(1)  # corners count pixels from 1
        return Faces(regress(boxes, offsets), scores, landmarks), passed

    def _again(self, image: sampling.Halves, faces: Faces) -> Faces:
        """`faces` with the landmarks that ONet sees from where it put them, if it still sees a face there."""
        seen, passed = self._judge(image, squared(faces.boxes.astype(np.float64)))
        landmarks = faces.landmarks.copy()
        landmarks[passed] = seen.landmarks
        return Faces(faces.boxes, faces.scores, landmarks)

    def _look(
        self, network: Network, image: sampling.Halves, boxes: np.ndarray, size: int
    ) -> Tuple[np.ndarray, Dict[str, np.ndarray]]:
        """Run `network` on the boxes' crops; the boxes that its answer counts from, and the answer.
        Corners count pixels from 1, as everywhere in MTCNN."""
        whole = np.fix(boxes)
        return whole if self._whole else boxes, self._sampler.look(network, image, whole - 1, size)


def _cap(cap: int, known: np.ndarray) -> int:
    """Beside known faces there are few to be found, and the best half of the candidates has them: of
    the 275 faces of 28 group photos and 24 film frames it has 271, even where none is known."""
    return max(cap // 2, 1) if len(known) else cap


def _apart(boxes: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Which of `boxes` (N, 4) are not mostly a known face's: (N,) bool."""
    if not len(known) or not len(boxes):
        return np.ones(len(boxes), bool)
    return overlaps(boxes, known).max(axis=1) < ACROSS_KNOWN


def _best(found: Faces, known: Optional[Faces] = None) -> Faces:
    """Of each face the best box, best score first."""
    if known is not None and known.count:
        found = Faces(
            np.concatenate([known.boxes, found.boxes]),
            np.concatenate([known.scores, found.scores]),
            np.concatenate([known.landmarks, found.landmarks]),
        )
    best = found.take(suppress(found.boxes, found.scores, AFTER_ONET, SMALLER, inclusive=True))
    return Faces(best.boxes.astype(np.float32), best.scores, best.landmarks.astype(np.float32))


def located(plan: Layout, cells: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
    """What cells (N,) of PNet's map see: boxes (N, 4) and the level of each (N,).

    Boxes are whole pixels of the picture, counted from 1 as in the Matlab original: a cell at (x, y)
    sees (2x + 1 .. 2x + 12) / scale.
    """
    levels = plan.cells.ravel()[cells]
    rows, columns = np.divmod(cells, plan.cells.shape[1])
    corner = np.stack([columns * plan.stride - plan.lefts[levels], rows * plan.stride - plan.tops[levels]], axis=1)
    scale = plan.scales[levels][:, None]
    return np.floor(np.concatenate([corner + 1, corner + CELL], axis=1) / scale), levels
