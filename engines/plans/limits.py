"""The shapes that a plan is built for: the fewest, usual and most rows of a batch, and picture sizes.

A plan takes any shape between its limits and is tuned for the usual one; memory is set aside for the
largest. They follow from the settings, so that a camera of another size gets another plan.
"""
from typing import Dict, NamedTuple, Sequence, Tuple

from engines import catalogue
from engines.backends.network import Tensor
from engines.embed import MAX_BATCH
from engines.sampling.layout import CELL, layout
from settings import Settings

Range = Tuple[int, int, int]  # least, usual, most
FACES = 4  # in sight, usually
ROOM = 1.25  # PNet's picture may have sides of so many times the usual one's longer side
PICTURE: Range = (32, 640, 640)  # of a detector that looks at the whole picture at once


class Limits(NamedTuple):
    """Of the batch axis, and of free heights and widths."""

    rows: Range
    height: Range
    width: Range

    def shapes(self, tensor: Tensor) -> Tuple[Tuple[int, ...], ...]:
        """The least, usual and most shape of an input (rows, channels, height, width), as far as free."""
        axes = (self.rows, (3, 3, 3), self.height, self.width)
        return tuple(
            tuple(free[which] if size is None else size for size, free in zip(tensor.shape, axes))
            for which in range(3)
        )


def limits(role: str, settings: Settings) -> Limits:
    """Of the network with this role in its model (pnet, rnet, onet, embedder, detector)."""
    if role == "pnet":
        return _pyramid(settings)
    own = settings.mtcnn
    rows: Dict[str, Range] = {
        "rnet": (1, max(own.rnet_cap // 4, 1), own.rnet_cap),
        "onet": (1, min(4 * FACES, own.onet_cap), own.onet_cap),
        "detector": (1, 1, 1),
    }
    return Limits(rows.get(role, (1, FACES, MAX_BATCH)), PICTURE, PICTURE)


def _pyramid(settings: Settings) -> Limits:
    """PNet sees all scales of one picture, packed: as it comes from the camera, or somewhat larger."""
    size: Sequence[int] = (settings.capture.height or 720, settings.capture.width or 1280)  # 0: the camera's own
    if settings.capture.rotate in (90, 270):
        size = size[::-1]
    stages = catalogue.stages(settings)
    plan = layout(size[0], size[1], settings.detector.min_face, stages.factor, stages.stride)
    height, width = max(plan.height, CELL), max(plan.width, CELL)
    most = int(ROOM * max(height, width))
    return Limits((1, 1, 1), (CELL, height, most), (CELL, width, most))
