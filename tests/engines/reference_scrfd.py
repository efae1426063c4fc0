"""SCRFD's decoding as plainly as it can be written, to hold the fast one against. For tests only.

After scrfd.py of InsightFace: loops over anchors, float64 throughout, suppression box by box. The
network is run by itself, not through engines/backends.
"""

from typing import Any, Dict, List

import cv2
import numpy as np
import onnxruntime

STRIDES = (8, 16, 32)


def detect(session: onnxruntime.InferenceSession, image: np.ndarray, size: int, threshold: float,
           square: bool = False) -> List[Dict[str, Any]]:  # fmt: skip
    """Faces as dicts of score, box [x1, y1, x2, y2] and points [[x, y] * 5], best first.

    One pass at `size` pixels for the longer side, black below and to the right up to a multiple of
    32 (`square`: up to `size` x `size`).
    """
    height, width = image.shape[:2]
    scale = size / max(height, width)
    inner_height, inner_width = round(height * scale), round(width * scale)
    shrinks = scale <= 1
    small = cv2.resize(image, (inner_width, inner_height),
                       interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)  # fmt: skip
    outer_height, outer_width = (size if square else -(-side // 32) * 32 for side in (inner_height, inner_width))
    canvas = np.zeros((outer_height, outer_width, 3), np.uint8)
    canvas[:inner_height, :inner_width] = small
    blob = ((canvas[:, :, ::-1].transpose(2, 0, 1)[None] - 127.5) / 128).astype(np.float32)
    outputs = session.run(None, {session.get_inputs()[0].name: blob})
    across, down = width / inner_width, height / inner_height
    found: List[Dict[str, Any]] = []
    for level, stride in enumerate(STRIDES):
        scores, distances = outputs[level].reshape(-1), outputs[level + 3].reshape(-1, 4)
        points = outputs[level + 6].reshape(-1, 10) if len(outputs) == 9 else None
        index = 0
        for row in range(outer_height // stride):
            for column in range(outer_width // stride):
                for _ in range(2):
                    score = float(scores[index])
                    if score >= threshold:
                        left, top, right, bottom = (float(value) * stride for value in distances[index])
                        x, y = column * stride, row * stride
                        box = [(x - left) * across, (y - top) * down, (x + right) * across, (y + bottom) * down]
                        five = None
                        if points is not None:
                            pairs = points[index].astype(float).reshape(5, 2).tolist()
                            five = [[(x + a * stride) * across, (y + b * stride) * down] for a, b in pairs]
                        found.append({"score": score, "box": box, "points": five})
                    index += 1
    kept: List[Dict[str, Any]] = []
    for one in sorted(found, key=lambda candidate: -candidate["score"]):
        if all(overlap(one["box"], better["box"]) <= 0.4 for better in kept):
            kept.append(one)
    return kept


def overlap(one: List[float], other: List[float]) -> float:
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    shared = max(width, 0.0) * max(height, 0.0)
    area, other_area = ((box[2] - box[0]) * (box[3] - box[1]) for box in (one, other))
    return shared / (area + other_area - shared)
