from collections import defaultdict

import numpy as np
import pytest

from gallery.match import WIDTH, Match, Matrix, nearest

D = 16


def units(count: int, seed: int = 0) -> np.ndarray:
    rows = np.random.RandomState(seed).standard_normal((count, D)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def brute_force(rows: np.ndarray, owners: list, query: np.ndarray) -> list:
    best = defaultdict(lambda: -2.0)  # type: ignore[var-annotated]
    for row, owner in zip(rows, owners):
        best[owner] = max(best[owner], float(row @ query))
    return sorted(((value, owner) for owner, value in best.items()), reverse=True)


def found(matrix: Matrix, queries: np.ndarray) -> list:
    snapshot = matrix.snapshot
    return nearest(snapshot.similarities(queries), [str(person) for person in snapshot.people])


@pytest.mark.parametrize("count", [1, 2, WIDTH - 1, WIDTH, WIDTH + 1, 3 * WIDTH, 1000])
@pytest.mark.parametrize("parts", [1, 3])
def test_agrees_with_a_loop_over_all_rows(count: int, parts: int) -> None:
    rows = units(count)
    owners = np.random.RandomState(5).randint(1, 8, count)
    matrix = Matrix(D)
    for part in np.array_split(np.arange(count), parts):
        matrix.append((part + 1).tolist(), owners[part].tolist(), rows[part])
        matrix.publish()
    for query, match in zip(units(9, seed=3), found(matrix, units(9, seed=3))):
        expected = brute_force(rows, owners.tolist(), query)
        assert match.person == str(expected[0][1])
        assert match.similarity == pytest.approx(expected[0][0], abs=1e-5)
        if len(expected) > 1:
            assert match.runner_up == str(expected[1][1])
            assert match.margin == pytest.approx(expected[0][0] - expected[1][0], abs=1e-5)
        else:
            assert match.runner_up is None and match.margin == float("inf")


def test_nobody_in_an_empty_gallery() -> None:
    assert nearest(np.zeros((2, 0), np.float32), ()) == [Match(None, 0.0, None, float("inf"))] * 2


@pytest.mark.parametrize("share", [0.1, 0.9, 1.0])
def test_removed_rows_are_never_found_and_leave_the_memory(share: float) -> None:
    count = 500
    rows = units(count)
    ids = np.arange(1, count + 1)
    owners = ids % 7 + 1
    matrix = Matrix(D)
    matrix.append(ids.tolist(), owners.tolist(), rows)
    matrix.publish()
    kept = np.random.RandomState(1).random_sample(count) >= share
    matrix.keep(ids[kept], owners[kept])
    matrix.publish()
    stored = np.concatenate([slab.transpose(0, 2, 1).reshape(-1, D) for slab in matrix._slabs] or [np.zeros((0, D))])
    for at in np.flatnonzero(~kept).tolist():
        assert not np.isclose(stored @ rows[at], 1.0, atol=1e-4).any()
    if not kept.any():
        assert matrix.snapshot.people == ()
        return
    for at, match in zip(range(20), found(matrix, rows[:20])):
        expected = brute_force(rows[kept], owners[kept].tolist(), rows[at])
        assert (match.person, match.similarity) == (str(expected[0][1]), pytest.approx(expected[0][0], abs=1e-5))


def test_an_older_snapshot_never_names_a_newer_persons_embedding() -> None:
    """A match that runs while another thread deletes one person and enrols another."""
    rows = units(4)
    matrix = Matrix(D)
    matrix.append([1, 2], [10, 20], rows[:2])
    matrix.publish()
    before = matrix.snapshot
    matrix.keep(np.array([2]), np.array([20]))
    matrix.append([3, 4], [30, 30], rows[2:])
    matrix.publish()
    similarities = before.similarities(rows)
    assert before.people == (10, 20)
    assert similarities[0, 0] == 0  # the deleted one is nowhere any more
    assert similarities[2, 0] == 0  # and nothing of the new one stands in that place
    assert similarities[1, 1] == pytest.approx(1, abs=1e-5)


def test_a_person_moved_to_another_is_found_as_that_one() -> None:
    rows = units(3)
    matrix = Matrix(D)
    matrix.append([1, 2, 3], [10, 20, 30], rows)
    matrix.keep(np.array([1, 2, 3]), np.array([30, 20, 30]))
    matrix.publish()
    assert [match.person for match in found(matrix, rows)] == ["30", "20", "30"]
