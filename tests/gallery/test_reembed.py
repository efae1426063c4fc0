"""python -m gallery reembed: nobody is forgotten by a change of model for whom anything is kept."""
import json
import shutil
from pathlib import Path
from typing import Callable, Tuple

import numpy as np
import pytest

from gallery.__main__ import main
from gallery.records import Records
from settings import Settings
from tests.doubles.recognizer import FakeRecognizer, embedding, picture, portrait

Command = Callable[..., Tuple[int, str, str]]


class Old(FakeRecognizer):
    model = "edgeface_xs"


class New(FakeRecognizer):
    model = "edgeface_xxs"  # of the same template
    chip_size = 24


class Elsewhere(FakeRecognizer):
    model = "facenet"  # of another template


@pytest.fixture
def command(settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> Command:
    def run(kind: type, *words: str) -> Tuple[int, str, str]:
        monkeypatch.setattr("engines.recognizer.Recognizer", kind)
        code = main(["--set", "gallery.database=" + settings.gallery.database,
                     "--set", "gallery.photos=" + settings.gallery.photos,
                     "--set", "embedder.model=" + kind.model, *words])  # type: ignore[attr-defined]  # fmt: skip
        out, err = capsys.readouterr()
        return code, out, err

    return run


@pytest.fixture
def people(command: Command, settings: Settings, tmp_path: Path) -> Path:
    """Anna from a photo in the folder, Bob from one outside it, Carl and Dora from the camera, Dora without chips."""
    folder = Path(settings.gallery.photos)
    portrait(folder / "Anna.png", 1)
    outside = portrait(tmp_path / "card" / "b.png", 2)
    assert command(Old, "enroll")[0] == 0 and command(Old, "enroll", "Bob", str(outside))[0] == 0
    chip = picture((3, 300))[100:116, 100:116]
    with Records(Path(settings.gallery.database)) as records:
        records.add("Carl", Old.model, embedding(3)[None], [0.8], "camera", chip[None])
        records.add("Dora", Old.model, embedding(4)[None], [0.8], "camera")
    return outside


def known(command: Command, kind: type) -> dict:
    listed = json.loads(command(kind, "list", "--json")[1])["people"]
    return {one["name"]: one["embeddings"] for one in listed}


def test_photos_and_kept_faces_move_and_who_is_left_is_named(command: Command, people: Path) -> None:
    assert "reembed" in command(New, "list")[2]
    code, out, err = command(New, "reembed")
    assert code == 1 and "Dora: nothing is left to embed for edgeface_xxs" in err
    assert out == "3 people are known to edgeface_xxs; new: 2 photos and 1 kept faces.\n"
    assert known(command, New) == {"Anna": 1, "Bob": 1, "Carl": 1, "Dora": 0}
    assert known(command, Old) == {"Anna": 1, "Bob": 1, "Carl": 1, "Dora": 1}


def test_a_kept_face_gives_the_new_models_embedding(command: Command, people: Path, settings: Settings) -> None:
    command(New, "reembed")
    with Records(Path(settings.gallery.database)) as records:
        old, new = records.embeddings("Carl", chips=True)
    assert (new.model, new.source, new.quality) == ("edgeface_xxs", "camera", 0.8)
    assert float(np.dot(new.vector, embedding(3))) > 0.7 and old.model == "edgeface_xs"


def test_again_changes_nothing(command: Command, people: Path) -> None:
    command(New, "reembed")
    report = json.loads(command(New, "reembed", "--json")[1])
    assert (report["photos"], report["chips"], report["without"]) == (0, 0, ["Dora"])
    assert known(command, New) == {"Anna": 1, "Bob": 1, "Carl": 1, "Dora": 0}


def test_a_photo_that_is_gone_leaves_its_face(command: Command, people: Path) -> None:
    shutil.rmtree(str(people.parent))
    assert command(New, "reembed")[1].endswith("new: 1 photos and 2 kept faces.\n")
    assert known(command, New)["Bob"] == 1


def test_faces_cut_after_another_template_do_not_serve(command: Command, people: Path) -> None:
    code, _, err = command(Elsewhere, "reembed")
    assert code == 1 and "Carl, Dora: nothing is left" in err
    assert known(command, Elsewhere) == {"Anna": 1, "Bob": 1, "Carl": 0, "Dora": 0}


def test_all_well_is_code_0(command: Command, settings: Settings) -> None:
    portrait(Path(settings.gallery.photos) / "Anna.png", 1)
    assert command(Old, "enroll")[0] == 0
    assert command(New, "reembed")[0] == 0
