"""The gallery on a real file: enrolling, other processes, damage, a disk that takes nothing."""
import contextlib
import os
import shutil
import sqlite3
import stat
import subprocess
import sys
import tempfile
import unicodedata
from pathlib import Path
from typing import Iterator

import numpy as np
import pytest

from errors import GalleryError, StorageError, UsageError
from gallery.records import Records, clean_name
from gallery.store import Gallery
from settings import Settings
from tests import ROOT
from tests.doubles.recognizer import DIMENSION, embedding
from tests.gallery.conftest import open_gallery


def enroll(gallery: Gallery, name: str, hue: int, seeds: range = range(2)) -> None:
    rows = np.stack([embedding(hue, seed) for seed in seeds])
    gallery.enroll(name, rows, [0.9] * len(rows), "camera", chips=np.full((len(rows), 8, 8, 3), hue, np.uint8))


def who(gallery: Gallery, hue: int) -> str:
    return str(gallery.match(embedding(hue, 9)[np.newaxis])[0].person)


def test_enrolled_people_are_matched_at_once_and_after_opening_again(gallery: Gallery, settings: Settings) -> None:
    assert gallery.match(embedding(1)[np.newaxis])[0].person is None
    enroll(gallery, " Zoe\u0308 ", 1)
    enroll(gallery, "Οδυσσέας", 2)
    with open_gallery(settings) as again:
        for opened in (gallery, again):
            match = opened.match(np.stack([embedding(1), embedding(2, 9)]))
            assert [one.person for one in match] == ["Zoë", "Οδυσσέας"]
            assert match[0].runner_up == "Οδυσσέας"
            assert match[0].similarity == pytest.approx(1.0, abs=1e-5)
            assert [(one.name, one.embeddings) for one in opened.people()] == [("Zoë", 2), ("Οδυσσέας", 2)]
            assert opened.count == 2
            assert opened.similarity_to("Zoe\u0308", embedding(1)[np.newaxis]) == pytest.approx(1.0, abs=1e-5)
            assert opened.similarity_to("nobody", embedding(1)[np.newaxis]) is None


def test_no_faces_give_no_matches(gallery: Gallery) -> None:
    assert gallery.match(np.zeros((0, DIMENSION), np.float32)) == []


def test_only_its_owner_reads_it(gallery: Gallery, settings: Settings) -> None:
    enroll(gallery, "A", 1)
    database = Path(settings.gallery.database)
    files = [database, Path(str(database) + "-wal"), Path(str(database) + "-shm")]
    assert [stat.S_IMODE(file.stat().st_mode) for file in files] == [0o600] * 3
    assert stat.S_IMODE(database.parent.stat().st_mode) == 0o700


@pytest.mark.parametrize("name", ["", "  ", "a/b", "a\\b", "a\nb", ".hidden", "x" * 65, "\u202eevil", "\x00", "\ud800"])
def test_a_name_that_cannot_be_a_folder_is_refused(gallery: Gallery, name: str) -> None:
    with pytest.raises(UsageError, match="cannot be a name"):
        gallery.enroll(name, embedding(1)[np.newaxis], [1.0], "camera")
    assert gallery.people() == []


@pytest.mark.parametrize(
    "name", ["Zoë", "Ζωή Παπαδοπούλου", "Дмитрий", "李小龍", "نی\u200cنا", "x" * 64, "O'Neil; DROP TABLE people"]
)
def test_names_of_all_scripts_come_back_as_they_were(gallery: Gallery, name: str) -> None:
    enroll(gallery, name, 1)
    assert gallery.people()[0].name == unicodedata.normalize("NFC", name) == who(gallery, 1)


@pytest.mark.parametrize(
    "rows, qualities",
    [
        (np.ones((1, DIMENSION), np.float32), [1.0]),
        (np.full((1, DIMENSION), np.nan, np.float32), [1.0]),
        (np.stack([embedding(1), embedding(2)]), [1.0]),
        (embedding(1), [1.0]),
        (np.eye(3, dtype=np.float32), [1.0] * 3),
    ],
    ids=["not unit", "nan", "a quality is missing", "one dimension", "another model's length"],
)
def test_wrong_arrays_store_nothing(gallery: Gallery, rows: np.ndarray, qualities: list) -> None:
    with pytest.raises(UsageError):
        gallery.enroll("A", rows, qualities, "camera")
    assert gallery.people() == [] and gallery.count == 0


