"""Detection on photos with human boxes: average precision, recall by false faces a photo and by size.

The photos are the 100 for validation of ../shared/detection; faces that are marked to be ignored
count neither way. The table gives what a detector finds at the score that it is used at.
"""

import contextlib
import json
import tarfile
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

import cv2
import numpy as np
from tqdm import tqdm

from benchmarks import measures, wider
from benchmarks.detectors import Timed
from errors import UsageError

SIZES = ((0, 24), (24, 48), (48, 96), (96, 10000))  # pixels, the shorter side of the human box
OVERLAP = 0.5
FALSE_PER_PHOTO = (0.1, 1.0)


class Photo(NamedTuple):
    """`boxes` (N, 4) x1 y1 x2 y2 and `ignored` (N,) bool; `landmarks` (M, 5, 2) of human hand."""

    name: str
    image: np.ndarray
    boxes: np.ndarray
    ignored: np.ndarray
    landmarks: np.ndarray


class Detection(NamedTuple):
    """One detector. `judged` are all its detections down to a low score; `recall` is by size at the
    usual score, over all sizes under 'all'; `false` the false faces of all photos at that score."""

    judged: measures.Detections
    ap: float
    recall_at: Tuple[float, ...]  # at FALSE_PER_PHOTO
    recall: Dict[str, float]
    false: int
    ms: float  # median milliseconds a photo, at the usual score
    misses: List[Tuple[str, np.ndarray]]  # (photo, box) of the faces that were not found


def read_photos(folder: Path, split: str = "val", limit: Optional[int] = None) -> List[Photo]:
    """The photos of annotations.jsonl's `split`. Raises UsageError where the folder has none."""
    listing = folder / "annotations.jsonl"
    if not listing.exists():
        raise UsageError("{}: is not there; --detection names the folder with annotations.jsonl.".format(listing))
    lines = [json.loads(line) for line in listing.read_text(encoding="utf-8").splitlines()]
    lines = [line for line in lines if line["split"] == split]
    if limit is not None:  # spread over the sources
        lines = [lines[int(at)] for at in np.linspace(0, len(lines) - 1, min(limit, len(lines)))]
    photos = []
    with contextlib.ExitStack() as stack:
        archives: Dict[str, tarfile.TarFile] = {}
        for line in lines:
            if line["shard"] not in archives:
                archives[line["shard"]] = stack.enter_context(tarfile.open(str(folder / line["shard"])))
            photos.append(_photo(line, archives[line["shard"]]))
    return photos


def _photo(line: Dict[str, Any], archive: tarfile.TarFile) -> Photo:
    member = archive.extractfile(line["image"])
    data = np.frombuffer(member.read() if member else b"", np.uint8)
    boxes = np.array([face["box"] for face in line["faces"]], float).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    ignored = np.array([bool(face["ignore"]) for face in line["faces"]], bool)
    human = [face["landmarks"] for face in line["faces"] if face.get("landmarks_human") and face["landmarks"]]
    image = np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR))
    return Photo(line["image"], image, boxes, ignored, np.array(human, float).reshape(-1, 5, 2))


def measure(photos: List[Photo], wide: Timed, usual: Timed) -> Detection:
    """`wide` answers down to a low score and gives the curves, `usual` is the same detector as it is used."""
    scores, verdicts, times, misses = [], [], [], []
    found = {size: [0, 0] for size in SIZES}  # faces found, faces
    false = 0
    usual.detect(photos[0].image)  # the first picture of a detector takes longer
    for photo in tqdm(photos, unit="photo", desc=usual.name, disable=None):
        faces = wide.detect(photo.image)
        scores.append(faces.scores)
        verdicts.append(measures.matched(faces.boxes, photo.boxes, photo.ignored, OVERLAP))
        faces = usual.detect(photo.image)
        times.append(usual.ms)
        faces = faces.take(faces.scores >= usual.usual)
        false += int((measures.matched(faces.boxes, photo.boxes, photo.ignored, OVERLAP) == 0).sum())
        for box in _found_and_missed(faces.boxes, photo, found):
            misses.append((photo.name, box))
    active = sum(int((~photo.ignored).sum()) for photo in photos)
    judged = measures.gathered(scores, verdicts, active)
    recall = {label(size): hits / max(1, total) for size, (hits, total) in found.items()}
    recall["all"] = sum(hits for hits, _ in found.values()) / max(1, active)
    at = tuple(measures.recall_at(judged, rate) for rate in FALSE_PER_PHOTO)
    return Detection(judged, measures.average_precision(judged), at, recall, false, float(np.median(times)), misses)


def _found_and_missed(boxes: np.ndarray, photo: Photo, found: Dict[Tuple[int, int], List[int]]) -> List[np.ndarray]:
    """Count the faces of one photo by size; returns those that were missed."""
    missed = []
    taken = np.zeros(len(boxes), bool)
    ious = (
        measures.iou(boxes, photo.boxes)
        if len(boxes) and len(photo.boxes)
        else np.zeros((len(boxes), len(photo.boxes)))
    )
    for at in np.flatnonzero(~photo.ignored):
        box = photo.boxes[at]
        side = min(box[2] - box[0], box[3] - box[1])
        size = next(one for one in SIZES if one[0] <= side < one[1])
        free = np.where(taken, 0, ious[:, at])
        hit = len(free) and free.max() >= OVERLAP
        if hit:
            taken[free.argmax()] = True
        else:
            missed.append(box)
        found[size][0] += int(bool(hit))
        found[size][1] += 1
    return missed


def measure_wider(images: Path, truth: Path, detector: Timed, limit: Optional[int] = None) -> Dict[str, float]:
    """The official easy, medium and hard AP over the photos EVENT/FILE.jpg below `images`."""
    faces = wider.read_truth(truth)
    names = sorted(name for name in faces if (images / name).exists())[:limit]
    if not names:
        raise UsageError("{}: has none of WIDER FACE's validation photos (EVENT/FILE.jpg).".format(images))
    found = {}
    for name in tqdm(names, unit="photo", disable=None):
        one = detector.detect(np.asarray(cv2.imread(str(images / name))))
        sides = one.boxes[:, 2:] - one.boxes[:, :2]
        found[name] = np.concatenate([one.boxes[:, :2], sides, one.scores[:, None]], axis=1)
    return wider.evaluate({name: faces[name] for name in names}, found)


def label(size: Tuple[int, int]) -> str:
    low, high = size
    return (
        "under {}".format(high)
        if not low
        else "{} and over".format(low)
        if high > 5000
        else "{} to {}".format(low, high)
    )
