"""A recognizer without models: a face is a square of one strong colour, a person is its hue.

Tests of the gallery draw their photos with `portrait`; the same hue gives nearly the same embedding
(cosine about 0.9), another hue an unrelated one.
"""
from pathlib import Path
from typing import Any, List, Tuple

import cv2
import numpy as np

from engines.detect.detector import Faces
from engines.quality import Quality

DIMENSION = 64
HUES = 12  # people that can be told apart: hue 0..11
GREY = 128


def colour(hue: int) -> Tuple[int, int, int]:
    """BGR of person `hue`."""
    pixel = np.array([[[hue * 15 + 7, 255, 230]]], np.uint8)
    blue, green, red = cv2.cvtColor(pixel, cv2.COLOR_HSV2BGR)[0, 0].tolist()
    return blue, green, red


def picture(*faces: Tuple[int, int], size: int = 320) -> np.ndarray:
    """(size, size, 3) uint8 BGR with a square for each (hue, side in pixels), from left to right."""
    image = np.full((size, size, 3), GREY, np.uint8)
    left = 10
    for hue, side in faces:
        image[20 : 20 + side, left : left + side] = colour(hue)
        left += side + 10
    return image


def portrait(path: Path, hue: int, side: int = 100, seed: int = 0) -> Path:
    """Write a photo of person `hue` and return its path; `seed` makes another file of it."""
    image = picture((hue, side))
    image[-10:] = np.random.RandomState(seed).randint(118, 138, image[-10:].shape)
    path.parent.mkdir(parents=True, exist_ok=True)
    done, data = cv2.imencode(path.suffix, image)
    assert done
    path.write_bytes(data.tobytes())
    return path


def embedding(hue: int, seed: int = 0) -> np.ndarray:
    """(D,) float32 of unit length for person `hue`; `seed` varies it as another photo would."""
    base = np.random.RandomState(1000 + hue).standard_normal(DIMENSION)
    noise = np.random.RandomState(77 * seed + hue).standard_normal(DIMENSION)
    return _unit(_unit(base) + 0.3 * _unit(noise)).astype(np.float32)


def _unit(vector: np.ndarray) -> np.ndarray:
    return vector / np.linalg.norm(vector)


class FakeRecognizer:
    """Like engines.recognizer.Recognizer; counts in `looked` how many pictures it was shown."""

    model = "fake"
    dimension = DIMENSION
    chip_size = 16
    threshold = 0.5

    def __init__(self, *settings: Any) -> None:
        self.looked = 0
        self.closed = False

    @classmethod
    def from_settings(cls, settings: Any) -> "FakeRecognizer":
        return cls(settings)

    def detect(self, image: np.ndarray) -> Faces:
        self.looked += 1
        strong = (image.max(axis=2).astype(int) - image.min(axis=2) > 90).astype(np.uint8)
        count, _, stats, _ = cv2.connectedComponentsWithStats(strong)
        boxes = [
            (x, y, x + w, y + h) for x, y, w, h, area in stats[1:count].tolist() if area > 60 and area > 0.8 * w * h
        ]
        boxes.sort(key=lambda box: box[0] - box[2])
        if not boxes:
            return Faces.none()
        array = np.array(boxes, np.float32)
        centre = (array[:, None, :2] + array[:, None, 2:]) / 2
        return Faces(array, np.ones(len(array), np.float32), np.repeat(centre, 5, axis=1).astype(np.float32))

    def chips(self, image: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
        chips = [cv2.getRectSubPix(image, (16, 16), tuple(float(v) for v in points[0])) for points in landmarks]
        return np.stack(chips) if chips else np.zeros((0, 16, 16, 3), np.uint8)

    def embed_chips(self, chips: np.ndarray) -> np.ndarray:
        rows = [embedding(_hue(chip), int(chip.astype(int).sum()) % 97) for chip in chips]
        return np.stack(rows) if rows else np.zeros((0, DIMENSION), np.float32)

    def quality(self, image: np.ndarray, faces: Faces, chips: np.ndarray) -> List[Quality]:
        sides = faces.boxes[:, 2] - faces.boxes[:, 0]
        return [Quality(min(float(side) / 112, 1.0), "too_small" if side < 30 else None) for side in sides]

    def close(self) -> None:
        self.closed = True

    def __enter__(self) -> "FakeRecognizer":
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def _hue(chip: np.ndarray) -> int:
    mean = chip.reshape(-1, 3).mean(axis=0)
    return int(cv2.cvtColor(mean.round().astype(np.uint8)[None, None], cv2.COLOR_BGR2HSV)[0, 0, 0]) // 15
