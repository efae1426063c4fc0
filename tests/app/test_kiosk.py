"""The loop on the demo's own pictures: naming, enrolling, keys, and a disk that does not take it."""
import dataclasses
from pathlib import Path
from typing import Dict, List, Sequence

import cv2
import numpy as np
import pytest

from app.kiosk import Kiosk
from app.show.output import Event
from app.sight import Sight
from app.stats import Stats
from engines.recognizer import Recognizer
from errors import StorageError
from gallery.photos import PhotoEnroller
from gallery.store import Gallery
from settings import Settings, load
from tests import ROOT
from tests.doubles.output import RecordingOutput
from tests.doubles.source import FrameList

CLIP = ROOT / "demo" / "clip.mp4"
ALONE = (60, 150)  # frames of the clip in which Eileen Collins walks up alone


@pytest.fixture(scope="module")
def recognizer():
    with Recognizer.from_settings(load(ROOT / "config.yaml")) as opened:
        yield opened


@pytest.fixture(scope="module")
def walk_up() -> List[np.ndarray]:
    capture = cv2.VideoCapture(str(CLIP))
    images = [capture.read()[1] for _ in range(ALONE[1])][ALONE[0] :]
    capture.release()
    return images


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    loaded = load(ROOT / "config.yaml")
    gallery = dataclasses.replace(loaded.gallery, database=str(tmp_path / "gallery.db"), photos=str(tmp_path / "none"))
    return dataclasses.replace(loaded, gallery=gallery, enroll=dataclasses.replace(loaded.enroll, samples=2))


def run(recognizer, settings: Settings, images: Sequence[np.ndarray], script: Dict[int, Sequence[Event]]):
    """A whole run over `images` with the keys of `script`; returns the kiosk and its output."""
    output = RecordingOutput(script, keep=1)
    with Gallery.open(settings, recognizer.model, recognizer.dimension, recognizer.threshold) as gallery:
        kiosk = Kiosk(FrameList(images), output, Sight(recognizer, gallery, settings, Stats()), settings, Stats())
        kiosk.run()
    return kiosk, output


def people(recognizer, settings: Settings) -> List[str]:
    with Gallery.open(settings, recognizer.model, recognizer.dimension, recognizer.threshold) as gallery:
        return [person.name for person in gallery.people()]


def typed(name: str) -> List[Event]:
    return [Event("text", letter) for letter in name] + [Event("key", "enter")]


def test_n_a_name_and_enter_enrol_the_face_and_it_is_named_at_once(recognizer, settings, walk_up):
    script = {20: [Event("key", "n")], 24: typed("Zoë")}
    kiosk, output = run(recognizer, settings, walk_up, script)
    assert people(recognizer, settings) == ["Zoë"]
    figures = kiosk.stats.as_dict()
    assert figures["people"]["Zoë"]["frames"] > 20
    assert figures["frames"] == len(walk_up), "the pictures went on while the name was typed"
    assert output.text_inputs == [True, False]
    again, _ = run(recognizer, settings, walk_up, {})
    assert again.stats.as_dict()["people"]["Zoë"]["frames"] > 60


def test_a_name_that_exists_gets_more_pictures_of_the_same_face(recognizer, settings, walk_up):
    script = {20: [Event("key", "n")], 24: typed("Zoë")}
    run(recognizer, settings, walk_up, script)
    run(recognizer, settings, walk_up, script)
    with Gallery.open(settings, recognizer.model, recognizer.dimension, recognizer.threshold) as gallery:
        assert [(person.name, person.embeddings) for person in gallery.people()] == [("Zoë", 4)]


def test_escape_cancels_an_enrolment_and_then_quits(recognizer, settings, walk_up):
    script = {20: [Event("key", "n")], 25: [Event("text", "Z"), Event("key", "escape")], 30: [Event("key", "escape")]}
    _, output = run(recognizer, settings, walk_up, script)
    assert people(recognizer, settings) == []
    assert output.shown == 30


