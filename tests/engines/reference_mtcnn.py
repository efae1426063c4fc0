"""MTCNN as plainly as it can be written, to hold the fast one against. For tests only.

After detect_face of facenet-pytorch 2.6.0 (and kpzhang93's Matlab demo): one PNet run for each
scale, one network run for each crop, loops over boxes, float64 throughout, no caps. Two rules are
the Matlab demo's where the two differ: crops keep black where they reach over the border, and
overlaps count both corners as pixels. Resizing is the fast one's, step by step: area when smaller
(in halves first), bilinear when larger.
"""

from typing import Any, Dict, List, Tuple

import cv2
import numpy as np

Candidate = Dict[str, Any]  # box [x1, y1, x2, y2] counted from 1, score, offsets


def detect(
    networks: Tuple[Any, Any, Any],
    image: np.ndarray,
    min_face: int = 40,
    thresholds: Tuple[float, float, float] = (0.6, 0.7, 0.7),
    factor: float = 0.709,
    steps: bool = False,
) -> Tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Boxes (N, 4), scores (N,), landmarks (N, 5, 2) of a BGR picture, best score first.

    `steps`: shrink in steps of two, as a live picture is; else in one, as the original does.
    """
    pnet, rnet, onet = networks
    height, width = image.shape[:2]
    scale, side = 12 / min_face, min(height, width) * 12 / min_face
    everything: List[Candidate] = []
    while side >= 12:
        large = halved(image, 1 / scale, 4)[0] if steps else image
        small = resized(large, int(width * scale + 1), int(height * scale + 1))
        everything += suppressed(proposals(pnet, small, scale, thresholds[0]), 0.5)
        scale, side = scale * factor, side * factor
    candidates = suppressed(everything, 0.7)
    for one in candidates:
        one["box"] = squared(moved(one["box"], one["offsets"], 0))
    candidates = suppressed(judged(rnet, image, candidates, 24, thresholds[1], steps), 0.7)
    for one in candidates:
        one["box"] = squared(moved(one["box"], one["offsets"], 1))
    candidates = judged(onet, image, candidates, 48, thresholds[2], steps)
    for one in candidates:
        x1, y1, x2, y2 = one["box"]
        across, down = one["landmarks"][:5], one["landmarks"][5:]
        one["points"] = [[x1 + (x2 - x1 + 1) * x - 1, y1 + (y2 - y1 + 1) * y - 1] for x, y in zip(across, down)]
        one["box"] = moved(one["box"], one["offsets"], 1)
    faces = suppressed(candidates, 0.7, smaller=True)
    return (
        np.array([one["box"] for one in faces]).reshape(-1, 4),
        np.array([one["score"] for one in faces]),
        np.array([one["points"] for one in faces]).reshape(-1, 5, 2),
    )


def resized(image: np.ndarray, width: int, height: int) -> np.ndarray:
    shrinks = width <= image.shape[1] and height <= image.shape[0]
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)


def halved(image: np.ndarray, shrink: float, most: float) -> Tuple[np.ndarray, int]:
    """Area shrinking in steps: halve (an odd last row or column goes) while `most` pixels or more make one."""
    times = 0
    while shrink >= most and min(image.shape[:2]) >= 2:
        rows, columns = image.shape[0] // 2, image.shape[1] // 2
        image = cv2.resize(image[: 2 * rows, : 2 * columns], (columns, rows), interpolation=cv2.INTER_AREA)
        times, shrink = times + 1, shrink / 2
    return image, times


def as_input(image: np.ndarray) -> np.ndarray:
    return ((image[:, :, ::-1].transpose(2, 0, 1)[None] - 127.5) / 128).astype(np.float32)


def proposals(pnet: Any, small: np.ndarray, scale: float, threshold: float) -> List[Candidate]:
    found = pnet.run({"input": as_input(small)})
    scores, offsets = found["probability"][0, 1], found["regression"][0]
    rows, columns = (small.shape[0] - 12) // 2 + 1, (small.shape[1] - 12) // 2 + 1
    scores = scores[:rows, :columns]  # pooling in ceil mode adds cells that hang over the border of an odd side
    return [
        {
            "box": [float(np.floor(value / scale)) for value in (2 * x + 1, 2 * y + 1, 2 * x + 12, 2 * y + 12)],
            "score": float(scores[y, x]),
            "offsets": offsets[:, y, x].astype(np.float64),
        }
        for y, x in zip(*np.nonzero(scores >= threshold))
    ]


def judged(
    network: Any, image: np.ndarray, candidates: List[Candidate], size: int, threshold: float, steps: bool
) -> List[Candidate]:
    passed = []
    for one in candidates:
        patch = crop(image, one["box"], size, steps)
        if patch is None:
            continue
        found = network.run({"input": as_input(resized(patch, size, size))})
        score = float(found["probability"][0, 1])
        if score > threshold:
            passed.append(
                {
                    "box": one["box"],
                    "score": score,
                    "offsets": found["regression"][0].astype(np.float64),
                    "landmarks": found.get("landmarks", np.zeros((1, 10)))[0].astype(np.float64),
                }
            )
    return passed


def crop(image: np.ndarray, box: List[float], size: int, steps: bool) -> Any:
    """The pixels of a box counted from 1, black outside the picture; None for no pixel at all."""
    edges = [int(np.fix(value)) for value in box]
    edges[0], edges[1] = edges[0] - 1, edges[1] - 1
    image, times = halved(image, (edges[2] - edges[0]) / size, 3 if steps else np.inf)
    x1, y1, x2, y2 = (int(np.floor(value / 2**times + 0.5)) for value in edges)
    height, width = image.shape[:2]
    if x2 <= x1 or y2 <= y1 or x2 <= 0 or y2 <= 0 or x1 >= width or y1 >= height:
        return None
    patch = np.zeros((y2 - y1, x2 - x1, 3), np.uint8)
    left, top, right, bottom = max(x1, 0), max(y1, 0), min(x2, width), min(y2, height)
    patch[top - y1 : bottom - y1, left - x1 : right - x1] = image[top:bottom, left:right]
    return patch


def moved(box: List[float], offsets: np.ndarray, pixel: int) -> List[float]:
    width, height = box[2] - box[0] + pixel, box[3] - box[1] + pixel
    return [corner + offset * side for corner, offset, side in zip(box, offsets, (width, height, width, height))]


def squared(box: List[float]) -> List[float]:
    width, height = box[2] - box[0], box[3] - box[1]
    side = max(width, height)
    left, top = box[0] + (width - side) / 2, box[1] + (height - side) / 2
    return [left, top, left + side, top + side]


def overlap(one: List[float], other: List[float], smaller: bool = False) -> float:
    width = min(one[2], other[2]) - max(one[0], other[0]) + 1
    height = min(one[3], other[3]) - max(one[1], other[1]) + 1
    shared = max(width, 0) * max(height, 0)
    first = (one[2] - one[0] + 1) * (one[3] - one[1] + 1)
    second = (other[2] - other[0] + 1) * (other[3] - other[1] + 1)
    return shared / (min(first, second) if smaller else first + second - shared)


def suppressed(candidates: List[Candidate], threshold: float, smaller: bool = False) -> List[Candidate]:
    kept: List[Candidate] = []
    for one in sorted(candidates, key=lambda candidate: -candidate["score"]):
        if all(overlap(one["box"], better["box"], smaller) <= threshold for better in kept):
            kept.append(one)
    return kept
