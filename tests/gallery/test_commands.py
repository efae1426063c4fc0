"""python -m gallery, on real files; only the recognizer of `enroll` is the drawn squares' one."""
import json
import os
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Callable, List, Tuple

import numpy as np
import pytest

from gallery.__main__ import main, parser
from gallery.photos import PhotoEnroller, scan
from gallery.records import Records
from gallery.store import Gallery
from settings import Settings
from tests import ROOT
from tests.doubles.recognizer import FakeRecognizer, embedding, portrait
from tests.gallery.conftest import open_gallery

Command = Callable[..., Tuple[int, str, str]]


@pytest.fixture
def command(settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> Command:
    monkeypatch.setattr("engines.recognizer.Recognizer", FakeRecognizer)

    def run(*words: str) -> Tuple[int, str, str]:
        code = main(["--set", "gallery.database=" + settings.gallery.database,
                     "--set", "gallery.photos=" + settings.gallery.photos,
                     "--set", "embedder.model=fake", *words])  # fmt: skip
        out, err = capsys.readouterr()
        return code, out, err

    return run


@pytest.fixture
def folder(settings: Settings) -> Path:
    """Two photos of Anna, one of Bob, one file that is no picture."""
    path = Path(settings.gallery.photos)
    portrait(path / "Anna" / "1.png", 1)
    portrait(path / "Anna" / "2.png", 1, seed=2)
    portrait(path / "Bob.png", 2)
    (path / "Bob").mkdir()
    (path / "Bob" / "notes.jpg").write_text("text")
    return path


@pytest.fixture
def enrolled(command: Command, folder: Path) -> Path:
    assert command("enroll")[0] == 0
    return folder


def keys(folder: Path) -> List[str]:
    return sorted(photo.key for photo in scan(folder))


def test_list_and_show(command: Command, enrolled: Path) -> None:
    code, out, _ = command("list")
    assert code == 0 and [line.split()[:3] for line in out.splitlines()[1:]] == [["Anna", "2", "2"], ["Bob", "1", "1"]]
    people = json.loads(command("list", "--json")[1])["people"]
    assert [one["name"] for one in people] == ["Anna", "Bob"] and people[0]["last_seen"] is None
    code, out, _ = command("show", "Bob")
    assert code == 0 and "unreadable" in out and "chip kept" in out
    shown = json.loads(command("--json", "show", "Bob")[1])
    assert [photo["outcome"] for photo in shown["photos"]] == ["enrolled", "refused"]
    assert shown["embeddings"][0]["photo"] == "Bob.png" and shown["embeddings"][0]["chip"] is True


def test_enroll_reports_every_photo(command: Command, folder: Path) -> None:
    code, out, _ = command("enroll")
    assert code == 0
    assert sorted(out.splitlines()[:4]) == [
        "enrolled  Anna/1.png",
        "enrolled  Anna/2.png",
        "enrolled  Bob.png",
        "refused   Bob/notes.jpg: unreadable: it is not a picture",
    ]
    report = json.loads(command("enroll", "--json")[1])
    assert (report["total"], report["unchanged"], report["enrolled"]) == (4, 4, 0)


def test_enroll_named_photos(command: Command, folder: Path, tmp_path: Path) -> None:
    outside = portrait(tmp_path / "camera" / "c.png", 3)
    code, out, _ = command("enroll", "Carl", str(outside))
    assert code == 0 and out.startswith("enrolled  " + str(outside))
    code, out, _ = command("enroll", "Carla", str(outside.parent))
    assert code == 1 and "looks like Carl at" in out
    assert command("enroll", "Carla", str(outside), "--anyway")[0] == 0
    assert command("enroll", "Dora", str(tmp_path / "missing.jpg"))[0] == 1
    assert command("enroll", "Dora")[0] == 2
    assert [one["name"] for one in json.loads(command("list", "--json")[1])["people"]] == ["Carla"]


def test_rename_moves_the_photos(command: Command, enrolled: Path) -> None:
    code, out, _ = command("rename", "Anna", "Zoë")
    assert code == 0 and keys(enrolled) == ["Bob.png", "Bob/notes.jpg", "Zoë/1.png", "Zoë/2.png"]
    assert not (enrolled / "Anna").exists() and "Zoë/1.png" in out
    assert command("rename", "Bob", "Rob")[0] == 0
    assert keys(enrolled)[:2] == ["Rob.png", "Rob/notes.jpg"]
    report = json.loads(command("enroll", "--json")[1])
    assert report["unchanged"] == 4
    code, _, err = command("rename", "Zoë", "Rob")
    assert code == 2 and "merge" in err and "Zoë/1.png" in keys(enrolled)


def test_merge_moves_the_photos_and_loses_none(command: Command, enrolled: Path) -> None:
    portrait(enrolled / "Bob" / "1.png", 2, seed=9)
    command("enroll")
    code, _, _ = command("merge", "Bob", "Anna", "--json")
    assert code == 0
    assert keys(enrolled) == ["Anna.png", "Anna/1-2.png", "Anna/1.png", "Anna/2.png", "Anna/notes.jpg"]
    assert not (enrolled / "Bob").exists()
    people = json.loads(command("list", "--json")[1])["people"]
    assert [(one["name"], one["embeddings"]) for one in people] == [("Anna", 4)]
    assert json.loads(command("enroll", "--json")[1])["unchanged"] == 5
    assert command("merge", "Anna", "Anna")[0] == 2


def test_a_move_that_fails_changes_nothing(command: Command, enrolled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rename = os.rename

    def failing(old: str, new: str) -> None:
        if old.endswith("2.png"):
            raise PermissionError(13, "Permission denied", old)
        rename(old, new)

    monkeypatch.setattr(os, "rename", failing)
    before = keys(enrolled)
    code, _, err = command("rename", "Anna", "Zoë")
    assert code == 1 and "Permission denied" in err and keys(enrolled) == before
    assert [one["name"] for one in json.loads(command("list", "--json")[1])["people"]] == ["Anna", "Bob"]


def traces(settings: Settings) -> Callable[[bytes], List[str]]:
    """Which of the database's files hold some bytes."""
    database = Path(settings.gallery.database)

    def where(needle: bytes) -> List[str]:
        files = [file for file in sorted(database.parent.glob(database.name + "*")) if file.is_file()]
        return [file.name for file in files if needle in file.read_bytes()]

    return where


def needles(settings: Settings, name: str) -> List[bytes]:
    """The person's name, path, embeddings and chips, as they stand in the file."""
    with Records(Path(settings.gallery.database)) as records:
        rows = records.embeddings(name, chips=True)
        assert rows
        hashes = [row.hash.encode() for row in records.photos("person = ?", [name])]
    chips = [row.chip[8:] for row in rows if row.chip]  # after the eight bytes that every PNG begins with
    return [name.encode(), *hashes, *chips, *(row.vector.tobytes() for row in rows)]


@pytest.mark.parametrize("reading", [False, True], ids=["alone", "while the kiosk reads"])
def test_delete_removes_every_trace(command: Command, folder: Path, settings: Settings, reading: bool) -> None:
    name = "Annabella Quetzalcoatl"
    (folder / "Anna").rename(folder / name)
    portrait(folder / "Carl" / "like.png", 1, seed=3)  # whose report names her
    with open_gallery(settings) as kiosk:
        PhotoEnroller(kiosk, FakeRecognizer(), settings).run()
        enrolled = embedding(1, 50)
        kiosk.enroll(name, enrolled[np.newaxis], [1.0], "camera", chips=np.full((1, 9, 9, 3), 77, np.uint8))
        trace, things = traces(settings), needles(settings, name)
        if not reading:
            kiosk.close()
        assert all(trace(thing) for thing in things)
        code, _, err = command("delete", name)
        assert code == 0, err
        assert name + "/1.png" in err  # listed before
        assert [trace(thing) for thing in things] == [[]] * len(things)
        assert not (folder / name).exists() and (folder / "Bob.png").exists()
        assert keys(folder) == ["Bob.png", "Bob/notes.jpg", "Carl/like.png"]
        if reading:
            assert kiosk.changed(1e9)
            assert kiosk.match(enrolled[np.newaxis])[0].person == "Bob"
            kiosk.seen("Bob", time.time())
    assert command("check")[0] == 0
    assert [trace(thing) for thing in things] == [[]] * len(things)
    assert command("delete", name)[0] == 2


def test_what_cannot_be_removed_yet_is_said_and_check_removes_it_later(
    command: Command, enrolled: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gallery.database.BUSY_S", 0.1)
    reader = sqlite3.connect(settings.gallery.database, isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM people").fetchone()  # holds on to an older state
    things = needles(settings, "Anna")
    code, out, err = command("delete", "Anna", "--json")
    assert code == 1 and json.loads(out)["scrubbed"] is False and "another program is reading" in err
    assert command("check")[0] == 1
    reader.execute("COMMIT")
    reader.close()
    assert command("check")[0] == 0
    assert [traces(settings)(thing) for thing in things] == [[]] * len(things)


def test_delete_keeping_the_photos_does_not_enrol_them_again(command: Command, enrolled: Path) -> None:
    code, out, _ = command("delete", "Anna", "--keep-photos")
    assert code == 0 and (enrolled / "Anna" / "1.png").exists() and "kept: " in out
    report = json.loads(command("enroll", "--json")[1])
    assert (report["ignored"], report["unchanged"]) == (2, 2)
    code, _, _ = command("enroll", "Anna", str(enrolled / "Anna" / "1.png"))  # asked for by name: not ignored any more
    assert code == 0
    assert json.loads(command("enroll", "--json")[1])["unchanged"] == 3


def test_delete_asks_on_a_terminal(command: Command, enrolled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal:
        def __init__(self, answer: str) -> None:
            self.answer = answer

        def isatty(self) -> bool:
            return True

        def readline(self) -> str:
            return self.answer

    monkeypatch.setattr(sys, "stdin", Terminal("n\n"))
    code, _, err = command("delete", "Anna")
    assert code == 2 and "Nothing was deleted" in err and "Anna/1.png" in keys(enrolled)
    monkeypatch.setattr(sys, "stdin", Terminal("yes\n"))
    assert command("delete", "Anna")[0] == 0 and "Anna/1.png" not in keys(enrolled)


def test_prune_forgets_removed_photos_and_whom_nothing_is_left_of(command: Command, enrolled: Path) -> None:
    assert command("prune")[1] == "nothing to remove\n"
    (enrolled / "Anna" / "1.png").unlink()
    (enrolled / "Bob.png").unlink()
    data = json.loads(command("prune", "--json")[1])
    assert data["removed"] == ["Anna/1.png", "Bob.png"] and data["forgotten"] == ["Bob"]
    people = json.loads(command("list", "--json")[1])["people"]
    assert [(one["name"], one["embeddings"]) for one in people] == [("Anna", 1)]


def test_prune_spares_those_who_were_enrolled_at_the_camera(
    command: Command, enrolled: Path, settings: Settings
) -> None:
    with open_gallery(settings) as gallery:
        gallery.enroll("Bob", embedding(2, 4)[np.newaxis], [1.0], "camera")
    (enrolled / "Bob.png").unlink()
    assert json.loads(command("prune", "--json")[1])["forgotten"] == []


def test_prune_does_not_take_a_lost_folder_for_an_empty_one(command: Command, enrolled: Path) -> None:
    for number in range(10):
        portrait(enrolled / "P{}.png".format(number), 3 + number, seed=number)
    command("enroll")
    enrolled.rename(enrolled.with_name("elsewhere"))
    assert command("prune")[0] == 2
    enrolled.mkdir()  # as an empty mount point
    code, _, err = command("prune")
    assert code == 2 and "--yes" in err
    assert len(json.loads(command("list", "--json")[1])["people"]) > 5
    assert command("prune", "--yes")[0] == 0 and json.loads(command("list", "--json")[1])["people"] == []


def test_prune_unseen_deletes_those_who_stayed_away(command: Command, enrolled: Path, settings: Settings) -> None:
    with Gallery.open(settings, "fake", 64, 0.5, clock=lambda: time.time() - 100 * 86400) as gallery:
        gallery.enroll("Old", embedding(5)[np.newaxis], [1.0], "camera")
        gallery.enroll("Back", embedding(6)[np.newaxis], [1.0], "camera")
        gallery.seen("Back", time.time() - 86400)
    portrait(enrolled / "Old.png", 5, seed=1)
    data = json.loads(command("prune", "--unseen", "90d", "--json")[1])
    assert data["forgotten"] == ["Old"] and data["deleted"] == [str(enrolled / "Old.png")]
    assert [one["name"] for one in json.loads(command("list", "--json")[1])["people"]] == ["Anna", "Back", "Bob"]
    assert command("prune", "--unseen", "ninety")[0] == 2


def test_all_commands_work_while_another_process_has_it_open(
    command: Command, enrolled: Path, settings: Settings
) -> None:
    with open_gallery(settings) as kiosk:
        command("rename", "Bob", "Rob")
        assert kiosk.changed(1e9) and kiosk.match(embedding(2, 3)[np.newaxis])[0].person == "Rob"
        kiosk.enroll("New", embedding(7)[np.newaxis], [1.0], "camera")
        assert "New" in command("list")[1]
        assert command("check", "--json")[0] == 0


def test_check_names_what_is_damaged(command: Command, enrolled: Path, settings: Settings) -> None:
    conn = sqlite3.connect(settings.gallery.database)
    conn.execute("UPDATE embeddings SET vector = zeroblob(256) WHERE id = 2")
    conn.commit()
    conn.close()
    code, out, err = command("check", "--json")
    assert code == 1 and json.loads(out)["sound"] is False and "embedding 2 of fake is damaged" in err
    Path(settings.gallery.database).write_bytes(b"rubbish " * 1000)
    code, _, err = command("check")
    assert code == 1 and err.startswith("error: ") and "is damaged" in err and err.count("\n") == 1


def test_check_tells_when_others_can_read(command: Command, enrolled: Path, settings: Settings) -> None:
    os.chmod(settings.gallery.database, 0o644)
    code, out, _ = command("check")
    assert code == 0 and "chmod 600" in out


@pytest.mark.parametrize("words", [["show", "Ana"], ["rename", "X", "Y"], ["delete", "Ana"], ["rename", "Anna", "a/b"],
                                   ["import", "missing.jsonl"], ["--set", "gallery.databas=x", "list"],
                                   ["export", "x", "--people", "Ana"]])  # fmt: skip
def test_wrong_use_is_one_line_and_exit_code_2(command: Command, enrolled: Path, words: List[str]) -> None:
    code, out, err = command(*words)
    assert code == 2 and out == "" and err.startswith("error: ") and err.count("\n") == 1
    if "Ana" in words:
        assert "did you mean Anna?" in err


def test_every_command_has_help() -> None:
    actions: Any = next(action for action in parser()._actions if action.dest == "command")
    expected = {"list", "show", "enroll", "rename", "merge", "delete", "prune", "export", "import", "backup", "check",
                "calibrate", "reembed"}  # fmt: skip
    assert set(actions.choices) == expected
    for name, one in actions.choices.items():
        text = one.format_help()
        assert one.description and "--json" in text, name


def test_as_a_program() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "gallery"], cwd=str(ROOT), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert done.returncode == 2 and b"examples:" in done.stderr
