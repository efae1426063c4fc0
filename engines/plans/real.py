"""What the networks are given on real pictures, to calibrate INT8 with and to verify plans on: the whole
pipeline runs on the CPU over a folder of photos, and its networks' inputs are kept."""
import dataclasses
from collections import Counter
from pathlib import Path
from typing import Any, Dict, List

import numpy as np

from engines.backends.choose import Feeds, recording
from errors import UsageError
from settings import Settings

PHOTOS = Path(__file__).resolve().parent.parent.parent / "demo" / "portraits"
ENDINGS = (".jpg", ".jpeg", ".png", ".bmp", ".webp")


def feeds(settings: Settings, folder: Path) -> Feeds:
    """The inputs of each network by role, run by run. Raises UsageError where `folder` has no photo with a face."""
    import cv2

    from engines.recognizer import Recognizer

    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in ENDINGS)
    faces = 0
    with recording() as found, Recognizer.untested(dataclasses.replace(settings, backend="onnx")) as recognizer:
        for path in paths:
            picture = cv2.imread(str(path))
            if picture is not None:
                faces += recognizer(picture)[0].count
    if not faces:
        raise UsageError("--photos {}: holds no photo with a face; name a folder of JPEG or PNG files.".format(folder))
    return found


def calibration(runs: List[Dict[str, np.ndarray]], path: Path, most: int = 500) -> None:
    """Write pictures of `runs` to `path` one by one, all of the shape that is most usual, at most `most`."""
    rows = [array[index : index + 1] for run in runs for array in run.values() for index in range(len(array))]
    usual = Counter(row.shape for row in rows).most_common(1)[0][0]
    chosen = [row for row in rows if row.shape == usual]
    step = -(-len(chosen) // most)
    named: Dict[str, Any] = {"{:05d}".format(at): row for at, row in enumerate(chosen[::step])}
    np.savez(str(path), **named)
