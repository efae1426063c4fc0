"""The embedders that ship: each file has its record, is small enough, and needs nothing from elsewhere."""

import hashlib
import json

import pytest

from engines import catalogue
from engines.build import ensure
from engines.catalogue import MODELS
from tests import ROOT

OWN = ("own", "own_tiny")


@pytest.mark.parametrize("name", OWN)
def test_each_file_has_its_record(name: str) -> None:
    (source,) = catalogue.files(name)["embedder"]
    path = MODELS / source["file"]
    line = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert digest == source["sha256"] == line["sha256"]
    assert digest in path.with_suffix(".md").read_text(encoding="utf-8")
    assert len(line["revision"]) == 40 and "seed" in line["recipe"] and line["metrics"]["accuracy"] > 0.9


@pytest.mark.parametrize("name", OWN)
def test_it_needs_nothing_from_elsewhere(name: str, monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("KIOSK_MODELS", str(tmp_path))
    assert ensure(name)["embedder"].parent == MODELS


def test_all_that_ships_is_at_most_16_mb() -> None:
    assert sum(path.stat().st_size for path in (ROOT / "engines" / "models").glob("*.onnx")) <= 16e6
