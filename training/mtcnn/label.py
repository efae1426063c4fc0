"""Pictures without boxes, labelled by SCRFD-2.5G: a shard more for the samples.

Three kinds: the aligned faces of a zip with an index (128x128, no surroundings); AFLW's crops with
five human points in landmarks.json, which are kept, only their box is the teacher's; and photos,
of those with a face that looks aside, which the annotated sets hardly have, or of any: of each the
surroundings of the face that looks aside most, with every face in them.
"""
import io
import json
import tarfile
import zipfile
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Tuple

import cv2
import numpy as np
from tqdm import tqdm

from benchmarks.reference_scrfd import ReferenceScrfd
from training.mtcnn.annotations import Photo, turned

SIZE = 192  # the crop lies in the middle of a grey square of this side
PHOTO = 480  # pixels of a photo's longer side, as the teacher sees it
SCORE = 0.6
UNSURE = 0.3  # from this score on there may be a face: neither face nor background
SMALLEST = 16  # pixels of the smallest face as it is stored; smaller ones are ignored
AROUND = 2.6  # sides of the face's box that are kept of a photo
LARGEST = 84  # pixels of the face that looks aside most, as it is stored
QUALITY = 72  # WebP
KINDS = ("jpg", "jpeg", "png", "webp")
NONE = np.zeros(0)
FILLED = 0.6  # a face over so much of its photo's side is an aligned one: its surroundings are missing
Member = Tuple[bytes, Tuple[int, ...], List[Dict[str, Any]], str]  # a picture's file, its shape, its faces, its source


def label(archive: Path, teacher: Path, target: Path, most: int, seed: int, aside: Optional[float] = None) -> int:
    """Append up to `most` pictures of a zip, drawn by `seed`, to `target`/annotations.jsonl, with a shard of their own:
    crops, or with `aside` the photos in which a face looks aside by so much (annotations.turned; with 0, any way).
    Returns how many the teacher found a face in."""
    target.mkdir(parents=True, exist_ok=True)
    shard = target / (archive.stem + ".tar")
    lines = []
    with zipfile.ZipFile(str(archive)) as pictures, tarfile.open(str(shard), "w") as tar:
        human = json.loads(pictures.read("landmarks.json").decode()) if "landmarks.json" in pictures.namelist() else {}
        names = sorted(name for name in pictures.namelist() if name.rpartition(".")[2] in KINDS)
        names = [names[row] for row in np.random.RandomState(seed).permutation(len(names))[:most]]
        labelled = _crops(teacher, human) if aside is None else _photos(teacher, aside)
        for name in tqdm(names, desc=archive.name):
            found = labelled(name, pictures.read(name))
            if found is not None:
                data, shape, faces, source = found
                member = "{}-{}".format(archive.stem, name)
                info = tarfile.TarInfo(member)
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
                line = {"width": shape[1], "height": shape[0], "image": member, "shard": shard.name, "split": "train"}
                lines.append(dict(line, source=source, faces=faces))
    with (target / "annotations.jsonl").open("a", encoding="utf-8") as file:
        file.writelines(json.dumps(line) + "\n" for line in lines)
    return len(lines)


def _crops(teacher: Path, human: Dict[str, Any]) -> Callable[[str, bytes], Optional[Member]]:
    detector = ReferenceScrfd(teacher, (SIZE, SIZE), SCORE, 1)

    def labelled(name: str, data: bytes) -> Optional[Member]:
        image = Photo(name, data, NONE, NONE, NONE, NONE).image()
        left, top = (SIZE - image.shape[1]) // 2, (SIZE - image.shape[0]) // 2
        canvas = np.full((SIZE, SIZE, 3), 127, np.uint8)
        canvas[top : top + image.shape[0], left : left + image.shape[1]] = image
        boxes, scores, points = detector.detect(canvas)
        if not len(boxes):
            return None
        best = int(scores.argmax())
        face = _face(boxes[best] - [left, top, left, top], points[best] - [left, top])
        known = human.get(name)
        face.update(landmarks=known or face["landmarks"], landmarks_human=bool(known))
        return data, image.shape, [face], "cropped"

    return labelled


def _photos(teacher: Path, aside: float) -> Callable[[str, bytes], Optional[Member]]:
    detector = ReferenceScrfd(teacher, (PHOTO, PHOTO), UNSURE, 1)

    def labelled(name: str, data: bytes) -> Optional[Member]:
        image = Photo(name, data, NONE, NONE, NONE, NONE).image()
        height, width = image.shape[:2]
        edge = max(height, width) // 8  # a face that fills its photo is found only with something around it
        canvas = cv2.copyMakeBorder(image, edge, edge, edge, edge, cv2.BORDER_CONSTANT, value=(127, 127, 127))
        boxes, scores, points = detector.detect(canvas)
        boxes, points = boxes - edge, points - edge
        sides = (boxes[:, 2:] - boxes[:, :2]).max(axis=1)
        chosen = np.flatnonzero((scores >= SCORE) & (sides >= LARGEST / 2) & (turned(points) >= aside))
        if not len(chosen):
            return None
        best = chosen[turned(points[chosen]).argmax()]
        centre, half = (boxes[best, :2] + boxes[best, 2:]) / 2, sides[best] * AROUND / 2
        left, top = np.maximum(centre - half, 0).astype(int).tolist()
        right, bottom = np.minimum(centre + half, [width, height]).astype(int).tolist()
        scale = min(1.0, LARGEST / sides[best])
        window = cv2.resize(image[top:bottom, left:right], None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        across, down = window.shape[1] / (right - left), window.shape[0] / (bottom - top)
        faces = []
        for box, score, five in zip(boxes, scores, points):
            moved = (box - [left, top, left, top]) * [across, down, across, down]
            inside = np.minimum(moved[2:], [window.shape[1], window.shape[0]]) - np.maximum(moved[:2], 0)
            if min(inside) > 2:
                seen = inside.prod() / (moved[2:] - moved[:2]).prod()
                unsure = score < SCORE or seen < 0.7 or max(moved[2:] - moved[:2]) < SMALLEST
                face = _face(moved, (five - [left, top]) * [across, down])
                faces.append(dict(face, ignore=bool(unsure), score=round(float(score), 2)))
        written = cv2.imencode(".webp", window, [cv2.IMWRITE_WEBP_QUALITY, QUALITY])[1].tobytes()
        return written, window.shape, faces, "cropped" if sides[best] > FILLED * min(width, height) else "aside"

    return labelled


def _face(box: np.ndarray, points: np.ndarray) -> Dict[str, Any]:
    x1, y1, x2, y2 = box.tolist()
    corners = [round(value, 1) for value in (x1, y1, x2 - x1, y2 - y1)]
    return {"box": corners, "landmarks": points.round(1).tolist(), "landmarks_human": False, "ignore": False}
