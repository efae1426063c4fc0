"""MTCNN against the plain reference on real photos, cell by cell against separate runs, and its edges."""

import csv

import cv2
import numpy as np
import pytest

from engines.backends.choose import open_network
from engines.build import ensure
from engines.detect.boxes import overlaps
from engines.detect.mtcnn import Mtcnn, located
from engines.sampling import cpu
from engines.sampling.layout import layout, map_size
from errors import UsageError
from settings import Settings
from tests import SHARED, shared
from tests.engines import reference_mtcnn

MARGIN = 0.02  # a score this near its threshold may fall on either side
UNCAPPED = 10**6
CROWD = "crowd_selfie_2048x1150"
PHOTOS = [
    "bbt_awards6",
    "bbt_redcarpet5",
    "bbt_sofa",
    "bench9",
    "family6_600x462",
    "friends_stairs_1200x630",
    "friends_table_1280x886",
    "geology14",
    "meeting5_1280x853",
    "meeting5_800x533",
    "nurses4",
    "office_desk12",
    "office_team10",
    "office_warehouse16",
    "pedestrians_1920x1080",
    "redcarpet_small",
    "students19",
    "table8_800x533",
]


@pytest.fixture(scope="module")
def networks():
    files = ensure("mtcnn", models_dir=SHARED / "models" / "mtcnn" if SHARED.exists() else None)
    opened = [open_network(files[role], Settings(backend="onnx"), rewrite=True) for role in ("pnet", "rnet", "onet")]
    yield opened
    for network in opened:
        network.close()


def photo(name):
    return cv2.imread(str(shared("photos/group/" + name)))


def assert_same_faces(faces, boxes, scores):
    """Every face of the one is in the other with IoU >= 0.95, but for those within MARGIN of 0.7."""
    overlap = overlaps(faces.boxes, boxes, inclusive=True).reshape(faces.count, len(boxes))
    for row in np.flatnonzero(faces.scores > 0.7 + MARGIN):
        assert overlap[row].max(initial=0) >= 0.95, "added {} {}".format(faces.boxes[row], faces.scores[row])
    for row in np.flatnonzero(scores > 0.7 + MARGIN):
        assert overlap[:, row].max(initial=0) >= 0.95, "missed {} {}".format(boxes[row], scores[row])


@pytest.mark.parametrize("name", PHOTOS + [CROWD])
def test_the_faces_are_the_reference_s(networks, name):
    assert_agree(networks, photo(name + ".jpg"), live=False)


@pytest.mark.parametrize("name", PHOTOS)
def test_the_faces_of_a_live_picture_are_the_reference_s_with_its_shrinking(networks, name):
    assert_agree(networks, photo(name + ".jpg"), live=True)


def assert_agree(networks, image, live):
    low = (0.6, 0.7, 0.7 - MARGIN)
    boxes, scores, landmarks = reference_mtcnn.detect(tuple(networks), image, thresholds=low, steps=live)
    ours = Mtcnn(networks[0], networks[1], networks[2], thresholds=low, rnet_cap=UNCAPPED, onet_cap=UNCAPPED)
    faces = ours.search(image) if live else ours.detect(image)
    assert_same_faces(faces, boxes, scores)
    best = overlaps(faces.boxes, boxes, inclusive=True).argmax(axis=1)
    side = (faces.boxes[:, 2] - faces.boxes[:, 0])[:, None, None]
    assert (np.abs(faces.landmarks - landmarks[best]) / side).max() < 0.05


def test_the_faces_counted_by_eye_are_found(networks):
    """All of them but two of 141: office_warehouse16 has some under 40 pixels."""
    with shared("photos/group/faces.csv").open() as file:
        counted = {row["file"]: row["faces_counted_by_eye"] for row in csv.DictReader(file)}
    found = {name: Mtcnn(*networks).detect(photo(name + ".jpg")).count for name in PHOTOS}
    expected = {name: int(counted[name + ".jpg"]) for name in PHOTOS}
    expected["office_warehouse16"] = 14
    assert found == expected


def test_what_the_caps_do_to_a_crowd(networks):
    """The caps of 256 and 64 bound the work; what is given up are faces, the strongest stay."""
    image = photo(CROWD + ".jpg")
    capped = Mtcnn(*networks).detect(image)
    every = Mtcnn(networks[0], networks[1], networks[2], rnet_cap=2000, onet_cap=UNCAPPED).detect(image)
    assert 30 <= capped.count <= 64 < 150 < every.count
    overlap = overlaps(capped.boxes, every.boxes, inclusive=True).max(axis=1)
    assert (overlap > 0.5).mean() > 0.95  # the capped ones are among them
    sizes = []
    for network in networks[1:]:
        sizes.append(Counting(network))
    Mtcnn(networks[0], sizes[0], sizes[1]).detect(image)
    assert sizes[0].batches == [256] and sizes[1].batches == [64]


