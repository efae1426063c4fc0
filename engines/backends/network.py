"""A network on some backend: named arrays in, named arrays out, and nothing else."""
import abc
from typing import TYPE_CHECKING, Any, Dict, Mapping, NamedTuple, Optional, Sequence, Tuple, TypeVar

import numpy as np

from errors import ModelError

Self = TypeVar("Self", bound="Network")

if TYPE_CHECKING:
    from engines.sampling.device import DeviceArray


class Tensor(NamedTuple):
    """An input or output: its name, its shape with None for free axes, its numpy dtype."""

    name: str
    shape: Tuple[Optional[int], ...]
    dtype: np.dtype


class Network(abc.ABC):
    """A context manager. Returned arrays may be reused by the next `run`: copy what must live."""

    inputs: Tuple[Tensor, ...] = ()
    outputs: Tuple[Tensor, ...] = ()

    @abc.abstractmethod
    def run(self, feeds: Dict[str, np.ndarray]) -> Dict[str, np.ndarray]:
        """Run once. Raises ModelError when a name, dtype or shape does not fit `inputs`."""

    def run_on_device(self, feeds: "Dict[str, DeviceArray]", stream: int) -> "Optional[Dict[str, DeviceArray]]":
        """`run` from and to the device's memory: queued on its `stream`, behind what is queued there.

        None where it does not run there, or not in these shapes: then `run` will do. The arrays
        returned are overwritten by the next run.
        """
        return None

    def close(self) -> None:
        """Free what the backend holds."""

    def __enter__(self: Self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def check(name: str, inputs: Sequence[Tensor], feeds: Mapping[str, Any]) -> None:
    """Raise ModelError, naming the network `name`, where `feeds` are not what `inputs` ask for."""
    wanted = [tensor.name for tensor in inputs]
    if sorted(feeds) != sorted(wanted):
        message = "{}: inputs are {}, but must be {}."
        raise ModelError(message.format(name, ", ".join(sorted(feeds)) or "none", ", ".join(wanted)))
    for tensor in inputs:
        array = feeds[tensor.name]
        if array.dtype != tensor.dtype:
            message = "{}: input '{}' is {}, but must be {}."
            raise ModelError(message.format(name, tensor.name, array.dtype, tensor.dtype))
        fits = [size in (None, got) for size, got in zip(tensor.shape, array.shape)]
        if array.ndim != len(tensor.shape) or not all(fits):
            message = "{}: input '{}' has shape {}, but must be {}."
            raise ModelError(message.format(name, tensor.name, shape_text(array.shape), shape_text(tensor.shape)))


def shape_text(shape: Any) -> str:
    return "(" + ", ".join("any" if size is None else str(size) for size in shape) + ")"
