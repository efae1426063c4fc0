"""From landmarks to embeddings: align each face to the model's template, then one batch.

FaceNet and ArcFace types differ only in what the catalogue says of them: template, size,
normalisation and dimension. Whatever the network ends in, what leaves here has unit length.
"""
from typing import Any, Dict, Optional, Union

import cv2
import numpy as np

from engines.backends.network import Network
from engines.sampling import cpu as sampling
from engines.sampling.sampler import Sampler
from errors import ModelError

# Five points (x, y) in a 112x112 picture: left eye, right eye, nose, left and right mouth corner.
# ArcFace's template, as in InsightFace's face_align.py (Deng et al. 2019).
ARCFACE_112 = np.array(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]], np.float32
)
# FaceNet was trained on MTCNN boxes with a margin of 32 of 182 pixels (davidsandberg facenet's README), wider than
# ArcFace's crop: the same five points drawn together around the middle of the face by 182 / (182 + 32).
FACENET_112 = (ARCFACE_112 - [56.0, 64.0]) * (182.0 / 214.0) + [56.0, 60.0]
TEMPLATES = {"arcface": ARCFACE_112, "facenet": FACENET_112.astype(np.float32)}

SMALLEST_NORM = 1e-12  # of the sum of squares, as in the L2Norm node that our networks end in
LOOK_SIZE = 24  # pixels: enough to tell faces apart from one frame to the next
MAX_BATCH = 32  # faces a run; more bring no speed and cost memory (2 GB boards)


def similarity_transforms(landmarks: np.ndarray, template: np.ndarray) -> np.ndarray:
    """Least-squares rotation, scale and shift from each face to the template.

    landmarks (N, 5, 2) in pixels of the picture, template (5, 2) in pixels of the chip; returns
    (N, 2, 3) float32 matrices from picture to chip. In the plane Umeyama's solution (1991) without
    reflection is one complex division, here for all faces at once.
    """
    points = landmarks[..., 0] + 1j * landmarks[..., 1].astype(np.float64)
    wanted = template[:, 0] + 1j * template[:, 1].astype(np.float64)
    middle, target = points.mean(axis=1, keepdims=True), wanted.mean()
    centred = points - middle
    spread = np.maximum((np.abs(centred) ** 2).sum(axis=1), 1e-9)
    turn = (centred.conj() * (wanted - target)).sum(axis=1) / spread
    shift = target - turn * middle[:, 0]
    rows = [[turn.real, -turn.imag, shift.real], [turn.imag, turn.real, shift.imag]]
    return np.moveaxis(np.array(rows, np.float32), 2, 0)


def looks(image: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
    """Each face as a small grey picture without its mean, (N, LOOK_SIZE ** 2) float32 of unit length.

    Two of them multiply to their correlation: near 1 while the same face stays in view.
    """
    if not len(landmarks):
        return np.zeros((0, LOOK_SIZE**2), np.float32)
    template = (ARCFACE_112 - 16) * np.float32(2 * LOOK_SIZE / 80.0)  # the middle 80 of the 112 pixels
    chips = sampling.chips(image, similarity_transforms(landmarks, template), 2 * LOOK_SIZE)
    column = chips.reshape(-1, 2 * LOOK_SIZE, 3)  # all faces below each other: two calls serve them all
    grey = cv2.cvtColor(column, cv2.COLOR_BGR2GRAY)
    grey = cv2.resize(grey, (LOOK_SIZE, LOOK_SIZE * len(chips)), interpolation=cv2.INTER_AREA)
    flat = grey.reshape(len(chips), -1).astype(np.float32)
    flat -= flat.mean(axis=1, keepdims=True)
    return flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-6)


class Embedder:
    """A network with the alignment that its catalogue entry asks for; `sampler` stays its owner's."""

    def __init__(self, network: Network, entry: Dict[str, Any], sampler: Optional[Sampler] = None) -> None:
        self.model = str(entry["name"])
        self.size = int(entry["size"])
        self.dimension = int(entry["dimension"])
        self.threshold = float(entry["threshold"])
        self._template = TEMPLATES[entry["template"]] * np.float32(self.size / 112.0)
        self._mean: Union[float, list] = entry["mean"]
        self._std: Union[float, list] = entry["std"]
        self._network = network
        self._sampler = sampler or Sampler()
        self._input = network.inputs[0].name
        self._output = network.outputs[0].name
        found = network.outputs[0].shape[-1]
        if found is not None and found != self.dimension:
            raise ModelError(
                "{}: the network gives {} numbers a face, but the catalogue says {}; one of the two is of another "
                "model.".format(self.model, found, self.dimension)
            )

    def chips(self, image: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
        """Aligned faces (N, size, size, 3) uint8 BGR, black outside the picture.

        image (H, W, 3) uint8 BGR; landmarks (N, 5, 2) in its pixels.
        """
        if not len(landmarks):
            return np.zeros((0, self.size, self.size, 3), np.uint8)
        return self._sampler.chips(image, similarity_transforms(landmarks, self._template), self.size)

    def embed_chips(self, chips: np.ndarray) -> np.ndarray:
        """(N, size, size, 3) uint8 BGR -> embeddings (N, dimension) float32 of unit length."""
        found = np.zeros((len(chips), self.dimension), np.float32)
        for start in range(0, len(chips), MAX_BATCH):
            some = chips[start : start + MAX_BATCH]
            blob = sampling.normalise(some, self._mean, self._std)
            found[start : start + len(some)] = self._network.run({self._input: blob})[self._output]
        return found / np.sqrt(np.maximum((found**2).sum(axis=1, keepdims=True), SMALLEST_NORM))

    def close(self) -> None:
        self._network.close()
