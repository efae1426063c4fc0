"""An enrolment to talk to, with made people in front of it."""
import numpy as np

from app.enroll import Enrollment, Sample
from app.show.output import Event
from gallery.match import Match
from settings import Enroll

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
