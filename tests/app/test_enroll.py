"""The talk of an enrolment: name and keys, the timeout, warnings, the panel."""
import numpy as np
import pytest

from app.enroll import HESITATION_S, NO_FACE
from app.show.output import Event
from engines.quality import REASONS
from tests.app.enrolment import DIMENSIONS, THRESHOLD, Session, look, matched, picture

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
