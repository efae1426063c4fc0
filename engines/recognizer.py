"""Pictures in, faces and embeddings out: what the kiosk, the gallery commands, the benchmarks and
the tests all use, so that a figure measured anywhere is a figure of the code that runs."""
import dataclasses
from typing import List, Optional, Tuple

import numpy as np

from engines import build, catalogue, quality, selftest
from engines.backends.choose import first_sound, open_network, say
from engines.detect import open_detector
from engines.detect.detector import Detector, Faces
from engines.embed import Embedder
from engines.sampling.sampler import Sampler, open_sampler
from errors import UsageError
from settings import AUTO, Settings


class Recognizer:
    """A detector and an embedder. A context manager; use it from one thread, or one per thread.

    `threshold` is the lowest cosine similarity of a known face, `strong` the lowest score of a face;
    the detector itself goes down to tracking.keep_score. It closes all that it was given.
    """

    def __init__(
        self, detector: Detector, embedder: Embedder, settings: Settings, strong: float,
        sampler: Optional[Sampler] = None,
    ) -> None:  # fmt: skip
        self.detector = detector
        self.strong = strong
        self.embedder = embedder
        self._sampler = sampler
        self._limits = settings.quality
        self.model = embedder.model
        self.dimension = embedder.dimension
        self.chip_size = embedder.size  # pixels of a side
        self.backend = settings.backend
        self.detector_name, self.min_face = settings.detector.model, settings.detector.min_face
        wanted = settings.recognition.threshold
        self.threshold = embedder.threshold if wanted == AUTO else float(wanted)  # cosine similarity

    @classmethod
    def from_settings(cls, settings: Settings) -> "Recognizer":
        """The detector and the embedder that config.yaml names; models are made ready if need be.

        The backend that runs them passed the self-test. Raises UsageError for a name that the catalogue
        lacks, ModelError where a model cannot be had or no backend is sound.
        """
        return first_sound(settings, cls.untested, selftest.fault)

    @classmethod
    def untested(cls, settings: Settings) -> "Recognizer":
        """The same without the self-test; the backend auto is the CPU here."""
        if settings.backend == AUTO:
            settings = dataclasses.replace(settings, backend="onnx")
        entry = catalogue.entry(settings.embedder.model, "embedder", "embedder.model")
        files = build.ensure(entry["name"], settings)
        sampler = open_sampler(settings.backend == "tensorrt", say)
        embedder = Embedder(open_network(files["embedder"], settings, role="embedder"), entry, sampler)
        wanted = settings.detector.threshold
        usual = catalogue.entry(settings.detector.model, "detector", "detector.model")["threshold"]
        strong = float(usual if wanted == AUTO else wanted)
        lowest = dataclasses.replace(settings.detector, threshold=min(strong, settings.tracking.keep_score))
        detector = open_detector(dataclasses.replace(settings, detector=lowest), sampler)
        return cls(detector, embedder, settings, strong, sampler)

    def detect(self, image: np.ndarray) -> Faces:
        """The faces in a BGR picture (H, W, 3) uint8, best score first."""
        found = self.detector.detect(_picture(image))
        return found.take(found.scores >= self.strong)

    def search(self, image: np.ndarray, known: Optional[Faces] = None) -> Faces:
        """The faces of a live picture, and what may be one, down to a score of tracking.keep_score:
        for tracks to go on with. `known` faces (of `follow`) are not looked for again."""
        return self.detector.search(_picture(image), known)

    def follow(self, image: np.ndarray, boxes: np.ndarray) -> Faces:
        """The same, but only near `boxes` (N, 4), which is quicker."""
        return self.detector.follow(_picture(image), boxes)

    def chips(self, image: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
        """The faces aligned for the embedder: (N, S, S, 3) uint8 BGR."""
        return self.embedder.chips(image, landmarks)

    def embed_chips(self, chips: np.ndarray) -> np.ndarray:
        """Aligned faces (N, S, S, 3) uint8 BGR -> (N, D) float32 of unit length."""
        return self.embedder.embed_chips(chips)

    def embed(self, image: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
        """The faces at `landmarks` (N, 5, 2) -> (N, D) float32 of unit length."""
        return self.embed_chips(self.chips(image, landmarks))

    def quality(self, image: np.ndarray, faces: Faces, chips: np.ndarray) -> List[quality.Quality]:
        """Score and reason of each face; `chips` are the same faces aligned."""
        return quality.assess(image, faces, chips, self._limits)

    def __call__(self, image: np.ndarray) -> Tuple[Faces, np.ndarray]:
        faces = self.detect(image)
        return faces, self.embed(image, faces.landmarks)

    def close(self) -> None:
        self.detector.close()
        self.embedder.close()
        if self._sampler is not None:
            self._sampler.close()

    def __enter__(self) -> "Recognizer":
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def _picture(image: np.ndarray) -> np.ndarray:
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        message = "The picture is {} {}, but must be (height, width, 3) uint8 in BGR."
        raise UsageError(message.format(image.shape, image.dtype))
    return image
