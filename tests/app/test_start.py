"""What a start says of the calibration, and that a run goes by it."""
import dataclasses

import cv2
import numpy as np
import pytest

from app import start
from app.capture.source import Frame
from app.sight import Sight
from app.stats import Stats
from engines.recognizer import Recognizer
from gallery.calibrate import Stored
from gallery.photos import PhotoEnroller
from gallery.store import Gallery
from settings import load
from tests import ROOT
from tests.doubles.recognizer import FakeRecognizer, embedding


@pytest.fixture
def settings(tmp_path):
    loaded = load(ROOT / "config.yaml")
    gallery = dataclasses.replace(loaded.gallery, database=str(tmp_path / "gallery.db"), photos=str(tmp_path / "none"))
    return dataclasses.replace(loaded, gallery=gallery)


@pytest.mark.parametrize("calibrated, said", [(1, True), (2, False), (3, False)])
def test_a_calibration_that_the_gallery_has_outgrown_is_said(settings, capsys, calibrated, said):
    with start._open_gallery(settings, FakeRecognizer()) as gallery:
        for hue in range(3):
            gallery.enroll("person {}".format(hue), embedding(hue)[np.newaxis], [0.9], "camera")
        gallery.records.calibrate("fake", Stored(0.4, 0.05, 0.01, calibrated, 3, 0.0))
    capsys.readouterr()
    with start._open_gallery(settings, FakeRecognizer()):
        message = capsys.readouterr().err
    expected = "The threshold is calibrated on 1 people, 3 are known now; 'python -m gallery calibrate' renews it."
    assert (expected in message) == said


@pytest.mark.parametrize("threshold, name", [(0.4, "Eileen Collins"), (0.9999, None)])
def test_a_run_names_by_the_calibrated_threshold(settings, threshold, name):
    """A darker copy of the enrolled portrait: far over the model's own threshold, not over 0.9999."""
    portraits = ROOT / "demo" / "portraits"
    own = dataclasses.replace(settings, gallery=dataclasses.replace(settings.gallery, photos=str(portraits)))
    picture = cv2.convertScaleAbs(cv2.imread(str(portraits / "Eileen Collins.jpg")), alpha=0.6)
    with Recognizer.from_settings(own) as recognizer:
        with Gallery.open(own, recognizer.model, recognizer.dimension, recognizer.threshold) as gallery:
            PhotoEnroller(gallery, recognizer, own).run()
            gallery.records.calibrate(recognizer.model, Stored(threshold, 0.05, 0.01, 2, 2, 0.0))
        with Gallery.open(own, recognizer.model, recognizer.dimension, recognizer.threshold) as gallery:
            sight = Sight(recognizer, gallery, own, Stats(), still=True)
            (track,) = sight.see(Frame(picture, 0, 0.0, True))
            assert track.name == name
