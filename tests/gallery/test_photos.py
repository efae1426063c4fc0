"""Folders of real files, enrolled with a recognizer that knows coloured squares."""
import os
import threading
from pathlib import Path
from typing import Dict, List

import cv2
import numpy as np
import pytest

from errors import StorageError
from gallery.photos import BATCH, Photo, PhotoEnroller, key_of, path_of, scan
from gallery.report import SENTENCES, Report, Result
from gallery.store import Gallery
from gallery.watch import SETTLE_S, PhotoWatcher
from settings import Settings
from tests.doubles.recognizer import FakeRecognizer, embedding, picture, portrait
from tests.gallery.conftest import open_gallery


@pytest.fixture
def folder(settings: Settings) -> Path:
    path = Path(settings.gallery.photos)
    path.mkdir(parents=True)
    return path


def draw(path: Path, *faces: tuple) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), picture(*faces))


def outcomes(report: Report) -> Dict[str, str]:
    return {result.path: result.reason or result.outcome for result in report.results}


def known(gallery: Gallery, hue: int) -> str:
    return str(gallery.match(embedding(hue, 3)[np.newaxis])[0].person)


def test_the_layouts(folder: Path) -> None:
    for name in ("Zoë/1.jpg", "Zoë/2.PNG", "Bob.jpg", "../Carl.webp", "README.md", ".hidden.jpg", "Zoë/deep/3.jpg"):
        portrait(folder / name, 1) if not name.endswith(".md") else (folder / name).touch()
    found = [(photo.person, photo.key) for photo in scan(folder)]
    assert found == [("Carl", "../Carl.webp"), ("Bob", "Bob.jpg"), ("Zoë", "Zoë/1.jpg"), ("Zoë", "Zoë/2.PNG")]
    assert all(path_of(photo.key, folder) == photo.path and photo.path.exists() for photo in scan(folder))


def test_another_folder_takes_no_pictures_from_beside_it(tmp_path: Path) -> None:
    portrait(tmp_path / "holiday.jpg", 1)
    portrait(tmp_path / "people" / "Bob.jpg", 1)
    assert [photo.person for photo in scan(tmp_path / "people")] == ["Bob"]
    assert scan(tmp_path / "missing") == []
    assert key_of(tmp_path / "holiday.jpg", tmp_path / "people") == str(tmp_path / "holiday.jpg")


def test_every_photo_ends_as_enrolled_or_refused_with_a_reason(
    gallery: Gallery, recognizer: FakeRecognizer, settings: Settings, folder: Path
) -> None:
    portrait(folder / "Anna" / "1.png", 1)
    portrait(folder / "Anna" / "2.jpg", 1, seed=2)
    portrait(folder / "Bob.png", 2)
    portrait(folder / "Dora" / "as Bob.png", 2, seed=5)
    draw(folder / "Carl" / "behind.png", (3, 100), (4, 40))
    draw(folder / "Carl" / "beside.png", (3, 100), (4, 60))
    draw(folder / "Carl" / "far.png", (3, 20))
    draw(folder / "Carl" / "empty.png")
    (folder / "Carl" / "text.jpg").write_text("no picture")
    portrait(folder / ("x" * 70) / "1.png", 5)
    report = PhotoEnroller(gallery, recognizer, settings).run()
    assert outcomes(report) == {
        "Anna/1.png": "enrolled",
        "Anna/2.jpg": "enrolled",
        "Bob.png": "enrolled",
        "Dora/as Bob.png": "looks_like",
        "Carl/behind.png": "enrolled",
        "Carl/beside.png": "several_faces",
        "Carl/far.png": "too_small",
        "Carl/empty.png": "no_face",
        "Carl/text.jpg": "unreadable",
        "x" * 70 + "/1.png": "bad_name",
    }
    like = next(result for result in report.results if result.reason == "looks_like")
    assert like.other == "Bob" and like.sentence == "looks like Bob at {:.2f}".format(like.similarity or 0)
    assert [(one.name, one.embeddings, one.photos) for one in gallery.people()] == [
        ("Anna", 2, 2),
        ("Bob", 1, 1),
        ("Carl", 1, 1),
    ]
    assert [known(gallery, hue) for hue in (1, 2, 3)] == ["Anna", "Bob", "Carl"]
    rows = {row.path: row.reason or row.outcome for row in gallery.records.photos()}
    assert rows == outcomes(report)
    assert report.summary().startswith("4 enrolled, 6 refused (1 bad name, 1 looks like,")
    assert report.plain()["total"] == 10 and len(report.plain()["photos"]) == 10


