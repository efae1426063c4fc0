"""Face crops without boxes, labelled by SCRFD-2.5G: a shard more for the samples of R and O.

Two kinds of crops: the aligned faces of a zip with an index (128x128, no surroundings), and AFLW's
with five human points in landmarks.json, which are kept; only their box is the teacher's.
"""
import io
import json
import tarfile
import zipfile
from pathlib import Path
from typing import Any, Dict, Optional

import numpy as np
from tqdm import tqdm

from benchmarks.reference_scrfd import ReferenceScrfd
from training.mtcnn.annotations import Photo

SIZE = 192  # the crop lies in the middle of a grey square of this side
SCORE = 0.6
KINDS = ("jpg", "webp")
NONE = np.zeros(0)


def label(archive: Path, teacher: Path, target: Path, most: int, seed: int) -> int:
    """Append up to `most` crops of a zip, drawn by `seed`, to `target`/annotations.jsonl, with a shard
    of their own. Returns how many the teacher found a face in."""
    detector = ReferenceScrfd(teacher, (SIZE, SIZE), SCORE, 1)
    target.mkdir(parents=True, exist_ok=True)
    shard = target / (archive.stem + ".tar")
    lines = []
    with zipfile.ZipFile(str(archive)) as crops, tarfile.open(str(shard), "w") as tar:
        human = json.loads(crops.read("landmarks.json").decode()) if "landmarks.json" in crops.namelist() else {}
        names = sorted(name for name in crops.namelist() if name.rpartition(".")[2] in KINDS)
        names = [names[row] for row in np.random.RandomState(seed).permutation(len(names))[:most]]
        for name in tqdm(names, desc=archive.name):
            data = crops.read(name)
            image = Photo(name, data, NONE, NONE, NONE, NONE).image()
            face = _face(detector, image, human.get(name))
            if face is not None:
                member = "{}-{}".format(archive.stem, name)
                info = tarfile.TarInfo(member)
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
                size = {"width": image.shape[1], "height": image.shape[0]}
                lines.append(dict(size, image=member, shard=shard.name, split="train", source="cropped", faces=[face]))
    with (target / "annotations.jsonl").open("a", encoding="utf-8") as file:
        file.writelines(json.dumps(line) + "\n" for line in lines)
    return len(lines)


def _face(detector: ReferenceScrfd, image: np.ndarray, points: Any) -> Optional[Dict[str, Any]]:
    height, width = image.shape[:2]
    left, top = (SIZE - width) // 2, (SIZE - height) // 2
    canvas = np.full((SIZE, SIZE, 3), 127, np.uint8)
    canvas[top : top + height, left : left + width] = image
    boxes, scores, landmarks = detector.detect(canvas)
    if not len(boxes):
        return None
    best = int(scores.argmax())
    x1, y1, x2, y2 = (boxes[best] - [left, top, left, top]).tolist()
    found = (landmarks[best] - [left, top]).round(1).tolist()
    box = [round(value, 1) for value in (x1, y1, x2 - x1, y2 - y1)]
    return {"box": box, "landmarks": points or found, "landmarks_human": bool(points), "ignore": False}
