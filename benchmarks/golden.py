#!/usr/bin/env python3
"""The golden figures of tests/golden.json: small fixed sets, measured by the suite at every run.

The suite fails when a figure is worse than its record by more than ALLOWED. After a model is trained
anew, or another one becomes the default, its figures are recorded by this command.

  benchmarks/golden.py                    what the file holds, measured beside its record
  benchmarks/golden.py --record own mtcnn write down the figures of these models
"""
import argparse
import json
import os
import sys
from pathlib import Path
from typing import Callable, Dict, List

import cv2

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks import alignment, detection, identification, verification  # noqa: E402
from benchmarks.detectors import SHARED, open_named  # noqa: E402
from engines import catalogue  # noqa: E402
from engines.recognizer import Recognizer  # noqa: E402
from errors import guarded  # noqa: E402
from gallery.calibrate import Cohort  # noqa: E402
from settings import Settings, load  # noqa: E402

FILE = ROOT / "tests" / "golden.json"
PAIRS, PHOTOS = 200, 30
MIN_FACE, LOW = 20, 0.05
Figures = Dict[str, float]
# How much worse than its record a figure may be: one pair or face of the set, and rounding between machines.
ALLOWED = {"accuracy": 0.006, "auc": 0.002, "known": 0, "strangers": 0, "wrong": 0, "ap": 0.01, "recall": 0.015,
           "false": 1, "median": 0.005}  # fmt: skip
SMALLER_IS_BETTER = ("strangers", "wrong", "false", "median")


def settings_for(embedder: str) -> Settings:
    return load(ROOT / "config.yaml", ["embedder.model=" + embedder, "threads=2"])


def pairs(embedder: str) -> Figures:
    """Verification on PAIRS of the LFW development pairs."""
    chosen = settings_for(embedder)
    opened = verification.open_embedders([embedder], chosen)
    some = verification.read_pairs(SHARED / "lfw_dev", PAIRS)
    figures = verification.measure(SHARED / "lfw_dev", some, opened, chosen)[embedder].figures
    return {"accuracy": figures.accuracy, "auc": figures.auc}


def strangers(embedder: str) -> Figures:
    """The stranger test: three photos of each person enrolled and calibrated, all others looked at."""
    chosen = settings_for(embedder)
    with Recognizer.from_settings(chosen) as recognizer:
        people, others = SHARED / "photos" / "portraits", SHARED / "photos" / "strangers"
        found = identification.measure(people, others, recognizer, chosen, cohort=Cohort.of(embedder))
    assert found.proposal is not None
    at = found.proposal.threshold, found.proposal.margin
    return {"known": found.right(*at), "wrong": found.wrong(*at), "strangers": found.misnamed(*at)}


def faces(detector: str) -> Figures:
    """Detection on PHOTOS of the validation photos."""
    models, photos = SHARED / "models", detection.read_photos(SHARED / "detection", "val", PHOTOS)
    wide = open_named(detector, models, [], 2, MIN_FACE, LOW)
    with wide, open_named(detector, models, [], 2, MIN_FACE) as usual:
        found = detection.measure(photos, wide, usual)
    return {"ap": found.ap, "recall": found.recall["all"], "false": found.false}


def points(detector: str) -> Figures:
    """Alignment on dlib's nine photos."""
    with open_named(detector, SHARED / "models", [], 2, MIN_FACE) as opened:
        found = alignment.measure(alignment.read_dlib(SHARED / "photos" / "dlib_faces"), opened)
    return {"median": found.median, "found": found.found}


MEASUREMENTS: Dict[str, Dict[str, Callable[[str], Figures]]] = {
    "embedder": {"pairs": pairs, "strangers": strangers},
    "detector": {"faces": faces, "points": points},
}


def read() -> Dict[str, Dict[str, Figures]]:
    """Measurement -> model -> figures."""
    found: Dict[str, Dict[str, Figures]] = json.loads(FILE.read_text(encoding="utf-8")) if FILE.exists() else {}
    return found


def worse(measured: Figures, recorded: Figures) -> List[str]:
    """A line for each figure that is worse than its record by more than ALLOWED."""
    lines = []
    for name, before in recorded.items():
        drop = measured[name] - before if name in SMALLER_IS_BETTER else before - measured[name]
        if drop > ALLOWED.get(name, 0) + 1e-9:
            lines.append("{} was {:g} and is {:g}".format(name, before, measured[name]))
    return lines


def kind_of(model: str) -> str:
    """embedder or detector. Raises UsageError for a name that is neither."""
    if model in catalogue.names("detector"):
        return "detector"
    return str(catalogue.entry(model, "embedder", "embedder")["kind"])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", help="catalogue names (default: all that are recorded)")
    parser.add_argument("--record", action="store_true", help="write the figures down")
    options = parser.parse_args()
    os.environ.setdefault("KIOSK_MODELS", str(SHARED / "models"))
    cv2.setNumThreads(2)
    golden, failed = read(), 0
    for model in options.models or sorted({model for table in golden.values() for model in table}):
        for name, measure in MEASUREMENTS[kind_of(model)].items():
            measured = {key: round(float(value), 4) for key, value in measure(model).items()}
            lines = worse(measured, golden.get(name, {}).get(model, {}))
            failed += len(lines)
            print(name, model, measured, *lines, flush=True)
            if options.record:
                golden.setdefault(name, {})[model] = measured
    if options.record:
        FILE.write_text(json.dumps(golden, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        return 0
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(guarded(main))
