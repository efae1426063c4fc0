"""The gallery in memory, and who an embedding is nearest to.

Exact search: a hundred thousand embeddings take less time than adding them up, and an index would
only lose matches. Embeddings stand as columns of blocks of 16, which one batched product runs
through at the speed of memory, for six faces as for one (an (n, D) matrix takes twice as long for
one face and four times as long for six, because OpenBLAS copies it first). Blocks are only added at the end
and a removed column is zeroed, so whoever matches meanwhile on an older snapshot never sees a name on
another person's embedding.
"""

import functools
from concurrent.futures import ThreadPoolExecutor
from typing import List, NamedTuple, Optional, Sequence, Tuple, Union

import numpy as np

WIDTH = 16  # columns a block; of 16..192 quick for one and for six faces, and too small for the BLAS to split
LARGEST_SLAB = 1024  # blocks allocated at a time, 32 MB at 512 floats; before that they double from 1
COMPACT_SHARE = 0.5  # of removed columns, beyond which the matrix is copied without them
MANY_SLABS = 11  # over 8,192 embeddings: from here on two threads (numpy lets go of the GIL) pay for themselves
NOBODY = -1
Ids = Union[Sequence[int], np.ndarray]


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

    slabs: Tuple[np.ndarray, ...]  # (blocks, D, WIDTH) float32 each; the end of the last may be unused
    columns: int  # in use, over all slabs
    run_starts: np.ndarray  # first column of each run of columns of one person
    run_order: Optional[np.ndarray]  # runs sorted by person, without removed ones; None: they already are
    person_starts: Optional[np.ndarray]  # first of each person in that order; None: one run a person
    people: Tuple[int, ...]  # person ids in that order

    def similarities(self, embeddings: np.ndarray) -> np.ndarray:
        """(N, D) float32 -> (N, P) float32: the best cosine of each person."""
        if len(self.slabs) < MANY_SLABS:
            parts = [np.matmul(embeddings, slab) for slab in self.slabs]  # (blocks, N, WIDTH) each
        else:
            parts = list(_pool().map(lambda slab: np.matmul(embeddings, slab), self.slabs))
        parts = [part.transpose(1, 0, 2).reshape(len(embeddings), -1) for part in parts]
        scores = parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)
        scores = scores[:, : self.columns]
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
        self._slabs: List[np.ndarray] = []
        self._blocks = 0  # in all slabs

    def append(self, ids: Ids, owners: Ids, rows: np.ndarray) -> None:
        """Add embeddings `rows` (N, D) float32; `ids` must ascend from those that are there.
        Call `publish` after the last one."""
        left = len(self.ids)
        while len(rows):
            if left == self._blocks * WIDTH:
                blocks = min(LARGEST_SLAB, max(1, self._blocks))
                self._slabs.append(np.zeros((blocks, self.dimension, WIDTH), np.float32))
                self._blocks += blocks
            slab = self._slabs[-1]
            block, column = divmod(left - (self._blocks - len(slab)) * WIDTH, WIDTH)
            if column or len(rows) < WIDTH:
                taken = min(WIDTH - column, len(rows))
                slab[block, :, column : column + taken] = rows[:taken].T
            else:
                whole = min(len(slab) - block, len(rows) // WIDTH)
                taken = whole * WIDTH
                parts = rows[:taken].reshape(whole, WIDTH, self.dimension)
                slab[block : block + whole] = parts.transpose(0, 2, 1)
            left += taken
            rows = rows[taken:]
        self.ids = np.concatenate([self.ids, np.asarray(ids, np.int64)])
        self.owners = np.concatenate([self.owners, np.asarray(owners, np.int64)])

    def keep(self, ids: np.ndarray, owners: np.ndarray) -> None:
        """Drop every embedding that is not in `ids` (ascending) and hand the others to `owners`.
        Call `publish` after it."""
        place = np.searchsorted(ids, self.ids)
        kept = place < len(ids)
        kept[kept] = ids[place[kept]] == self.ids[kept]
        for column in np.flatnonzero(~kept & (self.owners != NOBODY)):
            self._column(int(column))[:] = 0
        changed = np.full(len(self.ids), NOBODY, np.int64)
        changed[kept] = owners[place[kept]]
        self.owners = changed
        if np.count_nonzero(~kept) > max(COMPACT_SHARE * len(kept), WIDTH):
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
            self._used(),
            len(self.ids),
            run_starts,
            None if sorted_already else order,
            None if len(first) == len(owner) else first,
            tuple(owner[first].tolist()),
        )

    def _used(self) -> Tuple[np.ndarray, ...]:
        """The slabs, without blocks that hold nothing yet."""
        spare = self._blocks - -(-len(self.ids) // WIDTH)
        last = self._slabs[-1]
        return (*self._slabs[:-1], last[: len(last) - spare])

    def _column(self, column: int) -> np.ndarray:
        """The place of one embedding, (D,), to be written."""
        block, inside = divmod(column, WIDTH)
        for slab in self._slabs:
            if block < len(slab):
                return slab[block, :, inside]
            block -= len(slab)
        raise IndexError(column)

    def _compact(self) -> None:
        """Copy what is left into new slabs; older snapshots keep the old ones."""
        alive = np.flatnonzero(self.owners != NOBODY)
        ids, owners, old = self.ids[alive], self.owners[alive], self._slabs
        self.ids, self.owners = np.zeros(0, np.int64), np.zeros(0, np.int64)
        self._slabs, self._blocks = [], 0
        first = 0
        for slab in old:
            inside = (alive >= first) & (alive < first + len(slab) * WIDTH)
            block, column = np.divmod(alive[inside] - first, WIDTH)
            self.append(ids[inside], owners[inside], slab[block, :, column])
            first += len(slab) * WIDTH


@functools.lru_cache(maxsize=1)
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(2, "match")


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
