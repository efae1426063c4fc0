"""The L2Norm plugin: its library, and in numpy what it computes.

TensorRT finds a plugin by name once its library is loaded, and the library finds TensorRT's registry
in what is loaded already. A library that is missing, or was built from another source or for another
TensorRT, is told with the command that builds it, before anything of it runs.
"""
import ctypes
import hashlib
import re
from pathlib import Path
from typing import Any, Optional

import numpy as np

NAME, VERSION = "L2Norm", "1"  # of the plugin in TensorRT's registry; the name is the ONNX node's op_type
EPSILON = 1e-12  # of the sum of squares, as TensorFlow's l2_normalize
FOLDER = Path(__file__).parent
LIBRARY = FOLDER / "build" / "libl2norm.so"
SOURCE = FOLDER / "l2norm.cu"


def reference(values: np.ndarray, epsilon: float = EPSILON) -> np.ndarray:
    """x / sqrt(max(sum(x^2), epsilon)) over the last axis, summed in float64; of `values`' type."""
    wide = values.astype(np.float64)
    squares = np.maximum((wide * wide).sum(axis=-1, keepdims=True), epsilon)
    return (wide / np.sqrt(squares)).astype(values.dtype)


def load(trt: Any, architecture: str = "native") -> Optional[str]:
    """Register the plugin with `trt`, the module tensorrt; None when that worked, else a sentence that
    says why not and how to build the library. `architecture`: the GPU, for that command (sm_53)."""
    if registered(trt):
        return None
    major = int(trt.__version__.split(".")[0])
    command = build_command(architecture)
    if not LIBRARY.is_file():
        return "{}: is not there; build it with: {}".format(LIBRARY, command)
    built = re.search(rb"kiosk L2Norm revision (\d+) for TensorRT (\d+)", LIBRARY.read_bytes())
    wanted = (revision(), major)
    found = tuple(int(number) for number in built.groups()) if built else None
    if found != wanted:
        message = "{}: was built {}, but must be of revision {} for TensorRT {}; build it anew with: {}"
        what = "of revision {} for TensorRT {}".format(*found) if found else "from something else"
        return message.format(LIBRARY, what, wanted[0], wanted[1], command)
    try:
        _share_registry()
        ctypes.CDLL(str(LIBRARY))
    except OSError as error:
        return "{}: cannot be loaded ({}); build it anew with: {}".format(LIBRARY, error, command)
    return None if registered(trt) else "{}: did not register itself; build it anew with: {}".format(LIBRARY, command)


def registered(trt: Any) -> bool:
    """Whether TensorRT's registry has the plugin."""
    registry = trt.get_plugin_registry()
    if hasattr(registry, "get_creator"):  # from 10 on
        return registry.get_creator(NAME, VERSION, "") is not None
    return registry.get_plugin_creator(NAME, VERSION, "") is not None


def build_command(architecture: str = "native") -> str:
    """For a machine with TensorRT's development files, as a Jetson is; others: CMakeLists.txt."""
    return "mkdir -p {} && nvcc -O3 -std=c++14 -arch={} -shared -Xcompiler -fPIC -o {} {} -lnvinfer".format(
        LIBRARY.parent, architecture, LIBRARY, SOURCE)  # fmt: skip


def revision() -> int:
    """Of the source here."""
    found = re.search(r"#define KIOSK_L2NORM_REVISION (\d+)", SOURCE.read_text(encoding="utf-8"))
    return int(found.group(1)) if found else 0


def fingerprint() -> str:
    """SHA-256 of the library, '' where there is none: a plan belongs to the plugin it was built with."""
    return hashlib.sha256(LIBRARY.read_bytes()).hexdigest() if LIBRARY.is_file() else ""


def _share_registry() -> None:
    """Let the library find getPluginRegistry in the libnvinfer that Python has loaded for itself alone."""
    for line in Path("/proc/self/maps").read_text().splitlines():
        path = line.split(None, 5)[-1]
        if re.search(r"/libnvinfer(_lean)?\.so", path):
            ctypes.CDLL(path, mode=ctypes.RTLD_GLOBAL)
            return
