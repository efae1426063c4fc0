"""The L2Norm plugin without a GPU: its reference, its sentences, its kernel for every Jetson, its source
against every TensorRT's headers, and its library in the TensorRT that is installed, if any.

Headers: HEADERS=FOLDER, with the `include` of github.com/NVIDIA/TensorRT at several tags, a folder each
(`make test-plugin HEADERS=FOLDER`).
"""

import ctypes
import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, List, Tuple

import numpy as np
import pytest

from engines import plugin
from tests import ROOT

FOLDERS = sorted(path.parent for path in Path(os.environ.get("HEADERS", os.devnull)).glob("*/NvInferRuntime.h"))
JETSONS = (b"sm_53", b"sm_72", b"sm_87")  # Nano, Xavier, Orin


def test_the_reference_has_unit_length_and_spares_zeros() -> None:
    values = np.random.RandomState(0).standard_normal((5, 128)).astype(np.float32) * 1e4
    values[3] = 0
    found = plugin.reference(values)
    assert found.dtype == np.float32
    np.testing.assert_allclose((found**2).sum(axis=1), [1, 1, 1, 0, 1], atol=1e-6)
    assert plugin.reference(values[:0]).shape == (0, 128)
    tiny = np.full((1, 4), 1e-8, np.float32)  # the bound is on the sum of squares: 4e-16 becomes 1e-12
    np.testing.assert_allclose(plugin.reference(tiny), 1e-2, rtol=1e-5)
    half = plugin.reference(np.full((1, 512), 255, np.float16))  # whose squares overflow FP16
    np.testing.assert_allclose(half.astype(np.float32), 512**-0.5, rtol=1e-3)


class Registry:
    """Of a TensorRT that has no L2Norm."""

    def get_plugin_creator(self, name: str, version: str, namespace: str) -> None:
        return None


def _trt(version: str) -> Any:
    return SimpleNamespace(__version__=version, get_plugin_registry=Registry)


def test_a_missing_library_says_how_to_build_it(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(plugin, "LIBRARY", tmp_path / "libl2norm.so")
    said = plugin.load(_trt("8.2.1.8"), "sm_53")
    assert said is not None
    assert said.startswith("{}: is not there; build it with: mkdir -p ".format(tmp_path / "libl2norm.so"))
    assert "-arch=sm_53" in said and said.endswith("l2norm.cu -lnvinfer")
    assert plugin.fingerprint() == ""


@pytest.mark.parametrize(
    "content, what",
    [
        (
            b"\0kiosk L2Norm revision 0 for TensorRT 8\0",
            "was built of revision 0 for TensorRT 8, but must be of revision",
        ),
        (b"\0kiosk L2Norm revision %d for TensorRT 10\0", "for TensorRT 10, but must be of revision"),
        (b"nothing", "was built from something else, but must be"),
    ],
)
def test_a_stale_library_is_not_loaded(content: bytes, what: str, tmp_path: Path, monkeypatch) -> None:
    library = tmp_path / "libl2norm.so"
    library.write_bytes(content.replace(b"%d", str(plugin.revision()).encode()))
    monkeypatch.setattr(plugin, "LIBRARY", library)
    said = plugin.load(_trt("8.5.3.1"))
    assert said is not None and what in said and "build it anew with: mkdir -p" in said


def test_a_library_that_does_not_load(tmp_path: Path, monkeypatch) -> None:
    library = tmp_path / "libl2norm.so"
    library.write_bytes("\0kiosk L2Norm revision {} for TensorRT 8\0".format(plugin.revision()).encode())
    monkeypatch.setattr(plugin, "LIBRARY", library)
    said = plugin.load(_trt("8.5.3.1"))
    assert said is not None and "cannot be loaded (" in said


def _version(text: str) -> Tuple[int, ...]:
    return tuple(int(number) for number in text.strip().lstrip("v").split("."))


def _nvcc() -> str:
    found = shutil.which("nvcc") or "/usr/local/cuda/bin/nvcc"
    if not Path(found).exists():
        pytest.skip("needs nvcc")
    return found


def _compile(folder: Path, target: Path) -> str:
    command = [
        _nvcc(),
        "-w",
        "-O3",
        "-std=c++14",
        "-shared",
        "-Xcompiler",
        "-fPIC",
        "-I",
        str(folder),
        "-o",
        str(target),
        str(plugin.SOURCE),
    ]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, universal_newlines=True)
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.mark.skipif(not FOLDERS, reason="needs TensorRT's headers: HEADERS=FOLDER with one folder a version")
@pytest.mark.parametrize("folder", FOLDERS, ids=lambda path: path.name)
def test_it_compiles_against(folder: Path, tmp_path: Path) -> None:
    target = tmp_path / "libl2norm.so"
    assert _compile(folder, target) == ""
    mark = "kiosk L2Norm revision {} for TensorRT {}".format(plugin.revision(), _version(folder.name)[0])
    assert mark.encode() in target.read_bytes()


