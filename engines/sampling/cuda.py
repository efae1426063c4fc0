"""cpu.py's work on the GPU: pyramid, crops, aligned chips and the candidates of PNet's map.

A frame is shrunk in one step, by area, straight into each network's input: what cpu.py does to an
`exact` picture, bit for bit (chips: to a grey level or two, as OpenCV's versions differ). On a Jetson a
frame of jetson-utils lies in memory that the GPU sees and is read where it is; elsewhere it is copied up
once. Of a frame four things come back to the host: the candidates, what RNet and ONet say, and the
embeddings (with the chips, where they are kept).

Buffers grow to the largest size that was asked for and are then used again; what a method returns is
overwritten by its next call.
"""
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple, Union

import numpy as np

from engines.sampling.cpu import MEAN, SCALE
from engines.sampling.device import BLOCK, Device, DeviceArray
from engines.sampling.layout import Layout
from errors import UsageError

FORMATS = {"bgr8": 0, "rgb8": 1, "bgra8": 2, "rgba8": 3, "nv12": 4}  # of kernels.cu
BYTES = {"bgr8": 3, "rgb8": 3, "bgra8": 4, "rgba8": 4}  # of a pixel
WARP = 32
HEAD = 2048  # candidates that come in the first copy: group photos of 1280x720 have 700 to 1,300
CANDIDATE = np.dtype([("cell", np.int32), ("score", np.float32), ("offsets", np.float32, 4)])


class DeviceFrame(NamedTuple):
    """A picture where the GPU sees it; `pitch` is in bytes a row."""

    address: int
    height: int
    width: int
    pitch: int
    format: str


