"""Tracks and votes on made faces: who may have a name, and when it must go."""
from typing import List, Optional, Sequence, Tuple

import numpy as np

from app.track import LOSE_IN_A_ROW, Track, Tracker
from engines.detect.detector import Faces
from engines.quality import Quality
from gallery.match import Match
from settings import Tracking

THRESHOLD, MARGIN, STRONG = 0.35, 0.05, 0.7
RATE = 25.0
ANNA, BERT, STRANGER = (np.eye(8, dtype=np.float32)[row] for row in range(3))
GOOD = Quality(0.8, None)

Face = Tuple[Sequence[float], np.ndarray]  # box, embedding (its look is made from it)


def look_of(embedding: np.ndarray) -> np.ndarray:
    """A look that is its own for each face: two people's do not correlate."""
    return embedding


def match_of(embedding: np.ndarray) -> Match:
    """A gallery with Anna and Bert."""
    both = sorted([(float(embedding @ ANNA), "Anna"), (float(embedding @ BERT), "Bert")], reverse=True)
    return Match(both[0][1], both[0][0], both[1][1], both[0][0] - both[1][0])


class Door:
    """Feeds a tracker frame by frame, as Sight does, with faces that are told."""

    def __init__(self, still: bool = False) -> None:
        self.tracker = Tracker(Tracking(), THRESHOLD, MARGIN, STRONG, still)
        self.frame = 0
        self.embedded = 0

    @property
    def time(self) -> float:
        return self.frame / RATE

    def see(self, *faces: Face, cut: bool = False, score: float = 0.99, quality: Quality = GOOD) -> List[Track]:
        boxes = np.array([face[0] for face in faces], np.float32).reshape(-1, 4)
        found = Faces(boxes, np.full(len(faces), score, np.float32), np.zeros((len(faces), 5, 2), np.float32))
        looks = np.array([look_of(face[1]) for face in faces], np.float32).reshape(len(faces), 8)
        tracks = self.tracker.update(self.time, cut, found, looks)
        for track in self.tracker.wanting(self.time):
            track.quality = quality
            embedding = faces[track.row or 0][1]
            if quality.reason is None or track.identity.name is not None:
                self.embedded += 1
                self.tracker.vote(track, self.time, embedding, match_of(embedding))
        self.frame += 1
        return tracks

    def names(self, *faces: Face, cut: bool = False) -> List[Optional[str]]:
        return [track.name for track in self.see(*faces, cut=cut)]


def box(x: float, size: float = 100.0) -> List[float]:
    return [x, 100.0, x + size, 100.0 + size]


def near(person: np.ndarray, similarity: float) -> np.ndarray:
    """A face that is as similar to `person` as told, and to nobody else."""
    other = np.eye(8, dtype=np.float32)[7]
    return (similarity * person + np.sqrt(1 - similarity**2) * other).astype(np.float32)


def test_nobody_is_nobody():
    door = Door()
    assert door.see() == []
    assert door.tracker.tracks == []


def test_a_known_face_has_its_name_within_a_third_of_a_second():
    door = Door()
    names = [door.names((box(100), ANNA))[0] for _ in range(9)]
    assert names[0] is None, "one frame is not enough evidence"
    assert names[int(0.35 * RATE)] == "Anna"


def test_a_stranger_stays_unknown_and_is_looked_at_less_and_less():
    door = Door()
    for _ in range(250):
        assert door.names((box(100), STRANGER)) == [None]
    assert 20 <= door.embedded <= 45  # 10 s: five quick looks, then one each 0.3 s


def test_a_certain_name_is_embedded_every_half_second():
    door = Door()
    for _ in range(250):
        door.see((box(100), ANNA))
    assert 20 <= door.embedded <= 24


def test_a_lucky_hit_does_not_name_a_stranger():
    door = Door()
    for step in range(100):
        face = near(ANNA, 0.5) if step == 30 else STRANGER
        assert door.names((box(100), face)) == [None]


def test_a_similarity_without_a_lead_is_no_name():
    both = ((ANNA + BERT) / np.sqrt(2)).astype(np.float32)
    door = Door()
    assert {door.names((box(100), both))[0] for _ in range(50)} == {None}


def test_a_face_too_poor_to_vote_never_gets_a_name():
    door = Door()
    door.see((box(100), ANNA))
    for _ in range(50):
        tracks = door.see((box(100), ANNA), quality=Quality(0.2, "too_dark"))
        assert [(track.name, track.reason) for track in tracks] == [(None, "too_dark")]


def test_a_stranger_in_the_place_of_a_known_person_never_has_the_name():
    """Same box from one frame to the next, and no cut that anyone noticed."""
    door = Door()
    for _ in range(20):
        door.see((box(100), ANNA))
    for _ in range(100):
        assert door.names((box(100), STRANGER)) == [None]


def test_another_resident_in_the_place_gets_his_own_name():
    door = Door()
    for _ in range(20):
        door.see((box(100), ANNA))
    names = [door.names((box(100), BERT))[0] for _ in range(15)]
    assert "Anna" not in names
    assert names[int(0.35 * RATE)] == "Bert"