def test_embeddings_of_another_model_are_never_compared(gallery: Gallery, settings: Settings) -> None:
    enroll(gallery, "A", 1)
    with Gallery.open(settings, "other", DIMENSION, 0.4) as other:
        assert other.count == 0 and other.match(embedding(1)[np.newaxis])[0].person is None
        assert [(one.name, one.embeddings) for one in other.people()] == [("A", 0)]
        other.enroll("B", embedding(1)[np.newaxis], [1.0], "camera")
        assert who(other, 1) == "B"
    gallery.changed(1e9)
    assert who(gallery, 1) == "A" and gallery.count == 1


def test_changes_of_another_process_are_noticed(gallery: Gallery, settings: Settings) -> None:
    enroll(gallery, "A", 1)
    assert gallery.changed(0) and not gallery.changed(0.1)
    script = (
        "import sys, numpy as np\n"
        "from tests.doubles.recognizer import embedding, FakeRecognizer\n"
        "from gallery.store import Gallery\n"
        "from settings import load\n"
        "g = Gallery.open(load('config.yaml', sys.argv[1:]), 'fake', 64, 0.5)\n"
        "g.enroll('B', embedding(2)[np.newaxis], [1.0], 'camera')\n"
        "g.records.delete('A')\n"
        "g.close()\n"
    )
    subprocess.check_call(
        [sys.executable, "-c", script, "gallery.database=" + settings.gallery.database], cwd=str(ROOT)
    )
    assert who(gallery, 1) == "A"
    assert not gallery.changed(0.2)  # looks no more than twice a second
    assert gallery.changed(0.6) and not gallery.changed(1.2)
    assert who(gallery, 2) == "B" and gallery.count == 1


def test_renaming_elsewhere_changes_the_name_here(gallery: Gallery, settings: Settings) -> None:
    enroll(gallery, "A", 1)
    enroll(gallery, "B", 2)
    with Records(Path(settings.gallery.database)) as other:
        other.rename("A", "Anna")
        other.merge("B", "Anna")
    assert gallery.changed(0)
    assert who(gallery, 1) == who(gallery, 2) == "Anna" and gallery.count == 1


def test_enrolling_after_another_process_did_misses_nobody(gallery: Gallery, settings: Settings) -> None:
    with open_gallery(settings) as other:
        enroll(other, "B", 2)
        enroll(gallery, "A", 1)
        enroll(other, "C", 3)
        other.changed(0), gallery.changed(0)
        for opened in (gallery, other):
            assert [who(opened, hue) for hue in (1, 2, 3)] == ["A", "B", "C"]


def test_last_seen_is_written_on_closing_and_never_goes_back(gallery: Gallery, settings: Settings) -> None:
    enroll(gallery, "A", 1)
    gallery.seen(["A"], 2000.0)
    with open_gallery(settings) as other:
        other.seen("A", 1000.0)
    gallery.close()
    with open_gallery(settings) as again:
        assert again.people()[0].last_seen == 2000.0


def test_last_seen_is_written_once_a_minute(gallery: Gallery) -> None:
    enroll(gallery, "A", 1)
    for when in (100.0, 130.0):
        gallery.seen(["A"], when)
    assert gallery._writer is None
    gallery.seen(["A"], 161.0)
    assert gallery._writer is not None
    gallery._writer.join()
    assert gallery.people()[0].last_seen == 161.0


@pytest.mark.parametrize("damage", ["text", "page", "vector"])
def test_a_damaged_file_is_an_error_and_stays_as_it_is(settings: Settings, damage: str) -> None:
    database = Path(settings.gallery.database)
    with open_gallery(settings) as gallery:
        for hue in range(8):
            enroll(gallery, "P{}".format(hue), hue, range(30))
    data = bytearray(database.read_bytes())
    if damage == "text":
        data = bytearray(b"not a database, " * 100)
    elif damage == "page":
        data[16384:-16384] = bytes(len(data) - 2 * 16384)
    else:
        at = data.index(embedding(3, 7).tobytes())
        data[at + 10 : at + 60] = b"\x7f" * 50
    database.write_bytes(bytes(data))
    with pytest.raises(GalleryError) as error:
        open_gallery(settings)
    assert str(database) in str(error.value)
    assert database.read_bytes() == bytes(data)


