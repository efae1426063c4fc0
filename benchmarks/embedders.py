#!/usr/bin/env python3
"""Milliseconds of embedders for one face and for six, in turns in one run, beside the first one named.

  benchmarks/embedders.py edgeface_xs own own_tiny
  benchmarks/embedders.py edgeface_xs own --batches 1 32 --threads 1
"""
import argparse
import sys
from functools import partial
from pathlib import Path
from typing import Callable, Dict, List, Optional

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.search import in_turns  # noqa: E402
from benchmarks.verification import open_embedders  # noqa: E402
from errors import guarded  # noqa: E402
from settings import load  # noqa: E402

ROUNDS = 60  # of which each embedder has one turn; the median counts
UNCOUNTED = 5


def main(arguments: Optional[List[str]] = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", metavar="NAME", help="of the catalogue; ratios are to the first")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 6], metavar="FACES")
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args(arguments)
    settings = load(ROOT / "config.yaml", ["threads={}".format(given.threads), "backend=onnx"])
    embedders = open_embedders(given.models, settings)
    for count in given.batches:
        chips = np.random.RandomState(0).randint(0, 256, (count, 112, 112, 3), np.uint8)
        cases: Dict[str, Callable[[], object]] = {
            name: partial(embedder.embed_chips, chips) for name, embedder in embedders.items()
        }
        in_turns(cases, UNCOUNTED)
        times = in_turns(cases, ROUNDS)
        first = times[given.models[0]]
        for name, middle in times.items():
            print("{} faces  {:<28} {:7.2f} ms  {:5.2f} times {}".format(
                count, name, middle, middle / first, given.models[0]))  # fmt: skip
    for embedder in embedders.values():
        embedder.close()
    return 0


if __name__ == "__main__":
    sys.exit(guarded(main))