@pytest.mark.parametrize("last", [Event("key", "q"), Event("close")])
def test_q_and_closing_the_window_quit(recognizer, settings, walk_up, last):
    _, output = run(recognizer, settings, walk_up, {5: [last]})
    assert output.shown == 5


def test_the_end_of_the_file_ends_the_run(recognizer, settings, walk_up):
    kiosk, output = run(recognizer, settings, walk_up[:7], {})
    assert output.shown == kiosk.stats.frames == 7


def test_a_run_ends_after_the_asked_seconds_of_source_time(recognizer, settings, walk_up):
    output = RecordingOutput()
    with Gallery.open(settings, recognizer.model, recognizer.dimension, recognizer.threshold) as gallery:
        kiosk = Kiosk(FrameList(walk_up), output, Sight(recognizer, gallery, settings, Stats()), settings, Stats())
        kiosk.seconds = 0.4
        kiosk.run()
    assert output.shown == 10


def test_what_cannot_be_stored_is_said_and_the_run_goes_on(recognizer, settings, walk_up):
    def full(*arguments, **more):
        raise StorageError("gallery.db: the disk is full; free some space.")

    script = {20: [Event("key", "n")], 24: typed("Zoë")}
    output = RecordingOutput(script, draws=False)
    with Gallery.open(settings, recognizer.model, recognizer.dimension, recognizer.threshold) as gallery:
        gallery.enroll = full  # the double of a full disk: it refuses as the store does
        stats = Stats()
        sight = Sight(recognizer, gallery, settings, stats)
        Kiosk(FrameList(walk_up), CountingOutput(output), sight, settings, stats).run()
    assert stats.frames == len(walk_up)
    assert "gallery.db: the disk is full; free some space." in output.said
    assert people(recognizer, settings) == []


class CountingOutput(RecordingOutput):
    """An output without pictures, as in a terminal, whose script counts looks for keys instead."""

    def __init__(self, inner: RecordingOutput) -> None:
        super().__init__(draws=False)
        self._inner = inner

    def keys(self) -> List[Event]:
        self._inner.shown += 1
        return self._inner.keys()

    def say(self, line: str) -> None:
        self._inner.say(line)


def test_a_screenshot_is_saved_beside_the_loop(recognizer, settings, walk_up, tmp_path):
    output = RecordingOutput({10: [Event("key", "s")]})
    with Gallery.open(settings, recognizer.model, recognizer.dimension, recognizer.threshold) as gallery:
        kiosk = Kiosk(FrameList(walk_up[:20]), output, Sight(recognizer, gallery, settings, Stats()), settings, Stats())
        kiosk.screenshots = tmp_path / "shots"
        kiosk.run()
    saved = list((tmp_path / "shots").iterdir())
    assert len(saved) == 1
    assert cv2.imread(str(saved[0])).shape == walk_up[0].shape


def test_a_person_enrolled_by_another_process_is_named_without_a_restart(recognizer, settings, walk_up):
    """Half of the run passes before the other process writes; the loop looks twice a second."""
    portraits = dataclasses.replace(settings.gallery, photos=str(ROOT / "demo" / "portraits"))

    class EnrollingOutput(RecordingOutput):
        def show(self, picture: np.ndarray) -> None:
            super().show(picture)
            if self.shown == 30:
                elsewhere = dataclasses.replace(settings, gallery=portraits)
                with Gallery.open(elsewhere, recognizer.model, recognizer.dimension, recognizer.threshold) as other:
                    PhotoEnroller(other, recognizer, elsewhere).run()

    output = EnrollingOutput(keep=1)
    with Gallery.open(settings, recognizer.model, recognizer.dimension, recognizer.threshold) as gallery:
        stats = Stats()
        kiosk = Kiosk(FrameList(walk_up * 2), output, Sight(recognizer, gallery, settings, stats), settings, stats)
        kiosk.run()
    assert stats.as_dict()["people"]["Eileen Collins"]["frames"] > 30
