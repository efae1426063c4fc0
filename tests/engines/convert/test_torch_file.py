"""The .pt reader: both layouts as torch wrote them, and nothing that a pickle could call."""
import os
import pickle
import zipfile
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest

from engines.convert import torch_file
from errors import ModelError
from tests import shared
from tests.engines.convert.weights import DATA


@pytest.mark.parametrize("name", ["archive.pt", "rows.pt"])
def test_both_layouts(name: str) -> None:
    found = torch_file.read(DATA / name)
    assert list(found) == ["half", "turned", "count"]
    assert found["half"].dtype == np.float16
    np.testing.assert_array_equal(found["half"], [[0, 1, 2], [3, 4, 5]])
    np.testing.assert_array_equal(found["turned"], [[0, 3], [1, 4], [2, 5]])  # strides of a transposed view
    assert found["count"].dtype == np.int64 and found["count"] == 7


def test_the_original_state_dict() -> None:
    found = torch_file.read(shared("models/mtcnn/onet.pt"))
    assert len(found) == 21
    assert found["dense5.weight"].shape == (256, 1152)


class Call:
    def __init__(self, function, *arguments) -> None:
        self.parts = function, arguments

    def __reduce__(self):
        return self.parts


def _archive(path: Path, content: bytes) -> Path:
    with zipfile.ZipFile(str(path), "w") as file:
        file.writestr("archive/data.pkl", content)
    return path


@pytest.mark.parametrize(
    "call",
    [
        Call(os.mkdir, "PLACE"),
        Call(eval, "__import__('os').mkdir('PLACE')"),
        Call(getattr, OrderedDict, "fromkeys"),
    ],
)
@pytest.mark.parametrize("layout", ["archive", "rows"])
def test_a_pickle_that_calls_something_is_refused(call: Call, layout: str, tmp_path: Path) -> None:
    place = str(tmp_path / "made")
    call.parts = call.parts[0], tuple(str(item).replace("PLACE", place) for item in call.parts[1])
    bad = pickle.dumps({"weight": call}, 2)
    if layout == "archive":
        path = _archive(tmp_path / "bad.pt", bad)
    else:
        path = tmp_path / "bad.pt"
        path.write_bytes(pickle.dumps(torch_file.MAGIC, 2) + pickle.dumps(1001, 2) + bad)
    with pytest.raises(ModelError, match=r"bad\.pt: holds a reference to .*; only a state dict"):
        torch_file.read(path)
    assert not os.path.exists(place)


def test_something_else_than_tensors_is_refused(tmp_path: Path) -> None:
    path = _archive(tmp_path / "list.pt", pickle.dumps([1, 2], 2))
    with pytest.raises(ModelError, match="holds a list instead of a state dict"):
        torch_file.read(path)
    path = _archive(tmp_path / "text.pt", pickle.dumps({"name": "x"}, 2))
    with pytest.raises(ModelError, match="holds a str under 'name'"):
        torch_file.read(path)


@pytest.mark.parametrize("name", ["archive.pt", "rows.pt"])
def test_every_cut_and_many_flips_are_errors_or_tensors(name: str, tmp_path: Path) -> None:
    whole = (DATA / name).read_bytes()
    path = tmp_path / "damaged.pt"
    for length in range(0, len(whole) - 1, 7):
        path.write_bytes(whole[:length])
        with pytest.raises(ModelError):
            torch_file.read(path)
    for place in range(0, len(whole), 5):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x5A]) + whole[place + 1 :])
        try:
            assert all(isinstance(array, np.ndarray) for array in torch_file.read(path).values())
        except ModelError as error:
            assert "damaged.pt" in str(error)


def test_a_view_outside_its_storage_is_refused(tmp_path: Path) -> None:
    whole = (DATA / "rows.pt").read_bytes()
    shape = b"K\x02K\x03\x86"  # the tuple (2, 3)
    assert shape in whole
    path = tmp_path / "reach.pt"
    path.write_bytes(whole.replace(shape, b"K\x02K\x63\x86"))
    with pytest.raises(ModelError, match="reaches over its storage"):
        torch_file.read(path)


def test_an_absent_file(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="cannot be read"):
        torch_file.read(tmp_path / "none.pt")
