"""How long a look into a large gallery takes, beside one pass over the same numbers.

    python -m benchmarks.search                     100,000 embeddings of 512 floats
    python -m benchmarks.search --rows 1000000 --no-database

The yardstick is `matrix.sum()` over the same float32 matrix in the same run: whoever looks at every
number once cannot be quicker than the memory. Both are taken in turns and the medians compared.
"""
import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Callable, Dict, List

import numpy as np

from gallery.database import Database
from gallery.match import Matrix, nearest
from gallery.records import Records
from gallery.store import Gallery
from settings import Settings

EACH = 5  # embeddings a person
ROUNDS = 21


def units(rows: int, dimension: int, seed: int = 1) -> np.ndarray:
    numbers = np.random.RandomState(seed).standard_normal((rows, dimension)).astype(np.float32)
    for row in range(0, rows, 4096):  # in parts: a million rows in one go would take the memory twice
        part = numbers[row : row + 4096]
        part /= np.linalg.norm(part, axis=1, keepdims=True)
    return numbers


def in_turns(cases: Dict[str, Callable[[], object]], rounds: int = ROUNDS) -> Dict[str, float]:
    """Median milliseconds of each case; taken in turns, so that a busy moment hits all alike."""
    times: Dict[str, List[float]] = {name: [] for name in cases}
    for _ in range(rounds):
        for name, case in cases.items():
            started = time.perf_counter()
            case()
            times[name].append(time.perf_counter() - started)
    return {name: 1000 * float(np.median(taken)) for name, taken in times.items()}


def search(rows: int, dimension: int) -> Dict[str, float]:
    numbers = units(rows, dimension)
    matrix = Matrix(dimension)
    for row in range(0, rows, 4096):
        ids = np.arange(row, min(row + 4096, rows)) + 1
        matrix.append(ids.tolist(), ((ids - 1) // EACH + 1).tolist(), numbers[row : row + 4096])
    matrix.publish()
    names = [str(person) for person in matrix.snapshot.people]
    queries = units(6, dimension, seed=2)

    def match(count: int) -> Callable[[], object]:
        return lambda: nearest(matrix.snapshot.similarities(queries[:count]), names)

    result = in_turns({"sum_ms": lambda: numbers.sum(), "one_ms": match(1), "six_ms": match(6)})
    result["one_passes"] = result["one_ms"] / result["sum_ms"]
    result["six_passes"] = result["six_ms"] / result["sum_ms"]
    return result


def start_up(rows: int, dimension: int) -> Dict[str, float]:
    """Seconds to open a database of so many embeddings, after a first time (the file is cached)."""
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings()
        settings.gallery.database = str(Path(folder) / "gallery.db")
        records = Records(Path(settings.gallery.database))
        numbers = units(rows, dimension)
        _fill(records.db, numbers)
        records.close()
        seconds = []
        for _ in range(3):
            started = time.perf_counter()
            with Gallery.open(settings, "m", dimension, 0.4) as gallery:
                seconds.append(time.perf_counter() - started)
                found = gallery.match(numbers[-1:])[0]
        if found.similarity < 0.999 or gallery.count != -(-rows // EACH):
            raise SystemExit("the gallery that was read is not the one that was written")
        size = Path(settings.gallery.database).stat().st_size
    return {"open_s": float(np.median(seconds)), "database_mb": size / 1e6}


def _fill(db: Database, numbers: np.ndarray) -> None:
    with db.transaction():
        people = -(-len(numbers) // EACH)
        names = ((number, str(number)) for number in range(1, people + 1))
        db.write_many("INSERT INTO people (id, name, added) VALUES (?, ?, 0)", names)
        db.write_many(
            "INSERT INTO embeddings (person, model, quality, source, added, vector) VALUES (?, 'm', 1, 'import', 0, ?)",
            ((row // EACH + 1, numbers[row].tobytes()) for row in range(len(numbers))),
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[1000, 10000, 100000])
    parser.add_argument("--dimension", type=int, default=512)
    parser.add_argument("--no-database", action="store_true", help="skip the time to open the database")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    results = {}
    for rows in arguments.rows:
        results[rows] = search(rows, arguments.dimension)
        line = "{:>9} x {}: sum {sum_ms:8.3f} ms | one face {one_ms:8.3f} ms = {one_passes:.2f} passes | " \
               "six faces {six_ms:8.3f} ms = {six_passes:.2f} passes"  # fmt: skip
        print(line.format(rows, arguments.dimension, **results[rows]), file=sys.stderr)
    if not arguments.no_database:
        rows = max(arguments.rows)
        results[rows].update(start_up(rows, arguments.dimension))
        print("{:>9} x {}: opened in {open_s:.2f} s, {database_mb:.0f} MB".format(
            rows, arguments.dimension, **results[rows]), file=sys.stderr)  # fmt: skip
    if arguments.json:
        print(json.dumps(results))


if __name__ == "__main__":
    main()
