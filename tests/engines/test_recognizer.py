"""The Recognizer on a bundled portrait: what scripts that measure rely on."""
import cv2
import numpy as np
import pytest

from engines.recognizer import Recognizer
from errors import UsageError
from settings import load
from tests import ROOT, shared


@pytest.fixture(scope="module")
def recognizer():
    with Recognizer.from_settings(load(ROOT / "config.yaml")) as opened:
        yield opened


@pytest.fixture(scope="module")
def portraits():
    return [cv2.imread(str(path)) for path in sorted((ROOT / "demo" / "portraits").glob("*.jpg"))]


def test_detect_and_embed_at_once_and_one_after_the_other_agree(recognizer, portraits):
    faces, embeddings = recognizer(portraits[0])
    assert faces.count == 1
    assert faces.boxes.shape == (1, 4) and faces.landmarks.shape == (1, 5, 2)
    assert embeddings.shape == (1, recognizer.dimension)
    assert np.isclose(np.linalg.norm(embeddings[0]), 1, atol=1e-3)
    again = recognizer.detect(portraits[0])
    assert np.array_equal(again.boxes, faces.boxes)
    assert np.allclose(recognizer.embed(portraits[0], again.landmarks), embeddings, atol=1e-6)


def test_two_people_are_less_alike_than_one_in_another_light(recognizer, portraits):
    first, second = (recognizer(image)[1][0] for image in portraits)
    darker = recognizer(np.clip(portraits[0] * 0.6, 0, 255).astype(np.uint8))[1][0]
    assert float(first @ darker) > 0.8
    assert float(first @ second) < recognizer.threshold


def test_an_empty_wall_has_no_faces_and_no_embeddings(recognizer):
    faces, embeddings = recognizer(np.full((480, 640, 3), 120, np.uint8))
    assert faces.count == 0
    assert embeddings.shape == (0, recognizer.dimension)


@pytest.mark.parametrize("shape, kind", [((48, 64), np.uint8), ((48, 64, 4), np.uint8), ((48, 64, 3), np.float32)])
def test_a_wrong_array_is_refused_with_its_shape(recognizer, shape, kind):
    with pytest.raises(UsageError, match=r"must be \(height, width, 3\) uint8 in BGR"):
        recognizer.detect(np.zeros(shape, kind))


def test_the_threshold_is_the_models_unless_it_is_set():
    with Recognizer.from_settings(load(ROOT / "config.yaml", ["recognition.threshold=0.42"])) as strict:
        assert strict.threshold == 0.42


def test_a_followed_face_is_where_a_search_finds_it(recognizer, portraits):
    faces = recognizer.detect(portraits[0])
    size = float(faces.boxes[0, 2] - faces.boxes[0, 0])
    for shift in (0.0, 0.1, -0.2):
        moved = recognizer.follow(portraits[0], faces.boxes + np.float32(shift * size))
        assert moved.count == 1
        assert np.abs(moved.boxes - faces.boxes).max() < 0.15 * size, shift
        assert np.abs(moved.landmarks - faces.landmarks).max() < 0.1 * size, shift


def test_where_no_face_is_none_is_followed(recognizer, portraits):
    assert recognizer.follow(portraits[0], np.float32([[0, 0, 40, 40]])).count == 0
    assert recognizer.follow(portraits[0], np.zeros((0, 4), np.float32)).count == 0


def test_a_search_beside_followed_faces_finds_the_others_and_keeps_these(recognizer):
    image = cv2.imread(str(shared("photos/group/meeting5_1280x853.jpg")))
    everybody = recognizer.detect(image)
    known = everybody.take(np.arange(2))
    both = recognizer.search(image, known)
    strong = both.take(both.scores >= recognizer.strong)
    assert strong.count == everybody.count == 5
    for box in everybody.boxes:
        assert np.abs(strong.boxes - box).max(axis=1).min() < 0.2 * (box[2] - box[0])
