"""Alignment and embedding."""
from typing import List

import numpy as np
import pytest

from engines.backends.network import Network, Tensor
from engines.embed import ARCFACE_112, Embedder, looks, similarity_transforms
from errors import ModelError

ENTRY = {
    "name": "made", "size": 112, "dimension": 4, "template": "arcface", "mean": 127.5, "std": 127.5, "threshold": 0.3,
}  # fmt: skip


class Means(Network):
    """Four numbers a face: its mean in each channel, and one."""

    inputs = (Tensor("x", (None, 3, 112, 112), np.dtype(np.float32)),)
    outputs = (Tensor("y", (None, 4), np.dtype(np.float32)),)

    def __init__(self) -> None:
        self.batches: List[int] = []

    def run(self, feeds):
        blob = feeds["x"]
        self.batches.append(len(blob))
        return {"y": np.concatenate([blob.mean(axis=(2, 3)), np.ones((len(blob), 1), np.float32)], axis=1)}


def turned(points: np.ndarray, angle: float, scale: float, shift) -> np.ndarray:
    spin = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return (scale * points @ spin.T + shift).astype(np.float32)


@pytest.mark.parametrize("angle, scale, shift", [(0, 1, (0, 0)), (0.5, 2.5, (300, 40)), (-3.0, 0.2, (-7, 9))])
def test_the_transform_brings_the_points_home(angle, scale, shift):
    faces = np.stack([turned(ARCFACE_112, angle, scale, shift)])
    matrix = similarity_transforms(faces, ARCFACE_112)[0]
    home = faces[0] @ matrix[:, :2].T + matrix[:, 2]
    assert np.allclose(home, ARCFACE_112, atol=1e-2)
    assert np.isclose(np.linalg.det(matrix[:, :2]) ** 0.5, 1 / scale, rtol=1e-4)


def test_the_transform_is_the_least_squares_one():
    """Against a general solver, on points that no similarity fits."""
    noisy = ARCFACE_112 + np.random.RandomState(3).normal(0, 6, (5, 2)).astype(np.float32)
    matrix = similarity_transforms(noisy[np.newaxis], ARCFACE_112)[0]
    x, y = noisy[:, 0], noisy[:, 1]
    one, zero = np.ones(5), np.zeros(5)
    system = np.concatenate([np.stack([x, -y, one, zero], 1), np.stack([y, x, zero, one], 1)])
    a, b, c, d = np.linalg.lstsq(system, ARCFACE_112.T.ravel(), rcond=None)[0]
    assert np.allclose(matrix, [[a, -b, c], [b, a, d]], atol=1e-3)


def test_all_faces_go_in_one_batch_and_come_back_with_unit_length():
    network = Means()
    embedder = Embedder(network, ENTRY)
    image = np.random.RandomState(0).randint(0, 255, (200, 300, 3), np.uint8)
    faces = np.stack([ARCFACE_112 + offset for offset in (0, 20, 40)])
    embeddings = embedder.embed_chips(embedder.chips(image, faces))
    assert network.batches == [3]
    assert embeddings.shape == (3, 4)
    assert np.allclose(np.linalg.norm(embeddings, axis=1), 1, atol=1e-6)


def test_no_face_is_an_empty_answer():
    embedder = Embedder(Means(), ENTRY)
    chips = embedder.chips(np.zeros((50, 50, 3), np.uint8), np.zeros((0, 5, 2), np.float32))
    assert chips.shape == (0, 112, 112, 3)
    assert embedder.embed_chips(chips).shape == (0, 4)
    assert looks(np.zeros((50, 50, 3), np.uint8), np.zeros((0, 5, 2), np.float32)).shape[0] == 0


def test_colours_reach_the_network_as_rgb():
    network = Means()
    red = np.zeros((1, 112, 112, 3), np.uint8)
    red[..., 2] = 255  # BGR
    embedding = Embedder(network, ENTRY).embed_chips(red)[0]
    assert embedding[0] > 0 > embedding[2]


def test_a_network_of_another_dimension_is_refused():
    with pytest.raises(ModelError, match="gives 4 numbers a face, but the catalogue says 512"):
        Embedder(Means(), dict(ENTRY, dimension=512))


def test_looks_tell_faces_apart_and_forgive_light():
    random = np.random.RandomState(1)
    image = np.full((300, 600, 3), 90, np.uint8)
    image[50:250, 50:250] = random.randint(0, 200, (10, 10, 1)).astype(np.uint8).repeat(20, 0).repeat(20, 1)
    image[50:250, 350:550] = random.randint(0, 200, (10, 10, 1)).astype(np.uint8).repeat(20, 0).repeat(20, 1)
    first, second = ARCFACE_112 * 1.5 + [65, 60], ARCFACE_112 * 1.5 + [365, 60]
    faces = np.stack([first, second]).astype(np.float32)
    seen = looks(image, faces)
    brighter = looks((image + 40).astype(np.uint8), faces)
    assert np.allclose(np.linalg.norm(seen, axis=1), 1, atol=1e-5)
    assert float(seen[0] @ brighter[0]) > 0.99
    assert float(seen[0] @ seen[1]) < 0.7
