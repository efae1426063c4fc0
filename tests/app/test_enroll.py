import cv2
import numpy as np
import pytest

from app.enroll import ALIKE, HESITATION_S, NO_FACE, STRANGER, Enrollment, Sample
from app.show.advice import TEXTS
from app.show.output import Event
from engines.quality import REASONS
from engines.recognizer import Recognizer
from gallery.match import Match
from settings import Enroll, load
from tests import ROOT, shared

THRESHOLD = 0.4
DIMENSIONS = 128


def unit(seed):
    vector = np.random.RandomState(seed).standard_normal(DIMENSIONS)
    return vector / np.linalg.norm(vector)


def look(person, number, likeness=0.9):
    """Embedding `number` of a person: at cosine `likeness` to his mean, so about likeness ** 2 to each other."""
    mean = unit(1000 + person)
    aside = unit(7919 * person + number)
    aside -= (aside @ mean) * mean
    aside /= np.linalg.norm(aside)
    return (likeness * mean + np.sqrt(1 - likeness**2) * aside).astype(np.float32)


def picture(person=0, number=0, reason=None, quality=0.8, likeness=0.9):
    chip = np.full((112, 112, 3), number % 256, np.uint8)
    return Sample(look(person, number, likeness), chip, quality, reason)


def matched(person, similarity):
    return Match(person, similarity, None, similarity)


class Session:
    """An enrolment and its clock: one look every 0.1 s."""

    def __init__(self, known=None, **settings):
        self.time = 0.0
        self.enrollment = Enrollment(Enroll(**settings), THRESHOLD, 7, 0.0, known)

    def show(self, sample, match=None, size=120.0):
        self.time += 0.1
        self.enrollment.offer(self.time, sample, match, size)
        return self.text

    def show_many(self, count, person=0, start=0, match=None):
        for number in range(start, start + count):
            self.show(picture(person, number), match)
        return self

    def wait(self, seconds):
        for _ in range(round(seconds / 0.1)):
            self.show(None)
        return self

    def type(self, text):
        self.enrollment.event(Event("text", text))
        return self

    def key(self, name):
        self.enrollment.event(Event("key", name))
        return self

    @property
    def text(self):
        return "\n".join(self.enrollment.panel().lines)

    @property
    def state(self):
        return self.enrollment.state

    @property
    def count(self):
        return len(self.enrollment.panel().chips)


# -- the plain way -------------------------------------------------------------------------------


def test_type_while_it_collects_then_enter_stores():
    session = Session()
    session.show_many(2).type("Zo").show_many(2, start=2).type("ë").show_many(1, start=4)
    assert session.state == "ready" and session.enrollment.result is None
    session.key("enter")
    name, embeddings, qualities, chips = session.enrollment.result
    assert session.state == "done" and not session.enrollment.active
    assert name == "Zoë"
    assert embeddings.shape == (5, DIMENSIONS) and embeddings.dtype == np.float32
    np.testing.assert_array_equal(embeddings, np.stack([look(0, number) for number in range(5)]))
    assert qualities.tolist() == pytest.approx([0.8] * 5) and qualities.dtype == np.float32
    assert [int(chip[0, 0, 0]) for chip in chips] == [0, 1, 2, 3, 4]


def test_enter_before_it_is_complete_stores_by_itself():
    session = Session().show_many(3).type("Anna").key("enter")
    assert session.state == "collecting" and "storing when ready" in session.text
    session.show_many(2, start=3)
    assert session.state == "done" and session.enrollment.result.name == "Anna"


def test_enter_without_a_name_asks_for_it():
    for session in (Session(), Session().show_many(5)):
        assert "type the name" in session.text
        session.key("enter")
        assert "type a name first" in session.text and session.enrollment.active
        session.type("  ./ ").key("enter")  # nothing of which is a name
        assert "type a name first" in session.text and session.enrollment.active
        assert "type a name first" not in session.type("A").text


