"""Move a gallery to another model: embeddings belong to the model that made them.

Photos that are still there are looked at again. What came from the camera, or from a photo that is
gone, is embedded from its kept chip, where the old model aligned faces to the same template. The old
model's embeddings stay: going back needs no work.
"""
import argparse
from pathlib import Path
from typing import Any, Dict, List

import cv2
import numpy as np
from tqdm import tqdm

from engines import catalogue
from gallery.commands import Answer
from gallery.photos import Photo, PhotoEnroller, path_of, scan
from gallery.records import Embedding
from gallery.store import Gallery
from settings import Settings


def reembed(gallery: Gallery, recognizer: Any, settings: Settings, arguments: argparse.Namespace) -> Answer:
    """Code 1 where somebody is left without an embedding of the recognizer's model; they are named."""
    model, records = gallery.model, gallery.records
    report = PhotoEnroller(gallery, recognizer, settings).run(_photos(gallery, settings), progress=True)
    if report.interrupted:
        raise KeyboardInterrupt
    current = {row.path for row in records.photos("model = ?", [model])}
    kept = 0
    for name in tqdm([one.name for one in records.people(model)], unit="person", disable=None, leave=False):
        rows = records.embeddings(name, chips=True)
        known = {row.chip for row in rows if row.model == model}
        usable = {row.chip: row for row in rows if row.chip not in known and _serves(row, model, current)}
        if usable:
            _embed(gallery, recognizer, name, list(usable.values()))
            kept += len(usable)
    left = [one.name for one in records.people(model) if not one.embeddings]
    people = len(gallery.names)
    data: Dict[str, Any] = {"model": model, "photos": report.count("enrolled"), "chips": kept, "without": left}
    line = "{} people are known to {}; new: {} photos and {} kept faces.".format(people, model, data["photos"], kept)
    problem = "{}: nothing is left to embed for {}; enrol them anew.".format(", ".join(left), model)
    return Answer([line], data, [problem] if left else [], int(bool(left)))


def _photos(gallery: Gallery, settings: Settings) -> List[Photo]:
    """Those in the photo folder, and those outside it that people were enrolled from."""
    folder = Path(settings.gallery.photos)
    photos = {photo.key: photo for photo in scan(folder)}
    for row in gallery.records.photos("model <> ? AND outcome = 'enrolled'", [gallery.model]):
        path = path_of(row.path, folder)
        if path.is_file():
            photos.setdefault(row.path, Photo(row.person, path, row.path))
    return list(photos.values())


def _serves(row: Embedding, model: str, current: set) -> bool:
    """Whether a chip stands for a picture that the new model has not seen, cut as it needs them."""
    return row.chip is not None and row.photo not in current and catalogue.same_template(row.model, model)


def _embed(gallery: Gallery, recognizer: Any, name: str, rows: List[Embedding]) -> None:
    chips: List[np.ndarray] = [
        cv2.imdecode(np.frombuffer(row.chip or b"", np.uint8), cv2.IMREAD_COLOR) for row in rows  # type: ignore[misc]
    ]
    size = recognizer.chip_size
    fitting = np.stack([chip if chip.shape[0] == size else cv2.resize(chip, (size, size)) for chip in chips])
    embeddings = recognizer.embed_chips(fitting)
    gallery.enroll_many(
        [
            (name, embedding[None], [row.quality], row.source, chip[None], None)
            for row, embedding, chip in zip(rows, embeddings, chips)
        ]
    )