FIND = """
for name in ("tensorrt", "tensorrt_lean", "tensorrt_lean_bindings"):
    try:
        trt = __import__(name)
        break
    except ImportError as error:
        wrong = error
else:
    raise wrong
"""
REAL = """
import os, sys
sys.path[:0] = [{root!r}, {site!r}]
import numpy as np
{find}
from pathlib import Path
from engines import plugin
plugin.LIBRARY = Path({library!r})
print(trt.__version__, "load:", plugin.load(trt))
registry = trt.get_plugin_registry()
field = lambda value, kind: trt.PluginFieldCollection([trt.PluginField("epsilon", value, kind)])
def create(value, kind=trt.PluginFieldType.FLOAT32):
    if hasattr(registry, "get_creator"):
        return registry.get_creator("L2Norm", "1", "").create_plugin("one", field(value, kind), trt.TensorRTPhase.BUILD)
    return registry.get_plugin_creator("L2Norm", "1", "").create_plugin("one", field(value, kind))
fine = create(np.array([1e-6], np.float32))
print("created:", fine is not None, "refused:", create(np.array([-1], np.float32)) is None,
      create(np.array([1], np.int32), trt.PluginFieldType.INT32) is None)
if hasattr(fine, "serialize"):
    print("serialised:", np.frombuffer(bytes(fine.serialize()), np.float32))
sys.stdout.flush()
os._exit(0)  # without a driver a TensorRT can crash at exit
"""


@pytest.mark.skipif(not FOLDERS, reason="needs TensorRT's headers: HEADERS=FOLDER with one folder a version")
@pytest.mark.parametrize("site", [one for one in os.environ.get("TENSORRTS", "").split(os.pathsep) if one] or [""])
def test_a_real_tensorrt_creates_it(site: str, tmp_path: Path) -> None:
    """TENSORRTS: folders with a TensorRT each, as pip install --target makes them (lean ones will do)."""
    python = str(Path(site, "python")) if Path(site, "python").is_file() else sys.executable
    probe = "import sys\nsys.path[:0] = [{!r}]\n{}\nprint(trt.__version__)".format(site, FIND)
    found = subprocess.run(
        [python, "-c", probe], stdout=subprocess.PIPE, stderr=subprocess.PIPE, universal_newlines=True
    )
    if found.returncode:
        pytest.skip("needs TensorRT (TENSORRTS=FOLDER:...): " + (found.stderr.strip().splitlines() or [""])[-1])
    running = _version(found.stdout)
    folder = max((one for one in FOLDERS if _version(one.name) <= running), key=lambda one: _version(one.name))
    _compile(folder, tmp_path / "libl2norm.so")
    code = REAL.format(find=FIND, root=str(ROOT), site=site, library=str(tmp_path / "libl2norm.so"))
    done = subprocess.run(
        [python, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, universal_newlines=True
    )
    print(done.stdout)
    assert "load: None" in done.stdout, done.stdout
    assert "created: True refused: True True" in done.stdout, done.stdout


@pytest.fixture(scope="module")
def nvrtc():
    """NVRTC 11 from pip: it knows the Nano's GPU, which nvcc 13 knows no more."""
    places: List[str] = []
    for name in ("nvidia.cuda_nvrtc", "nvidia.cuda_runtime"):
        found = importlib.util.find_spec(name) if importlib.util.find_spec("nvidia") else None
        places += list(found.submodule_search_locations or []) if found else []
    libraries = [path for place in places for path in Path(place).glob("lib/libnvrtc.so.11*")]
    headers = [path.parent for place in places for path in Path(place).glob("include/cuda_fp16.h")]
    if not libraries or not headers:
        pytest.skip("needs NVRTC 11: pip install nvidia-cuda-nvrtc-cu11==11.7.99 nvidia-cuda-runtime-cu11==11.7.99")
    for builtins in libraries[0].parent.glob("libnvrtc-builtins.so*"):
        ctypes.CDLL(str(builtins), mode=ctypes.RTLD_GLOBAL)
    return ctypes.CDLL(str(libraries[0])), headers[0]


@pytest.mark.parametrize("architecture", JETSONS)
def test_its_kernel_compiles_for(nvrtc, architecture: bytes) -> None:
    library, headers = nvrtc
    program, size = ctypes.c_void_p(), ctypes.c_size_t()
    source = plugin.SOURCE.read_bytes()
    assert library.nvrtcCreateProgram(ctypes.byref(program), source, b"l2norm.cu", 0, None, None) == 0
    options = [b"--gpu-architecture=" + architecture, b"-std=c++14", b"-I" + str(headers).encode()]
    failed = library.nvrtcCompileProgram(program, len(options), (ctypes.c_char_p * len(options))(*options))
    library.nvrtcGetProgramLogSize(program, ctypes.byref(size))
    log = ctypes.create_string_buffer(size.value)
    library.nvrtcGetProgramLog(program, log)
    assert not failed, log.value.decode()
    library.nvrtcGetCUBINSize(program, ctypes.byref(size))
    code = ctypes.create_string_buffer(size.value)
    assert library.nvrtcGetCUBIN(program, code) == 0
    assert code.raw[:4] == b"\x7fELF"
    assert code.raw.count(b".text._ZN5kiosk6l2norm") >= 4  # float and half, packed and one by one
