"""Alignment error: how far a detector's five points are from those of a hand (or of another model).

Two sets: the faces of ../shared/detection whose points were set by hand (the CMU+MIT pictures), and
dlib's nine photos, whose points dlib's own model set. Given are shares of the distance of the eyes.
"""

import json
from pathlib import Path
from typing import Any, List, NamedTuple, Tuple

import cv2
import numpy as np

from benchmarks.detection import Photo
from benchmarks.detectors import Timed

NAMES = ("left_eye", "right_eye", "nose", "mouth_left", "mouth_right")
FAR_OFF = 0.5  # eye distances: the points are another face's


class Alignment(NamedTuple):
    """`median` and `p90` in eye distances, over the `found` of `faces`."""

    median: float
    p90: float
    found: int
    faces: int


def read_dlib(folder: Path) -> List[Tuple[np.ndarray, np.ndarray]]:
    """(picture, points (N, 5, 2)) of each annotated photo of dlib's examples."""
    notes: Any = json.loads((folder / "annotations.json").read_text(encoding="utf-8"))
    found = []
    for one in notes["images"]:
        points = np.array([[face["landmarks5"][name] for name in NAMES] for face in one["faces"]], float)
        found.append((np.asarray(cv2.imread(str(folder / one["file"]))), points.reshape(-1, 5, 2)))
    return found


def human(photos: List[Photo]) -> List[Tuple[np.ndarray, np.ndarray]]:
    return [(photo.image, photo.landmarks) for photo in photos if len(photo.landmarks)]


def measure(pictures: List[Tuple[np.ndarray, np.ndarray]], detector: Timed) -> Alignment:
    errors, faces = [], 0
    for image, truth in pictures:
        found = detector.detect(image)
        for points in truth:
            faces += 1
            eyes = float(np.linalg.norm(points[1] - points[0]))
            distances = np.linalg.norm(found.landmarks - points, axis=2).mean(axis=1) / max(eyes, 1e-6)
            if len(distances) and distances.min() < FAR_OFF:
                errors.append(float(distances.min()))
    median, p90 = np.percentile(errors, [50, 90]) if errors else (float("nan"), float("nan"))
    return Alignment(float(median), float(p90), len(errors), faces)
