"""Detectors and embedders by name for the benchmarks: those of the catalogue, and the peers beside them.

Peers are yunet (OpenCV's FaceDetectorYN) and facenet-pytorch (its MTCNN, in a process of its own).
"""

import tempfile
import time
from pathlib import Path
from typing import List, Optional

import cv2
import numpy as np

from benchmarks.detect import Peer
from engines import build, catalogue
from engines.detect import open_detector
from engines.detect.detector import Detector, Faces
from errors import UsageError
from settings import load

ROOT = Path(__file__).resolve().parent.parent
SHARED = ROOT.parent / "shared"
PEER_PYTHON = ROOT / ".venv-peers" / "bin" / "python"
YUNET = "face_detection_yunet_2023mar.onnx"
USUAL = {"yunet": 0.7, "facenet-pytorch": 0.7}  # scores; opencv_zoo's demo of YuNet is at 0.9


class Timed:
    """A detector that remembers how long the last picture took, `ms`; a context manager."""

    def __init__(self, name: str, detector: Detector, usual: float, megabytes: float) -> None:
        """`usual`: the lowest score that counts as a face in daily use."""
        self.name, self.usual, self.megabytes, self.ms = name, usual, megabytes, 0.0
        self._detector = detector

    def detect(self, image: np.ndarray) -> Faces:
        start = time.perf_counter()
        faces = self._detector.detect(image)
        self.ms = getattr(self._detector, "ms", None) or (time.perf_counter() - start) * 1e3
        return faces

    def __enter__(self) -> "Timed":
        return self

    def __exit__(self, *exc: object) -> None:
        self._detector.close()


class Yunet(Detector):
    """OpenCV's own way to run it; its points come in our order, left and right as seen in the picture."""

    def __init__(self, path: Path, threshold: float) -> None:
        if hasattr(cv2.utils, "logging"):  # OpenCV 5 would warn at every picture
            cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_ERROR)
        self._network = cv2.FaceDetectorYN.create(str(path), "", (320, 320), threshold, 0.3, 5000)

    def detect(self, image: np.ndarray) -> Faces:
        self._network.setInputSize(image.shape[1::-1])
        found = self._network.detect(image)[1]
        if found is None:
            return Faces.none()
        found = found[np.argsort(-found[:, 14], kind="stable")]
        boxes = np.concatenate([found[:, :2], found[:, :2] + found[:, 2:4]], axis=1)
        return Faces(boxes, found[:, 14], found[:, 4:14].reshape(-1, 5, 2))


class FacenetPytorch(Detector):
    """Asks the peer's process, which measures the time of its detect() alone."""

    def __init__(self, threads: int, threshold: float, min_face: int) -> None:
        self._peer = Peer(PEER_PYTHON)
        self._asked = (threads, min_face, threshold)
        self._folder = tempfile.TemporaryDirectory()
        self._count = 0
        self.ms = 0.0

    def detect(self, image: np.ndarray) -> Faces:
        self._count += 1
        photo = Path(self._folder.name, "{}.png".format(self._count))
        cv2.imwrite(str(photo), image)
        found = self._peer.ask(photo, *self._asked)
        photo.unlink()
        self.ms = found["ms"]
        scores = np.array(found["scores"], np.float32)
        order = np.argsort(-scores, kind="stable")
        points = np.array(found["points"], np.float32).reshape(-1, 5, 2)
        return Faces(np.array(found["boxes"], np.float32).reshape(-1, 4)[order], scores[order], points[order])

    def close(self) -> None:
        self._peer.__exit__()
        self._folder.cleanup()


def open_named(name: str, models: Path, settings: List[str], threads: int, min_face: int,
               threshold: Optional[float] = None) -> Timed:  # fmt: skip
    """A detector that answers down to a score of `threshold` (None: its usual one)."""
    if name in USUAL:
        lowest = USUAL[name] if threshold is None else threshold
        if name == "yunet":
            path = next(iter(sorted(models.rglob(YUNET))), None)
            if path is None:
                raise UsageError("{}: has no {}.".format(models, YUNET))
            return Timed(name, Yunet(path, lowest), USUAL[name], path.stat().st_size / 1e6)
        return Timed(name, FacenetPytorch(threads, lowest, min_face), USUAL[name], 2.0)
    changes = ["detector.model=" + name, "detector.min_face={}".format(min_face), "threads={}".format(threads)]
    if threshold is not None:
        changes.append("detector.threshold={}".format(threshold))
    chosen = load(ROOT / "config.yaml", settings + changes)
    entry = catalogue.entry(name, "detector", "detector")
    detector = open_detector(chosen)
    return Timed(name, detector, float(entry["threshold"]), megabytes(name))


def megabytes(name: str) -> float:
    return sum(path.stat().st_size for path in build.ensure(name).values()) / 1e6


def at_hand(kind: str, models: Path) -> List[str]:
    """The catalogue's models of `kind` whose files are in `models` or ship: nothing is downloaded for a table."""

    def lies(name: str) -> bool:
        for sources in catalogue.files(name).values():
            files = [source["file"] for source in sources]
            if not any((build.SHIPPED / file).exists() or any(models.rglob(file)) for file in files):
                return False
        return True

    return [name for name in catalogue.names(kind) if lies(name)]
