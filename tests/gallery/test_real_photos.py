"""The real recognizer on real photos, among files that are no photos at all."""
import shutil
from pathlib import Path
from typing import Dict

import cv2
import numpy as np
from PIL import Image

from engines.recognizer import Recognizer
from gallery.photos import PhotoEnroller
from gallery.store import Gallery
from settings import Settings
from tests import shared


def read(path: Path) -> np.ndarray:
    image = cv2.imread(str(path))
    assert image is not None
    return image


def broken_files(folder: Path, good: Path) -> None:
    """What a folder of broken files holds; every one must end in the report and stop nothing."""
    folder.mkdir()
    (folder / "empty.jpg").touch()
    (folder / "text.jpg").write_text("this is no picture\n" * 50)
    (folder / "cut.jpg").write_bytes(good.read_bytes()[:4000])
    Image.new("RGB", (8700, 5800), (90, 120, 90)).save(str(folder / "huge.jpg"))
    with Image.open(str(good)) as image:
        image.convert("CMYK").save(str(folder / "cmyk.jpg"))
        image.save(str(folder / "animated.gif"), save_all=True, append_images=[image.rotate(90)], duration=50)
    _, deep = cv2.imencode(".png", read(good).astype(np.uint16) * 257)
    (folder / "deep.png").write_bytes(deep.tobytes())


def test_people_are_enrolled_and_known_on_other_photos(settings: Settings) -> None:
    images = shared("lfw_dev/images")
    folder = Path(settings.gallery.photos)
    people: Dict[str, Path] = {}  # name -> a picture that is not enrolled
    for first in sorted(images.glob("*_0001.jpg")):
        name = first.stem[:-5]
        others = sorted(set(images.glob(name + "_*.jpg")) - {first})
        if others and len(people) < 12:
            (folder / name).mkdir(parents=True)
            shutil.copy(str(first), str(folder / name / first.name))
            people[name] = others[0]
    good = images / "Aaron_Guiel_0001.jpg"
    broken_files(folder / "Broken", good)
    with Recognizer.from_settings(settings) as recognizer:
        gallery = Gallery.open(settings, recognizer.model, recognizer.dimension, recognizer.threshold)
        with gallery:
            report = PhotoEnroller(gallery, recognizer, settings).run()
            reasons = {Path(result.path).name: result.reason for result in report.results if "Broken" in result.path}
            assert reasons == {
                "empty.jpg": "unreadable",
                "text.jpg": "unreadable",
                "cut.jpg": "unreadable",
                "huge.jpg": "no_face",
                "cmyk.jpg": None,
                "animated.gif": None,
                "deep.png": None,
            }
            assert len(report.results) == report.total == len(people) + 7
            names = [person.name for person in gallery.people() if person.name != "Broken"]
            assert len(names) >= 8, report.summary()
            right = 0
            for name in names:
                image = read(people[name])
                faces, embeddings = recognizer(image)
                if not faces.count:
                    continue
                middle = faces.boxes.reshape(-1, 2, 2).mean(axis=1)
                nearest = int(np.linalg.norm(middle - np.array(image.shape[1::-1]) / 2, axis=1).argmin())
                match = gallery.match(embeddings[nearest : nearest + 1])[0]
                if match.similarity >= gallery.threshold:
                    assert match.person == name
                    right += 1
            assert right >= 0.7 * len(names)
