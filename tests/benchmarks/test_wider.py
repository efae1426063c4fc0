"""The WIDER FACE protocol against a case worked out by hand, and its ground truth as it is published."""
import cv2
import numpy as np
import pytest

from benchmarks import detection, wider
from benchmarks.wider import Truth
from engines.detect.detector import Faces
from errors import UsageError
from tests import shared


def face(x, score=None):
    return [x, 0, 19, 19] + ([] if score is None else [score])  # 20 x 20 pixels, corners counted


def counted(*flags):
    return {subset: np.array(flags, bool) for subset in wider.SUBSETS}


def test_average_precision_by_hand():
    """Two photos, three faces that count and one that does not.

    Photo a: faces at 0 and 100 count, the one at 200 does not. Detections, best first (scores are
    stretched from 0.2..1.0 to 0..1): 1.0 on face 0 (found), 0.8 on nothing (false), 0.6 on the face
    that does not count (left out), 0.4 on face 0 again (false: found before), 0.2 on face 100 (found).
    Photo b: its face at 0 is found at 0.6, with IoU 300/500; 0.4 is 11 pixels off: IoU 180/620, false.

    Proposals and found faces at falling thresholds:
    >= 1.0: 1, 1   >= 0.75: 2, 1   >= 0.5: 3, 2   >= 0.25: 5, 2   > 0: 5, 2   >= 0: 6, 3
    Precision by recall: 1/3: 1, then 1/2; 2/3: 2/3, then 2/5; 1: 1/2.
    Made to fall only: 1 up to 1/3, 2/3 up to 2/3, 1/2 up to 1; AP = (1 + 2/3 + 1/2) / 3.
    """
    truth = {
        "a": Truth(np.array([face(0), face(100), face(200)], float), counted(True, True, False)),
        "b": Truth(np.array([face(0)], float), counted(True)),
    }
    found = {
        "a": np.array([face(0, 1.0), face(50, 0.8), face(200, 0.6), face(1, 0.4), face(100, 0.2)]),
        "b": np.array([face(5, 0.6), face(11, 0.4)]),
    }
    expected = (1 + 2 / 3 + 1 / 2) / 3
    result = wider.evaluate(truth, found)
    assert result == {subset: pytest.approx(expected) for subset in wider.SUBSETS}


def test_a_detection_belongs_to_the_face_that_it_overlaps_most():
    """Between a face that counts and one that does not, 4 pixels apart: nearer to the second."""
    truth = {"a": Truth(np.array([face(0), face(4)], float), counted(True, False))}
    recalled, proposed = wider.judged(np.array([face(3, 0.9)], float), truth["a"].boxes, np.array([True, False]))
    assert recalled.tolist() == [0] and proposed.tolist() == [False]


def test_perfect_and_empty_answers():
    truth = {"a": Truth(np.array([face(0), face(100)], float), counted(True, True))}
    perfect = {"a": np.array([face(0, 0.9), face(100, 0.3)])}
    assert wider.evaluate(truth, perfect) == dict.fromkeys(wider.SUBSETS, pytest.approx(1.0))
    assert wider.evaluate(truth, {}) == dict.fromkeys(wider.SUBSETS, 0.0)


def test_the_published_lists_are_read_whole():
    """Photos and faces as the data set's authors count them."""
    pytest.importorskip("scipy", reason="needs scipy for the .mat files")
    truth = wider.read_truth(shared("detection/wider"))
    assert len(truth) == 3226
    sums = [sum(int(one.counts[subset].sum()) for one in truth.values()) for subset in wider.SUBSETS]
    assert sums == [7211, 13319, 31958]
    perfect = {
        name: np.concatenate([one.boxes, np.ones((len(one.boxes), 1))], axis=1) for name, one in truth.items()
    }
    assert wider.evaluate(truth, perfect)["hard"] > 0.99


def test_a_missing_list_is_named(tmp_path):
    with pytest.raises(UsageError, match=r"wider_face_val_bbx_gt\.txt"):
        wider.read_boxes(tmp_path)


def test_a_detector_is_measured_on_the_photos_that_are_there(tmp_path):
    """A detector that knows the truth of the one photo that is there finds all of its faces."""
    pytest.importorskip("scipy", reason="needs scipy for the .mat files")
    folder = shared("detection/wider")
    everything = wider.read_truth(folder)
    name = min(name for name, one in everything.items() if one.counts["easy"].any())
    truth = everything[name]
    (tmp_path / name).parent.mkdir()
    cv2.imwrite(str(tmp_path / name), np.zeros((768, 1024, 3), np.uint8))

    class Knowing:
        def detect(self, image):
            boxes = np.concatenate([truth.boxes[:, :2], truth.boxes[:, :2] + truth.boxes[:, 2:]], axis=1)
            scores = np.linspace(0.9, 0.5, len(boxes))
            return Faces(boxes, scores, np.zeros((len(boxes), 5, 2)))

    found = detection.measure_wider(tmp_path, folder, Knowing())
    assert found["easy"] == pytest.approx(1.0) and found["hard"] == pytest.approx(1.0)
    with pytest.raises(UsageError, match="has none of WIDER FACE's validation photos"):
        detection.measure_wider(tmp_path / "empty", folder, Knowing())
