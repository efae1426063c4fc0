"""Cascades of ONNX files, measured: what they find, what they let through, how long they take.

Everything runs through the kiosk's own detector (engines/detect/mtcnn.py) on ONNX Runtime.
"""
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np
import torch

from engines.backends.network import Network
from engines.backends.onnx import OnnxNetwork
from engines.backends.prelu import quick
from engines.detect.mtcnn import Mtcnn
from training.mtcnn import evaluate
from training.mtcnn.annotations import Photo
from training.mtcnn.mine import stride_of
from training.mtcnn.nets import SIZES
from training.mtcnn.samples import Sampler, Samples
from training.mtcnn.train import MEAN, SCALE, measured

ORIGINAL = (0.6, 0.7, 0.7)
FACTOR = 0.709
SAMPLES = 6000  # of the validation photos, on which a net's classes and boxes are judged
CHUNK = 500
LOOSE = 0.3  # overlap for dlib's boxes, which end at the eyebrows and the chin
# What a net is timed on: P a packed pyramid, R and O as many crops as a group photo brings.
TIMED = {"pnet": (1, 3, 400, 400), "rnet": (64, 3, 24, 24), "onet": (16, 3, 48, 48)}


class Cascade(NamedTuple):
    """`files`: role -> ONNX; `thresholds` after P, R and O; `factor` of the pyramid; `whole` as Mtcnn's."""

    files: Dict[str, Path]
    thresholds: Tuple[float, float, float] = ORIGINAL
    factor: float = FACTOR
    whole: bool = True


class Counted(Network):
    """A network that counts what goes in."""

    def __init__(self, inner: OnnxNetwork) -> None:
        self.inner, self.seen = inner, 0
        self.inputs, self.outputs = inner.inputs, inner.outputs

    def run(self, feeds: Dict[str, np.ndarray]) -> Dict[str, np.ndarray]:
        self.seen += len(feeds["input"])
        return self.inner.run(feeds)


def opened(cascade: Cascade, min_face: int, threads: int, last: Optional[float] = None) -> Tuple[Mtcnn, List[Counted]]:
    """The kiosk's detector over the files, and its three networks; `last` replaces O's threshold."""
    nets = [Counted(OnnxNetwork(quick(cascade.files[role]), threads)) for role in SIZES]
    first, second, third = cascade.thresholds
    detector = Mtcnn(nets[0], nets[1], nets[2], min_face, (first, second, third if last is None else last),
                     cascade.factor, stride=stride_of(nets[0].inner), whole=cascade.whole)  # fmt: skip
    nets[0].seen = 0
    return detector, nets


def found(cascade: Cascade, photos: Sequence[Photo], min_face: int, threads: int = 2) -> Dict[str, Any]:
    """Recall, false ones a photo and landmark error at the cascade's thresholds, and the candidates a
    photo that R and O get. 'curve' is what at_false() asks, down to a score of 0.1."""
    detector, nets = opened(cascade, min_face, threads, last=0.1)
    faces = [detector.detect(photo.image()) for photo in photos]
    curve = evaluate.curve(photos, faces)
    score = cascade.thresholds[2]
    recall, false = curve.at_score(score)
    sure = [one.take(np.flatnonzero(one.scores > score)) for one in faces]
    points = evaluate.landmark_error(photos, sure)
    figures = {"recall": recall, "false": false, "rnet_candidates": nets[1].seen / len(photos),
               "onet_candidates": nets[2].seen / len(photos), **points}  # fmt: skip
    return dict(figures, curve=curve)


def timed(cascades: Dict[str, Cascade], images: Sequence[np.ndarray], min_face: int, threads: int) -> Dict[str, float]:
    """Milliseconds a photo, side by side."""
    return evaluate.timed({name: opened(one, min_face, threads)[0] for name, one in cascades.items()}, images)


def nets_timed(files: Dict[str, Path], role: str, threads: int) -> Dict[str, float]:
    """Milliseconds of one role's nets, side by side, on the same input."""
    networks = {name: OnnxNetwork(quick(path), threads) for name, path in files.items()}
    pictures = np.random.RandomState(0).uniform(-1, 1, TIMED[role]).astype(np.float32)

    class Once:
        def __init__(self, network: OnnxNetwork) -> None:
            self.network = network

        def detect(self, image: Any) -> None:
            self.network.run({"input": image})

    return evaluate.timed({name: Once(network) for name, network in networks.items()}, [pictures], 25)


def validation(photos: Sequence[Photo], role: str, seed: int = 1) -> List[Samples]:
    """The samples of the validation photos that every net of `role` is judged on."""
    sampler = Sampler(photos, SIZES[role], seed)
    return [sampler.draw(CHUNK, view=False) for _ in range(SAMPLES // CHUNK)]


def judged(path: Path, role: str, samples: Sequence[Samples], threads: int = 2) -> Dict[str, float]:
    """Class loss, accuracy and box loss of the ONNX file, as the kiosk runs it."""
    network = OnnxNetwork(quick(path), threads)
    outputs: Dict[str, List[np.ndarray]] = {}
    for part in samples:
        pictures = ((part.crops.round() - MEAN) * SCALE).numpy()
        for name, value in network.run({"input": np.ascontiguousarray(pictures)}).items():
            outputs.setdefault(name, []).append(value.reshape(len(pictures), -1))
    values = {name: torch.from_numpy(np.concatenate(parts)) for name, parts in outputs.items()}
    offsets = values["regression"]
    if role == "pnet":  # back from MTCNN's counting: nets.for_the_kiosk
        offsets = offsets * 11 / 12
        offsets[:, :2] += 0.7 / 12
    whole = Samples(*[torch.cat(parts) for parts in zip(*samples)])
    return measured(torch.log(values["probability"].clamp(min=1e-7)), offsets, values.get("landmarks"), whole)