def test_at_a_cut_all_tracks_end():
    door = Door()
    for _ in range(20):
        door.see((box(100), ANNA))
    before = door.tracker.tracks[0].id
    tracks = door.see((box(105), ANNA), cut=True)
    assert [track.name for track in tracks] == [None]
    assert tracks[0].id != before
    assert [track.id for track in door.tracker.ended] == [before]


def test_people_who_cross_keep_their_own_names():
    door = Door()
    swapped = []
    for step in range(80):
        left, right = (box(100 + 8 * step), ANNA), (box(740 - 8 * step), STRANGER)
        hidden = abs((100 + 8 * step) - (740 - 8 * step)) < 60
        faces = (left,) if hidden else (left, right)  # the one behind is not found while they overlap
        tracks = door.see(*faces)
        swapped += [track for track in tracks if track.name and faces[track.row or 0][1] is not ANNA]
    assert swapped == []
    assert any(track.name == "Anna" for track in door.tracker.tracks)


def test_a_stranger_following_closely_has_no_name():
    door = Door()
    for step in range(60):
        anna, stranger = (box(100 + 6 * step), ANNA), (box(40 + 6 * step), STRANGER)
        faces = (anna, stranger) if step < 40 else (stranger,)
        for track in door.see(*faces):
            assert track.name is None or faces[track.row or 0][1] is ANNA


def test_the_name_goes_when_the_evidence_goes():
    """The face changes slowly into one that nobody knows: no jump, but no support either."""
    door = Door()
    for _ in range(20):
        door.see((box(100), ANNA))
    names = [door.names((box(100), near(ANNA, max(0.2, 1.0 - 0.01 * step))))[0] for step in range(400)]
    assert names[0] == "Anna"
    assert names[-1] is None
    assert LOSE_IN_A_ROW > 2, "a blink is no reason to lose a name"


def test_a_weak_face_goes_on_with_a_track_but_begins_none():
    door = Door()
    assert door.see((box(100), ANNA), score=0.5) == []
    for _ in range(10):
        door.see((box(100), ANNA))
    tracks = door.see((box(100), ANNA), score=0.5)
    assert [track.name for track in tracks] == ["Anna"]


def test_a_missed_face_coasts_briefly_unless_somebody_stands_there():
    door = Door()
    for _ in range(10):
        door.see((box(100), ANNA))
    door.see()
    assert [track.name for track in door.tracker.coasting(door.time - 1 / RATE)] == ["Anna"]
    for _ in range(4):
        door.see()
    assert door.tracker.coasting(door.time - 1 / RATE) == []


def test_a_short_gap_is_bridged_and_a_long_one_is_not():
    door = Door()
    for _ in range(10):
        door.see((box(100), ANNA))
    first = door.tracker.tracks[0].id
    for _ in range(5):
        door.see()
    assert door.see((box(100), ANNA))[0].id == first
    for _ in range(int(Tracking().max_gap * RATE) + 2):
        door.see()
    assert door.see((box(100), ANNA))[0].id != first


def test_a_fast_walker_is_followed_by_his_speed():
    door = Door()
    identities = set()
    for step in range(20):
        speed = 10 * min(step, 6)  # pixels a frame: up to 60, where boxes of 100 px overlap by IoU 0.25
        start = sum(10 * min(one, 6) for one in range(step))
        identities.update(track.id for track in door.see((box(start + speed), ANNA)))
    assert len(identities) == 1


def test_pictures_that_have_nothing_to_do_with_each_other_are_named_at_one_look():
    door = Door(still=True)
    assert door.names((box(100), ANNA), cut=True) == ["Anna"]
    assert door.names((box(100), STRANGER), cut=True) == [None]


def test_a_crowd_is_embedded_a_few_at_a_time_and_nobody_is_forgotten():
    door = Door()
    crowd = [(box(120 * place), ANNA if place == 11 else STRANGER) for place in range(12)]
    most = 0
    for _ in range(25):
        before = door.embedded
        door.see(*crowd)
        most = max(most, door.embedded - before)
    assert most == 6
    assert [track.name for track in door.tracker.tracks if track.name] == ["Anna"]


def test_the_same_frames_give_the_same_tracks():
    def story() -> List:
        door, told = Door(), []
        random = np.random.RandomState(5)
        for step in range(120):
            faces = [(box(100 + step + random.rand()), ANNA), (box(500 - 2 * step), BERT)][: random.randint(0, 3)]
            told.append([(track.id, track.name) for track in door.see(*faces, cut=step == 60)])
        return told

    assert story() == story()


def test_who_was_deleted_is_named_no_more_and_the_others_keep_their_names():
    door = Door()
    for _ in range(10):
        door.see((box(100), ANNA), (box(500), BERT))
    door.tracker.people_changed(["Bert"])
    assert [track.name for track in door.tracker.tracks] == [None, "Bert"]
