"""How good a face is for recognition, and what is wrong with it.

One measure serves all: the tracker weights its votes by the score, enrolment and photos refuse what
has a reason, and the screen turns the reason into advice. Reasons are looked for in the order in
which a person would mend them: first come into the picture, then closer, then light, then pose.
"""
from typing import List, NamedTuple, Optional

import cv2
import numpy as np

from engines.detect.detector import Faces
from settings import Quality as Limits

REASONS = ("cut_off", "too_small", "too_dark", "too_bright", "turned_away", "blurred")
FULL_SIZE = 112.0  # pixels: from here on the aligned face loses no detail
FULL_SHARPNESS = 150.0  # variance of the Laplacian of an aligned face that looks sharp
LOOK_AT = slice(20, 92)  # rows and columns of a 112-pixel chip that show the face alone, scaled for other sizes


class Quality(NamedTuple):
    """`score` in 0..1, the weight of the face's vote; `reason` one of REASONS, or None if usable."""

    score: float
    reason: Optional[str]


def turn(landmarks: np.ndarray) -> np.ndarray:
    """How far each face is turned sideways: |nose - middle of the eyes| along the line of the eyes,
    in eye distances (about 0 from the front, 0.8 near profile). landmarks (N, 5, 2) -> (N,)."""
    eyes = landmarks[:, 1] - landmarks[:, 0]
    nose = landmarks[:, 2] - landmarks[:, :2].mean(axis=1)
    return np.abs((nose * eyes).sum(axis=1)) / np.maximum((eyes**2).sum(axis=1), 1e-6)


def assess(image: np.ndarray, faces: Faces, chips: np.ndarray, limits: Limits) -> List[Quality]:
    """One Quality for each face.

    image (H, W, 3) uint8 BGR; chips (N, S, S, 3) uint8 BGR, the same faces aligned; limits are the
    settings under `quality`.
    """
    height, width = image.shape[:2]
    turns = turn(faces.landmarks)
    results = []
    for box, points, chip, turned in zip(faces.boxes, faces.landmarks, chips, turns):
        size = float(min(box[2] - box[0], box[3] - box[1]))
        inside = bool((points >= 0).all() and (points < (width, height)).all())
        seen = np.clip(box, 0, (width, height, width, height))
        visible = (seen[2] - seen[0]) * (seen[3] - seen[1]) / max((box[2] - box[0]) * (box[3] - box[1]), 1.0)
        scale = chip.shape[0] / 112.0
        part = slice(int(LOOK_AT.start * scale), int(LOOK_AT.stop * scale))
        grey = cv2.cvtColor(chip[part, part], cv2.COLOR_BGR2GRAY)
        brightness = float(grey.mean())
        sharpness = float(cv2.Laplacian(grey, cv2.CV_32F).var())
        wrong = {
            "cut_off": not inside or visible < 0.7,
            "too_small": size < limits.min_face,
            "too_dark": brightness < limits.min_brightness,
            "too_bright": brightness > limits.max_brightness,
            "turned_away": turned > limits.max_yaw,
            "blurred": sharpness < limits.min_sharpness,
        }
        reason = next((name for name in REASONS if wrong[name]), None)
        score = (
            min(size / FULL_SIZE, 1.0) ** 0.5
            * min(sharpness / FULL_SHARPNESS, 1.0) ** 0.25
            * max(1.0 - turned, 0.05)
            * min(brightness / 80.0, (255.0 - brightness) / 40.0, 1.0)
        )
        results.append(Quality(float(np.clip(score, 0.01, 1.0)), reason))
    return results
