"""Weights and inputs that every Python and every numpy draws alike (RandomState's stream is frozen),
in the layout of facenet-pytorch's state dicts, so that outputs of torch can be stored as a few numbers."""
from typing import Dict, List, Tuple

import numpy as np

from tests import ROOT

DATA = ROOT / "tests" / "data" / "convert"
OUTPUTS = DATA / "torch_outputs.npz"  # written by `python -m tests.parity.store`
MTCNN = {
    "pnet": "conv1 10x3x3x3 prelu1 10 conv2 16x10x3x3 prelu2 16 conv3 32x16x3x3 prelu3 32 "
    "conv4_1 2x32x1x1 conv4_2 4x32x1x1",
    "rnet": "conv1 28x3x3x3 prelu1 28 conv2 48x28x3x3 prelu2 48 conv3 64x48x2x2 prelu3 64 "
    "dense4 128x576 prelu4 128 dense5_1 2x128 dense5_2 4x128",
    "onet": "conv1 32x3x3x3 prelu1 32 conv2 64x32x3x3 prelu2 64 conv3 64x64x3x3 prelu3 64 "
    "conv4 128x64x2x2 prelu4 128 dense5 256x1152 prelu5 256 dense6_1 2x256 dense6_2 4x256 dense6_3 10x256",
}
# Odd and even sides: P-Net pools with ceil mode.
INPUTS = {"pnet": (2, 3, 37, 50), "rnet": (3, 3, 24, 24), "onet": (3, 3, 48, 48), "facenet": (2, 3, 160, 160)}


def picture(role: str) -> np.ndarray:
    """The normalised input of a network: (N, 3, H, W) float32 in -1..1."""
    return np.random.RandomState(7).uniform(-1, 1, INPUTS[role]).astype(np.float32)


def mtcnn(role: str) -> Dict[str, np.ndarray]:
    words = MTCNN[role].split()
    shapes: List[Tuple[str, Tuple[int, ...]]] = []
    for name, text in zip(words[::2], words[1::2]):
        shape = tuple(int(size) for size in text.split("x"))
        shapes.append((name + ".weight", shape))
        if not name.startswith("prelu"):
            shapes.append((name + ".bias", shape[:1]))
    return _draw(shapes)


def facenet_shapes() -> List[Tuple[str, Tuple[int, ...]]]:
    rows = [row.split() for row in (DATA / "facenet_tensors.txt").read_text().splitlines()]
    return [(name, tuple(int(size) for size in shape.split("x"))) for name, shape in rows]


def facenet() -> Dict[str, np.ndarray]:
    return _draw([item for item in facenet_shapes() if not item[0].startswith("logits")])


def _draw(shapes: List[Tuple[str, Tuple[int, ...]]]) -> Dict[str, np.ndarray]:
    """Weights that keep the signal's size from layer to layer; scales and variances around one."""
    random = np.random.RandomState(11)
    tensors: Dict[str, np.ndarray] = {}
    for name, shape in shapes:
        if len(shape) > 1:
            reach = np.sqrt(6.0 / np.prod(shape[1:]))
            values = random.uniform(-reach, reach, shape)
        elif name.endswith(("running_var", "bn.weight")):
            values = random.uniform(0.5, 1.5, shape)
        else:
            values = random.uniform(-0.3, 0.3, shape)
        tensors[name] = values.astype(np.float32)
    return tensors


def stored(prefix: str) -> Dict[str, np.ndarray]:
    """What torch gave for a network: output name -> array."""
    with np.load(str(OUTPUTS)) as file:
        return {name.split("/")[1]: file[name] for name in file.files if name.startswith(prefix + "/")}


