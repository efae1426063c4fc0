import cv2
import numpy as np
import pytest

from engines.sampling import cpu
from tests.training.mtcnn import miniature

torch = pytest.importorskip("torch", reason="torch is not installed (requirements-training.txt)")

from training.mtcnn.annotations import photo, shards, turned  # noqa: E402
from training.mtcnn.augment import augmented  # noqa: E402
from training.mtcnn.pictures import Pictures, View  # noqa: E402
from training.mtcnn.samples import Sampler  # noqa: E402


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return list(shards(miniature.write(tmp_path_factory.mktemp("data")), "train"))


def test_same_seed_same_samples(photos):
    first, again, other = [Sampler(photos, 24, seed).draw(64) for seed in (5, 5, 6)]
    for one, two in zip(first, again):
        torch.testing.assert_close(one, two, rtol=0, atol=0, equal_nan=True)
    assert not torch.equal(first.crops, other.crops)


@pytest.mark.parametrize("size", [12, 24, 48])
def test_crops_look_as_the_kiosk_cuts_them(photos, size):
    image = photos[0].image()
    random = np.random.RandomState(0)
    side = random.randint(size, 200, 40)
    corner = np.stack([random.randint(0, image.shape[1] - side), random.randint(0, image.shape[0] - side)], 1)
    inclusive = np.concatenate([corner, corner + side[:, None] - 1], 1)
    wanted = cpu.crops(cpu.Halves(image, exact=True), inclusive, size) * 128 + 127.5
    boxes = torch.from_numpy(inclusive + [0, 0, 1, 1]).float()
    crops = Pictures([image], [False], "cpu").crops(torch.zeros(40, dtype=torch.long), boxes, size).numpy()
    assert np.abs(crops - wanted).mean() < 2  # grey levels


def test_targets_stay_on_the_face_when_the_crop_is_mirrored_and_turned():
    """A white square with five coloured points: they are where the labels say, in whatever view."""
    image = np.zeros((200, 200, 3), np.uint8)
    points = np.array([[85, 90], [115, 90], [100, 105], [88, 120], [112, 120]], np.float32)
    for row, (x, y) in enumerate(points.astype(int)):
        cv2.circle(image, (x, y), 3, (0, 50 + 40 * row, 255), -1)
    face = {"box": [70, 70, 60, 60], "landmarks": points.tolist()}
    sampler = Sampler([photo("made", cv2.imencode(".png", image)[1].tobytes(), [face])], 96, 0)
    view = View(torch.tensor([True, False, True]), torch.tensor([0.3, -0.4, 0.0]), torch.zeros(3, dtype=torch.long))
    where = torch.zeros(3, dtype=torch.long)
    boxes = torch.tensor([[64.0, 66, 136, 138]] * 3)
    crops = sampler.pictures.crops(where, boxes, 96, view)
    found = sampler._labelled(where, boxes, crops, view)
    assert found.face.tolist() == [1, 1, 1]
    for crop, places, mirrored in zip(found.crops, found.landmarks, view.mirrored):
        seen = [crop[:, int(y * 96), int(x * 96)] for x, y in places.tolist()]
        assert all(float(colour[0]) > 150 for colour in seen)  # each label lies on a point
        assert (places[0, 0] < places[1, 0]) and (places[3, 0] < places[4, 0])  # left stays left in the picture
        greens = [float(colour[1]) for colour in seen]
        assert (greens[0] > greens[1]) == bool(mirrored)  # and is the other eye when mirrored


def test_labels_follow_the_overlap_and_spare_ignored_regions():
    blank = cv2.imencode(".png", np.full((100, 100, 3), 80, np.uint8))[1].tobytes()
    faces = [{"box": [20, 20, 20, 20]}, {"box": [70, 70, 20, 20], "ignore": True}]
    sampler = Sampler([photo("made", blank, faces)], 12, 0)
    boxes = torch.tensor([[20.0, 20, 40, 40], [24, 24, 44, 44], [30, 30, 50, 50], [0, 60, 20, 80], [70, 70, 90, 90]])
    where = torch.zeros(5, dtype=torch.long)
    found = sampler._labelled(where, boxes, torch.zeros(5, 3, 12, 12), None)
    assert found.face.tolist() == [1, -1, 0, 0, -1]
    assert torch.isnan(found.offsets[2:]).all()
    torch.testing.assert_close(found.offsets[1], torch.full((4,), -0.2))


def test_from_which_overlap_on_a_sample_is_a_face_can_be_said():
    blank = cv2.imencode(".png", np.full((100, 100, 3), 80, np.uint8))[1].tobytes()
    box = torch.tensor([[17.0, 17, 43, 43], [15, 15, 45, 45]])  # IoU 0.59 and 0.44
    for least, wanted in ((0.65, [-1, -1]), (0.5, [1, -1])):
        sampler = Sampler([photo("made", blank, [{"box": [20, 20, 20, 20]}])], 12, 0, face=least)
        found = sampler._labelled(torch.zeros(2, dtype=torch.long), box, torch.zeros(2, 3, 12, 12), None)
        assert found.face.tolist() == wanted
        assert not torch.isnan(found.offsets).any()


def test_drawn_shares_hold_faces_and_background(photos):
    face = Sampler(photos, 24, 1).draw(600).face
    assert (face == 1).float().mean() > 0.1
    assert (face == 0).float().mean() > 0.2


def test_augmentation_keeps_range_shape_and_generator(photos):
    drawn = Sampler(photos, 48, 2).draw(200)
    pictures = [augmented(drawn.crops, drawn.offsets, torch.Generator().manual_seed(3)) for _ in range(2)]
    assert torch.equal(pictures[0], pictures[1])
    assert pictures[0].shape == drawn.crops.shape
    assert float(pictures[0].min()) >= 0 and float(pictures[0].max()) <= 255
    assert float((pictures[0] - drawn.crops).abs().mean()) > 5


def test_a_face_that_looks_aside_is_told_from_one_that_does_not():
    front = np.array([[30, 40], [70, 40], [50, 60], [35, 78], [65, 78]], np.float32)
    profile = np.array([[30, 40], [42, 40], [55, 60], [30, 78], [40, 78]], np.float32)
    angle = np.radians(30)
    lean = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]], np.float32)
    found = turned(np.stack([front, profile, profile @ lean, np.full((5, 2), np.nan, np.float32)]))
    np.testing.assert_allclose(found, [0, 0.51, 0.51, 0], atol=0.01)


def test_faces_in_profile_are_drawn_oftener():
    front = [[30, 40], [70, 40], [50, 60], [35, 78], [65, 78]]
    profile = [[30, 40], [42, 40], [55, 60], [30, 78], [40, 78]]
    image = cv2.imencode(".png", np.zeros((100, 100, 3), np.uint8))[1].tobytes()
    box = [10, 10, 80, 80]
    photos = [photo("front", image, [{"box": box, "landmarks": front}])] * 3
    photos += [photo("side", image, [{"box": box, "landmarks": profile}])]
    for oftener, share in ((0.0, 0.25), (6.0, 0.7)):
        sampler = Sampler(photos, 24, 0, oftener=oftener)
        drawn, _ = sampler._jittered(4000, 0.2, 0.1)
        assert abs(float((drawn == 3).float().mean()) - share) < 0.03


def test_lean_turns_some_samples_further(photos):
    usual, leaning = [Sampler(photos, 24, 0, lean=lean)._view(2000).angle.abs() for lean in (0.0, 45.0)]
    limit = np.radians(25)
    assert float(usual.max()) <= limit
    assert 0.05 < float((leaning > limit).float().mean()) < 0.2
