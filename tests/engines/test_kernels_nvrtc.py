"""The kernels compile for the GPUs of every Jetson, without one: NVRTC 11 knows the Nano's, nvcc 13 no more.

    pip install nvidia-cuda-nvrtc-cu11==11.7.99     (x86-64 Linux, 20 MB; .ci/run does it)
"""
import ctypes
import importlib.util
from pathlib import Path

import pytest

from engines.sampling.device import KERNELS, NAMES


@pytest.fixture(scope="module")
def nvrtc():
    found = importlib.util.find_spec("nvidia.cuda_nvrtc") if importlib.util.find_spec("nvidia") else None
    libraries = [path for place in (found.submodule_search_locations if found else []) for path in
                 Path(place, "lib").glob("libnvrtc.so.11*")]  # fmt: skip
    if not libraries:
        pytest.skip("needs NVRTC 11: pip install nvidia-cuda-nvrtc-cu11==11.7.99")
    for builtins in libraries[0].parent.glob("libnvrtc-builtins.so*"):
        ctypes.CDLL(str(builtins), mode=ctypes.RTLD_GLOBAL)
    return ctypes.CDLL(str(libraries[0]))


def compiled(nvrtc, architecture):
    """The machine code, or an assertion with the compiler's words."""
    program, size = ctypes.c_void_p(), ctypes.c_size_t()
    source = KERNELS.read_bytes()
    assert nvrtc.nvrtcCreateProgram(ctypes.byref(program), source, b"kernels.cu", 0, None, None) == 0
    options = [b"--gpu-architecture=" + architecture, b"-std=c++14"]
    failed = nvrtc.nvrtcCompileProgram(program, len(options), (ctypes.c_char_p * len(options))(*options))
    nvrtc.nvrtcGetProgramLogSize(program, ctypes.byref(size))
    log = ctypes.create_string_buffer(size.value)
    nvrtc.nvrtcGetProgramLog(program, log)
    assert not failed, log.value.decode()
    assert b"warning" not in log.value, log.value.decode()
    nvrtc.nvrtcGetCUBINSize(program, ctypes.byref(size))
    code = ctypes.create_string_buffer(size.value)
    assert nvrtc.nvrtcGetCUBIN(program, code) == 0
    return code.raw


@pytest.mark.parametrize("architecture", [b"sm_53", b"sm_62", b"sm_72", b"sm_87"])
def test_compiles_for_each_jetson(nvrtc, architecture):
    code = compiled(nvrtc, architecture)
    assert code[:4] == b"\x7fELF"
    for name in NAMES:
        assert b".text." + name.encode() in code