def test_every_reason_has_a_sentence() -> None:
    from engines.quality import REASONS

    for reason in (*REASONS, "no_face", "several_faces", "unreadable", "looks_like", "bad_name"):
        assert reason in SENTENCES
        assert Result("a", "A", "refused", reason, "B", 0.5, "detail").sentence


def test_what_was_looked_at_is_not_looked_at_again(
    gallery: Gallery, recognizer: FakeRecognizer, settings: Settings, folder: Path
) -> None:
    portrait(folder / "Anna.png", 1)
    draw(folder / "Nobody.png")
    PhotoEnroller(gallery, recognizer, settings).run()
    assert recognizer.looked == 2
    os.utime(str(folder / "Anna.png"), (1, 1))  # another time, the same content
    report = PhotoEnroller(gallery, recognizer, settings).run()
    assert recognizer.looked == 2 and report.count("unchanged") == 2
    portrait(folder / "Anna.png", 1, seed=8)
    PhotoEnroller(gallery, recognizer, settings).run()
    assert recognizer.looked == 3 and gallery.people()[0].embeddings == 1  # the old one went
    settings.quality.min_face = 10  # other rules: what was refused gets another look, what is enrolled does not
    PhotoEnroller(gallery, recognizer, settings).run()
    assert recognizer.looked == 4


def test_a_photo_is_looked_at_again_for_another_model(
    gallery: Gallery, recognizer: FakeRecognizer, settings: Settings, folder: Path
) -> None:
    portrait(folder / "Anna.png", 1)
    PhotoEnroller(gallery, recognizer, settings).run()
    with Gallery.open(settings, "other", recognizer.dimension, 0.5) as other:
        assert PhotoEnroller(other, recognizer, settings).run().count("enrolled") == 1
        assert known(other, 1) == "Anna"


def test_a_photo_replaced_by_a_bad_one_takes_its_embedding_along(
    gallery: Gallery, recognizer: FakeRecognizer, settings: Settings, folder: Path
) -> None:
    portrait(folder / "Anna.png", 1)
    PhotoEnroller(gallery, recognizer, settings).run()
    draw(folder / "Anna.png")
    assert outcomes(PhotoEnroller(gallery, recognizer, settings).run()) == {"Anna.png": "no_face"}
    assert gallery.count == 0 and gallery.people() == []


def test_a_name_in_decomposed_letters_is_the_same_person(
    gallery: Gallery, recognizer: FakeRecognizer, settings: Settings, folder: Path
) -> None:
    """As macOS writes file names."""
    portrait(folder / "Zoe\u0308" / "1.png", 1)
    enroller = PhotoEnroller(gallery, recognizer, settings)
    assert enroller.run().count("enrolled") == 1
    assert enroller.run().count("unchanged") == 1
    assert gallery.people()[0].name == "Zo\xeb"


def test_many_photos_in_batches_are_told_once_they_are_stored(
    gallery: Gallery, recognizer: FakeRecognizer, settings: Settings, folder: Path
) -> None:
    for number in range(3 * BATCH + 1):
        portrait(folder / "P{}".format(number % 5) / "{}.png".format(number), number % 5, seed=number)
    told: List[str] = []

    def tell(result: Result) -> None:
        told.append(result.path)
        assert gallery.records.photos("path = ?", [result.path])

    report = PhotoEnroller(gallery, recognizer, settings).run(told=tell)
    assert sorted(told) == sorted(photo.key for photo in scan(folder))
    assert report.count("enrolled") == 3 * BATCH + 1 and not report.interrupted


@pytest.mark.parametrize("how", ["key", "event"])
def test_interrupted_it_keeps_what_is_enrolled_and_says_how_far_it_came(
    gallery: Gallery, recognizer: FakeRecognizer, settings: Settings, folder: Path, how: str
) -> None:
    for number in range(3 * BATCH):
        portrait(folder / "P{}.png".format(number), number % 12, seed=number)
    stop = threading.Event()

    def tell(result: Result) -> None:
        if len(gallery.records.photos()) >= BATCH:
            stop.set()
            if how == "key":
                raise KeyboardInterrupt

    report = PhotoEnroller(gallery, recognizer, settings, anyway=True).run(told=tell, stop=stop)
    assert report.interrupted and "what is enrolled stays" in report.summary()
    stored = len(gallery.people())
    assert BATCH <= stored < 3 * BATCH
    again = PhotoEnroller(gallery, recognizer, settings, anyway=True).run()
    assert again.count("unchanged") == stored and gallery.count == 3 * BATCH


