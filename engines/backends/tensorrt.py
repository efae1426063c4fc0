"""Networks on the GPU through TensorRT, from 8.2 (JetPack 4.6, Python 3.6) to 11.

What a version can do is asked of its objects, not of its number. Two things differ between versions
once a plan is there: tensors have an index (to 8.4) or a name (from 8.5 on), and so has the call that
runs them. Everything is allocated when the network is opened, for the largest shapes of its plan; a
run copies in, enqueues, copies out, and waits once.
"""
import functools
from typing import TYPE_CHECKING, Any, Dict, List, Optional, Tuple

import numpy as np

from engines.backends.cuda import Graph, gpu
from engines.backends.network import Network, Tensor, check, shape_text
from errors import ModelError

if TYPE_CHECKING:
    from engines.sampling.device import DeviceArray

DTYPES = {"FLOAT": np.float32, "HALF": np.float16, "INT32": np.int32, "INT8": np.int8, "BOOL": np.bool_,
          "UINT8": np.uint8, "INT64": np.int64}  # fmt: skip
STEADY = 3  # runs of one shape in a row after which it is recorded as a CUDA graph
Shape = Tuple[int, ...]


class RefusedPlan(ModelError):
    """TensorRT does not take this plan, whole as it is; one that is built anew may do."""


