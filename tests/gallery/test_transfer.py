import io
import json
import stat
from pathlib import Path
from typing import Iterator

import numpy as np
import pytest

from errors import UsageError
from gallery import transfer
from gallery.__main__ import main
from gallery.records import Records
from gallery.store import Gallery
from settings import Settings
from tests.doubles.recognizer import embedding
from tests.gallery.conftest import open_gallery


@pytest.fixture
def full(gallery: Gallery) -> Gallery:
    chips = np.random.RandomState(0).randint(0, 255, (2, 12, 12, 3)).astype(np.uint8)
    gallery.enroll("Zoë", np.stack([embedding(1), embedding(1, 1)]), [0.5, 0.6], "camera", chips=chips)
    gallery.enroll("Bob", embedding(2)[np.newaxis], [0.7], "camera")
    gallery.records.add("Bob", "other", np.eye(1, 5, dtype=np.float32), [0.8], "camera")
    return gallery


def text_of(gallery: Gallery) -> str:
    out = io.StringIO()
    transfer.write_people(gallery.records, out)
    return out.getvalue()


@pytest.fixture
def target(tmp_path: Path) -> Iterator[Records]:
    with Records(tmp_path / "target.db") as records:
        yield records


def test_an_export_carries_everything_that_recognises(full: Gallery, target: Records) -> None:
    done = transfer.read_people(target, io.StringIO(text_of(full)), "x")
    assert done == {"people": ["Bob", "Zoë"], "added": 4, "known": 0}
    for name in ("Bob", "Zoë"):
        for old, new in zip(full.records.embeddings(name, True), target.embeddings(name, True)):
            assert (old.model, old.quality, old.chip) == (new.model, new.quality, new.chip)
            assert np.array_equal(old.vector, new.vector) and new.source == "import"
    again = transfer.read_people(target, io.StringIO(text_of(full)), "x")
    assert (again["added"], again["known"]) == (0, 4)


@pytest.mark.parametrize(
    "spoil, reason",
    [
        (lambda lines: ["{}"] + lines[1:], "no export"),
        (lambda lines: ["not json"] + lines[1:], "line 1"),
        (lambda lines: [lines[0].replace('"version": 1', '"version": 9')] + lines[1:], "newer"),
        (lambda lines: lines[:2] + [lines[2][:200]], "line 3"),
        (lambda lines: lines[:2], "ends after 1 of 2"),
        (lambda lines: lines[:2] + [lines[2].replace('"vector": "', '"vector": "AAAA')], "line 3"),
        (lambda lines: lines[:2] + [json.dumps(dict(json.loads(lines[2]), name="a/b"))], "line 3"),
        (lambda lines: lines[:2] + [json.dumps({"name": "X", "embeddings": [{"model": "m"}]})], "line 3"),
    ],
)
def test_a_damaged_export_names_its_line_and_stores_no_half_person(full, target, spoil, reason) -> None:
    text = "\n".join(spoil(text_of(full).splitlines()))
    with pytest.raises(UsageError, match=reason):
        transfer.read_people(target, io.StringIO(text), "people.jsonl")
    assert [person.name for person in target.people("fake")] in ([], ["Bob"])
    assert transfer.unsound(target) == []


def test_by_command(full: Gallery, settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    file = tmp_path / "people.jsonl"
    start = ["--set", "gallery.database={}"]
    start[1] = start[1].format(settings.gallery.database)
    assert main([*start, "export", str(file), "--people", "Zoë", "--no-chips"]) == 0
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert json.loads(file.read_text(encoding="utf-8").splitlines()[1])["embeddings"][0]["chip"] is None
    other = ["--set", "gallery.database={}".format(tmp_path / "other.db")]
    capsys.readouterr()
    assert main([*other, "import", str(file), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["people"] == ["Zoë"]
    assert main([*other, "list"]) == 0
    assert "Zoë" in capsys.readouterr().out


def test_a_backup_is_a_whole_gallery(full: Gallery, settings: Settings, tmp_path: Path) -> None:
    file = tmp_path / "backup.db"
    full.records.db.read("SELECT 1")
    transfer.backup(full.records, file)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert sorted(path.name for path in tmp_path.glob("backup.db*")) == ["backup.db"]
    settings.gallery.database = str(file)
    with open_gallery(settings) as restored:
        assert restored.people() == full.people()
        assert restored.match(embedding(1)[np.newaxis])[0].person == "Zoë"
        assert transfer.unsound(restored.records) == []
        restored.enroll("New", embedding(4)[np.newaxis], [1.0], "camera")
    with pytest.raises(UsageError, match="already"):
        transfer.backup(full.records, file)
    full.enroll("Later", embedding(5)[np.newaxis], [1.0], "camera")
    assert full.count == 3