def test_another_programs_database_is_not_touched(settings: Settings) -> None:
    database = Path(settings.gallery.database)
    database.parent.mkdir()
    conn = sqlite3.connect(str(database))
    conn.execute("CREATE TABLE people (mine TEXT)")
    conn.commit()
    conn.close()
    before = database.read_bytes()
    with pytest.raises(GalleryError, match="another program"):
        open_gallery(settings)
    assert database.read_bytes() == before


def test_a_newer_kiosks_database_is_not_touched(settings: Settings) -> None:
    with open_gallery(settings) as gallery, gallery.records.db.transaction() as db:
        db.write("INSERT INTO migrations VALUES ('from_the_future', 0)")
    with pytest.raises(GalleryError, match="newer"):
        open_gallery(settings)


def test_an_empty_file_is_a_new_gallery(settings: Settings) -> None:
    """A kill between making the file and filling it leaves this."""
    Path(settings.gallery.database).parent.mkdir()
    Path(settings.gallery.database).touch()
    with open_gallery(settings) as gallery:
        enroll(gallery, "A", 1)
        assert gallery.problem is None and gallery.count == 1


def test_a_full_disk_stores_nothing_and_forgets_nobody(gallery: Gallery) -> None:
    enroll(gallery, "A", 1)
    pages = gallery.records.db.read("PRAGMA page_count")[0][0]
    gallery.records.db.read("PRAGMA max_page_count = {}".format(pages))
    with pytest.raises(StorageError, match="full"):
        for seed in range(300):
            enroll(gallery, "B", 2, range(seed, seed + 10))
    stored = gallery.people()
    assert who(gallery, 1) == "A" and "full" in str(gallery.problem)
    gallery.records.db.read("PRAGMA max_page_count = 100000")
    enroll(gallery, "C", 3)
    assert gallery.problem is None
    assert [one for one in gallery.people() if one.name != "C"] == stored


@contextlib.contextmanager
def as_nobody() -> Iterator[None]:
    """File permissions do not bind root."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def read_only(settings: Settings) -> Iterator[Settings]:
    """A gallery with one person in a folder that cannot be written."""
    work = Path(tempfile.mkdtemp())  # not tmp_path, whose parents only root enters
    settings.gallery.database = str(work / "gallery.db")
    with open_gallery(settings) as gallery:
        enroll(gallery, "A", 1)
    (work / "gallery.db").chmod(0o444)
    work.chmod(0o555)
    yield settings
    work.chmod(0o755)
    shutil.rmtree(str(work))


def test_a_read_only_gallery_recognises_and_says_what_it_cannot_do(read_only: Settings) -> None:
    with as_nobody(), open_gallery(read_only) as gallery:
        assert who(gallery, 1) == "A"
        assert "cannot be written" in str(gallery.problem)
        with pytest.raises(StorageError, match="cannot be written"):
            enroll(gallery, "B", 2)
        gallery.seen(["A"], 5.0)
        assert not gallery.changed(0) and gallery.count == 1 and who(gallery, 1) == "A"


def test_a_place_that_takes_no_file_still_lets_the_kiosk_run(read_only: Settings) -> None:
    read_only.gallery.database = str(Path(read_only.gallery.database).with_name("other.db"))
    with as_nobody(), open_gallery(read_only) as gallery:
        assert gallery.count == 0 and "cannot be written" in str(gallery.problem)
        with pytest.raises(StorageError):
            enroll(gallery, "B", 2)


def test_a_file_that_is_taken_away_is_noticed(gallery: Gallery, settings: Settings) -> None:
    enroll(gallery, "A", 1)
    gallery.changed(0)
    os.remove(settings.gallery.database)
    gallery.changed(1)
    assert "moved or replaced" in str(gallery.problem) and who(gallery, 1) == "A"


def test_clean_name_is_stable() -> None:
    assert clean_name(clean_name(" Zoe\u0308 ")) == "Zo\xeb"