class TensorrtNetwork(Network):
    """A plan (a serialised engine). Arrays returned are overwritten by the next `run`.

    Axis 0 of a network whose inputs and outputs all have it free is the batch: none is answered
    without the GPU, and more than the plan holds are run in turns. `graphs`: record steady shapes.
    """

    def __init__(self, plan: bytes, name: str, graphs: bool = True) -> None:
        import pycuda.driver as driver
        import tensorrt as trt

        self.name = name
        self._cuda = driver
        self._graph: Optional[Graph] = None
        self._graphs = graphs
        self._host: Dict[str, Any] = {}  # flat, page-locked
        self._device: Dict[str, Any] = {}
        self._last: Any = None  # shapes, addresses and stream of the last run
        self._steady = 0  # runs since one of them changed
        self._open = True
        with gpu().current():
            try:
                self._load(trt, plan)
            except driver.Error as error:
                self._free()
                raise ModelError("{}: CUDA cannot load it ({}).".format(name, error)) from error
            except ModelError:
                self._free()
                raise

    def _load(self, trt: Any, plan: bytes) -> None:
        logger = quiet_logger(trt)
        self._runtime = trt.Runtime(logger)
        self.engine = self._runtime.deserialize_cuda_engine(plan)
        if self.engine is None:
            raise RefusedPlan("{}: TensorRT {} cannot load this plan ({}).".format(
                self.name, trt.__version__, logger.reason()))  # fmt: skip
        self._context = self.engine.create_execution_context()
        if self._context is None:
            raise ModelError("{}: TensorRT cannot run this plan ({}).".format(self.name, logger.reason()))
        self._logger = logger
        self._stream = self._cuda.Stream()
        kind = _Named if hasattr(self.engine, "num_io_tensors") else _Indexed
        self._api = kind(trt, self.engine, self._context)
        self.limits = {tensor.name: self._api.limits(tensor) for tensor in self._api.inputs}
        self.inputs, self.outputs = tuple(self._api.inputs), tuple(self._api.outputs)
        tensors = self.inputs + self.outputs
        self._batched = all(tensor.shape and tensor.shape[0] is None for tensor in tensors)
        for name, (_, most) in self.limits.items():
            self._set_shape(name, most)
        for tensor in tensors:
            size = max(int(np.prod(self._api.shape(tensor.name))), 1)
            self._host[tensor.name] = self._cuda.pagelocked_empty(size, tensor.dtype)
            self._device[tensor.name] = self._cuda.mem_alloc(size * tensor.dtype.itemsize)
        self._addresses = {name: int(memory) for name, memory in self._device.items()}

    def run(self, feeds: Dict[str, np.ndarray]) -> Dict[str, np.ndarray]:
        if not self._open:
            raise ModelError("{}: the network is closed.".format(self.name))
        check(self.name, self.inputs, feeds)
        if not self.fits(feeds):
            raise ModelError(self._misfit(feeds))
        rows = len(feeds[self.inputs[0].name]) if self._batched else 1
        if not rows:
            return {one.name: np.zeros([size or 0 for size in one.shape], one.dtype) for one in self.outputs}
        with gpu().current():
            try:
                return self._run_in_turns(feeds, rows)
            except self._cuda.Error as error:
                raise ModelError("{}: CUDA cannot run it ({}).".format(self.name, error)) from error

    def run_on_device(self, feeds: "Dict[str, DeviceArray]", stream: int) -> "Optional[Dict[str, DeviceArray]]":
        from engines.sampling.device import DeviceArray

        check(self.name, self.inputs, feeds)
        if not self._holds(feeds, 0):
            return None
        with gpu().current():
            shapes = {name: tuple(array.shape) for name, array in feeds.items()}
            addresses = {name: array.address for name, array in feeds.items()}
            self._enqueue(shapes, dict(self._addresses, **addresses), stream)
            return {one.name: DeviceArray(self._addresses[one.name], self._api.shape(one.name), one.dtype)
                    for one in self.outputs}  # fmt: skip

    def fits(self, feeds: Dict[str, Any]) -> bool:
        """Whether the plan holds these shapes; of a batch any number of rows."""
        return self._holds(feeds, 1 if self._batched else 0)

    def _holds(self, feeds: Dict[str, Any], first: int) -> bool:
        """The same from axis `first` on."""
        for name, (least, most) in self.limits.items():
            sizes = list(zip(least, feeds[name].shape, most))[first:]
            if not all(low <= size <= high for low, size, high in sizes):
                return False
        return True

    def close(self) -> None:
        if not self._open:
            return
        self._open = False
        with gpu().current():
            self._free()

    def _free(self) -> None:
        if self._graph is not None:
            self._graph.close()
        for memory in self._device.values():
            memory.free()
        self._device.clear()
        self._host.clear()
        for name in ("_api", "_context", "engine", "_runtime", "_stream"):  # each lives on the one after it
            self.__dict__.pop(name, None)

    def _run_in_turns(self, feeds: Dict[str, np.ndarray], rows: int) -> Dict[str, np.ndarray]:
        cap = self.limits[self.inputs[0].name][1][0]
        if not self._batched or rows <= cap:
            return self._run(feeds)
        parts: List[Dict[str, np.ndarray]] = []
        for start in range(0, rows, cap):
            some = self._run({name: array[start : start + cap] for name, array in feeds.items()})
            parts.append({name: array.copy() for name, array in some.items()})
        return {one.name: np.concatenate([part[one.name] for part in parts]) for one in self.outputs}

    def _run(self, feeds: Dict[str, np.ndarray]) -> Dict[str, np.ndarray]:
        for name, array in feeds.items():
            host = self._host[name][: array.size]
            np.copyto(host.reshape(array.shape), array)
            self._cuda.memcpy_htod_async(self._device[name], host, self._stream)
        self._enqueue({name: array.shape for name, array in feeds.items()}, self._addresses, self._stream.handle)
        found = {}
        for tensor in self.outputs:
            shape = self._api.shape(tensor.name)
            host = self._host[tensor.name][: int(np.prod(shape))]
            self._cuda.memcpy_dtoh_async(host, self._device[tensor.name], self._stream)
            found[tensor.name] = host.reshape(shape)
        self._stream.synchronize()
        return found

    def _enqueue(self, shapes: Dict[str, Shape], addresses: Dict[str, int], stream: int) -> None:
        """Put the network on the stream: by a single launch once nothing has changed for a while."""
        wanted = (shapes, addresses, stream)
        if wanted != self._last:
            self._prepare(shapes, addresses)
            self._last, self._steady = wanted, 0
        self._steady += 1
        if self._graph is not None:
            if not self._graph.launch(stream):
                raise ModelError("{}: its CUDA graph cannot be launched.".format(self.name))
            return
        if not self._api.enqueue(stream):
            raise ModelError("{}: TensorRT cannot run it ({}).".format(self.name, self._logger.reason()))
        if self._graphs and self._steady == STEADY:
            self._graph = Graph.capture(stream, lambda: self._api.enqueue(stream))

    def _prepare(self, shapes: Dict[str, Shape], addresses: Dict[str, int]) -> None:
        if self._graph is not None:
            self._graph.close()
            self._graph = None
        self._last = None
        for name, shape in shapes.items():
            self._set_shape(name, shape)
        for name, address in addresses.items():
            if not self._api.bind(name, address):
                message = "{}: TensorRT does not take memory for '{}' ({})."
                raise ModelError(message.format(self.name, name, self._logger.reason()))

    def _set_shape(self, name: str, shape: Shape) -> None:
        if not self._api.set_shape(name, shape):
            message = "{}: TensorRT does not take shape {} for '{}' ({})."
            raise ModelError(message.format(self.name, shape_text(shape), name, self._logger.reason()))

    def _misfit(self, feeds: Dict[str, np.ndarray]) -> str:
        texts = ["'{}' has shape {}, the plan holds {} to {}".format(
            name, shape_text(feeds[name].shape), shape_text(least), shape_text(most))
            for name, (least, most) in self.limits.items()]  # fmt: skip
        return "{}: input {}; build it for such pictures with capture.width and capture.height.".format(
            self.name, "; ".join(texts))  # fmt: skip


