"""The MTCNN that ships: its files, its record, and what it finds beside the original."""
import hashlib
import json

import cv2
import numpy as np
import pytest

from engines import catalogue
from engines.backends.choose import open_network
from engines.build import ensure
from engines.catalogue import MODELS
from engines.detect.boxes import overlaps
from engines.detect.mtcnn import Mtcnn
from engines.sampling import cpu
from engines.sampling.layout import layout, map_size
from settings import Settings
from tests import shared
from tests.engines.test_mtcnn import PHOTOS

ROLES = ("pnet", "rnet", "onet")


def settings(model):
    made = Settings(backend="onnx")
    made.detector.model = model
    return made


def test_each_file_has_its_record():
    record = {line["file"]: line for line in json.loads((MODELS / "mtcnn_own.json").read_text())}
    for role in ROLES:
        (source,) = catalogue.files("mtcnn_own")[role]
        line = record[source["file"]]
        digest = hashlib.sha256((MODELS / source["file"]).read_bytes()).hexdigest()
        assert digest == source["sha256"] == line["sha256"]
        assert len(line["revision"]) == 40 and line["recipe"]["role"] == role and "seed" in line["recipe"]


def test_it_needs_nothing_from_elsewhere(monkeypatch, tmp_path):
    monkeypatch.setenv("KIOSK_MODELS", str(tmp_path))
    assert {path.parent for path in ensure("mtcnn_own", settings("mtcnn_own")).values()} == {MODELS}


@pytest.mark.parametrize("height, width", [(240, 322), (97, 61), (43, 41)])
def test_each_cell_of_the_blob_is_that_of_a_separate_run(height, width):
    """P moves by 4 pixels: scales start on multiples of 4 and do not disturb each other."""
    pnet = open_network(ensure("mtcnn_own")["pnet"], settings("mtcnn_own"))
    image = np.random.RandomState(height).randint(0, 256, (height, width, 3), np.uint8)
    plan = layout(height, width, 20, 0.709, stride=4)
    blob = np.zeros((1, 3, plan.height, plan.width), np.float32)
    cpu.pyramid(image, plan, blob)
    together = pnet.run({"input": blob})["probability"][0]
    for number, level in enumerate(plan.levels):
        rows, columns = map_size(level.height, 4), map_size(level.width, 4)
        top, left = level.top // 4, level.left // 4
        assert level.top % 4 == level.left % 4 == 0
        part = blob[:, :, level.top : level.top + level.height // 4 * 4, level.left : level.left + level.width // 4 * 4]
        apart = pnet.run({"input": np.ascontiguousarray(part)})["probability"][0]
        assert (plan.cells[top : top + rows, left : left + columns] == number).all()
        within = together[:, top : top + rows, left : left + columns]
        np.testing.assert_allclose(within, apart[:, :rows, :columns], atol=1e-5)


def test_it_finds_the_original_s_faces_in_group_photos(shared_models):
    ours, original = [Mtcnn.from_settings(settings(name)) for name in ("mtcnn_own", "mtcnn")]
    found = known = 0
    for name in PHOTOS:
        image = cv2.imread(str(shared("photos/group/{}.jpg".format(name))))
        theirs, own = original.detect(image), ours.detect(image)
        sure = theirs.boxes[theirs.scores > 0.95]
        known += len(sure)
        found += int((overlaps(sure, own.boxes).max(axis=1, initial=0) > 0.5).sum())
    assert found >= 0.95 * known


def test_the_landmarks_of_a_photo_come_from_a_second_look(shared_models):
    ours = Mtcnn.from_settings(settings("mtcnn_own"))
    image = cv2.imread(str(shared("photos/group/friends_table_1280x886.jpg")))
    first, found = ours.search(image), ours.detect(image)
    assert np.array_equal(first.boxes, found.boxes) and not np.array_equal(first.landmarks, found.landmarks)
    again = ours.follow(image, first.boxes)  # looks from where the boxes are, too
    apart = np.abs(again.landmarks[:, None] - found.landmarks).max(axis=(2, 3))
    assert found.count == 6 and (apart.min(axis=0) < 1e-3).all()


def test_settings_overrule_the_model_s_stages():
    made = settings("mtcnn_own")
    assert catalogue.stages(made).factor == 0.6 and catalogue.stages(made).stride == 4
    made.mtcnn.factor, made.mtcnn.rnet_threshold, made.detector.threshold = 0.8, 0.9, 0.99
    stages = catalogue.stages(made)
    assert (stages.factor, stages.thresholds[1:]) == (0.8, (0.9, 0.99))
    assert catalogue.stages(settings("mtcnn")).thresholds == (0.6, 0.7, 0.7)
    assert catalogue.stages(settings("scrfd_500m")) == catalogue.stages(settings("mtcnn"))
