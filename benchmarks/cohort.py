#!/usr/bin/env python3
"""The impostor statistics that `python -m gallery calibrate` needs: how alike strangers are to a model.

Embeds many faces of different people and counts how many pairs reach each similarity, with a 95 %
interval (people drawn anew, not pairs). Only these counts go into gallery/cohort.json. Which of two
pictures are one person's after all (cosine 0.6 or more, by the first model named) is left out, and so
is whoever is in --without.

  benchmarks/cohort.py edgeface_xs own         members of the US Congress (public domain), of ../shared/faces
  benchmarks/cohort.py own --photos portraits/ any folder of photos, one person each
"""

import argparse
import csv
import json
import sys
import zipfile
from pathlib import Path
from typing import Any, Dict, List, Optional

import cv2
import numpy as np
from tqdm import tqdm

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from engines.recognizer import Recognizer  # noqa: E402
from errors import UsageError, guarded  # noqa: E402
from gallery.calibrate import COHORTS  # noqa: E402
from settings import load  # noqa: E402

SHARED = ROOT.parent / "shared"
SOURCE = "uscongress"  # of ../shared/faces/index.csv
BORDER = 8  # pixels around the aligned 112 of these crops
SAME_PERSON = 0.6
STEP = 0.01  # of similarity, between two rows of the table
LEAST_PAIRS = 10  # a rate of fewer is noise: from there on the curve is continued
DRAWS = 200


def read_chips(folder: Path) -> np.ndarray:
    """The aligned faces (N, 112, 112, 3) uint8 BGR of SOURCE."""
    with (folder / "index.csv").open(encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["source"] == SOURCE]
    archives: Dict[str, zipfile.ZipFile] = {}
    chips = []
    for row in rows:
        archive = archives.setdefault(row["shard"], zipfile.ZipFile(str(folder / row["shard"])))
        crop = cv2.imdecode(np.frombuffer(archive.read(row["name"]), np.uint8), cv2.IMREAD_COLOR)
        chips.append(np.asarray(crop)[BORDER:-BORDER, BORDER:-BORDER])
    for archive in archives.values():
        archive.close()
    return np.stack(chips)


def embed_photos(recognizer: Recognizer, folder: Path) -> np.ndarray:
    """The largest face of each picture under `folder`: (N, D)."""
    found = []
    for path in tqdm(sorted(folder.rglob("*.jpg")), unit="photo", disable=None):
        image = np.asarray(cv2.imread(str(path)))
        faces = recognizer.detect(image)
        if faces.count:
            largest = int(np.prod(faces.boxes[:, 2:] - faces.boxes[:, :2], axis=1).argmax())
            found.append(recognizer.embed(image, faces.landmarks[largest : largest + 1])[0])
    return np.stack(found) if found else np.zeros((0, recognizer.dimension), np.float32)


def strangers(embeddings: np.ndarray, without: np.ndarray) -> np.ndarray:
    """Rows of `embeddings` (N, D) that are of different people, none of them in `without` (M, D)."""
    pairs = embeddings @ embeddings.T
    twice = np.triu(pairs >= SAME_PERSON, 1).any(axis=0)
    known = (embeddings @ without.T).max(axis=1, initial=-1) >= SAME_PERSON - 0.1
    return np.flatnonzero(~twice & ~known)


def statistics(embeddings: np.ndarray, seed: int = 0) -> Dict[str, Any]:
    """The table of one model, as gallery.calibrate.Cohort reads it."""
    count = len(embeddings)
    first, second = np.triu_indices(count, 1)
    values = (embeddings @ embeddings.T)[first, second]
    table = np.arange(0, 1, STEP)
    table = table[: np.count_nonzero([(values >= one).sum() >= LEAST_PAIRS for one in table])]
    high = values >= table[0]
    place = np.minimum(((values[high] - table[0]) / STEP).astype(int), len(table) - 1)

    def rates(weights: np.ndarray) -> np.ndarray:
        pairs = np.bincount(place, weights[first[high]] * weights[second[high]], len(table))[::-1].cumsum()[::-1]
        return pairs / ((weights.sum() ** 2 - (weights**2).sum()) / 2)

    draw = np.random.RandomState(seed)
    drawn = [rates(np.bincount(draw.randint(count, size=count), minlength=count).astype(float)) for _ in range(DRAWS)]
    low, top = np.percentile(drawn, [2.5, 97.5], axis=0)
    rate = rates(np.ones(count))
    floor = 1 / len(values)
    return {
        "faces": count,
        "mean": round(float(values.mean()), 5),
        "spread": round(float(values.std()), 5),
        "similarity": [round(float(one), 3) for one in table],
        "rate": [float("{:.3g}".format(one)) for one in rate],
        "low": [float("{:.3g}".format(max(one, floor))) for one in low],
        "high": [float("{:.3g}".format(max(one, floor))) for one in top],
    }


def written(cohorts: Dict[str, Any]) -> str:
    """JSON with a line for each list, so that a change of one model is seen in a diff."""
    models = []
    for model in sorted(cohorts):
        fields = ["  {}: {}".format(json.dumps(key), json.dumps(value)) for key, value in cohorts[model].items()]
        models.append(" {}: {{\n{}\n }}".format(json.dumps(model), ",\n".join(fields)))
    return "{\n" + ",\n".join(models) + "\n}\n"


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", help="embedders of the catalogue")
    parser.add_argument("--chips", type=Path, default=SHARED / "faces", help="folder with index.csv and its archives")
    parser.add_argument("--photos", type=Path, help="a folder of photos in place of --chips, one person each")
    parser.add_argument("--without", type=Path, default=SHARED / "photos" / "strangers", help="leave these out")
    parser.add_argument("--limit", type=int, help="the first so many faces alone, to try it")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE")
    return parser.parse_args()


def main() -> int:
    options = arguments()
    chips: Optional[np.ndarray] = None if options.photos else read_chips(options.chips)[: options.limit]
    rows = np.zeros(0, int)
    cohorts: Dict[str, Any] = json.loads(COHORTS.read_text(encoding="utf-8")) if COHORTS.exists() else {}
    models: List[str] = options.models
    for model in models:
        settings = load(ROOT / "config.yaml", options.set + ["embedder.model=" + model])
        with Recognizer.from_settings(settings) as recognizer:
            if chips is None:
                embeddings = embed_photos(recognizer, options.photos)[: options.limit]
            else:
                parts = np.array_split(chips, max(1, len(chips) // 32))
                embeddings = np.concatenate([recognizer.embed_chips(part) for part in tqdm(parts, disable=None)])
            if not len(rows):
                rows = strangers(embeddings, embed_photos(recognizer, options.without))
            if len(rows) < 100:
                raise UsageError("{} different people are too few for statistics; give 100 or more.".format(len(rows)))
        cohorts[model] = statistics(embeddings[rows])
        print("{}: {} people, mean {mean}, spread {spread}".format(model, len(rows), **cohorts[model]))
    COHORTS.write_text(written(cohorts), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(guarded(main))
