"""Annotated photos: shards with an annotations.jsonl, and WIDER FACE as it is released.

Boxes are x1 y1 x2 y2, edges in pixels of the picture (a box over the first pixel is 0 0 1 1).
"""
import io
import json
import tarfile
import zlib
from pathlib import Path
from typing import Any, Dict, Iterator, List, NamedTuple, Sequence, Tuple

import cv2
import numpy as np

from errors import UsageError

NOISY = ("ilc", "maks")  # sources whose human boxes differ most: SCRFD-2.5G's box of the same face is the target
DEVELOPMENT = 10  # one training photo in so many is held out: thresholds and choices are made there


class Photo(NamedTuple):
    """`data` is the file's bytes. `boxes` (N, 4) are the human ones, `targets` (N, 4) what is learned;
    `ignore` (N,): neither face nor background; `landmarks` (N, 5, 2), NaN where there are none.
    `cropped`: an aligned face whose surroundings are missing; it holds no background."""

    name: str
    data: bytes
    boxes: np.ndarray
    targets: np.ndarray
    ignore: np.ndarray
    landmarks: np.ndarray
    cropped: bool = False

    def image(self) -> np.ndarray:
        """BGR (H, W, 3) uint8; raises UsageError for a damaged file."""
        image = cv2.imdecode(np.frombuffer(self.data, np.uint8), cv2.IMREAD_COLOR)
        if image is None:
            raise UsageError("{}: is no picture that can be read.".format(self.name))
        return image


def turned(landmarks: np.ndarray) -> np.ndarray:
    """(N,) how far the faces of five points (N, 5, 2) look aside: the nose's distance from the line through the middle
    of the eyes and that of the mouth, in that line's lengths. 0 from in front, 0.25 half aside, 0.4 and more in
    profile; 0 without points."""
    eyes, mouth = landmarks[:, :2].mean(1), landmarks[:, 3:].mean(1)
    line, nose = mouth - eyes, landmarks[:, 2] - eyes
    aside = np.abs(line[:, 0] * nose[:, 1] - line[:, 1] * nose[:, 0])
    return np.nan_to_num(aside / np.maximum((line**2).sum(1), 1e-3))


def photo(name: str, data: bytes, faces: Sequence[Dict[str, Any]], source: str = "") -> Photo:
    """A photo from the `faces` of one line of an annotations.jsonl."""
    boxes = _edges([face["box"] for face in faces])
    targets = _edges([face.get("ref", face["box"]) if source in NOISY else face["box"] for face in faces])
    unknown = [[float("nan")] * 2] * 5
    return Photo(
        name,
        data,
        boxes,
        targets,
        np.array([bool(face.get("ignore")) for face in faces], bool),
        np.array([face.get("landmarks") or unknown for face in faces], np.float32).reshape(-1, 5, 2),
        source == "cropped",
    )


def shards(folder: Path, split: str) -> Iterator[Photo]:
    """The photos of one split of `folder`/annotations.jsonl: 'train', 'val', or 'fit' and
    'development', which part 'train' by the photos' names.

    Raises UsageError when the list or a shard is missing or has no such photo.
    """
    listed = folder / "annotations.jsonl"
    if not listed.is_file():
        raise UsageError("{}: is missing; --data wants folders with an annotations.jsonl.".format(listed))
    lines = [json.loads(line) for line in listed.read_text(encoding="utf-8").splitlines()]
    lines = [line for line in lines if _part(line, split)]
    for shard in sorted({line["shard"] for line in lines}):
        path = folder / shard
        if not path.is_file():
            raise UsageError("{}: is missing; {} names it.".format(path, listed))
        with tarfile.open(str(path)) as archive:
            for line in lines:
                if line["shard"] == shard:
                    yield photo(line["image"], _member(archive, line["image"]), line["faces"], line["source"])


def _part(line: Dict[str, Any], split: str) -> bool:
    if split in ("train", "val"):
        return line["split"] == split
    held_out = zlib.crc32(line["image"].encode()) % DEVELOPMENT == 0
    return line["split"] == "train" and held_out == (split == "development")


def _member(archive: tarfile.TarFile, name: str) -> bytes:
    try:
        file = archive.extractfile(name)
    except KeyError:
        file = None
    if file is None:
        raise UsageError("{}: has no {}.".format(str(archive.name), name))
    return file.read()


def wider(images: Path, truth: Path) -> Iterator[Photo]:
    """WIDER FACE: `images` is its folder of events (0--Parade/...), `truth` the released
    wider_face_*_bbx_gt.txt, or wider_face_*.mat. Faces marked invalid or heavily blurred, and those
    under 10 pixels, are ignored. Raises UsageError for a truth that breaks off and a missing photo.
    """
    listed = _wider_mat(truth) if truth.suffix == ".mat" else _wider_text(truth)
    for name, rows in listed:
        path = images / name
        if not path.is_file():
            raise UsageError("{}: is missing; {} names it.".format(path, truth))
        faces = [
            {"box": list(row[:4]), "ignore": bool(row[7] or row[4] == 2 or min(row[2], row[3]) < 10)}
            for row in rows
            if min(row[2], row[3]) > 0
        ]
        yield photo(name, path.read_bytes(), faces, "wider")


def _wider_text(truth: Path) -> Iterator[Tuple[str, List[List[float]]]]:
    """Name, number of faces, a row for each: x y w h blur expression illumination invalid occlusion
    pose. A photo without a face has one row of zeros all the same."""
    lines = io.StringIO(truth.read_text(encoding="utf-8"))
    for name in lines:
        try:
            count = int(next(lines))
            rows = [[float(value) for value in next(lines).split()] for _ in range(max(count, 1))]
        except (StopIteration, ValueError) as error:
            raise UsageError("{}: breaks off at {}.".format(truth, name.strip())) from error
        yield name.strip(), rows[:count]


def _wider_mat(truth: Path) -> Iterator[Tuple[str, List[List[float]]]]:
    """The cells of the .mat: events, file names, and by photo boxes, blur, invalid flags."""
    from scipy.io import loadmat

    data = loadmat(str(truth))
    parts = ("file_list", "face_bbx_list", "blur_label_list", "invalid_label_list")
    missing = [part for part in ("event_list",) + parts if part not in data]
    if missing:
        raise UsageError("{}: is no ground truth of WIDER FACE: it has no {}.".format(truth, missing[0]))
    for number, event in enumerate(data["event_list"][:, 0]):
        names, boxes, blurs, invalids = [data[part][number, 0][:, 0] for part in parts]
        for name, box, blur, invalid in zip(names, boxes, blurs, invalids):
            rows = [list(one) + [b, 0, 0, i] for one, b, i in zip(box.tolist(), blur.ravel(), invalid.ravel())]
            yield "{}/{}.jpg".format(event[0], name[0]), rows


def _edges(boxes: Sequence[Sequence[float]]) -> np.ndarray:
    """x y width height -> x1 y1 x2 y2, float32."""
    found = np.array(boxes, np.float32).reshape(-1, 4)
    found[:, 2:] += found[:, :2]
    return found
