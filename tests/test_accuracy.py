"""How often pairs of photos are rightly told apart: fails when a figure falls by more than half a point.

The figures are those of benchmarks/lfw.py (whole pipeline, 1,000 LFW development pairs, 10 folds).
"""
import pytest

from benchmarks.lfw import embed, judge, open_embedders, read_pairs
from settings import load
from tests import ROOT, shared

MEASURED = {"own": 0.995, "edgeface_xs": 0.993, "edgeface_xxs": 0.994, "mobilefacenet_foamliu": 0.991,
            "mobilefacenet_insightface": 0.990}  # fmt: skip
NOISE = 0.005


@pytest.fixture(scope="module")
def figures(shared_models):
    folder = shared("lfw_dev")
    settings = load(ROOT / "config.yaml")
    pairs = read_pairs(folder)
    assert len(pairs) == 1000 and sum(same for _, _, same in pairs) == 500
    paths = sorted({path for pair in pairs for path in pair[:2]})
    embeddings = embed(folder, paths, open_embedders(list(MEASURED), settings), settings, progress=False)
    return {name: judge(pairs, found) for name, found in embeddings.items()}


@pytest.mark.parametrize("model", sorted(MEASURED))
def test_accuracy_has_not_dropped(figures, model):
    assert figures[model].missing == 0
    assert figures[model].accuracy >= MEASURED[model] - NOISE
