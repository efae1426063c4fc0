"""What is wrong with a face, on a real one that is spoilt in one way at a time."""
import cv2
import numpy as np
import pytest

from engines.detect.detector import Faces
from engines.embed import ARCFACE_112, similarity_transforms
from engines.quality import REASONS, assess, turn
from settings import Quality
from tests import ROOT

LIMITS = Quality()


@pytest.fixture(scope="module")
def portrait():
    """A bundled portrait, and where its face is (five points by eye are enough here)."""
    from engines.recognizer import Recognizer
    from settings import load

    image = cv2.imread(str(ROOT / "demo" / "portraits" / "Eileen Collins.jpg"))
    with Recognizer.from_settings(load(ROOT / "config.yaml")) as recognizer:
        return image, recognizer.detect(image)


def judge(image, faces, limits=LIMITS):
    matrices = similarity_transforms(faces.landmarks, ARCFACE_112)
    chips = np.stack([cv2.warpAffine(image, matrix, (112, 112)) for matrix in matrices])
    return assess(image, faces, chips, limits)[0]


def scaled(faces, factor):
    return Faces(faces.boxes * np.float32(factor), faces.scores, faces.landmarks * np.float32(factor))


def test_a_good_portrait_has_no_fault(portrait):
    quality = judge(*portrait)
    assert quality.reason is None
    assert 0.4 < quality.score <= 1


def test_each_fault_has_its_reason_and_lowers_the_score(portrait):
    image, faces = portrait
    good = judge(image, faces).score
    small = 25 / float(faces.boxes[0, 2] - faces.boxes[0, 0])
    far = cv2.resize(image, None, fx=small, fy=small, interpolation=cv2.INTER_AREA)
    spoilt = {
        "too_dark": judge((image * 0.15).astype(np.uint8), faces),
        "too_bright": judge(np.clip(image.astype(int) + 170, 0, 255).astype(np.uint8), faces),
        "blurred": judge(cv2.GaussianBlur(image, (0, 0), 12), faces),
        "too_small": judge(far, scaled(faces, small)),
    }
    assert {reason: quality.reason for reason, quality in spoilt.items()} == {reason: reason for reason in spoilt}
    assert all(quality.score < good for quality in spoilt.values())
    assert set(spoilt) < set(REASONS)


def test_a_face_at_the_edge_is_cut_off(portrait):
    image, faces = portrait
    left = int(faces.boxes[0, 0] + 0.5 * (faces.boxes[0, 2] - faces.boxes[0, 0]))
    moved = Faces(faces.boxes - np.float32([left, 0, left, 0]), faces.scores, faces.landmarks - np.float32([left, 0]))
    assert judge(image[:, left:].copy(), moved).reason == "cut_off"


def test_profile_is_measured_along_the_line_of_the_eyes():
    front, tilt = ARCFACE_112, np.array([[0.8, -0.6], [0.6, 0.8]], np.float32)
    profile = front.copy()
    profile[2, 0] += 35.0  # one eye distance
    faces = np.stack([front, front @ tilt, profile, profile @ tilt])
    assert np.allclose(turn(faces), [0.003, 0.003, 0.99, 0.99], atol=0.02)


def test_a_face_turned_away_is_said_so(portrait):
    image, faces = portrait
    landmarks = faces.landmarks.copy()
    landmarks[0, 2] += 0.9 * (landmarks[0, 1] - landmarks[0, 0])
    assert judge(image, Faces(faces.boxes, faces.scores, landmarks)).reason == "turned_away"


def test_no_face_no_answer():
    chips = np.zeros((0, 112, 112, 3), np.uint8)
    assert assess(np.zeros((9, 9, 3), np.uint8), Faces.none(), chips, LIMITS) == []
