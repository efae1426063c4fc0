"""A plain SCRFD reader, the measuring stick of the benchmarks: not what the kiosk runs.

It reads InsightFace's export with flattened outputs (score, box and key points at strides 8, 16
and 32, two anchors a cell) and writes every step out, with no eye on speed.
"""
from pathlib import Path
from typing import Tuple

import cv2
import numpy as np
import onnxruntime

STRIDES = (8, 16, 32)
ANCHORS = 2


class ReferenceScrfd:
    def __init__(self, path: Path, size: Tuple[int, int] = (640, 640), threshold: float = 0.5, threads: int = 2):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self._size = size  # width, height of the letterboxed input
        self._threshold = threshold

    def detect(self, image: np.ndarray) -> Tuple[np.ndarray, np.ndarray, np.ndarray]:
        """BGR (H, W, 3) uint8 -> boxes (N, 4), scores (N,), key points (N, 5, 2) in its pixels."""
        width, height = self._size
        scale = min(width / image.shape[1], height / image.shape[0])
        resized = cv2.resize(image, (int(image.shape[1] * scale), int(image.shape[0] * scale)))
        canvas = np.zeros((height, width, 3), np.uint8)
        canvas[: resized.shape[0], : resized.shape[1]] = resized
        blob = cv2.dnn.blobFromImage(canvas, 1.0 / 128, (width, height), (127.5, 127.5, 127.5), swapRB=True)
        outputs = self._session.run(None, {self._session.get_inputs()[0].name: blob})
        outputs = [out.reshape(-1, out.shape[-1]) for out in outputs]
        boxes, scores, points = [], [], []
        for level, stride in enumerate(STRIDES):
            score, box, point = outputs[level][:, 0], outputs[level + 3] * stride, outputs[level + 6] * stride
            rows, columns = np.mgrid[: height // stride, : width // stride]
            centres = np.stack([columns, rows], axis=-1).reshape(-1, 2) * stride
            centres = np.repeat(centres, ANCHORS, axis=0)
            keep = score >= self._threshold
            centres, box, point = centres[keep], box[keep], point[keep]
            boxes.append(np.concatenate([centres - box[:, :2], centres + box[:, 2:]], axis=1))
            points.append(point.reshape(-1, 5, 2) + centres[:, None])
            scores.append(score[keep])
        found, confidence = np.concatenate(boxes) / scale, np.concatenate(scores)
        keep = _suppress(found, confidence, 0.4)
        return found[keep], confidence[keep], np.concatenate(points)[keep] / scale


def overlaps(box: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """IoU of one box (4,) with others (N, 4)."""
    corner, far = np.maximum(box[:2], boxes[:, :2]), np.minimum(box[2:], boxes[:, 2:])
    shared = np.prod(np.maximum(far - corner, 0), axis=1)
    return shared / (np.prod(box[2:] - box[:2]) + np.prod(boxes[:, 2:] - boxes[:, :2], axis=1) - shared)


def _suppress(boxes: np.ndarray, scores: np.ndarray, limit: float) -> np.ndarray:
    order, keep = list(np.argsort(-scores)), []
    while order:
        best = order.pop(0)
        keep.append(best)
        order = [other for other in order if overlaps(boxes[best], boxes[other : other + 1])[0] <= limit]
    return np.array(keep, int)
