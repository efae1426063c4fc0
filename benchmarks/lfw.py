#!/usr/bin/env python3
"""How often two photos are rightly called the same person or not: the LFW development pairs.

The whole pipeline of the kiosk: detection, alignment, embedding. 1,000 pairs in 10 folds, pair i in
fold i mod 10; each fold is judged by the threshold that is best on the other nine. The face nearest
the centre counts; a picture without a face makes its pairs wrong.

  benchmarks/lfw.py                         every embedder whose file is there
  benchmarks/lfw.py own edgeface_xs         these alone
"""
import argparse
import csv
import sys
from pathlib import Path
from typing import Dict, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np
from tqdm import tqdm

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import cv2  # noqa: E402

from engines import build, catalogue  # noqa: E402
from engines.backends.choose import open_network  # noqa: E402
from engines.detect import open_detector  # noqa: E402
from engines.embed import Embedder  # noqa: E402
from errors import KioskError  # noqa: E402
from settings import Settings, load  # noqa: E402

FOLDS = 10


class Figure(NamedTuple):
    """`accuracy` in 0..1 over all pairs; `missing` pictures without a face; `threshold` the mean of the folds'."""

    accuracy: float
    threshold: float
    missing: int


def read_pairs(folder: Path) -> List[Tuple[str, str, bool]]:
    """The pairs of pairs.csv: two paths below `folder`, and whether they show one person."""
    with (folder / "pairs.csv").open(encoding="utf-8") as file:
        return [(row["path_a"], row["path_b"], row["same"] == "1") for row in csv.DictReader(file)]


def open_embedders(names: Sequence[str], settings: Settings) -> Dict[str, Embedder]:
    found = {}
    for name in names:
        entry = catalogue.entry(name, "embedder", "embedder")
        found[name] = Embedder(open_network(build.ensure(name, settings)["embedder"], settings), entry)
    return found


def embed(folder: Path, paths: Sequence[str], embedders: Dict[str, Embedder], settings: Settings,
          progress: bool = True) -> Dict[str, Dict[str, Optional[np.ndarray]]]:  # fmt: skip
    """Embedder -> path -> embedding (D,), None where no face was found. One detection serves all."""
    detector = open_detector(settings)
    result: Dict[str, Dict[str, Optional[np.ndarray]]] = {name: {} for name in embedders}
    for path in tqdm(paths, unit="photo", disable=None if progress else True):
        image = np.asarray(cv2.imread(str(folder / path)))
        faces = detector.detect(image)
        if not faces.count:
            for found in result.values():
                found[path] = None
            continue
        middles = (faces.boxes[:, :2] + faces.boxes[:, 2:]) / 2
        nearest = int(np.linalg.norm(middles - np.array(image.shape[1::-1]) / 2, axis=1).argmin())
        for name, embedder in embedders.items():
            chips = embedder.chips(image, faces.landmarks[nearest : nearest + 1])
            result[name][path] = embedder.embed_chips(chips)[0]
    return result


def judge(pairs: Sequence[Tuple[str, str, bool]], embeddings: Dict[str, Optional[np.ndarray]]) -> Figure:
    """Accuracy over the folds."""
    same = np.array([pair[2] for pair in pairs])
    scores = np.full(len(pairs), np.nan)
    for at, (first, second, _) in enumerate(pairs):
        one, other = embeddings[first], embeddings[second]
        if one is not None and other is not None:
            scores[at] = float(one @ other)
    folds = np.arange(len(pairs)) % FOLDS
    right, thresholds = 0, []
    for fold in range(FOLDS):
        training = (folds != fold) & ~np.isnan(scores)
        threshold = _best_threshold(scores[training], same[training])
        thresholds.append(threshold)
        mine = (folds == fold) & ~np.isnan(scores)
        right += int(((scores[mine] >= threshold) == same[mine]).sum())
    missing = sum(one is None for one in embeddings.values())
    return Figure(right / len(pairs), float(np.mean(thresholds)), missing)


def _best_threshold(scores: np.ndarray, same: np.ndarray) -> float:
    """The middle of the gap at which most are right."""
    order = np.argsort(scores)
    scores, same = scores[order], same[order]
    right = np.concatenate([[same.sum()], same.sum() + np.cumsum(np.where(same, -1, 1))])
    at = int(right.argmax())
    edges = np.concatenate([[scores[0] - 0.01], scores, [scores[-1] + 0.01]])
    return float((edges[at] + edges[at + 1]) / 2)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", help="embedders of the catalogue (default: all that are there)")
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "lfw_dev", help="folder with pairs.csv")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE")
    options = parser.parse_args()
    settings = load(ROOT / "config.yaml", options.set)
    names = options.models or _present(settings)
    pairs = read_pairs(options.data)
    paths = sorted({path for pair in pairs for path in pair[:2]})
    embeddings = embed(options.data, paths, open_embedders(names, settings), settings)
    print("{:<26} {:>9} {:>10} {:>8}".format("embedder", "accuracy", "threshold", "no face"))
    for name in names:
        figure = judge(pairs, embeddings[name])
        print("{:<26} {:>8.2f}% {:>10.3f} {:>8}".format(name, 100 * figure.accuracy, figure.threshold, figure.missing))
    return 0


def _present(settings: Settings) -> List[str]:
    """The embedders whose files are at hand: nothing is downloaded for a table."""
    found = []
    for name in catalogue.names("embedder"):
        if not any("url" in source for sources in catalogue.files(name).values() for source in sources):
            try:
                build.ensure(name, settings)
                found.append(name)
            except KioskError as error:
                print("left out: {}".format(error), file=sys.stderr)
    return found


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KioskError as error:
        sys.exit("error: {}".format(error))
