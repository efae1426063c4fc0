"""What a detector gives back, and the one method that it has."""
import abc
import dataclasses
from typing import Any, Optional

import numpy as np

from errors import UsageError


@dataclasses.dataclass(frozen=True)
class Faces:
    """All faces of one picture, best score first, as parallel arrays.

    boxes (N, 4) float32: x1 y1 x2 y2 in pixels of the picture (may reach over its border);
    scores (N,) float32 in 0..1; landmarks (N, 5, 2) float32: left eye, right eye, nose, left and
    right corner of the mouth, left and right as seen in the picture.
    """

    boxes: np.ndarray
    scores: np.ndarray
    landmarks: np.ndarray

    @classmethod
    def none(cls) -> "Faces":
        return cls(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros((0, 5, 2), np.float32))

    @property
    def count(self) -> int:
        return len(self.scores)

    def take(self, rows: np.ndarray) -> "Faces":
        """The faces at `rows` (indices or a mask), in that order."""
        return Faces(self.boxes[rows], self.scores[rows], self.landmarks[rows])


class Detector(abc.ABC):
    @abc.abstractmethod
    def detect(self, image: np.ndarray) -> Faces:
        """Find the faces in a BGR picture (H, W, 3) uint8."""

    def search(self, image: np.ndarray, known: Optional[Faces] = None) -> Faces:
        """The faces of a live picture: may be quicker than `detect`, and less exact.

        `known` are faces of this picture that `follow` found: they need not be found again, but
        belong to the answer.
        """
        return self.detect(image)

    def follow(self, image: np.ndarray, boxes: np.ndarray) -> Faces:
        """The faces near `boxes` (N, 4), where a tracker expects them; others may be missing.

        A detector that cannot look at places alone searches the whole picture.
        """
        return self.detect(image)

    def close(self) -> None:
        """Free the networks."""


def check_picture(image: Any) -> None:
    """Raises UsageError for what is no BGR picture (H, W, 3) uint8."""
    if not isinstance(image, np.ndarray) or image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        right = "BGR, uint8 with shape (height, width, 3)"
        raise UsageError("a picture is {}, but must be {}.".format(_what(image), right))


def _what(image: Any) -> str:
    if not isinstance(image, np.ndarray):
        return type(image).__name__
    return "{} with shape {}".format(image.dtype, image.shape)
