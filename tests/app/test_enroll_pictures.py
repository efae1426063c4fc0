"""Which pictures an enrolment keeps: of made people, and of real faces."""
import cv2
import numpy as np
import pytest

from app.enroll import ALIKE, NO_FACE, STRANGER, Enrollment, Sample
from app.show.advice import TEXTS
from app.show.output import Event
from engines.quality import REASONS
from engines.recognizer import Recognizer
from settings import Enroll, load
from tests import ROOT, shared
from tests.app.enrolment import Session, look, picture, unit

# -- which pictures are kept ---------------------------------------------------------------------


@pytest.mark.parametrize("reason", REASONS)
def test_a_picture_of_poor_quality_is_refused_and_the_panel_says_why(reason):
    session = Session()
    assert TEXTS[reason] in session.show(picture(reason=reason))
    assert session.count == 0
    session.show(picture())
    assert session.count == 1


def test_an_unheard_of_reason_is_shown_as_it_is():
    assert "covered by hand" in Session().show(picture(reason="covered_by_hand"))


def test_a_small_face_is_asked_to_come_closer():
    session = Session()
    assert "come closer" in session.show(picture(), size=59.9) and session.count == 0
    session.show(picture(), size=60.0)
    assert session.count == 1


def test_a_face_that_is_gone_is_said():
    session = Session().show_many(1)
    assert NO_FACE in session.show(None) and session.count == 1


def test_pictures_that_are_too_alike_are_refused():
    session = Session().show_many(1)
    assert ALIKE in session.show(picture(0, 0)) and session.count == 1
    near = picture(0, 0)._replace(embedding=_at_cosine(look(0, 0), 0.981))
    far = picture(0, 0)._replace(embedding=_at_cosine(look(0, 0), 0.979))
    assert ALIKE in session.show(near) and session.count == 1
    assert ALIKE not in session.show(far) and session.count == 2


def test_alike_to_any_kept_picture_is_too_alike():
    session = Session().show_many(3)
    for number in range(3):
        assert ALIKE in session.show(picture(0, number))
    assert session.count == 3


def _at_cosine(vector, cosine):
    aside = unit(5) - (unit(5) @ vector) * vector
    return (cosine * vector + np.sqrt(1 - cosine**2) * aside / np.linalg.norm(aside)).astype(np.float32)


def test_a_photo_never_completes_and_says_why():
    session = Session(timeout=3).type("Anna").key("enter")
    for _ in range(100):
        session.show(picture())
    assert session.state == "collecting" and session.count == 1
    assert "all pictures are alike: turn a little" in session.text


def test_nobody_else_gets_into_the_set():
    session = Session().show_many(3)
    for number in range(4):
        assert STRANGER in session.show(picture(1, number))
    assert session.count == 3
    session.show_many(2, start=3)
    assert session.state == "ready"
    means = np.stack([unit(1000), unit(1001)])
    kept = session.type("Anna").key("enter").enrollment.result.embeddings
    assert (kept @ means.T).argmax(axis=1).tolist() == [0] * 5


def test_a_first_picture_that_all_others_disagree_with_starts_the_set_again_without_the_enter():
    session = Session().show_many(1).type("Anna").key("enter")
    session.show_many(5, person=1)
    assert session.count == 0 and "starting again" in session.text
    session.show_many(5, person=1, start=10)
    assert session.state == "ready"  # not stored: that Enter was for another face


def test_two_pictures_that_agree_are_never_given_up():
    session = Session(timeout=1000).show_many(2).show_many(50, person=1)
    assert session.count == 2 and STRANGER in session.text
    assert session.show_many(3, start=2).type("Anna").key("enter").state == "done"


def test_passers_by_do_not_start_it_again():
    session = Session().show_many(1)
    for person in range(1, 9):
        assert STRANGER in session.show(picture(person))
    assert session.count == 1


def test_strangers_with_pauses_between_do_not_add_up():
    session = Session().show_many(1)
    for number in range(8):
        session.show(picture(1, number))
        session.show(picture(0, 0))  # the person himself, nothing new
    assert session.count == 1


# -- real faces ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def recognizer():
    with Recognizer.from_settings(load(ROOT / "config.yaml")) as recognizer:
        yield recognizer


def looks_at(recognizer, image):
    """The largest face of a picture as the loop offers it: sample, size."""
    faces = recognizer.detect(image)
    size = (faces.boxes[:, 2:] - faces.boxes[:, :2]).min(axis=1)
    one = faces.take(np.array([size.argmax()]))
    chips = recognizer.chips(image, one.landmarks)
    quality = recognizer.quality(image, one, chips)[0]
    sample = Sample(recognizer.embed_chips(chips)[0], chips[0], quality.score, quality.reason)
    return sample, float(size.max())


def clip_pictures(path, step_s):
    clip = cv2.VideoCapture(str(path))
    rate, index = clip.get(cv2.CAP_PROP_FPS), 0
    while True:
        found, image = clip.read()
        if not found:
            return
        if index % max(round(rate * step_s), 1) == 0:
            yield index / rate, image
        index += 1


def test_somebody_who_moves_is_enrolled_within_seconds_and_a_stranger_kept_out(recognizer):
    stranger, size = looks_at(recognizer, cv2.imread(str(shared("video/friends_gallery/ross.jpg"))))
    enrollment = Enrollment(Enroll(), recognizer.threshold, 1, 0.0)
    for time, image in clip_pictures(shared("video/single.mp4"), 0.1):
        sample, face_size = looks_at(recognizer, image)
        enrollment.offer(time, sample, None, face_size)
        if enrollment.state == "ready":
            break
        enrollment.offer(time, stranger, None, size)
        assert STRANGER in enrollment.panel().lines[0]
    assert enrollment.state == "ready" and time < 5.0
    enrollment.event(Event("text", "Anna"))
    enrollment.event(Event("key", "enter"))
    alike = enrollment.result.embeddings @ enrollment.result.embeddings.T
    others = alike[~np.eye(len(alike), dtype=bool)]
    assert others.max() <= Enroll().max_similarity and others.min() >= recognizer.threshold
    assert (enrollment.result.embeddings @ stranger.embedding).max() < recognizer.threshold


def test_a_photo_held_still_is_never_enrolled(recognizer):
    image = cv2.imread(str(shared("video/friends_gallery/rachel.jpg")))
    enrollment = Enrollment(Enroll(timeout=5), recognizer.threshold, 1, 0.0)
    random = np.random.RandomState(0)
    for step in range(15):
        noise = random.randint(-4, 5, image.shape)  # of a camera
        looked = looks_at(recognizer, np.clip(image + noise, 0, 255).astype(np.uint8))
        enrollment.offer(0.5 * step, looked[0], None, looked[1])
    assert enrollment.state == "collecting" and "all pictures are alike" in enrollment.panel().lines[0]