class _Named:
    """Tensors by name: 8.5 and newer."""

    def __init__(self, trt: Any, engine: Any, context: Any) -> None:
        self._engine, self._context = engine, context
        names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
        self.inputs: List[Tensor] = []
        self.outputs: List[Tensor] = []
        for name in names:
            tensor = _tensor(trt, name, engine.get_tensor_shape(name), engine.get_tensor_dtype(name))
            into = engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT
            (self.inputs if into else self.outputs).append(tensor)

    def limits(self, tensor: Tensor) -> Tuple[Shape, Shape]:
        """Smallest and largest shape of an input."""
        if None not in tensor.shape:
            return _fixed(tensor)
        least, _, most = self._engine.get_tensor_profile_shape(tensor.name, 0)
        return tuple(least), tuple(most)

    def set_shape(self, name: str, shape: Shape) -> bool:
        return self._context.set_input_shape(name, shape)

    def shape(self, name: str) -> Shape:
        return tuple(self._context.get_tensor_shape(name))

    def bind(self, name: str, address: int) -> bool:
        return self._context.set_tensor_address(name, address)

    def enqueue(self, stream: int) -> bool:
        return self._context.execute_async_v3(stream)


class _Indexed:
    """Tensors ('bindings') by index: up to 8.4."""

    def __init__(self, trt: Any, engine: Any, context: Any) -> None:
        self._engine, self._context = engine, context
        count = engine.num_bindings
        self._index = {engine.get_binding_name(index): index for index in range(count)}
        self._addresses = [0] * count
        self.inputs: List[Tensor] = []
        self.outputs: List[Tensor] = []
        for name, index in self._index.items():
            tensor = _tensor(trt, name, engine.get_binding_shape(index), engine.get_binding_dtype(index))
            (self.inputs if engine.binding_is_input(index) else self.outputs).append(tensor)

    def limits(self, tensor: Tensor) -> Tuple[Shape, Shape]:
        if None not in tensor.shape:
            return _fixed(tensor)
        least, _, most = self._engine.get_profile_shape(0, self._index[tensor.name])
        return tuple(least), tuple(most)

    def set_shape(self, name: str, shape: Shape) -> bool:
        return self._context.set_binding_shape(self._index[name], shape)

    def shape(self, name: str) -> Shape:
        return tuple(self._context.get_binding_shape(self._index[name]))

    def bind(self, name: str, address: int) -> bool:
        self._addresses[self._index[name]] = address
        return True

    def enqueue(self, stream: int) -> bool:
        return self._context.execute_async_v2(self._addresses, stream)


def _tensor(trt: Any, name: str, shape: Any, dtype: Any) -> Tensor:
    known = {getattr(trt.DataType, text): kind for text, kind in DTYPES.items() if hasattr(trt.DataType, text)}
    if dtype not in known:
        raise ModelError("'{}' of the plan is {}, which is not known here.".format(name, dtype))
    return Tensor(name, tuple(None if size < 0 else size for size in tuple(shape)), np.dtype(known[dtype]))


def _fixed(tensor: Tensor) -> Tuple[Shape, Shape]:
    shape = tuple(size or 0 for size in tensor.shape)
    return shape, shape


@functools.lru_cache(maxsize=None)
def quiet_logger(trt: Any) -> Any:
    """A trt.ILogger that keeps what TensorRT reports as wrong, for the sentence of an exception.

    One for the whole process: TensorRT goes on using the first that it is given.
    """

    class Logger(trt.ILogger):
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self._wrong: List[str] = []

        def log(self, severity: Any, message: str) -> None:
            if severity in (trt.ILogger.ERROR, trt.ILogger.INTERNAL_ERROR):
                self._wrong.append(message.strip())

        def reason(self) -> str:
            """The last complaint, in one line; forgotten once told."""
            last = self._wrong[-1].splitlines()[0] if self._wrong else "it gives no reason"
            self._wrong = []
            return last

    return Logger()
