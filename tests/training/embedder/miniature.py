"""The embedder's lab in small: a recipe of seconds, and training crops made of the demo's portraits."""
import io
from typing import List

import numpy as np
from PIL import Image

from tests import ROOT

SHIPPED = "own"  # the teacher of the miniature: it needs no download

RECIPE = """
students:
  a: {type: kiosk_net, block: bottleneck, stem: 8, widths: [16, 24, 32], depths: [1, 1, 1], kernels: [3, 3, 3], expansions: [2, 2, 2]}
  b: {type: kiosk_net, block: inverted, stem: 8, widths: [8, 16, 24], depths: [1, 1, 1], kernels: [3, 3, 3], expansions: [2, 2, 2]}
teachers: [own]
seconds: null
steps: 12
batch: 8
reuse: 2
rate: 3.0e-3
turn: 0.02
warmup: 2
decay: 0.7
weight_decay: 0.02
relations: 20
mixed: 0.15
clear: 0.35
average: 0.9
limit: null
compile: false
seed: 0
name: miniature
"""  # noqa: E501


def crops(count: int) -> List[np.ndarray]:
    """Views of the demo's two portraits, in the form of training crops (128, 128, 3) uint8 RGB."""
    rng = np.random.RandomState(0)
    pictures = [Image.open(str(path)).convert("RGB") for path in sorted((ROOT / "demo" / "portraits").glob("*.jpg"))]
    found = []
    for number in range(count):
        picture = pictures[number % len(pictures)]
        side = min(picture.size) * rng.uniform(0.5, 0.9)
        left, top = [rng.uniform(0, length - side) for length in picture.size]
        found.append(np.asarray(picture.resize((128, 128), box=(left, top, left + side, top + side))))
    return found


def webp(picture: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "WEBP", quality=80)
    return file.getvalue()
