"""FaceNet to ONNX. The official weights (112 MB) are not here: drawn ones, and what torch gave for them."""
import csv
from pathlib import Path

import numpy as np
import onnx
import pytest

from engines.backends.onnx import OnnxNetwork
from engines.convert import facenet
from errors import ModelError
from tests import shared
from tests.engines.convert import weights


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    path = Path(str(tmp_path_factory.mktemp("facenet"))) / "facenet.onnx"
    facenet.graph(weights.facenet(), "drawn").save(path)
    return path


def test_drawn_weights_give_what_torch_gave(made: Path) -> None:
    with OnnxNetwork(made, threads=2) as network:
        found = network.run({"input": weights.picture("facenet")})["embedding"]
    np.testing.assert_allclose(found, weights.stored("facenet")["embedding"], atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)


def test_it_ends_in_an_l2_norm_and_suits_the_oldest_runtimes(made: Path) -> None:
    model = onnx.load(str(made))
    assert (model.opset_import[0].version, model.ir_version) == (13, 7)
    assert [item.name for item in model.graph.input] == ["input"]
    last = model.graph.node[-1]
    assert (last.op_type, last.name, list(last.output)) == ("Div", "L2Norm", ["embedding"])
    smallest = [item for item in model.graph.initializer if item.name == "L2Norm/smallest"]
    assert onnx.numpy_helper.to_array(smallest[0]) == np.float32(1e-12)


def test_the_tensors_are_those_of_the_published_checkpoint() -> None:
    with shared("models/facenet/tensors.csv").open(newline="") as file:
        rows = [(row["pytorch_name"], row["pytorch_shape"]) for row in csv.DictReader(file)]
    ours = [(name, "x".join(map(str, shape))) for name, shape in weights.facenet_shapes()]
    assert ours == [row for row in rows if not row[0].startswith("logits")]


def test_another_network_is_named() -> None:
    with pytest.raises(ModelError, match=r"drawn: is not FaceNet's Inception-ResNet-v1: its conv2d_1a.conv.weight"):
        facenet.graph(weights.mtcnn("pnet"), "drawn")
