"""The measures against cases that were worked out by hand."""
import numpy as np
import pytest

from benchmarks import measures


def test_roc_of_four_pairs_by_hand():
    """Scores 0.9 0.8 0.7 0.6, same: yes no yes no. Accepting one after the other: (0,.5) (.5,.5) (.5,1) (1,1)."""
    x, y = measures.roc(np.array([0.9, 0.8, 0.7, 0.6]), np.array([True, False, True, False]))
    assert x.tolist() == [0, 0, 0.5, 0.5, 1] and y.tolist() == [0, 0.5, 0.5, 1, 1]


def test_equal_scores_are_accepted_together():
    x, y = measures.roc(np.array([0.5, 0.5, 0.5, 0.1]), np.array([True, False, True, False]))
    assert x.tolist() == [0, 0.5, 1] and y.tolist() == [0, 1, 1]


def test_verification_by_hand():
    """Two folds. The other fold's best threshold: 0.5 (between 0.3 and 0.7) for fold 0 and 0.5 for fold 1."""
    scores = np.array([0.9, 0.7, 0.1, 0.3, 0.8, 0.7, 0.6, 0.3])
    same = np.array([True, True, False, False, True, True, False, False])
    folds = np.array([0, 0, 0, 0, 1, 1, 1, 1])
    found = measures.verification(scores, same, folds, fars=(0.0, 0.25))
    # fold 0 judged at 0.65 (between 0.6 and 0.7 of fold 1): all right; fold 1 at 0.5: the pair of 0.6 is wrong
    assert found.accuracy == pytest.approx((1 + 0.75) / 2)
    assert found.threshold == pytest.approx((0.65 + 0.5) / 2)
    assert found.auc == 1.0 and found.eer == 0.0 and found.tar == (1.0, 1.0)


def test_equal_error_and_auc_by_hand():
    """One of two different pairs is above one of two same ones: EER 1/2, AUC 3/4 of all 2 x 2 comparisons."""
    scores = np.array([0.9, 0.8, 0.7, 0.6])
    found = measures.verification(scores, np.array([True, False, True, False]), np.arange(4) % 2)
    assert found.auc == pytest.approx(0.75) and found.eer == pytest.approx(0.5)


def test_a_picture_without_a_face_makes_its_pair_wrong():
    scores = np.array([-np.inf, 0.9, 0.8, 0.1, 0.2, 0.1])
    same = np.array([True, True, True, False, False, False])
    found = measures.verification(scores, same, np.arange(6) % 2)
    assert found.accuracy < 1 and np.isfinite(found.threshold)
    assert found.tar[0] == pytest.approx(2 / 3)


def test_identification_by_hand():
    """Four known pictures (one nearest to the wrong person), four strangers."""
    known, right = np.array([0.9, 0.6, 0.5, 0.8]), np.array([True, True, True, False])
    curve = measures.identification(known, right, np.array([0.3, 0.55, 0.2, 0.1]))
    assert curve.x.tolist() == [0, 0.25, 0.5, 0.75, 1]
    assert curve.y.tolist() == [0.5, 0.75, 0.75, 0.75, 0.75]  # above 0.55: 0.9 and 0.6; below it all three right ones
    assert measures.rate_at(curve, 0.01) == 0.5 and measures.rate_at(curve, 0.3) == 0.75


def box(x, y, side):
    return [x, y, x + side, y + side]


def test_detections_are_matched_once_and_ignored_faces_count_neither_way():
    truth = np.array([box(0, 0, 10), box(100, 0, 10), box(200, 0, 10)], float)
    ignored = np.array([False, False, True])
    found = np.array([box(0, 0, 10), box(1, 0, 10), box(200, 0, 10), box(50, 50, 10), box(100, 4, 10)], float)
    # hit; the same face again; on the ignored face; on nothing; IoU 6/14 = 0.43 with the second
    assert measures.matched(found, truth, ignored).tolist() == [1, 0, -1, 0, 0]
    assert measures.matched(found, truth, ignored, overlap=0.4).tolist() == [1, 0, -1, 0, 1]
    assert measures.matched(np.zeros((0, 4)), truth, ignored).tolist() == []
    assert measures.matched(found[:2], np.zeros((0, 4)), np.zeros(0, bool)).tolist() == [0, 0]


def test_average_precision_by_hand():
    """Hits at ranks 1, 3 and 4 of five, four faces: precision 1, 2/3, 3/4 there; envelope 1, 3/4, 3/4."""
    found = measures.gathered([np.array([0.9, 0.7, 0.6]), np.array([0.8, 0.5])],
                              [np.array([1, 1, 1]), np.array([0, 0])], faces=4)  # fmt: skip
    assert found.hits.tolist() == [True, False, True, True, False]
    assert measures.average_precision(found) == pytest.approx(0.25 * (1 + 0.75 + 0.75))
    assert measures.recall_at(found, 0.0) == 0.25 and measures.recall_at(found, 0.5) == 0.75
