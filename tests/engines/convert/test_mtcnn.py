"""MTCNN to ONNX: the outputs are torch's, from whichever file the weights come."""
from pathlib import Path

import numpy as np
import onnx
import pytest

from engines.backends.onnx import OnnxNetwork
from engines.convert import mtcnn
from errors import ModelError
from tests import shared
from tests.engines.convert import weights

ROLES = ("pnet", "rnet", "onet")
CAFFE = {"pnet": "det1", "rnet": "det2", "onet": "det3"}


def _run(path: Path, role: str) -> dict:
    with OnnxNetwork(path, threads=1) as network:
        return network.run({"input": weights.picture(role)})


@pytest.mark.parametrize("role", ROLES)
def test_drawn_weights_give_what_torch_gave(role: str, tmp_path: Path) -> None:
    mtcnn.graph(role, mtcnn.from_torch(weights.mtcnn(role)), "drawn").save(tmp_path / "net.onnx")
    found = _run(tmp_path / "net.onnx", role)
    wanted = weights.stored(role)
    assert sorted(found) == sorted(wanted)
    for name, array in wanted.items():
        np.testing.assert_allclose(found[name], array, atol=2e-5, err_msg=name)


@pytest.mark.parametrize("role", ROLES)
def test_the_original_weights_give_what_torch_gave(role: str, tmp_path: Path) -> None:
    mtcnn.convert(shared("models/mtcnn/{}.pt".format(role)), tmp_path / "net.onnx", role)
    for name, array in weights.stored("original_" + role).items():
        np.testing.assert_allclose(_run(tmp_path / "net.onnx", role)[name], array, atol=2e-5, err_msg=name)


@pytest.mark.parametrize("variant", ["", "_relu"])
@pytest.mark.parametrize("role", ROLES)
def test_caffemodels_become_the_same_file(role: str, variant: str, tmp_path: Path) -> None:
    mtcnn.convert(shared("models/mtcnn/{}.pt".format(role)), tmp_path / "torch.onnx", role)
    caffe = shared("models/mtcnn/{}{}.caffemodel".format(CAFFE[role], variant))
    mtcnn.convert(caffe, tmp_path / "caffe.onnx", role)
    assert (tmp_path / "caffe.onnx").read_bytes() == (tmp_path / "torch.onnx").read_bytes()


@pytest.mark.parametrize("role", ROLES)
def test_the_file_suits_the_oldest_runtimes(role: str, tmp_path: Path) -> None:
    mtcnn.graph(role, mtcnn.from_torch(weights.mtcnn(role)), "drawn").save(tmp_path / "net.onnx")
    model = onnx.load(str(tmp_path / "net.onnx"))
    assert model.opset_import[0].version == 13
    assert model.ir_version == 7
    assert [item.name for item in model.graph.input] == ["input"]  # weights among the inputs would not be folded
    kinds = [node.op_type for node in model.graph.node]
    assert kinds.count("PRelu") == {"pnet": 3, "rnet": 4, "onet": 5}[role]
    assert "Relu" not in kinds


def test_pnet_takes_any_size_and_any_batch(tmp_path: Path) -> None:
    mtcnn.graph("pnet", mtcnn.from_torch(weights.mtcnn("pnet")), "drawn").save(tmp_path / "net.onnx")
    with OnnxNetwork(tmp_path / "net.onnx", threads=1) as network:
        assert network.inputs[0].shape == (None, 3, None, None)
        for size, cells in (((1, 3, 12, 12), (1, 1)), ((3, 3, 13, 40), (2, 15))):
            found = network.run({"input": np.zeros(size, np.float32)})
            assert found["probability"].shape == (size[0], 2) + cells
            assert found["regression"].shape == (size[0], 4) + cells


def test_the_wrong_network_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"drawn: is not the pnet of MTCNN: its prelu1.weight is 28, not 10"):
        mtcnn.graph("pnet", mtcnn.from_torch(weights.mtcnn("rnet")), "drawn")


def test_a_missing_tensor_is_named(tmp_path: Path) -> None:
    tensors = weights.mtcnn("onet")
    del tensors["dense6_3.bias"]
    with pytest.raises(ModelError, match=r"its dense6_3.bias is missing, not 10"):
        mtcnn.graph("onet", mtcnn.from_torch(tensors), "drawn")
