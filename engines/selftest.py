"""Does this backend, on this machine, with these models, recognise? Asked once at every start.

A norm layer that is missing or broken is not seen in the loop: everybody is alike, or nobody is known.
So two faces, whose landmarks and embeddings were written down when the models were made, are found and
embedded as any other picture is. `python -m engines.selftest --write` writes them down anew: that
belongs to a change of the models that ship.
"""
import dataclasses
import functools
import json
import sys
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

import cv2
import numpy as np

from engines import catalogue
from engines.embed import Embedder
from errors import ModelError
from settings import Settings, load

FOLDER = Path(__file__).parent / "golden"
LENGTH_ERROR = 1e-3  # of an embedding; FP16 with an FP32 sum stays below 2e-4
SIMILARITY = 0.99  # of an embedding to the one written down; FP16 gives 0.9999, INT8 0.995
OFFSET = 0.2  # of a landmark, in eye distances; detectors differ by 0.05
SMALL_FACE = 0.6  # of the golden faces' size: a detector for larger ones sees the pictures enlarged

_passed: set = set()


def fault(recognizer: Any) -> Optional[str]:
    """What is wrong with an engines.recognizer.Recognizer, in a sentence with the figure; None = nothing."""
    tested = (recognizer.backend, recognizer.detector_name, recognizer.model, recognizer.min_face)
    if tested in _passed:
        return None
    pictures, landmarks = _faces()
    for picture, points in zip(pictures, landmarks):
        wrong = _detector_fault(recognizer, picture, points)
        if wrong is not None:
            return wrong
    found = np.concatenate([recognizer.embed(picture, points[np.newaxis])
                            for picture, points in zip(pictures, landmarks)])  # fmt: skip
    expected = _golden(recognizer.model)
    if expected is None and recognizer.backend != "onnx":
        expected = _reference(recognizer.model, pictures, landmarks)
    wrong = embeddings_fault(found, expected, recognizer.embedder.threshold)
    if wrong is None:
        _passed.add(tested)
    return wrong


def embeddings_fault(found: np.ndarray, expected: Optional[np.ndarray], threshold: float) -> Optional[str]:
    """What is wrong with the embeddings (2, D) of the two golden faces; `expected` (2, D) is None where
    nobody knows. `threshold`: the least cosine similarity of one person's faces."""
    for length in np.sqrt((found.astype(np.float64) ** 2).sum(axis=1)):
        if not abs(length - 1) <= LENGTH_ERROR:  # a NaN is not
            return "an embedding has length {:.4f}, but must have 1 within {}.".format(length, LENGTH_ERROR)
    if expected is not None and expected.shape != found.shape:
        return "an embedding has {} numbers, but must have {}.".format(found.shape[1], expected.shape[1])
    if expected is not None:
        similarity = float((found * expected).sum(axis=1).min())
        if not similarity >= SIMILARITY:
            message = "a known face has a similarity of {:.4f} to its embedding on the CPU, but must have {} at least."
            return message.format(similarity, SIMILARITY)
    similarity = float(found[0] @ found[1])
    if not similarity < threshold:
        return "two different people have a similarity of {:.4f}, but must have less than {}.".format(
            similarity, threshold)  # fmt: skip
    return None


def _detector_fault(recognizer: Any, picture: np.ndarray, points: np.ndarray) -> Optional[str]:
    eyes = float(np.hypot(*(points[1] - points[0])))
    enlarged = max(1.0, recognizer.min_face / (SMALL_FACE * 2.5 * eyes))  # a face is some 2.5 eye distances wide
    picture = cv2.resize(picture, None, fx=enlarged, fy=enlarged, interpolation=cv2.INTER_LINEAR)
    faces = recognizer.detect(picture)
    if not faces.count:
        return "the detector finds no face in a portrait."
    offset = float(np.abs(faces.landmarks[0] / enlarged - points).max()) / eyes
    if not offset <= OFFSET:
        message = "the detector puts a landmark {:.2f} eye distances beside its place, but {} is the most."
        return message.format(offset, OFFSET)
    return None


@functools.lru_cache(maxsize=1)
def _noted() -> Dict[str, Any]:
    return json.loads((FOLDER / "golden.json").read_text(encoding="utf-8"))


def _faces() -> Tuple[List[np.ndarray], np.ndarray]:
    """The two pictures (H, W, 3) uint8 BGR, and their landmarks (2, 5, 2)."""
    noted = _noted()["faces"]
    return [_picture(face["file"]) for face in noted], np.array([face["landmarks"] for face in noted], np.float32)


def _picture(name: str) -> np.ndarray:
    picture = cv2.imread(str(FOLDER / name))
    if picture is None:
        raise ModelError("{}: cannot be read; restore it.".format(FOLDER / name))
    return picture


def _golden(model: str) -> Optional[np.ndarray]:
    """Embeddings (2, D) that were written down with this very model."""
    noted = _noted()["embeddings"].get(model)
    if noted is None or noted["sha256"] != _sources(model):
        return None
    return np.array(noted["rows"], np.float32)


def _sources(model: str) -> List[str]:
    return [source["sha256"] for source in catalogue.files(model)["embedder"]]


def _reference(model: str, pictures: List[np.ndarray], landmarks: np.ndarray) -> np.ndarray:
    """The same by ONNX Runtime, for models that nothing was written down of."""
    from engines import build
    from engines.backends.onnx import OnnxNetwork

    with OnnxNetwork(build.ensure(model)["embedder"], threads=1) as network:
        embedder = Embedder(network, catalogue.entry(model, "embedder", "embedder.model"))
        chips = [embedder.chips(picture, points[np.newaxis]) for picture, points in zip(pictures, landmarks)]
        return embedder.embed_chips(np.concatenate(chips))


def write(settings: Settings) -> None:
    """Write down the landmarks and embeddings of the models that `settings` name, on the CPU."""
    from engines.recognizer import Recognizer

    noted = _noted()
    with Recognizer.untested(dataclasses.replace(settings, backend="onnx")) as recognizer:
        rows = []
        for face in noted["faces"]:
            picture = _picture(face["file"])
            found = recognizer.detect(picture)
            face["landmarks"] = [[round(float(one), 1) for one in point] for point in found.landmarks[0]]
            points = np.array([face["landmarks"]], np.float32)
            rows.append([round(float(one), 5) for one in recognizer.embed(picture, points)[0]])
    noted["embeddings"] = {recognizer.model: {"sha256": _sources(recognizer.model), "rows": rows}}
    (FOLDER / "golden.json").write_text(json.dumps(noted), encoding="utf-8")
    _noted.cache_clear()


if __name__ == "__main__":
    if sys.argv[1:] != ["--write"]:
        sys.exit("usage: python -m engines.selftest --write")
    write(load())
