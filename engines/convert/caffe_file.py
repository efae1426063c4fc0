"""Read the weights of a .caffemodel without Caffe: a small reader of its protobuf message.

Field numbers are those of caffe.proto (BVLC): NetParameter 100 = layer (2 = layers, the older V1),
LayerParameter 1 = name, 7 = blobs (V1: 4 and 6), BlobProto 1-4 = num, channels, height, width,
5 = data, 7 = shape (BlobShape 1 = dim).
"""
from pathlib import Path
from typing import Dict, Iterator, List, Tuple, Union

import numpy as np

from errors import ModelError

Field = Tuple[int, Union[int, bytes]]


def read(path: Path) -> Dict[str, List[np.ndarray]]:
    """The blobs (weights, biases, slopes) of every layer that has some, by layer name.

    Raises ModelError when the file cannot be read or is no whole caffemodel.
    """
    try:
        net = path.read_bytes()
    except OSError as error:
        raise ModelError("{}: cannot be read ({}).".format(path, error.strerror)) from error
    layers: Dict[str, List[np.ndarray]] = {}
    try:
        for number, layer in fields(net):
            if number in (100, 2) and isinstance(layer, bytes):
                name, blobs = _layer(layer, *((1, 7) if number == 100 else (4, 6)))
                if blobs:
                    layers[name] = blobs
    except (ValueError, IndexError, UnicodeDecodeError) as error:
        raise ModelError("{}: is not a whole caffemodel ({}); fetch it again.".format(path, error)) from error
    if not layers:
        raise ModelError("{}: holds no layer with weights; a .caffemodel file is wanted.".format(path))
    return layers


def fields(message: bytes) -> Iterator[Field]:
    """Field numbers and values of a protobuf message: an int for a varint, otherwise the bytes."""
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        kind = tag & 7
        if kind == 0:
            value, at = _varint(message, at)
            yield tag >> 3, value
            continue
        if kind == 2:
            size, at = _varint(message, at)
        elif kind in (1, 5):
            size = 8 if kind == 1 else 4
        else:
            raise ValueError("wire type {} at byte {}".format(kind, at))
        if at + size > len(message):
            raise ValueError("cut off at byte {}".format(len(message)))
        yield tag >> 3, message[at : at + size]
        at += size


def _varint(message: bytes, at: int) -> Tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
        if shift > 63:
            raise ValueError("a number of more than ten bytes at byte {}".format(at))


def _layer(message: bytes, name_field: int, blobs_field: int) -> Tuple[str, List[np.ndarray]]:
    name, blobs = "", []  # type: Tuple[str, List[np.ndarray]]
    for number, value in fields(message):
        if number == name_field and isinstance(value, bytes):
            name = value.decode("utf-8")
        elif number == blobs_field and isinstance(value, bytes):
            blobs.append(_blob(value))
    return name, blobs


def _blob(message: bytes) -> np.ndarray:
    data, shape, old_shape = b"", [], [0, 0, 0, 0]  # type: Tuple[bytes, List[int], List[int]]
    for number, value in fields(message):
        if number == 5 and isinstance(value, bytes):  # packed, or one number at a time
            data += value
        elif number == 7 and isinstance(value, bytes):
            shape = _dimensions(value)
        elif 1 <= number <= 4 and isinstance(value, int):
            old_shape[number - 1] = value
    return np.frombuffer(data, "<f4").reshape(shape or old_shape)


def _dimensions(message: bytes) -> List[int]:
    shape: List[int] = []
    for number, value in fields(message):
        if number == 1 and isinstance(value, int):
            shape.append(value)
        elif number == 1 and isinstance(value, bytes):
            at = 0
            while at < len(value):
                size, at = _varint(value, at)
                shape.append(size)
    return shape
