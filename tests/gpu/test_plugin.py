"""The L2Norm kernel on the GPU, beside its reference in numpy."""

import ctypes

import numpy as np
import pytest

from engines import plugin

TOLERANCE = {np.float32: 1e-6, np.float16: 1e-3}


def normalised(gpu, library, values: np.ndarray, epsilon: float = plugin.EPSILON, offset: int = 0) -> np.ndarray:
    """The kernel on `values` (N, D), which lie `offset` elements into their memory."""
    import pycuda.driver as cuda

    rows, width = values.shape
    with gpu.current():
        memory = cuda.mem_alloc(2 * (values.nbytes + 256) + 512)
        stream = cuda.Stream()
        source = int(memory) + offset * values.itemsize
        target = int(memory) + (values.nbytes + 511) // 256 * 256 + offset * values.itemsize
        if values.size:
            cuda.memcpy_htod(source, np.ascontiguousarray(values))
        launch = ctypes.CDLL(str(library)).kiosk_l2norm
        launch.argtypes = [
            ctypes.c_void_p,
            ctypes.c_void_p,
            ctypes.c_int,
            ctypes.c_int,
            ctypes.c_float,
            ctypes.c_int,
            ctypes.c_void_p,
        ]
        status = launch(source, target, rows, width, epsilon, values.dtype == np.float16, stream.handle)
        stream.synchronize()
        assert status == 0
        found = np.empty_like(values)
        if values.size:
            cuda.memcpy_dtoh(found, target)
        memory.free()
    return found


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("width", [1, 31, 127, 128, 512, 513, 1024, 2000])
@pytest.mark.parametrize("rows", [0, 1, 257])
def test_it_is_the_reference(gpu, library, dtype, width, rows) -> None:
    values = np.random.RandomState(rows + width).standard_normal((rows, width)).astype(dtype)
    found = normalised(gpu, library, values)
    np.testing.assert_allclose(found, plugin.reference(values), atol=TOLERANCE[dtype], rtol=0)
    np.testing.assert_array_equal(found, normalised(gpu, library, values))  # to the bit, every time


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("size", [0, 1e-4, 1e4])
def test_rows_of_zeros_and_of_large_numbers(gpu, library, dtype, size) -> None:
    values = (np.random.RandomState(1).uniform(-size, size, (33, 512))).astype(dtype)
    values[7] = 0
    found = normalised(gpu, library, values)
    assert not found[7].any()
    np.testing.assert_allclose(found, plugin.reference(values), atol=TOLERANCE[dtype], rtol=0)


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_memory_that_is_not_aligned(gpu, library, dtype) -> None:
    values = np.random.RandomState(2).standard_normal((5, 512)).astype(dtype)
    found = normalised(gpu, library, values, offset=1)
    np.testing.assert_allclose(found, plugin.reference(values), atol=TOLERANCE[dtype], rtol=0)
