"""Boxes: overlap, suppression, regression, squares, each against a loop or by hand."""

import numpy as np
import pytest

from engines.detect.boxes import SMALLER, UNION, overlaps, regress, squared, suppress
from tests.engines import reference_mtcnn


def random_boxes(count, seed=0):
    random = np.random.RandomState(seed)
    corner = random.randint(0, 60, (count, 2))
    return np.concatenate([corner, corner + random.randint(1, 60, (count, 2))], axis=1).astype(np.float32), random.rand(
        count
    )


@pytest.mark.parametrize("measure, inclusive, expected", [
    (UNION, False, 25 / 175),
    (SMALLER, False, 25 / 100),
    (UNION, True, 36 / 206),
    (SMALLER, True, 36 / 121),
])  # fmt: skip
def test_overlap_by_hand(measure, inclusive, expected):
    one, other = np.array([[0, 0, 10, 10]]), np.array([[5, 5, 15, 15]])
    assert overlaps(one, other, measure, inclusive)[0, 0] == pytest.approx(expected)


def test_boxes_that_do_not_touch_do_not_overlap():
    assert overlaps(np.array([[0, 0, 10, 10]]), np.array([[20, 0, 30, 10], [10, 0, 20, 10]])).tolist() == [[0, 0]]


def test_a_box_without_area_overlaps_nothing():
    assert overlaps(np.array([[3.0, 3, 3, 3]]), np.array([[0.0, 0, 10, 10], [3, 3, 3, 3]])).tolist() == [[0, 0]]


def test_suppression_of_nothing():
    assert suppress(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), 0.5).tolist() == []


@pytest.mark.parametrize("count", [1, 2, 63, 64, 65, 300])
@pytest.mark.parametrize("threshold, measure", [(0.5, UNION), (0.7, UNION), (0.7, SMALLER), (0.1, SMALLER)])
def test_suppression_is_the_greedy_loop(count, threshold, measure):
    boxes, scores = random_boxes(count, count)
    candidates = [
        {"box": box.tolist(), "score": score, "row": row} for row, (box, score) in enumerate(zip(boxes, scores))
    ]
    expected = [one["row"] for one in reference_mtcnn.suppressed(candidates, threshold, measure == SMALLER)]
    assert suppress(boxes, scores, threshold, measure, inclusive=True).tolist() == expected


def test_what_a_lost_box_covered_stays():
    """The first takes out the second; the third, which only the second overlapped, stays."""
    boxes = np.array([[0, 0, 10, 10], [4, 0, 14, 10], [9, 0, 19, 10]])
    assert suppress(boxes, np.array([0.9, 0.8, 0.7]), 0.3).tolist() == [0, 2]


def test_of_equal_scores_the_earlier_stays():
    boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 10]])
    assert suppress(boxes, np.array([0.5, 0.5]), 0.5).tolist() == [0]


def test_regression_counts_in_widths_and_heights():
    boxes, offsets = np.array([[10.0, 20, 19, 39]]), np.array([[0.1, -0.1, 0.5, 0]])
    assert regress(boxes, offsets).tolist() == [[11, 18, 24, 39]]
    assert regress(boxes, offsets, inclusive=False)[0] == pytest.approx([10.9, 18.1, 23.5, 39])


def test_squares_keep_the_middle_and_the_longer_side():
    assert squared(np.array([[0.0, 0, 10, 20], [5, 5, 25, 15]])).tolist() == [[-5, 0, 15, 20], [5, 0, 25, 20]]
    assert squared(np.zeros((0, 4))).shape == (0, 4)
