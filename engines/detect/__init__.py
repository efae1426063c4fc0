"""Detectors: pictures in, faces out."""
from engines import catalogue
from engines.detect.detector import Detector
from errors import UsageError
from settings import Settings


def open_detector(settings: Settings) -> Detector:
    """The detector that `detector.model` names. Raises UsageError for one that is not there."""
    entry = catalogue.entry(settings.detector.model, "detector", "detector.model")
    if entry["type"] == "mtcnn":
        from engines.detect.mtcnn import Mtcnn

        return Mtcnn.from_settings(settings)
    raise UsageError(
        "detector.model: '{}' is in the catalogue, but its type '{}' has no reader yet; choose mtcnn.".format(
            entry["name"], entry["type"]
        )
    )
