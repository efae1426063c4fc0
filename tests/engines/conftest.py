"""The devices that the kernels run on: the CPU everywhere, a GPU wherever there is one."""
import importlib.util

import pytest

from engines.sampling.device import PycudaDevice
from errors import KioskError
from tests.doubles.host_device import HostDevice, compile_kernels

DEVICES = ["compiled for the CPU", "pycuda"] + (["CuPy"] if importlib.util.find_spec("cupy") else [])


@pytest.fixture(scope="session")
def kernel_library(tmp_path_factory):
    return compile_kernels(tmp_path_factory.mktemp("kernels"))


@pytest.fixture
def host_device(kernel_library):
    with HostDevice(kernel_library) as made:
        yield made


@pytest.fixture(params=DEVICES)
def device(request):
    if request.param == "compiled for the CPU":
        made = request.getfixturevalue("host_device")
    elif request.param == "CuPy":
        from tests.doubles.cupy_device import CupyDevice

        made = CupyDevice()
    else:
        try:
            made = PycudaDevice()
        except KioskError as error:
            pytest.skip(str(error))
    with made:
        yield made