class CudaSampler:
    """`dtype` float32 or float16: what the networks take."""

    def __init__(self, device: Device, dtype: Any = np.float32) -> None:
        self._device = device
        self._dtype = np.dtype(dtype)
        self._half = np.int32(self._dtype == np.float16)
        self._buffers: Dict[str, DeviceArray] = {}
        self._pinned: Dict[str, np.ndarray] = {}
        self._layout: Optional[Layout] = None  # the one that levels, cells and the blob's black are there for
        self._threads = 0

    def frame(self, image: np.ndarray, format: str = "bgr8") -> DeviceFrame:
        """Bring `image` to the device, unless it lies in memory that the device sees.

        uint8 (H, W, 3), (H, W, 4), or nv12 (H * 3 / 2, W) with H and W even. It may be changed again
        once one of the other methods has brought its result to the host. Raises UsageError for a
        format that is not in FORMATS and for an array that does not fit it.
        """
        if format not in FORMATS:
            raise UsageError("a frame's format is {}, but must be {}.".format(format, ", ".join(FORMATS)))
        tail = () if format == "nv12" else (BYTES[format],)
        if image.dtype != np.uint8 or image.shape[2:] != tail or (format == "nv12" and len(image) % 3):
            raise UsageError("a frame is {} {}, which is not {}.".format(image.shape, image.dtype, format))
        height = len(image) * 2 // 3 if format == "nv12" else len(image)
        address = visible_address(image)
        if address is None:
            address = self.put("frame", image).address
        return DeviceFrame(address, height, image.shape[1], image[0].nbytes, format)

    def pyramid(self, frame: DeviceFrame, layout: Layout) -> DeviceArray:
        """The blob (1, 3, layout.height, layout.width) with every scale of `frame` in its place."""
        if layout is not self._layout:
            self._prepare(layout)
        blob = self._buffer("blob", (1, 3, layout.height, layout.width), self._dtype)
        self._device.launch(
            "pyramid", self._threads, *_arguments(frame), np.uintp(self._buffers["levels"].address),
            np.int32(len(layout.levels)), np.uintp(blob.address), np.int32(layout.height), np.int32(layout.width),
            self._half,
        )  # fmt: skip
        return blob

    def crops(self, frame: DeviceFrame, boxes: np.ndarray, size: int) -> DeviceArray:
        """(N, 3, size, size) of `boxes` (N, 4), as cpu.crops has them."""
        out = self._buffer("crops{}".format(size), (len(boxes), 3, size, size), self._dtype)
        if not len(boxes):
            return out
        edges = np.floor(np.asarray(boxes, np.float64) + [0.5, 0.5, 1.5, 1.5]).astype(np.int32)
        windows = np.concatenate([edges[:, :2], edges[:, 2:] - edges[:, :2]], axis=1)
        sent = self.put("windows{}".format(size), windows)
        lanes = _lanes(float(np.maximum(windows[:, 3], 0).mean()) / size)
        self._device.launch(
            "crops", len(boxes) * (-(-size * size * lanes // WARP) * WARP), *_arguments(frame), np.uintp(sent.address),
            np.int32(len(boxes)), np.int32(size), np.int32(lanes), np.uintp(out.address), self._half,
        )  # fmt: skip
        return out

    def chips(
        self, frame: DeviceFrame, matrices: np.ndarray, size: int,
        mean: Union[float, Sequence[float]] = 0.0, std: Union[float, Sequence[float]] = 1.0,
    ) -> Tuple[DeviceArray, DeviceArray]:  # fmt: skip
        """Aligned faces, as cpu.chips and cpu.normalise have them: (N, size, size, 3) uint8 BGR and
        (N, 3, size, size) RGB, (x - mean) / std. matrices (N, 2, 3): from picture to chip."""
        count = len(matrices)
        chips = self._buffer("chips", (count, size, size, 3), np.uint8)
        planes = self._buffer("planes", (count, 3, size, size), self._dtype)
        if not count:
            return chips, planes
        sent = self.put("inverses", inverses(matrices))
        self._device.launch(
            "chips", count * size * size, *_arguments(frame), np.uintp(sent.address), np.int32(count), np.int32(size),
            np.uintp(chips.address), np.uintp(planes.address), self._half,
            *np.broadcast_to(np.asarray(mean, np.float32), 3), *np.broadcast_to(np.asarray(std, np.float32), 3),
        )  # fmt: skip
        return chips, planes

    def pick(self, layout: Layout, scores: int, offsets: int, threshold: float) -> DeviceArray:
        """Queue the search for the cells of PNet's map that pass; `candidates` brings them.

        `scores` (h, w) and `offsets` (4, h, w), float32, are addresses on the device, of a map of
        the shape of layout.cells.
        """
        if layout is not self._layout:
            self._prepare(layout)
        cells = layout.cells.size
        found = self._buffer("candidates", (1 + cells,), CANDIDATE)
        self.put("head", np.zeros(1, CANDIDATE), found)
        self._device.launch(
            "candidates", cells, np.uintp(scores), np.uintp(offsets), np.uintp(self._buffers["cells"].address),
            np.int32(cells), np.float32(threshold), np.uintp(found.address), np.int32(cells),
        )  # fmt: skip
        return found

    def candidates(
        self, layout: Layout, scores: int, offsets: int, threshold: float
    ) -> Tuple[np.ndarray, np.ndarray, np.ndarray]:
        """What `pick` finds, as cpu.candidates has it."""
        found = self.pick(layout, scores, offsets, threshold)
        head = self.fetch(found._replace(shape=(min(1 + HEAD, found.shape[0]),)))[0]
        count = int(head["cell"][0])
        if count >= len(head):  # a crowd: what did not come along with the first ones
            head = self.fetch(found._replace(shape=(1 + count,)))[0]
        passed = head[1 : 1 + count]
        passed = passed[np.argsort(passed["cell"])]  # the GPU's order is another one each time
        return passed["cell"].astype(np.int64), passed["score"], passed["offsets"]

    def fetch(self, *arrays: DeviceArray) -> List[np.ndarray]:
        """Copies of `arrays` on the host, once all that is queued is done: one wait for all of them."""
        staged = [self._host("fetch {}".format(at), one.shape, one.dtype) for at, one in enumerate(arrays)]
        for host, array in zip(staged, arrays):
            if array.nbytes:
                self._device.download(host, array.address)
        self._device.wait()
        return [host.copy() for host in staged]

    def _prepare(self, layout: Layout) -> None:
        """Send what belongs to a layout, and paint the blob black: kernels fill the levels alone."""
        table, self._threads = levels_table(layout)
        self.put("levels", table)
        self.put("cells", layout.cells)
        self.put("blob", np.full((1, 3, layout.height, layout.width), -MEAN * SCALE, self._dtype))
        self._layout = layout

    def put(self, name: str, array: np.ndarray, target: Optional[DeviceArray] = None) -> DeviceArray:
        """Queue a copy of `array` to the device, into `target` or else a buffer that is called `name`."""
        staged = self._host(name, array.shape, array.dtype)
        np.copyto(staged, array)
        target = target or self._buffer(name, array.shape, array.dtype)
        self._device.upload(target.address, staged)
        return target

    def _buffer(self, name: str, shape: Tuple[int, ...], dtype: Any) -> DeviceArray:
        size = max(int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize, 1)
        held = self._buffers.get(name)
        if held is None or held.nbytes < size:
            held = self._buffers[name] = DeviceArray(self._device.allocate(size), (size,), np.dtype(np.uint8))
        return DeviceArray(held.address, shape, np.dtype(dtype))

    def _host(self, name: str, shape: Tuple[int, ...], dtype: Any) -> np.ndarray:
        """A page-locked array; the same memory again and again."""
        size = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
        held = self._pinned.get(name)
        if held is None or held.nbytes < size:
            held = self._pinned[name] = self._device.pinned((max(size, 1),), np.uint8)
        return held[:size].view(dtype).reshape(shape)


def visible_address(image: np.ndarray) -> Optional[int]:
    """Where the device sees `image`, when it lies in memory that CPU and GPU share: its owner says so."""
    owner: Any = image
    while isinstance(owner, np.ndarray):
        owner = owner.base
    if not hasattr(owner, "__cuda_array_interface__") or not image.flags.c_contiguous:
        return None
    return int(image.ctypes.data)


def inverses(matrices: np.ndarray) -> np.ndarray:
    """(N, 2, 3) from picture to chip -> (N, 6) float32 from chip to picture, as cv2.warpAffine inverts."""
    a, b, c, d, e, f = np.asarray(matrices, np.float64).reshape(-1, 6).T
    area = a * e - b * d
    part = np.divide(1.0, area, out=np.zeros_like(area), where=area != 0)
    rows = [e, -b, b * f - e * c, -d, a, d * c - a * f]
    return np.stack([row * part for row in rows], axis=1).astype(np.float32)


def _lanes(shrink: float) -> int:
    """How many threads share a pixel that is made of `shrink` rows: one for every two rows, a power of two."""
    lanes = 1
    while lanes < WARP and lanes * 2 <= shrink:
        lanes *= 2
    return lanes


def levels_table(layout: Layout) -> Tuple[np.ndarray, int]:
    """The Level structures of kernels.cu, (L, 8) int32, and how many threads they take."""
    rows, first = [], 0
    for level in layout.levels:
        height, width = (side - side % layout.stride for side in (level.height, level.width))
        lanes = _lanes(1 / level.scale)
        rows.append((level.height, level.width, height, width, level.top, level.left, first, lanes))
        first += -(-height * width * lanes // BLOCK) * BLOCK  # the next one begins on a whole block
    return np.array(rows, np.int32).reshape(-1, 8), first


def _arguments(frame: DeviceFrame) -> Tuple[Any, ...]:
    size = (frame.height, frame.width, frame.pitch, FORMATS[frame.format])
    return (np.uintp(frame.address),) + tuple(np.int32(one) for one in size)
