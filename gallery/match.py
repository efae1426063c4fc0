"""The gallery in memory, and who an embedding is nearest to.

Exact search: a hundred thousand embeddings take less time than adding them up, and an index would
only lose matches. Embeddings stand as columns of blocks, because a vector times such a block runs
at the speed of memory (twice that of the other orientation in OpenBLAS, and six vectors times one
block find it in the cache). Blocks only grow at the end and a removed column is zeroed, so whoever
matches meanwhile on an older snapshot sees no name on another person's embedding.
"""
from typing import List, NamedTuple, Optional, Sequence, Tuple

import numpy as np

FIRST_BLOCK = 64  # columns; blocks double up to LAST_BLOCK, so a small gallery stays small
LAST_BLOCK = 4096  # columns: 8 MB at 512 floats; measured best of 1024..8192 for one and for six faces
COMPACT_SHARE = 0.5  # of removed columns, beyond which the matrix is copied without them
NOBODY = -1


class Match(NamedTuple):
    """`person` is the nearest one whatever the similarity (None only in an empty gallery);
    `similarity` the cosine, -1..1, of that person's best embedding (0 in an empty gallery);
    `runner_up` the second person and `margin` the lead over that one (infinite without one).

    The Euclidean distance of unit embeddings that FaceNet users know is sqrt(2 - 2 similarity):
    a similarity of 0.5 is a distance of 1.0.
    """

    person: Optional[str]
    similarity: float
    runner_up: Optional[str]
    margin: float


class Snapshot(NamedTuple):
    """One state of the matrix; never changed once it is made."""

    blocks: Tuple[np.ndarray, ...]  # (D, width) float32 each
    count: int  # columns in use, over all blocks
    run_starts: np.ndarray  # first column of each run of columns of one person
    run_order: Optional[np.ndarray]  # runs sorted by person, without removed ones; None: they already are
    person_starts: Optional[np.ndarray]  # first of each person in that order; None: one run a person
    people: Tuple[int, ...]  # person ids in that order

    def similarities(self, embeddings: np.ndarray) -> np.ndarray:
        """(N, D) float32 -> (N, P) float32: the best cosine of each person."""
        scores = np.empty((len(embeddings), self.count), np.float32)
        left = 0
        for block in self.blocks:
            width = min(block.shape[1], self.count - left)
            for row, embedding in zip(scores, embeddings):
                np.dot(embedding, block[:, :width], out=row[left : left + width])
            left += width
        best = np.maximum.reduceat(scores, self.run_starts, axis=1)
        if self.run_order is not None:
            best = best[:, self.run_order]
        return best if self.person_starts is None else np.maximum.reduceat(best, self.person_starts, axis=1)


EMPTY = Snapshot((), 0, np.zeros(0, int), None, None, ())


class Matrix:
    """Columns of embeddings with their ids and people; `snapshot` is replaced as a whole."""

    def __init__(self, dimension: int) -> None:
        self.dimension = dimension
        self.snapshot = EMPTY
        self.ids = np.zeros(0, np.int64)  # ascending
        self.owners = np.zeros(0, np.int64)
        self._blocks = []  # type: List[np.ndarray]
        self._capacity = 0

    def append(self, ids: Sequence[int], owners: Sequence[int], rows: np.ndarray) -> None:
        """Add embeddings `rows` (N, D) float32; `ids` must ascend from those that are there.
        Call `publish` after the last one."""
        left = len(self.ids)
        done = 0
        while done < len(rows):
            if left == self._capacity:
                width = min(LAST_BLOCK, max(FIRST_BLOCK, self._capacity))
                self._blocks.append(np.zeros((self.dimension, width), np.float32))
                self._capacity += width
            block = self._blocks[-1]
            column = block.shape[1] - (self._capacity - left)
            part = rows[done : done + block.shape[1] - column]
            block[:, column : column + len(part)] = part.T
            left += len(part)
            done += len(part)
        self.ids = np.concatenate([self.ids, np.asarray(ids, np.int64)])
        self.owners = np.concatenate([self.owners, np.asarray(owners, np.int64)])

    def keep(self, ids: np.ndarray, owners: np.ndarray) -> None:
        """Drop every embedding that is not in `ids` (ascending) and hand the others to `owners`.
        Call `publish` after it."""
        place = np.searchsorted(ids, self.ids)
        kept = place < len(ids)
        kept[kept] = ids[place[kept]] == self.ids[kept]
        for column in np.flatnonzero(~kept & (self.owners != NOBODY)):
            block, inside = self._locate(int(column))
            block[:, inside] = 0
        changed = np.full(len(self.ids), NOBODY, np.int64)
        changed[kept] = owners[place[kept]]
        self.owners = changed
        if np.count_nonzero(~kept) > max(COMPACT_SHARE * len(kept), FIRST_BLOCK):
            self._compact()

    def publish(self) -> None:
        """Make what was appended and kept visible to `snapshot`'s readers."""
        alive = self.owners != NOBODY
        if not alive.any():
            self.snapshot = EMPTY
            return
        run_starts = np.flatnonzero(np.concatenate([[True], self.owners[1:] != self.owners[:-1]]))
        run_owner = self.owners[run_starts]
        order = np.argsort(run_owner, kind="stable")
        order = order[run_owner[order] != NOBODY]
        owner = run_owner[order]
        first = np.flatnonzero(np.concatenate([[True], owner[1:] != owner[:-1]]))
        sorted_already = len(order) == len(run_starts) and bool((order[1:] > order[:-1]).all())
        self.snapshot = Snapshot(
            tuple(self._blocks),
            len(self.ids),
            run_starts,
            None if sorted_already else order,
            None if len(first) == len(owner) else first,
            tuple(owner[first].tolist()),
        )

    def _locate(self, column: int) -> Tuple[np.ndarray, int]:
        for block in self._blocks:
            if column < block.shape[1]:
                return block, column
            column -= block.shape[1]
        raise IndexError(column)

    def _compact(self) -> None:
        alive = np.flatnonzero(self.owners != NOBODY)
        ids, owners, old = self.ids[alive], self.owners[alive], self._blocks
        self.ids, self.owners = np.zeros(0, np.int64), np.zeros(0, np.int64)
        self._blocks, self._capacity = [], 0
        left = 0
        for block in old:
            inside = (alive >= left) & (alive < left + block.shape[1])
            self.append(ids[inside], owners[inside], block[:, alive[inside] - left].T)
            left += block.shape[1]


def nearest(similarities: np.ndarray, names: Sequence[str]) -> List[Match]:
    """(N, P) similarities to P people -> one Match for each of the N embeddings."""
    if not names:
        return [Match(None, 0.0, None, float("inf")) for _ in range(len(similarities))]
    rows = np.arange(len(similarities))
    best = similarities.argmax(axis=1)
    score = similarities[rows, best]
    if len(names) == 1:
        return [Match(names[0], float(value), None, float("inf")) for value in score]
    others = similarities.copy()
    others[rows, best] = -np.inf
    second = others.argmax(axis=1)
    lead = score - others[rows, second]
    return [Match(names[a], float(s), names[b], float(m)) for a, s, b, m in zip(best, score, second, lead)]
