"""A network on some backend: named arrays in, named arrays out, and nothing else."""
import abc
from typing import TYPE_CHECKING, Dict, NamedTuple, Optional, Tuple

import numpy as np

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

    def __enter__(self) -> "Network":
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
