"""SCRFD against the plain reference on real photos, its two layouts, close-ups, and what it refuses."""

import os

import cv2
import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper

from engines.backends.onnx import OnnxNetwork
from engines.detect import open_detector
from engines.detect.boxes import overlaps
from engines.detect.scrfd import Scrfd, layout_of
from errors import ModelError, UsageError
from settings import load
from tests import ROOT, shared
from tests.engines import reference_scrfd

FILES = {"scrfd_500m": "det_500m.onnx", "scrfd_1g": "scrfd_1g.onnx", "scrfd_2.5g": "scrfd_2.5g_kps_dynamic.onnx"}
FIXED = "scrfd_2.5g_kps.onnx"  # the 2.5G network with its input fixed at 640x640
PHOTOS = ["bbt_awards6", "bbt_redcarpet5", "bbt_sofa", "bench9", "family6_600x462", "friends_stairs_1200x630",
          "friends_table_1280x886", "geology14", "meeting5_1280x853", "meeting5_800x533", "nurses4", "office_desk12",
          "office_team10", "office_warehouse16", "pedestrians_1920x1080", "redcarpet_small", "students19",
          "table8_800x533", "crowd_selfie_2048x1150"]  # fmt: skip


def photo(name):
    return cv2.imread(str(shared("photos/group/" + name + ".jpg")))


def model(file):
    return shared("models/scrfd/" + file)


def no_points(image, boxes):
    return np.zeros((len(boxes), 5, 2), np.float32)