def test_with_a_read_only_gallery_it_says_so(
    gallery: Gallery, recognizer: FakeRecognizer, settings: Settings, folder: Path
) -> None:
    portrait(folder / "Anna.png", 1)
    gallery.records.db.read_only = True
    with pytest.raises(StorageError):
        PhotoEnroller(gallery, recognizer, settings).run()
    assert gallery.count == 0


# ---- while the kiosk runs ---------------------------------------------------------------------
@pytest.fixture
def watcher(gallery: Gallery, recognizer: FakeRecognizer, settings: Settings) -> PhotoWatcher:
    return PhotoWatcher(gallery, lambda: recognizer, settings)


def test_a_file_is_enrolled_once_it_stands_still(gallery: Gallery, watcher: PhotoWatcher, folder: Path) -> None:
    source = portrait(folder.parent.parent / "source.png", 1)
    data = source.read_bytes()
    target = folder / "Anna.png"
    target.write_bytes(data[: len(data) // 2])  # a copy that is half done
    assert watcher.look(10.0) == []
    assert watcher.look(10.5) == []
    target.write_bytes(data)
    assert watcher.look(10.0 + SETTLE_S) == [] and gallery.count == 0
    assert [result.outcome for result in watcher.look(11.0 + SETTLE_S)] == ["enrolled"]
    assert known(gallery, 1) == "Anna"
    assert watcher.look(20.0) == []


def test_no_recognizer_is_made_for_photos_that_are_known(
    gallery: Gallery, recognizer: FakeRecognizer, settings: Settings, folder: Path
) -> None:
    portrait(folder / "Anna.png", 1)
    PhotoEnroller(gallery, recognizer, settings).run()
    made: List[FakeRecognizer] = []

    def make() -> FakeRecognizer:
        made.append(FakeRecognizer())
        return made[-1]

    with PhotoWatcher(gallery, make, settings) as watcher:
        assert watcher.look(0.0) == watcher.look(5.0) == []
        assert made == []
        portrait(folder / "Bob.png", 2)
        watcher.look(10.0)
        assert len(watcher.look(15.0)) == 1 and len(made) == 1
    assert made[0].closed


def test_a_deleted_and_a_changed_photo(gallery: Gallery, watcher: PhotoWatcher, folder: Path) -> None:
    portrait(folder / "Anna.png", 1)
    watcher.look(0.0), watcher.look(5.0)
    (folder / "Anna.png").unlink()
    assert watcher.look(6.0) == [] and gallery.count == 1  # prune removes it, not the watcher
    portrait(folder / "Anna.png", 1, seed=4)
    watcher.look(7.0)
    assert [result.outcome for result in watcher.look(9.0)] == ["enrolled"]
    assert gallery.people()[0].embeddings == 1


def test_the_thread_tells_its_news_and_ends(settings: Settings, recognizer: FakeRecognizer, folder: Path) -> None:
    portrait(folder / "Anna.png", 1)
    done = threading.Event()
    with open_gallery(settings) as gallery:
        enroll = gallery.enroll_many

        def noticing(batch: list) -> List[int]:
            ids = enroll(batch)
            done.set()
            return ids

        gallery.enroll_many = noticing  # type: ignore[method-assign, assignment]
        with PhotoWatcher(gallery, lambda: recognizer, settings) as watcher:
            watcher.start()
            assert done.wait(30)
        assert [result.path for result in watcher.news()] == ["Anna.png"]
        assert not any(thread.name == "photos" for thread in threading.enumerate())


def test_a_photo_waits_while_nothing_can_be_stored(gallery: Gallery, watcher: PhotoWatcher, folder: Path) -> None:
    portrait(folder / "Anna.png", 1)
    watcher.look(0.0)
    gallery.records.db.read_only = True
    with pytest.raises(StorageError):
        watcher.look(5.0)
    gallery.records.db.read_only = False
    assert [result.outcome for result in watcher.look(6.0)] == ["enrolled"]


def test_photos_of_the_command_line_may_lie_anywhere(
    gallery: Gallery, recognizer: FakeRecognizer, settings: Settings, tmp_path: Path
) -> None:
    path = portrait(tmp_path / "usb" / "1.png", 1)
    photo = Photo("Anna", path, key_of(path, Path(settings.gallery.photos)), asked=True)
    for _ in range(2):
        assert outcomes(PhotoEnroller(gallery, recognizer, settings).run([photo])) == {str(path): "enrolled"}
    assert gallery.people()[0].embeddings == 1
