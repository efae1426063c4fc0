"""The .caffemodel reader."""
from pathlib import Path

import numpy as np
import pytest

from engines.convert import caffe_file
from errors import ModelError
from tests import shared


def _field(number: int, content: bytes) -> bytes:
    return bytes(_varint(number << 3 | 2)) + bytes(_varint(len(content))) + content


def _varint(value: int) -> bytes:
    out = []
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes(out + [value])


def _net(shape_field: bytes) -> bytes:
    data = np.arange(6, dtype="<f4").tobytes()
    blob = shape_field + _field(5, data)
    layer = _field(1, b"conv1") + _field(2, b"Convolution") + _field(7, blob)
    return _field(1, b"Net") + _field(100, layer) + _field(100, _field(1, b"pool1"))


@pytest.mark.parametrize(
    "shape, wanted",
    [
        (_field(7, _field(1, b"\x02\x03")), (2, 3)),  # BlobShape, packed
        (_field(7, b"\x08\x02\x08\x03"), (2, 3)),  # BlobShape, one number at a time
        (b"\x08\x01\x10\x01\x18\x02\x20\x03", (1, 1, 2, 3)),  # num, channels, height, width of older files
    ],
)
def test_layers_blobs_and_shapes(shape: bytes, wanted: tuple, tmp_path: Path) -> None:
    (tmp_path / "net.caffemodel").write_bytes(_net(shape))
    found = caffe_file.read(tmp_path / "net.caffemodel")
    assert list(found) == ["conv1"]  # layers without weights are left out
    np.testing.assert_array_equal(found["conv1"][0], np.arange(6).reshape(wanted))


def test_a_real_one() -> None:
    found = caffe_file.read(shared("models/mtcnn/det2.caffemodel"))
    assert [blob.shape for blob in found["conv4"]] == [(128, 576), (128,)]


def test_every_cut_is_an_error(tmp_path: Path) -> None:
    whole = _net(_field(7, _field(1, b"\x02\x03")))
    path = tmp_path / "cut.caffemodel"
    for length in range(whole.index(b"Convolution")):
        path.write_bytes(whole[:length])
        with pytest.raises(ModelError, match=r"cut\.caffemodel"):
            caffe_file.read(path)


def test_another_file(tmp_path: Path) -> None:
    path = tmp_path / "page.caffemodel"
    path.write_bytes(b"<html>not here</html>")
    with pytest.raises(ModelError, match="caffemodel"):
        caffe_file.read(path)