class Counting:
    """A network that notes how much it is given at once."""

    def __init__(self, network):
        self._network = network
        self.batches = []

    def run(self, feeds):
        self.batches.append(len(feeds["input"]))
        return self._network.run(feeds)


@pytest.mark.parametrize("height, width", [(240, 320), (201, 333), (97, 61), (41, 40)])
def test_each_cell_of_the_blob_is_that_of_a_separate_run(networks, height, width):
    image = np.random.RandomState(height).randint(0, 256, (height, width, 3), np.uint8)
    plan = layout(height, width, 20, 0.709)
    blob = np.zeros((1, 3, plan.height, plan.width), np.float32)
    cpu.pyramid(image, plan, blob)
    packed = networks[0].run({"input": blob})
    scores, offsets = packed["probability"][0].copy(), packed["regression"][0].copy()
    for level in plan.levels:
        small = reference_mtcnn.resized(
            reference_mtcnn.halved(image, 1 / level.scale, 4)[0], level.width, level.height)  # fmt: skip
        alone = networks[0].run({"input": reference_mtcnn.as_input(small)})
        rows, columns = map_size(level.height), map_size(level.width)
        top, left = level.top // 2, level.left // 2
        for together, apart in ((scores, alone["probability"][0]), (offsets, alone["regression"][0])):
            difference = together[:, top : top + rows, left : left + columns] - apart[:, :rows, :columns]
            assert np.abs(difference).max() < 1e-5


def test_a_cell_is_decoded_as_in_the_original():
    plan = layout(240, 320, 40, 0.709)
    scores = np.zeros(plan.cells.shape, np.float32)
    level = plan.levels[1]
    scores[level.top // 2 + 3, level.left // 2 + 5] = 0.9
    outside = np.argwhere(plan.cells < 0)[0]
    scores[outside[0], outside[1]] = 1.0  # between two scales: no face can be there
    offsets = np.arange(4 * scores.size, dtype=np.float32).reshape((4,) + scores.shape)
    cells, found, moved = cpu.candidates(plan, scores, offsets, 0.6)
    boxes, levels = located(plan, cells)
    expected = [np.floor(value / level.scale) for value in (11, 7, 22, 18)]
    assert boxes.tolist() == [expected] and found.tolist() == [np.float32(0.9)] and levels.tolist() == [1]
    assert moved.tolist() == [offsets[:, level.top // 2 + 3, level.left // 2 + 5].tolist()]


@pytest.mark.parametrize("shape", [(1, 1, 3), (39, 1000, 3), (40, 40, 3), (41, 2000, 3), (300, 300, 3)])
def test_no_face_is_an_empty_answer(networks, shape):
    for fill in (0, 255):
        faces = Mtcnn(*networks).detect(np.full(shape, fill, np.uint8))
        assert faces.count == 0 and faces.boxes.shape == (0, 4) and faces.landmarks.shape == (0, 5, 2)
        assert {array.dtype for array in (faces.boxes, faces.scores, faces.landmarks)} == {np.dtype(np.float32)}


@pytest.mark.parametrize("wrong, word", [
    (np.zeros((60, 60), np.uint8), "shape (60, 60)"),
    (np.zeros((60, 60, 4), np.uint8), "shape (60, 60, 4)"),
    (np.zeros((60, 60, 3), np.float32), "float32"),
    (None, "NoneType"),
])  # fmt: skip
def test_what_is_no_picture_is_refused(networks, wrong, word):
    with pytest.raises(UsageError) as caught:
        Mtcnn(*networks).detect(wrong)
    assert word in str(caught.value) and "BGR, uint8" in str(caught.value)


def test_settings_reach_the_detector(networks):
    image = photo("bbt_redcarpet5.jpg")
    settings = Settings(backend="onnx")
    settings.detector.model = "mtcnn"
    usual = Mtcnn.from_settings(settings).detect(image)
    settings.detector.min_face = 200
    assert Mtcnn.from_settings(settings).detect(image).count < usual.count
    settings.detector.min_face, settings.detector.threshold = 40, 0.9999
    strict = Mtcnn.from_settings(settings).detect(image)
    assert strict.count < usual.count and (strict.scores > 0.9999).all()
    settings.detector.threshold, settings.mtcnn.onet_cap = "auto", 1
    assert Mtcnn.from_settings(settings).detect(image).count <= 1


def test_faces_come_best_first_with_landmarks_inside(networks):
    faces = Mtcnn(*networks).detect(photo("friends_stairs_1200x630.jpg"))
    assert faces.count == 6 and (np.diff(faces.scores) <= 0).all()
    assert (faces.landmarks >= faces.boxes[:, None, :2]).all() and (faces.landmarks <= faces.boxes[:, None, 2:]).all()
    eyes_left, eyes_right = faces.landmarks[:, 0, 0], faces.landmarks[:, 1, 0]
    assert (eyes_left < eyes_right).all() and (faces.landmarks[:, 0, 1] < faces.landmarks[:, 3, 1]).all()
