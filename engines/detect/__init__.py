"""Detectors: pictures in, faces out."""
from typing import Optional

from engines import catalogue
from engines.detect.detector import Detector
from engines.sampling.sampler import Sampler
from errors import UsageError
from settings import Settings


def open_detector(settings: Settings, sampler: Optional[Sampler] = None) -> Detector:
    """The detector that `detector.model` names; `sampler` runs MTCNN's networks (default: on the CPU).
    Raises UsageError for one that is not there."""
    entry = catalogue.entry(settings.detector.model, "detector", "detector.model")
    if entry["type"] == "mtcnn":
        from engines.detect.mtcnn import Mtcnn

        return Mtcnn.from_settings(settings, sampler)
    if entry["type"] == "scrfd":
        from engines.detect.scrfd import Scrfd

        return Scrfd.from_settings(settings)
    raise UsageError(
        "{}: its type in the catalogue is '{}', but must be mtcnn or scrfd.".format(entry["name"], entry["type"])
    )