def test_a_changed_name_takes_the_enter_back():
    session = Session().show_many(3).type("An").key("enter").type("na").show_many(2, start=3)
    assert session.state == "ready"
    assert session.key("enter").enrollment.result.name == "Anna"


@pytest.mark.parametrize("steps", ["", "show", "enter", "show enter"])
def test_escape_cancels_at_any_time(steps):
    session = Session()
    if "show" in steps:
        session.show_many(3)
    if "enter" in steps:
        session.type("A").key("enter")
    session.key("escape")
    assert session.state == "cancelled" and not session.enrollment.active
    session.show_many(5).type("Anna").key("enter")
    assert session.state == "cancelled" and session.enrollment.result is None


def test_nothing_changes_once_it_is_done():
    session = Session().show_many(5).type("Anna").key("enter")
    session.type("Bob").key("escape").show_many(3, start=9)
    assert session.state == "done" and session.enrollment.result.name == "Anna" and session.count == 5


def test_other_keys_are_ignored():
    session = Session().show_many(2).type("A")
    for event in (Event("key", "q"), Event("key", "up"), Event("click", point=(1.0, 2.0)), Event("close")):
        session.enrollment.event(event)
    assert session.enrollment.panel().field == "A" and session.state == "collecting"


def test_backspace_takes_a_letter_with_its_marks():
    session = Session().type("Zox\u0323\u0302").key("backspace")
    assert session.enrollment.panel().field == "Zo"
    session.key("backspace").key("backspace").key("backspace")
    assert session.enrollment.panel().field == ""


def test_name_is_cleaned_and_its_length_told():
    session = Session().show_many(5).type(" Anna\x00/ Maria ")
    assert session.key("enter").enrollment.result.name == "Anna Maria"
    session = Session().type("x" * 70)
    assert session.enrollment.panel().field == "x" * 64 and "64 characters" in session.text


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


# -- the timeout ---------------------------------------------------------------------------------


def test_after_the_timeout_two_pictures_are_enough():
    session = Session(timeout=5).show_many(2).wait(4.7)
    assert session.state == "collecting"
    session.wait(0.2)
    assert session.state == "ready" and "2 of 5 pictures: enough" in session.text
    assert len(session.type("Anna").key("enter").enrollment.result.embeddings) == 2


def test_after_the_timeout_one_picture_is_not_enough():
    session = Session(timeout=5).show_many(1).wait(10)
    assert session.state == "collecting" and NO_FACE in session.text
    session.show(picture(0, 1))
    assert session.state == "ready"


def test_an_offered_set_goes_on_growing_until_enter():
    session = Session(timeout=5).show_many(2).wait(5)
    session.show_many(2, start=2)
    assert session.count == 4 and session.state == "ready"
    session.show_many(3, start=4)
    assert session.count == 5


def test_waiting_enter_stores_at_the_timeout():
    session = Session(timeout=5).show_many(2).type("Anna").key("enter").wait(5)
    assert session.state == "done" and len(session.enrollment.result.embeddings) == 2


@pytest.mark.parametrize("samples", [1, 2, 12])
def test_number_of_samples_is_a_setting(samples):
    session = Session(samples=samples).show_many(samples - 1)
    assert session.state == "collecting"
    session.show_many(1, start=samples - 1)
    assert session.state == "ready" and session.count == samples


# -- somebody who is known already ---------------------------------------------------------------


def test_a_known_face_under_a_new_name_is_asked_about():
    session = Session(lambda name, embeddings: None).show_many(5, match=matched("Anna", 0.71)).type("Eve").key("enter")
    assert session.state == "confirm" and session.enrollment.result is None
    assert "this looks like Anna (0.71)" in session.text and "as a new person" in session.text
    session.key("enter")
    assert session.state == "done" and session.enrollment.result.name == "Eve"


