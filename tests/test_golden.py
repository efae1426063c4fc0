"""The golden figures: fails when a model has become worse on small fixed sets by more than the noise.

The records are in golden.json; 'benchmarks/golden.py --record MODEL' writes those of a new model.
"""
import pytest

from benchmarks import golden
from settings import load
from tests import ROOT, shared

RECORDS = golden.read()
FOLDERS = {"pairs": "lfw_dev", "strangers": "photos/strangers", "faces": "detection", "points": "photos/dlib_faces"}
CASES = [(name, model) for name, table in sorted(RECORDS.items()) for model in sorted(table)]


@pytest.mark.parametrize("name, model", CASES)
def test_no_figure_has_become_worse(shared_models, name, model):
    shared(FOLDERS[name])
    measure = golden.MEASUREMENTS[golden.kind_of(model)][name]
    assert golden.worse(measure(model), RECORDS[name][model]) == []


def test_the_defaults_are_recorded():
    settings = load(ROOT / "config.yaml")
    for kind, model in (("embedder", settings.embedder.model), ("detector", settings.detector.model)):
        for name in golden.MEASUREMENTS[kind]:
            assert model in RECORDS[name], "run benchmarks/golden.py --record {}".format(model)


def test_no_stranger_is_named_and_nearly_everybody_known_is():
    """The records that the kiosk is judged by: of 120 strangers at most one, of 66 other photos at least 64."""
    for model in ("edgeface_xs", load(ROOT / "config.yaml").embedder.model):
        record = RECORDS["strangers"][model]
        assert record["strangers"] <= 1 and record["known"] >= 64 and record["wrong"] == 0


def test_a_drop_is_noticed():
    record = {"accuracy": 0.99, "strangers": 0, "found": 41}
    assert golden.worse({"accuracy": 0.985, "strangers": 0, "found": 41}, record) == []
    lines = golden.worse({"accuracy": 0.98, "strangers": 1, "found": 40}, record)
    assert lines == ["accuracy was 0.99 and is 0.98", "strangers was 0 and is 1", "found was 41 and is 40"]
