from pathlib import Path
from typing import Iterator

import pytest

from gallery.store import Gallery
from settings import Settings, load
from tests import ROOT
from tests.doubles.recognizer import FakeRecognizer


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    work = tmp_path / "gallery"
    return load(
        ROOT / "config.yaml",
        ["gallery.database={}".format(work / "gallery.db"), "gallery.photos={}".format(work / "photos")],
    )


@pytest.fixture
def recognizer() -> FakeRecognizer:
    return FakeRecognizer()


@pytest.fixture
def gallery(settings: Settings) -> Iterator[Gallery]:
    with open_gallery(settings) as opened:
        yield opened


def open_gallery(settings: Settings) -> Gallery:
    fake = FakeRecognizer()
    return Gallery.open(settings, fake.model, fake.dimension, fake.threshold)
