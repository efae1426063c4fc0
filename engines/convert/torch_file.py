"""Read the tensors of a PyTorch .pt file without PyTorch, and without running what is inside.

A .pt file is a pickle, and a pickle may name any function of the machine. This reader knows the
five names that a state dict is made of and refuses every other one. Both layouts are read: the zip
archive of PyTorch 1.6 and later, and the older row of pickles followed by the raw numbers.
"""
import collections
import io
import pickle
import struct
import zipfile
from pathlib import Path
from typing import Any, Callable, Dict, NamedTuple, Tuple

import numpy as np

from errors import ModelError

MAGIC = 0x1950A86A20F9469CFC6C  # first pickle of the older layout (torch/serialization.py)
STORAGES = {
    "DoubleStorage": "<f8",
    "FloatStorage": "<f4",
    "HalfStorage": "<f2",
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ByteStorage": "|u1",
}


class Storage(NamedTuple):
    """A flat run of numbers, named by its key; a file says where its bytes lie."""

    key: str
    dtype: str
    numbers: int


class _View(NamedTuple):
    storage: Storage
    offset: int
    shape: Tuple[int, ...]
    strides: Tuple[int, ...]


class _Refused(Exception):
    pass


def read(path: Path) -> Dict[str, np.ndarray]:
    """All tensors of the state dict in `path`, by name, in its order.

    Raises ModelError when the file cannot be read, is damaged, or holds anything but tensors.
    """
    try:
        with path.open("rb") as file:
            views, raw = _read_zip(file) if zipfile.is_zipfile(file) else _read_rows(file)
        if not isinstance(views, dict) or not views:
            raise _Refused("a {} instead of a state dict".format(type(views).__name__))
        return {str(name): _array(name, view, raw) for name, view in views.items()}
    except OSError as error:
        raise ModelError("{}: cannot be read ({}).".format(path, error.strerror)) from error
    except _Refused as error:
        raise ModelError("{}: holds {}; only a state dict of plain tensors is read.".format(path, error)) from error
    except Exception as error:  # a damaged pickle can raise nearly anything
        raise ModelError("{}: is not a whole PyTorch file ({}); fetch it again.".format(path, error)) from error


class _Unpickler(pickle.Unpickler):
    """Builds views instead of tensors, so that nothing of PyTorch is needed."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return collections.OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _view
        if module == "torch" and name in STORAGES:
            return STORAGES[name]
        raise _Refused("a reference to {}.{}".format(module, name))

    def persistent_load(self, pid: Any) -> Storage:
        if not isinstance(pid, tuple) or len(pid) < 5 or pid[0] != "storage" or pid[1] not in STORAGES.values():
            raise _Refused("an unknown storage")
        return Storage(str(pid[2]), pid[1], int(pid[4]))


def _view(storage: Storage, offset: int, shape: Tuple[int, ...], strides: Tuple[int, ...], *_: Any) -> _View:
    return _View(storage, offset, tuple(shape), tuple(strides))


def _read_zip(file: Any) -> Tuple[Any, Callable[[Storage], bytes]]:
    with zipfile.ZipFile(file) as archive:
        inside = [name for name in archive.namelist() if name.count("/") == 1 and name.endswith("/data.pkl")]
        if len(inside) != 1:
            raise _Refused("a zip archive without data.pkl")
        folder = inside[0].rsplit("/", 1)[0]
        if folder + "/byteorder" in archive.namelist() and archive.read(folder + "/byteorder") != b"little":
            raise _Refused("big-endian numbers")
        prefix = folder + "/data/"
        blobs = {name[len(prefix) :]: archive.read(name) for name in archive.namelist() if name.startswith(prefix)}
        views = _Unpickler(io.BytesIO(archive.read(inside[0]))).load()
    return views, lambda storage: blobs[storage.key]


def _read_rows(file: Any) -> Tuple[Any, Callable[[Storage], bytes]]:
    """The older layout: magic, protocol, machine, state dict, storage keys, then each storage."""
    file.seek(0)
    if _Unpickler(file).load() != MAGIC:
        raise _Refused("something else than PyTorch weights")
    _Unpickler(file).load()
    machine = _Unpickler(file).load()
    if not isinstance(machine, dict) or not machine.get("little_endian"):
        raise _Refused("big-endian numbers")
    views = _Unpickler(file).load()
    keys = _Unpickler(file).load()
    storages = {view.storage.key: view.storage for view in views.values() if isinstance(view, _View)}
    blobs: Dict[str, bytes] = {}
    for key in keys:
        (count,) = struct.unpack("<q", file.read(8))
        size = storages[key].numbers * np.dtype(storages[key].dtype).itemsize
        if count != storages[key].numbers:
            raise _Refused("a storage of {} numbers where {} belong".format(count, storages[key].numbers))
        blobs[key] = file.read(size)
    return views, lambda storage: blobs[storage.key]


def _array(name: Any, view: Any, raw: Callable[[Storage], bytes]) -> np.ndarray:
    if not isinstance(view, _View):
        raise _Refused("a {} under '{}'".format(type(view).__name__, name))
    flat = np.frombuffer(raw(view.storage), np.dtype(view.storage.dtype), view.storage.numbers)
    reach = view.offset + sum((size - 1) * step for size, step in zip(view.shape, view.strides)) + 1
    size = int(np.prod(view.shape, dtype=np.float64))  # more than its storage: repeated numbers, no weights
    if min(view.shape + view.strides + (view.offset, 0)) < 0 or (size and max(reach, size) > flat.size):
        raise _Refused("a tensor '{}' that reaches over its storage".format(name))
    steps = tuple(step * flat.itemsize for step in view.strides)
    return np.lib.stride_tricks.as_strided(flat[view.offset :], view.shape, steps).copy()
