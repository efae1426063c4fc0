"""Verification by the LFW protocol: is it one person or two, on pairs of photos or of aligned faces.

1,000 development pairs in 10 folds, pair i in fold i mod 10. On photos the whole pipeline runs and
the face nearest the centre counts; a picture without a face makes its pairs wrong.
"""

import csv
import time
from pathlib import Path
from typing import Dict, List, NamedTuple, Optional, Sequence, Tuple

import cv2
import numpy as np
from tqdm import tqdm

from benchmarks import measures
from engines import build, catalogue
from engines.backends.choose import open_network
from engines.detect import open_detector
from engines.embed import Embedder
from settings import Settings

Pair = Tuple[str, str, bool]


class Judged(NamedTuple):
    """One embedder: its figures, the pairs' similarities (-inf without a face) and pictures without one."""

    figures: measures.Verification
    scores: np.ndarray
    missing: int
    ms: float  # milliseconds a face, embedded alone


def read_pairs(folder: Path, limit: Optional[int] = None) -> List[Pair]:
    """The pairs of pairs.csv: two paths below `folder`, and whether they show one person. `limit`
    takes half of them from either kind."""
    with (folder / "pairs.csv").open(encoding="utf-8") as file:
        pairs = [(row["path_a"], row["path_b"], row["same"] == "1") for row in csv.DictReader(file)]
    if limit is None:
        return pairs
    return [pair for kind in (True, False) for pair in [one for one in pairs if one[2] == kind][: limit // 2]]


def open_embedders(names: Sequence[str], settings: Settings) -> Dict[str, Embedder]:
    found = {}
    for name in names:
        entry = catalogue.entry(name, "embedder", "embedder")
        found[name] = Embedder(open_network(build.ensure(name, settings)["embedder"], settings), entry)
    return found


def measure(folder: Path, pairs: Sequence[Pair], embedders: Dict[str, Embedder], settings: Settings,
            aligned: bool = False) -> Dict[str, Judged]:  # fmt: skip
    """Embedder -> figures. `aligned`: the pictures are chips, taken as they are."""
    paths = sorted({path for pair in pairs for path in pair[:2]})
    detector = None if aligned else open_detector(settings)
    found: Dict[str, Dict[str, Optional[np.ndarray]]] = {name: {} for name in embedders}
    times: Dict[str, List[float]] = {name: [] for name in embedders}
    for path in tqdm(paths, unit="photo", disable=None):
        image = np.asarray(cv2.imread(str(folder / path)))
        landmarks = None
        if detector is not None:
            faces = detector.detect(image)
            middles = (faces.boxes[:, :2] + faces.boxes[:, 2:]) / 2
            nearest = np.linalg.norm(middles - np.array(image.shape[1::-1]) / 2, axis=1).argsort()[:1]
            landmarks = faces.landmarks[nearest]
        for name, embedder in embedders.items():
            start = time.perf_counter()
            if landmarks is None:
                chips = cv2.resize(image, (embedder.size, embedder.size))[None]
            else:
                chips = embedder.chips(image, landmarks)
            found[name][path] = embedder.embed_chips(chips)[0] if len(chips) else None
            times[name].append((time.perf_counter() - start) * 1e3)
    if detector is not None:
        detector.close()
    return {name: _judged(pairs, found[name], float(np.median(times[name]))) for name in embedders}


def _judged(pairs: Sequence[Pair], embeddings: Dict[str, Optional[np.ndarray]], ms: float) -> Judged:
    scores = np.full(len(pairs), -np.inf)
    for at, (first, second, _) in enumerate(pairs):
        one, other = embeddings[first], embeddings[second]
        if one is not None and other is not None:
            scores[at] = float(one @ other)
    same = np.array([pair[2] for pair in pairs])
    folds = np.arange(len(pairs)) % measures.FOLDS
    missing = sum(one is None for one in embeddings.values())
    return Judged(measures.verification(scores, same, folds), scores, missing, ms)
