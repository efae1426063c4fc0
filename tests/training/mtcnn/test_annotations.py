import json
import tarfile

import cv2
import numpy as np
import pytest

from errors import UsageError
from tests import shared
from tests.training.mtcnn import miniature
from training.mtcnn.annotations import shards, wider

WIDER = """0--Parade/0_Parade_1.jpg
3
10 20 30 40 0 0 0 0 0 0
50 20 9 40 0 0 0 0 0 0
5 5 20 25 2 0 0 0 1 0
0--Parade/0_Parade_2.jpg
0
0 0 0 0 0 0 0 0 0 0
1--Handshaking/1_Handshaking_7.jpg
1
1 2 30 31 1 0 0 1 0 0
"""
NAMES = ["0--Parade/0_Parade_1.jpg", "0--Parade/0_Parade_2.jpg", "1--Handshaking/1_Handshaking_7.jpg"]


@pytest.fixture
def images(tmp_path):
    for name in NAMES:
        path = tmp_path / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), np.full((80, 100, 3), 90, np.uint8))
    return tmp_path / "images"


def test_wider_text_as_it_is_released(images, tmp_path):
    truth = tmp_path / "wider_face_train_bbx_gt.txt"
    truth.write_text(WIDER)
    first, second, third = wider(images, truth)
    assert [first.name, second.name, third.name] == NAMES
    np.testing.assert_array_equal(first.boxes, [[10, 20, 40, 60], [50, 20, 59, 60], [5, 5, 25, 30]])
    assert first.ignore.tolist() == [False, True, True]  # under 10 pixels; heavily blurred
    assert len(second.boxes) == 0
    assert third.ignore.tolist() == [True]  # invalid
    assert first.image().shape == (80, 100, 3)


def test_wider_mat_gives_what_its_text_gives(images, tmp_path):
    savemat = pytest.importorskip("scipy.io", reason="scipy is not installed").savemat

    def cell(*rows):
        filled = np.empty((len(rows), 1), object)
        for number, row in enumerate(rows):
            filled[number, 0] = row
        return filled

    events = [("0--Parade", ["0_Parade_1", "0_Parade_2"]), ("1--Handshaking", ["1_Handshaking_7"])]
    boxes = [[[10, 20, 30, 40], [50, 20, 9, 40], [5, 5, 20, 25]], np.zeros((0, 4))], [[[1, 2, 30, 31]]]
    blur, invalid = ([[[0], [0], [2]], np.zeros((0, 1))], [[[1]]]), ([[[0], [0], [0]], np.zeros((0, 1))], [[[1]]])
    savemat(str(tmp_path / "wider.mat"), {
        "event_list": cell(*[np.array([name]) for name, _ in events]),
        "file_list": cell(*[cell(*[np.array([one]) for one in names]) for _, names in events]),
        "face_bbx_list": cell(*[cell(*[np.array(one, float) for one in part]) for part in boxes]),
        "blur_label_list": cell(*[cell(*[np.array(one) for one in part]) for part in blur]),
        "invalid_label_list": cell(*[cell(*[np.array(one) for one in part]) for part in invalid]),
    })  # fmt: skip
    (tmp_path / "wider.txt").write_text(WIDER)
    for one, other in zip(wider(images, tmp_path / "wider.mat"), wider(images, tmp_path / "wider.txt")):
        assert one.name == other.name
        np.testing.assert_array_equal(one.boxes, other.boxes)
        np.testing.assert_array_equal(one.ignore, other.ignore)


def test_released_mat_of_the_validation_photos_is_read(tmp_path):
    pytest.importorskip("scipy", reason="scipy is not installed")
    with pytest.raises(UsageError, match="is missing"):
        next(wider(tmp_path, shared("detection/wider/wider_face_val.mat")))


def test_wider_that_breaks_off_is_named(images, tmp_path):
    truth = tmp_path / "broken.txt"
    truth.write_text(WIDER[: WIDER.index("5 5 20")])
    with pytest.raises(UsageError, match=r"breaks off at 0--Parade/0_Parade_1\.jpg"):
        list(wider(images, truth))


def test_shards_part_the_photos(tmp_path):
    folder = miniature.write(tmp_path)
    parts = {split: [photo.name for photo in shards(folder, split)] for split in ("train", "val", "fit", "development")}
    assert parts["val"] and not set(parts["val"]) & set(parts["train"])
    assert sorted(parts["fit"] + parts["development"]) == sorted(parts["train"])


def test_noisy_boxes_give_way_to_the_teachers(tmp_path):
    faces = [{"box": [10, 10, 20, 20], "ref": [12, 12, 16, 18], "landmarks": None, "ignore": False}]
    with tarfile.open(str(tmp_path / "one.tar"), "w") as shard:
        for source in ("ilc", "wider"):
            miniature.add(shard, source + ".jpg", np.zeros((64, 64, 3), np.uint8))
    lines = [{"image": source + ".jpg", "shard": "one.tar", "split": "train", "source": source, "faces": faces}
             for source in ("ilc", "wider")]  # fmt: skip
    (tmp_path / "annotations.jsonl").write_text("\n".join(map(json.dumps, lines)))
    noisy, sure = shards(tmp_path, "train")
    np.testing.assert_array_equal(noisy.targets, [[12, 12, 28, 30]])
    np.testing.assert_array_equal(noisy.boxes, [[10, 10, 30, 30]])
    np.testing.assert_array_equal(sure.targets, sure.boxes)
    assert np.isnan(sure.landmarks).all()


def test_missing_shard_is_named(tmp_path):
    folder = miniature.write(tmp_path)
    (folder / "train-000.tar").unlink()
    with pytest.raises(UsageError, match=r"train-000\.tar: is missing"):
        list(shards(folder, "train"))