@pytest.fixture(scope="module")
def sessions():
    """The reference's own ONNX Runtime, by catalogue name."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 2
    return {name: onnxruntime.InferenceSession(str(model(file)), options, providers=["CPUExecutionProvider"])
            for name, file in FILES.items()}  # fmt: skip


@pytest.fixture(scope="module")
def networks():
    opened = {name: OnnxNetwork(model(file), 2) for name, file in FILES.items()}
    yield opened
    for network in opened.values():
        network.close()


@pytest.mark.parametrize("name", PHOTOS)
@pytest.mark.parametrize("size", sorted(FILES))
def test_the_faces_are_the_reference_s(sessions, networks, size, name):
    image = photo(name)
    expected = reference_scrfd.detect(sessions[size], image, 640, 0.5)
    faces = Scrfd(networks[size], min_face=0, close_ups=False, points=no_points).detect(image)
    assert faces.count == len(expected) > 0
    boxes = np.array([one["box"] for one in expected])
    assert overlaps(faces.boxes, boxes)[np.arange(faces.count), np.arange(faces.count)].min() >= 0.99
    assert np.abs(faces.scores - [one["score"] for one in expected]).max() < 1e-4
    if size != "scrfd_1g":
        sides = (boxes[:, 2] - boxes[:, 0])[:, None, None]
        assert (np.abs(faces.landmarks - [one["points"] for one in expected]) / sides).max() < 0.01


@pytest.mark.parametrize("name", ["scrfd_500m", "scrfd_2.5g"])
def test_the_raw_maps_give_the_same_as_the_flat_tables(networks, tmp_path, name):
    """The same network with its outputs taken before sigmoid and reshape, its batch axis freed."""
    raw = Scrfd(OnnxNetwork(raw_maps(str(model(FILES[name])), tmp_path / "raw.onnx"), 2), min_face=0)
    flat = Scrfd(networks[name], min_face=0)
    assert raw._layout.logits and not flat._layout.logits
    images = [photo(one) for one in ("bbt_sofa", "family6_600x462", "office_desk12")]
    for image in images:
        assert_alike(raw.detect(image), flat.detect(image))
    twice = raw.detect_all([images[0], images[0][:, ::-1].copy()])  # one run: the batch axis is free
    assert_alike(twice[0], flat.detect(images[0]))
    assert_alike(twice[1], flat.detect(images[0][:, ::-1].copy()))


def raw_maps(source, target):
    """`source` (flat tables) rewritten to give score_8 (N, 2, h, w), bbox_8, kps_8, ... at `target`."""
    network = onnx.load(source)
    graph = network.graph
    made_by = {output: node for node in graph.node for output in node.output}
    outputs = []
    for at, output in enumerate(list(graph.output)):
        node = made_by[output.name]
        while node.op_type not in ("Conv", "Mul"):  # Mul: InsightFace's learned scale of the boxes
            node = made_by[node.input[0]]
        name = "{}_{}".format(("score", "bbox", "kps")[at // 3], (8, 16, 32)[at % 3])
        shape = ["N", (2, 8, 20)[at // 3], "h{}".format(at % 3), "w{}".format(at % 3)]
        graph.node.append(helper.make_node("Identity", [node.output[0]], [name + "_raw"]))
        outputs.append(helper.make_tensor_value_info(name + "_raw", onnx.TensorProto.FLOAT, shape))
    del graph.output[:]
    graph.output.extend(outputs)
    graph.input[0].type.tensor_type.shape.dim[0].dim_param = "N"
    used, wanted = [], {output.name for output in outputs}
    for node in reversed(list(graph.node)):
        if wanted & set(node.output):
            used.append(node)
            wanted |= set(node.input)
    del graph.node[:]
    graph.node.extend(reversed(used))
    onnx.save(network, str(target))
    return target


def assert_alike(faces, others):
    assert faces.count == others.count > 0
    assert np.abs(faces.scores - others.scores).max() < 1e-4
    assert np.abs(faces.boxes - others.boxes).max() < 0.05
    assert np.abs(faces.landmarks - others.landmarks).max() < 0.05


def test_a_fixed_input_is_filled_without_distortion(sessions, networks):
    fixed = Scrfd(OnnxNetwork(model(FIXED), 2), min_face=0, close_ups=False)
    image = photo("bbt_redcarpet5")
    expected = reference_scrfd.detect(sessions["scrfd_2.5g"], image, 640, 0.5, square=True)
    faces = fixed.detect(image)
    boxes = np.array([one["box"] for one in expected])
    assert faces.count == len(boxes)
    assert np.diag(overlaps(faces.boxes, boxes)).min() >= 0.99
    wide = cv2.copyMakeBorder(image, 0, 0, 0, 2 * image.shape[1], cv2.BORDER_REPLICATE)
    assert Scrfd(networks["scrfd_2.5g"], size=320, min_face=0).detect(wide).count > 0
    assert fixed.follow(image, faces.boxes).count == faces.count


@pytest.mark.parametrize("name", ["scrfd_500m", "scrfd_2.5g"])
@pytest.mark.parametrize("width, height", [(720, 720), (1280, 720), (640, 480)])
@pytest.mark.parametrize("share", [0.9, 1.1])
def test_a_face_that_fills_the_picture_is_found(networks, name, width, height, share):
    detector = Scrfd(networks[name])
    for file in sorted(os.listdir(str(shared("photos/strangers"))))[:8]:
        if not file.endswith(".jpg"):
            continue
        image = cv2.imread(str(shared("photos/strangers") / file))
        usual = detector.detect(image)
        assert usual.count == 1
        box = usual.boxes[0]
        scale = height * share / (box[3] - box[1])
        middle = (box[:2] + box[2:]) / 2 * scale
        matrix = np.array([[scale, 0, width / 2 - middle[0]], [0, scale, height / 2 - middle[1]]])
        close = cv2.warpAffine(image, matrix, (width, height), borderMode=cv2.BORDER_REPLICATE)
        found = detector.detect(close)
        assert found.count == 1, file
        expected = usual.landmarks[0] * scale + matrix[:, 2]
        eyes = np.linalg.norm(expected[1] - expected[0])
        assert np.abs(found.landmarks[0] - expected).max() < 0.15 * eyes, file


def test_followed_faces_are_where_a_search_finds_them(networks):
    detector = Scrfd(networks["scrfd_500m"], min_face=20)
    image = photo("office_team10")
    faces = detector.detect(image)
    sides = faces.boxes[:, 2:3] - faces.boxes[:, 0:1]
    followed = detector.follow(image, faces.boxes + np.float32(0.1) * sides)
    assert followed.count == faces.count
    overlap = overlaps(followed.boxes, faces.boxes)
    assert overlap.max(axis=1).min() > 0.75
    best = overlap.argmax(axis=1)
    assert sorted(best) == list(range(faces.count))
    assert (np.abs(followed.landmarks - faces.landmarks[best]) / sides[best][:, None]).max() < 0.12
    assert detector.follow(image, np.float32([[0, 0, 30, 30]])).count == 0
    assert detector.follow(image, np.zeros((0, 4), np.float32)).count == 0


def test_a_search_keeps_the_known_faces_and_adds_the_others(networks):
    detector = Scrfd(networks["scrfd_500m"])
    image = photo("meeting5_1280x853")
    everybody = detector.detect(image)
    both = detector.search(image, everybody.take(np.arange(2)))
    assert both.count == everybody.count == 5
    assert np.allclose(np.sort(both.boxes, axis=0), np.sort(everybody.boxes, axis=0))


def test_a_model_without_key_points_is_refused_in_one_sentence(networks):
    with pytest.raises(ModelError) as caught:
        Scrfd(networks["scrfd_1g"], "scrfd_1g")
    message = str(caught.value)
    assert message.startswith("scrfd_1g: ") and "no key points" in message and "scrfd_500m" in message
    assert message.count(". ") == 0


def test_what_is_no_scrfd_is_refused(networks):
    with pytest.raises(ModelError, match=r"yunet: is no SCRFD.*strides 8, 16 and 32"):
        layout_of({"cls_8": np.zeros((1, 64, 1)), "bbox_8": np.zeros((1, 64, 4))}, 64, 64, "yunet")


def test_the_key_points_of_a_model_without_come_from_onet(shared_models, networks):
    image = photo("meeting5_1280x853")
    settings = load(ROOT / "config.yaml", ["detector.model=scrfd_1g"])
    detector = open_detector(settings)
    faces = detector.detect(image)
    expected = Scrfd(networks["scrfd_2.5g"]).detect(image)
    best = overlaps(faces.boxes, expected.boxes).argmax(axis=1)
    sides = (faces.boxes[:, 2] - faces.boxes[:, 0])[:, None, None]
    assert faces.count == expected.count == 5
    assert (np.abs(faces.landmarks - expected.landmarks[best]) / sides).max() < 0.12
    detector.close()


def test_settings_reach_the_detector(shared_models):
    image = photo("office_warehouse16")

    def count(*changes):
        detector = open_detector(load(ROOT / "config.yaml", ["detector.model=scrfd_500m", *changes]))
        found = detector.detect(image).count
        detector.close()
        return found

    usual = count("detector.min_face=20")
    assert count("detector.min_face=60") < usual
    assert count("detector.min_face=20", "detector.threshold=0.75") < usual
    assert count("detector.min_face=20", "scrfd.size=160") < usual
    assert count("detector.min_face=20", "scrfd.close_ups=false") == usual


@pytest.mark.parametrize("shape", [(1, 1, 3), (40, 2000, 3), (2000, 40, 3), (480, 640, 3)])
def test_no_face_is_an_empty_answer(networks, shape):
    faces = Scrfd(networks["scrfd_500m"]).detect(np.full(shape, 120, np.uint8))
    assert faces.count == 0 and faces.boxes.shape == (0, 4) and faces.landmarks.shape == (0, 5, 2)
    assert {array.dtype for array in (faces.boxes, faces.scores, faces.landmarks)} == {np.dtype(np.float32)}


def test_what_is_no_picture_is_refused(networks):
    with pytest.raises(UsageError, match="BGR, uint8"):
        Scrfd(networks["scrfd_500m"]).detect(np.zeros((60, 60), np.uint8))
