"""The rewriting of PRelu: the same numbers, and no PRelu left where ONNX Runtime would be slow."""

import numpy as np
import pytest

from engines.backends.onnx import OnnxNetwork
from engines.backends.prelu import quick, rewritten
from engines.build import ensure
from engines.convert.graph import Graph
from tests import SHARED

SHAPES = {"pnet": [(1, 3, 12, 12), (1, 3, 61, 44), (2, 3, 100, 101)], "rnet": [(1, 3, 24, 24), (7, 3, 24, 24)],
          "onet": [(1, 3, 48, 48), (3, 3, 48, 48)]}  # fmt: skip


def network(path, channels, slopes, pool, last):
    """Conv, PRelu, perhaps a pooling, then `last`: 'conv', 'group' or nothing."""
    random = np.random.RandomState(channels)
    net = Graph("test")
    value = net.input("input", ["N", 3, "H", "W"])
    value = net.conv(
        value, "conv1", random.randn(channels, 3, 3, 3).astype(np.float32), random.randn(channels).astype(np.float32)
    )
    value = net.add("PRelu", [value, net.weight("slope", np.asarray(slopes, np.float32).reshape(-1, 1, 1))], "prelu1")
    if pool:
        value = net.add("MaxPool", [value], "pool1", kernel_shape=[pool, pool], strides=[2, 2], ceil_mode=1)
    if last == "conv":
        value = net.conv(
            value, "conv2", random.randn(5, channels, 3, 3).astype(np.float32), random.randn(5).astype(np.float32)
        )
    elif last == "group":
        kernel = net.weight("kernel", random.randn(channels, 1, 1, 1).astype(np.float32))
        value = net.add("Conv", [value, kernel], "conv2", kernel_shape=[1, 1], group=channels)
    net.nodes[-1].output[0] = "output"
    net.output("output", ["N", "C", "h", "w"])
    net.save(path)
    return path.read_bytes()


def assert_same(one, other, shape):
    feeds = {"input": np.random.RandomState(1).randn(*shape).astype(np.float32)}
    first, second = OnnxNetwork(one, 1).run(feeds), OnnxNetwork(other, 1).run(feeds)
    for name in first:
        assert np.abs(first[name] - second[name]).max() < 1e-5 * max(1, np.abs(first[name]).max())


@pytest.mark.parametrize("role", sorted(SHAPES))
def test_mtcnn_gives_the_same(role):
    model = ensure("mtcnn", models_dir=SHARED / "models" / "mtcnn" if SHARED.exists() else None)[role].read_bytes()
    new = rewritten(model)
    assert new.count(b"PRelu") == (0 if role == "pnet" else 1)  # that of the dense layer stays: it costs nothing
    for shape in SHAPES[role]:
        assert_same(model, new, shape)


@pytest.mark.parametrize("last", ["conv", "group", ""])
@pytest.mark.parametrize("pool", [0, 2, 3])
@pytest.mark.parametrize(
    "channels, low, high", [(10, -1, 1.5), (10, 0, 1), (16, -0.5, 0.9), (20, -1, 1), (32, 0.5, 3), (1, 2, 3)]
)
def test_slopes_of_every_kind(tmp_path, channels, low, high, pool, last):
    model = network(tmp_path / "net.onnx", channels, np.random.RandomState(0).uniform(low, high, channels), pool, last)
    assert_same(model, rewritten(model), (2, 3, 17, 20))


def test_a_copy_is_kept_and_made_again(tmp_path):
    path = tmp_path / "net.onnx"
    network(path, 16, np.full(16, 0.25), 0, "conv")
    copied = quick(path)
    assert copied != path and b"PRelu" not in copied.read_bytes()
    before = copied.stat().st_mtime_ns
    assert quick(path) == copied and copied.stat().st_mtime_ns == before
    network(path, 16, np.full(16, 0.5), 0, "conv")
    later = copied.stat().st_mtime + 5
    import os

    os.utime(str(path), (later, later))
    assert_same(path.read_bytes(), quick(path).read_bytes(), (1, 3, 9, 9))
    assert sorted(item.name for item in tmp_path.iterdir()) == ["net.cpu1.onnx", "net.onnx"]


def test_a_file_without_prelu_is_itself(tmp_path):
    net = Graph("plain")
    net.conv(
        net.input("input", ["N", 3, "H", "W"]),
        "conv",
        np.zeros((2, 3, 1, 1), np.float32),
        np.zeros(2, np.float32),
        "output",
    )
    net.output("output", ["N", 2, "H", "W"])
    path = tmp_path / "plain.onnx"
    net.save(path)
    assert quick(path) == path and quick(tmp_path / "absent.onnx") == tmp_path / "absent.onnx"
