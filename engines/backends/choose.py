"""Which backend runs a network: the one place that asks what this machine has."""
import importlib.util
import sys
from pathlib import Path
from typing import Set

from engines.backends.network import Network
from errors import UsageError
from settings import Settings

_said: Set[str] = set()  # lines already printed in this process


def open_network(path: Path, settings: Settings, rewrite: bool = False) -> Network:
    """The ONNX file at `path` as a running network. Raises ModelError when it cannot be loaded.

    `rewrite`: where ONNX Runtime runs it, run the equivalent without PRelu (engines.backends.prelu).
    """
    from engines.backends.onnx import OnnxNetwork
    from engines.backends.prelu import quick

    if settings.backend == "tensorrt":
        raise UsageError("backend is tensorrt, which this version does not have yet; set it to auto or onnx.")
    if settings.backend == "auto" and importlib.util.find_spec("tensorrt") is not None:
        say("TensorRT is installed, but this version does not use it yet: the networks run on the CPU (ONNX Runtime).")
    return OnnxNetwork(quick(path) if rewrite else path, settings.threads)


def say(line: str) -> None:
    if line not in _said:
        _said.add(line)
        print(line, file=sys.stderr)