def test_a_warning_can_be_cancelled_or_answered_with_another_name():
    session = Session().show_many(5, match=matched("Anna", 0.71)).type("Eve").key("enter").key("escape")
    assert session.state == "cancelled" and session.enrollment.result is None
    session = Session().show_many(5, match=matched("Anna", 0.71)).type("Eve").key("enter")
    for _ in "Eve":
        session.key("backspace")
    assert session.state == "ready" and "looks like" not in session.text
    assert session.type("Anna").key("enter").state == "done"


def test_more_pictures_of_the_same_person_need_no_question():
    session = Session(lambda name, embeddings: 0.7).show_many(5, match=matched("Zoë", 0.71))
    session.type("Zoe\u0308").key("enter")
    assert session.state == "done" and session.enrollment.result.name == "Zoë"


def test_a_taken_name_on_an_unlike_face_is_asked_about():
    asked = []

    def known(name, embeddings):
        asked.append((name, embeddings.shape))
        return 0.12

    session = Session(known).show_many(5, match=matched("Bob", 0.2)).type("Anna").key("enter")
    assert asked == [("Anna", (5, DIMENSIONS))]
    assert session.state == "confirm"
    assert "there is already a person named Anna, who looks different (0.12)" in session.text
    assert session.key("enter").state == "done"


def test_a_taken_name_on_a_face_like_it_is_an_addition():
    assert Session(lambda name, embeddings: 0.45).show_many(5).type("Anna").key("enter").state == "done"


def test_both_warnings_at_once():
    session = Session(lambda name, embeddings: 0.1).show_many(5, match=matched("Anna", 0.66)).type("Bob").key("enter")
    assert "looks like Anna (0.66)" in session.text and "named Bob" in session.text
    assert "as a new person" not in session.text


@pytest.mark.parametrize(
    "matches, asks",
    [
        ([None] * 5, False),
        ([matched(None, 0.0)] * 5, False),
        ([matched("Anna", THRESHOLD - 0.01)] * 5, False),
        ([matched("Anna", 0.6)] * 2 + [matched("Bob", 0.1)] * 3, False),  # a fluke in the minority
        ([matched("Anna", 0.6)] * 3 + [matched("Bob", 0.1)] * 2, True),
        ([matched("Anna", 0.6), matched("Bob", 0.9)] * 2 + [matched("Anna", 0.6)], True),
    ],
)
def test_known_means_in_at_least_half_of_the_pictures(matches, asks):
    session = Session()
    for number, match in enumerate(matches):
        session.show(picture(0, number), match)
    session.type("Eve").key("enter")
    assert (session.state == "confirm") == asks
    assert ("looks like Anna" in session.text) == asks


def test_an_impatient_enter_does_not_answer_a_warning_that_just_came_up():
    session = Session().show_many(4, match=matched("Anna", 0.71)).type("Eve").key("enter")
    session.show(picture(0, 4), matched("Anna", 0.71))
    assert session.state == "confirm"
    assert session.key("enter").state == "confirm"
    session.wait(HESITATION_S + 0.1)
    assert session.key("enter").state == "done"


# -- the panel -----------------------------------------------------------------------------------


def test_panel_shows_progress_name_and_pictures():
    session = Session().show_many(2).type("Zoë")
    panel = session.enrollment.panel()
    assert panel.title and panel.field == "Zoë" and panel.progress == pytest.approx(0.4) and len(panel.chips) == 2
    assert "2 of 5 pictures" in session.text
    session.show_many(3, start=2)
    assert session.enrollment.panel().progress == 1.0


def test_same_looks_same_panels():
    def play():
        session, texts = Session(timeout=4), []
        random = np.random.RandomState(11)
        for _ in range(80):
            person, reason = int(random.rand() < 0.2), REASONS[0] if random.rand() < 0.2 else None
            texts.append(session.show(picture(person, int(random.randint(6)), reason)))
        return texts

    assert play() == play()


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
