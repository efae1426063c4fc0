"""What the stages before let through of the training photos: the hard samples of R and O.

The kiosk's own code looks for them (engines/detect/mtcnn.py), so that a net is trained on what it
will be asked about; only its thresholds are lower, since they are chosen after training.
"""
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Dict, Optional, Sequence

import numpy as np
from tqdm import tqdm

from engines.backends.onnx import OnnxNetwork
from engines.backends.prelu import quick
from engines.detect.mtcnn import Mtcnn
from engines.sampling import cpu as sampling
from engines.sampling.layout import CELL
from errors import UsageError
from training.mtcnn.annotations import Photo
from training.mtcnn.samples import Finds

MIN_FACE = 14  # pixels
PNET, RNET = 0.35, 0.1
CAP = 400  # candidates of a photo, best first
NOBODY = np.zeros((0, 4), np.float32)


def mine(photos: Sequence[Photo], pnet: Path, rnet: Optional[Path], threads: int) -> Finds:
    """The squares that go from P into R or, with `rnet`, from R into O, of every photo with its
    surroundings; `photo` counts in `photos`."""
    local = threading.local()
    stride = stride_of(OnnxNetwork(pnet, 1))

    def detector() -> Mtcnn:
        if not hasattr(local, "detector"):
            networks = [OnnxNetwork(quick(path), 1) for path in (pnet, rnet or pnet)]
            local.detector = Mtcnn(networks[0], networks[1], networks[1], MIN_FACE, (PNET, RNET, 1.0),
                                   rnet_cap=CAP, onet_cap=CAP, stride=stride)  # fmt: skip
        return local.detector

    def squares(photo: Photo) -> np.ndarray:
        image, own = photo.image(), detector()
        halves = sampling.Halves(image, exact=True)
        plan = own.plan(image.shape)
        if photo.cropped or not plan.levels:
            return NOBODY
        boxes = own.propose(halves, plan)
        return np.fix(own.refine(halves, boxes) if rnet else boxes) - [1, 1, 0, 0]

    with ThreadPoolExecutor(threads) as pool:
        found = list(tqdm(pool.map(squares, photos), total=len(photos), desc="candidates"))
    rows = np.repeat(np.arange(len(photos)), [len(boxes) for boxes in found])
    return Finds(rows, np.concatenate(found + [NOBODY]).astype(np.float32))


def stride_of(pnet: OnnxNetwork) -> int:
    """Pixels from one cell of P's map to the next."""
    side = 3 * CELL
    cells = pnet.run({"input": np.zeros((1, 3, side, side), np.float32)})["probability"].shape[2]
    return (side - CELL) // (cells - 1)


def write(path: Path, photos: Sequence[Photo], finds: Finds) -> None:
    np.savez_compressed(str(path), names=np.array([one.name for one in photos]), photo=finds.photo, boxes=finds.boxes)


def read(path: Path, photos: Sequence[Photo]) -> Finds:
    """The finds of those of `photos` that were searched. Raises UsageError for a missing file."""
    if not path.is_file():
        raise UsageError("{}: is missing; 'samples' makes it.".format(path))
    with np.load(str(path)) as stored:
        rows: Dict[str, int] = {photo.name: row for row, photo in enumerate(photos)}
        ours = np.array([rows.get(name, -1) for name in stored["names"].tolist()], np.int64)
        photo, boxes = ours[stored["photo"]], stored["boxes"]
    return Finds(photo[photo >= 0], boxes[photo >= 0])
