"""Our conversions against torch itself. In a venv with requirements-parity.txt:

    python -m pytest tests/parity
"""
from pathlib import Path

import numpy as np
import pytest

from engines.backends.onnx import OnnxNetwork
from engines.convert import facenet, mtcnn, torch_file
from tests import shared
from tests.engines.convert import weights

torch = pytest.importorskip("torch", reason="needs torch (requirements-parity.txt)")
ROLES = ("pnet", "rnet", "onet", "facenet")


def _drawn(role: str) -> dict:
    return weights.facenet() if role == "facenet" else weights.mtcnn(role)


@pytest.mark.parametrize("archive", [True, False], ids=["archive", "rows"])
@pytest.mark.parametrize("role", ROLES)
def test_what_torch_saves_runs_alike(role: str, archive: bool, tmp_path: Path) -> None:
    from tests.parity.store import outputs

    tensors = _drawn(role)
    source, target = tmp_path / "weights.pt", tmp_path / "weights.onnx"
    state = {name: torch.from_numpy(array) for name, array in tensors.items()}
    torch.save(state, str(source), _use_new_zipfile_serialization=archive)
    (facenet if role == "facenet" else mtcnn).convert(source, target, role)
    with OnnxNetwork(target, threads=2) as network:
        found = network.run({"input": weights.picture(role)})
    for name, array in outputs(role, tensors).items():
        np.testing.assert_allclose(found[name], array, atol=1e-4, err_msg=name)


@pytest.mark.parametrize("role", ROLES)
def test_the_stored_outputs_are_those_of_this_torch(role: str) -> None:
    from tests.parity.store import outputs

    for name, array in outputs(role, _drawn(role)).items():
        np.testing.assert_allclose(weights.stored(role)[name], array, atol=1e-5, err_msg=name)


@pytest.mark.parametrize("role", ROLES[:3])
def test_the_original_state_dicts_are_read_as_torch_reads_them(role: str) -> None:
    path = shared("models/mtcnn/{}.pt".format(role))
    wanted, found = torch.load(str(path), weights_only=True), torch_file.read(path)
    assert list(found) == list(wanted)
    for name, tensor in wanted.items():
        np.testing.assert_array_equal(found[name], tensor.numpy())
